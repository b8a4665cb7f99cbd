// SPDX-License-Identifier: GPL-2.0-only
// Exporter plugin: one that does as it should, and plug-ins that do not.
#include "exporter/plugin.hpp"

#include "memfd_dmabuf.hpp"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace dmabuf {
namespace {

using test::memfd_dmabuf;
using test::open_files;
using test::plain_memfd;

constexpr uint64_t kBytes = 1 << 20;

/// What the plug-in of these tests does, and what was done to it.
struct Script {
  std::vector<std::string> calls;
  int (*give)() = [] { return memfd_dmabuf(kBytes); };
  uint64_t says_bytes = kBytes;
  uint32_t reserved = 0;
  int open_error = 0, alloc_error = 0, copy_error = 0, disturb_error = 0;
  std::string words, device;
  bool ends_words = true;
  std::array<std::byte, 64> memory = {};
};
Script script;

void say(libdmabuf_words *why) {
  std::memset(why->text, 0, script.ends_words ? sizeof(why->text) : 0);
  std::memcpy(why->text, script.words.data(), std::min(script.words.size(), sizeof(why->text)));
}

const libdmabuf_exporter &good_table() {
  static const libdmabuf_exporter table = {
      .abi = LIBDMABUF_EXPORTER_ABI,
      .bytes = sizeof(libdmabuf_exporter),
      .name = "scripted",
      .version = "7",
      .open =
          [](const char *arguments, libdmabuf_device **device, libdmabuf_words *why) {
            script.calls.push_back(std::string("open ") + arguments);
            say(why);
            *device = reinterpret_cast<libdmabuf_device *>(&script);
            return script.open_error;
          },
      .close = [](libdmabuf_device *) { script.calls.push_back("close"); },
      .alloc =
          [](libdmabuf_device *, const libdmabuf_request *request, libdmabuf_allocation *made,
             libdmabuf_words *why) {
            script.calls.push_back("alloc " + std::to_string(request->bytes));
            say(why);
            if (script.alloc_error)
              return script.alloc_error;
            made->fd = script.give();
            made->bytes = script.says_bytes;
            made->reserved = script.reserved;
            std::memcpy(made->device, script.device.data(),
                        std::min(script.device.size(), sizeof(made->device)));
            return 0;
          },
      .free = [](libdmabuf_device *, libdmabuf_buffer *) { script.calls.push_back("free"); },
      .read = nullptr,
      .write = nullptr,
      .disturb = nullptr,
      .disturbs = 0,
      .reserved = 0};
  return table;
}

libdmabuf_exporter copying_table() {
  libdmabuf_exporter table = good_table();
  table.read = [](libdmabuf_device *, libdmabuf_buffer *, uint64_t offset, void *to,
                  uint64_t bytes) {
    std::memcpy(to, script.memory.data() + offset, bytes);
    return script.copy_error;
  };
  table.write = [](libdmabuf_device *, libdmabuf_buffer *, uint64_t offset, const void *from,
                   uint64_t bytes) {
    std::memcpy(script.memory.data() + offset, from, bytes);
    return script.copy_error;
  };
  return table;
}

BufferRequest request(std::string device = "/x.so,a") {
  return {.kind = ExporterKind::plugin, .device = std::move(device), .bytes = kBytes};
}

Result<DmaBuf> buffer_of(const libdmabuf_exporter &table) {
  return plugin_buffer(table, plugin_name("/x.so,a"), request());
}

class Plugin : public testing::Test {
protected:
  void SetUp() override { script = {}; }

  /// The plug-in is refused by these words, and all that it gave is given back.
  void refused(const std::string &says, int code, const std::vector<std::string> &calls) {
    const int before = open_files();
    const auto buffer = buffer_of(good_table());
    ASSERT_FALSE(buffer);
    EXPECT_NE(buffer.error().message.find(says), std::string::npos) << buffer.error().message;
    EXPECT_EQ(buffer.error().code, code) << buffer.error().message;
    EXPECT_EQ(script.calls, calls);
    EXPECT_EQ(open_files(), before);
  }

