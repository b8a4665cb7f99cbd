// SPDX-License-Identifier: GPL-2.0-only
// What is refused to everybody, root among them, while a file is held; and works when it is not.
#include "files.hpp"

#include <csignal>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace vmtest {

namespace {

constexpr std::uint64_t file_bytes = 4u << 20;
constexpr std::uint32_t block = 4096;

struct Change {
  std::string name;
  std::function<int()> run; // 0 or a negative errno
  int while_held;
};

// The file's blocks shared with another, either way: the other is a copy of it.
int clone(const std::string &path) {
  const std::string other = path + ".clone";
  const UniqueFd from(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd to(::open(other.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  const int result = result_of(::ioctl(to.get(), FICLONE, from.get()));
  ::unlink(other.c_str());
  return result;
}

// Where the file system can, the copy shares the blocks.
int copy(const std::string &path) {
  const std::string other = path + ".copy";
  const UniqueFd from(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd to(::open(other.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  const ssize_t copied = ::copy_file_range(from.get(), nullptr, to.get(), nullptr, file_bytes, 0);
  const int result = result_of(copied);
  ::unlink(other.c_str());
  return result;
}

int dedupe(const std::string &path) {
  const std::string other = path + ".twin";
  make_file(other, file_bytes, 5);
  const UniqueFd from(::open(other.c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd to(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::vector<std::byte> room(sizeof(file_dedupe_range) + sizeof(file_dedupe_range_info));
  auto *const range = reinterpret_cast<file_dedupe_range *>(room.data());
  range->src_length = file_bytes;
  range->dest_count = 1;
  range->info[0].dest_fd = to.get();
  const int result = result_of(::ioctl(from.get(), FIDEDUPERANGE, range));
  ::unlink(other.c_str());
  if (result)
    return result;
  return range->info[0].status == FILE_DEDUPE_RANGE_SAME ? 0 : range->info[0].status;
}

// Each way to a file's blocks that there is.
std::vector<Change> changes(const FileSystem &fs, const std::string &path) {
  const auto opened = [path](int flags) {
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC);
    const int result = fd < 0 ? -errno : 0;
    if (fd >= 0)
      ::close(fd);
    return result;
  };
  std::vector<Change> all = {
      {"open for writing", [=] { return opened(O_WRONLY); }, ETXTBSY},
      {"open for both", [=] { return opened(O_RDWR); }, ETXTBSY},
      {"open by way of a descriptor for reading",
       [path] {
         const UniqueFd reader(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
         const UniqueFd writer(
             ::open(std::format("/proc/self/fd/{}", reader.get()).c_str(), O_RDWR | O_CLOEXEC));
         return writer ? 0 : -errno;
       },
       ETXTBSY},
      {"truncate, longer",
       [path] {
         const int result = result_of(::truncate(path.c_str(), file_bytes + block));
         return result ? result : result_of(::truncate(path.c_str(), file_bytes));
       },
       ETXTBSY},
      {"swapon", [path] { return result_of(::swapon(path.c_str(), 0)); }, ETXTBSY},
      {"unlink of its last name, and link again",
       [path, &fs] {
         const int kept = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
         int result = result_of(::unlink(path.c_str()));
         ::close(kept);
         if (!result)
           make_file(path, file_bytes, 5);
         return result;
       },
       EPERM},
      {"rename",
       [path] {
         const std::string renamed = path + ".new";
         const int result = result_of(::rename(path.c_str(), renamed.c_str()));
         return result ? result : result_of(::rename(renamed.c_str(), path.c_str()));
       },
       EPERM},
      {"rename of another over it",
       [path, &fs] {
         const std::string other = fs.path("other");
         make_file(other, file_bytes, 5);
         const int result = result_of(::rename(other.c_str(), path.c_str()));
         if (result)
           ::unlink(other.c_str());
         return result;
       },
       EPERM},
  };
  all.push_back({"copy_file_range from it", [path] { return copy(path); }, ETXTBSY});
  if (fs.name().starts_with("xfs")) {
    all.push_back({"dedupe", [path] { return dedupe(path); }, ETXTBSY});
    all.push_back({"clone", [path] { return clone(path); }, ETXTBSY});
  }
  return all;
}

void while_held(const FileSystem &fs, const DmaBuf &buffer) {
  const std::string path = fs.path("held");
  make_file(path, file_bytes, 5);
  const Session session;
  // Twice: what ends first does not let go of it.
  std::optional<HeldFile> first, second;
  first.emplace(session, buffer.fd(), path);
  second.emplace(session, buffer.fd(), path, DMABUF_RW_DIR_READ);
  report().check(first->error() == 0 && second->error() == 0, fs.name() + ": MAP twice",
                 errno_name(first->error()) + ", " + errno_name(second->error()));
  for (const bool again : {false, true}) {
    for (const Change &change : changes(fs, path)) {
      const int got = change.run();
      report().check(got == -change.while_held,
                     std::format("{}: {} of a file that is held{}", fs.name(), change.name,
                                 again ? " by the other mapping alone" : ""),
                     errno_name(got));
    }
    if (!again)
      report().check(first->release() == 0, "UNMAP of one of two");
  }
  file_holds(fs.name() + ": a file that is held can be read", path, 5);
  report().check(::chmod(path.c_str(), 0600) == 0, fs.name() + ": another mode", errno_name(errno));
  report().check(second->release() == 0, "UNMAP of the other");
  for (const Change &change : changes(fs, path)) {
    if (change.name == "swapon")
      continue; // it has no header of a swap file
    const int got = change.run();
    report().check(got == 0,
                   std::format("{}: {} when it is not held any more", fs.name(), change.name),
                   errno_name(got));
  }
}

// It is the mapping that keeps the file system mounted: nobody has a file of it open.
void mounted(const FileSystem &fs, const DmaBuf &buffer) {
  const std::string path = fs.path("mounted");
  const char *const type = fs.name().starts_with("xfs") ? "xfs" : "ext4";
  make_file(path, file_bytes, 5);
  const Session session;
  HeldFile held(session, buffer.fd(), path, DMABUF_RW_DIR_READ);
  held.close_file();
  int got = result_of(::umount2(mount_point, 0));
  report().check(held.error() == 0 && got == -EBUSY,
                 fs.name() + ": umount while a file is held, and no descriptor is left",
                 errno_name(got));
  got = held.move(nullptr, Direction::Read, 0, block, 0);
  report().check(got == static_cast<int>(block), fs.name() + ": the file is still read",
                 errno_name(got));
  report().check(held.release() == 0, "UNMAP of it");
  report().check(wait_for([] { return ::umount2(mount_point, 0) == 0; }, 30),
                 fs.name() + ": umount when it is not held any more", errno_name(errno));
  if (::mount(fs.node().c_str(), mount_point, type, 0, nullptr) != 0)
    die("mount: " + errno_name(errno));
}

// The mount cannot become read-only under somebody who writes.
void remount(const FileSystem &fs, const DmaBuf &buffer) {
  const std::string path = fs.path("remount");
  make_file(path, file_bytes, 6);
  const Session session;
  const auto read_only = [] {
    return result_of(::mount(nullptr, mount_point, nullptr, MS_REMOUNT | MS_RDONLY, nullptr));
  };
  {
    const HeldFile held(session, buffer.fd(), path);
    const int got = read_only();
    report().check(held.error() == 0 && got == -EBUSY,
                   fs.name() + ": remount read-only while a file is held to be written",
                   errno_name(got));
  }
  {
    const HeldFile held(session, buffer.fd(), path, DMABUF_RW_DIR_READ);
    report().check(held.error() == 0 && read_only() == 0,
                   fs.name() + ": remount read-only while a file is held to be read",
                   errno_name(errno));
    const UniqueFd file = open_target(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    refused(fs.name() + ": writing a file of a read-only mount", session, buffer.fd(), file.get(),
            EROFS, DMABUF_RW_REASON_READ_ONLY, DMABUF_RW_DIR_WRITE);
  }
  report().check(::mount(nullptr, mount_point, nullptr, MS_REMOUNT, nullptr) == 0,
                 fs.name() + ": remount", errno_name(errno));
}

// The second block of a file that is held, while its file system is frozen. Returns whether the
// write waited for that with its command, and not for the file's time, which was set a moment
// before and is due a second later.
bool frozen_while_mapped(const FileSystem &fs, const DmaBuf &buffer, const HeldFile &held,
                         const std::string &path, bool by_ring, std::uint32_t generation) {
  const std::string what = std::format("{}, frozen while it is mapped, by {}", fs.name(),
                                       by_ring ? "io_uring" : "the ioctl");
  const UniqueFd root(::open(mount_point, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  Ring ring(8, 0);
  {
    const CpuAccess access(buffer, true);
    fill_pattern(buffer.words(), generation, block);
  }
  const auto first_word = [&] {
    HostBuffer found(block);
    const UniqueFd plain = open_target(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    read_plain(plain.get(), found.words(), block);
    return found.words()[0];
  };
  const Word before = first_word();
  ::usleep(1200000);
  const double set = now_s();
  int got = held.move(nullptr, Direction::Write, 0, block, 0);
  report().check(got == static_cast<int>(block), what + ": a write before it", errno_name(got));
  if (::ioctl(root.get(), FIFREEZE, 0) != 0)
    die("FIFREEZE: " + errno_name(errno));
  std::atomic<bool> done = false;
  std::jthread writer([&] {
    got = held.move(by_ring ? &ring : nullptr, Direction::Write, 0, block, block);
    done = true;
  });
  ::usleep(300000);
  const bool in_time = now_s() - set < 0.9;
  report().check(!done, what + ": a write waits");
  report().check(first_word() == before, what + ": nothing is written");
  if (::ioctl(root.get(), FITHAW, 0) != 0)
    die("FITHAW: " + errno_name(errno));
  writer.join();
  report().check(got == static_cast<int>(block), what + ": and goes on", errno_name(got));
  report().check(first_word() == pattern_word(generation, block), what + ": the bytes");
  return in_time;
}

// A frozen file system is not written until it thaws, and is told of what was written.
void frozen(const FileSystem &fs, const DmaBuf &buffer) {
  const std::string path = fs.path("frozen");
  make_file(path, file_bytes, 8);
  for (const bool by_ring : {true, false}) {
    const std::string what =
        std::format("{}, frozen, by {}", fs.name(), by_ring ? "io_uring" : "the ioctl");
    const UniqueFd root(::open(mount_point, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    {
      const CpuAccess access(buffer, true);
      fill_pattern(buffer.words(), by_ring ? 9 : 10, 0);
    }
    const auto holds = [&](std::uint32_t generation) {
      HostBuffer found(block), wanted(block);
      const UniqueFd plain = open_target(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
      read_plain(plain.get(), found.words(), 0);
      fill_pattern(wanted.words(), generation, 0);
      return !compare_words(found.words(), wanted.words());
    };
    std::atomic<int> written = 0;
    std::atomic<bool> done = false;
    std::jthread writer;
    {
      if (::ioctl(root.get(), FIFREEZE, 0) != 0)
        die("FIFREEZE: " + errno_name(errno));
      writer = std::jthread([&] {
        const Session session;
        Ring ring(8);
        // It would have to set the file's time, and waits with that already.
        const HeldFile writes(session, buffer.fd(), path);
        written = writes.move(by_ring ? &ring : nullptr, Direction::Write, 0, block, 0);
        done = true;
      });
      ::usleep(300000);
      report().check(!done, what + ": a write waits");
      report().check(holds(by_ring ? 8 : 9), what + ": nothing is written");
      if (::ioctl(root.get(), FITHAW, 0) != 0)
        die("FITHAW: " + errno_name(errno));
    }
    writer.join();
    report().check(written == static_cast<int>(block), what + ": it is written when it thaws",
                   errno_name(written));
    report().check(holds(by_ring ? 9 : 10), what + ": the bytes");
  }
  // Mapped before, and no time has to be set, as that waits, too: it is the commands that wait.
  const Session session;
  const HeldFile held(session, buffer.fd(), path);
  std::uint32_t generation = 12;
  for (const bool by_ring : {true, false}) {
    bool in_time = false;
    for (int tries = 0; tries < 10 && !in_time; ++tries)
      in_time = frozen_while_mapped(fs, buffer, held, path, by_ring, generation++);
    report().check(in_time, fs.name() + ": frozen while no time has to be set");
  }
}

// A page that somebody has in the page cache is the new one after a write.
void page_cache(const FileSystem &fs, const DmaBuf &buffer) {
  const std::string path = fs.path("cached");
  make_file(path, file_bytes, 5);
  const UniqueFd reader(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::vector<Word> found(block / 8), wanted(block / 8);
  void *const view = ::mmap(nullptr, block, PROT_READ, MAP_SHARED, reader.get(), 0);
  if (view == MAP_FAILED)
    die("mmap: " + errno_name(errno));
  const auto cached = [&] {
    unsigned char there = 0;
    if (::mincore(view, block, &there) != 0)
      die("mincore: " + errno_name(errno));
    return (there & 1) != 0;
  };
  if (::pread(reader.get(), found.data(), block, 0) != block)
    die("pread: " + errno_name(errno));
  report().check(cached(), fs.name() + ": a page of the file is in the page cache");
  const Session session;
  const HeldFile held(session, buffer.fd(), path);
  report().check(!cached(), fs.name() + ": MAP drops it, so that no I/O looks for it");
  ::munmap(view, block);
  for (std::uint32_t generation = 11; generation < 15; ++generation) {
    if (::pread(reader.get(), found.data(), block, 0) != block)
      die("pread: " + errno_name(errno));
    {
      const CpuAccess access(buffer, true);
      fill_pattern(buffer.words(), generation, 0);
    }
    const int got = held.move(nullptr, Direction::Write, 0, block, 0);
    fill_pattern(wanted, generation, 0);
    report().check(
        got == static_cast<int>(block) && ::pread(reader.get(), found.data(), block, 0) == block &&
            !compare_words(found, wanted),
        fs.name() + ": a reader of the page cache sees what was written", errno_name(got));
  }
}

// Whoever is killed holds nothing any more.
void killed(const FileSystem &fs, const DmaBuf &buffer) {
  const std::string path = fs.path("killed");
  make_file(path, file_bytes, 5);
  int ready[2];
  if (::pipe2(ready, O_CLOEXEC) != 0)
    die("pipe");
  const pid_t child = ::fork();
  if (child == 0) {
    const Session session;
    Ring ring(8);
    const HeldFile held(session, buffer.fd(), path);
    const char byte = held.error() ? 'n' : 'y';
    if (::write(ready[1], &byte, 1) != 1)
      ::_exit(exit_setup);
    for (;;)
      held.move(&ring, Direction::Read, 0, 65536, 0);
  }
  char byte = 0;
  const bool mapped = ::read(ready[0], &byte, 1) == 1 && byte == 'y';
  const auto can_write = [&] {
    const UniqueFd writer(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    return !!writer;
  };
  report().check(mapped && !can_write(), fs.name() + ": a process holds a file");
  ::kill(child, SIGKILL);
  int status = 0;
  ::waitpid(child, &status, 0);
  report().check(wait_for(can_write, 30), fs.name() + ": it is killed, and holds it no more",
                 errno_name(errno));
}

} // namespace

void test_held(const FileSystem &fs) {
  auto made = DmaBuf::create(Exporter::Udmabuf, file_bytes);
  if (!made)
    die(made.error());
  const DmaBuf buffer = std::move(*made);
  while_held(fs, buffer);
  mounted(fs, buffer);
  test_defragmented(fs, buffer);
  remount(fs, buffer);
  frozen(fs, buffer);
  test_times(fs, buffer);
  test_changed(fs, buffer);
  page_cache(fs, buffer);
  test_killed_in_map(fs, buffer);
  killed(fs, buffer);
}

} // namespace vmtest
