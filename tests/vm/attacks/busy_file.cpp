// SPDX-License-Identifier: GPL-2.0-only
// A file whose file system is another user's program (FUSE): it says EAGAIN for good, or nothing at
// all.
#include "attacks.hpp"

#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <linux/fuse.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>

namespace vmtest {

namespace {

constexpr const char mount_point[] = "/tmp/attacks.fuse";
constexpr std::uint64_t root_node = FUSE_ROOT_ID, file_node = 2;
constexpr std::uint32_t block = 4096;
constexpr std::size_t bytes = 65536;
// EAGAIN for good is EIO after so many times, so that who asks again and again comes to an end.
constexpr unsigned patience = 200;
// A file system may divide an I/O; that is no asking again.
constexpr unsigned few = 20;

// Of an exporter that is told of the CPU's access, for which a worker waits in the file's call; or
// of one that is not.
DmaBuf buffer_of(bool told) {
  if (told)
    return make_buffer(bytes);
  auto buffer = DmaBuf::create(Exporter::Vgem, bytes);
  if (!buffer)
    die("vgem: " + buffer.error());
  return std::move(*buffer);
}

// A file system with one file of `bytes`, which opens with or without O_DIRECT.
class FuseFile {
public:
  enum class Mood { Again, Silent };

  FuseFile() : wake_(::eventfd(0, EFD_CLOEXEC)) {
    std::filesystem::create_directories(mount_point);
    shell("modprobe fuse");
    device_ = UniqueFd(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
    if (!device_ || !wake_)
      die("/dev/fuse: " + errno_name(errno));
    const std::string options =
        std::format("fd={},rootmode=40000,user_id=0,group_id=0", device_.get());
    if (::mount("attacks", mount_point, "fuse", MS_NOSUID | MS_NODEV, options.c_str()) != 0)
      die("mount of fuse: " + errno_name(errno));
    server_ = std::jthread([this] { serve(); });
  }
  FuseFile(const FuseFile &) = delete;
  FuseFile &operator=(const FuseFile &) = delete;
  ~FuseFile() {
    die_now();
    report().check(wait_for([] { return ::umount2(mount_point, 0) == 0; }, 20), "umount of fuse");
  }
  static std::string path() { return std::string(mount_point) + "/file"; }
  void be(Mood mood) { mood_ = mood; }
  // Reads and writes that arrived since the last question.
  unsigned asked() { return asked_.exchange(0); }
  unsigned asked_so_far() const { return asked_; }
  // In a child, which is not to keep the server's side open when the server has gone.
  void be_no_server() { device_.reset(); }
  // As a server that crashes: the kernel ends whatever it was asked.
  void die_now() {
    if (!server_.joinable())
      return;
    const std::uint64_t one = 1;
    report().check(::write(wake_.get(), &one, sizeof(one)) == sizeof(one), "eventfd");
    server_.join();
    device_.reset();
  }

private:
  void answer(std::uint64_t unique, int error, const void *body = nullptr, std::size_t size = 0) {
    char reply[256];
    fuse_out_header head{};
    head.len = static_cast<std::uint32_t>(sizeof(head) + size);
    head.error = error;
    head.unique = unique;
    std::memcpy(reply, &head, sizeof(head));
    if (size)
      std::memcpy(reply + sizeof(head), body, size);
    // ENOENT: who asked has been killed meanwhile.
    if (::write(device_.get(), reply, head.len) < 0 && errno != ENOENT)
      report().fail("an answer to fuse", errno_name(errno));
  }
  template <typename Body> void answer(std::uint64_t unique, const Body &body) {
    answer(unique, 0, &body, sizeof(body));
  }
  static fuse_attr attributes(std::uint64_t node) {
    fuse_attr attr{};
    attr.ino = node;
    attr.mode = node == root_node ? S_IFDIR | 0755 : S_IFREG | 0666;
    attr.nlink = 1;
    attr.size = node == root_node ? 0 : bytes;
    attr.blksize = block;
    return attr;
  }
  void moved(std::uint64_t unique) {
    const unsigned times = ++asked_;
    if (mood_ == Mood::Again)
      answer(unique, times > patience ? -EIO : -EAGAIN);
  }
  void handle(const fuse_in_header &in, const char *body) {
    switch (in.opcode) {
    case FUSE_INIT: {
      fuse_init_in init{};
      std::memcpy(&init, body, std::min(sizeof(init), in.len - sizeof(in)));
      fuse_init_out out{};
      out.major = FUSE_KERNEL_VERSION;
      out.minor = std::min(init.minor, std::uint32_t{FUSE_KERNEL_MINOR_VERSION});
      out.flags = FUSE_ASYNC_READ | FUSE_ASYNC_DIO;
      out.max_write = 128 << 10;
      out.max_background = 16;
      out.congestion_threshold = 12;
      return answer(in.unique, out);
    }
    case FUSE_LOOKUP: {
      fuse_entry_out out{};
      out.nodeid = file_node;
      out.attr = attributes(file_node);
      return answer(in.unique, out);
    }
    case FUSE_GETATTR: {
      fuse_attr_out out{};
      out.attr = attributes(in.nodeid);
      return answer(in.unique, out);
    }
    case FUSE_OPEN:
      return answer(in.unique, fuse_open_out{});
    case FUSE_READ:
    case FUSE_WRITE:
      return moved(in.unique);
    case FUSE_RELEASE:
    case FUSE_FLUSH:
      return answer(in.unique, 0);
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
      return; // no answer is wanted
    default:
      return answer(in.unique, -ENOSYS);
    }
  }
  void serve() {
    std::vector<char> request(256 << 10);
    pollfd ready[] = {{.fd = device_.get(), .events = POLLIN, .revents = 0},
                      {.fd = wake_.get(), .events = POLLIN, .revents = 0}};
    while (::poll(ready, 2, -1) > 0 && !ready[1].revents) {
      const ssize_t length = ::read(device_.get(), request.data(), request.size());
      if (length < static_cast<ssize_t>(sizeof(fuse_in_header))) {
        if (length < 0 && (errno == ENOENT || errno == EINTR || errno == EAGAIN))
          continue;
        return report().fail("a request of fuse", errno_name(errno));
      }
      fuse_in_header in;
      std::memcpy(&in, request.data(), sizeof(in));
      handle(in, request.data() + sizeof(in));
    }
  }

  UniqueFd device_, wake_;
  std::atomic<Mood> mood_ = Mood::Again;
  std::atomic<unsigned> asked_ = 0;
  std::jthread server_;
};

// What pread or pwrite of the same says.
int plainly(int fd, Direction direction) {
  HostBuffer memory(block);
  void *const at = memory.words().data();
  const ssize_t moved =
      direction == Direction::Read ? ::pread(fd, at, block, 0) : ::pwrite(fd, at, block, 0);
  return moved < 0 ? -errno : static_cast<int>(moved);
}

// What io_uring would take for "again": the caller hears EBUSY, and the file is asked once. The
// page cache has an answer of its own (EIO, of a page that could not be read).
void again_for_good(FuseFile &file, bool direct, bool told) {
  const UniqueFd target = open_target(file.path(), O_RDWR | O_CLOEXEC | (direct ? O_DIRECT : 0));
  const DmaBuf buffer = buffer_of(told);
  Session session;
  Ring ring(8);
  Mover mover(session, ring, buffer.fd(), target.get(), Path::Bvec);
  if (mover.error())
    die("MAP of a file of fuse: " + errno_name(mover.error()));
  for (const Direction direction : {Direction::Read, Direction::Write})
    for (const bool by_ring : {true, false}) {
      const std::string what = std::format("a {} by {} of a file {} O_DIRECT that says EAGAIN for "
                                           "good, by an exporter that is{} told",
                                           name_of(direction), by_ring ? "io_uring" : "the ioctl",
                                           direct ? "with" : "without", told ? "" : " not");
      file.asked();
      const int result =
          by_ring ? mover.transfer(direction, 0, block, 0) : mover.waited(direction, 0, block, 0);
      const unsigned asked = file.asked();
      const int plain = plainly(target.get(), direction);
      report().check(result == (plain == -EAGAIN ? -EBUSY : plain) && result < 0, what,
                     std::format("{}; plainly {}", errno_name(result), errno_name(plain)));
      report().check(asked >= 1 && asked <= few, what + ": how often it was asked",
                     std::format("{}", asked));
    }
}

// Maps the file and waits for an I/O that does not end.
[[noreturn]] void wait_for_ever(const std::string &path, bool told) {
  const UniqueFd target = open_target(path);
  const DmaBuf buffer = buffer_of(told);
  Session session;
  Ring ring(8);
  Mover mover(session, ring, buffer.fd(), target.get(), Path::Bvec);
  if (!mover.error())
    mover.transfer(Direction::Read, 0, block, 0);
  ::_exit(exit_fail); // killed before this
}

// Who waits for such a file and is killed keeps nobody else waiting, and leaves nothing behind when
// its server has gone.
void silent_for_good(FuseFile &file, bool told) {
  file.be(FuseFile::Mood::Silent);
  file.asked();
  const int before = mappings_alive();
  const pid_t child = ::fork();
  if (child == 0) {
    file.be_no_server();
    wait_for_ever(file.path(), told);
  }
  if (child < 0 || !wait_for([&] { return file.asked_so_far() > 0; }, 60)) {
    report().fail("a read of a file that says nothing", "it did not arrive there");
    return;
  }
  ::kill(child, SIGKILL);
  {
    const UniqueFd target = open_target(drive);
    const DmaBuf buffer = make_buffer(bytes);
    HostBuffer want(block);
    fill_pattern(want.words(), 21, 0);
    write_plain(target.get(), want.words(), attack_base);
    Session session;
    Ring ring(8);
    Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped);
    report().check(mover.error() == 0, "MAP of another user meanwhile", errno_name(mover.error()));
    const int result = mover.transfer(Direction::Read, 0, block, attack_base);
    report().check(result == static_cast<int>(block), "I/O of another user meanwhile",
                   errno_name(result));
    const CpuAccess access(buffer, false);
    report().check(!compare_words(buffer.words().first(block / 8), want.words()),
                   "the bytes of another user meanwhile");
    report().check(mover.release() == 0, "UNMAP of another user meanwhile");
  }
  file.die_now();
  int status = 0;
  const bool gone = wait_for([&] { return ::waitpid(child, &status, WNOHANG) == child; }, 60);
  report().check(gone && WIFSIGNALED(status), "a killed process whose file says nothing is gone",
                 std::format("status {:#x}", status));
  report().check(wait_for([&] { return mappings_alive() == before; }, 60), "so is its mapping",
                 std::format("{} mappings, {} before", mappings_alive(), before));
}

} // namespace

void attack_busy_file() {
  for (const bool told : {true, false}) {
    FuseFile file;
    for (const bool direct : {true, false})
      again_for_good(file, direct, told);
    silent_for_good(file, told);
  }
}

} // namespace vmtest
