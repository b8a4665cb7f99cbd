// SPDX-License-Identifier: GPL-2.0-only
#include "drive_claim.hpp"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <linux/fs.h>
#include <sstream>
#include <string_view>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>
#include <vector>

namespace integrity {

using dmabuf::errno_text;
using dmabuf::fail;
using dmabuf::Result;
using dmabuf::UniqueFd;

int DriveCalls::open(const std::string &path, int flags) {
  return ::open(path.c_str(), flags | O_CLOEXEC);
}

std::string DriveCalls::number(int fd) {
  struct stat state = {};
  if (fstat(fd, &state) || !S_ISBLK(state.st_mode))
    return "";
  return dmabuf::strf("%u:%u", major(state.st_rdev), minor(state.st_rdev));
}

bool DriveCalls::may_claim(int fd) {
  // To set the block size that it has changes nothing. The kernel lets the claimant do that, and
  // for anybody else it takes a claim meanwhile: EBUSY where somebody has one.
  int size = 0;
  return ::ioctl(fd, BLKBSZGET, &size) == 0 && ::ioctl(fd, BLKBSZSET, &size) == 0;
}

void DriveCalls::pause() {
  const timespec tenth = {.tv_sec = 0, .tv_nsec = 100'000'000};
  nanosleep(&tenth, nullptr);
}

namespace {

namespace fs = std::filesystem;

/// A drive that has just come, or was just closed, is claimed for a moment by udev.
constexpr unsigned kPatience = 30; // of DriveCalls::pause()

/// The text of a file in sysfs or /proc, without blanks around it; "" if there is none.
std::string text_of(const std::string &path) {
  std::ifstream file(path);
  std::ostringstream all;
  all << file.rdbuf();
  std::string text = all.str();
  constexpr const char *kBlanks = " \t\n\r\0";
  const size_t first = text.find_first_not_of(kBlanks, 0, 5);
  if (first == text.npos)
    return "";
  return text.substr(first, text.find_last_not_of(kBlanks, text.npos, 5) - first + 1);
}

std::string trimmed(const std::string &text) {
  const size_t first = text.find_first_not_of(" \t\n");
  return first == text.npos ? "" : text.substr(first, text.find_last_not_of(" \t\n") - first + 1);
}

std::vector<std::string> names(const std::string &folder) {
  std::vector<std::string> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error))
    found.push_back(entry->path().filename());
  std::ranges::sort(found);
  return found;
}

bool exists(const std::string &path) {
  std::error_code error;
  return fs::exists(path, error);
}

/// An identifier as bare digits: the kernel writes the same one with and without dashes and its
/// kind. "" for one that is all zeros, which says nothing.
std::string plain(const std::string &identifier) {
  std::string text = trimmed(identifier);
  for (char &c : text)
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  for (const char *kind : {"uuid.", "eui.", "nguid.", "naa.", "0x"})
    if (text.starts_with(kind)) {
      text.erase(0, std::string_view(kind).size());
      break;
    }
  if (text.find_first_not_of("0123456789abcdef- ") == text.npos)
    std::erase_if(text, [](char c) { return c == '-' || c == ' '; });
  return text.find_first_not_of('0') == text.npos ? "" : text;
}

/// A block device, by its folder in sysfs.
struct Node {
  std::string name;   ///< nvme0n1p1
  std::string folder; ///< of itself
  std::string disk;   ///< of the whole disk
};

/// The node behind a folder in sysfs; the names are those that links lead to.
Node node_at(const std::string &link) {
  std::error_code error;
  const fs::path real = fs::canonical(link, error);
  if (error)
    return {};
  const bool part = exists(real.string() + "/partition");
  return {.name = real.filename(), .folder = real, .disk = part ? real.parent_path() : real};
}

/// What a disk says of itself.
struct Identity {
  std::string serial, wwid, model;
  std::vector<std::string> plain_ids; ///< without empty ones

  bool is(const std::string &wanted) const {
    const std::string bare = plain(wanted);
    return (!serial.empty() && trimmed(wanted) == serial) ||
           (!bare.empty() && std::ranges::find(plain_ids, bare) != plain_ids.end());
  }
  /// For messages.
  std::string text() const {
    std::string said = serial.empty() ? "no serial number" : "serial number is " + serial;
    if (!wwid.empty())
      said += ", its wwid " + wwid;
    return said + (model.empty() ? "" : " (" + model + ")");
  }
};

/// The unit serial number in a SCSI drive's page 0x80 of vital product data.
std::string scsi_serial(const std::string &disk) {
  std::ifstream file(disk + "/device/vpd_pg80", std::ios::binary);
  std::ostringstream all;
  all << file.rdbuf();
  const std::string data = all.str();
  return data.size() > 4 ? trimmed(data.substr(4, static_cast<unsigned char>(data[3]))) : "";
}

