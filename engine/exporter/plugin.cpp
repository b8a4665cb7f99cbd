// SPDX-License-Identifier: GPL-2.0-only
// plugin: an exporter in a shared object of the user's, by include/libdmabuf/exporter.h.
#include "exporter/plugin.hpp"

#include "base/memory_owner.hpp"
#include "base/sizes.hpp"
#include "base/trusted_path.hpp"
#include "exporter/foreign.hpp"
#include "exporter/plugin_calls.hpp"
#include "exporter/shared_library.hpp"

#include <cerrno>
#include <climits>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace dmabuf {
namespace {

constexpr int kMostErrno = 4095;

/// The errno that a plug-in means: kernel code has it negative.
int errno_of(int code) {
  if (code == INT_MIN || std::abs(code) > kMostErrno)
    return EIO;
  return std::abs(code);
}

/// An error in the plug-in's words.
std::unexpected<Error> refusal(const char *name, const char *what, int rc,
                               const libdmabuf_words &why) {
  const int code = errno_of(rc);
  const std::string words = one_line({why.text, strnlen(why.text, sizeof(why.text))}, 255);
  const std::string who = strf("plug-in %s %s", name, what);
  if (words.empty())
    return fail(code, errno_text(who, code));
  return fail(code, strf("%s (%s): %s", who.c_str(), errno_name(code).c_str(), words.c_str()));
}

/// Descriptors that plug-ins gave and that are still ours to close: one that is given twice would
/// be closed twice, and by then may be a file of somebody else in this process.
class Given {
public:
  /// By number and by what is open there: a number is used again as soon as it is closed, and its
  /// owner says so a moment later.
  static bool add(int fd, ino_t inode) {
    const std::lock_guard lock(mutex());
    const auto [at, fresh] = all().try_emplace(fd, inode);
    if (!fresh && at->second == inode)
      return false;
    at->second = inode;
    return true;
  }
  static void remove(int fd, ino_t inode) {
    const std::lock_guard lock(mutex());
    if (const auto at = all().find(fd); at != all().end() && at->second == inode)
      all().erase(at);
  }

private:
  // Never destroyed: a job's thread may end after the process has begun to.
  static std::mutex &mutex() {
    static auto *const one = new std::mutex;
    return *one;
  }
  static std::map<int, ino_t> &all() {
    static auto *const one = new std::map<int, ino_t>;
    return *one;
  }
};

/// The device and the buffer in the plug-in, given back in that order.
class PluginOwner : public MemoryOwner {
public:
  PluginOwner(const libdmabuf_exporter &table, std::unique_ptr<PluginUse> use,
              libdmabuf_device *device)
      : table_(table), use_(std::move(use)), device_(device) {}
  PluginOwner(const PluginOwner &) = delete;
  PluginOwner &operator=(const PluginOwner &) = delete;
  ~PluginOwner() override {
    if (fd_ >= 0)
      Given::remove(fd_, inode_); // it is closed by now
    if (allocated_) {
      const PluginCall call(*use_, "free");
      table_.free(device_, buffer_);
    }
    const PluginCall call(*use_, "close");
    table_.close(device_);
  }

  void took(libdmabuf_buffer *buffer) {
    buffer_ = buffer;
    allocated_ = true;
  }

  /// False where the plug-in gave this descriptor before, and it is in use.
  bool took_fd(int fd) {
    struct stat node = {};
    if (fstat(fd, &node) < 0 || !Given::add(fd, node.st_ino))
      return false;
    fd_ = fd;
    inode_ = node.st_ino;
    return true;
  }

  bool can(Disturbance what) const override { return table_.disturbs & bit(what); }

  Result<Disturbed> disturb(Disturbance what) override {
    if (!can(what))
      return MemoryOwner::disturb(what);
    libdmabuf_disturbed seen = {};
    libdmabuf_words why = {};
    const PluginCall call(*use_, "disturb");
    if (const int rc = table_.disturb(device_, buffer_, bit(what), &seen, &why))
      return refusal(table_.name, "did not disturb its memory", rc, why);
    return Disturbed{.stray_bytes = seen.stray_bytes};
  }

  int read(uint64_t offset, std::span<std::byte> to) {
    const PluginCall call(*use_, "read");
    return errno_of(table_.read(device_, buffer_, offset, to.data(), to.size()));
  }
  int write(uint64_t offset, std::span<const std::byte> from) {
    const PluginCall call(*use_, "write");
    return errno_of(table_.write(device_, buffer_, offset, from.data(), from.size()));
  }

private:
  static uint32_t bit(Disturbance what) { return uint32_t{1} << static_cast<unsigned>(what); }

