// SPDX-License-Identifier: GPL-2.0-only
// The drive goes away under live mappings: defined errors, nothing hangs, and it comes back.
#include "teardown.hpp"

#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>
#include <vector>

namespace vmtest {

namespace {

constexpr std::uint64_t disk_base = 400u << 20;
constexpr std::size_t buffer_bytes = 4u << 20;
constexpr const char serial[] = "lab-nvme";

// PCI address of the controller with the lab's serial number, "" if there is none.
std::string controller_address() {
  std::error_code error;
  for (const auto &entry : std::filesystem::directory_iterator("/sys/class/nvme", error)) {
    std::string found;
    std::ifstream(entry.path() / "serial") >> found;
    if (found == serial)
      return std::filesystem::canonical(entry.path() / "device").filename();
  }
  return "";
}

// The scratch namespace's node once it is usable, "" if it does not come in time.
std::string wait_for_disk(double seconds) {
  for (const double end = now_s() + seconds; now_s() < end; ::usleep(50000)) {
    std::error_code error;
    for (const auto &entry : std::filesystem::directory_iterator("/sys/block", error)) {
      const std::string name = entry.path().filename();
      // nvme0n1, not the hidden path nvme0c0n1.
      if (!name.starts_with("nvme") || name.find('c') != std::string::npos)
        continue;
      const std::string node = "/dev/" + name;
      const UniqueFd fd(::open(node.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
      HostBuffer host(4096);
      if (fd && ::pread(fd.get(), host.words().data(), 4096, 0) == 4096)
        return node;
    }
  }
  return "";
}

bool write_sysfs(const char *file, const std::string &text) {
  UniqueFd fd(::open(file, O_WRONLY | O_CLOEXEC));
  return fd && ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

struct Load {
  std::atomic<bool> stop = false;
  std::atomic<unsigned> running = 0; // threads whose first transfers are on their way
  std::atomic<std::uint64_t> good = 0, refused = 0;
};

// Any of these says that the drive is not there. The block layer itself answers the other
// datapaths, and to it a disk that went away is one of no size: end of file, no space.
bool defined_error(Path path, int result) {
  if (path != Path::Premapped && (result == 0 || result == -ENOSPC))
    return true;
  return result == -ENODEV || result == -EIO || result == -ENXIO || result == -ENOLINK ||
         result == -ETIMEDOUT;
}

void run_load(const std::string &node, Path path, Load &load) {
  constexpr unsigned depth = 32;
  const std::string name = std::format("unbind under load, {}", name_of(path));
  auto buffer = DmaBuf::create(Exporter::Udmabuf, buffer_bytes);
  if (!buffer)
    die(buffer.error());
  Session session;
  Ring ring(depth * 2);
  if (path == Path::Registered)
    ring.make_buffer_table(1);
  UniqueFd target = open_target(node);
  Mover mover(session, ring, buffer->fd(), target.get(), path);
  if (!report().check(mover.error() == 0, name + " MAP", errno_name(mover.error())))
    return;
  std::uint64_t flying = 0, number = 0;
  const auto start = [&](std::uint64_t i) {
    const std::uint64_t offset = 65536 * (i % (buffer_bytes / 65536));
    mover.queue(number++ % 2 ? Direction::Write : Direction::Read, offset, 65536,
                disk_base + offset, i);
    ++flying;
  };
  for (unsigned i = 0; i < depth; ++i)
    start(i);
  ++load.running;
  bool named = false;
  while (flying > 0) {
    const int count = ring.reap([&](std::uint64_t i, int result) {
      --flying;
      if (result == 65536)
        ++load.good;
      else if (defined_error(path, result))
        ++load.refused;
      else if (!std::exchange(named, true))
        report().fail(name + " result", result < 0 ? errno_name(result) : std::to_string(result));
      if (!load.stop)
        start(i);
    });
    if (count < 0)
      die("io_uring_enter: " + errno_name(count));
  }
  if (path == Path::Premapped) {
    const int late = mover.transfer(Direction::Read, 0, 4096, disk_base);
    report().check(late == -ENODEV, name + ": I/O afterwards", errno_name(late));
    dmabuf_rw_info info{};
    const int status = session.info(mover.entry().handle, info);
    report().check(status == 0 && info.state == DMABUF_RW_STATE_DEVICE_GONE,
                   name + ": INFO says that the device is gone",
                   std::format("{}, state {}", errno_name(status), info.state));
    report().check(info.last_reason == DMABUF_RW_REASON_DEVICE_GONE, name + ": and why",
                   reason_name(info.last_reason));
    auto again = map_entry(buffer->fd(), target.get(), Path::Premapped);
    const int mapped = session.map_one(again);
    report().check(mapped < 0, name + ": MAP of what is gone", "was mapped");
  }
  const int released = mover.release();
  report().check(released == 0, name + ": release", errno_name(released));
}

void round_trip(const std::string &node, const std::string &when) {
  UniqueFd target = open_target(node), plain = open_target(node);
  DiskRegion region(plain.get(), disk_base, buffer_bytes);
  for (const Path path : paths_here()) {
    region.lay_down_all(40);
    auto buffer = DmaBuf::create(Exporter::VirtioGpu, buffer_bytes);
    if (!buffer)
      die(buffer.error());
    Session session;
    Ring ring(8);
    ring.make_buffer_table(1);
    Mover mover(session, ring, buffer->fd(), target.get(), path);
    if (!report().check(mover.error() == 0, "MAP " + when, errno_name(mover.error())))
      continue;
    const int result = mover.transfer(Direction::Read, 512, 1u << 20, disk_base + 512);
    report().check(result == 1 << 20, "read " + when, errno_name(result));
    const CpuAccess access(*buffer, false);
    const auto wrong = compare_words(buffer->words().subspan(64, (1u << 20) / 8),
                                     region.expected(disk_base + 512, 1u << 20));
    report().check(!wrong, "data " + when, wrong ? describe(*wrong, 512) : "");
  }
}

void rebind(const std::string &address, const std::string &when, std::string &node) {
  report().check(write_sysfs("/sys/bus/pci/drivers/nvme/bind", address), "bind " + when,
                 errno_name(errno));
  node = wait_for_disk(30);
  if (node.empty())
    die("the drive did not come back " + when);
  report().note(std::format("the drive is {} {}", node, when));
  round_trip(node, when);
}

} // namespace

void test_unbind(const TeardownOptions &options) {
  const std::string address = controller_address();
  if (address.empty())
    die(std::format("no NVMe controller with serial {}", serial));
  std::string node = options.nvme;
  round_trip(node, "before");

  // Idle mappings, one of each path, one shared attachment.
  {
    auto buffer = DmaBuf::create(this_or_other(Exporter::Heap), buffer_bytes);
    if (!buffer)
      die(buffer.error());
    Session session;
    Ring ring(8);
    ring.make_buffer_table(1);
    UniqueFd target = open_target(node);
    Mover first(session, ring, buffer->fd(), target.get(), Path::Premapped);
    Mover second(session, ring, buffer->fd(), target.get(), Path::Premapped);
    Mover pages(session, ring, buffer->fd(), target.get(), Path::Registered, 0);
    report().check(!first.error() && !second.error() && !pages.error(), "MAP before unbind");
    report().check(write_sysfs("/sys/bus/pci/drivers/nvme/unbind", address),
                   "unbind with idle mappings", errno_name(errno));
    for (Mover *mover : {&first, &second})
      for (int i = 0; i < 3; ++i) {
        const int result = mover->transfer(Direction::Read, 0, 4096, disk_base);
        report().check(result == -ENODEV, "premapped I/O after unbind", errno_name(result));
      }
    const int fixed = pages.transfer(Direction::Read, 0, 4096, disk_base);
    report().check(defined_error(Path::Registered, fixed), "registered I/O after unbind",
                   errno_name(fixed));
    HostBuffer host(4096);
    const auto plain = ::pread(target.get(), host.words().data(), 4096, disk_base);
    report().check((plain < 0 ? -errno : plain) == fixed,
                   "registered I/O after unbind ends as plain I/O does",
                   std::format("{} against {}", fixed, plain));
    dmabuf_rw_info info{};
    report().check(session.info(first.entry().handle, info) == 0 &&
                       info.state == DMABUF_RW_STATE_DEVICE_GONE,
                   "INFO after unbind", std::format("state {}", info.state));
    report().check(first.release() == 0 && second.release() == 0 && pages.release() == 0,
                   "release after unbind");
  }
  wait_for_no_dmabufs("after unbind with idle mappings", options.dmabufs_before);
  rebind(address, "after the first unbind", node);

  for (int turn = 1; turn <= 3; ++turn) {
    Load load;
    const std::string when = std::format("after unbind under load {}", turn);
    {
      std::vector<std::jthread> threads;
      for (const Path path : paths_here())
        threads.emplace_back([&, path] { run_load(node, path, load); });
      const double limit = now_s() + 30;
      while ((load.good < 200 || load.running < threads.size()) && now_s() < limit)
        ::usleep(10000);
      const double begin = now_s();
      report().check(write_sysfs("/sys/bus/pci/drivers/nvme/unbind", address), "unbind under load",
                     errno_name(errno));
      report().check(now_s() - begin < 60, "unbind under load ends in time");
      report().note(std::format("unbind took {:.2f} s", now_s() - begin));
      ::usleep(200000);
      load.stop = true;
    }
    report().check(load.good > 0, "load did I/O before the unbind");
    report().check(load.refused > 0, "load met the missing drive");
    report().note(
        std::format("{}: {} transfers, {} refused", when, load.good.load(), load.refused.load()));
    wait_for_no_dmabufs(when, options.dmabufs_before);
    rebind(address, when, node);
  }
  reload_module(options, "after the unbinds");
}

} // namespace vmtest
