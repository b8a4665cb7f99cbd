// SPDX-License-Identifier: GPL-2.0-only
// Memory that the CPU does not map. fio's buffers are then ordinary host memory of the same layout,
// and the exporter copies between the two, for those jobs only that need it: a job whose buffers
// nobody looks at runs on the datapaths as they are.
#pragma once

#include "base/device_memory.hpp"
#include "datapath/policies.hpp"

namespace dmabuf {

/// The memory that a request's bytes belong to, and where in it they start.
struct DevicePlace {
  DeviceMemory *memory;
  uint64_t offset;
};

/// Not by Lane::buffer_number(): a slot of the ring's table may be a window of one dma-buf.
inline DevicePlace device_place(const Lane &lane, const Request &request) {
  const unsigned number = request.index & lane.memory_mask;
  return {lane.memories[number],
          buffer_offset(lane.base + number * lane.memory_bytes, request.buffer)};
}

inline void copy_up(Lane &lane, const Request &request) {
  const auto [memory, offset] = device_place(lane, request);
  if (const int error = memory->write(offset, {request.buffer, request.length})) [[unlikely]]
    lane.fatal = error; // and the copy counts for nothing, as all here that fail
  else
    lane.counters.shadow_to_buffer += request.length;
}

inline void copy_down(Lane &lane, const Request &request, uint32_t moved) {
  const auto [memory, offset] = device_place(lane, request);
  if (const int error = memory->read(offset, {request.buffer, moved})) [[unlikely]]
    lane.fatal = error;
  else
    lane.counters.shadow_from_buffer += moved;
}

/// A datapath of io_uring whose buffers have a shadow.
template <class Path> struct Shadowed : Path {
  static void fill(Lane &lane, io_uring_sqe &sqe, const Request &request) {
    if (request.kind == Kind::write && lane.copies_up)
      copy_up(lane, request);
    Path::fill(lane, sqe, request);
  }
  static void landed(Lane &lane, const Request &request, uint32_t moved) {
    Path::landed(lane, request, moved);
    if (request.kind == Kind::read && lane.copies_down)
      copy_down(lane, request, moved);
  }
};

/// The same for a call that is waited for.
template <class Call> struct ShadowedCall {
  static int move(Lane &lane, const Request &request) {
    if (request.kind == Kind::write && lane.copies_up)
      copy_up(lane, request);
    const int moved = lane.fatal ? -lane.fatal : Call::move(lane, request);
    if (request.kind == Kind::read && lane.copies_down && moved > 0)
      copy_down(lane, request, static_cast<uint32_t>(moved));
    return moved;
  }
};

/// Bounce on such memory: the exporter copies, as the CPU does on memory that it maps.
struct DeviceBounce {
  static constexpr Datapath kPath = Datapath::bounce;
  static void fill(Lane &lane, io_uring_sqe &sqe, const Request &request) {
    std::byte *slot = lane.staging + request.index * lane.staging_slot;
    if (request.kind == Kind::write) {
      const auto [memory, offset] = device_place(lane, request);
      if (const int error = memory->read(offset, {slot, request.length})) [[unlikely]]
        lane.fatal = error;
      else
        lane.counters.copied_from_buffer += request.length;
    }
    fill_fixed(lane, sqe, request, reinterpret_cast<uintptr_t>(slot), request.index);
  }
  static void landed(Lane &lane, const Request &request, uint32_t moved) {
    if (request.kind != Kind::read)
      return;
    const auto [memory, offset] = device_place(lane, request);
    const std::byte *slot = lane.staging + request.index * lane.staging_slot;
    if (const int error = memory->write(offset, {slot, moved})) [[unlikely]]
      lane.fatal = error;
    else
      lane.counters.copied_to_buffer += moved;
  }
};

} // namespace dmabuf
