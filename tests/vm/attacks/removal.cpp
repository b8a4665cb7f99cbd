// SPDX-License-Identifier: GPL-2.0-only
// A drive is pulled with a command in flight: nothing it holds will ever end by itself. The kernel
// lets go of it in a moment all the same, and nobody else's drive has to wait for that. And: who
// maps while a driver is leaving gets nothing.
#include "attacks.hpp"

#include <filesystem>
#include <thread>

namespace vmtest {

namespace {

constexpr std::uint32_t block = 65536;
constexpr double limit_s = 5;
constexpr double patience_s = 90;

// A namespace of the second drive that premapped takes: plain 4 KiB blocks.
std::string other_drive() {
  for (const auto &entry : std::filesystem::directory_iterator("/sys/block")) {
    const std::string name = entry.path().filename();
    const std::string queue = entry.path().string() + "/queue/";
    if (name.starts_with("nvme1n") && read_file(queue + "zoned").starts_with("none") &&
        read_file(queue + "logical_block_size").starts_with("4096") &&
        read_file(entry.path().string() + "/metadata_bytes").starts_with("0"))
      return "/dev/" + name;
  }
  die("no second drive (dmabuf-lab run --formats)");
}

// How long something takes in a thread of its own.
template <typename Call> std::jthread timed(std::atomic<double> &seconds, Call call) {
  return std::jthread([&seconds, call] {
    const double begin = now_s();
    call();
    seconds = now_s() - begin;
  });
}

std::string took(double seconds) {
  return seconds < 0 ? std::format("more than {:.0f} s", patience_s)
                     : std::format("{:.1f} s", seconds);
}

} // namespace

void attack_removal() {
  const Hurt hurt;
  const std::string other = other_drive();
  const std::string function = pci_function("nvme0");
  // Whatever the drive still has keeps its memory until the end.
  const DmaBuf buffer = make_buffer(1u << 20), second = make_buffer(1u << 20);
  UniqueFd target = open_target(drive);
  const UniqueFd other_target = open_target(other);
  Session session, other_session;
  dmabuf_rw_config config{};
  config.timeout_ms = 20000;
  if (session.config(config) != 0)
    die("CONFIG");
  auto other_entry = map_entry(second.fd(), other_target.get(), Path::Premapped);
  if (const int error = other_session.map_one(other_entry))
    die("MAP on the second drive: " + errno_name(error));
  Ring ring(8);
  Throttle throttle;
  std::optional<Mover> mover(std::in_place, session, ring, buffer.fd(), target.get(),
                             Path::Premapped);
  if (mover->error())
    die("MAP: " + errno_name(mover->error()));
  throttle.stop();
  mover->queue(Direction::Read, 0, block, attack_base);
  ring.submit();
  dmabuf_rw_info info{};
  session.info(mover->entry().handle, info);
  report().check(info.commands == 1 && info.reads == 0, "a command is in flight",
                 std::format("{} commands, {} reads", info.commands, info.reads));

  std::atomic<double> remove_s = -1, map_s = -1, unmap_s = -1, close_s = -1;
  hurt.lose(function);
  auto remove = timed(
      remove_s, [&] { write_file(std::format("/sys/bus/pci/devices/{}/remove", function), "1"); });
  // Under way for sure when it waits, or over already.
  wait_for([&] { return remove_s >= 0; }, 1);
  auto map = timed(map_s, [&] {
    auto entry = map_entry(buffer.fd(), other_target.get(), Path::Premapped);
    const int error = other_session.map_one(entry);
    report().check(error == 0, "MAP on another drive meanwhile", errno_name(error));
  });
  auto unmap = timed(unmap_s, [&] {
    const int error = other_session.unmap_one(other_entry.handle);
    report().check(error == 0, "UNMAP on another drive meanwhile", errno_name(error));
  });
  auto close = timed(close_s, [] { Session().close(); });
  wait_for([&] { return remove_s >= 0 && map_s >= 0 && unmap_s >= 0 && close_s >= 0; }, patience_s);
  report().check(remove_s >= 0 && remove_s < limit_s, "the removal takes a moment", took(remove_s));
  report().check(map_s >= 0 && map_s < limit_s, "so does a MAP on another drive", took(map_s));
  report().check(unmap_s >= 0 && unmap_s < limit_s, "and an UNMAP", took(unmap_s));
  report().check(close_s >= 0 && close_s < limit_s, "and a session", took(close_s));

  const int ended = ring.run_one();
  report().check(ended == -ENODEV || ended == -EIO || ended == -ETIMEDOUT,
                 "the I/O ends with an error that says so", errno_name(ended));
  session.info(mover->entry().handle, info);
  report().check(info.state == DMABUF_RW_STATE_DEVICE_GONE, "and so does the mapping",
                 std::format("state {}", info.state));
  const int after = mover->transfer(Direction::Read, 0, block, attack_base);
  report().check(after == -ENODEV, "I/O on a drive that is gone", errno_name(after));
  mover.reset();
  target.reset();
  // The emulated drive ends what it has while the memory is still there.
  throttle.go();
  shell("echo 1 > /sys/bus/pci/rescan");
  report().check(wait_for([] { return ::access(drive, F_OK) == 0; }, 40), "the drive comes back");
}

// The driver has been told to leave, and has not ended its I/O yet: the disk is still there, and a
// buffer attached now would never be given back. One that was attached before is, once it has left.
void attack_leaving() {
  const Hurt hurt;
  const Testexp testexp;
  const std::string function = pci_function("nvme0");
  {
    const DmaBuf buffer = make_buffer(1u << 20);
    const TestBuffer before = testexp.make(gpu_buffer(1u << 20, 1));
    const UniqueFd target = open_target(drive);
    Session session;
    auto early = map_entry(before.fd(), target.get(), Path::Premapped);
    if (const int error = session.map_one(early))
      die("MAP: " + errno_name(error));
    std::atomic<bool> left = false;
    std::jthread unbind([&] {
      // The first thing that the driver's remove() does; 3 s are left for a MAP then.
      hurt.slow("nvme_change_ctrl_state", 3000);
      const int error = write_file("/sys/bus/pci/drivers/nvme/unbind", function);
      left = true;
      report().check(error == 0, "the driver leaves", errno_name(error));
    });
    if (!wait_for([&] { return hurt.slowed() > 0; }, 30))
      die("the driver does not leave");
    auto entry = map_entry(buffer.fd(), target.get(), Path::Premapped);
    const int error = session.map_one(entry);
    report().check(!left, "MAP comes while the driver is leaving", "it has left already");
    report().check(error == -ENODEV && entry.reason == DMABUF_RW_REASON_DEVICE_GONE,
                   "MAP while the driver is leaving is refused",
                   std::format("{}, {}", errno_name(error), reason_name(entry.reason)));
    unbind.join();
    hurt.slow_off();
    const auto stats = before.must_stats();
    report().check(stats.mappings == 0 && stats.attachments == 0,
                   "what was attached before is given back",
                   std::format("{} mappings, {} attachments", stats.mappings, stats.attachments));
  }
  const int error = write_file("/sys/bus/pci/drivers/nvme/bind", function);
  report().check(error == 0, "the driver comes back", errno_name(error));
  report().check(wait_for([] { return ::access(drive, F_OK) == 0; }, 40), "and so does the drive");
}

} // namespace vmtest
