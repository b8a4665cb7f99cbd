// SPDX-License-Identifier: GPL-2.0-only
// Two users on one drive: one takes all that he can get of sessions, mappings, locked memory, rw
// fds and descriptors, and keeps it. The other one's small reads go on at their rate, and his own
// MAP and OPEN work.
//
// usage: users [--pairs N]
// The rate is measured with and without, in turn, and each pair compared: the median of the pairs
// counts. On a machine that is busy with other things, more pairs are made.
#include "lib/exporter.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/session.hpp"
#include "lib/target.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <grp.h>
#include <optional>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <vector>

namespace vmtest {

namespace {

constexpr std::uint64_t disk_base = 320u << 20;
constexpr std::uint32_t small = 4096;
constexpr std::size_t long_bytes = 4u << 20;
constexpr unsigned reads_a_turn = 2000;
constexpr unsigned deep = 64; // long reads in flight
constexpr double least_ratio = 0.90;
constexpr unsigned more_pairs = 5; // times as many, until the median is known

// What a child is told to do, and what it answers.
enum class Do : char { Measure, Prove, Take, Flood, Settle, LetGo, End };
struct Answer {
  double value = 0;
  char text[240] = {};
};

void become(unsigned user) {
  const rlimit files{.rlim_cur = 16384, .rlim_max = 16384};
  if (::setrlimit(RLIMIT_NOFILE, &files) != 0 || ::setgroups(0, nullptr) != 0 ||
      ::setresgid(user, user, user) != 0 || ::setresuid(user, user, user) != 0)
    die("cannot give up root");
}

void lock_at_most(std::size_t bytes) {
  const rlimit limits{.rlim_cur = bytes, .rlim_max = bytes};
  if (::setrlimit(RLIMIT_MEMLOCK, &limits) != 0)
    die("setrlimit");
}

Answer says(double value, const std::string &text = "") {
  Answer answer{.value = value};
  std::strncpy(answer.text, text.c_str(), sizeof(answer.text) - 1);
  return answer;
}

// The one who is disturbed.
class Reader {
public:
  Reader(int dmabuf, int target) : dmabuf_(dmabuf), target_(target) {
    entry_ = map_entry(dmabuf, target, Path::Premapped);
    if (const int error = session_.map_one(entry_))
      die("the reader's MAP: " + errno_name(error) + " " + reason_name(entry_.reason));
  }
  Answer serve(Do what) {
    return what == Do::Measure ? measure() : what == Do::Prove ? prove() : says(0);
  }

private:
  // Reads in a second.
  Answer measure() {
    const double begin = now_s();
    for (unsigned i = 0; i < reads_a_turn; ++i) {
      const std::uint64_t at = std::uint64_t{i % 64} * small;
      const int got =
          ring_.command(session_.fd(), DMABUF_RW_URING_READ, at, small,
                        {.file_offset = disk_base + at, .handle = entry_.handle, .flags = 0});
      if (got != static_cast<int>(small))
        return says(-1, "a read ended with " + errno_name(got));
    }
    return says(reads_a_turn / (now_s() - begin));
  }
  // What one needs to begin: a session, MAP, I/O and OPEN.
  Answer prove() {
    UniqueFd fd(::open(DMABUF_RW_DEVICE, O_RDWR | O_CLOEXEC));
    if (!fd)
      return says(-1, "open: " + errno_name(errno));
    const Session session(std::move(fd));
    auto entry = map_entry(dmabuf_, target_, Path::Premapped);
    if (const int error = session.map_one(entry))
      return says(-1, "MAP: " + errno_name(error) + " " + reason_name(entry.reason));
    const int got = ring_.command(session.fd(), DMABUF_RW_URING_READ, 0, small,
                                  {.file_offset = disk_base, .handle = entry.handle, .flags = 0});
    if (got != static_cast<int>(small))
      return says(-1, "READ: " + errno_name(got));
    dmabuf_rw_open open{};
    open.dmabuf_fd = static_cast<__u32>(dmabuf_);
    if (::ioctl(session.fd(), DMABUF_RW_IOC_OPEN, &open) != 0)
      return says(-1, "OPEN: " + errno_name(errno) + " " + reason_name(open.reason));
    ::close(static_cast<int>(open.fd));
    if (const int error = session.unmap_one(entry.handle))
      return says(-1, "UNMAP: " + errno_name(error));
    return says(0);
  }
  int dmabuf_, target_;
  Session session_;
  Ring ring_{8};
  dmabuf_rw_map_entry entry_{};
};

// The one who takes what there is.
class Taker {
public:
  Taker(int dmabuf, int target) : dmabuf_(dmabuf), target_(target) {}
  Answer serve(Do what) {
    if (what == Do::Take)
      return take();
    if (what == Do::Flood)
      return flood();
    if (what == Do::Settle)
      return settle();
    files_.clear();
    sessions_.clear();
    return says(0);
  }

private:
  // Each until it is refused, with the reason for which it has to be.
  Answer take() {
    int error = 0;
    while (!error) {
      UniqueFd fd(::open(DMABUF_RW_DEVICE, O_RDWR | O_CLOEXEC));
      if (fd)
        sessions_.emplace_back(std::move(fd));
      else
        error = errno;
    }
    dmabuf_rw_query query{};
    if (sessions_.empty() || sessions_[0].query(query) != 0)
      return says(-1, "no session at all: " + errno_name(error));
    if (sessions_.size() != query.max_sessions || error != EMFILE)
      return says(-1, std::format("{} sessions of {}, then {}", sessions_.size(),
                                  query.max_sessions, errno_name(error)));
    std::uint32_t open_reason = 0;
    for (;;) {
      dmabuf_rw_open open{};
      open.dmabuf_fd = static_cast<__u32>(dmabuf_);
      if (::ioctl(sessions_[0].fd(), DMABUF_RW_IOC_OPEN, &open) != 0) {
        open_reason = open.reason;
        break;
      }
      files_.emplace_back(static_cast<int>(open.fd));
    }
    if (open_reason != DMABUF_RW_REASON_LIMIT)
      return says(-1, "OPEN ends with " + reason_name(open_reason));
    // A session's mappings to the last, then another one's until the locked memory is.
    std::size_t mappings = 0;
    for (const auto &[number, wanted] :
         {std::pair{0u, DMABUF_RW_REASON_LIMIT}, {1u, DMABUF_RW_REASON_MEMLOCK}}) {
      std::uint32_t reason = DMABUF_RW_REASON_NONE;
      while (reason == DMABUF_RW_REASON_NONE) {
        std::vector<dmabuf_rw_map_entry> batch(256, map_entry(dmabuf_, target_, Path::Premapped));
        std::uint32_t mapped = 0;
        if (const int status = sessions_[number].map(batch, &mapped))
          return says(-1, "MAP: " + errno_name(status));
        mappings += mapped;
        for (const auto &entry : batch)
          if (entry.error)
            reason = entry.reason;
      }
      if (reason != static_cast<std::uint32_t>(wanted))
        return says(
            -1, std::format("MAP ends with {}, not {}", reason_name(reason), reason_name(wanted)));
    }
    const std::size_t opened = files_.size();
    for (int fd; (fd = ::dup(dmabuf_)) >= 0;)
      files_.emplace_back(fd);
    if (errno != EMFILE)
      return says(-1, "dup: " + errno_name(errno));
    return says(0, std::format("{} sessions, {} mappings, {} rw fds, {} descriptors more",
                               sessions_.size(), mappings, opened, files_.size() - opened));
  }
  // Long reads, as many as the ring takes.
  Answer flood() {
    UniqueFd fd(::open(DMABUF_RW_DEVICE, O_RDWR | O_CLOEXEC));
    if (!fd)
      return says(-1, "open: " + errno_name(errno));
    sessions_.emplace_back(std::move(fd));
    auto entry = map_entry(dmabuf_, target_, Path::Premapped);
    if (const int error = sessions_[0].map_one(entry))
      return says(-1, "MAP: " + errno_name(error));
    ring_.emplace(deep);
    for (unsigned i = 0; i < deep; ++i)
      ring_->queue_command(sessions_[0].fd(), DMABUF_RW_URING_READ, 0, long_bytes,
                           {.file_offset = disk_base, .handle = entry.handle, .flags = 0});
    ring_->submit();
    return says(0);
  }
  Answer settle() {
    unsigned good = 0, ended = 0;
    while (ended < deep) {
      const int count = ring_->reap([&](std::uint64_t, int result) {
        ++ended;
        good += result == static_cast<int>(long_bytes);
      });
      if (count < 0)
        return says(-1, "io_uring_enter: " + errno_name(count));
    }
    ring_.reset();
    return good == deep ? says(0) : says(-1, std::format("{} of {} long reads", good, deep));
  }
  int dmabuf_, target_;
  std::vector<Session> sessions_;
  std::vector<UniqueFd> files_;
  std::optional<Ring> ring_;
};

// A process of its own that does what it is told.
class User {
public:
  template <typename Role>
  static User start(unsigned user, std::size_t locked, int dmabuf, int target) {
    int down[2], up[2];
    if (::pipe2(down, O_CLOEXEC) != 0 || ::pipe2(up, O_CLOEXEC) != 0)
      die("pipe");
    std::fflush(stdout);
    const pid_t pid = ::fork();
    if (pid < 0)
      die("fork");
    if (pid == 0) {
      ::close(down[1]);
      ::close(up[0]);
      lock_at_most(locked);
      become(user);
      Role role(dmabuf, target);
      for (Do what; ::read(down[0], &what, 1) == 1 && what != Do::End;) {
        const Answer answer = role.serve(what);
        if (::write(up[1], &answer, sizeof(answer)) != sizeof(answer))
          break;
      }
      std::fflush(stdout);
      ::_exit(0);
    }
    ::close(down[0]);
    ::close(up[1]);
    return {pid, UniqueFd(down[1]), UniqueFd(up[0])};
  }
  Answer tell(Do what) {
    Answer answer;
    if (::write(down_.get(), &what, 1) != 1 ||
        ::read(up_.get(), &answer, sizeof(answer)) != sizeof(answer))
      die("a user's process has ended");
    return answer;
  }
  bool must(Do what, std::string_view name) {
    const Answer answer = tell(what);
    return report().check(answer.value >= 0, name, answer.text);
  }
  int end() {
    const Do what = Do::End;
    int status = -1;
    if (::write(down_.get(), &what, 1) == 1)
      ::waitpid(pid_, &status, 0);
    return status;
  }

private:
  User(pid_t pid, UniqueFd down, UniqueFd up)
      : pid_(pid), down_(std::move(down)), up_(std::move(up)) {}
  pid_t pid_;
  UniqueFd down_, up_;
};

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t half = values.size() / 2;
  return values.size() % 2 ? values[half] : (values[half - 1] + values[half]) / 2;
}

void run(unsigned pairs) {
  // What an administrator does who lets users have the device.
  if (::chmod(DMABUF_RW_DEVICE, 0666) != 0)
    die(std::format("chmod: {}", std::strerror(errno)));
  const auto memory = [](std::size_t bytes) {
    auto made = DmaBuf::create(Exporter::UdmabufScattered, bytes);
    if (!made)
      die(made.error());
    return std::move(*made);
  };
  const DmaBuf readers = memory(64 * small), page = memory(4096), large = memory(long_bytes);
  const UniqueFd target = open_target("/dev/nvme0n1");
  DiskRegion(target.get(), disk_base, long_bytes).lay_down_all(7);
  User reader = User::start<Reader>(65533, 8u << 20, readers.fd(), target.get());
  // More than one session's mappings of a page and all rw fds, less than two sessions'.
  User taker = User::start<Taker>(65534, 40u << 20, page.fd(), target.get());
  User flooder = User::start<Taker>(65534, 40u << 20, large.fd(), target.get());

  reader.must(Do::Prove, "the reader can begin");
  std::vector<double> ratios;
  const auto settled = [&] {
    return ratios.size() >= pairs &&
           (median(ratios) >= least_ratio || ratios.size() >= pairs * more_pairs);
  };
  double without = 0, with = 0;
  reader.tell(Do::Measure); // the first one is slower
  while (!settled()) {
    const auto measure = [&](double &rate) {
      const Answer answer = reader.tell(Do::Measure);
      rate = answer.value;
      return report().check(rate > 0, "the reader's reads", answer.text);
    };
    // In turn first and last, so that a machine that gets slower favours neither.
    const bool first = ratios.size() % 2 == 0;
    if (first && !measure(without))
      return;
    const Answer taken = taker.tell(Do::Take);
    if (!report().check(taken.value >= 0, "the other one takes all there is", taken.text))
      return;
    if (ratios.empty())
      report().note(taken.text);
    if (!measure(with))
      return;
    reader.must(Do::Prove, "the reader can begin while the other one has it all");
    taker.must(Do::LetGo, "the other one lets go");
    if (!first && !measure(without))
      return;
    ratios.push_back(with / without);
  }
  std::string all;
  for (const double ratio : ratios)
    all += std::format(" {:.3f}", ratio);
  report().note(
      std::format("{:.0f} reads a second; with the other one against without:{}", without, all));
  report().check(median(ratios) >= least_ratio, "the reader keeps his rate",
                 std::format("the median is {:.3f}", median(ratios)));

  // Long I/O does cost the drive's time. It costs nobody the right to begin.
  flooder.must(Do::Flood, "long reads, many at once");
  reader.must(Do::Prove, "the reader can begin behind long I/O of the other one");
  flooder.must(Do::Settle, "the long reads end");
  for (User *user : {&reader, &taker, &flooder})
    report().check(user->end() == 0, "a user's process ends well");
}

} // namespace

} // namespace vmtest

int main(int argc, char **argv) {
  using namespace vmtest;
  unsigned pairs = 5;
  if (argc == 3 && std::string_view(argv[1]) == "--pairs")
    pairs = static_cast<unsigned>(std::atoi(argv[2]));
  else if (argc != 1)
    pairs = 0;
  if (pairs < 5)
    die("usage: users [--pairs N], N at least 5");
  run(pairs);
  return report().finish("users");
}
