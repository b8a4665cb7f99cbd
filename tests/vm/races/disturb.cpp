// SPDX-License-Identifier: GPL-2.0-only
// What gets in the workers' way: memory moves and is taken, other threads unmap, the drive goes and
// comes, its format changes, its queue is frozen, the module is to be unloaded. A thread for each.
#include "races.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <sys/ioctl.h>

namespace vmtest {

namespace {

constexpr double patience_s = 90; // for a drive to come back

// The names in a folder that others change meanwhile.
std::vector<std::string> names_in(const std::string &folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end;
       at.increment(error))
    names.push_back(at->path().filename());
  return names;
}

std::string disk_of(std::string_view serial, std::string_view nsid) {
  for (const std::string &name : names_in("/sys/block")) {
    // nvme0n1, not the hidden path nvme0c0n1.
    if (!name.starts_with("nvme") || name.find('c') != std::string::npos)
      continue;
    const std::string folder = "/sys/block/" + name;
    if (read_file(folder + "/device/serial").starts_with(serial) &&
        read_file(folder + "/nsid").starts_with(nsid))
      return "/dev/" + name;
  }
  return "";
}

std::vector<std::string> controllers_of(std::string_view serial) {
  std::vector<std::string> found;
  for (const std::string &name : names_in("/sys/class/nvme"))
    if (read_file("/sys/class/nvme/" + name + "/serial").starts_with(serial))
      found.push_back(name);
  return found;
}

class Disturber {
public:
  Disturber(World &world, unsigned thread)
      : world_(world), thread_(thread), random_(world.options.seed * 7919 + thread) {}

  void memory() {
    repeat(1000, 20000, [&] {
      const std::lock_guard guarded(world_.movables_lock);
      if (world_.movables.empty())
        return;
      Movable &movable = *world_.movables[pick(static_cast<unsigned>(world_.movables.size()))];
      if (pick(4)) {
        const int error = movable.buffer.move();
        if (!error)
          world_.count(Kind::Move);
        world_.ended("MOVE", error, error == 0);
        return;
      }
      ++movable.revokes;
      const int error = movable.buffer.revoke();
      if (!error)
        world_.count(Kind::Revoke);
      world_.ended("REVOKE", error, error == 0);
      ::usleep(pick(10000));
      const int back = movable.buffer.unrevoke();
      world_.ended("UNREVOKE", back, back == 0);
    });
  }

  void unmaps() {
    repeat(20000, 200000, [&] {
      Shown &shown = *world_.shown[pick(static_cast<unsigned>(world_.shown.size()))];
      const std::lock_guard guarded(shown.lock);
      if (shown.session < 0)
        return;
      dmabuf_rw_unmap unmap{};
      unmap.handles = reinterpret_cast<std::uintptr_t>(&shown.handle);
      unmap.nr_handles = 1;
      const int error = ::ioctl(shown.session, DMABUF_RW_IOC_UNMAP, &unmap) < 0 ? -errno : 0;
      if (!error)
        world_.count(Kind::UnmapOther);
      world_.ended("UNMAP by another thread", error, error == 0 || error == -ENOENT);
    });
  }

  void unloads() {
    repeat(20000, 100000, [&] {
      const int error = unload_module("dmabuf_rw", 0);
      world_.count(Kind::Unload);
      report().check(error == -EWOULDBLOCK || error == -EBUSY,
                     "the module is not unloaded while it is in use", errno_name(error));
    });
  }

  void freezes() {
    const Hurt hurt;
    repeat(50000, 500000, [&] {
      const std::string node = first_drive();
      if (node.empty())
        return;
      if (hurt.try_freeze(node.substr(5), 1 + pick(200)) == 0)
        world_.count(Kind::Freeze);
    });
  }

  void formats() {
    static constexpr struct {
      const char *arguments;
      Kind kind;
    } formats[] = {{"--lbaf=0", Kind::Format512},
                   {"--lbaf=5 --pi=1", Kind::FormatPi},
                   {"--lbaf=4", Kind::Format4096},
                   {"--lbaf=1 --pi=1", Kind::FormatPi}};
    unsigned next = 0;
    const auto format = [&](const char *arguments, Kind kind) {
      const auto controllers = controllers_of("lab-formats");
      if (controllers.empty())
        die("the drive that is formatted is gone");
      const std::string line = std::format(
          "nvme format /dev/{} --namespace-id=4 {} --force >/dev/null", controllers[0], arguments);
      const int status = std::system(line.c_str());
      report().check(status == 0, "a format", std::format("'{}' ended with {}", line, status));
      if (status == 0)
        world_.count(kind);
    };
    repeat(200000, 900000, [&] {
      const auto &chosen = formats[next++ % std::size(formats)];
      format(chosen.arguments, chosen.kind);
    });
    format("--lbaf=4", Kind::Format4096);
  }

