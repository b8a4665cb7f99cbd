// SPDX-License-Identifier: GPL-2.0-only
// Arguments of the ioctls: QUERY, CONFIG, INFO, MAP, UNMAP.
#include "isolation.hpp"

#include <cstring>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <vector>

namespace vmtest {

namespace {

int raw_ioctl(const Session &session, unsigned long request, const void *argument) {
  const int result = ::ioctl(session.fd(), request, argument);
  return result < 0 ? -errno : result;
}

std::uint64_t address(const void *pointer) { return reinterpret_cast<std::uintptr_t>(pointer); }

// A page that cannot be written (or not even read) by anybody.
class Page {
public:
  Page() {
    data_ = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data_ == MAP_FAILED)
      die("mmap of a page");
  }
  Page(const Page &) = delete;
  Page &operator=(const Page &) = delete;
  ~Page() { ::munmap(data_, 4096); }
  void *data() const { return data_; }
  void protect(int protection) const { ::mprotect(data_, 4096, protection); }

private:
  void *data_;
};

// AUTO says why it passed over a path, and takes the next.
void auto_takes_the_next(Bed &bed, int other, int cached) {
  const struct {
    int fd;
    std::uint32_t path, refused;
  } wanted[] = {
      {bed.target.get(), DMABUF_RW_PATH_PREMAPPED, DMABUF_RW_REASON_NONE},
      {other, DMABUF_RW_PATH_REGISTERED, DMABUF_RW_REASON_NOT_NVME},
      {cached, DMABUF_RW_PATH_REGISTERED, DMABUF_RW_REASON_NOT_DIRECT},
  };
  dmabuf_rw_query query{};
  bed.session.query(query);
  for (const auto &want : wanted) {
    if (want.path == DMABUF_RW_PATH_REGISTERED && !(query.features & DMABUF_RW_FEAT_REGISTERED)) {
      report().skip("MAP with AUTO", "this kernel has no registered path");
      continue;
    }
    auto entry = map_entry(bed.buffer.fd(), want.fd, Path::Auto);
    if (expect("MAP with AUTO", bed.session.map_one(entry), {0})) {
      report().check(entry.path == want.path && entry.refused[1] == want.refused,
                     "MAP with AUTO takes the first path that works",
                     std::format("path {}, premapped refused for {}", entry.path,
                                 reason_name(entry.refused[1])));
      bed.session.unmap_one(entry.handle);
    }
  }
}

// Calls of MAP that are wrong themselves; one more entry than max_batch, all good.
void bad_maps(Bed &bed, std::vector<dmabuf_rw_map_entry> &entries) {
  const dmabuf_rw_map_entry good = entries[0];
  expect("MAP of no entry", bed.session.map(std::span(entries).first(0)), {EINVAL});
  expect("MAP of max_batch + 1", bed.session.map(entries), {EINVAL, E2BIG});
  dmabuf_rw_map map{};
  map.entries = address(entries.data());
  map.nr_entries = ~0u;
  expect("MAP of 2^32 - 1", raw_ioctl(bed.session, DMABUF_RW_IOC_MAP, &map), {EINVAL, E2BIG});
  map.nr_entries = 1;
  map.flags = 1;
  expect("MAP call flags", raw_ioctl(bed.session, DMABUF_RW_IOC_MAP, &map), {EINVAL});
  map.flags = 0;
  map.reserved = 1;
  expect("MAP call reserved", raw_ioctl(bed.session, DMABUF_RW_IOC_MAP, &map), {EINVAL});
  map.reserved = 0;
  for (const std::uint64_t bad : {0ull, 8ull, 1ull << 63, ~0ull - 4095}) {
    map.entries = bad;
    expect("MAP of entries at a bad address", raw_ioctl(bed.session, DMABUF_RW_IOC_MAP, &map),
           {EFAULT});
  }
  expect("MAP at 0", raw_ioctl(bed.session, DMABUF_RW_IOC_MAP, nullptr), {EFAULT});

  // Entries that can be read but not written back: nothing may stay mapped.
  const Page page;
  std::memcpy(page.data(), &good, sizeof(good));
  page.protect(PROT_READ);
  map.entries = address(page.data());
  expect("MAP of read-only entries", raw_ioctl(bed.session, DMABUF_RW_IOC_MAP, &map), {EFAULT});
  report().check(sharing(bed) == 1, "MAP of read-only entries leaves nothing",
                 std::format("{} mappings share the attachment", sharing(bed)));
  // The last entries run into a page that is not there.
  const Page call;
  auto *call_map = static_cast<dmabuf_rw_map *>(call.data());
  *call_map = {};
  call_map->entries = address(entries.data());
  call_map->nr_entries = 1;
  call.protect(PROT_READ);
  expect("MAP with the call's structure read-only",
         raw_ioctl(bed.session, DMABUF_RW_IOC_MAP, call_map), {EFAULT});
  report().check(sharing(bed) == 1, "MAP with a read-only structure leaves nothing",
                 std::format("{} mappings share the attachment", sharing(bed)));
}

// UNMAP: the same questions, of the entries 0, 2 and 4 that are mapped.
void bad_unmaps(Bed &bed, const std::vector<dmabuf_rw_map_entry> &entries) {
  dmabuf_rw_query query{};
  bed.session.query(query);
  std::uint32_t count = 77;
  dmabuf_rw_info info{};
  const std::uint32_t some[] = {entries[0].handle, 0x7ABCDEF1, entries[2].handle};
  expect("UNMAP with a stale one among good", bed.session.unmap(some, &count), {ENOENT});
  report().check(count == 2, "UNMAP counts the good ones", std::format("{}", count));
  expect("UNMAP took the last of them", bed.session.info(entries[2].handle, info), {ENOENT});
  const std::uint32_t twice[] = {entries[4].handle, entries[4].handle};
  expect("UNMAP of one handle twice", bed.session.unmap(twice, &count), {ENOENT});
  report().check(count == 1, "UNMAP of one handle twice counts one", std::format("{}", count));
  expect("UNMAP of nothing", bed.session.unmap(std::span(twice).first(0)), {EINVAL});
  const std::vector<std::uint32_t> many(query.max_batch + 1, 1);
  expect("UNMAP of max_batch + 1", bed.session.unmap(many), {EINVAL, E2BIG});
  dmabuf_rw_unmap unmap{};
  unmap.nr_handles = 1;
  unmap.handles = 16;
  expect("UNMAP at a bad address", raw_ioctl(bed.session, DMABUF_RW_IOC_UNMAP, &unmap), {EFAULT});
  unmap.handles = address(many.data());
  unmap.flags = 1;
  expect("UNMAP flags", raw_ioctl(bed.session, DMABUF_RW_IOC_UNMAP, &unmap), {EINVAL});
  unmap.flags = 0;
  unmap.reserved = 1;
  expect("UNMAP reserved", raw_ioctl(bed.session, DMABUF_RW_IOC_UNMAP, &unmap), {EINVAL});
}

// What QUERY says, and what it refuses.
void query_call(const Session &session) {
  dmabuf_rw_query query{};
  expect("QUERY", session.query(query), {0});
  report().check(query.abi_version == DMABUF_RW_ABI_VERSION, "QUERY abi_version");
  report().check((query.features & DMABUF_RW_FEAT_PREMAPPED) != 0, "QUERY says PREMAPPED");
  report().check(query.granule == 4096, "QUERY granule", std::format("{}", query.granule));
  report().check(query.max_mappings > 0 && query.max_batch > 0 && query.max_sessions > 0 &&
                     query.max_io_bytes >= (8u << 20),
                 "QUERY limits");
  report().check(query.max_buffer_bytes[DMABUF_RW_PATH_PREMAPPED] >= (64u << 20),
                 "QUERY max_buffer_bytes of premapped");
  report().check(query.max_buffer_bytes[DMABUF_RW_PATH_AUTO] == 0,
                 "QUERY max_buffer_bytes of what is no path");
  const std::uint64_t features[] = {0, DMABUF_RW_FEAT_PREMAPPED, DMABUF_RW_FEAT_REGISTERED,
                                    DMABUF_RW_FEAT_BVEC};
  for (std::size_t path = 1; path < std::size(features); ++path)
    report().check((query.max_buffer_bytes[path] != 0) == ((query.features & features[path]) != 0),
                   "QUERY max_buffer_bytes agrees with features", std::format("path {}", path));
  for (const std::uint64_t word : query.reserved)
    report().check(word == 0, "QUERY reserved is zero");
  query = {};
  query.flags = 1;
  expect("QUERY flags", session.query(query), {EINVAL});
  for (std::size_t i = 0; i < std::size(query.reserved); ++i) {
    query = {};
    query.reserved[i] = 1;
    expect("QUERY reserved", session.query(query), {EINVAL});
  }
  expect("QUERY at 0", raw_ioctl(session, DMABUF_RW_IOC_QUERY, nullptr), {EFAULT});
  Page page;
  page.protect(PROT_READ);
  expect("QUERY into read-only memory", raw_ioctl(session, DMABUF_RW_IOC_QUERY, page.data()),
         {EFAULT});
}

void config_call(const Session &session) {
  dmabuf_rw_config config{};
  expect("CONFIG of nothing", session.config(config), {0});
  config.timeout_ms = 3600000;
  expect("CONFIG longest time-out", session.config(config), {0});
  config.timeout_ms = 3600001;
  expect("CONFIG time-out too long", session.config(config), {EINVAL});
  config = {};
  config.flags = 0x80000000;
  expect("CONFIG flags", session.config(config), {EINVAL});
  for (std::size_t i = 0; i < std::size(config.reserved); ++i) {
    config = {};
    config.reserved[i] = ~0ull;
    expect("CONFIG reserved", session.config(config), {EINVAL});
  }
  expect("CONFIG at a bad address",
         raw_ioctl(session, DMABUF_RW_IOC_CONFIG, reinterpret_cast<void *>(8)), {EFAULT});
}

} // namespace

