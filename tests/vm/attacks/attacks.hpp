// SPDX-License-Identifier: GPL-2.0-only
// What the attacks share. An attack is something that a user, a drive or another part of the
// kernel may do, and that must cost neither memory, nor data, nor more than a moment of anybody's
// time. README.md says which fault each of them was written for.
#pragma once

#include "lib/exporter.hpp"
#include "lib/hurt.hpp"
#include "lib/qmp.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/session.hpp"
#include "lib/sysfs.hpp"
#include "lib/target.hpp"
#include "lib/testexp.hpp"

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <unistd.h>
#include <vector>

namespace vmtest {

inline constexpr const char drive[] = "/dev/nvme0n1";
inline constexpr std::uint64_t attack_base = 256u << 20; // where on the drive the attacks work

// Runs a line of shell; a status that is not 0 is a failed check.
bool shell(const std::string &line);
// Is this thread of ours, or this process, off the CPU and waiting? Seen so ten times in a row,
// so that a short wait for a page is not taken for one.
bool asleep(pid_t tid);

// Whether this kernel lets a buffer move while it is mapped; where not, the attack is skipped.
bool buffers_move(std::string_view attack);

// The disk whose queue takes the commands of /dev/nvme0n1, as /sys/block names it.
std::string path_disk();

// Mappings of all sessions, from the module's debugfs; and its users.
int mappings_alive();
int module_users();

// DMABUF_RW_IOC_IO.
struct IoResult {
  int error = 0; // 0 or a negative errno
  std::uint32_t reason = 0;
  std::uint64_t moved = 0;
};
IoResult waited_io(const Session &session, std::uint32_t handle, Direction direction,
                   std::uint64_t buffer_offset, std::uint64_t length, std::uint64_t file_offset);

// A dma-buf of scattered pages, mapped for the CPU, or exit_setup.
DmaBuf make_buffer(std::size_t bytes);

// The kernel's trace events, named "nvme/nvme_setup_cmd", from now to the end of the object.
class Trace {
public:
  explicit Trace(std::initializer_list<std::string_view> events);
  Trace(const Trace &) = delete;
  Trace &operator=(const Trace &) = delete;
  ~Trace();
  // Everything recorded so far, a line each.
  std::string text() const { return read_file("/sys/kernel/tracing/trace"); }
  // The lines that hold all of these words.
  std::size_t count(std::initializer_list<std::string_view> words) const;

private:
  std::vector<std::string> events_;
};

// The one connection to QEMU that there is.
Qmp &qmp();

// The drive "nvme" of the lab stops answering, or answers slowly. Goes on with the object's end.
class Throttle {
public:
  Throttle() = default;
  Throttle(const Throttle &) = delete;
  Throttle &operator=(const Throttle &) = delete;
  ~Throttle() { go(); }
  // No command is answered any more, but those of the admin queue.
  void stop();
  // Nor a write, while reads go on. Writes 4 KiB of zeros at `scratch`.
  void stop_writes(std::uint64_t scratch);
  void slow(unsigned commands_per_second);
  void go();

private:
  void set(unsigned bytes_per_second, unsigned commands_per_second,
           unsigned written_per_second = 0);
  bool on_ = false;
};

// Lines of the kernel's log from now on.
class KernelLog {
public:
  KernelLog();
  std::size_t count(std::string_view regex);

private:
  UniqueFd fd_;
  std::string text_;
};

// The attacks, by the names of the command line.
void attack_publish();
void attack_durability();
void attack_flags();
void attack_stale_sqe();
void attack_stale_copy();
void attack_heirless();
void attack_crowd();
void attack_dead_task();
void attack_killed();
void attack_checks();
void attack_file_rules();
void attack_personality();
void attack_busy_file();
void attack_removal();
void attack_leaving();
void attack_timeouts();
void attack_frozen();
void attack_long_submit();
void attack_polled_cache();
void attack_stale_cache();
void attack_late_fence();
void attack_debugfs();
void attack_uncounted();
void attack_classify();
void attack_pin();
void attack_cpu_access();
void attack_cpu_copies();
void attack_cpu_sums();
void attack_carveout();
void attack_multipath();
void attack_late_return();
void attack_late_send();
void attack_prp_words();
void attack_path_change();

} // namespace vmtest
