// SPDX-License-Identifier: GPL-2.0-only
// A command with a personality (sqe->personality) is made with that user's rights, all of it: also
// one that waits for a worker, and the rest of one that its target stopped because it would have
// had to wait, which the ring's own task goes on with.
#include "attacks.hpp"
#include "lib/file_system.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <thread>

namespace vmtest {

namespace {

constexpr std::size_t bytes = 65536;
// Of no block: btrfs takes it through the page cache.
constexpr std::uint32_t begin = 512, length = 32768;
// Every read of the file, and of no other, goes through it.
constexpr const char asked[] = "btrfs_file_read_iter";
constexpr uid_t nobody = 65534;
constexpr std::uint32_t generation = 21; // what the file holds

// Of this thread alone: the library's call is for all of them.
void be(uid_t user) {
  if (::syscall(SYS_setresuid, -1, user, -1) != 0)
    die("setresuid: " + errno_name(errno));
}

int personality_of(Ring &ring, uid_t user) {
  be(user);
  const int id = io_uring_register_personality(ring.raw());
  be(0);
  if (id < 0)
    die("io_uring_register_personality: " + errno_name(id));
  return id;
}

// The first bytes of the file are in the page cache, and no others.
void cache_the_beginning(const std::string &path, std::size_t cached) {
  const UniqueFd plain(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::vector<char> into(cached);
  if (::posix_fadvise(plain.get(), 0, 0, POSIX_FADV_DONTNEED) != 0 ||
      ::posix_fadvise(plain.get(), 0, 0, POSIX_FADV_RANDOM) != 0 ||
      (cached && ::pread(plain.get(), into.data(), cached, 0) != static_cast<ssize_t>(cached)))
    die("the page cache cannot be filled");
}

// For its first seconds the file is being read by somebody else, from a drive that does not answer
// yet: whoever comes meanwhile has to wait. Not by a call of `asked`.
class ReadAhead {
public:
  ReadAhead(const Hurt &hurt, const std::string &path)
      : freezer_([&hurt] { hurt.freeze("nvme0n1", frozen_ms); }) {
    if (!wait_for([&] { return hurt.frozen() == 1; }, 20))
      die("the queue does not freeze");
    reader_ = std::jthread([this, path] {
      const UniqueFd plain(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
      tid_ = ::gettid();
      ::posix_fadvise(plain.get(), 0, bytes, POSIX_FADV_WILLNEED);
    });
    if (!wait_for([this] { return tid_ != 0 && asleep(tid_); }, 5))
      die("what is to be read ahead does not wait for the drive");
  }
  ReadAhead(const ReadAhead &) = delete;
  ReadAhead &operator=(const ReadAhead &) = delete;

private:
  static constexpr unsigned frozen_ms = 3000;
  std::atomic<pid_t> tid_ = 0;
  std::jthread freezer_, reader_;
};

struct Case {
  std::string_view name;
  std::size_t cached; // 0: none of it, and what is missing is being read
};
constexpr Case cases[] = {{"a READ that its target stops", 8192},
                          {"a READ that waits from its beginning", 0}};

// One READ with the ring's own rights (0) or a personality's.
Hurt::Calls calls_of_a_read(const Hurt &hurt, const std::string &path, Ring &ring,
                            const Session &session, std::uint32_t handle, const DmaBuf &buffer,
                            const Case &one, int personality) {
  {
    const CpuAccess access(buffer, true);
    fill_pattern(buffer.words(), buffer_poison, 0);
  }
  cache_the_beginning(path, one.cached);
  std::optional<ReadAhead> ahead;
  if (!one.cached)
    ahead.emplace(hurt, path);
  ring.queue_command(session.fd(), DMABUF_RW_URING_READ, 0, length,
                     {.file_offset = begin, .handle = handle, .flags = 0});
  // The entry that was queued last.
  ring.raw()->sq.sqes[(ring.raw()->sq.sqe_tail - 1) & ring.raw()->sq.ring_mask].personality =
      static_cast<__u16>(personality);
  hurt.watch_rights(asked);
  const int got = ring.run_one();
  const Hurt::Calls calls = hurt.rights();
  hurt.rights_off();
  report().check(got == static_cast<int>(length), one.name, errno_name(got));
  HostBuffer want(bytes);
  fill_pattern(want.words(), generation, 0);
  const CpuAccess access(buffer, false);
  const auto wrong =
      compare_words(buffer.words().first(length / 8), want.words().subspan(begin / 8, length / 8));
  report().check(!wrong, std::format("{}: every byte", one.name), wrong ? describe(*wrong, 0) : "");
  return calls;
}

} // namespace

void attack_personality() {
  const FileSystem fs("btrfs", 0);
  const std::string path = fs.path("file");
  make_file(path, bytes, generation);
  const Hurt hurt;
  // An exporter that need not be told of the CPU: else all of it is a worker's.
  auto made = DmaBuf::create(Exporter::Vgem, bytes);
  if (!made)
    die("vgem: " + made.error());
  const DmaBuf buffer = std::move(*made);
  const UniqueFd target = open_target(path);
  Session session;
  Ring ring(8);
  const int personality = personality_of(ring, nobody);
  auto entry = map_entry(buffer.fd(), target.get(), Path::Bvec);
  if (const int error = session.map_one(entry))
    die("MAP: " + errno_name(error));
  // Where the machine is so slow that the drive goes on before the READ comes, it does not wait.
  const auto calls = [&](const Case &one, int as) {
    Hurt::Calls seen;
    for (int tries = 0; tries < 60 && seen.by_root + seen.by_others < 2; ++tries)
      seen = calls_of_a_read(hurt, path, ring, session, entry.handle, buffer, one, as);
    return seen;
  };
  for (const Case &one : cases) {
    const auto own = calls(one, 0);
    report().check(
        own.by_root >= 2 && own.by_others == 0,
        std::format("{}: without a personality all is the ring's owner's", one.name),
        std::format("{} calls with root's rights, {} with others'", own.by_root, own.by_others));
    const auto lent = calls(one, personality);
    report().check(
        lent.by_others >= 2 && lent.by_root == 0,
        std::format("{}: with a personality all is that user's", one.name),
        std::format("{} calls with root's rights, {} with others'", lent.by_root, lent.by_others));
  }
  report().check(session.unmap_one(entry.handle) == 0, "UNMAP");
}

} // namespace vmtest