  void drive() {
    std::vector<std::pair<std::string, std::function<void()>>> all = {
        {"unbind", [&] { lose(world_.functions, true); }},
        {"remove", [&] { lose(world_.functions, false); }},
        {"reset", [&] { reset(); }}};
    if (world_.functions.size() > 1)
      for (int times = 0; times < 2; ++times)
        all.emplace_back("path", [&] {
          lose({world_.functions[pick(static_cast<unsigned>(world_.functions.size()))]}, pick(2));
        });
    std::erase_if(all, [&](const auto &entry) { return !world_.wanted(entry.first); });
    unsigned next = 0;
    repeat(100000, 800000, [&] {
      if (next % all.size() == 0)
        std::ranges::shuffle(all, random_);
      all[next++ % all.size()].second();
    });
  }

private:
  unsigned pick(unsigned bound) { return static_cast<unsigned>(random_() % bound); }
  // With a pause of `least` to `most` microseconds before each.
  template <typename Event> void repeat(unsigned least, unsigned most, Event event) {
    while (!world_.stop) {
      world_.alive(thread_);
      ::usleep(least + pick(most - least));
      if (!world_.stop)
        event();
    }
  }

  void lose(const std::vector<std::string> &functions, bool unbind) {
    for (const std::string &function : functions) {
      const int error =
          unbind ? write_file("/sys/bus/pci/drivers/nvme/unbind", function)
                 : write_file(std::format("/sys/bus/pci/devices/{}/remove", function), "1");
      report().check(error == 0, unbind ? "unbind" : "remove", errno_name(error));
    }
    ::usleep(pick(300000));
    if (unbind) {
      for (const std::string &function : functions) {
        const int error = write_file("/sys/bus/pci/drivers/nvme/bind", function);
        report().check(error == 0, "bind", errno_name(error));
      }
    } else {
      const int error = write_file("/sys/bus/pci/rescan", "1");
      report().check(error == 0, "rescan", errno_name(error));
    }
    if (functions.size() < world_.functions.size())
      world_.count(Kind::PathLoss);
    else
      world_.count(unbind ? Kind::Unbind : Kind::Remove);
    await();
  }
  void reset() {
    const auto controllers = controllers_of("lab-nvme");
    const std::string &one = controllers[pick(static_cast<unsigned>(controllers.size()))];
    const int error = write_file("/sys/class/nvme/" + one + "/reset_controller", "1");
    report().check(error == 0, "reset the controller", errno_name(error));
    if (!error)
      world_.count(Kind::Reset);
    await();
  }
  void await() {
    const bool there = wait_for(
        [&] {
          const auto names = controllers_of("lab-nvme");
          return names.size() == world_.functions.size() &&
                 std::ranges::all_of(
                     names,
                     [](const std::string &name) {
                       return read_file("/sys/class/nvme/" + name + "/state").starts_with("live");
                     }) &&
                 !first_drive().empty();
        },
        patience_s);
    if (!report().check(there, "the drive comes back"))
      die("without a drive the rest shows nothing");
  }

  World &world_;
  unsigned thread_;
  std::mt19937_64 random_;
};

} // namespace

std::string first_drive() { return disk_of("lab-nvme", "1"); }

std::string second_drive() { return disk_of("lab-formats", "4"); }

std::vector<std::jthread> disturb(World &world, unsigned first) {
  const auto add = [&](std::vector<std::jthread> &threads, void (Disturber::*what)()) {
    threads.emplace_back([&world, what, number = first + threads.size()] {
      (Disturber(world, static_cast<unsigned>(number)).*what)();
      world.alive(static_cast<unsigned>(number));
    });
  };
  std::vector<std::jthread> threads;
  if (world.can_move && world.wanted("memory"))
    add(threads, &Disturber::memory);
  if (world.wanted("unmap"))
    add(threads, &Disturber::unmaps);
  if (world.wanted("unload"))
    add(threads, &Disturber::unloads);
  if (world.wanted("freeze"))
    add(threads, &Disturber::freezes);
  if (world.second && world.wanted("format"))
    add(threads, &Disturber::formats);
  if (world.wanted("unbind") || world.wanted("remove") || world.wanted("reset") ||
      (world.functions.size() > 1 && world.wanted("path")))
    add(threads, &Disturber::drive);
  return threads;
}

} // namespace vmtest
