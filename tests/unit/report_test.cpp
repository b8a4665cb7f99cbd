// SPDX-License-Identifier: GPL-2.0-only
#include "job/report.hpp"

#include "json_check.hpp"

#include <gtest/gtest.h>

namespace dmabuf {
namespace {

using test::JsonCheck;

Counters issued() {
  Counters counters;
  counters.ops[0] = 100;
  counters.ops[1] = 50;
  counters.bytes[0] = 409600;
  counters.bytes[1] = 204800;
  return counters;
}

ModuleCounts matching() {
  ModuleCounts module;
  module.known = true;
  module.reads = 100;
  module.writes = 50;
  module.read_bytes = 409600;
  module.write_bytes = 204800;
  module.commands = 150;
  module.registrations = 1;
  return module;
}

/// The proof for these counts on a datapath that submits by io_uring.
Proof prove(Datapath path, const Counters &counters, const ModuleCounts &module) {
  JobReport report;
  report.path = path;
  report.issued = counters;
  report.module = module;
  return dmabuf::prove(report);
}

JobReport report_of(Datapath path) {
  JobReport report;
  report.job = "t";
  report.job_number = 3;
  report.path = path;
  report.requested = Datapath::automatic;
  report.exporter = ExporterKind::drm;
  report.device = "/dev/dri/card0";
  report.target = "/dev/nvme0n1";
  report.memory = "system";
  report.route = "memory";
  report.segments = 12;
  report.buffer_bytes = 131072;
  report.issued = issued();
  report.module = matching();
  report.proof = prove(path, report.issued, report.module);
  return report;
}

testing::AssertionResult has(const std::string &json, const std::string &part) {
  if (json.find(part) == std::string::npos)
    return testing::AssertionFailure() << part << " is not in " << json;
  return testing::AssertionSuccess();
}

TEST(JsonChecker, TellsGoodFromBad) {
  for (const char *good : {"{}", "[]", "0", "-1.5", "\"a\\u00e9\"", "{\"a\":[1,true,null]}"})
    EXPECT_TRUE(JsonCheck::valid(good)) << good;
  for (const char *bad :
       {"", "{", "{a:1}", "01", "\"\n\"", "\"\\x\"", "{\"a\":1,}", "{} {}", "nul"})
    EXPECT_FALSE(JsonCheck::valid(bad)) << bad;
}

TEST(Json, StringsAreEscaped) {
  EXPECT_EQ(json_string("plain"), "\"plain\"");
  EXPECT_EQ(json_string("a\"b\\c"), "\"a\\\"b\\\\c\"");
  EXPECT_EQ(json_string("\n\t\x01"), "\"\\u000a\\u0009\\u0001\"");
  EXPECT_EQ(json_string("\x1f \x7f"), "\"\\u001f \\u007f\"");
  EXPECT_EQ(json_string("gr\xc3\xbc\xc3\x9f"), "\"gr\xc3\xbc\xc3\x9f\"");
}

TEST(Json, BytesThatAreNoUtf8BecomeTheReplacementCharacter) {
  EXPECT_EQ(json_string("\xff"), "\"\\ufffd\"");
  EXPECT_EQ(json_string("a\xc3"), "\"a\\ufffd\"");                     // cut short
  EXPECT_EQ(json_string("\xc0\xaf"), "\"\\ufffd\\ufffd\"");            // overlong
  EXPECT_EQ(json_string("\xed\xa0\x80"), "\"\\ufffd\\ufffd\\ufffd\""); // surrogate
  EXPECT_EQ(json_string("\xf0\x9f\x98\x80"), "\"\xf0\x9f\x98\x80\"");
}

TEST(Json, ReportIsOneValidObjectOnOneLine) {
  for (const auto path : {Datapath::premapped, Datapath::registered, Datapath::bvec,
                          Datapath::bounce, Datapath::host}) {
    JobReport report = report_of(path);
    report.job = "a \"quoted\"\njob\xff";
    const std::string json = to_json(report);
    EXPECT_TRUE(JsonCheck::valid(json)) << json;
    EXPECT_EQ(json.find('\n'), std::string::npos);
  }
}

TEST(Json, ReportHasTheAgreedFields) {
  const std::string json = to_json(report_of(Datapath::premapped));
  for (const char *part :
       {"{\"version\":1,",
        "\"job\":\"t\"",
        "\"job_number\":3",
        "\"datapath\":\"premapped\"",
        "\"datapath_requested\":\"auto\"",
        "\"exporter\":\"drm\"",
        "\"device\":\"/dev/dri/card0\"",
        "\"target\":\"/dev/nvme0n1\"",
        "\"memory\":\"system\"",
        "\"route\":\"memory\"",
        "\"segments\":12",
        "\"buffer_bytes\":131072",
        "\"issued\":{\"reads\":100,\"writes\":50,\"read_bytes\":409600,\"write_bytes\":204800,"
        "\"syncs\":0,\"trims\":0,\"queued_trims\":0}",
        "\"module\":{\"reads\":100,\"writes\":50,\"read_bytes\":409600,\"write_bytes\":204800,"
        "\"commands\":150,\"errors\":0,\"deferred\":0,\"invalidations\":0,\"registrations\":1,"
        "\"map_ns\":0}",
        "\"errors\":0",
        "\"short\":0",
        "\"retries\":0",
        "\"copies\":{\"to_buffer_bytes\":0,\"from_buffer_bytes\":0}",
        "\"first_fill_bytes\":0",
        "\"map_ns\":0",
        "\"unmap_ns\":0",
        "\"proven\":true",
        "\"proof\":\""})
    EXPECT_TRUE(has(json, part));
}

TEST(Json, ModuleIsNullWhereThereIsNone) {
  JobReport report = report_of(Datapath::host);
  report.module = {};
  EXPECT_TRUE(has(to_json(report), "\"module\":null"));
}

TEST(Json, LargeCountersKeepAllDigits) {
  JobReport report = report_of(Datapath::host);
  report.issued.bytes[0] = UINT64_MAX;
  EXPECT_TRUE(has(to_json(report), "\"read_bytes\":18446744073709551615"));
}

TEST(Proof, PremappedNeedsEqualCounts) {
  EXPECT_TRUE(prove(Datapath::premapped, issued(), matching()).proven);
  for (uint64_t ModuleCounts::*field : {&ModuleCounts::reads, &ModuleCounts::writes,
                                        &ModuleCounts::read_bytes, &ModuleCounts::write_bytes}) {
    for (const int delta : {-1, 1}) {
      ModuleCounts module = matching();
      module.*field += static_cast<uint64_t>(delta);
      const Proof proof = prove(Datapath::premapped, issued(), module);
      EXPECT_FALSE(proof.proven);
      EXPECT_TRUE(has(proof.text, "the module counted"));
    }
  }
}

TEST(Proof, PremappedNeedsACommandForEveryRequest) {
  ModuleCounts module = matching();
  module.commands = 149;
  EXPECT_FALSE(prove(Datapath::premapped, issued(), module).proven);
  module.commands = 1500; // split by the drive's limit
  EXPECT_TRUE(prove(Datapath::premapped, issued(), module).proven);
}

TEST(Proof, WhatNobodySawTheEndOfIsNoProof) {
  for (const auto path : {Datapath::premapped, Datapath::bvec, Datapath::registered, Datapath::host,
                          Datapath::bounce}) {
    JobReport report = report_of(path);
    report.issued.copied_to_buffer = report.issued.bytes[0];
    report.issued.copied_from_buffer = report.issued.bytes[1];
    ASSERT_TRUE(dmabuf::prove(report).proven) << datapath_name(path);
    report.unreaped = 6;
    report.module.commands = 156;
    const Proof proof = dmabuf::prove(report);
    EXPECT_FALSE(proof.proven) << datapath_name(path);
    EXPECT_TRUE(has(proof.text, "6 I/Os were submitted and never seen to end"));
    EXPECT_TRUE(has(to_json(report), "\"unreaped\":6"));
    report.issued = {}; // not even one
    EXPECT_FALSE(dmabuf::prove(report).proven) << datapath_name(path);
  }
}

TEST(Proof, CommandsThatNoIoTookAreNamed) {
  JobReport report = report_of(Datapath::premapped);
  report.longest = 8192;
  EXPECT_FALSE(has(dmabuf::prove(report).text, "of them for"));
  report.module.commands = 156;
  EXPECT_TRUE(has(dmabuf::prove(report).text, "6 of them for I/Os that failed or were sent again"));
  report.module.command_bytes = 4096; // two for each I/O are none too many
  EXPECT_FALSE(has(dmabuf::prove(report).text, "of them for"));
  report.module.commands = 301;
  EXPECT_TRUE(has(dmabuf::prove(report).text, "1 of them for I/Os"));
}

TEST(Proof, CommandsThatIosSharedAreCounted) {
  JobReport report = report_of(Datapath::premapped);
  EXPECT_FALSE(has(dmabuf::prove(report).text, "READV"));
  report.issued.vectors = 40;
  report.issued.vectored = 150;
  EXPECT_TRUE(
      has(dmabuf::prove(report).text, ", asked for by 40 READV and WRITEV of 3.8 I/Os each"));
  EXPECT_TRUE(has(to_json(report), "\"vectored\":{\"commands\":40,\"ios\":150}"));
}

TEST(Proof, WithoutCountersNothingIsProven) {
  for (const auto path : {Datapath::premapped, Datapath::bvec, Datapath::registered}) {
    ModuleCounts module = matching();
    module.known = false;
    EXPECT_FALSE(prove(path, issued(), module).proven) << datapath_name(path);
  }
}

TEST(Proof, RegisteredNeedsARegistration) {
  ModuleCounts module = matching();
  EXPECT_TRUE(prove(Datapath::registered, issued(), module).proven);
  module.registrations = 0;
  EXPECT_FALSE(prove(Datapath::registered, issued(), module).proven);
}

TEST(Proof, BounceNeedsEveryByteCopied) {
  Counters counters = issued();
  EXPECT_FALSE(prove(Datapath::bounce, counters, {}).proven);
  counters.copied_to_buffer = counters.bytes[0];
  counters.copied_from_buffer = counters.bytes[1];
  EXPECT_TRUE(prove(Datapath::bounce, counters, {}).proven);
  counters.copied_from_buffer -= 1;
  EXPECT_FALSE(prove(Datapath::bounce, counters, {}).proven);
}

JobReport on_files(Submit submit) {
  JobReport report;
  report.path = Datapath::syscall;
  report.submit = submit;
  report.issued = issued();
  report.issued.calls = submit == Submit::uring ? 0 : 150;
  report.issued.copied_from_buffer = submit == Submit::mmap ? 409600 : 0;
  report.issued.copied_to_buffer = submit == Submit::mmap ? 204800 : 0;
  report.files = {.files = 2, .bytes = 8192, .same = 2};
  return report;
}

TEST(Proof, SyscallNeedsFilesThatWereTheDmaBufsToTheEnd) {
  for (const auto submit : {Submit::uring, Submit::sync}) {
    JobReport report = on_files(submit);
    EXPECT_TRUE(dmabuf::prove(report).proven) << submit_name(submit);
    EXPECT_TRUE(has(dmabuf::prove(report).text, "2 rw fds of 8192 bytes"));
    report.files.same = 1;
    EXPECT_FALSE(dmabuf::prove(report).proven) << submit_name(submit);
    report.files = {};
    EXPECT_FALSE(dmabuf::prove(report).proven) << submit_name(submit);
  }
}

TEST(Proof, SyscallNeedsTheCallsItNames) {
  JobReport report = on_files(Submit::sync);
  report.issued.calls = 149;
  EXPECT_FALSE(dmabuf::prove(report).proven);
  report = on_files(Submit::uring);
  report.issued.calls = 1;
  EXPECT_FALSE(dmabuf::prove(report).proven);
}

TEST(Proof, UpstreamNeedsARegistration) {
  JobReport report;
  report.path = Datapath::upstream;
  report.issued = issued();
  report.issued.retries = 7;
  EXPECT_FALSE(dmabuf::prove(report).proven);
  report.upstream = 1;
  EXPECT_TRUE(dmabuf::prove(report).proven);
  EXPECT_TRUE(has(dmabuf::prove(report).text, "7 were issued again"));
}

TEST(Proof, MmapNeedsEveryByteCopied) {
  JobReport report = on_files(Submit::mmap);
  report.files = {};
  EXPECT_TRUE(dmabuf::prove(report).proven);
  report.issued.copied_from_buffer--;
  EXPECT_FALSE(dmabuf::prove(report).proven);
  report = on_files(Submit::mmap);
  report.issued.copied_to_buffer--;
  EXPECT_FALSE(dmabuf::prove(report).proven);
}

TEST(Proof, IoctlNeedsTheModulesCountsAndTheCalls) {
  for (const auto path : {Datapath::premapped, Datapath::bvec}) {
    JobReport report = report_of(path);
    report.submit = Submit::ioctl;
    EXPECT_FALSE(dmabuf::prove(report).proven) << "no call was made";
    report.issued.calls = 150;
    EXPECT_TRUE(dmabuf::prove(report).proven);
    EXPECT_TRUE(has(dmabuf::prove(report).text, "150 calls of the ioctl IO"));
    report.submit = Submit::uring;
    EXPECT_FALSE(dmabuf::prove(report).proven) << "calls that io_uring did not make";
  }
}

TEST(Proof, AJobThatMovedDataWithoutADatapathIsNotProven) {
  EXPECT_FALSE(prove(Datapath::automatic, issued(), matching()).proven);
  EXPECT_TRUE(prove(Datapath::automatic, {}, {}).proven); // trims only
}

TEST(Proof, PartialTransfersCountAsTransfers) {
  Counters counters = issued();
  counters.ops[0] -= 1;
  counters.partial[0] = 1;
  EXPECT_TRUE(prove(Datapath::bvec, counters, matching()).proven);
}

TEST(Summary, NamesEverythingAtOnce) {
  const std::string line = summary_line(report_of(Datapath::premapped));
  EXPECT_EQ(line,
            "libdmabuf: job t: datapath premapped (asked: auto), exporter drm, system memory, "
            "12 segments, proven: the module counted the engine's 100 reads (409600 bytes) and "
            "50 writes (204800 bytes) in 150 commands");
}

TEST(Report, SaysHowTheExporterMadeTheMemory) {
  JobReport report = report_of(Datapath::premapped);
  EXPECT_TRUE(has(to_json(report), "\"device\":\"/dev/dri/card0\",\"exported\":\"\""));
  report.exported = "vmm+pcie";
  EXPECT_TRUE(JsonCheck::valid(to_json(report)));
  EXPECT_TRUE(has(to_json(report), "\"exported\":\"vmm+pcie\""));
  EXPECT_TRUE(has(summary_line(report), "exporter drm (vmm+pcie), system memory"));
}

TEST(Summary, SaysLoudlyWhatIsNotProven) {
  JobReport report = report_of(Datapath::premapped);
  report.module.reads--;
  report.proof = dmabuf::prove(report);
  EXPECT_TRUE(has(summary_line(report), "NOT PROVEN: the module counted 99 reads"));
}

TEST(Report, CopiesOfMemoryWithoutACpuViewAreCounted) {
  JobReport report = report_of(Datapath::premapped);
  report.issued.shadow_to_buffer = 204800;
  report.issued.shadow_from_buffer = 409600;
  report.issued.first_fill = 131072;
  const std::string json = to_json(report);
  EXPECT_TRUE(JsonCheck::valid(json)) << json;
  EXPECT_TRUE(has(json, "\"copies\":{\"to_buffer_bytes\":204800,\"from_buffer_bytes\":409600}"));
  EXPECT_TRUE(has(json, "\"first_fill_bytes\":131072"));
  EXPECT_TRUE(has(summary_line(report), "335872 bytes copied to it and 409600 from it"));
  EXPECT_EQ(summary_line(report_of(Datapath::premapped)).find("copied"), std::string::npos);
}

TEST(Proof, ACopyThatIsMissingIsNoProof) {
  JobReport report = report_of(Datapath::premapped);
  report.copies_up = report.copies_down = true;
  report.issued.shadow_to_buffer = report.issued.bytes[1];
  report.issued.shadow_from_buffer = report.issued.bytes[0];
  EXPECT_TRUE(dmabuf::prove(report).proven);
  report.issued.shadow_to_buffer--;
  EXPECT_FALSE(dmabuf::prove(report).proven);
  EXPECT_NE(dmabuf::prove(report).text.find("204799 bytes"), std::string::npos);
  report.issued.shadow_to_buffer++;
  report.issued.shadow_from_buffer--;
  EXPECT_FALSE(dmabuf::prove(report).proven);
  report.copies_down = false;
  EXPECT_TRUE(dmabuf::prove(report).proven);
}

} // namespace
} // namespace dmabuf
