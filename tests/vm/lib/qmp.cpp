// SPDX-License-Identifier: GPL-2.0-only
#include "qmp.hpp"

#include "report.hpp"

#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <poll.h>
#include <unistd.h>

namespace vmtest {

namespace {

std::string find_port() {
  std::error_code error;
  for (const auto &entry : std::filesystem::directory_iterator("/sys/class/virtio-ports", error)) {
    std::string name;
    std::ifstream(entry.path() / "name") >> name;
    if (name == "lab.qmp")
      return "/dev/" + entry.path().filename().string();
  }
  return "";
}

} // namespace

Qmp::Qmp() {
  const std::string path = find_port();
  if (path.empty())
    die("no port lab.qmp (boot with --qmp)");
  port_ = UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!port_)
    die("open " + path);
  // QEMU greets once, whoever opens the port: it refuses this from a second program, which may go
  // on where the first one stopped. line() ends the program if there is no answer.
  ask("qmp_capabilities", "{}");
}

std::string Qmp::line() {
  for (;;) {
    const auto end = pending_.find('\n');
    if (end != std::string::npos) {
      std::string found = pending_.substr(0, end);
      pending_.erase(0, end + 1);
      return found;
    }
    pollfd ready = {.fd = port_.get(), .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, 20000) != 1)
      die("QEMU does not answer");
    char data[4096];
    const ssize_t count = ::read(port_.get(), data, sizeof(data));
    if (count <= 0)
      die("QEMU's port is closed");
    pending_.append(data, static_cast<std::size_t>(count));
  }
}

std::string Qmp::ask(std::string_view command, std::string_view arguments) {
  const std::string text =
      std::format("{{\"execute\": \"{}\", \"arguments\": {}}}\n", command, arguments);
  if (::write(port_.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    die("QEMU's port takes no command");
  // Events may come before the answer.
  for (;;) {
    std::string answer = line();
    if (answer.find("\"error\"") != std::string::npos ||
        answer.find("\"return\"") != std::string::npos)
      return answer;
  }
}

bool Qmp::run(std::string_view command, std::string_view arguments) {
  const std::string answer = ask(command, arguments);
  if (answer.find("\"error\"") == std::string::npos)
    return true;
  report().note(std::format("QEMU refused {}: {}", command, answer));
  return false;
}

} // namespace vmtest