  const std::vector<std::string> whole = {"open a", "alloc 1048576", "free", "close"};
};

TEST_F(Plugin, GivesABufferAndHasItBackWhenAllElseIsGone) {
  const int before = open_files();
  {
    const auto buffer = buffer_of(good_table());
    ASSERT_TRUE(buffer) << buffer.error().message;
    EXPECT_EQ(buffer->bytes, kBytes);
    EXPECT_EQ(buffer->device, "/x.so,a") << "a plug-in that names no device";
    EXPECT_EQ(buffer->maker, "scripted 7");
    EXPECT_FALSE(buffer->memory);
    EXPECT_FALSE(buffer->owner->can(Disturbance::move));
    EXPECT_NE(fcntl(buffer->fd.get(), F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_EQ(script.calls, (std::vector<std::string>{"open a", "alloc 1048576"}));
  }
  EXPECT_EQ(script.calls, whole);
  EXPECT_EQ(open_files(), before);
}

TEST_F(Plugin, ItsDescriptorIsClosedBeforeItsMemoryIsFreed) {
  static int watched;
  static bool open_at_free;
  libdmabuf_exporter table = good_table();
  table.free = [](libdmabuf_device *, libdmabuf_buffer *) {
    open_at_free = fcntl(watched, F_GETFD) >= 0;
  };
  {
    const auto buffer = buffer_of(table);
    ASSERT_TRUE(buffer);
    watched = buffer->fd.get();
  }
  EXPECT_FALSE(open_at_free);
}

TEST_F(Plugin, SaysWhereItsMemoryIs) {
  script.device = "0000:41:00.0";
  EXPECT_EQ(buffer_of(good_table())->device, "0000:41:00.0");
  script.device = std::string(300, 'x'); // no end, and a newline
  script.device[3] = '\n';
  const auto buffer = buffer_of(good_table());
  EXPECT_EQ(buffer->device, "xxx?" + std::string(124, 'x'));
}

TEST_F(Plugin, CopiesWhereItBringsCopies) {
  const auto buffer = buffer_of(copying_table());
  ASSERT_TRUE(buffer);
  ASSERT_TRUE(buffer->memory);
  const std::array<std::byte, 4> out = {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}};
  std::array<std::byte, 4> back = {};
  EXPECT_EQ(buffer->memory->write(8, out), 0);
  EXPECT_EQ(buffer->memory->read(8, back), 0);
  EXPECT_EQ(back, out);
  script.copy_error = -EIO; // as kernel code has it
  EXPECT_EQ(buffer->memory->read(8, back), EIO);
  script.copy_error = 1 << 20;
  EXPECT_EQ(buffer->memory->write(8, out), EIO) << "no errno";
}

TEST_F(Plugin, DisturbsItsMemoryAsFarAsItSays) {
  libdmabuf_exporter table = good_table();
  table.disturb = [](libdmabuf_device *, libdmabuf_buffer *, uint32_t action,
                     libdmabuf_disturbed *seen, libdmabuf_words *why) {
    script.calls.push_back("disturb " + std::to_string(action));
    seen->stray_bytes = 24;
    say(why);
    return script.disturb_error;
  };
  table.disturbs = LIBDMABUF_DISTURB_MOVE | LIBDMABUF_DISTURB_RESTORE;
  const auto buffer = buffer_of(table);
  ASSERT_TRUE(buffer);
  script.calls.clear();
  EXPECT_TRUE(buffer->owner->can(Disturbance::move));
  EXPECT_FALSE(buffer->owner->can(Disturbance::revoke));
  EXPECT_TRUE(buffer->owner->can(Disturbance::restore));
  EXPECT_EQ(buffer->owner->disturb(Disturbance::move)->stray_bytes, 24U);
  EXPECT_EQ(buffer->owner->disturb(Disturbance::revoke).error().code, EOPNOTSUPP);
  EXPECT_TRUE(buffer->owner->disturb(Disturbance::restore));
  EXPECT_EQ(script.calls, (std::vector<std::string>{"disturb 1", "disturb 4"}));
  script.disturb_error = EBUSY;
  script.words = "a display shows it";
  const auto no = buffer->owner->disturb(Disturbance::move);
  ASSERT_FALSE(no);
  EXPECT_EQ(no.error().code, EBUSY);
  EXPECT_EQ(no.error().message,
            "plug-in scripted did not disturb its memory (EBUSY): a display shows it");
}

TEST_F(Plugin, ADescriptorThatItGivesTwiceIsRefusedAndNotClosedTwice) {
  static int kept;
  kept = memfd_dmabuf(kBytes);
  script.give = [] { return kept; };
  {
    const auto first = buffer_of(good_table());
    ASSERT_TRUE(first) << first.error().message;
    const auto second = buffer_of(good_table());
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, EPROTO);
    EXPECT_NE(second.error().message.find(" twice, and the first one is in use"), std::string::npos)
        << second.error().message;
    EXPECT_GE(fcntl(kept, F_GETFD), 0) << "closed under the first buffer";
  }
  EXPECT_LT(fcntl(kept, F_GETFD), 0);
  // A number is free again when its descriptor is closed.
  const int again = memfd_dmabuf(kBytes);
  ASSERT_EQ(dup2(again, kept), kept);
  if (again != kept)
    close(again);
  EXPECT_TRUE(buffer_of(good_table()));
}

TEST_F(Plugin, ItsWordsReachTheUser) {
  script.open_error = ENODEV;
  script.words = "no card\n";
  refused("plug-in scripted did not open (ENODEV): no card", ENODEV, {"open a"});
  SetUp();
  script.alloc_error = ENOMEM;
  script.words = "all 8 GiB are taken";
  refused("plug-in scripted did not allocate (ENOMEM): all 8 GiB are taken; 1 MiB were asked for: "
          "lower iodepth or bs",
          ENOMEM, {"open a", "alloc 1048576", "close"});
}

TEST_F(Plugin, WithoutWordsTheErrnoSpeaks) {
  script.open_error = -EACCES;
  refused("plug-in scripted did not open: EACCES (Permission denied)", EACCES, {"open a"});
}

TEST_F(Plugin, WordsWithoutAnEndAreCut) {
  script.open_error = EIO;
  script.ends_words = false;
  script.words = std::string(400, 'w');
  script.words[5] = '\033';
  refused("wwwww?" + std::string(249, 'w'), EIO, {"open a"});
}

TEST_F(Plugin, WhatIsNoDmaBufIsRefused) {
  script.give = [] { return plain_memfd(kBytes); };
  refused("plug-in scripted gave something that is no dma-buf", EINVAL, whole);
  SetUp();
  script.give = [] { return open("/dev/null", O_RDWR | O_CLOEXEC); };
  refused("is no dma-buf", EINVAL, whole);
  SetUp();
  script.give = [] {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
      return -1;
    close(ends[1]);
    return ends[0];
  };
  refused("is no dma-buf", EINVAL, whole);
}

TEST_F(Plugin, DescriptorsThatAreNotOpenAreRefused) {
  script.give = [] { return -1; };
  refused("gave descriptor -1, which is not open", EBADF, whole);
  SetUp();
  script.give = [] { return 1 << 20; };
  refused("gave descriptor 1048576, which is not open", EBADF, whole);
}

TEST_F(Plugin, BuffersThatAreTooSmallAreRefused) {
  script.give = [] { return memfd_dmabuf(kBytes - 4096); };
  script.says_bytes = kBytes;
  refused("gave a dma-buf of 1044480 bytes where 1048576 were asked for", EIO, whole);
}

TEST_F(Plugin, WhatItSaysMustBeTrue) {
  script.says_bytes = 2 * kBytes;
  refused("says that its dma-buf has 2097152 bytes, and it has 1048576", EPROTO, whole);
  SetUp();
  script.reserved = 1;
  refused("correct what alloc() gives", EPROTO, whole);
}

TEST_F(Plugin, BuffersForReadingOnlyAreRefused) {
  script.give = [] {
    const int fd = memfd_dmabuf(kBytes);
    const std::string name = "/proc/self/fd/" + std::to_string(fd);
    const int copy = open(name.c_str(), O_RDONLY | O_CLOEXEC);
    close(fd);
    return copy;
  };
  refused("not open for reading and writing", EACCES, whole);
}

TEST_F(Plugin, TablesOfOtherVersionsAreRefused) {
  libdmabuf_exporter table = good_table();
  for (const uint32_t abi : {0U, 2U, 0xffffffffU}) {
    table.abi = abi;
    const auto no = plugin_table(&table, "/x.so");
    ASSERT_FALSE(no);
    EXPECT_EQ(no.error().code, EPROTO);
    EXPECT_NE(no.error().message.find("for version " + std::to_string(abi)), std::string::npos);
  }
  table = good_table();
  table.bytes -= 8;
  EXPECT_NE(plugin_table(&table, "/x.so").error().message.find("table of "), std::string::npos);
  table.bytes = 0;
  EXPECT_FALSE(plugin_table(&table, "/x.so"));
  table.bytes = sizeof(table) + 64;
  EXPECT_TRUE(plugin_table(&table, "/x.so")) << "what is behind the end is not looked at";
  EXPECT_NE(plugin_table(nullptr, "/x.so").error().message.find("no table"), std::string::npos);
}

TEST_F(Plugin, TablesWithHolesAreRefusedByTheName) {
  const auto missing = [](auto spoil, const char *name) {
    libdmabuf_exporter table = copying_table();
    spoil(table);
    const auto no = plugin_table(&table, "/x.so");
    ASSERT_FALSE(no) << name;
    EXPECT_EQ(no.error().code, EINVAL);
    EXPECT_NE(
        no.error().message.find(std::string("plug-in /x.so has no ") + name + " in its table"),
        std::string::npos)
        << no.error().message;
  };
  missing([](auto &t) { t.name = nullptr; }, "name");
  missing([](auto &t) { t.name = ""; }, "name");
  missing([](auto &t) { t.version = nullptr; }, "version");
  missing([](auto &t) { t.open = nullptr; }, "open");
  missing([](auto &t) { t.close = nullptr; }, "close");
  missing([](auto &t) { t.alloc = nullptr; }, "alloc");
  missing([](auto &t) { t.free = nullptr; }, "free");
  missing([](auto &t) { t.read = nullptr; }, "read");
  missing([](auto &t) { t.write = nullptr; }, "write");
  missing([](auto &t) { t.disturbs = LIBDMABUF_DISTURB_MOVE; }, "disturb");
  libdmabuf_exporter table = good_table();
  table.reserved = 1;
  EXPECT_NE(plugin_table(&table, "/x.so").error().message.find("does not know"), std::string::npos);
}

TEST(PluginName, IsAFileAndWhatIsBehindTheFirstComma) {
  EXPECT_EQ(plugin_name("/a/b.so").file, "/a/b.so");
  EXPECT_EQ(plugin_name("/a/b.so").arguments, "");
  EXPECT_EQ(plugin_name("b.so,card=1,size=2").file, "b.so");
  EXPECT_EQ(plugin_name("b.so,card=1,size=2").arguments, "card=1,size=2");
  EXPECT_EQ(plugin_name("").file, "");
  EXPECT_EQ(plugin_name(",x").file, "");
}

/// allocate_dmabuf() with this dmabuf_device, which has to be refused.
Error no_plugin(const std::string &device) {
  const int before = open_files();
  auto buffer = allocate_dmabuf(request(device));
  EXPECT_FALSE(buffer) << device;
  EXPECT_EQ(open_files(), before);
  return buffer ? Error{} : buffer.error();
}

TEST(PluginFile, IsAskedForAndFoundByItsName) {
  EXPECT_NE(no_plugin("").message.find("dmabuf_device=FILE"), std::string::npos);
  EXPECT_NE(no_plugin(",x").message.find("dmabuf_device=FILE"), std::string::npos);
  const Error absent = no_plugin("/no/such/plugin.so");
  EXPECT_EQ(absent.code, ENOENT);
  EXPECT_NE(absent.message.find("/no/such/plugin.so"), std::string::npos);
  const Error searched = no_plugin("libdmabuf-no-such-plugin.so");
  EXPECT_EQ(searched.code, ENOENT);
  EXPECT_NE(searched.message.find("cannot be loaded"), std::string::npos) << searched.message;
  EXPECT_NE(no_plugin("/dev/null").message.find("no regular file"), std::string::npos);
  EXPECT_NE(no_plugin("/usr").message.find("no regular file"), std::string::npos);
}

TEST(PluginFile, WhatIsNoPluginIsRefused) {
  const std::filesystem::path folder = PLUGINS_FOLDER;
  const std::string text = (folder / "text.so").string();
  std::ofstream(text) << "not a library\n";
  EXPECT_NE(no_plugin(text).message.find("cannot be loaded"), std::string::npos);
  std::filesystem::remove(text);
  // A library without the function.
  const Error other = no_plugin("libc.so.6");
  EXPECT_EQ(other.code, EOPNOTSUPP);
  EXPECT_NE(other.message.find("libdmabuf_exporter_table; it is no plug-in"), std::string::npos)
      << other.message;
}

TEST(PluginFile, OneThatEverybodyMayChangeIsNotRun) {
  const std::filesystem::path folder = std::filesystem::path(PLUGINS_FOLDER) / "open";
  std::filesystem::create_directories(folder);
  const std::filesystem::path copy = folder / "copy.so";
  std::filesystem::copy_file(std::filesystem::path(PLUGINS_FOLDER) / "udmabuf_plugin.so", copy,
                             std::filesystem::copy_options::overwrite_existing);
  ASSERT_EQ(chmod(folder.c_str(), 0755), 0);
  ASSERT_EQ(chmod(copy.c_str(), 0775), 0);
  EXPECT_TRUE(check_plugin_file(copy)) << "a group's file is its group's affair";
  ASSERT_EQ(chmod(copy.c_str(), 0757), 0);
  Error no = no_plugin(copy);
  EXPECT_EQ(no.code, EPERM);
  EXPECT_NE(no.message.find("chmod o-w"), std::string::npos) << no.message;
  // Nor by a link, in a folder that is nobody's but ours.
  const std::filesystem::path link = std::filesystem::path(PLUGINS_FOLDER) / "link.so";
  std::filesystem::remove(link);
  std::filesystem::create_symlink(copy, link);
  EXPECT_FALSE(check_plugin_file(link));
  ASSERT_EQ(chmod(copy.c_str(), 0755), 0);
  EXPECT_TRUE(check_plugin_file(link));
  ASSERT_EQ(chmod(folder.c_str(), 0777), 0);
  EXPECT_NE(no_plugin(copy).message.find("lies in a folder"), std::string::npos);
  EXPECT_FALSE(check_plugin_file(link));
  // As /tmp is: nobody else may rename it there.
  ASSERT_EQ(chmod(folder.c_str(), 01777), 0);
  EXPECT_TRUE(check_plugin_file(copy));
  // But anybody may have made it there.
  if (geteuid() == 0) {
    ASSERT_EQ(chown(copy.c_str(), 65534, 65534), 0);
    EXPECT_FALSE(check_plugin_file(copy));
    ASSERT_EQ(chmod(folder.c_str(), 0755), 0);
    EXPECT_TRUE(check_plugin_file(copy));
  }
  std::filesystem::remove(link);
  std::filesystem::remove_all(folder);
}

/// A folder for one test: CTest runs others of this file at the same time.
struct Folder {
  ~Folder() { std::filesystem::remove_all(path); }
  std::filesystem::path make(const char *name, mode_t mode) const {
    std::filesystem::create_directories(path / name);
    EXPECT_EQ(chmod((path / name).c_str(), mode), 0);
    return path / name;
  }
  void plug_in(const std::filesystem::path &to) const {
    std::filesystem::copy_file(std::filesystem::path(PLUGINS_FOLDER) / "udmabuf_plugin.so", to);
  }
  static std::filesystem::path made() {
    std::string name = std::string(PLUGINS_FOLDER) + "/places-XXXXXX";
    EXPECT_NE(mkdtemp(name.data()), nullptr) << std::strerror(errno);
    // As create_directories() would: plug-ins in a folder of the user's own are another test's.
    EXPECT_EQ(chmod(name.c_str(), 0755), 0);
    return name;
  }
  const std::filesystem::path path = made();
};

TEST(PluginFile, AFolderAboveThatEverybodyMayExchangeIsSeen) {
  const Folder folder;
  const auto open = folder.make("open", 0777);
  const auto sub = folder.make("open/sub", 0755);
  folder.plug_in(sub / "p.so");
  const Error no = no_plugin(sub / "p.so");
  EXPECT_EQ(no.code, EPERM) << no.message;
  EXPECT_NE(no.message.find("in its place (" + open.string() + "); move it"), std::string::npos)
      << no.message;
  ASSERT_EQ(chmod(open.c_str(), 01777), 0);
  EXPECT_TRUE(check_plugin_file(sub / "p.so"));
}

TEST(PluginFile, ALinkThatEverybodyMayHavePutThereIsNotFollowed) {
  const Folder folder;
  const auto safe = folder.make("safe", 0755), open = folder.make("open", 0777);
  folder.plug_in(safe / "p.so");
  std::filesystem::create_symlink("../safe/p.so", open / "p.so");
  std::filesystem::create_symlink(std::filesystem::canonical(open), safe / "back");
  for (const auto &name : {open / "p.so", safe / "back/p.so", safe / "back/../open/p.so"})
    EXPECT_EQ(no_plugin(name).code, EPERM) << name;
  ASSERT_EQ(chmod(open.c_str(), 01777), 0);
  const auto real = check_plugin_file(safe / "back/p.so");
  ASSERT_TRUE(real) << real.error().message;
  EXPECT_EQ(*real, std::filesystem::canonical(safe / "p.so"))
      << "what is loaded is what was checked";
  // Made by another user in a folder such as /tmp, it leads where he likes.
  if (geteuid() == 0) {
    ASSERT_EQ(lchown((open / "p.so").c_str(), 65534, 65534), 0);
    EXPECT_EQ(no_plugin(open / "p.so").code, EPERM);
  }
}

TEST(PluginFile, LinksInACircleEnd) {
  const Folder folder;
  std::filesystem::create_symlink("b.so", folder.path / "a.so");
  std::filesystem::create_symlink("a.so", folder.path / "b.so");
  EXPECT_EQ(no_plugin(folder.path / "a.so").code, ELOOP);
}

TEST(PluginFile, ARelativeNameIsOneOfTheCurrentFolder) {
  const Folder folder;
  const auto safe = folder.make("safe", 0755);
  folder.plug_in(safe / "p.so");
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(safe);
  for (const char *name : {"./p.so", "../safe/p.so", ".//./p.so"})
    EXPECT_EQ(check_plugin_file(name).value_or("refused"),
              std::filesystem::canonical(safe / "p.so").string())
        << name;
  ASSERT_EQ(chmod(safe.c_str(), 0777), 0);
  EXPECT_EQ(no_plugin("./p.so").code, EPERM);
  std::filesystem::current_path(before);
}

TEST(PluginFile, TheExampleOfTheDocumentationLoads) {
  const std::string file = std::string(PLUGINS_FOLDER) + "/udmabuf_plugin.so";
  // Its own words, from its own open().
  EXPECT_NE(
      no_plugin(file + ",what")
          .message.find("plug-in udmabuf example did not open (EINVAL): it takes no arguments"),
      std::string::npos);
  if (access("/dev/udmabuf", F_OK) == 0)
    GTEST_SKIP() << "this machine has udmabuf";
  EXPECT_NE(no_plugin(file).message.find("(ENOENT): /dev/udmabuf (modprobe udmabuf)"),
            std::string::npos);
}

} // namespace
} // namespace dmabuf