  const libdmabuf_exporter table_;
  std::unique_ptr<PluginUse> use_;
  libdmabuf_device *device_;
  libdmabuf_buffer *buffer_ = nullptr;
  bool allocated_ = false;
  int fd_ = -1;
  ino_t inode_ = 0;
};

static_assert(LIBDMABUF_DISTURB_MOVE == 1U << static_cast<unsigned>(Disturbance::move));
static_assert(LIBDMABUF_DISTURB_REVOKE == 1U << static_cast<unsigned>(Disturbance::revoke));
static_assert(LIBDMABUF_DISTURB_RESTORE == 1U << static_cast<unsigned>(Disturbance::restore));

/// The plug-in's own copies; the dma-buf's owner outlives it.
class PluginMemory : public DeviceMemory {
public:
  explicit PluginMemory(PluginOwner &owner) : owner_(owner) {}
  int read(uint64_t offset, std::span<std::byte> to) override { return owner_.read(offset, to); }
  int write(uint64_t offset, std::span<const std::byte> from) override {
    return owner_.write(offset, from);
  }

private:
  PluginOwner &owner_;
};

/// What a user who names no file gets.
constexpr const char *kNameOne = "exporter plugin is a shared object of yours: set "
                                 "dmabuf_device=FILE, or FILE,ARGUMENTS (docs/exporters.md)";

} // namespace

PluginName plugin_name(std::string_view device) {
  const size_t comma = device.find(',');
  if (comma == std::string_view::npos)
    return {std::string(device), {}};
  return {std::string(device.substr(0, comma)), std::string(device.substr(comma + 1))};
}

Result<std::string> check_plugin_file(const std::string &file) {
  // What the loader searches for it finds in folders that are the machine's.
  if (file.find('/') == std::string::npos)
    return file;
  const auto real = trusted_path(file);
  if (!real) {
    const char *const move = real.error().code == EPERM ? "; move it" : "";
    return fail(real.error().code, strf("plug-in %s is not run: %s%s", file.c_str(),
                                        real.error().message.c_str(), move));
  }
  struct stat node = {};
  if (stat(real->c_str(), &node) < 0)
    return fail(errno, errno_text(strf("plug-in %s cannot be looked at", file.c_str()), errno));
  if (!S_ISREG(node.st_mode))
    return fail(EINVAL, strf("plug-in %s is no regular file; %s", file.c_str(), kNameOne));
  if (node.st_mode & S_IWOTH)
    return fail(EPERM, strf("plug-in %s may be written by everybody, and this process would run "
                            "it; run: chmod o-w %s",
                            file.c_str(), file.c_str()));
  return real;
}

Result<libdmabuf_exporter> plugin_table(const libdmabuf_exporter *theirs, const std::string &file) {
  const char *path = file.c_str();
  if (!theirs)
    return fail(EINVAL, strf("plug-in %s gives no table; see libdmabuf/exporter.h", path));
  if (theirs->abi != LIBDMABUF_EXPORTER_ABI)
    return fail(EPROTO, strf("plug-in %s is built for version %u of libdmabuf/exporter.h and this "
                             "engine has version %u; build it with this engine's header",
                             path, theirs->abi, LIBDMABUF_EXPORTER_ABI));
  if (theirs->bytes < sizeof(libdmabuf_exporter))
    return fail(EPROTO,
                strf("plug-in %s has a table of %u bytes, and version %u of "
                     "libdmabuf/exporter.h has %zu; set .bytes = sizeof(struct "
                     "libdmabuf_exporter)",
                     path, theirs->bytes, LIBDMABUF_EXPORTER_ABI, sizeof(libdmabuf_exporter)));
  libdmabuf_exporter table = *theirs;
  const char *missing = !table.name || !*table.name         ? "name"
                        : !table.version || !*table.version ? "version"
                        : !table.open                       ? "open"
                        : !table.close                      ? "close"
                        : !table.alloc                      ? "alloc"
                        : !table.free                       ? "free"
                        : table.read && !table.write        ? "write"
                        : table.write && !table.read        ? "read"
                        : table.disturbs && !table.disturb  ? "disturb"
                                                            : nullptr;
  if (missing)
    return fail(EINVAL,
                strf("plug-in %s has no %s in its table; see libdmabuf/exporter.h", path, missing));
  constexpr uint32_t kKnown =
      LIBDMABUF_DISTURB_MOVE | LIBDMABUF_DISTURB_REVOKE | LIBDMABUF_DISTURB_RESTORE;
  if (table.reserved || table.disturbs & ~kKnown)
    return fail(EINVAL, strf("plug-in %s has values in its table that version %u of "
                             "libdmabuf/exporter.h does not know",
                             path, LIBDMABUF_EXPORTER_ABI));
  return table;
}

