// SPDX-License-Identifier: GPL-2.0-only
// libdmabuf_rw on the module: every call that moves bytes, both directions, compared with plain
// pread and pwrite; and what it says of that which is refused.
//
// usage: library [--no-registered]
#include "lib/exporter.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/target.hpp"
#include "lib/testexp.hpp"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <functional>
#include <libdmabuf_rw.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vmtest {

namespace {

const std::string nvme = "/dev/nvme0n1", virtio = "/dev/vda";
constexpr std::uint64_t disk_base = 640u << 20;
constexpr std::size_t bytes = 2u << 20;
constexpr std::uint32_t piece = 192 * 1024, half = bytes / 2;
constexpr std::uint32_t both = DMABUF_RW_DIR_READ | DMABUF_RW_DIR_WRITE;

// A session that ends with its scope.
class Library {
public:
  Library() {
    drw_error error = {};
    if (drw_open(&session_, &error) < 0)
      die(error.text);
  }
  Library(const Library &) = delete;
  Library &operator=(const Library &) = delete;
  ~Library() { drw_close(session_); }
  drw_session *get() const { return session_; }

private:
  drw_session *session_ = nullptr;
};

// One way to move bytes: what it returns is the number moved, or a negative errno.
using Move = std::function<long(bool reads, std::uint64_t buffer_offset, std::uint32_t length,
                                std::uint64_t file_offset)>;

// Each direction by itself: what is on the drive by plain pwrite comes into the poisoned buffer,
// and what is in the buffer gets to the poisoned drive. All around it stays as it was.
void both_directions_right(const std::string &name, const DmaBuf &buffer, int plain,
                           const Move &move) {
  DiskRegion disk(plain, disk_base, bytes);
  std::vector<Word> wanted(bytes / 8);
  // Not at the buffer's start, nor at the same place of the region.
  constexpr std::uint64_t in_buffer = 64 * 1024, on_disk = half + 32 * 1024;

  disk.lay_down_all(1);
  fill_pattern(wanted, buffer_poison, 0);
  {
    const CpuAccess access(buffer, true);
    std::ranges::copy(wanted, buffer.words().begin());
  }
  long moved = move(true, in_buffer, piece, disk_base + on_disk);
  report().check(moved == piece, name + ": read", errno_name(moved));
  fill_pattern(std::span(wanted).subspan(in_buffer / 8, piece / 8), 1, disk_base + on_disk);
  {
    const CpuAccess access(buffer, false);
    const auto wrong = compare_words(buffer.words(), wanted);
    report().check(!wrong, name + ": the buffer after the read",
                   wrong ? describe(*wrong, 0) : std::string());
  }

  fill_pattern(wanted, 2, 0);
  {
    const CpuAccess access(buffer, true);
    std::ranges::copy(wanted, buffer.words().begin());
  }
  moved = move(false, in_buffer, piece, disk_base + on_disk);
  report().check(moved == piece, name + ": write", errno_name(moved));
  std::ranges::copy(std::span(wanted).subspan(in_buffer / 8, piece / 8),
                    disk.expected(disk_base + on_disk, piece).begin());
  const auto wrong = disk.check_all();
  report().check(!wrong, name + ": the drive after the write", wrong.value_or(""));
}

std::optional<drw_mapping> mapped(const std::string &name, const Library &library, int dmabuf,
                                  int target, std::uint32_t path) {
  drw_mapping mapping = {};
  drw_error error = {};
  const int rc = drw_map(library.get(), dmabuf, target, path, both, &mapping, &error);
  if (!report().check(rc == 0, name + ": drw_map", error.text))
    return std::nullopt;
  report().check(mapping.buffer_bytes == bytes && mapping.segments > 0, name + ": what it says",
                 std::format("{} bytes, {} segments", mapping.buffer_bytes, mapping.segments));
  report().check(path == DMABUF_RW_PATH_AUTO || mapping.path == path, name + ": its path",
                 drw_path_name(mapping.path));
  return mapping;
}

void unmap(const std::string &name, const Library &library, std::uint32_t handle) {
  drw_error error = {};
  report().check(drw_unmap(library.get(), handle, &error) == 0, name + ": drw_unmap", error.text);
  report().check(drw_unmap(library.get(), handle, &error) == -ENOENT && error.code == ENOENT,
                 name + ": drw_unmap again", errno_name(error.code));
}

// The module's own I/O: on a ring, and waited for.
void commands(const std::string &name, const DmaBuf &buffer, const std::string &file,
              std::uint32_t path) {
  const Library library;
  const UniqueFd target = open_target(file);
  const auto mapping = mapped(name, library, buffer.fd(), target.get(), path);
  if (!mapping)
    return;
  report().check(
      mapping->memory == DMABUF_RW_MEM_SYSTEM && mapping->route == DMABUF_RW_ROUTE_MEMORY,
      name + ": memory and route",
      std::format("{}, {}", drw_memory_name(mapping->memory), drw_route_name(mapping->route)));
  Ring ring(4);
  both_directions_right(name + " on a ring", buffer, target.get(),
                        [&](bool reads, std::uint64_t in, std::uint32_t length, std::uint64_t at) {
                          (reads ? drw_prep_read : drw_prep_write)(library.get(), ring.sqe(),
                                                                   mapping->handle, in, length, at);
                          return ring.run_one();
                        });
  both_directions_right(name + " waited for", buffer, target.get(),
                        [&](bool reads, std::uint64_t in, std::uint32_t length, std::uint64_t at) {
                          return (reads ? drw_read : drw_write)(library.get(), mapping->handle, in,
                                                                length, at, nullptr);
                        });
  dmabuf_rw_info info = {};
  report().check(drw_info(library.get(), mapping->handle, &info, nullptr) == 0 && info.reads == 2 &&
                     info.writes == 2 && info.read_bytes == 2 * piece,
                 name + ": drw_info", std::format("{} reads, {} writes", info.reads, info.writes));

  // What is refused, in words.
  char text[512];
  drw_prep_read(library.get(), ring.sqe(), mapping->handle, bytes, piece, disk_base);
  const int res = ring.run_one();
  const std::uint32_t reason =
      drw_result_text(library.get(), mapping->handle, res, piece, text, sizeof(text));
  report().check(
      res == -EINVAL && reason == DMABUF_RW_REASON_RANGE &&
          std::strstr(text, "outside the buffer") && std::strstr(text, "(RANGE, EINVAL)"),
      name + ": past the buffer, on a ring", std::format("{}: {}", errno_name(res), text));
  // The mapping's last failure is not this errno's.
  drw_result_text(library.get(), mapping->handle, -EIO, piece, text, sizeof(text));
  report().check(!std::strstr(text, "RANGE") && std::strstr(text, "EIO"),
                 name + ": another errno than the last failure's", text);
  drw_error error = {};
  const ssize_t moved = drw_write(library.get(), mapping->handle, bytes, piece, disk_base, &error);
  report().check(moved == -EINVAL && error.code == EINVAL &&
                     error.reason == DMABUF_RW_REASON_RANGE &&
                     std::strstr(error.text, "cannot write: ") && std::strstr(error.text, "RANGE"),
                 name + ": past the buffer, waited for", error.text);
  unmap(name, library, mapping->handle);
  // The handle names nothing any more.
  const ssize_t gone = drw_read(library.get(), mapping->handle, 0, piece, disk_base, &error);
  report().check(gone == -ENOENT && error.reason == DMABUF_RW_REASON_HANDLE,
                 name + ": read after unmap", error.text);
}

// Slots of the ring's table.
void registered(const DmaBuf &buffer) {
  const std::string name = "registered";
  const Library library;
  const UniqueFd target = open_target(nvme);
  const auto mapping = mapped(name, library, buffer.fd(), -1, DMABUF_RW_PATH_REGISTERED);
  if (!mapping)
    return;
  Ring ring(4);
  if (ring.make_buffer_table(3))
    die("no table of buffers");
  drw_prep_register(library.get(), ring.sqe(), mapping->handle, 1);
  int res = ring.run_one();
  report().check(res == 0, name + ": drw_prep_register", errno_name(res));
  both_directions_right(name, buffer, target.get(),
                        [&](bool reads, std::uint64_t in, std::uint32_t length, std::uint64_t at) {
                          (reads ? drw_prep_read_fixed : drw_prep_write_fixed)(
                              ring.sqe(), target.get(), 1, in, length, at);
                          return ring.run_one();
                        });
  // The window begins where the transfer does: its offset is taken off.
  constexpr std::uint32_t from = 64 * 1024;
  drw_prep_register_window(library.get(), ring.sqe(), mapping->handle, 2, from, piece);
  res = ring.run_one();
  report().check(res == 0, name + ": drw_prep_register_window", errno_name(res));
  both_directions_right(name + " window", buffer, target.get(),
                        [&](bool reads, std::uint64_t in, std::uint32_t length, std::uint64_t at) {
                          (reads ? drw_prep_read_fixed : drw_prep_write_fixed)(
                              ring.sqe(), target.get(), 2, in - from, length, at);
                          return ring.run_one();
                        });
  drw_prep_read_fixed(ring.sqe(), target.get(), 2, 4096, piece, disk_base);
  res = ring.run_one();
  report().check(res == -EFAULT, name + ": past the window", errno_name(res));
  // In use: REGISTER of a slot that is full.
  drw_prep_register(library.get(), ring.sqe(), mapping->handle, 1);
  res = ring.run_one();
  report().check(res < 0, name + ": a slot twice", errno_name(res));
  for (const std::uint32_t slot : {1u, 2u}) {
    drw_prep_unregister(library.get(), ring.sqe(), slot);
    res = ring.run_one();
    report().check(res == 0, name + ": drw_prep_unregister", errno_name(res));
  }
  drw_prep_read_fixed(ring.sqe(), target.get(), 1, 0, piece, disk_base);
  res = ring.run_one();
  report().check(res == -EFAULT, name + ": an empty slot", errno_name(res));
  unmap(name, library, mapping->handle);
}

// The dma-buf as a file.
void file(const DmaBuf &buffer) {
  const Library library;
  dmabuf_rw_open opened = {};
  drw_error error = {};
  const UniqueFd rw(drw_open_file(library.get(), buffer.fd(), O_RDWR | O_CLOEXEC, &opened, &error));
  if (!report().check(rw.get() >= 0, "drw_open_file", error.text))
    return;
  report().check(opened.buffer_bytes == bytes && opened.view == DMABUF_RW_VIEW_MEMORY,
                 "drw_open_file: what it says", std::format("{}", opened.buffer_bytes));
  std::vector<Word> words(bytes / 8);
  fill_pattern(words, 7, 0);
  report().check(::pwrite(rw.get(), words.data(), bytes, 0) == static_cast<ssize_t>(bytes),
                 "drw_open_file: pwrite", errno_name(errno));
  const CpuAccess access(buffer, false);
  report().check(!compare_words(buffer.words(), words), "drw_open_file: the buffer");
}

// One refusal: the errno, the reason and words of the text.
void refuses(const std::string &name, int rc, const drw_error &error, int code,
             std::uint32_t reason, std::initializer_list<const char *> words) {
  bool right = rc == -code && error.code == code && error.reason == reason;
  for (const char *word : words)
    right = right && std::strstr(error.text, word);
  report().check(
      right, name,
      std::format("{} ({}, reason {}): {}", errno_name(rc), error.code, error.reason, error.text));
}

void refusals(const DmaBuf &buffer) {
  const Library library;
  drw_mapping mapping = {};
  const auto map = [&](int dmabuf, int target, std::uint32_t path, drw_error *error) {
    if (error)
      *error = {};
    return drw_map(library.get(), dmabuf, target, path, both, &mapping, error);
  };
  drw_error error = {};
  const UniqueFd buffered = open_target(nvme, O_RDWR | O_CLOEXEC), direct = open_target(nvme),
                 plain_disk = open_target(virtio), null = open_target("/dev/null", O_RDWR);
  int rc = map(buffer.fd(), buffered.get(), DMABUF_RW_PATH_PREMAPPED, &error);
  refuses("no O_DIRECT", rc, error, EOPNOTSUPP, DMABUF_RW_REASON_NOT_DIRECT,
          {"cannot be mapped with datapath premapped: ", "(NOT_DIRECT, EOPNOTSUPP)",
           "open it with O_DIRECT"});
  report().check(map(buffer.fd(), buffered.get(), DMABUF_RW_PATH_PREMAPPED, nullptr) == rc,
                 "no O_DIRECT, and nobody asks why");
  rc = map(buffer.fd(), plain_disk.get(), DMABUF_RW_PATH_PREMAPPED, &error);
  refuses("no NVMe", rc, error, EOPNOTSUPP, DMABUF_RW_REASON_NOT_NVME, {"NOT_NVME", "not NVMe"});
  rc = map(direct.get(), direct.get(), DMABUF_RW_PATH_PREMAPPED, &error);
  refuses("no dma-buf", rc, error, EINVAL, DMABUF_RW_REASON_NOT_DMABUF, {"is not a dma-buf"});
  rc = map(buffer.fd(), -1, DMABUF_RW_PATH_PREMAPPED, &error);
  refuses("no target", rc, error, EBADF, DMABUF_RW_REASON_BAD_TARGET, {"not an open file"});
  rc = map(buffer.fd(), direct.get(), 77, &error);
  report().check(rc == -EINVAL && error.reason == DMABUF_RW_REASON_ARGUMENT &&
                     std::strstr(error.text, "datapath unknown"),
                 "a path of the future", error.text);
  // Nothing takes it: each path's reason is told.
  const Testexp testexp;
  const TestBuffer device =
      testexp.make(gpu_buffer(bytes, 7, DMABUF_TESTEXP_NO_CPU | DMABUF_TESTEXP_NO_PAGES));
  rc = map(device.fd(), null.get(), DMABUF_RW_PATH_AUTO, &error);
  refuses("nothing fits", rc, error, EOPNOTSUPP, DMABUF_RW_REASON_NO_PATH_FITS,
          {"NO_PATH_FITS", "[premapped: ", "(NOT_BLOCK)",
           "; registered: ", "; bvec: ", "see the reason given for each"});

  drw_error refused = {};
  rc = drw_open_file(library.get(), direct.get(), O_RDWR, nullptr, &refused);
  refuses("a file of no dma-buf", rc, refused, EINVAL, DMABUF_RW_REASON_NOT_DMABUF,
          {"does not open this dma-buf as a file: ", "is not a dma-buf"});
  rc = drw_set_timeout(library.get(), 3600001, &refused);
  report().check(rc == -EINVAL && std::strstr(refused.text, "EINVAL"), "a time-out of too long",
                 refused.text);
  report().check(drw_set_timeout(library.get(), 1000, &refused) == 0, "a time-out", refused.text);
  dmabuf_rw_info info;
  report().check(drw_info(library.get(), 12345, &info, &refused) == -ENOENT &&
                     refused.code == ENOENT,
                 "INFO of nothing", refused.text);
}

} // namespace

} // namespace vmtest

int main(int argc, char **argv) {
  using namespace vmtest;
  report().take_options(argc, argv);
  bool slots = true;
  for (int i = 1; i < argc; i++) {
    if (std::string_view(argv[i]) != "--no-registered")
      die("usage: library [--no-registered]");
    slots = false;
  }
  auto buffer = DmaBuf::create(Exporter::UdmabufScattered, bytes);
  if (!buffer)
    die(buffer.error());
  commands("premapped", *buffer, nvme, DMABUF_RW_PATH_PREMAPPED);
  commands("auto", *buffer, nvme, DMABUF_RW_PATH_AUTO);
  commands("bvec", *buffer, virtio, DMABUF_RW_PATH_BVEC);
  if (slots)
    registered(*buffer);
  file(*buffer);
  refusals(*buffer);
  return report().finish("library");
}