Identity identity_of(const std::string &disk) {
  const auto first = [&](std::initializer_list<const char *> files) {
    for (const char *file : files)
      if (std::string text = text_of(disk + "/" + file); !text.empty())
        return text;
    return std::string();
  };
  Identity found = {.serial = first({"device/serial", "serial"}),
                    .wwid = first({"wwid", "device/wwid"}),
                    .model = first({"device/model"}),
                    .plain_ids = {}};
  if (found.serial.empty())
    found.serial = scsi_serial(disk);
  if (plain(found.serial).empty()) // zeros, as of all that have none
    found.serial.clear();
  for (const std::string &one :
       {found.wwid, text_of(disk + "/nguid"), text_of(disk + "/eui"), text_of(disk + "/uuid")})
    if (std::string bare = plain(one); !bare.empty())
      found.plain_ids.push_back(std::move(bare));
  if (plain(found.wwid).empty())
    found.wwid.clear();
  return found;
}

/// Why the drive is not surely the one that is meant; "" when it is.
std::string not_named(const DriveCalls &calls, const Node &node, const std::string &wanted) {
  const Identity own = identity_of(node.disk);
  if (own.serial.empty() && own.plain_ids.empty())
    return "it has neither serial number nor wwid by which it could be named; give a drive, no "
           "loop, "
           "RAID or device mapper device";
  if (trimmed(wanted).empty())
    return "--identity is missing, the serial number or wwid of the drive whose data may be lost; "
           "this one's " +
           own.text();
  if (!own.is(wanted))
    return "it is not " + wanted + ": its " + own.text() + "; check which drive you mean";
  // A serial number is that of all namespaces of a drive.
  for (const std::string &name : names(calls.root + "/sys/block")) {
    const Node other = node_at(calls.root + "/sys/block/" + name);
    if (other.folder == node.disk || !exists(other.folder + "/dev"))
      continue;
    const Identity its = identity_of(other.disk);
    const bool same =
        std::ranges::find_first_of(its.plain_ids, own.plain_ids) != its.plain_ids.end();
    if (its.is(wanted) && !same)
      return "/dev/" + other.name +
             " has the same serial number; name the namespace by its wwid, " +
             (own.wwid.empty() ? "which it does not have" : own.wwid);
  }
  return "";
}

/// Names as /proc/self/mountinfo and /proc/swaps write them, blanks as octal numbers.
std::string unescaped(const std::string &text) {
  std::string out;
  for (size_t at = 0; at < text.size(); at++) {
    const auto octal = [&](size_t i) { return i < text.size() && text[i] >= '0' && text[i] < '8'; };
    if (text[at] == '\\' && octal(at + 1) && octal(at + 2) && octal(at + 3)) {
      out += static_cast<char>(std::strtol(text.substr(at + 1, 3).c_str(), nullptr, 8));
      at += 3;
    } else {
      out += text[at];
    }
  }
  return out;
}

/// Finds who has a device, for the message of a claim that failed.
class Users {
public:
  /// The device, and what shares its claim: a disk's partitions, a partition's disk.
  Users(const DriveCalls &calls, const Node &node) : root_(calls.root) {
    add(node);
    if (node.folder != node.disk) {
      add(node_at(node.disk));
      return;
    }
    for (const std::string &name : names(node.disk))
      if (exists(node.disk + "/" + name + "/partition"))
        add(node_at(node.disk + "/" + name));
  }

  /// All there are, joined; "" when none is to be seen.
  std::string text() {
    mounts(text_of(root_ + "/proc/self/mountinfo"), "");
    const auto processes = names(root_ + "/proc");
    for (const std::string &pid : processes)
      if (found_.empty() && is_number(pid))
        mounts(text_of(root_ + "/proc/" + pid + "/mountinfo"), " for process " + pid);
    swaps();
    for (const Part &part : parts_)
      for (const std::string &name : names(part.node.folder + "/holders")) {
        const std::string label = text_of(part.node.folder + "/holders/" + name + "/dm/name");
        note("/dev/" + part.node.name + " is held by " + name +
             (label.empty() ? "" : " (" + label + ")") + ": stop that first");
      }
    if (found_.empty())
      for (const std::string &pid : processes)
        if (is_number(pid) && std::stol(pid) != getpid())
          opened_by(pid);
    return found_;
  }

private:
  struct Part {
    Node node;
    std::string number;
  };

  static bool is_number(const std::string &text) {
    return !text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == text.npos;
  }
  void add(Node node) {
    std::string number = text_of(node.folder + "/dev");
    parts_.push_back({.node = std::move(node), .number = std::move(number)});
  }
  void note(const std::string &what) { found_ += (found_.empty() ? "" : "; ") + what; }

