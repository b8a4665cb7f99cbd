// SPDX-License-Identifier: GPL-2.0-only
#include "attacks.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <sys/ioctl.h>

namespace vmtest {

namespace {

const std::string tracing = "/sys/kernel/tracing/";

} // namespace

bool shell(const std::string &line) {
  const int status = std::system(("(" + line + ") >/dev/null").c_str());
  return report().check(status == 0, line, std::format("ended with {}", status));
}

bool asleep(pid_t tid) {
  for (int seen = 0; seen < 10; ++seen) {
    const std::string text = read_file(std::format("/proc/{}/stat", tid));
    const auto name_end = text.rfind(')');
    if (name_end == std::string::npos || name_end + 2 >= text.size() ||
        (text[name_end + 2] != 'D' && text[name_end + 2] != 'S'))
      return false;
    ::usleep(2000);
  }
  return true;
}

bool buffers_move(std::string_view attack) {
  if (Testexp().can_move())
    return true;
  report().skip(attack, "no buffer moves on this kernel while it is mapped");
  return false;
}

std::string path_disk() {
  for (const auto &entry : std::filesystem::directory_iterator("/sys/class/block")) {
    const std::string name = entry.path().filename();
    if (std::regex_match(name, std::regex("nvme0c\\d+n1")))
      return name;
  }
  return "nvme0n1";
}

int mappings_alive() {
  const std::string text = read_file("/sys/kernel/debug/dmabuf_rw/mappings");
  if (text.empty())
    die("no debugfs file of the module");
  return static_cast<int>(std::ranges::count(text, '\n')) - 1;
}

int module_users() { return number_in("/sys/module/dmabuf_rw/refcnt"); }

IoResult waited_io(const Session &session, std::uint32_t handle, Direction direction,
                   std::uint64_t buffer_offset, std::uint64_t length, std::uint64_t file_offset) {
  dmabuf_rw_io io{};
  io.handle = handle;
  io.direction = direction == Direction::Read ? DMABUF_RW_DIR_READ : DMABUF_RW_DIR_WRITE;
  io.buffer_offset = buffer_offset;
  io.length = length;
  io.file_offset = file_offset;
  const int error = ::ioctl(session.fd(), DMABUF_RW_IOC_IO, &io) < 0 ? -errno : 0;
  return {.error = error, .reason = io.reason, .moved = io.moved};
}

DmaBuf make_buffer(std::size_t bytes) {
  const Exporter exporter = this_or_other(Exporter::UdmabufScattered);
  auto buffer = DmaBuf::create(exporter, bytes);
  if (!buffer)
    die(std::format("{}: {}", name_of(exporter), buffer.error()));
  return std::move(*buffer);
}

Trace::Trace(std::initializer_list<std::string_view> events)
    : events_(events.begin(), events.end()) {
  write_file(tracing + "trace", "");
  for (const std::string &event : events_)
    if (const int error = write_file(std::format("{}events/{}/enable", tracing, event), "1"))
      die(std::format("trace event {}: {}", event, errno_name(error)));
}

Trace::~Trace() {
  for (const std::string &event : events_)
    write_file(std::format("{}events/{}/enable", tracing, event), "0");
}

std::size_t Trace::count(std::initializer_list<std::string_view> words) const {
  std::istringstream lines(text());
  std::size_t found = 0;
  for (std::string line; std::getline(lines, line);)
    found += std::ranges::all_of(
        words, [&](std::string_view word) { return line.find(word) != std::string::npos; });
  return found;
}

Qmp &qmp() {
  static Qmp connection;
  return connection;
}

void Throttle::set(unsigned bytes_per_second, unsigned commands_per_second,
                   unsigned written_per_second) {
  const std::string words =
      std::format(R"({{"id": "nvme", "bps": {}, "bps_rd": 0, "bps_wr": {}, "iops": {}, )"
                  R"("iops_rd": 0, "iops_wr": 0}})",
                  bytes_per_second, written_per_second, commands_per_second);
  if (!qmp().run("block_set_io_throttle", words))
    die("the drive cannot be slowed down");
  on_ = bytes_per_second || commands_per_second || written_per_second;
}

void Throttle::stop() {
  set(1, 0);
  // The one that goes through before the limit holds: everything behind it waits for an hour.
  const UniqueFd plain = open_target(drive, O_RDONLY | O_DIRECT | O_CLOEXEC);
  HostBuffer host(4096);
  read_plain(plain.get(), host.words(), 0);
}

void Throttle::stop_writes(std::uint64_t scratch) {
  set(0, 0, 1);
  const UniqueFd plain = open_target(drive);
  HostBuffer host(4096);
  write_plain(plain.get(), host.words(), scratch);
}

void Throttle::slow(unsigned commands_per_second) { set(0, commands_per_second); }

void Throttle::go() {
  if (on_)
    set(0, 0);
}

KernelLog::KernelLog() : fd_(::open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {
  if (!fd_ || ::lseek(fd_.get(), 0, SEEK_END) < 0)
    die(std::format("/dev/kmsg: {}", std::strerror(errno)));
}

std::size_t KernelLog::count(std::string_view regex) {
  char record[8192];
  for (ssize_t length; (length = ::read(fd_.get(), record, sizeof(record))) > 0;)
    text_.append(record, static_cast<std::size_t>(length));
  const std::regex pattern{std::string(regex)};
  return static_cast<std::size_t>(
      std::distance(std::sregex_iterator(text_.begin(), text_.end(), pattern), {}));
}

} // namespace vmtest