void test_calls(const IsolationOptions &options) {
  Bed bed(options);
  query_call(bed.session);
  config_call(bed.session);
  auto entry = map_entry(bed.buffer.fd(), bed.target.get(), Path::Premapped);
  expect("MAP", bed.session.map_one(entry), {0});
  dmabuf_rw_info info{};
  expect("INFO", bed.session.info(entry.handle, info), {0});
  report().check(info.shared == 1, "INFO shared of the only mapping",
                 std::format("{}", info.shared));
  for (const std::uint64_t word : info.reserved)
    report().check(word == 0, "INFO reserved is zero");
  info = {};
  info.handle = entry.handle;
  info.flags = 1;
  expect("INFO flags", raw_ioctl(bed.session, DMABUF_RW_IOC_INFO, &info), {EINVAL});
  for (std::size_t i = 0; i < std::size(info.reserved); ++i) {
    info = {};
    info.handle = entry.handle;
    info.reserved[i] = 1;
    expect("INFO reserved", raw_ioctl(bed.session, DMABUF_RW_IOC_INFO, &info), {EINVAL});
  }
  expect("INFO at 0", raw_ioctl(bed.session, DMABUF_RW_IOC_INFO, nullptr), {EFAULT});
  for (const std::uint32_t handle : {0u, entry.handle + 1, ~0u, 0x80000000u})
    expect(std::format("INFO of handle {}", handle), bed.session.info(handle, info), {ENOENT});

  for (unsigned number = 5; number < 0x60; ++number)
    expect("ioctl that is not", raw_ioctl(bed.session, _IO(DMABUF_RW_IOC_MAGIC, number), &info),
           {ENOTTY});
  expect("QUERY of another size",
         raw_ioctl(bed.session, _IOC(_IOC_READ | _IOC_WRITE, DMABUF_RW_IOC_MAGIC, 0, 64), &info),
         {ENOTTY});
  expect("uring_cmd number as an ioctl", raw_ioctl(bed.session, DMABUF_RW_URING_READ, &info),
         {ENOTTY});
  char byte = 0;
  report().check(::read(bed.session.fd(), &byte, 1) < 0, "read() of the session");
  report().check(::write(bed.session.fd(), &byte, 1) < 0, "write() of the session");
  report().check(::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, bed.session.fd(), 0) == MAP_FAILED,
                 "mmap() of the session");
}

