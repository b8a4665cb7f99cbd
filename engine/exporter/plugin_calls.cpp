// SPDX-License-Identifier: GPL-2.0-only
#include "exporter/plugin_calls.hpp"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>
#include <unistd.h>
#include <utility>

namespace dmabuf {
namespace {

thread_local const PluginCall *running = nullptr;

std::atomic<unsigned> uses{0};
std::atomic<pid_t> user{0}; ///< the process in which they are

// Never destroyed: they are needed when the process ends.
std::mutex &mutex() {
  static auto *const one = new std::mutex;
  return *one;
}
std::multiset<std::string> &names() {
  static auto *const all = new std::multiset<std::string>;
  return *all;
}

/// Some plug-in that is in use.
std::string one_of_them() {
  // At exit the thread that holds the lock may be gone: do not wait.
  const std::unique_lock lock(mutex(), std::try_to_lock);
  return lock && !names().empty() ? *names().begin() : "";
}

void at_exit(int status, void *) {
  if (!uses)
    return;
  // A child has its parent's handlers, and fio's take down what the two share.
  if (user != getpid())
    _exit(status);
  if (running) {
    std::fprintf(stderr,
                 "libdmabuf: plug-in %s called exit(%d) in its %s(), and what ran counts for "
                 "nothing\n",
                 running->plugin(), status, running->function());
    _exit(status ? status : EXIT_FAILURE);
  }
  if (status)
    return;
  std::fprintf(stderr,
               "libdmabuf: exit(0) was called while plug-in %s was in use, and what ran counts for "
               "nothing\n",
               one_of_them().c_str());
  _exit(EXIT_FAILURE);
}

} // namespace

PluginUse::PluginUse(std::string name) : name_(std::move(name)) {
  static const int registered = on_exit(at_exit, nullptr);
  (void)registered;
  const std::lock_guard lock(mutex());
  // What a parent uses is none of this process's business.
  if (user.exchange(getpid()) != getpid()) {
    names().clear();
    uses = 0;
  }
  names().insert(name_);
  uses++;
}

PluginUse::~PluginUse() {
  const std::lock_guard lock(mutex());
  if (const auto at = names().find(name_); at != names().end()) {
    names().erase(at);
    uses--;
  }
}

PluginCall::PluginCall(const PluginUse &use, const char *function)
    : use_(use), function_(function), before_(std::exchange(running, this)) {}

PluginCall::~PluginCall() { running = before_; }

} // namespace dmabuf
