// SPDX-License-Identifier: GPL-2.0-only
// The drive misbehaves under load: its controller is reset, it stops answering, its format
// changes, its namespace or itself goes away. Errors are the defined ones, whatever is reported
// as read is right byte for byte, nothing hangs and nothing is left.
//
// usage: loss [reset] [format] [slow] [namespace] [remove] [unplug]
//        All but slow without arguments. dmabuf-lab run --qmp; after unplug the drive is gone. slow
//        makes the driver give up on commands, with its messages in the kernel log.
#include "lib/exporter.hpp"
#include "lib/qmp.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/target.hpp"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>
#include <sys/ioctl.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace vmtest {

namespace {

constexpr std::uint64_t disk_base = 512u << 20;
constexpr std::size_t region_bytes = 4u << 20;
constexpr std::uint32_t block = 65536;
constexpr const char node[] = "/dev/nvme0n1";

struct LoadOptions {
  unsigned depth = 16;
  bool stubborn = false; // goes on whatever ends with an error
};

// Reads of random blocks, each compared with what lies there, until stop() or the drive is gone.
class Load {
public:
  explicit Load(std::string_view name, const LoadOptions &options = {})
      : name_(name), options_(options) {
    target_ = open_target(node);
    UniqueFd plain = open_target(node);
    disk_.emplace(plain.get(), disk_base, region_bytes);
    disk_->lay_down_all(3);
    auto made = DmaBuf::create(Exporter::UdmabufScattered, std::size_t{options.depth} * block);
    if (!made)
      die(made.error());
    buffer_.emplace(std::move(*made));
    thread_ = std::jthread([this](std::stop_token stop) { run(stop); });
    // What is tested is a loss under load.
    if (!report().check(wait_for([this] { return good > 100; }, 120),
                        std::format("{}: the load has begun", name_),
                        std::format("{} reads, errors: {}", good.load(), failed.load())))
      die("without load the rest shows nothing");
  }
  ~Load() { stop(); }

  // Ends the load; INFO of its mapping as it was at the end.
  dmabuf_rw_info stop() {
    thread_.request_stop();
    if (thread_.joinable())
      thread_.join();
    return info_;
  }
  template <typename Condition> static bool wait_for(Condition condition, double seconds) {
    for (const double end = now_s() + seconds; now_s() < end; ::usleep(20000))
      if (condition())
        return true;
    return condition();
  }
  std::string errors_seen() const {
    std::string text;
    for (const int error : errors)
      text += errno_name(error) + " ";
    return text.empty() ? "none" : text;
  }

  std::atomic<std::uint64_t> good = 0, failed = 0, wrong = 0;
  std::atomic<bool> dead = false; // eight failures in a row
  std::set<int> errors;           // after stop()

private:
  void start(Mover &mover, unsigned slot) {
    position_[slot] = (random_() % (region_bytes / block)) * block;
    mover.queue(Direction::Read, std::uint64_t{slot} * block, block, disk_base + position_[slot],
                slot);
  }

  void ended(unsigned slot, int result) {
    if (result != static_cast<int>(block)) {
      ++failed;
      errors.insert(result);
      dead = !options_.stubborn && ++row_ >= 8;
      return;
    }
    row_ = 0;
    const CpuAccess access(*buffer_, true);
    const auto words =
        buffer_->words().subspan(slot * (block / sizeof(Word)), block / sizeof(Word));
    const auto bad = compare_words(words, disk_->expected(disk_base + position_[slot], block));
    if (bad && wrong++ == 0)
      report().fail(std::format("{}: a read that succeeded has its data", name_),
                    std::format("{}; after {} good reads and {} failed ones", describe(*bad, 0),
                                good.load(), failed.load()));
    std::ranges::fill(words, pattern_word(buffer_poison, 0));
    ++good;
  }