namespace {

// Fields with numbers that mean nothing.
void bad_numbers(const Bed &bed, const dmabuf_rw_map_entry &good) {
  using Entry = dmabuf_rw_map_entry;
  constexpr std::uint32_t known = DMABUF_RW_MAP_READ_FUA | DMABUF_RW_MAP_HOLD_FILE;
  std::vector<std::uint32_t> unknown;
  for (unsigned bit = 0; bit < 32; ++bit)
    if ((1u << bit) & ~known)
      unknown.push_back(1u << bit);
  const struct {
    const char *name;
    __u32 Entry::*field;
    std::vector<std::uint32_t> values;
  } numbers[] = {
      {"flags", &Entry::flags, unknown},
      {"path", &Entry::path, {4u, 5u, 64u, 0x80000001u, ~0u}},
      {"directions", &Entry::directions, {0u, 4u, 7u, ~0u}},
      {"max_command_hint", &Entry::max_command_hint, {1u, 512u, 4097u, ~0u}},
  };
  for (const auto &[name, field, values] : numbers)
    for (const std::uint32_t value : values) {
      auto entry = good;
      entry.*field = value;
      expect_refused(std::string("MAP ") + name, bed.session, entry, {EINVAL},
                     {DMABUF_RW_REASON_ARGUMENT});
    }
  for (std::size_t i = 0; i < std::size(good.reserved); ++i) {
    auto entry = good;
    entry.reserved[i] = 1;
    expect_refused("MAP reserved", bed.session, entry, {EINVAL}, {DMABUF_RW_REASON_ARGUMENT});
  }
}

} // namespace

