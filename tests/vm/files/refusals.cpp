// SPDX-License-Identifier: GPL-2.0-only
// Files that cannot be held, each refused by its reason; and none is left held by it.
#include "files.hpp"

#include <fcntl.h>
#include <filesystem>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vmtest {

namespace {

constexpr std::uint64_t file_bytes = 1u << 20;
constexpr int held_open = O_RDONLY | O_DIRECT | O_CLOEXEC;

// Of a file that was refused: it can be opened for writing.
void not_held(const std::string &what, const std::string &path) {
  const UniqueFd writer(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  report().check(!!writer, what + ": it is not held", errno_name(errno));
}

// As another user, who has the descriptors and no rights.
void of_others(const FileSystem &fs, int dmabuf_fd, const std::string &path) {
  const UniqueFd file = open_target(path, held_open);
  const Session session;
  in_child(fs.name() + ": another user is refused", [&] {
    become_nobody();
    refused(fs.name() + ": another user's file", session, dmabuf_fd, file.get(), EPERM,
            DMABUF_RW_REASON_FILE_OWNER, DMABUF_RW_DIR_READ);
    return report().failures() ? exit_fail : exit_pass;
  });
}

// The owner may hold a file that he may not write, for reading only.
void of_the_owner(const FileSystem &fs, int dmabuf_fd) {
  const std::string path = fs.path("readable");
  make_file(path, file_bytes, 1);
  if (::chown(path.c_str(), 65534, 65534) != 0 || ::chmod(path.c_str(), 0400) != 0)
    die("chown, chmod: " + errno_name(errno));
  const UniqueFd file = open_target(path, held_open);
  const Session session;
  in_child(fs.name() + ": the owner without rights to write", [&] {
    become_nobody();
    refused(fs.name() + ": writing a file without the permission", session, dmabuf_fd, file.get(),
            EACCES, DMABUF_RW_REASON_TARGET_MODE);
    auto entry = map_entry(dmabuf_fd, file.get(), Path::Premapped, DMABUF_RW_DIR_READ);
    entry.flags = DMABUF_RW_MAP_HOLD_FILE;
    const int got = session.map_one(entry);
    report().check(got == 0, fs.name() + ": reading one's own file",
                   errno_name(got) + " " + reason_name(entry.reason));
    return report().failures() ? exit_fail : exit_pass;
  });
}

void shell(const std::string &line, const char *what) {
  if (std::system(line.c_str()) != 0)
    die(what);
}

// Files of one file system, each refused by its reason.
class Refusals {
public:
  Refusals(const FileSystem &fs, const DmaBuf &buffer) : fs_(fs), buffer_(buffer) {
    make_file(good_, file_bytes, 1);
  }

  void run() {
    busy();
    swap();
    holes();
    ends();
    kinds();
    flag('a');
    flag('i');
    without_consent();
    in_memory();
    of_others(fs_, buffer_.fd(), good_);
    of_the_owner(fs_, buffer_.fd());
    not_held(fs_.name() + ": at the end", good_);
  }

private:
  void refuse(const std::string &what, const std::string &path, int error, std::uint32_t reason,
              int flags = held_open) {
    const UniqueFd file = open_target(path, flags);
    refused(fs_.name() + ": " + what, session_, buffer_.fd(), file.get(), error, reason);
  }

  void busy() {
    refuse("a file that is open for writing", good_, ETXTBSY, DMABUF_RW_REASON_FILE_BUSY,
           O_RDWR | O_DIRECT | O_CLOEXEC);
    {
      const UniqueFd writer(::open(good_.c_str(), O_WRONLY | O_CLOEXEC));
      refuse("a file that another has open for writing", good_, ETXTBSY,
             DMABUF_RW_REASON_FILE_BUSY);
    }
    {
      UniqueFd writer(::open(good_.c_str(), O_RDWR | O_CLOEXEC));
      void *const memory =
          ::mmap(nullptr, file_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, writer.get(), 0);
      writer.reset();
      if (memory == MAP_FAILED)
        die("mmap: " + errno_name(errno));
      refuse("a file that another has mapped for writing, and closed", good_, ETXTBSY,
             DMABUF_RW_REASON_FILE_BUSY);
      ::munmap(memory, file_bytes);
    }
    not_held(fs_.name() + ": after that", good_);
    refuse("a file without O_DIRECT", good_, EOPNOTSUPP, DMABUF_RW_REASON_NOT_DIRECT,
           O_RDONLY | O_CLOEXEC);
  }

  void swap() {
    const std::string swap = fs_.path("swap");
    make_file(swap, 4u << 20, 1);
    shell(std::format("chmod 600 {0} && mkswap -q {0} && swapon {0}", swap), "swapon");
    refuse("a swap file", swap, ETXTBSY, DMABUF_RW_REASON_FILE_BUSY);
    shell(std::format("swapoff {}", swap), "swapoff");
    not_held(fs_.name() + ": a swap file, when it is none any more", swap);
  }

  void holes() {
    const std::string hole = fs_.path("hole");
    // Where a block is asked for by itself, and in the middle of a short run and of a long one.
    for (const unsigned block : {16, 5, 201}) {
      make_file(hole, file_bytes, 1);
      shell(std::format("fallocate -p -o {} -l 4096 {}", block * 4096, hole), "fallocate");
      refuse(std::format("a file with a hole at block {}", block), hole, ENXIO,
             DMABUF_RW_REASON_FILE_HOLE);
    }
    not_held(fs_.name() + ": a file with a hole", hole);
    const std::string unwritten = fs_.path("unwritten");
    shell(std::format("fallocate -l {} {}", file_bytes, unwritten), "fallocate");
    refuse("a file that was allocated and not written", unwritten, ENXIO,
           DMABUF_RW_REASON_FILE_HOLE);
  }

  // At its end: what comes before is one extent, as it would be without.
  void ends() {
    const std::string tail = fs_.path("tail");
    make_file(tail, file_bytes, 1);
    if (::truncate(tail.c_str(), 2 * file_bytes) != 0)
      die("truncate: " + errno_name(errno));
    refuse("a file that ends in a hole", tail, ENXIO, DMABUF_RW_REASON_FILE_HOLE);
    make_file(tail, file_bytes, 1);
    shell(std::format("fallocate -o {0} -l {0} {1}", file_bytes, tail), "fallocate");
    refuse("a file whose end was not written", tail, ENXIO, DMABUF_RW_REASON_FILE_HOLE);
    const std::string empty = fs_.path("empty");
    const UniqueFd create(::open(empty.c_str(), O_CREAT | O_RDONLY | O_CLOEXEC, 0600));
    refuse("an empty file", empty, ENXIO, DMABUF_RW_REASON_FILE_HOLE);
  }

  void kinds() {
    refuse("a folder", mount_point, EOPNOTSUPP, DMABUF_RW_REASON_NOT_FILE,
           O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    refuse("a block device", "/dev/nvme0n1", EOPNOTSUPP, DMABUF_RW_REASON_NOT_FILE);
  }

  void flag(char flag) {
    const std::string path = fs_.path(std::format("flag-{}", flag));
    make_file(path, file_bytes, 1);
    shell(std::format("chattr +{} {}", flag, path), "chattr +");
    refuse(std::format("a file with +{}", flag), path, EPERM, DMABUF_RW_REASON_TARGET_MODE);
    shell(std::format("chattr -{} {}", flag, path), "chattr -");
    not_held(std::format("{}: a file with +{}", fs_.name(), flag), path);
  }

  void without_consent() {
    const UniqueFd file = open_target(good_, held_open);
    for (const Path path : {Path::Auto, Path::Registered, Path::Bvec})
      refused(std::format("{}: {} with HOLD_FILE", fs_.name(), name_of(path)), session_,
              buffer_.fd(), file.get(), EINVAL, DMABUF_RW_REASON_ARGUMENT, both_directions, path);
    auto entry = map_entry(buffer_.fd(), file.get(), Path::Premapped, DMABUF_RW_DIR_READ);
    const int plain = session_.map_one(entry);
    report().check(plain == -EOPNOTSUPP && entry.reason == DMABUF_RW_REASON_NOT_BLOCK,
                   fs_.name() + ": without consent a file is refused as before",
                   errno_name(plain) + " " + reason_name(entry.reason));
  }

  void in_memory() {
    const UniqueFd memory(::memfd_create("files", MFD_CLOEXEC));
    if (::ftruncate(memory.get(), 65536) != 0)
      die("ftruncate");
    refused("a file in memory", session_, buffer_.fd(), memory.get(), EOPNOTSUPP,
            DMABUF_RW_REASON_FILE_SYSTEM);
  }

  const FileSystem &fs_;
  const DmaBuf &buffer_;
  const Session session_;
  const std::string good_ = fs_.path("good");
};

} // namespace

void test_refusals(const FileSystem &fs) {
  auto made = DmaBuf::create(Exporter::Udmabuf, 65536);
  if (!made)
    die(made.error());
  Refusals(fs, *made).run();
}

// Another file system on the same drive: nobody has read its code. And one that has data in its
// journal first.
void test_unknown(const std::string &type) {
  if (type != "ext4")
    return;
  auto made = DmaBuf::create(Exporter::Udmabuf, 65536);
  if (!made)
    die(made.error());
  const Session session;
  const auto refuse = [&](const FileSystem &fs, const std::string &what, std::uint32_t reason) {
    const std::string path = fs.path("file");
    make_file(path, file_bytes, 1);
    const UniqueFd file = open_target(path, held_open);
    refused(what, session, made->fd(), file.get(), EOPNOTSUPP, reason);
    not_held(what, path);
  };
  // The lab's debug kernel has none.
  if (read_file("/proc/filesystems").contains("\text2\n"))
    refuse(FileSystem("ext2", 0), "a file of ext2", DMABUF_RW_REASON_FILE_SYSTEM);
  else
    report().skip("ext2", "the kernel has none");
  refuse(FileSystem("ext4", 0, 512u << 20, "data=journal"), "a file of ext4 with data=journal",
         DMABUF_RW_REASON_FILE_KIND);
}

} // namespace vmtest
