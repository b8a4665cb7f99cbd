// SPDX-License-Identifier: GPL-2.0-only
// A datapath of the module's commands whose I/Os share commands: READV and WRITEV.
//
// An I/O goes into the command that was begun last, as long as that has not been submitted, is of
// the same direction and mapping, and has room. Each I/O has its own result; all of a command are
// told of with one completion.
#pragma once

#include "datapath/hot_path.hpp"
#include "datapath/packs.hpp"

#include <cstring>
#include <liburing.h>
#include <linux/dmabuf_rw.h>

namespace dmabuf {

template <class Path> struct Packed : Path {};

template <class Path, class Io> struct HotPath<Packed<Path>, Io> {
  using Unit = typename Io::Unit;
  using Single = HotPath<Path, Io>;

  static bool prepare(Lane &lane, Unit &unit) {
    if (static_cast<unsigned>(Io::kind(unit)) > static_cast<unsigned>(Kind::write)) [[unlikely]]
      return Single::prepare(lane, unit);
    // What the datapath would send for this I/O alone.
    io_uring_sqe alone = {};
    dmabuf_rw_uring_io io;
    Path::fill(lane, alone, Io::request(lane, unit));
    std::memcpy(&io, &alone.addr3, sizeof(io));
    const uint32_t op =
        alone.cmd_op == DMABUF_RW_URING_WRITE ? DMABUF_RW_URING_WRITEV : DMABUF_RW_URING_READV;
    Pack *pack = room(lane, op, io.handle);
    if (!pack && !(pack = begin(lane, alone, op, io.handle)))
      return false;
    pack->units[pack->count] = &unit;
    pack->ranges[pack->count] = {.file_offset = io.file_offset,
                                 .buffer_offset = alone.addr,
                                 .length = alone.len,
                                 .moved = 0,
                                 .error = 0,
                                 .reason = 0};
    pack->entry->len = ++pack->count;
    lane.tries[Io::index(unit)] = 0;
    lane.pending[lane.pending_count++] = &unit;
    lane.in_flight++;
    return true;
  }

  static unsigned reap(Lane &lane, unsigned at, unsigned max) {
    unsigned done = at + carry(lane, at, max);
    lane.ring.reap(max - (done - at), [&](const io_uring_cqe &cqe) {
      if (!Packs::is_pack(cqe.user_data)) [[unlikely]] {
        auto *unit = reinterpret_cast<Unit *>(static_cast<uintptr_t>(cqe.user_data));
        if (Single::complete(lane, *unit, cqe.res))
          hand(lane, unit, done, at + max);
        return;
      }
      Pack *pack = Packs::of(cqe.user_data);
      lane.counters.vectors++;
      lane.counters.vectored += pack->count;
      for (unsigned i = 0; i < pack->count; i++) {
        auto *unit = static_cast<Unit *>(pack->units[i]);
        if (Single::complete(lane, *unit, result(cqe.res, pack->ranges[i]))) [[likely]]
          hand(lane, unit, done, at + max);
      }
      lane.packs.give(pack);
    });
    lane.in_flight -= done - at;
    return done - at;
  }

  [[gnu::noinline, gnu::cold]] static unsigned hand_back(Lane &lane, unsigned most) {
    lane.max_tries = 0;
    lane.pending_count = 0;
    while (lane.ring.unsubmitted()) {
      const uint64_t data = lane.ring.take_back();
      if (!Packs::is_pack(data)) {
        fail(lane, *reinterpret_cast<Unit *>(static_cast<uintptr_t>(data)));
        continue;
      }
      Pack *pack = Packs::of(data);
      for (unsigned i = 0; i < pack->count; i++)
        fail(lane, *static_cast<Unit *>(pack->units[i]));
      lane.packs.give(pack);
    }
    unsigned done = 0;
    while (lane.in_flight && done < most) {
      const unsigned reaped = reap(lane, done, most - done);
      done += reaped;
      const int rc = reaped ? 0 : lane.ring.wait(1);
      if (rc < 0 && rc != -EINTR && rc != -EAGAIN)
        break;
    }
    return done;
  }

  /// Completions that so many units take at least.
  static unsigned completions(const Lane &lane, unsigned units) {
    return (units + lane.packs.most() - 1) / lane.packs.most();
  }

private:
  /// The result of one I/O of a command, as that of a command of its own.
  static int result(int of_all, const dmabuf_rw_range &range) {
    if (of_all < 0)
      return of_all;
    return range.error ? -static_cast<int>(range.error) : static_cast<int>(range.moved);
  }

  static Pack *room(Lane &lane, uint32_t op, uint32_t handle) {
    Pack *pack = lane.packs.open();
    if (pack && pack->op == op && pack->handle == handle && pack->count < lane.packs.most() &&
        lane.ring.holds(pack->place))
      return pack;
    return nullptr;
  }

  static Pack *begin(Lane &lane, const io_uring_sqe &alone, uint32_t op, uint32_t handle) {
    const unsigned place = lane.ring.next_place();
    io_uring_sqe *sqe = lane.ring.sqe();
    if (!sqe) [[unlikely]]
      return nullptr;
    Pack *pack = lane.packs.take();
    const dmabuf_rw_uring_io io = {.file_offset = 0, .handle = handle, .flags = 0};
    *sqe = alone;
    sqe->cmd_op = op;
    sqe->addr = reinterpret_cast<uintptr_t>(pack->ranges);
    std::memcpy(&sqe->addr3, &io, sizeof(io));
    sqe->user_data = Packs::tag(pack);
    pack->entry = sqe;
    pack->place = place;
    pack->op = op;
    pack->handle = handle;
    lane.packs.open(pack);
    return pack;
  }

  static void hand(Lane &lane, Unit *unit, unsigned &done, unsigned end) {
    if (done < end) [[likely]]
      lane.ready[done++] = unit;
    else
      lane.packs.carried().push_back(unit);
  }

  /// What was left over before.
  static unsigned carry(Lane &lane, unsigned at, unsigned max) {
    auto &carried = lane.packs.carried();
    unsigned count = 0;
    for (; count < max && !carried.empty(); count++) {
      lane.ready[at + count] = carried.back();
      carried.pop_back();
    }
    return count;
  }

  static void fail(Lane &lane, Unit &unit) {
    Io::done(unit, lane.fatal, 0);
    lane.packs.carried().push_back(&unit);
  }
};

} // namespace dmabuf