Result<DmaBuf> plugin_buffer(const libdmabuf_exporter &table, const PluginName &name,
                             const BufferRequest &request) {
  const std::string called = one_line(table.name, 60);
  const std::string who = "plug-in " + called;
  libdmabuf_words why = {};
  libdmabuf_device *device = nullptr;
  auto use = std::make_unique<PluginUse>(called);
  const PluginUse &used = *use; // as long as its device is open
  {
    const PluginCall call(used, "open");
    if (const int rc = table.open(name.arguments.c_str(), &device, &why))
      return refusal(called.c_str(), "did not open", rc, why);
  }
  auto owner = std::make_unique<PluginOwner>(table, std::move(use), device);

  const libdmabuf_request wanted = {.bytes = request.bytes, .reserved = {}};
  libdmabuf_allocation made = {};
  made.fd = -1;
  why = {};
  const auto allocate = [&] {
    const PluginCall call(used, "alloc");
    return table.alloc(device, &wanted, &made, &why);
  };
  if (const int rc = allocate()) {
    const auto no = refusal(called.c_str(), "did not allocate", rc, why);
    return fail(no.error().code,
                strf("%s; %llu MiB were asked for: %s", no.error().message.c_str(),
                     static_cast<unsigned long long>(mib_up(request.bytes)), request.shrink));
  }
  owner->took(made.buffer);
  DmaBuf buffer;
  PluginOwner &owned = *owner;
  buffer.owner = std::move(owner);
  // What is not open is not ours to close.
  if (fcntl(made.fd, F_GETFD) >= 0) {
    if (!owned.took_fd(made.fd))
      return fail(EPROTO, strf("%s gave descriptor %d twice, and the first one is in use; give a "
                               "dma-buf of its own for each alloc()",
                               who.c_str(), made.fd));
    buffer.fd.reset(made.fd);
  }
  const auto size = check_foreign(made.fd, request.bytes, who);
  if (!size)
    return std::unexpected(size.error());
  if (*size != made.bytes || made.reserved)
    return fail(EPROTO, strf("%s says that its dma-buf has %llu bytes, and it has %llu; correct "
                             "what alloc() gives",
                             who.c_str(), static_cast<unsigned long long>(made.bytes),
                             static_cast<unsigned long long>(*size)));
  // A child of fio's must not keep the memory.
  if (fcntl(made.fd, F_SETFD, FD_CLOEXEC) < 0)
    return fail(errno, errno_text("cannot change the dma-buf's descriptor", errno));
  const std::string where =
      one_line({made.device, strnlen(made.device, sizeof(made.device))}, sizeof(made.device));
  buffer.device = where.empty() ? request.device : where;
  buffer.maker = called + " " + one_line(table.version, 100);
  buffer.bytes = *size;
  buffer.no_view = "give the plug-in's table the members read and write, which copy "
                   "(docs/exporters.md)";
  if (table.read)
    buffer.memory = std::make_unique<PluginMemory>(owned);
  return buffer;
}

Result<DmaBuf> allocate_plugin(const BufferRequest &request) {
  const PluginName name = plugin_name(request.device);
  if (name.file.empty())
    return fail(EINVAL, kNameOne);
  // From here on nobody else can exchange it, and no link is followed any more.
  const auto file = check_plugin_file(name.file);
  if (!file)
    return std::unexpected(file.error());
  const auto load = [&]() -> Result<libdmabuf_exporter> {
    const libdmabuf_exporter *(*ask)() = nullptr;
    const PluginUse use(name.file);
    const PluginCall call(use, "libdmabuf_exporter_table");
    if (auto ok = load_library({file->c_str()}, {{"libdmabuf_exporter_table", symbol_address(ask)}},
                               kNameOne, "it is no plug-in of this engine (docs/exporters.md)");
        !ok)
      return std::unexpected(std::move(ok.error()));
    return plugin_table(ask(), name.file);
  };
  const auto table = load();
  if (!table)
    return std::unexpected(table.error());
  return plugin_buffer(*table, name, request);
}

} // namespace dmabuf
