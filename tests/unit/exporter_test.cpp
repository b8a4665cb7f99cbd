// SPDX-License-Identifier: GPL-2.0-only
#include "exporter/exporter.hpp"

#include "base/sizes.hpp"
#include "exporter/drm.hpp"
#include "exporter/heap.hpp"
#include "exporter/shared_library.hpp"
#include "exporter/testexp.hpp"
#include "exporter/udmabuf.hpp"

#include <cerrno>
#include <fcntl.h>
#include <fstream>
#include <gtest/gtest.h>
#include <string>
#include <unistd.h>

namespace dmabuf {
namespace {

int open_files() {
  int count = 0;
  for (int fd = 0; fd < 1024; fd++)
    count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

TEST(Exporter, NamesABufferBeyondTheMachinesMemory) {
  EXPECT_EQ(over_memory(64 * kMiB, 65 * 1024), std::nullopt);
  const auto text = over_memory(256 * kMiB, 64 * 1024);
  ASSERT_TRUE(text);
  EXPECT_NE(text->find("256 MiB"), std::string::npos);
  EXPECT_NE(text->find("64 MiB"), std::string::npos);
  EXPECT_NE(text->find("lower iodepth or bs"), std::string::npos);
  EXPECT_TRUE(over_memory(UINT64_MAX, 1 << 20));
  EXPECT_TRUE(check_memory(4096));
  EXPECT_FALSE(check_memory(uint64_t{1} << 60));
  const auto file = over_memory(256 * kMiB, 64 * 1024, kShrinkFile);
  ASSERT_TRUE(file);
  EXPECT_NE(file->find("lower size"), std::string::npos);
}

/// The row of the documentation's table of exporters, without blanks; empty if there is none.
std::string documented(const std::string &exporter) {
  std::ifstream file(DMABUF_DOCS "/engine.md");
  std::string line;
  bool inside = false;
  while (std::getline(file, line)) {
    if (line.starts_with("## "))
      inside = line == "## Exporters";
    if (inside && line.starts_with("| `" + exporter + "` |")) {
      std::erase(line, ' ');
      return line;
    }
  }
  return {};
}

TEST(Exporter, TheDocumentationSaysWhatEachOneCanDo) {
  for (const Exporter &row : kExporters) {
    EXPECT_STRNE(row.what, "");
    const std::string end = std::string(row.cpu == CpuReach::maps ? "|mmap|" : "|copies|") +
                            (row.place == Mobility::moves ? "yes|" : "no|");
    EXPECT_TRUE(documented(row.name).ends_with(end))
        << row.name << ": " << end << " in " << documented(row.name);
  }
}

TEST(Exporter, IsFoundByItsName) {
  for (const Exporter &row : kExporters) {
    const auto kind = exporter_by_name(row.name);
    ASSERT_TRUE(kind) << row.name;
    EXPECT_EQ(exporter_row(*kind), &row);
    EXPECT_STREQ(exporter_name(*kind), row.name);
  }
  EXPECT_EQ(exporter_by_name("none"), std::nullopt);
  EXPECT_EQ(exporter_by_name("udmabu"), std::nullopt);
}

TEST(Udmabuf, LimitIsInclusive) {
  EXPECT_EQ(udmabuf_over_limit(64 * kMiB, 64), std::nullopt);
  EXPECT_EQ(udmabuf_over_limit(1, 64), std::nullopt);
  EXPECT_TRUE(udmabuf_over_limit(64 * kMiB + 1, 64));
  EXPECT_TRUE(udmabuf_over_limit(1, 0));
  EXPECT_TRUE(udmabuf_over_limit(UINT64_MAX, 64));
}

TEST(Udmabuf, OverTheLimitSaysNeedLimitAndRemedy) {
  const auto why = udmabuf_over_limit(128 * kMiB + 4096, 64);
  ASSERT_TRUE(why);
  EXPECT_EQ(*why, "SIZE_CAP: the job's buffer needs 129 MiB and udmabuf takes at most 64 MiB "
                  "(size_limit_mb); lower iodepth or bs, or run: echo 129 > "
                  "/sys/module/udmabuf/parameters/size_limit_mb");
}

TEST(Drm, DumbBufferHoldsTheBytesWithoutWaste) {
  for (const uint64_t bytes :
       {uint64_t{1}, uint64_t{4096}, uint64_t{4097}, 64 * kMiB, uint64_t{1} << 40}) {
    const auto shape = dumb_shape(bytes);
    ASSERT_TRUE(shape) << bytes;
    const uint64_t row = uint64_t{shape->width} * 4;
    const uint64_t held = row * shape->height;
    EXPECT_GE(held, bytes);
    EXPECT_LT(held - bytes, row) << bytes;
    EXPECT_EQ(row % 4096, 0U);
    EXPECT_LE(shape->height, static_cast<uint32_t>(INT32_MAX));
  }
  EXPECT_EQ(dumb_shape(UINT64_MAX), std::nullopt);
}

TEST(Paths, HeapsAndCardsHaveShortNames) {
  EXPECT_EQ(heap_path("system"), "/dev/dma_heap/system");
  EXPECT_EQ(heap_path("/dev/dma_heap/default_cma_region"), "/dev/dma_heap/default_cma_region");
}

TEST(Heap, AModuleIsNamedOnlyWhereTheKernelCanLoadOne) {
  EXPECT_NE(no_heap("/sys").find("modprobe system_heap"), std::string::npos);
  const std::string without = no_heap("/sys/class/no-such-class");
  EXPECT_EQ(without.find("modprobe"), std::string::npos) << without;
  EXPECT_NE(without.find("CONFIG_DMABUF_HEAPS"), std::string::npos);
  EXPECT_NE(without.find("another dmabuf_exporter"), std::string::npos);
  EXPECT_EQ(drm_path("0"), "/dev/dri/card0");
  EXPECT_EQ(drm_path("card1"), "/dev/dri/card1");
  EXPECT_EQ(drm_path("/dev/dri/by-path/x-card"), "/dev/dri/by-path/x-card");
}

TEST(Testexp, PlanIsWordsJoinedByPlus) {
  ASSERT_TRUE(testexp_plan(""));
  EXPECT_EQ(testexp_plan("")->move_us, 0U);
  ASSERT_TRUE(testexp_plan("move-1000"));
  EXPECT_EQ(testexp_plan("move-1000")->move_us, 1000U);
  ASSERT_TRUE(testexp_plan("move-1+move-1000000"));
  EXPECT_EQ(testexp_plan("move-1+move-1000000")->move_us, 1000000U);
  EXPECT_EQ(testexp_plan("move-1")->lose, 0U);
  EXPECT_NE(testexp_plan("lose-writes")->lose, 0U);
  EXPECT_NE(testexp_plan("stale-reads")->lose, testexp_plan("lose-writes")->lose);
  EXPECT_TRUE(testexp_plan("refuse-map")->refuse_map);
  EXPECT_TRUE(testexp_plan("no-cpu+move-7")->no_cpu);
  EXPECT_FALSE(testexp_plan("move-7")->no_cpu);
  EXPECT_TRUE(testexp_plan("refuse-attach+move-7")->refuse_attach);
  EXPECT_FALSE(testexp_plan("lose-writes+move-7"));
  EXPECT_EQ(testexp_plan("exchange-600")->exchange_after, 600U);
  EXPECT_FALSE(testexp_plan("exchange-600")->shift);
  EXPECT_TRUE(testexp_plan("move-7+shift-segments")->shift);
  EXPECT_FALSE(testexp_plan("stale-reads+shift-segments"));
  EXPECT_FALSE(testexp_plan("exchange-1+lose-writes"));
}

TEST(Testexp, OtherWordsAreRefusedByName) {
  for (const char *words :
       {"move", "move-", "move-0", "move-1000001", "move-1x", "move--1", "move-99999999999",
        "nomap", "+", "exchange-0", "shift", "move-5++move-5", "/dev/testexp"}) {
    const auto plan = testexp_plan(words);
    ASSERT_FALSE(plan) << words;
    EXPECT_EQ(plan.error().code, EINVAL) << words;
    EXPECT_NE(plan.error().message.find("move-N"), std::string::npos) << plan.error().message;
  }
  EXPECT_NE(testexp_plan("move-5+gone").error().message.find("dmabuf_device=gone "),
            std::string::npos);
}

TEST(Testexp, WithoutTheModuleItIsNamedAndNothingStaysOpen) {
  if (access("/dev/dmabuf_testexp", F_OK) == 0)
    GTEST_SKIP() << "the test exporter is loaded here";
  const int before = open_files();
  const auto buffer =
      allocate_dmabuf({.kind = ExporterKind::testexp, .device = "move-1000", .bytes = 4096});
  ASSERT_FALSE(buffer);
  EXPECT_EQ(buffer.error().code, ENOENT);
  EXPECT_NE(buffer.error().message.find("dmabuf_testexp.ko"), std::string::npos);
  EXPECT_EQ(open_files(), before);
}

TEST(Allocate, MissingDevicesAreNamedAndNothingStaysOpen) {
  const int before = open_files();
  for (const auto kind : {ExporterKind::udmabuf, ExporterKind::heap, ExporterKind::drm}) {
    const auto buffer =
        allocate_dmabuf({.kind = kind, .device = "/dev/does-not-exist", .bytes = 4096});
    ASSERT_FALSE(buffer) << exporter_name(kind);
    EXPECT_EQ(buffer.error().code, ENOENT);
    EXPECT_NE(buffer.error().message.find("/dev/does-not-exist"), std::string::npos)
        << buffer.error().message;
  }
  EXPECT_EQ(open_files(), before);
}

TEST(Allocate, AFileThatIsNoExporterIsRefused) {
  const int before = open_files();
  for (const auto kind : {ExporterKind::udmabuf, ExporterKind::heap, ExporterKind::drm}) {
    const auto buffer = allocate_dmabuf({.kind = kind, .device = "/dev/null", .bytes = 4096});
    ASSERT_FALSE(buffer) << exporter_name(kind);
    EXPECT_NE(buffer.error().code, 0);
    EXPECT_FALSE(buffer.error().message.empty());
  }
  EXPECT_EQ(open_files(), before);
}

TEST(Allocate, AJobWithoutExporterHasNoDmaBuf) {
  EXPECT_FALSE(allocate_dmabuf({.kind = ExporterKind::none, .bytes = 4096}));
}

TEST(SharedLibrary, AFunctionThatIsOptionalMayBeMissing) {
  const auto load = [](Need need, int (*&present)(), int (*&missing)()) {
    return load_library(
        {"libc.so.6"},
        {{"no_such_function", symbol_address(missing), need}, {"getpid", symbol_address(present)}},
        "install", "update");
  };
  int (*present)() = nullptr, (*missing)() = [] { return 1; };
  EXPECT_TRUE(load(Need::optional, present, missing));
  EXPECT_EQ(missing, nullptr);
  ASSERT_NE(present, nullptr);
  EXPECT_EQ(present(), getpid());
  const auto refused = load(Need::required, present, missing);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().message, "libc.so.6 has no function no_such_function; update");
}

TEST(CpuAccess, FailsOnWhatIsNoDmaBuf) {
  const int fd = open("/dev/null", O_RDWR);
  EXPECT_NE(cpu_access_begin(fd, 3), 0);
  EXPECT_NE(cpu_access_end(fd, 3), 0);
  close(fd);
}

TEST(ReadNumber, ReadsWhatIsThere) {
  char path[] = "/tmp/libdmabuf-test-XXXXXX";
  const int fd = mkstemp(path);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(write(fd, "64\n", 3), 3);
  close(fd);
  EXPECT_EQ(read_number(path), 64U);
  unlink(path);
  EXPECT_EQ(read_number(path), std::nullopt);
  EXPECT_EQ(read_number("/proc/version"), std::nullopt);
}

} // namespace
} // namespace dmabuf