void test_map_arguments(const IsolationOptions &options) {
  Bed bed(options);
  const auto good = map_entry(bed.buffer.fd(), bed.target.get(), Path::Premapped);
  auto entry = good;
  const auto refused = [&](const std::string &name, std::initializer_list<int> errnos,
                           std::initializer_list<std::uint32_t> reasons) {
    expect_refused("MAP " + name, bed.session, entry, errnos, reasons);
    entry = good;
  };

  bad_numbers(bed, good);
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  constexpr int closed = 1000; // far above what is open here
  for (const std::uint32_t fd : {std::uint32_t{closed}, ~0u, 0x7FFFFFFFu}) {
    entry.dmabuf_fd = fd;
    refused("dmabuf_fd that is not open", {EBADF}, {DMABUF_RW_REASON_NOT_DMABUF});
  }
  for (const int fd : {null.get(), bed.target.get(), bed.session.fd()}) {
    entry.dmabuf_fd = static_cast<__u32>(fd);
    refused("dmabuf_fd that is no dma-buf", {EINVAL, EBADF, EOPNOTSUPP},
            {DMABUF_RW_REASON_NOT_DMABUF});
  }
  entry.target_fd = DMABUF_RW_NO_TARGET;
  refused("premapped without a target", {EBADF, EINVAL},
          {DMABUF_RW_REASON_BAD_TARGET, DMABUF_RW_REASON_ARGUMENT});
  const UniqueFd path_only(::open(options.nvme.c_str(), O_PATH | O_CLOEXEC));
  entry = map_entry(bed.buffer.fd(), path_only.get(), Path::Registered);
  refused("registered, target opened with O_PATH", {EBADF}, {DMABUF_RW_REASON_BAD_TARGET});

  int pipes[2];
  if (::pipe2(pipes, O_CLOEXEC) != 0)
    die("pipe");
  const UniqueFd reader(pipes[0]), writer(pipes[1]);
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const UniqueFd file(::open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  const UniqueFd controller(::open("/dev/nvme0", O_RDWR | O_CLOEXEC));
  const UniqueFd other = open_target(options.other);
  const struct {
    const char *name;
    int target, error;
    std::uint32_t reason;
  } targets[] = {
      {"target that is not open", closed, EBADF, DMABUF_RW_REASON_BAD_TARGET},
      {"target opened with O_PATH", path_only.get(), EBADF, DMABUF_RW_REASON_BAD_TARGET},
      {"/dev/null as target", null.get(), EOPNOTSUPP, DMABUF_RW_REASON_NOT_BLOCK},
      {"a socket as target", socket.get(), EOPNOTSUPP, DMABUF_RW_REASON_NOT_BLOCK},
      {"a file as target", file.get(), EOPNOTSUPP, DMABUF_RW_REASON_NOT_BLOCK},
      {"a controller as target", controller.get(), EOPNOTSUPP, DMABUF_RW_REASON_NOT_BLOCK},
      {"session as its own target", bed.session.fd(), EOPNOTSUPP, DMABUF_RW_REASON_NOT_BLOCK},
      {"dma-buf as target", bed.buffer.fd(), EOPNOTSUPP, DMABUF_RW_REASON_NOT_BLOCK},
      {"target that is not NVMe", other.get(), EOPNOTSUPP, DMABUF_RW_REASON_NOT_NVME},
  };
  for (const auto &[name, target, error, reason] : targets) {
    entry.target_fd = static_cast<__u32>(target);
    refused(name, {error}, {reason});
  }
  const UniqueFd cached = open_target(options.nvme, O_RDWR | O_CLOEXEC);
  entry.target_fd = static_cast<__u32>(cached.get());
  refused("target without O_DIRECT", {EOPNOTSUPP, EINVAL}, {DMABUF_RW_REASON_NOT_DIRECT});

  auto_takes_the_next(bed, other.get(), cached.get());
  const int shared = sharing(bed);
  report().check(shared == 1, "nothing mapped after refusals", std::format("{}", shared));
}

void test_batches(const IsolationOptions &options) {
  Bed bed(options);
  dmabuf_rw_query query{};
  bed.session.query(query);
  const auto good = map_entry(bed.buffer.fd(), bed.target.get(), Path::Premapped);
  std::vector<dmabuf_rw_map_entry> entries(query.max_batch + 1, good);
  std::uint32_t count = 77;

  bad_maps(bed, entries);

  // Bad ones among good ones: the good ones stay.
  entries.assign(5, good);
  entries[1].dmabuf_fd = ~0u;
  entries[3].flags = 4;
  const int status = bed.session.map(entries, &count);
  expect("MAP with bad entries among good", status, {0});
  report().check(count == 3, "MAP counts the good ones", std::format("{}", count));
  report().check(entries[1].error == EBADF && entries[3].error == EINVAL && entries[0].error == 0 &&
                     entries[2].error == 0 && entries[4].error == 0,
                 "MAP says which were bad");
  dmabuf_rw_info info{};
  for (const int i : {0, 2, 4})
    expect("MAP: a good one is there", bed.session.info(entries[i].handle, info), {0});
  report().check(info.shared == 3, "the good ones share one attachment",
                 std::format("{}", info.shared));
  report().check(entries[0].handle != entries[2].handle && entries[2].handle != entries[4].handle,
                 "handles differ");

  bad_unmaps(bed, entries);

  // A whole batch at once.
  entries.assign(query.max_batch, good);
  expect("MAP of max_batch", bed.session.map(entries, &count), {0});
  report().check(count == query.max_batch, "MAP of max_batch maps all", std::format("{}", count));
  std::vector<std::uint32_t> handles;
  for (const auto &entry : entries)
    handles.push_back(entry.handle);
  expect("UNMAP of max_batch", bed.session.unmap(handles, &count), {0});
  report().check(count == query.max_batch, "UNMAP of max_batch unmaps all",
                 std::format("{}", count));
  report().check(sharing(bed) == 1, "nothing mapped after the batches");
}

} // namespace vmtest