  void run(const std::stop_token &stop) {
    Ring ring(options_.depth);
    Mover mover(session_, ring, buffer_->fd(), target_.get(), Path::Premapped);
    if (mover.error())
      die(std::format("MAP: {} {}", errno_name(mover.error()), reason_name(mover.entry().reason)));
    position_.resize(options_.depth);
    unsigned flying = 0;
    for (; flying < options_.depth; ++flying)
      start(mover, flying);
    while (flying > 0) {
      const int count = ring.reap([&](std::uint64_t slot, int result) {
        --flying;
        ended(static_cast<unsigned>(slot), result);
        if (!stop.stop_requested() && !dead) {
          start(mover, static_cast<unsigned>(slot));
          ++flying;
        }
      });
      if (count < 0)
        die("io_uring_enter: " + errno_name(count));
    }
    session_.info(mover.entry().handle, info_);
  }

  unsigned random_() { return seed_ = seed_ * 1103515245u + 12345u, (seed_ >> 8) & 0xffff; }

  std::string name_;
  LoadOptions options_;
  UniqueFd target_;
  std::optional<DiskRegion> disk_;
  std::optional<DmaBuf> buffer_;
  Session session_;
  std::vector<std::uint64_t> position_;
  unsigned seed_ = 1, row_ = 0;
  dmabuf_rw_info info_ = {};
  std::jthread thread_;
};

void shell(const std::string &command, std::string_view name) {
  const int status = std::system(("(" + command + ") >/dev/null").c_str());
  report().check(status == 0, name, std::format("'{}' ended with {}", command, status));
}

// Controller resets are retried as for any I/O: no error reaches the user.
void check_reset() {
  Load load("reset");
  constexpr int resets = 8;
  for (int i = 0; i < resets; ++i) {
    const std::uint64_t before = load.good;
    shell("echo 1 > /sys/class/nvme/nvme0/reset_controller", "reset the controller");
    report().check(Load::wait_for([&] { return load.good > before + 50; }, 30),
                   "I/O goes on after a reset");
  }
  const dmabuf_rw_info info = load.stop();
  report().check(load.failed == 0 && load.wrong == 0 && info.errors == 0,
                 "no error reached the user", load.errors_seen());
  report().note(std::format("{} resets, {} reads of {} bytes", resets, load.good.load(), block));
}

// The time-out of a command in milliseconds, of the queue that takes the commands.
void set_io_timeout(const std::string &milliseconds) {
  bool set = false;
  for (const auto &disk : std::filesystem::directory_iterator("/sys/class/nvme/nvme0")) {
    const std::string name = disk.path().filename();
    if (!name.starts_with("nvme0") || !name.ends_with("n1"))
      continue;
    std::ofstream file(disk.path() / "queue/io_timeout");
    set |= static_cast<bool>(file << milliseconds << std::flush);
  }
  report().check(set, "set io_timeout to " + milliseconds);
}

// How often the driver sends a command again before it gives up; what it was.
std::string set_retries(const std::string &count) {
  constexpr char file[] = "/sys/module/nvme_core/parameters/max_retries";
  std::string before;
  std::ifstream(file) >> before;
  report().check(static_cast<bool>(std::ofstream(file) << count << std::flush),
                 "set max_retries to " + count);
  return before;
}

void throttle(Qmp &qmp, unsigned iops) {
  report().check(qmp.run("block_set_io_throttle",
                         std::format(R"({{"id": "nvme", "bps": 0, "bps_rd": 0, "bps_wr": 0, )"
                                     R"("iops": {}, "iops_rd": 0, "iops_wr": 0}})",
                                     iops)),
                 iops ? "slow the drive down" : "let the drive go on");
}

// The drive answers one command a second. With the usual time-out everything ends well in the end;
// with a short one the driver aborts and resets, and without retries errors come. Few commands at a
// time: QEMU finishes all that it has before it resets, and stands still meanwhile.
void check_slow(Qmp &qmp) {
  constexpr double limit_s = 200;
  {
    Load load("slow drive", {.depth = 8, .stubborn = true});
    throttle(qmp, 1);
    // What was under way, and a few that were not.
    const std::uint64_t before = load.good;
    report().check(Load::wait_for([&] { return load.good >= before + 12; }, limit_s),
                   "a slow drive answers");
    throttle(qmp, 0);
    const dmabuf_rw_info info = load.stop();
    report().check(load.failed == 0 && load.wrong == 0 && info.errors == 0,
                   "a drive that is only slow causes no error", load.errors_seen());
  }
  set_io_timeout("1000");
  const std::string retries = set_retries("0");
  {
    Load load("drive that does not answer", {.depth = 8, .stubborn = true});
    throttle(qmp, 1);
    const bool failed = Load::wait_for([&] { return load.failed > 0; }, limit_s);
    throttle(qmp, 0);
    report().check(failed, "commands time out when the drive does not answer");
    const std::uint64_t before = load.good;
    report().check(Load::wait_for([&] { return load.good > before + 200; }, limit_s),
                   "I/O goes on when the drive answers again");
    const dmabuf_rw_info info = load.stop();
    bool defined = !load.errors.empty();
    for (const int error : load.errors)
      defined &= error == -ETIMEDOUT || error == -EIO;
    report().check(defined && load.wrong == 0, "errors of a drive that does not answer are defined",
                   load.errors_seen());
    report().check(info.errors == load.failed && info.last_reason == DMABUF_RW_REASON_DRIVE &&
                       load.errors.contains(-static_cast<int>(info.last_error)),
                   "INFO tells of them",
                   std::format("{} errors of {}, the last {}, {}", +info.errors, load.failed.load(),
                               errno_name(info.last_error), reason_name(info.last_reason)));
    report().note(
        std::format("no answer: {} reads failed, {}", load.failed.load(), load.errors_seen()));
  }
  set_io_timeout("30000");
  set_retries(retries);
}

// The block size changes under a mapping: old sizes are refused, right ones still land right.
void check_format() {
  UniqueFd target = open_target(node), plain = open_target(node);
  auto buffer = DmaBuf::create(this_or_other(Exporter::Heap), 65536);
  if (!buffer)
    die(buffer.error());
  Session session;
  Ring ring(8);
  Mover mover(session, ring, buffer->fd(), target.get(), Path::Premapped);
  report().check(mover.error() == 0, "MAP before the format");
  {
    HostBuffer sector(512);
    fill_pattern(sector.words(), 8, disk_base);
    write_plain(plain.get(), sector.words(), disk_base);
    report().check(mover.transfer(Direction::Read, 0, 512, disk_base) == 512, "one sector of 512");
    const CpuAccess access(*buffer, false);
    const auto bad = compare_words(buffer->words().first(512 / 8), sector.words());
    report().check(!bad, "its data", bad ? describe(*bad, disk_base) : "");
  }
  shell("nvme format /dev/nvme0n1 --lbaf=4 --force", "format with 4096-byte blocks");
  report().check(Load::wait_for(
                     [] {
                       int bytes = 0;
                       std::ifstream("/sys/block/nvme0n1/queue/logical_block_size") >> bytes;
                       return bytes == 4096;
                     },
                     10),
                 "the kernel sees 4096-byte blocks");
  const int small = mover.transfer(Direction::Read, 0, 512, disk_base);
  report().check(small == -EINVAL, "a sector of 512 is refused now", errno_name(small));
  dmabuf_rw_info info{};
  session.info(mover.entry().handle, info);
  report().check(info.last_reason == DMABUF_RW_REASON_LBA_SIZE, "and why",
                 reason_name(info.last_reason));
  dmabuf_rw_io waited{};
  waited.handle = mover.entry().handle;
  waited.direction = DMABUF_RW_DIR_READ;
  waited.file_offset = disk_base;
  waited.length = 512;
  const int refused = ::ioctl(session.fd(), DMABUF_RW_IOC_IO, &waited) ? -errno : 0;
  report().check(refused == -EINVAL && waited.reason == DMABUF_RW_REASON_LBA_SIZE,
                 "RW tells the same", errno_name(refused) + ", " + reason_name(waited.reason));
  {
    const CpuAccess access(*buffer, true);
    fill_pattern(buffer->words(), 9, disk_base);
  }
  const int written = mover.transfer(Direction::Write, 4096, 8192, disk_base + 4096);
  report().check(written == 8192, "a write in the new blocks", errno_name(written));
  UniqueFd fresh = open_target(node);
  HostBuffer host(8192), want(8192);
  read_plain(fresh.get(), host.words(), disk_base + 4096);
  fill_pattern(want.words(), 9, disk_base + 4096);
  const auto bad = compare_words(host.words(), want.words());
  report().check(!bad, "lands where it belongs", bad ? describe(*bad, disk_base + 4096) : "");
  mover.release();
  target.reset();
  plain.reset();
  fresh.reset();
  shell("nvme format /dev/nvme0n1 --lbaf=0 --force", "format back to 512-byte blocks");
}

// What every kind of going away has in common.
void check_gone(Load &load, std::string_view name) {
  report().check(Load::wait_for([&] { return load.dead.load(); }, 60),
                 std::format("{}: the load ends", name));
  load.stop();
  bool defined = true;
  for (const int error : load.errors)
    // EOPNOTSUPP: what the driver makes of a drive's answer "no such namespace".
    defined &= error == -ENODEV || error == -EIO || error == -ENXIO || error == -ENOLINK ||
               error == -ETIMEDOUT || error == -EOPNOTSUPP;
  report().check(defined && !load.errors.empty() && load.wrong == 0,
                 std::format("{}: errors are defined", name), load.errors_seen());
  report().note(
      std::format("{}: {} good reads, then {}", name, load.good.load(), load.errors_seen()));
}

bool node_there() {
  const UniqueFd fd(::open(node, O_RDWR | O_DIRECT | O_CLOEXEC));
  HostBuffer host(4096);
  return fd && ::pread(fd.get(), host.words().data(), 4096, 0) == 4096;
}

void check_namespace_removal() {
  {
    Load load("namespace removal");
    shell("nvme detach-ns /dev/nvme0 --namespace-id=1 --controllers=0", "detach the namespace");
    shell("nvme ns-rescan /dev/nvme0", "let the kernel look");
    check_gone(load, "namespace removal");
  }
  shell("nvme attach-ns /dev/nvme0 --namespace-id=1 --controllers=0", "attach it again");
  shell("nvme ns-rescan /dev/nvme0", "let the kernel look again");
  report().check(Load::wait_for(node_there, 20), "the namespace is back");
  Load load("namespace again");
  load.stop();
  report().check(load.good > 100 && load.failed == 0, "and takes I/O", load.errors_seen());
}

void check_module_in_use() {
  Session session;
  const int status = unload_module("dmabuf_rw", 0);
  report().check(status < 0 && module_loaded("dmabuf_rw"),
                 "the module is not unloaded while in use", errno_name(status));
}

// The load that is running loses its controller, and says so.
void check_controller_gone(Load &load, std::string_view name) {
  check_gone(load, name);
  const dmabuf_rw_info info = load.stop();
  report().check(info.state == DMABUF_RW_STATE_DEVICE_GONE,
                 std::format("{}: the mapping says so", name), std::format("state {}", info.state));
  report().check(
      Load::wait_for([] { return !std::filesystem::exists("/sys/class/nvme/nvme0"); }, 20),
      std::format("{}: the controller is gone", name));
}

// The kernel lets go of the drive while it is there, and finds it again.
void check_remove() {
  {
    Load load("removal");
    shell("echo 1 >/sys/class/nvme/nvme0/device/remove", "remove the drive");
    check_controller_gone(load, "removal");
  }
  shell("echo 1 >/sys/bus/pci/rescan", "let the kernel look for drives");
  report().check(Load::wait_for(node_there, 40), "the drive is back");
  Load load("drive again");
  load.stop();
  report().check(load.good > 100 && load.failed == 0, "and takes I/O", load.errors_seen());
}

void check_unplug(Qmp &qmp) {
  Load load("unplug");
  report().check(qmp.run("device_del", R"({"id": "nvme"})"), "ask for the drive to be unplugged");
  check_controller_gone(load, "unplug");
}

} // namespace

} // namespace vmtest

int main(int argc, char **argv) {
  using namespace vmtest;
  const std::vector<std::string_view> asked(argv + 1, argv + argc);
  const auto wanted = [&](std::string_view name) {
    return asked.empty() ? name != "slow" : std::ranges::find(asked, name) != asked.end();
  };
  Qmp qmp;
  check_module_in_use();
  if (wanted("reset"))
    check_reset();
  if (wanted("format"))
    check_format();
  if (wanted("slow"))
    check_slow(qmp);
  if (wanted("namespace"))
    check_namespace_removal();
  if (wanted("remove"))
    check_remove();
  if (wanted("unplug"))
    check_unplug(qmp);
  report().note(std::format("{} MiB compared", compared_bytes() >> 20));
  return report().finish("loss");
}
