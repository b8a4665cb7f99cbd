// SPDX-License-Identifier: GPL-2.0-only
// A thread that guesses a handle unmaps it while the MAP that made it is still on its way.
//
// MAP gives the mapping its handle in dmabuf_rw_session_insert(). That call is made to come back
// late, so that the UNMAP has all the time it needs to free what it can free.
#include "attacks.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <thread>

namespace vmtest {

namespace {

constexpr std::size_t buffer_bytes = 1u << 20;
constexpr unsigned late_ms = 300;
constexpr int rounds = 3;

void one_round(const Hurt &hurt, const DmaBuf &buffer, int target, Path path,
               std::uint32_t segments) {
  Session session;
  dmabuf_rw_query query{};
  if (session.query(query) != 0)
    die("QUERY");
  // The first handle of a session: slot 0, first generation.
  const std::uint32_t guess = query.max_mappings;
  if (!std::has_single_bit(guess))
    die("handles are not made of slot and generation any more");
  auto entry = map_entry(buffer.fd(), target, path);
  int mapped = -1;
  std::jthread mapper([&] {
    hurt.slow("dmabuf_rw_session_insert", late_ms);
    mapped = session.map_one(entry);
    hurt.slow_off();
  });
  // slowed() counts from 0 with each slow().
  int unmapped = -ENOENT;
  const bool published = wait_for(
      [&] {
        unmapped = session.unmap_one(guess);
        return unmapped == 0;
      },
      20);
  mapper.join();
  const auto name = std::format("{}, unmapped while it is being mapped", name_of(path));
  if (!report().check(published, name + ": the guess is right", errno_name(unmapped)))
    return;
  report().check(mapped == 0 && entry.handle == guess, name + ": MAP",
                 std::format("{}, handle {:#x}", errno_name(mapped), entry.handle));
  report().check(entry.segments == segments, name + ": MAP describes what it had made",
                 std::format("{} segments instead of {}", entry.segments, segments));
}

} // namespace

void attack_publish() {
  const Hurt hurt;
  const DmaBuf buffer = make_buffer(buffer_bytes);
  const UniqueFd target = open_target(drive);
  std::vector<Path> paths = paths_here();
  std::ranges::reverse(paths); // premapped last: there it was an oops
  for (const Path path : paths) {
    auto entry = map_entry(buffer.fd(), target.get(), path);
    {
      const Session session;
      if (const int error = session.map_one(entry))
        die(std::format("MAP {}: {}", name_of(path), errno_name(error)));
    }
    for (int round = 0; round < rounds; ++round)
      one_round(hurt, buffer, target.get(), path, entry.segments);
  }
}

} // namespace vmtest
