// SPDX-License-Identifier: GPL-2.0-only
// A user who races MAP against everything that moves a file's blocks, so as to read what is in them
// when they are another's.
#include "files.hpp"

#include <algorithm>
#include <functional>

#include <csignal>
#include <fcntl.h>
#include <filesystem>
#include <linux/falloc.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace vmtest {

namespace {

constexpr std::uint64_t file_bytes = 1u << 20;
constexpr std::uint32_t secret = 77777, own = 88888;
// Until so many rounds had it mapped, and so many were refused; the limit is for a hang.
constexpr unsigned enough = 12;
constexpr double limit_s = 400;

// A word of the other's file is told from one's own by its generation.
bool is_secret(Word word) { return (word >> (64 - generation_bits)) == secret; }

// No file may be opened for writing by this process any more.
void give_up_writing() {
  const landlock_ruleset_attr attributes{.handled_access_fs = LANDLOCK_ACCESS_FS_WRITE_FILE};
  const UniqueFd rules(static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes,
                                                  sizeof(attributes.handled_access_fs), 0)));
  if (!rules || ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      ::syscall(SYS_landlock_restrict_self, rules.get(), 0) != 0)
    die("landlock: " + errno_name(errno));
}

// The debug kernel is built without.
bool has_landlock() {
  if (::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION) >= 0)
    return true;
  report().skip("landlock", errno_name(errno));
  return false;
}

