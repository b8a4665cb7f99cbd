// SPDX-License-Identifier: GPL-2.0-only
// What the unprivileged process is handed: dma-bufs, targets and rw fds, at the numbers of fds.hpp.
// And what it must not be able to change, with the means to see whether it did.
#pragma once

#include "lib/exporter.hpp"
#include "lib/session.hpp"
#include "lib/target.hpp"
#include "lib/testexp.hpp"

#include <string>
#include <vector>

namespace vmtest::fuzz {

class World {
public:
  World();
  World(const World &) = delete;
  World &operator=(const World &) = delete;
  ~World();

  // Every canary, as checks of the report.
  void check(const std::string &when);
  // Changes a canary, as if the module had let the process do so.
  void spoil_disk();
  void spoil_buffer();
  // Signals all fences that wait for it.
  void signal_fences();
  // What the test exporter saw of memory that was left.
  void check_strays();

private:
  struct Partition {
    int disk;
    int number;
  };
  void add_partition(int disk, int number, std::uint64_t start, std::uint64_t bytes);
  void make_dmabufs();
  void make_targets();
  void make_rw_files();
  void put_dmabuf(int number, DmaBuf buffer);
  void put_target(int number, UniqueFd fd);
  void add_canary(int disk, std::uint64_t base, std::size_t bytes);

  UniqueFd nvme_, virtio_; // whole disks, for the witness and for partitions
  std::vector<Partition> partitions_;
  std::vector<DiskRegion> disk_canaries_;
  Testexp testexp_;
  std::vector<TestBuffer> buffers_;
  TestBuffer testexp_canary_;
  struct BufferCanary {
    std::string name;
    DmaBuf buffer;            // as it was given, or what the witness looks through
    std::uint32_t generation; // 0: all zero
  };
  std::vector<BufferCanary> buffer_canaries_;
};

} // namespace vmtest::fuzz
