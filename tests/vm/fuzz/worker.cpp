// SPDX-License-Identifier: GPL-2.0-only
#include "worker.hpp"

#include "fds.hpp"
#include "lib/report.hpp"

#include <algorithm>

namespace vmtest::fuzz {

namespace {

std::array<decltype(Action::run), max_types> actions;

// By fd; of other files 0.
std::array<std::atomic<std::uint64_t>, 512> object_sizes;

bool avoid_known;

} // namespace

void prepare_actions() {
  static_assert(max_types >= 100);
  for (const auto &group : {ioctl_actions(), ring_actions(), file_actions(), memory_actions(),
                            object_actions(), process_actions()})
    for (const Action &action : group) {
      const std::uint8_t type = type_by_name(action.name);
      if (type >= types().size())
        die(std::format("{} is no type of call", action.name));
      actions[type] = action.run;
    }
  for (std::size_t i = 0; i < types().size(); ++i)
    if (!actions[i])
      die(std::format("nothing runs {}", types()[i].name));
}

void set_avoid_known(bool avoid) { avoid_known = avoid; }

bool avoids_known() { return avoid_known; }

std::uint64_t object_bytes(int fd) {
  return fd >= 0 && static_cast<std::size_t>(fd) < object_sizes.size()
             ? object_sizes[static_cast<std::size_t>(fd)].load(std::memory_order_relaxed)
             : 65536;
}

void set_object_bytes(int fd, std::uint64_t bytes) {
  object_sizes.at(static_cast<std::size_t>(fd)).store(bytes, std::memory_order_relaxed);
}

void Worker::run(const Program &program) {
  state_.running = program;
  for (state_.at = 0; state_.at < program.count; ++state_.at)
    run_call(state_.running.calls[state_.at]);
  ++state_.programs;
}

void Worker::run_next(std::uint64_t count, bool plain_only) {
  static const std::uint8_t plain[] = {
      type_by_name("io"),     type_by_name("map"),  type_by_name("unmap"), type_by_name("info"),
      type_by_name("open"),   type_by_name("read"), type_by_name("write"), type_by_name("pread"),
      type_by_name("pwrite"), type_by_name("query")};
  while (count-- && state_.at + 1 < state_.running.count) {
    const Call &call = state_.running.calls[++state_.at];
    if (!plain_only || std::ranges::contains(plain, call.type))
      run_call(call);
  }
}

void Worker::run_call(const Call &call) {
  state_.calls.store(state_.calls.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  const std::uint8_t outer = type_;
  type_ = call.type;
  Args args(call);
  ++state_.tallies[call.type].started;
  const double begin = now_s();
  const long result = actions[call.type](*this, args);
  state_.tallies[call.type].seconds += now_s() - begin;
  if (result < pending)
    tally(call.type, result);
  type_ = outer;
}

void Worker::tally(std::uint8_t type, long result) {
  Tally &tally = state_.tallies[type];
  if (result >= 0)
    ++tally.succeeded;
  else
    ++tally.errors[std::min<std::size_t>(static_cast<std::size_t>(-result), max_errno - 1)];
}

} // namespace vmtest::fuzz
