// SPDX-License-Identifier: GPL-2.0-only
// A job's life without fio, on datapath host, and the ways it can fail to start.
#include "job/job.hpp"

#include "json_check.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <fstream>
#include <gtest/gtest.h>
#include <sstream>
#include <tuple>
#include <unistd.h>

namespace dmabuf {
namespace {

JobConfig host_config() {
  JobConfig config;
  config.name = "unit";
  config.datapath = Datapath::host;
  config.iodepth = 4;
  config.max_bs = 8192;
  config.reads = true;
  return config;
}

std::vector<void *> slots(void *base, const JobConfig &config) {
  std::vector<void *> buffers;
  for (unsigned i = 0; i < config.iodepth; i++)
    buffers.push_back(static_cast<std::byte *>(base) + i * config.max_bs);
  return buffers;
}

class TempFile {
public:
  TempFile() : fd_(mkstemp(path_)) {}
  ~TempFile() {
    close(fd_);
    unlink(path_);
  }
  int fd() const { return fd_; }
  const char *path() const { return path_; }
  std::string text() const {
    std::ifstream file(path_);
    std::ostringstream out;
    out << file.rdbuf();
    return out.str();
  }

private:
  char path_[32] = "/tmp/libdmabuf-job-XXXXXX";
  int fd_;
};

TEST(Job, LivesOnHostMemory) {
  auto job = Job::create(host_config());
  ASSERT_TRUE(job);
  EXPECT_EQ((*job)->path(), Datapath::host);
  const auto memory = (*job)->allocate(4 * 8192);
  ASSERT_TRUE(memory);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(*memory) % 4096, 0U);
  EXPECT_FALSE((*job)->started());
  ASSERT_TRUE((*job)->start(slots(*memory, host_config())));
  EXPECT_TRUE((*job)->started());
  EXPECT_FALSE((*job)->ran());
  TempFile file;
  ASSERT_TRUE((*job)->open_target(0, file.fd(), "a"));
  ASSERT_TRUE((*job)->open_target(5, file.fd(), "b")) << "fio may add files";
  EXPECT_TRUE((*job)->ran());
  (*job)->close_target(0);
  (*job)->close_target(17); // never opened
  (*job)->stop();
  (*job)->stop();
  const JobReport report = (*job)->report();
  EXPECT_EQ(report.target, "a:b");
  EXPECT_EQ(report.exporter, ExporterKind::none);
  EXPECT_EQ(report.buffer_bytes, 4 * 8192U);
  EXPECT_FALSE(report.module.known);
}

/// Buffers that are `slot_bytes` bytes apart.
std::vector<void *> buffers_apart(void *base, unsigned count, uint64_t slot_bytes) {
  std::vector<void *> buffers;
  for (unsigned i = 0; i < count; i++)
    buffers.push_back(static_cast<std::byte *>(base) + i * slot_bytes);
  return buffers;
}

TEST(Job, ASlotIsAsLongAsFiosBuffersAreApart) {
  // A fio after 3.42 makes no room for trims, which may be longer than reads and writes.
  JobConfig config = host_config();
  config.max_bs = uint64_t{1} << 24;
  auto job = Job::create(config);
  ASSERT_TRUE(job);
  const auto memory = (*job)->allocate(4 * 4096, 4096);
  ASSERT_TRUE(memory);
  EXPECT_TRUE((*job)->start(buffers_apart(*memory, 4, 4096)));
}

TEST(Job, BuffersElsewhereAreRefused) {
  for (const uint64_t apart : {4096U, 16384U, 8191U}) {
    auto job = Job::create(host_config());
    ASSERT_TRUE(job);
    const auto memory = (*job)->allocate(4 * 16384, 8192);
    ASSERT_TRUE(memory);
    const auto started = (*job)->start(buffers_apart(*memory, 4, apart));
    ASSERT_FALSE(started) << apart;
    EXPECT_EQ(started.error().code, EPROTO);
    EXPECT_NE(started.error().message.find("I/O slot 1 is not where 8192 bytes"),
              std::string::npos);
  }
  auto job = Job::create(host_config());
  const auto memory = (*job)->allocate(4 * 4096, 8192);
  ASSERT_TRUE(memory);
  EXPECT_FALSE((*job)->start(buffers_apart(*memory, 4, 8192))) << "beyond the memory";
}

TEST(Job, DmaBufsAreNotMappedBeyondWhatFioAskedFor) {
  JobConfig config = host_config();
  config.datapath = Datapath::bounce;
  config.buffer_per_slot = true;
  for (const auto &[bytes, slot, align] :
       {std::tuple(4 * 8192 - 4096, 8192, 0), std::tuple(4 * 8192, 8192, 4096),
        std::tuple(4 * 8192, 6144, 0), std::tuple(4096, 8192, 1 << 20)}) {
    config.mem_align = static_cast<uint64_t>(align);
    auto job = Job::create(config);
    ASSERT_TRUE(job);
    const auto memory = (*job)->allocate(static_cast<uint64_t>(bytes), static_cast<uint64_t>(slot));
    ASSERT_FALSE(memory);
    EXPECT_EQ(memory.error().code, EPROTO) << memory.error().message;
    EXPECT_NE(memory.error().message.find("4 I/O slots of"), std::string::npos);
  }
}

TEST(Job, ItsMemoryMayBeReplacedByMore) {
  JobConfig config = host_config();
  auto job = Job::create(config);
  ASSERT_TRUE(job);
  auto memory = (*job)->allocate(4 * 8192);
  ASSERT_TRUE((*job)->start(slots(*memory, config)));
  TempFile file;
  ASSERT_TRUE((*job)->open_target(0, file.fd(), "a"));
  for (const uint64_t longer : {uint64_t{65536}, uint64_t{1} << 20}) {
    (*job)->release_memory();
    EXPECT_TRUE((*job)->started());
    EXPECT_FALSE((*job)->attached());
    memory = (*job)->allocate(4 * longer, longer);
    ASSERT_TRUE(memory);
    ASSERT_TRUE((*job)->attach(buffers_apart(*memory, 4, longer)));
    EXPECT_TRUE((*job)->attached());
  }
  (*job)->release_memory();
  EXPECT_FALSE((*job)->allocate(uint64_t{1} << 34, uint64_t{1} << 32)) << "too long for io_uring";
  (*job)->stop();
  EXPECT_FALSE((*job)->attach({})) << "the ring is gone";
  EXPECT_EQ((*job)->report().buffer_bytes, uint64_t{4} << 20);
}

TEST(Job, WritesAtOpenForReadingIsRefused) {
  JobConfig config = host_config();
  config.writes = true;
  auto job = Job::create(config);
  ASSERT_TRUE(job);
  const auto memory = (*job)->allocate(4 * 8192);
  ASSERT_TRUE((*job)->start(slots(*memory, config)));
  const int fd = open("/dev/zero", O_RDONLY);
  const auto opened = (*job)->open_target(0, fd, "/dev/zero");
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code, EBADF);
  EXPECT_NE(opened.error().message.find("/dev/zero is open for reading only"), std::string::npos);
  EXPECT_FALSE((*job)->ran());
  close(fd);
}