  /// The part that a number is of, or a path in /dev; null when it is none of them.
  const Part *part(const std::string &number, const std::string &path) const {
    std::string by_name;
    if (path.starts_with("/dev/"))
      by_name = text_of(root_ + "/sys/class/block/" + path.substr(path.rfind('/') + 1) + "/dev");
    for (const Part &one : parts_)
      if (!one.number.empty() && (one.number == number || one.number == by_name))
        return &one;
    return nullptr;
  }

  void mounts(const std::string &table, const std::string &whose) {
    std::istringstream lines(table);
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      std::string id, parent, number, base, place, word, kind, source;
      words >> id >> parent >> number >> base >> place;
      while (words >> word && word != "-")
        ;
      words >> kind >> source;
      if (const Part *found = part(number, unescaped(source)))
        note("/dev/" + found->node.name + " is mounted at " + unescaped(place) + whose +
             ": unmount it first");
    }
  }
  void swaps() {
    std::istringstream lines(text_of(root_ + "/proc/swaps"));
    for (std::string line; std::getline(lines, line);)
      if (const Part *found = part("", unescaped(line.substr(0, line.find_first_of(" \t")))))
        note("/dev/" + found->node.name + " is swap space: swapoff it first");
  }
  void opened_by(const std::string &pid) {
    const std::string folder = root_ + "/proc/" + pid;
    for (const std::string &name : names(folder + "/fd")) {
      std::error_code error;
      const fs::path target = fs::read_symlink(folder + "/fd/" + name, error);
      if (const Part *found = error ? nullptr : part("", target)) {
        note("process " + pid + " (" + text_of(folder + "/comm") + ") has /dev/" +
             found->node.name + " open");
        return;
      }
    }
  }

  std::string root_, found_;
  std::vector<Part> parts_;
};

std::unexpected<dmabuf::Error> in_use(const DriveCalls &calls, const Node &node) {
  std::string who = Users(calls, node).text();
  if (who.empty())
    who = "nothing in /proc and sysfs says by whom: see zpool status, lsof, and what the machine "
          "exports";
  return fail(EBUSY, "/dev/" + node.name + " is in use and is not overwritten (EBUSY): " + who);
}

/// Whether a path leads to a descriptor of this process: an open of it is one of its own.
bool is_descriptor(const std::string &path) {
  return path.starts_with("/dev/fd/") || path.starts_with("/proc/self/fd/");
}

/// Opens what a descriptor has once more, claimed.
Result<UniqueFd> claim(DriveCalls &calls, const Node &node, int descriptor, bool inherited) {
  const std::string again = dmabuf::strf("/proc/self/fd/%d", descriptor);
  for (unsigned tries = 0;; tries++) {
    UniqueFd fd(calls.open(again, O_RDWR | O_DIRECT | O_EXCL));
    // The claim of whoever passed the descriptor is there as long as it is open.
    if (!fd && errno == EBUSY && inherited && calls.may_claim(descriptor))
      fd.reset(calls.open(again, O_RDWR | O_DIRECT));
    if (fd)
      return fd;
    if (errno != EBUSY)
      return fail(errno, errno_text("cannot open /dev/" + node.name + " for writing", errno));
    if (tries == kPatience)
      return in_use(calls, node);
    calls.pause();
  }
}

} // namespace

Result<UniqueFd> open_drive(DriveCalls &calls, const DriveRequest &request) {
  const bool inherited = request.path.empty();
  UniqueFd own;
  if (!inherited) {
    // What is no drive, such as a FIFO, must not be waited for.
    own.reset(calls.open(request.path, O_RDONLY | O_NONBLOCK));
    if (!own)
      return fail(errno, errno_text("cannot open " + request.path, errno));
  }
  const int descriptor = inherited ? request.descriptor : own.get();
  const std::string what = inherited ? dmabuf::strf("descriptor %d", descriptor) : request.path;
  const std::string number = calls.number(descriptor);
  if (number.empty())
    return fail(ENOTBLK, what + " is no block device; give the namespace, such as /dev/nvme0n1");
  const Node node = node_at(calls.root + "/sys/dev/block/" + number);
  if (node.name.empty())
    return fail(ENODEV, what + " is gone: sysfs has no device " + number);
  if (request.writes || !request.identity.empty())
    if (const std::string why = not_named(calls, node, request.identity); !why.empty())
      return fail(EPERM, "/dev/" + node.name + " is not " +
                             (request.writes ? "overwritten: " : "used: ") + why);
  if (request.writes) {
    auto fd = claim(calls, node, descriptor, inherited);
    if (!fd && fd.error().code == EBUSY && is_descriptor(request.path))
      fd.error().message += "; a claim that the caller has counts when the descriptor is given by "
                            "--device-fd";
    return fd;
  }
  UniqueFd fd(calls.open(dmabuf::strf("/proc/self/fd/%d", descriptor), O_RDONLY | O_DIRECT));
  if (!fd)
    return fail(errno, errno_text("cannot open " + what, errno));
  return fd;
}

} // namespace integrity
