// SPDX-License-Identifier: GPL-2.0-only
// What makes something: sessions, mappings, slots of a ring's table, rw fds.
#include "faults.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace vmtest {

namespace {

// What an exporter may turn a refused allocation into, besides ENOMEM.
bool map_error_allowed(const dmabuf_rw_map_entry &entry) {
  if (entry.error == ENOMEM)
    return entry.reason == DMABUF_RW_REASON_NO_MEMORY;
  return entry.error == EOPNOTSUPP &&
         (entry.reason == DMABUF_RW_REASON_NO_CPU_VIEW || entry.reason == DMABUF_RW_REASON_MAP ||
          entry.reason == DMABUF_RW_REASON_ATTACH);
}

} // namespace

void sessions(Faults &faults) {
  faults.every("open", [&](const Faults::Watched &watched) {
    int fd = -1, error = 0;
    watched([&] {
      fd = ::open(DMABUF_RW_DEVICE, O_RDWR | O_CLOEXEC);
      error = fd < 0 ? -errno : 0;
    });
    const UniqueFd closes(fd);
    return Result{error, error == -ENOMEM || error == -ENFILE};
  });
}

void maps(Faults &faults, const Memory &memory, int target, Path path) {
  faults.every(
      std::format("MAP {} of {}", name_of(path), memory.name), [&](const Faults::Watched &watched) {
        const Session session;
        auto entry = map_entry(memory.fd, target, path);
        dmabuf_rw_map map{};
        map.entries = reinterpret_cast<std::uintptr_t>(&entry);
        map.nr_entries = 1;
        int status = 0;
        watched([&] { status = ::ioctl(session.fd(), DMABUF_RW_IOC_MAP, &map) ? -errno : 0; });
        if (status)
          return Result{status, status == -ENOMEM};
        if (entry.error)
          return Result{-static_cast<long>(entry.error), map_error_allowed(entry)};
        report().check(session.unmap_one(entry.handle) == 0, "UNMAP");
        return Result{0, true};
      });
}

void maps_again(Faults &faults, const Memory &memory, int target) {
  const Session other;
  auto kept = map_entry(memory.fd, target, Path::Premapped);
  if (other.map_one(kept) != 0)
    die("MAP");
  maps(faults, {memory.name + ", attached already", memory.fd}, target, Path::Premapped);
  dmabuf_rw_info info{};
  report().check(other.info(kept.handle, info) == 0 && info.shared == 1,
                 "only the mapping that was there shares the attachment");
}

void registrations(Faults &faults, const Memory &memory, int target, bool window) {
  if (!std::ranges::contains(paths_here(), Path::Registered))
    return;
  const Session session;
  auto entry = map_entry(memory.fd, target, Path::Registered);
  if (session.map_one(entry) != 0)
    die("MAP");
  const std::string name = window ? "REGISTER of a window" : "REGISTER";
  faults.every(name, [&](const Faults::Watched &watched) {
    Ring ring(8);
    if (ring.make_buffer_table(1) != 0)
      die("no table of registered buffers");
    if (window)
      ring.queue_window(session.fd(), entry.handle, 0, 12288, buffer_bytes / 2);
    else
      ring.queue_registration(session.fd(), DMABUF_RW_URING_REGISTER, {entry.handle, 0, 0, 0});
    int submitted = 0;
    watched([&] { submitted = io_uring_submit(ring.raw()); });
    if (submitted < 0)
      return Result{submitted, submitted == -ENOMEM || submitted == -EAGAIN};
    long result = 0;
    ring.reap([&](std::uint64_t, int value) { result = value; });
    if (result == 0)
      report().check(ring.withdraw(session.fd(), 0) == 0, "UNREGISTER");
    return Result{result, result == -ENOMEM};
  });
  // A ring that was closed lets go of its table a little later.
  dmabuf_rw_info info{};
  int status = session.info(entry.handle, info);
  for (const double end = now_s() + 20; !status && info.registered && now_s() < end;) {
    ::usleep(20000);
    status = session.info(entry.handle, info);
  }
  report().check(status == 0 && info.registered == 0, "no table holds the mapping any more",
                 std::format("{}, {} tables", errno_name(status), +info.registered));
}

void opens(Faults &faults, const Memory &memory) {
  const Session session;
  const auto open = [&](dmabuf_rw_open &argument) {
    argument.dmabuf_fd = static_cast<__u32>(memory.fd);
    return ::ioctl(session.fd(), DMABUF_RW_IOC_OPEN, &argument) ? -errno : 0;
  };
  faults.every("OPEN of " + memory.name, [&](const Faults::Watched &watched) {
    dmabuf_rw_open argument{};
    int status = 0;
    watched([&] { status = open(argument); });
    if (status == 0)
      ::close(static_cast<int>(argument.fd));
    const bool no_memory = status == -ENOMEM && argument.reason == DMABUF_RW_REASON_NO_MEMORY;
    const bool no_view = status == -EOPNOTSUPP && argument.reason == DMABUF_RW_REASON_NO_CPU_VIEW;
    return Result{status, no_memory || no_view};
  });
  dmabuf_rw_open argument{};
  if (open(argument))
    die("OPEN");
  const UniqueFd fd(static_cast<int>(argument.fd));
  if (argument.view != DMABUF_RW_VIEW_IO)
    return; // a read of memory allocates nothing
  HostBuffer host(buffer_bytes);
  faults.every("read of " + memory.name, [&](const Faults::Watched &watched) {
    ssize_t result = 0;
    watched([&] {
      result = ::pread(fd.get(), host.words().data(), buffer_bytes, 0);
      result = result < 0 ? -errno : result;
    });
    return Result{result, result == -ENOMEM};
  });
}

} // namespace vmtest
