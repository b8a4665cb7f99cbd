// SPDX-License-Identifier: GPL-2.0-only
// Completions that the block layer loses: the driver takes the commands back. Whatever is reported
// good has the right bytes, and what is not says so.
#include "faults.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/sysfs.hpp"

#include <cerrno>
#include <filesystem>
#include <vector>

namespace vmtest {

void timeouts() {
  const UniqueFd target = open_target("/dev/nvme0n1");
  DiskRegion region(target.get(), 64 << 20, buffer_bytes);
  region.lay_down_all(9);
  auto made = DmaBuf::create(Exporter::UdmabufScattered, buffer_bytes);
  if (!made)
    die(made.error());
  const DmaBuf buffer = std::move(*made);
  // The queue that takes the commands: a multipath head's path.
  std::vector<std::string> disks;
  for (const auto &entry : std::filesystem::directory_iterator("/sys/class/nvme/nvme0"))
    if (const std::string name = entry.path().filename();
        name.starts_with("nvme0") && name.ends_with("n1"))
      disks.push_back(entry.path());
  if (disks.empty())
    die("no disk of nvme0");
  const auto set = [](const std::string &file, std::string_view value) {
    if (const int error = write_file(file, value))
      die(std::format("{}: {}", file, errno_name(error)));
  };
  for (const std::string &disk : disks) {
    set(disk + "/io-timeout-fail", "1");
    set(disk + "/queue/io_timeout", "1000");
  }
  setting("fail_io_timeout/verbose", "0");
  setting("fail_io_timeout/task-filter", "N");
  for (const Path path : paths_here()) {
    for (const std::uint32_t hint : {0u, 8192u}) {
      if (hint && path != Path::Premapped)
        continue;
      Session session;
      Ring ring(8);
      if (path == Path::Registered)
        ring.make_buffer_table(1);
      Mover mover(session, ring, buffer.fd(), target.get(), path, 0, both_directions, hint);
      if (mover.error())
        die("MAP: " + errno_name(mover.error()));
      for (const bool by_ioctl : {false, true}) {
        if (by_ioctl && path == Path::Registered)
          continue;
        const std::string name =
            std::format("{}{}{}, a completion is lost", name_of(path),
                        hint ? ", several commands" : "", by_ioctl ? ", by ioctl" : "");
        {
          const CpuAccess access(buffer, true);
          fill_pattern(buffer.words(), buffer_poison, 0);
        }
        setting("fail_io_timeout/times", "1");
        setting("fail_io_timeout/probability", "100");
        const int got = by_ioctl ? mover.waited(Direction::Read, 0, buffer_bytes, region.base())
                                 : mover.transfer(Direction::Read, 0, buffer_bytes, region.base());
        setting("fail_io_timeout/probability", "0");
        report().check(number_in("/sys/kernel/debug/fail_io_timeout/times") == 0,
                       name + ": for sure");
        report().check(got == static_cast<int>(buffer_bytes) || got == -ETIMEDOUT || got == -EIO,
                       name, errno_name(got));
        report().note(
            std::format("{}: {}", name, got < 0 ? errno_name(got) : std::format("{} bytes", got)));
        const int again = mover.transfer(Direction::Read, 0, buffer_bytes, region.base());
        report().check(again == static_cast<int>(buffer_bytes), name + ": the next one",
                       errno_name(again));
        const CpuAccess access(buffer, false);
        const auto wrong =
            compare_words(buffer.words(), region.expected(region.base(), buffer_bytes));
        report().check(!wrong, name + ": its data", wrong ? describe(*wrong, 0) : "");
      }
      report().check(mover.release() == 0, "release");
    }
  }
  for (const std::string &disk : disks) {
    set(disk + "/io-timeout-fail", "0");
    set(disk + "/queue/io_timeout", "30000");
  }
}

} // namespace vmtest
