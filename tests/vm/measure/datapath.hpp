// SPDX-License-Identifier: GPL-2.0-only
// A datapath for the loop: submission entries by slot, and what is to be done afterwards.
#pragma once

#include "lib/interrupt.hpp"
#include "measure.hpp"

#include <array>
#include <cstring>
#include <functional>

namespace measure {

/// The module's counts of a mapping; zero where the module does not see the I/O.
struct Counts {
  std::uint64_t ios, commands;
};

/// Bytes of the file of a case with file=one or file=many: in one piece, and in a thousand.
inline constexpr std::uint64_t file_bytes = 32u << 20;

class Datapath {
public:
  Datapath(const Case &what, unsigned ring_flags);
  Datapath(const Datapath &) = delete;
  virtual ~Datapath();

  io_uring *ring() { return &ring_; }
  int expected() const { return expected_; }
  virtual Counts counts() { return {}; }

  bool prepare(unsigned slot, std::uint64_t offset) {
    io_uring_sqe *sqe = io_uring_get_sqe(&ring_);
    if (!sqe) [[unlikely]]
      return false;
    std::memcpy(sqe, entries_.data() + slot * entry_bytes_, entry_bytes_);
    offset >>= offset_shift_;
    std::memcpy(reinterpret_cast<char *>(sqe) + offset_at_, &offset, sizeof(offset));
    return true;
  }

  /// I/Os that one entry asks for: several ranges in one command.
  unsigned per_entry() const { return per_entry_; }
  /// Of an entry with several: where the nth reads or writes.
  void place(unsigned slot, unsigned nth, std::uint64_t offset) {
    ranges_[slot * per_entry_ + nth].file_offset = offset;
  }

  void landed(unsigned slot) {
    if (copies_) [[unlikely]]
      copy(slot);
  }

protected:
  virtual void copy(unsigned) {}
  /// The template of a slot, zeroed but for user_data.
  io_uring_sqe *entry(unsigned slot);
  void fill_fixed(unsigned slot, std::uint64_t address, unsigned buffer_slot);
  void register_host(std::byte *base);

  Memory &memory() { return *memory_; }
  std::uint64_t slot_offset(unsigned slot) const { return slot * slot_bytes_; }
  bool writes() const { return writes_; }

  std::uint64_t bs_, slot_bytes_;
  unsigned depth_;
  int target_ = -1;
  unsigned offset_at_ = offsetof(io_uring_sqe, off), offset_shift_ = 0;
  int expected_;
  bool copies_ = false;
  unsigned per_entry_ = 1;
  std::vector<dmabuf_rw_range> ranges_;

private:
  UniqueFd file_; // the target, if that is no device
  std::shared_ptr<Memory> memory_;
  bool writes_;
  std::size_t entry_bytes_;
  std::vector<char> entries_;
  io_uring ring_{};
};

std::unique_ptr<Datapath> make_datapath(const Case &what);

} // namespace measure
