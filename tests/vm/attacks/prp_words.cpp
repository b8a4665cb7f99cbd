// SPDX-License-Identifier: GPL-2.0-only
// A driver that writes PRP words of its own into commands that have no segments: premapped, whose
// commands are such, is refused before the first byte of anybody's moves, and the others serve.
//
// The module looks once, with its first NVMe target. So this is the first attack of its guest.
#include "attacks.hpp"

#include <algorithm>

namespace vmtest {

namespace {

constexpr std::uint32_t length = 65536;

} // namespace

void attack_prp_words() {
  const UniqueFd target = open_target(drive);
  const DmaBuf buffer = make_buffer(length);
  HostBuffer host(length);
  // A block that is full of what the module looks for first tells it nothing; the second look does.
  std::ranges::fill(host.words(), 0xa5a5a5a5a5a5a5a5u);
  write_plain(target.get(), host.words(), 0);
  const Session session;
  {
    const Hurt hurt;
    hurt.divert(true);
    auto entry = map_entry(buffer.fd(), target.get(), Path::Premapped);
    const int refused = session.map_one(entry);
    report().check(refused == -EOPNOTSUPP && entry.reason == DMABUF_RW_REASON_KERNEL,
                   "MAP where the driver writes PRP words of its own",
                   std::format("{}, reason {}", errno_name(refused), entry.reason));
    report().check(hurt.diverted() == 2, "two commands show it",
                   std::format("{} commands", hurt.diverted()));
    entry = map_entry(buffer.fd(), target.get(), Path::Auto);
    const int other = session.map_one(entry);
    report().check(other == 0 && entry.path == DMABUF_RW_PATH_REGISTERED,
                   "AUTO takes another path there",
                   std::format("{}, path {}", errno_name(other), std::uint32_t{entry.path}));
    hurt.divert(false);
  }
  const Trace trace{"nvme/nvme_setup_cmd"};
  for (int round = 0; round < 2; ++round) {
    auto entry = map_entry(buffer.fd(), target.get(), Path::Premapped);
    const int error = session.map_one(entry);
    report().check(error == 0, "MAP where it does not", errno_name(error));
    if (!error)
      report().check(session.unmap_one(entry.handle) == 0, "UNMAP");
  }
  const auto looked = trace.count({"nvme_cmd_read"});
  report().check(looked == 2, "the module looks once",
                 std::format("{} reads for two mappings", looked));
}

} // namespace vmtest
