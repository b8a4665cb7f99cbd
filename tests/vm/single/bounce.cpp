// SPDX-License-Identifier: GPL-2.0-only
// A machine that copies all memory for its devices (swiotlb=force), or one whose devices do not
// look into the CPU's caches: premapped is refused, because a mapping that is kept would be stale
// after its first I/O; AUTO takes another path and says why.
//
// usage: bounce        (dmabuf-lab run --iommu off --append swiotlb=force,
//                       or --arch arm64 --incoherent)
// Destroys the data on /dev/nvme0n1.
#include "lib/exporter.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/target.hpp"

#include <cerrno>
#include <utility>

namespace vmtest {

namespace {

// Small: there is little memory to copy through, and no piece of it is longer than 256 KiB.
constexpr std::size_t bytes = 64u << 10;
constexpr std::uint64_t disk_base = 64u << 20;

// AUTO's choice, and that it moves the right bytes, each direction alone.
void check_auto(const std::string &name, const DmaBuf &buffer, int target, DiskRegion &region,
                bool data) {
  Session session;
  auto entry = map_entry(buffer.fd(), target, Path::Auto);
  const int error = session.map_one(entry);
  if (!report().check(error == 0, name + ": AUTO",
                      errno_name(error) + ", " + reason_name(entry.reason)))
    return;
  report().check(entry.path != DMABUF_RW_PATH_PREMAPPED, name + ": AUTO takes another path");
  report().check(entry.refused[DMABUF_RW_PATH_PREMAPPED] == DMABUF_RW_REASON_BOUNCE,
                 name + ": AUTO says why it passed premapped over",
                 reason_name(entry.refused[DMABUF_RW_PATH_PREMAPPED]));
  const auto path = static_cast<Path>(entry.path);
  session.unmap_one(entry.handle);
  if (!data)
    return;

  Ring ring(8);
  ring.make_buffer_table(1);
  Mover mover(session, ring, buffer.fd(), target, path);
  region.lay_down_all(2);
  {
    const CpuAccess access(buffer, true);
    fill_pattern(buffer.words(), buffer_poison, 0);
  }
  int moved = mover.transfer(Direction::Read, 0, bytes, disk_base);
  report().check(moved == static_cast<int>(bytes), name + ": read", errno_name(moved));
  {
    const CpuAccess access(buffer, true);
    const auto wrong = compare_words(buffer.words(), region.expected(disk_base, bytes));
    report().check(!wrong, name + ": every byte read", wrong ? describe(*wrong, 0) : "");
    fill_pattern(buffer.words(), 3, disk_base);
  }
  moved = mover.transfer(Direction::Write, 0, bytes, disk_base);
  report().check(moved == static_cast<int>(bytes), name + ": write", errno_name(moved));
  fill_pattern(region.expected(disk_base, bytes), 3, disk_base);
  const auto wrong = region.check_all();
  report().check(!wrong, name + ": every byte written", wrong.value_or(""));
}

void run() {
  const UniqueFd target = open_target("/dev/nvme0n1"), plain = open_target("/dev/nvme0n1");
  DiskRegion region(plain.get(), disk_base, bytes);
  const auto before = live_dmabufs();
  for (const Exporter exporter :
       those_there({Exporter::UdmabufScattered, Exporter::Heap, Exporter::Vgem})) {
    const std::string name(name_of(exporter));
    auto buffer = DmaBuf::create(exporter, bytes);
    if (!buffer)
      die(buffer.error());
    for (const std::uint32_t directions :
         {std::uint32_t{DMABUF_RW_DIR_READ}, std::uint32_t{DMABUF_RW_DIR_WRITE}, both_directions}) {
      const Session session;
      auto entry = map_entry(buffer->fd(), target.get(), Path::Premapped, directions);
      const int error = session.map_one(entry);
      report().check(error == -EOPNOTSUPP && entry.reason == DMABUF_RW_REASON_BOUNCE,
                     std::format("{}: premapped is refused, directions {}", name, directions),
                     errno_name(error) + ", " + reason_name(entry.reason));
    }
    // udmabuf's own bookkeeping for the CPU copies stale data over what arrived here: no witness.
    check_auto(name, *buffer, target.get(), region, exporter != Exporter::UdmabufScattered);
  }
  std::optional<long> now = live_dmabufs();
  for (int tries = 0; tries < 150 && now != before; ++tries, now = live_dmabufs())
    ::usleep(20000);
  report().check(now == before, "no dma-buf left");
}

} // namespace

} // namespace vmtest

int main(int argc, char **) {
  using namespace vmtest;
  if (argc > 1)
    die("usage: bounce");
  run();
  return report().finish("bounce");
}
