// SPDX-License-Identifier: GPL-2.0-only
#include "job/config.hpp"

#include "base/sizes.hpp"

#include <algorithm>
#include <gtest/gtest.h>
#include <string>
#include <unistd.h>
#include <utility>

namespace dmabuf {
namespace {

using Parts = std::vector<std::string>;

JobConfig good() {
  JobConfig config;
  config.name = "job";
  config.iodepth = 32;
  config.max_bs = 4096;
  config.reads = true;
  config.direct = true;
  return config;
}

JobConfig by(Datapath path, Submit submit) {
  JobConfig config = good();
  config.datapath = path;
  config.submit = submit;
  config.iodepth = 1;
  return config;
}

/// The message of the refusal of `config`, "accepted" if there is none.
std::string refusal(const JobConfig &config) {
  const auto result = check_config(config);
  return result ? "accepted" : result.error().message;
}

testing::AssertionResult mentions(const std::string &text,
                                  std::initializer_list<const char *> words) {
  for (const char *word : words)
    if (text.find(word) == std::string::npos)
      return testing::AssertionFailure() << '"' << text << "\" does not mention " << word;
  return testing::AssertionSuccess();
}

TEST(DeviceList, SplitsAtColons) {
  EXPECT_EQ(split_device_list(""), Parts{});
  EXPECT_EQ(split_device_list("system"), Parts{"system"});
  EXPECT_EQ(split_device_list("card0:card1"), (Parts{"card0", "card1"}));
}

TEST(DeviceList, DropsEmptyParts) {
  EXPECT_EQ(split_device_list(":a::b:"), (Parts{"a", "b"}));
  EXPECT_EQ(split_device_list("::"), Parts{});
}

TEST(DeviceList, EscapedColonsBelongToThePart) {
  EXPECT_EQ(split_device_list("0000\\:01\\:00.0:0000\\:02\\:00.0"),
            (Parts{"0000:01:00.0", "0000:02:00.0"}));
  EXPECT_EQ(split_device_list("a\\b"), Parts{"a\\b"});
  EXPECT_EQ(split_device_list("a\\"), Parts{"a\\"});
}

TEST(DeviceList, PciAddressesStayWhole) {
  EXPECT_EQ(split_device_list("0000:01:00.0"), Parts{"0000:01:00.0"});
  EXPECT_EQ(split_device_list("0000:01:00.0/2:0000:02:1f.7:03:00.0/1"),
            (Parts{"0000:01:00.0/2", "0000:02:1f.7", "03:00.0/1"}));
  EXPECT_EQ(split_device_list("0000:01:00.0+vmm:0000:02:00.0+pcie"),
            (Parts{"0000:01:00.0+vmm", "0000:02:00.0+pcie"}));
  EXPECT_EQ(split_device_list("card0:0000:af:00.0:0"), (Parts{"card0", "0000:af:00.0", "0"}));
  EXPECT_EQ(split_device_list("01:02:heap"), (Parts{"01", "02", "heap"}));
  EXPECT_EQ(split_device_list("0000:01:00.0x"), (Parts{"0000", "01", "00.0x"}));
  EXPECT_EQ(device_for_job("0000:01:00.0:0000:02:00.0", 2), "0000:02:00.0");
}

TEST(DeviceList, IsDealtOutInTurn) {
  EXPECT_EQ(device_for_job("a:b:c", 1), "a");
  EXPECT_EQ(device_for_job("a:b:c", 2), "b");
  EXPECT_EQ(device_for_job("a:b:c", 3), "c");
  EXPECT_EQ(device_for_job("a:b:c", 4), "a");
  EXPECT_EQ(device_for_job("only", 17), "only");
  EXPECT_EQ(device_for_job("", 3), "");
  EXPECT_EQ(device_for_job("a:b", 0), "a");
}

TEST(Config, AcceptsWhatCanWork) {
  for (const auto path : {Datapath::automatic, Datapath::premapped, Datapath::registered,
                          Datapath::bounce, Datapath::host}) {
    JobConfig config = good();
    config.datapath = path;
    EXPECT_EQ(refusal(config), "accepted") << datapath_name(path);
  }
}

TEST(Config, EachWayToSubmitHasItsDatapaths) {
  const std::vector<std::pair<Datapath, Submit>> allowed = {{Datapath::syscall, Submit::sync},
                                                            {Datapath::syscall, Submit::mmap},
                                                            {Datapath::premapped, Submit::ioctl},
                                                            {Datapath::bvec, Submit::ioctl}};
  for (unsigned path = 0; path < kDatapaths; path++)
    for (unsigned submit = 0; submit < kSubmits; submit++) {
      const std::pair pair(static_cast<Datapath>(path), static_cast<Submit>(submit));
      const std::string why = refusal(by(pair.first, pair.second));
      if (pair.second == Submit::uring || std::ranges::find(allowed, pair) != allowed.end())
        EXPECT_EQ(why, "accepted") << datapath_name(pair.first) << submit_name(pair.second);
      else
        EXPECT_TRUE(mentions(
            why, {"dmabuf_submit=", submit_name(pair.second), datapath_name(pair.first), "drop"}));
    }
}

TEST(Config, CallsThatWaitTakeOneAtATimeAndNothingOfIoUring) {
  for (const auto &[path, submit] :
       {std::pair(Datapath::syscall, Submit::sync), std::pair(Datapath::syscall, Submit::mmap),
        std::pair(Datapath::bvec, Submit::ioctl)}) {
    JobConfig config = by(path, submit);
    config.iodepth = 2;
    EXPECT_TRUE(mentions(refusal(config), {submit_name(submit), "iodepth=2", "iodepth=1"}));
    for (const auto &[setting, name] :
         {std::pair(&JobConfig::registerfiles, "registerfiles"),
          std::pair(&JobConfig::fixedbufs, "fixedbufs"),
          std::pair(&JobConfig::sqpoll, "sqthread_poll"), std::pair(&JobConfig::hipri, "hipri"),
          std::pair(&JobConfig::nowait, "nowait"),
          std::pair(&JobConfig::priorities, "cmdprio_*")}) {
      config = by(path, submit);
      config.*setting = true;
      EXPECT_TRUE(mentions(refusal(config), {name, submit_name(submit)})) << name;
    }
    config = by(path, submit);
    config.force_async = 1;
    EXPECT_TRUE(mentions(refusal(config), {"force_async", submit_name(submit)}));
  }
}

TEST(Config, PollingNeedsADatapathThatCan) {
  for (const auto path : {Datapath::automatic, Datapath::premapped, Datapath::registered,
                          Datapath::bounce, Datapath::host}) {
    JobConfig config = by(path, Submit::uring);
    config.hipri = true;
    EXPECT_EQ(refusal(config), "accepted") << datapath_name(path);
    config.direct = false;
    EXPECT_NE(refusal(config).find("direct=1"), std::string::npos) << datapath_name(path);
  }
  for (const auto path : {Datapath::bvec, Datapath::syscall, Datapath::upstream}) {
    JobConfig config = by(path, Submit::uring);
    config.hipri = true;
    EXPECT_TRUE(mentions(refusal(config), {"hipri", datapath_name(path)}));
  }
  JobConfig taken = by(Datapath::automatic, Submit::uring);
  taken.hipri = true;
  EXPECT_TRUE(check_path(taken, Datapath::premapped));
  EXPECT_FALSE(check_path(taken, Datapath::bvec)) << "what auto took";
}

TEST(Config, WhatAutoTookIsHeldAgainstTheJob) {
  JobConfig config = by(Datapath::automatic, Submit::uring);
  config.max_command_kb = 128;
  EXPECT_EQ(refusal(config), "accepted");
  EXPECT_TRUE(check_path(config, Datapath::premapped));
  for (const auto path : {Datapath::registered, Datapath::bvec}) {
    const auto ok = check_path(config, path);
    ASSERT_FALSE(ok);
    EXPECT_TRUE(mentions(ok.error().message, {"dmabuf_max_command_kb", datapath_name(path)}));
  }
}

TEST(Config, TheProcessHasAPriorityForTheBlockLayer) {
  for (unsigned path = 0; path < kDatapaths; path++) {
    JobConfig config = by(static_cast<Datapath>(path), Submit::uring);
    config.process_priority = true;
    if (config.datapath == Datapath::premapped || config.datapath == Datapath::syscall)
      EXPECT_TRUE(mentions(refusal(config), {"prio", "prioclass", "priohint", "registered", "bvec",
                                             datapath_name(config.datapath)}));
    else
      EXPECT_EQ(refusal(config), "accepted") << datapath_name(config.datapath);
  }
}

TEST(Config, CommandsHaveNeitherNowaitNorPriority) {
  for (const auto path : {Datapath::premapped, Datapath::bvec}) {
    JobConfig config = by(path, Submit::uring);
    config.nowait = true;
    EXPECT_TRUE(mentions(refusal(config), {"nowait", datapath_name(path), "registered"}));
    config = by(path, Submit::uring);
    config.priorities = true;
    EXPECT_TRUE(mentions(refusal(config), {"cmdprio", datapath_name(path), "registered"}));
    config = by(path, Submit::uring);
    config.force_async = 3;
    EXPECT_EQ(refusal(config), "accepted");
  }
  for (const auto path : {Datapath::registered, Datapath::host, Datapath::bounce}) {
    JobConfig config = by(path, Submit::uring);
    config.nowait = config.priorities = true;
    EXPECT_EQ(refusal(config), "accepted") << datapath_name(path);
  }
}

TEST(Config, OptionsOfIoUringThatAreNotFollowedAreNamed) {
  JobConfig config = good();
  config.foreign = "deac=1: only reads and writes are sent";
  EXPECT_EQ(refusal(config), "deac=1: only reads and writes are sent; drop it");
}

TEST(Config, NobodyElseSubmitsForTheJob) {
  for (const auto &[path, submit] :
       {std::pair(Datapath::host, Submit::uring), std::pair(Datapath::premapped, Submit::ioctl),
        std::pair(Datapath::syscall, Submit::sync), std::pair(Datapath::syscall, Submit::mmap)}) {
    JobConfig config = by(path, submit);
    config.offload = true;
    EXPECT_TRUE(mentions(refusal(config),
                         {"io_submit_mode=offload", submit_name(submit), "rate_iops", "drop it"}));
  }
}

TEST(Config, ADmaBufCannotBeTrimmed) {
  JobConfig config = by(Datapath::syscall, Submit::uring);
  config.trims = true;
  EXPECT_TRUE(mentions(refusal(config), {"syscall", "trim"}));
}

TEST(Config, TheMmapControlHasNoModuleToTimeOut) {
  JobConfig config = by(Datapath::syscall, Submit::mmap);
  config.timeout_ms = 5;
  EXPECT_TRUE(mentions(refusal(config), {"dmabuf_timeout_ms", "mmap"}));
  config.submit = Submit::sync;
  EXPECT_EQ(refusal(config), "accepted");
}

TEST(Config, PremappedNeedsDirect) {
  JobConfig config = good();
  config.direct = false;
  config.datapath = Datapath::premapped;
  EXPECT_TRUE(mentions(refusal(config), {"premapped", "O_DIRECT", "direct=1"}));
  config.datapath = Datapath::registered;
  EXPECT_EQ(refusal(config), "accepted");
}

TEST(Config, RefusesDepthsNoRingHolds) {
  JobConfig config = good();
  config.iodepth = kMaxRingEntries;
  EXPECT_EQ(refusal(config), "accepted");
  config.iodepth = kMaxRingEntries + 1;
  EXPECT_TRUE(mentions(refusal(config), {"iodepth=32769", "32768"}));
}

TEST(Config, RefusesMoreFixedBuffersThanThereAreSlots) {
  JobConfig config = good();
  config.iodepth = kMaxFixedBuffers + 1;
  config.datapath = Datapath::host;
  EXPECT_TRUE(mentions(refusal(config), {"iodepth=16385", "16384"}));
  config.datapath = Datapath::registered; // one slot, whatever the depth
  EXPECT_EQ(refusal(config), "accepted");
}

TEST(Config, RefusesBlocksLongerThanARequest) {
  JobConfig config = good();
  const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  config.max_bs = (uint64_t{1} << 31) - page;
  EXPECT_EQ(refusal(config), "accepted");
  config.max_bs++;
  const std::string asked = "bs=" + std::to_string(config.max_bs);
  EXPECT_TRUE(mentions(refusal(config), {asked.c_str(), "lower bs"}));
  EXPECT_EQ(max_request(16384), (uint64_t{1} << 31) - 16384);
}

TEST(Config, RefusesOptionsTheChoiceMakesMeaningless) {
  JobConfig config = good();
  config.hugepages = true;
  config.exporter = ExporterKind::heap;
  EXPECT_TRUE(mentions(refusal(config), {"dmabuf_hugepages", "heap"}));

  config = good();
  config.timeout_ms = 100;
  config.datapath = Datapath::bounce;
  EXPECT_TRUE(mentions(refusal(config), {"dmabuf_timeout_ms", "bounce"}));

  config = good();
  config.max_command_kb = 128;
  config.datapath = Datapath::registered;
  EXPECT_TRUE(mentions(refusal(config), {"dmabuf_max_command_kb", "registered"}));

  config = good();
  config.sqpoll_cpu = 1;
  EXPECT_TRUE(mentions(refusal(config), {"sqthread_poll_cpu", "sqthread_poll=1"}));
}

TEST(Config, ADmaBufForEachSlotIsMadeOfWholePages) {
  for (unsigned path = 0; path < kDatapaths; path++) {
    JobConfig config = by(static_cast<Datapath>(path), Submit::uring);
    config.buffer_per_slot = true;
    if (config.datapath == Datapath::host || config.datapath == Datapath::syscall)
      EXPECT_TRUE(mentions(refusal(config), {"dmabuf_buffers", datapath_name(config.datapath)}));
    else
      EXPECT_EQ(refusal(config), "accepted") << datapath_name(config.datapath);
  }
  JobConfig config = good();
  config.buffer_per_slot = true;
  config.max_bs = 4096 + 512;
  EXPECT_TRUE(mentions(refusal(config), {"dmabuf_buffers", "bs", "4k"}));
  config.max_bs = 4096;
  config.mem_align = 512;
  EXPECT_TRUE(mentions(refusal(config), {"dmabuf_buffers", "iomem_align"}));
  config.mem_align = 0;
  config.hugepages = true;
  EXPECT_TRUE(mentions(refusal(config), {"dmabuf_buffers", "dmabuf_hugepages"}));
}

TEST(Config, OnlyWhatMapsCanMapAgain) {
  for (unsigned path = 0; path < kDatapaths; path++) {
    JobConfig config = by(static_cast<Datapath>(path), Submit::uring);
    config.remap_every = 100;
    if (traits(config.datapath).maps_dmabuf)
      EXPECT_EQ(refusal(config), "accepted") << datapath_name(config.datapath);
    else
      EXPECT_TRUE(
          mentions(refusal(config), {"dmabuf_remap_every", datapath_name(config.datapath)}));
  }
}

TEST(Config, RangesNeedIosThatAreSubmittedTogether) {
  JobConfig config = by(Datapath::premapped, Submit::uring);
  config.direct = true;
  config.ranges = 8;
  config.iodepth = 32;
  EXPECT_TRUE(mentions(refusal(config), {"dmabuf_ranges=8", "iodepth_batch"}));
  config.iodepth_batch = 16;
  EXPECT_EQ(refusal(config), "accepted");
  config.iodepth = 1;
  EXPECT_TRUE(mentions(refusal(config), {"dmabuf_ranges=8", "iodepth"}));
}

TEST(Config, RangesAreOfOneMapping) {
  JobConfig config = by(Datapath::premapped, Submit::uring);
  config.direct = true;
  config.ranges = 8;
  config.iodepth = config.iodepth_batch = 16;
  config.buffer_per_slot = true;
  EXPECT_TRUE(mentions(refusal(config), {"dmabuf_ranges=8", "dmabuf_buffers=io_u"}));
  config.ranges = 1;
  EXPECT_EQ(refusal(config), "accepted");
}

TEST(Config, RangesAreNotMadeOfOneIoAtATime) {
  JobConfig config = by(Datapath::premapped, Submit::uring);
  config.iodepth = config.iodepth_batch = 16;
  EXPECT_EQ(ranges_note(config), "");
  config.ranges = 8;
  EXPECT_TRUE(mentions(ranges_note(config), {"dmabuf_ranges=8", "iodepth_batch_complete_min"}));
  config.refill = 8;
  EXPECT_EQ(ranges_note(config), "");
}

TEST(Config, FilesAreHeldForPremappedAlone) {
  for (unsigned path = 0; path < kDatapaths; path++) {
    JobConfig config = by(static_cast<Datapath>(path), Submit::uring);
    config.direct = true;
    config.pin_file = PinFile::yes;
    if (config.datapath == Datapath::premapped)
      EXPECT_EQ(refusal(config), "accepted");
    else
      EXPECT_TRUE(mentions(refusal(config), {"dmabuf_pin_file", "dmabuf_datapath=premapped"}))
          << datapath_name(config.datapath);
  }
  JobConfig config = by(Datapath::premapped, Submit::uring);
  config.pin_file = PinFile::prepare;
  config.trims = true;
  EXPECT_TRUE(mentions(refusal(config), {"dmabuf_pin_file", "trim"}));
}

TEST(Config, UncachedIsForTheDatapathsThatGoThroughThePageCache) {
  for (unsigned path = 0; path < kDatapaths; path++) {
    JobConfig config = by(static_cast<Datapath>(path), Submit::uring);
    config.uncached = true;
    EXPECT_EQ(refusal(config), "accepted") << "direct=1, " << datapath_name(config.datapath);
    config.direct = false;
    switch (config.datapath) {
    case Datapath::bvec:
    case Datapath::syscall:
      EXPECT_TRUE(mentions(refusal(config), {"uncached", datapath_name(config.datapath)}));
      break;
    case Datapath::premapped:
    case Datapath::upstream:
      EXPECT_NE(refusal(config), "accepted") << "it needs direct=1";
      break;
    default:
      EXPECT_EQ(refusal(config), "accepted") << datapath_name(config.datapath);
    }
  }
}

TEST(Config, AnAtomicWriteIsNoneOfARegisteredBuffer) {
  for (unsigned path = 0; path < kDatapaths; path++) {
    JobConfig config = by(static_cast<Datapath>(path), Submit::uring);
    config.atomic = true;
    if (config.datapath == Datapath::host)
      EXPECT_EQ(refusal(config), "accepted");
    else
      EXPECT_TRUE(
          mentions(refusal(config), {"atomic=1", "RWF_ATOMIC", datapath_name(config.datapath)}));
  }
}

TEST(Config, ForcedReadsAreCommandsOfPremapped) {
  for (unsigned path = 0; path < kDatapaths; path++) {
    JobConfig config = by(static_cast<Datapath>(path), Submit::uring);
    config.force_reads = true;
    if (config.datapath == Datapath::premapped)
      EXPECT_EQ(refusal(config), "accepted");
    else
      EXPECT_TRUE(mentions(refusal(config), {"readfua", datapath_name(config.datapath)}));
  }
}

TEST(Config, ForcedWritesGoToAMedium) {
  for (unsigned path = 0; path < kDatapaths; path++) {
    JobConfig config = by(static_cast<Datapath>(path), Submit::uring);
    config.force_writes = true;
    if (config.datapath == Datapath::syscall)
      EXPECT_TRUE(mentions(refusal(config), {"writefua", "memory"}));
    else
      EXPECT_EQ(refusal(config), "accepted") << datapath_name(config.datapath);
  }
}

TEST(Config, WhatTheBlockLayerFollowsIsForItsIo) {
  for (unsigned path = 0; path < kDatapaths; path++) {
    JobConfig config = by(static_cast<Datapath>(path), Submit::uring);
    config.of_block_layer = "write_hint";
    if (config.datapath == Datapath::premapped || config.datapath == Datapath::syscall)
      EXPECT_TRUE(mentions(refusal(config), {"write_hint", datapath_name(config.datapath)}));
    else
      EXPECT_EQ(refusal(config), "accepted") << datapath_name(config.datapath);
  }
}

TEST(Config, CommandSizeIsAMultipleOfFourKibibytes) {
  JobConfig config = good();
  for (const unsigned kb : {4U, 128U, 4194300U}) {
    config.max_command_kb = kb;
    EXPECT_EQ(refusal(config), "accepted") << kb;
  }
  for (const unsigned kb : {1U, 130U, 4194304U}) {
    config.max_command_kb = kb;
    EXPECT_TRUE(mentions(refusal(config), {"dmabuf_max_command_kb"})) << kb;
  }
}

TEST(Names, EveryValueHasItsOwn) {
  EXPECT_STREQ(datapath_name(Datapath::automatic), "auto");
  EXPECT_STREQ(datapath_name(Datapath::premapped), "premapped");
  EXPECT_STREQ(datapath_name(Datapath::registered), "registered");
  EXPECT_STREQ(datapath_name(Datapath::bounce), "bounce");
  EXPECT_STREQ(datapath_name(Datapath::host), "host");
  EXPECT_STREQ(datapath_name(Datapath::syscall), "syscall");
  EXPECT_STREQ(datapath_name(Datapath::upstream), "upstream");
  EXPECT_STREQ(submit_name(Submit::uring), "uring");
  EXPECT_STREQ(submit_name(Submit::sync), "sync");
  EXPECT_STREQ(submit_name(Submit::ioctl), "ioctl");
  EXPECT_STREQ(submit_name(Submit::mmap), "mmap");
  EXPECT_STREQ(exporter_name(ExporterKind::udmabuf), "udmabuf");
  EXPECT_STREQ(exporter_name(ExporterKind::heap), "heap");
  EXPECT_STREQ(exporter_name(ExporterKind::drm), "drm");
  EXPECT_STREQ(exporter_name(ExporterKind::testexp), "testexp");
  EXPECT_STREQ(exporter_name(ExporterKind::none), "none");
}

} // namespace
} // namespace dmabuf