// Who may not open a file for writing does not write it, though it is his and its mode lets him.
void sandboxed(const FileSystem &fs, const DmaBuf &buffer) {
  const std::string path = fs.path("sandbox");
  make_file(path, file_bytes, own);
  const UniqueFd file = open_target(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
  if (!has_landlock())
    return;
  in_child(fs.name() + ": a process in a sandbox", [&] {
    const Session session;
    give_up_writing();
    const UniqueFd writer(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    report().check(!writer && errno == EACCES, "the sandbox is one", errno_name(errno));
    refused("writing a file from a sandbox", session, buffer.fd(), file.get(), EACCES,
            DMABUF_RW_REASON_TARGET_MODE);
    auto entry = map_entry(buffer.fd(), file.get(), Path::Premapped, DMABUF_RW_DIR_READ);
    entry.flags = DMABUF_RW_MAP_HOLD_FILE;
    report().check(session.map_one(entry) == 0, "reading it", reason_name(entry.reason));
    return report().failures() ? exit_fail : exit_pass;
  });
}

// What is held is there for those who had the same rights when it was, and for readers.
void joined(const FileSystem &fs, const DmaBuf &buffer) {
  const std::string path = fs.path("joined");
  make_file(path, file_bytes, own);
  const UniqueFd file = open_target(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
  const Session session;
  const HeldFile held(session, buffer.fd(), path);
  const HeldFile more(session, buffer.fd(), path);
  report().check(held.error() == 0 && more.error() == 0, fs.name() + ": held twice for writing",
                 errno_name(more.error()));
  std::jthread([&] {
    const Session other;
    const HeldFile third(other, buffer.fd(), path);
    report().check(third.error() == 0, fs.name() + ": by a thread, too", errno_name(third.error()));
  }).join();
  in_child(fs.name() + ": a child", [&] {
    const Session other;
    refused("writing what its parent holds", other, buffer.fd(), file.get(), ETXTBSY,
            DMABUF_RW_REASON_FILE_BUSY);
    return report().failures() ? exit_fail : exit_pass;
  });
  const std::string read_first = fs.path("read-first");
  make_file(read_first, file_bytes, own);
  {
    const HeldFile reads(session, buffer.fd(), read_first, DMABUF_RW_DIR_READ);
    report().check(reads.error() == 0, fs.name() + ": held for reading", errno_name(reads.error()));
    const UniqueFd again = open_target(read_first, O_RDONLY | O_DIRECT | O_CLOEXEC);
    refused(fs.name() + ": writing what one holds for reading", session, buffer.fd(), again.get(),
            ETXTBSY, DMABUF_RW_REASON_FILE_BUSY);
  }
  const HeldFile writes(session, buffer.fd(), read_first);
  report().check(writes.error() == 0, fs.name() + ": and when it is not held any more",
                 errno_name(writes.error()));
  if (!has_landlock())
    return;
  in_child(fs.name() + ": another process", [&] {
    const Session other;
    give_up_writing();
    refused("writing what another process holds", other, buffer.fd(), file.get(), ETXTBSY,
            DMABUF_RW_REASON_FILE_BUSY);
    const HeldFile reads(other, buffer.fd(), path, DMABUF_RW_DIR_READ);
    report().check(reads.error() == 0, "reading it", errno_name(reads.error()));
    return report().failures() ? exit_fail : exit_pass;
  });
}

// A program that runs is not written.
void executed(const FileSystem &fs, const DmaBuf &buffer) {
  const std::string path = fs.path("program");
  std::filesystem::copy_file("/bin/sleep", path, std::filesystem::copy_options::overwrite_existing);
  const auto begin = [&] {
    const pid_t child = ::fork();
    if (child == 0) {
      ::execl(path.c_str(), "sleep", "1000", static_cast<char *>(nullptr));
      ::_exit(exit_setup);
    }
    const std::string link = std::format("/proc/{}/exe", child);
    if (!wait_for(
            [&] {
              std::error_code none;
              return std::filesystem::read_symlink(link, none) == path;
            },
            30))
      die("execve of " + path);
    return child;
  };
  const auto end = [](pid_t child) {
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
  };
  const Session session;
  Ring ring(8);
  pid_t child = begin();
  {
    const UniqueFd file = open_target(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    refused(fs.name() + ": writing a program that runs", session, buffer.fd(), file.get(), ETXTBSY,
            DMABUF_RW_REASON_FILE_BUSY);
  }
  end(child);
  const HeldFile held(session, buffer.fd(), path);
  report().check(held.error() == 0, fs.name() + ": a program that does not run",
                 errno_name(held.error()));
  int got = held.move(&ring, Direction::Read, 0, 4096, 0);
  report().check(got == 4096, fs.name() + ": it is read", errno_name(got));
  child = begin();
  for (Ring *const way : {&ring, static_cast<Ring *>(nullptr)}) {
    got = held.move(way, Direction::Write, 0, 4096, 0);
    report().check(got == -ETXTBSY, fs.name() + ": it runs, and is not written", errno_name(got));
    got = held.move(way, Direction::Read, 0, 4096, 0);
    report().check(got == 4096, fs.name() + ": it runs, and is read", errno_name(got));
  }
  end(child);
  report().check(
      wait_for([&] { return held.move(&ring, Direction::Write, 0, 4096, 0) == 4096; }, 30),
      fs.name() + ": it has ended, and is written");
}

// A lease on the file is broken before it is written, and a signal ends the wait for that: with an
// errno that programs know.
void leased(const FileSystem &fs, const DmaBuf &buffer) {
  const std::string path = fs.path("leased");
  make_file(path, file_bytes, own);
  const UniqueFd holder(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ::signal(SIGIO, SIG_IGN);
  if (::fcntl(holder.get(), F_SETLEASE, F_RDLCK) != 0)
    die("F_SETLEASE: " + errno_name(errno));
  in_child(fs.name() + ": a process that gets signals", [&] {
    const Session session;
    const UniqueFd file = open_target(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    struct sigaction nothing{};
    nothing.sa_handler = [](int) {};
    // Again and again, as the first may come before MAP waits.
    const itimerval often{.it_interval = {.tv_sec = 0, .tv_usec = 300000},
                          .it_value = {.tv_sec = 0, .tv_usec = 300000}};
    if (::sigaction(SIGALRM, &nothing, nullptr) != 0 ||
        ::setitimer(ITIMER_REAL, &often, nullptr) != 0)
      die("setitimer: " + errno_name(errno));
    refused("writing a file with a lease, interrupted", session, buffer.fd(), file.get(), EINTR,
            DMABUF_RW_REASON_INTERRUPTED);
    return report().failures() ? exit_fail : exit_pass;
  });
  // The holder gives it up, as it was asked to.
  if (::fcntl(holder.get(), F_SETLEASE, F_UNLCK) != 0)
    die("F_SETLEASE: " + errno_name(errno));
  const Session session;
  const HeldFile held(session, buffer.fd(), path);
  report().check(held.error() == 0, fs.name() + ": the lease is gone, and the file is mapped",
                 errno_name(held.error()));
}

// The file's blocks are taken away, and given to another user, while the file is mapped and read.
class Race {
public:
  explicit Race(const FileSystem &fs) : fs_(fs), path_(fs.path("mine")) {
    make_file(path_, file_bytes, own);
    threads_.emplace_back([this] { change(0); });
    threads_.emplace_back([this] { change(1); });
    threads_.emplace_back([this] { other(); });
  }
  Race(const Race &) = delete;
  Race &operator=(const Race &) = delete;
  ~Race() { stop(); }

  void run(const DmaBuf &buffer) {
    const Session session;
    Ring ring(8);
    const double begin = now_s();
    while (!enough_seen() && now_s() - begin < limit_s) {
      const HeldFile held(session, buffer.fd(), path_, DMABUF_RW_DIR_READ);
      if (held.error()) {
        ++refused_maps_;
        ::usleep(100);
        holes_ += held.entry().reason == DMABUF_RW_REASON_FILE_HOLE;
        continue;
      }
      ++mapped_;
      read(buffer, ring, held);
    }
    stop();
    report().check(secrets_ == 0, fs_.name() + ": no byte of another's file is ever read",
                   std::format("{} words", secrets_));
    report().check(
        enough_seen(), fs_.name() + ": the race was run",
        std::format("{} mapped, {} holes, {} changes", mapped_, holes_, punched_.load()));
    report().note(std::format(
        "{}: mapped {} times, refused {} times ({} for holes); blocks taken away {} times, "
        "refused {} times",
        fs_.name(), mapped_, refused_maps_, holes_, punched_.load(), refused_changes_.load()));
  }

private:
  bool enough_seen() const { return mapped_ >= enough && holes_ >= enough && punched_ >= enough; }

  void stop() {
    stop_ = true;
    threads_.clear();
  }

  void read(const DmaBuf &buffer, Ring &ring, const HeldFile &held) {
    for (unsigned i = 0; i < 4; ++i) {
      {
        const CpuAccess access(buffer, true);
        std::ranges::fill(buffer.words(), pattern_word(buffer_poison, 0));
      }
      const int got = held.move(&ring, Direction::Read, 0, file_bytes, 0);
      if (got != static_cast<int>(file_bytes)) {
        report().fail(fs_.name() + ": a read of what is mapped", errno_name(got));
        return;
      }
      const CpuAccess access(buffer, false);
      secrets_ += static_cast<unsigned>(std::ranges::count_if(buffer.words(), is_secret));
    }
  }

  // Takes the file's blocks away, and gives it new ones: written back or not, or only a moment
  // later.
  void change(unsigned how) {
    for (unsigned round = how; !stop_; ++round, ::usleep(3000)) {
      UniqueFd file(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
      if (!file) {
        ++refused_changes_;
        continue;
      }
      const off_t at = static_cast<off_t>(round % 16 * 65536);
      if (round % 2)
        ::fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, 65536);
      else if (::ftruncate(file.get(), at) == 0 && ::ftruncate(file.get(), file_bytes) != 0)
        break;
      ++punched_;
      if (round % 3 == 0) {
        file.reset();
        ::usleep(1000);
        file = UniqueFd(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
        if (!file)
          continue;
      }
      write_all(file.get(), own);
      if (round % 5 == 0)
        ::fdatasync(file.get());
    }
  }

  // The other user: writes files anew in whatever blocks are free.
  void other() {
    for (unsigned round = 0; !stop_; ++round) {
      const std::string name = fs_.path(std::format("other.{}", round % 8));
      const UniqueFd file(::open(name.c_str(), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600));
      write_all(file.get(), secret);
      ::fdatasync(file.get());
      ::usleep(3000);
    }
  }

  // Up to the first write that does not succeed.
  static void write_all(int file, std::uint32_t generation) {
    std::vector<Word> words(65536 / 8);
    for (std::uint64_t at = 0; at < file_bytes; at += 65536) {
      fill_pattern(words, generation, at);
      if (::pwrite(file, words.data(), 65536, static_cast<off_t>(at)) != 65536)
        break;
    }
  }

  const FileSystem &fs_;
  const std::string path_;
  std::atomic<bool> stop_ = false;
  std::atomic<unsigned> punched_ = 0, refused_changes_ = 0;
  unsigned mapped_ = 0, refused_maps_ = 0, secrets_ = 0, holes_ = 0;
  std::vector<std::jthread> threads_;
};

} // namespace

void test_hostile(const FileSystem &fs) {
  auto made = DmaBuf::create(Exporter::Udmabuf, file_bytes);
  if (!made)
    die(made.error());
  const DmaBuf buffer = std::move(*made);
  sandboxed(fs, buffer);
  joined(fs, buffer);
  executed(fs, buffer);
  leased(fs, buffer);
  Race(fs).run(buffer);
}

} // namespace vmtest
