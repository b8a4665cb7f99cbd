// SPDX-License-Identifier: GPL-2.0-only
// Is a file the dma-buf? On memfds, which are to each other what a dma-buf and its rw fd are.
#include "job/buffer_file.hpp"

#include <cerrno>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vector>

namespace dmabuf {
namespace {

constexpr uint64_t kBytes = 3 * 4096;

/// A memfd as a dma-buf; its CPU accesses need no bracket.
class BufferFileTest : public testing::Test {
protected:
  void SetUp() override {
    buffer.fd.reset(memfd_create("buffer", MFD_CLOEXEC));
    ASSERT_TRUE(buffer.fd);
    buffer.bytes = kBytes;
    ASSERT_EQ(ftruncate(buffer.fd.get(), kBytes), 0);
    buffer.view = MappedRange(
        mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, buffer.fd.get(), 0), kBytes);
    for (uint64_t i = 0; i < kBytes; i++)
      buffer.view.data()[i] = static_cast<std::byte>(i * 7);
  }
  DmaBuf buffer;
};

TEST_F(BufferFileTest, AMemfdIsNoDmaBufSoItsCpuAccessFailsAndIsNamed) {
  const auto same = check_same_bytes(buffer.fd.get(), buffer, true);
  ASSERT_FALSE(same);
  EXPECT_NE(same.error().message.find("CPU access"), std::string::npos);
}

TEST_F(BufferFileTest, WithoutAnExporterThereIsNoFile) {
  const auto file = BufferFile::make(
      {.kind = ExporterKind::udmabuf, .device = "/dev/does-not-exist", .bytes = kBytes}, nullptr,
      true);
  ASSERT_FALSE(file);
  EXPECT_NE(file.error().message.find("/dev/does-not-exist"), std::string::npos);
}

TEST(RwErrors, SayWhatTheErrnoMeansThere) {
  EXPECT_NE(rw_error_text(ENODEV).find("REVOKED"), std::string::npos);
  EXPECT_NE(rw_error_text(ETIMEDOUT).find("FENCE_TIMEOUT"), std::string::npos);
  EXPECT_NE(rw_error_text(EIO).find("EIO"), std::string::npos);
  EXPECT_NE(rw_open_error_text(DMABUF_RW_REASON_NO_CPU_VIEW, EOPNOTSUPP).find("NO_CPU_VIEW"),
            std::string::npos);
}

} // namespace
} // namespace dmabuf
