// SPDX-License-Identifier: GPL-2.0-only
// Several I/Os in one command to the module (dmabuf_ranges): which they are, from the moment at
// which the first is prepared until the last was handed out.
#pragma once

#include <cstdint>
#include <linux/dmabuf_rw.h>
#include <memory>
#include <vector>

struct io_uring_sqe;

namespace dmabuf {

/// One command, of one direction and one mapping.
struct Pack {
  void **units = nullptr;
  dmabuf_rw_range *ranges = nullptr; ///< of the same order; the module puts results there
  io_uring_sqe *entry = nullptr;
  unsigned place = 0; ///< of the entry in the queue
  unsigned count = 0;
  uint32_t op = 0; ///< DMABUF_RW_URING_READV or _WRITEV
  uint32_t handle = 0;
};

/// All of a job's. Made once: nothing is allocated for an I/O.
class Packs {
public:
  /// `depth` I/Os in flight at most, `most` in one command.
  void make(unsigned depth, unsigned most) {
    most_ = most;
    units_ = std::make_unique<void *[]>(size_t{depth} * most);
    ranges_ = std::make_unique<dmabuf_rw_range[]>(size_t{depth} * most);
    all_.resize(depth);
    for (unsigned i = 0; i < depth; i++) {
      all_[i].units = &units_[size_t{i} * most];
      all_[i].ranges = &ranges_[size_t{i} * most];
      free_.push_back(&all_[i]);
    }
    carried_.reserve(depth);
  }

  unsigned most() const { return most_; }

  /// There is one: each I/O in flight is in at most one.
  Pack *take() {
    Pack *pack = free_.back();
    free_.pop_back();
    return pack;
  }
  void give(Pack *pack) {
    pack->count = 0;
    pack->entry = nullptr;
    if (open_ == pack)
      open_ = nullptr;
    free_.push_back(pack);
  }

  /// The one that the next I/O may go into, if the kernel has not taken its entry.
  Pack *open() const { return open_; }
  void open(Pack *pack) { open_ = pack; }

  /// Units that ended and were more than could be handed out.
  std::vector<void *> &carried() { return carried_; }

  /// All commands that are made or under way.
  const std::vector<Pack> &all() const { return all_; }

  // A completion's user data: a unit, or a pack with the lowest bit set.
  static uint64_t tag(const Pack *pack) { return reinterpret_cast<uintptr_t>(pack) | 1; }
  static bool is_pack(uint64_t user_data) { return user_data & 1; }
  static Pack *of(uint64_t user_data) {
    return reinterpret_cast<Pack *>(static_cast<uintptr_t>(user_data & ~uint64_t{1}));
  }

private:
  unsigned most_ = 0;
  std::unique_ptr<void *[]> units_;
  std::unique_ptr<dmabuf_rw_range[]> ranges_;
  std::vector<Pack> all_;
  std::vector<Pack *> free_;
  std::vector<void *> carried_;
  Pack *open_ = nullptr;
};

} // namespace dmabuf
