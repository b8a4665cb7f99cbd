// SPDX-License-Identifier: GPL-2.0-only
// A driver that writes PRP words of its own into commands that have no segments: premapped, whose
// commands are such, is refused before the first byte of anybody's moves, and the others serve.
//
// The module looks once for as long as the drive's driver is bound; each case binds it anew.
#include "attacks.hpp"

#include <algorithm>
#include <filesystem>

namespace vmtest {

namespace {

constexpr std::uint32_t length = 65536;
constexpr std::string_view nvme_driver = "/sys/bus/pci/drivers/nvme";

// The driver leaves the drive, and with it goes what the module knows of the driver.
void bind_anew() {
  const std::string function =
      std::filesystem::path(std::filesystem::canonical("/sys/class/block/nvme0n1/device/device"))
          .filename();
  for (const char *what : {"unbind", "bind"})
    shell(std::format("echo {} > {}/{}", function, nvme_driver, what));
  if (!wait_for([] { return ::access(drive, R_OK | W_OK) == 0; }, 30))
    die("the drive does not come back");
}

// MAP where PRP words are changed: refused. After so many changed words the module knows.
void changed(const Hurt &hurt, const DmaBuf &buffer, std::string_view what, int words, int reads) {
  bind_anew();
  const std::string name = std::format("a driver that changes words ({})", what);
  const UniqueFd target = open_target(drive);
  const Session session;
  const Trace trace{"nvme/nvme_setup_cmd"};
  hurt.divert(what);
  for (int round = 0; round < 2; ++round) {
    auto entry = map_entry(buffer.fd(), target.get(), Path::Premapped);
    const int refused = session.map_one(entry);
    report().check(refused == -EOPNOTSUPP && entry.reason == DMABUF_RW_REASON_KERNEL,
                   name + ": MAP", std::format("{}, reason {}", errno_name(refused), entry.reason));
  }
  report().check(hurt.diverted() == words, name + ": is found out, and not tried again",
                 std::format("{} words were changed", hurt.diverted()));
  const auto read = trace.count({"nvme_cmd_read"});
  report().check(read == static_cast<std::size_t>(reads), name + ": reads",
                 std::format("{} instead of {}", read, reads));
  auto entry = map_entry(buffer.fd(), target.get(), Path::Auto);
  const int other = session.map_one(entry);
  report().check(other == 0 && entry.path == static_cast<std::uint32_t>(pages_path()),
                 name + ": AUTO takes another path",
                 std::format("{}, path {}", errno_name(other), std::uint32_t{entry.path}));
  hurt.divert("off");
}

void unchanged(const DmaBuf &buffer) {
  bind_anew();
  const UniqueFd target = open_target(drive);
  const Session session;
  const Trace trace{"nvme/nvme_setup_cmd"};
  for (int round = 0; round < 2; ++round) {
    auto entry = map_entry(buffer.fd(), target.get(), Path::Premapped);
    const int error = session.map_one(entry);
    report().check(error == 0, "a driver that keeps the words: MAP", errno_name(error));
    if (!error)
      report().check(session.unmap_one(entry.handle) == 0, "UNMAP");
  }
  const auto flushes = trace.count({"nvme_cmd_flush"}), reads = trace.count({"nvme_cmd_read"});
  report().check(flushes == 1 && reads == 2, "a driver that keeps the words: is looked at once",
                 std::format("{} flushes, {} reads", flushes, reads));
}

} // namespace

void attack_prp_words() {
  const DmaBuf buffer = make_buffer(length);
  {
    // What is full of what the module reads over first tells it nothing; the second read does.
    const UniqueFd target = open_target(drive);
    HostBuffer host(length);
    std::ranges::fill(host.words(), 0xa5a5a5a5a5a5a5a5u);
    write_plain(target.get(), host.words(), 0);
  }
  const Hurt hurt;
  changed(hurt, buffer, "all", 1, 0);
  changed(hurt, buffer, "data", 2, 2);
  changed(hurt, buffer, "second", 2, 2);
  unchanged(buffer);
}

} // namespace vmtest
