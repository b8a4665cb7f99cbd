// SPDX-License-Identifier: GPL-2.0-only
// Device memory: the drive reads and writes a PCI BAR, byte for byte, each direction alone;
// what has no pages refuses the datapaths that need them; taking the memory away is noticed.
//
// usage: p2p            the machine lets the two talk (dmabuf-lab run --p2p)
//        p2p --no-route it does not (--p2p --cpu qemu64)
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/target.hpp"
#include "lib/vfio_bar.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <vector>

namespace vmtest {

namespace {

constexpr std::size_t buffer_bytes = 8u << 20;
constexpr std::uint64_t disk_base = 64u << 20;

struct Case {
  std::uint64_t offset; // in the buffer
  std::uint32_t bytes;
};

// One sector to all of it, at offsets inside pages and over PRP list boundaries.
std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::uint32_t bytes : {512u, 4096u, 8192u, 12288u, 131072u, 524288u, 2097152u})
    for (const std::uint64_t offset :
         {0ul, 512ul, 4096ul * 509, 4096ul * 510 + 1536, 4096ul * 1021})
      all.push_back({offset, bytes});
  all.push_back({0, buffer_bytes});
  return all;
}

void check_info(const Session &session, const Mover &mover, std::uint64_t transfers) {
  dmabuf_rw_info info = {};
  report().check(session.info(mover.entry().handle, info) == 0, "INFO");
  report().check(info.memory == DMABUF_RW_MEM_PEER, "INFO says the memory is a peer's",
                 std::format("memory class {}", info.memory));
  report().check(info.route == DMABUF_RW_ROUTE_HOST_BRIDGE, "INFO says the way is the host bridge",
                 std::format("route {}", info.route));
  report().check(info.reads + info.writes == transfers, "every transfer was counted",
                 std::format("{} of {}", info.reads + info.writes, transfers));
  report().note(std::format("{} segments, {} commands for {} transfers", info.segments,
                            info.commands, transfers));
}

// Data laid down by plain pwrite comes into the poisoned BAR, and nothing beside it changes.
void check_read(Mover &mover, std::span<Word> bar, DiskRegion &disk, const Case &c) {
  std::ranges::fill(bar, pattern_word(buffer_poison, 0));
  std::vector<Word> want(bar.begin(), bar.end());
  const auto from = disk.expected(disk.base(), c.bytes);
  std::ranges::copy(from, want.begin() + static_cast<std::ptrdiff_t>(c.offset / 8));
  const int result = mover.transfer(Direction::Read, c.offset, c.bytes, disk.base());
  if (!report().check(result == static_cast<int>(c.bytes), "read into the BAR", errno_name(result)))
    return;
  const auto wrong = compare_words(bar, want);
  report().check(!wrong, "every byte of the BAR after a read", wrong ? describe(*wrong, 0) : "");
}

// What is in the BAR arrives on the drive, and nothing beside it, seen by plain pread.
void check_write(Mover &mover, std::span<Word> bar, DiskRegion &disk, const Case &c,
                 std::uint32_t generation) {
  fill_pattern(bar, generation, disk.base() - c.offset);
  const int result = mover.transfer(Direction::Write, c.offset, c.bytes, disk.base());
  if (!report().check(result == static_cast<int>(c.bytes), "write from the BAR",
                      errno_name(result)))
    return;
  fill_pattern(disk.expected(disk.base(), c.bytes), generation, disk.base());
  const auto wrong = disk.check(disk.base(), c.bytes, 65536);
  report().check(!wrong, "every byte on the drive after a write", wrong.value_or(""));
}

void check_refused(Session &session, int fd, int target, Path path, std::uint32_t reason) {
  auto entry = map_entry(fd, target, path);
  const int result = session.map_one(entry);
  report().check(result == -EOPNOTSUPP && entry.reason == reason,
                 std::format("{} of a BAR is refused", name_of(path)),
                 std::format("{} {}", errno_name(result), reason_name(entry.reason)));
}

// The function stops decoding memory: I/O ends with a name, and works again afterwards.
void check_revoked(Session &session, Mover &mover, const VfioBar &device, DiskRegion &disk) {
  report().check(device.set_memory(false), "memory decoding off");
  int result = mover.transfer(Direction::Read, 0, 4096, disk.base());
  dmabuf_rw_info info = {};
  session.info(mover.entry().handle, info);
  report().check(result == -ENODEV, "I/O to memory that is gone", errno_name(result));
  report().check(info.last_reason == DMABUF_RW_REASON_REVOKED &&
                     info.state == DMABUF_RW_STATE_REVOKED && info.invalidations == 1,
                 "and its reason", reason_name(info.last_reason));
  report().check(device.set_memory(true), "memory decoding on");
  result = mover.transfer(Direction::Read, 0, 4096, disk.base());
  report().check(result == 4096, "I/O to memory that is back", errno_name(result));
}

void run(const VfioBar &device, int fd, int target) {
  Session session;
  Ring ring(8);
  const auto bar = device.words().first(buffer_bytes / sizeof(Word));
  const std::uint64_t margin = 65536;
  DiskRegion disk(target, disk_base, buffer_bytes + margin);
  disk.lay_down_all(1);

  check_refused(session, fd, target, Path::Registered, DMABUF_RW_REASON_NO_CPU_VIEW);
  check_refused(session, fd, target, Path::Bvec, DMABUF_RW_REASON_NO_CPU_VIEW);
  Mover mover(session, ring, fd, target, Path::Auto);
  if (!report().check(
          mover.error() == 0, "AUTO maps a BAR",
          std::format("{} {}", errno_name(mover.error()), reason_name(mover.entry().reason))))
    return;
  report().check(mover.entry().path == DMABUF_RW_PATH_PREMAPPED, "and takes premapped");

  std::uint64_t transfers = 0;
  for (const Case &c : cases()) {
    check_read(mover, bar, disk, c);
    check_write(mover, bar, disk, c, static_cast<std::uint32_t>(2 + transfers));
    transfers += 2;
  }
  check_info(session, mover, transfers);
  check_revoked(session, mover, device, disk);
}

void run_without_route(int fd, int target) {
  Session session;
  auto entry = map_entry(fd, target, Path::Premapped);
  const int result = session.map_one(entry);
  report().check(result == -EOPNOTSUPP && entry.reason == DMABUF_RW_REASON_NO_P2P_ROUTE,
                 "premapped without a route",
                 std::format("{} {}", errno_name(result), reason_name(entry.reason)));
}

} // namespace

} // namespace vmtest

int main(int argc, char **argv) {
  using namespace vmtest;
  const bool no_route = argc == 2 && std::string_view(argv[1]) == "--no-route";
  if (argc > 1 && !no_route)
    die("usage: p2p [--no-route]");
  const auto device = VfioBar::open();
  if (!device)
    die(device.error());
  const auto fd = device->export_range(buffer_bytes);
  if (!fd)
    die(fd.error());
  const UniqueFd target = open_target("/dev/nvme0n1");
  if (no_route)
    run_without_route(fd->get(), target.get());
  else
    run(*device, fd->get(), target.get());
  report().note(std::format("{} MiB compared", compared_bytes() >> 20));
  return report().finish("p2p");
}
