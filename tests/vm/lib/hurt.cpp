// SPDX-License-Identifier: GPL-2.0-only
#include "hurt.hpp"

#include "report.hpp"
#include "session.hpp"
#include "sysfs.hpp"

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <unistd.h>

namespace vmtest {

namespace {

const std::string hurt_folder = "/sys/kernel/debug/dmabuf_hurt/";

} // namespace

Hurt::Hurt() {
  const char *module = std::getenv("DMABUF_RW_KO");
  if (!module)
    die("DMABUF_RW_KO must name the module's file");
  const auto file = std::filesystem::path(module).parent_path() / "testmod/dmabuf_hurt.ko";
  if (const int error = load_module(file))
    die(std::format("load {}: {}", file.string(), errno_name(error)));
}

Hurt::~Hurt() {
  const int error = unload_module("dmabuf_hurt", 10);
  report().check(error == 0, "dmabuf_hurt can be removed", errno_name(error));
}

void Hurt::command(std::string_view file, std::string_view words) const {
  if (const int error = write_file(hurt_folder + std::string(file), words))
    die(std::format("dmabuf_hurt, {} of '{}': {}", file, words, errno_name(error)));
}

void Hurt::freeze(std::string_view disk, unsigned ms) const {
  command("freeze", std::format("{} {}", disk, ms));
}

int Hurt::try_freeze(std::string_view disk, unsigned ms) const {
  return write_file(hurt_folder + "freeze", std::format("{} {}", disk, ms));
}

int Hurt::frozen() const { return number_in(hurt_folder + "freeze"); }

void Hurt::lose(std::string_view function) const { command("lose", function); }

void Hurt::slow(std::string_view function, unsigned ms) const {
  slow_thread(function, ms, ::gettid());
}

void Hurt::slow_thread(std::string_view function, unsigned ms, pid_t tid) const {
  command("slow", std::format("{} {} {}", function, ms, tid));
}

void Hurt::slow_off() const { command("slow", "off"); }

int Hurt::slowed() const { return number_in(hurt_folder + "slow"); }

void Hurt::divert(std::string_view what) const { command("prp", what); }

int Hurt::diverted() const { return number_in(hurt_folder + "prp"); }

void Hurt::lie(std::string_view function, unsigned status, unsigned count) const {
  command("status", std::format("{} {:#x} {}", function, status, count));
}

int Hurt::lies() const { return number_in(hurt_folder + "status"); }

void Hurt::lie_off() const { command("status", "off"); }

void Hurt::watch_rights(std::string_view function) const {
  command("rights", std::format("{} {}", function, ::getpid()));
}

Hurt::Calls Hurt::rights() const {
  Calls calls;
  std::istringstream text(read_file(hurt_folder + "rights"));
  if (!(text >> calls.by_root >> calls.by_others))
    die("dmabuf_hurt does not say who called");
  return calls;
}

void Hurt::rights_off() const { command("rights", "off"); }

} // namespace vmtest