TEST(Job, AppendsItsReport) {
  TempFile file;
  for (int i = 0; i < 2; i++) {
    JobConfig config = host_config();
    config.report = file.path();
    auto job = Job::create(config);
    ASSERT_TRUE(job);
    ASSERT_TRUE((*job)->write_report((*job)->report()));
  }
  std::istringstream lines(file.text());
  int count = 0;
  for (std::string line; std::getline(lines, line); count++)
    EXPECT_TRUE(test::JsonCheck::valid(line)) << line;
  EXPECT_EQ(count, 2);
}

TEST(Job, AReportThatCannotBeWrittenIsFoundAtTheStart) {
  JobConfig config = host_config();
  config.report = "/no/such/folder/report.json";
  const auto job = Job::create(config);
  ASSERT_FALSE(job);
  EXPECT_NE(job.error().message.find("dmabuf_report=/no/such/folder/report.json"),
            std::string::npos);
}

TEST(Job, WritesItsReportThroughNoLink) {
  TempFile other;
  const std::string link = std::string(other.path()) + "-link";
  const std::string nothing = std::string(other.path()) + "-nothing";
  for (const std::string &leads_to : {std::string(other.path()), nothing}) {
    ASSERT_EQ(symlink(leads_to.c_str(), link.c_str()), 0);
    JobConfig config = host_config();
    config.report = link;
    const auto job = Job::create(config);
    ASSERT_EQ(unlink(link.c_str()), 0);
    ASSERT_FALSE(job) << "a link to " << leads_to;
    EXPECT_EQ(job.error().code, ELOOP);
    EXPECT_NE(job.error().message.find("dmabuf_report=" + link + " is a symbolic link"),
              std::string::npos)
        << job.error().message;
  }
  EXPECT_EQ(other.text(), "");
  EXPECT_NE(access(nothing.c_str(), F_OK), 0) << "made through the link";
}

TEST(Job, ItsReportMayBeADescriptorThatItHas) {
  TempFile file;
  for (const char *folder : {"/proc/self/fd/", "/dev/fd/"}) {
    JobConfig config = host_config();
    config.report = folder + std::to_string(file.fd());
    const auto job = Job::create(config);
    ASSERT_TRUE(job) << job.error().message;
    ASSERT_TRUE((*job)->write_report((*job)->report()));
  }
  const std::string text = file.text();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
}

TEST(Job, AFullDiskUnderTheReportIsAnError) {
  if (access("/dev/full", W_OK) != 0)
    GTEST_SKIP() << "no /dev/full here";
  JobConfig config = host_config();
  config.report = "/dev/full";
  auto job = Job::create(config);
  ASSERT_TRUE(job);
  const auto written = (*job)->write_report((*job)->report());
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ENOSPC);
}

TEST(Job, WithoutTheModuleItSaysSo) {
  if (access(DMABUF_RW_DEVICE, F_OK) == 0)
    GTEST_SKIP() << "this machine has the module";
  for (const auto path : {Datapath::automatic, Datapath::premapped, Datapath::registered,
                          Datapath::bvec, Datapath::syscall}) {
    JobConfig config = host_config();
    config.datapath = path;
    config.direct = true;
    const auto job = Job::create(config);
    ASSERT_FALSE(job) << datapath_name(path);
    EXPECT_EQ(job.error().code, ENOENT);
    EXPECT_NE(job.error().message.find("not loaded"), std::string::npos);
  }
}

TEST(Job, ATrimJobNeedsNeitherModuleNorMemory) {
  JobConfig config = host_config();
  config.datapath = Datapath::automatic;
  config.reads = config.writes = false;
  auto job = Job::create(config);
  ASSERT_TRUE(job);
  ASSERT_TRUE((*job)->start({}));
  TempFile file;
  EXPECT_TRUE((*job)->open_target(0, file.fd(), "x"));
  (*job)->stop();
  EXPECT_TRUE((*job)->report().proof.proven);
}

TEST(Job, ImpossibleMemoryIsAnErrorNotACrash) {
  auto job = Job::create(host_config());
  ASSERT_TRUE(job);
  EXPECT_FALSE((*job)->allocate(UINT64_MAX));
  EXPECT_FALSE((*job)->allocate(uint64_t{1} << 62));
}

} // namespace
} // namespace dmabuf
