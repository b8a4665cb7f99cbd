// SPDX-License-Identifier: GPL-2.0-only
// Every exporter, on every datapath, against every kind of file: each direction alone and
// byte for byte where it must work, and refused with the right errno and reason where not.
//
// usage: targets [--p2p] [--described FILE] [--exporters A,B] [--results FILE]
//   --p2p        only the memory of a PCI device (dmabuf-lab run --p2p)
//   --described  the targets that a file describes (described.cpp), in place of its own
//   --exporters  only the memory of these
//   --results    writes what each combination did, for `dmabuf-lab matrix`
// Destroys the data on /dev/nvme0n1 and /dev/vda, or on what is described.
#include "targets.hpp"

#include "results.hpp"

#include "lib/report.hpp"
#include "lib/ring.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <optional>
#include <sstream>
#include <string_view>
#include <sys/utsname.h>

namespace vmtest {

namespace {

// What a combination must do: move bytes, or be refused by MAP.
struct Expected {
  int error;            // 0: it maps
  std::uint32_t reason; // DMABUF_RW_REASON_*
};

constexpr Expected maps = {0, DMABUF_RW_REASON_NONE};

constexpr Expected refused(std::uint32_t reason) { return {-EOPNOTSUPP, reason}; }

// Before 6.14 udmabuf's kernel mapping shows the first page of a huge page over and over,
// and the module finds the pages by that mapping: it has to notice and refuse.
bool huge_view_is_wrong() {
  utsname name{};
  int major = 0, minor = 0;
  if (::uname(&name) != 0 || std::sscanf(name.release, "%d.%d", &major, &minor) != 2)
    die("the kernel has no version");
  return major < 6 || (major == 6 && minor < 14);
}

// The one table of what is expected. `here`: the path exists on this kernel.
Expected expected(Memory::Kind memory, Target::Kind target, Path path, bool here) {
  if (!here)
    return refused(DMABUF_RW_REASON_KERNEL);
  if (path == Path::Bvec && memory == Memory::Kind::HugePages && huge_view_is_wrong())
    return refused(DMABUF_RW_REASON_NO_CPU_VIEW);
  if (path != Path::Premapped)
    return memory == Memory::Kind::NoCpuView ? refused(DMABUF_RW_REASON_NO_CPU_VIEW) : maps;
  switch (target) {
  case Target::Kind::Nvme:
    return maps;
  case Target::Kind::NvmeBuffered:
    return refused(DMABUF_RW_REASON_NOT_DIRECT);
  case Target::Kind::OtherBlock:
    return refused(DMABUF_RW_REASON_NOT_NVME);
  case Target::Kind::Fabric:
    return refused(DMABUF_RW_REASON_MULTIPATH);
  case Target::Kind::File:
    return refused(DMABUF_RW_REASON_NOT_BLOCK);
  }
  std::unreachable();
}

struct Case {
  std::uint64_t buffer_offset, length, offset; // bytes; `offset` from the range's start
};

constexpr std::uint64_t kib = 1024;

// From one sector to the whole buffer, inside pages and across them, up to both ends.
constexpr Case direct_cases[] = {
    {0, 4 * kib, 64 * kib},
    {3 * 512, 512, 64 * kib + 5 * 512},
    {255 * 4 * kib + 3 * 512, 64 * kib + 512, 20 * kib + 512},
    {28 * kib + 7 * 512, 1024 * kib + 3 * 512, 12 * kib + 5 * 512},
    {0, memory_bytes, 9 * 512},
    {memory_bytes - 12 * kib, 12 * kib, region_bytes - 12 * kib},
};

// The page cache takes any byte.
constexpr Case buffered_cases[] = {
    {1, 1, 3},
    {4097, 12345, 70001},
    {4095, 1024 * kib + 4097, 511},
};

// One exporter, one target and one path that maps.
class Pair {
public:
  Pair(std::string name, Session &session, Ring &ring, Memory &memory, Target &target, Path path)
      : name_(std::move(name)), session_(session), memory_(memory), target_(target), path_(path),
        mover_(session, ring, memory.fd(), target.file.get(), path),
        region_(target.plain.get(), target.plain_base, region_bytes), model_(memory_bytes),
        seen_(memory_bytes) {
    cases_.assign(std::begin(direct_cases), std::end(direct_cases));
    if (!target.direct)
      cases_.insert(cases_.end(), std::begin(buffered_cases), std::end(buffered_cases));
  }

  Mover &mover() { return mover_; }

  // One byte that is wrong, in the dma-buf or on the target, must not pass.
  void self_test() {
    region_.lay_down_all(++generation_);
    poison();
    verdict("self-test before the damage", compare_memory());
    verdict("self-test before the damage", region_.check_all());
    HostBuffer damaged(memory_bytes);
    std::ranges::copy(model_.words(), damaged.words().begin());
    damaged.words().back() ^= Word{1} << 63;
    memory_.put(damaged.words());
    report().check(compare_memory().has_value(), name_ + ": self-test, the dma-buf's last byte");

    HostBuffer sector(512);
    const std::uint64_t where = region_.base() + region_bytes - 512;
    std::ranges::copy(region_.expected(where, 512), sector.words().begin());
    sector.words().front() ^= 1;
    write_plain(target_.plain.get(), sector.words(), where);
    report().check(region_.check_all().has_value(), name_ + ": self-test, a byte on the target");
  }

  void run() {
    read_direction();
    write_direction();
    check_counters();
  }

private:
  void verdict(const std::string &what, const std::optional<std::string> &wrong) {
    report().check(!wrong, std::format("{}: {}", name_, what), wrong.value_or(""));
  }
  std::string label(Direction direction, const Case &c) const {
    return std::format("{} {} bytes, buffer {}, file {}", name_of(direction), c.length,
                       c.buffer_offset, c.offset);
  }
  char *model_bytes() { return reinterpret_cast<char *>(model_.words().data()); }

  // A transfer that must move `wanted` bytes; counted as the module should.
  bool moves(Direction direction, const Case &c, std::uint64_t wanted) {
    const int result = mover_.transfer(
        direction, c.buffer_offset, static_cast<std::uint32_t>(c.length), target_.base + c.offset);
    ++calls_;
    moved_ += wanted;
    return report().check(result == static_cast<int>(wanted),
                          std::format("{}: {}", name_, label(direction, c)),
                          std::format("moved {} instead of {}", errno_name(result), wanted));
  }

  std::optional<std::string> compare_memory() {
    std::ranges::fill(seen_.words(), 0);
    memory_.get(seen_.words());
    const auto mismatch = compare_words(seen_.words(), model_.words());
    return mismatch ? std::optional("in the dma-buf, " + describe(*mismatch, 0)) : std::nullopt;
  }

  void poison() {
    fill_pattern(model_.words(), buffer_poison, 0);
    memory_.put(model_.words());
  }

  // Data is laid down by plain pwrite; the dma-buf is poison, then poison but for the range.
  void read_direction() {
    region_.lay_down_all(++generation_);
    const auto *data =
        reinterpret_cast<const char *>(region_.expected(region_.base(), region_bytes).data());
    for (const Case &c : cases_) {
      poison();
      if (!moves(Direction::Read, c, c.length))
        continue;
      std::memcpy(model_bytes() + c.buffer_offset, data + c.offset, c.length);
      verdict("every byte after " + label(Direction::Read, c), compare_memory());
    }
    if (target_.kind == Target::Kind::File)
      read_past_the_end(data);
    verdict("reads changed nothing on the target", region_.check_all());
  }

  // As read(2): what is there. Direct I/O may clear what was asked for beyond.
  void read_past_the_end(const char *data) {
    const std::uint64_t left = target_.direct ? 12 * kib : 1001;
    const Case c{8 * kib, left + 16 * kib, region_bytes - left};
    poison();
    if (!moves(Direction::Read, c, left))
      return;
    std::memcpy(model_bytes() + c.buffer_offset, data + c.offset, left);
    if (target_.direct) {
      memory_.get(seen_.words());
      const auto *seen = reinterpret_cast<const char *>(seen_.words().data());
      if (seen[c.buffer_offset + left] == 0)
        std::memset(model_bytes() + c.buffer_offset + left, 0, c.length - left);
    }
    verdict("every byte after a read past the end of the file", compare_memory());
  }

  // The dma-buf holds data; the target is poison but for the ranges written, by plain pread.
  void write_direction() {
    region_.lay_down_all(disk_poison);
    auto *target = reinterpret_cast<char *>(region_.expected(region_.base(), region_bytes).data());
    for (const Case &c : cases_) {
      fill_pattern(model_.words(), ++generation_, 0);
      memory_.put(model_.words());
      if (!moves(Direction::Write, c, c.length))
        continue;
      std::memcpy(target + c.offset, model_bytes() + c.buffer_offset, c.length);
      if (!target_.direct && ::fsync(target_.file.get()) != 0)
        die(std::format("fsync: {}", std::strerror(errno)));
      verdict("every byte after " + label(Direction::Write, c), region_.check_all());
    }
    verdict("writes changed nothing in the dma-buf", compare_memory());
  }

  // The bytes went the way that was asked for.
  void check_counters() {
    dmabuf_rw_info info{};
    const int status = session_.info(mover_.entry().handle, info);
    if (!report().check(status == 0, name_ + ": INFO", errno_name(status)))
      return;
    const bool registered = path_ == Path::Registered;
    report().check(
        info.path == static_cast<std::uint32_t>(path_) && info.errors == 0 &&
            info.reads + info.writes == (registered ? 0 : calls_) &&
            info.read_bytes + info.write_bytes == (registered ? 0 : moved_) &&
            info.registrations == (registered ? 1 : 0),
        name_ + ": INFO counts what was done",
        std::format("path {}, {} errors, {} I/Os of {}, {} bytes of {}, {} registrations",
                    info.path, +info.errors, info.reads + info.writes, calls_,
                    info.read_bytes + info.write_bytes, moved_, +info.registrations));
  }

  std::string name_;
  Session &session_;
  Memory &memory_;
  Target &target_;
  Path path_;
  Mover mover_;
  DiskRegion region_;
  HostBuffer model_, seen_;
  std::vector<Case> cases_;
  std::uint64_t calls_ = 0, moved_ = 0;
  static std::uint32_t generation_;
};

std::uint32_t Pair::generation_ = 0;

// What a combination did, for the table.
std::string run_pair(Session &session, Memory &memory, Target &target, Path path, bool here) {
  static bool checked = false; // that the checks themselves can fail
  const std::string name = std::format("{} / {} / {}", memory.name, target.name, name_of(path));
  const Expected want = expected(memory.kind, target.kind, path, here);
  Ring ring(8);
  if (path == Path::Registered && here)
    if (const int status = ring.make_buffer_table(1); status < 0)
      die("no table of registered buffers: " + errno_name(status));

  const std::uint64_t failures = report().failures();
  Pair pair(name, session, ring, memory, target, path);
  const int error = pair.mover().error();
  const std::uint32_t reason = pair.mover().entry().reason;
  std::string cell = error ? reason_name(reason).substr(0, reason_name(reason).find(' ')) : "ok";
  if (report().check(error == want.error && reason == want.reason, name + ": MAP",
                     std::format("{} {} instead of {} {}", errno_name(error), reason_name(reason),
                                 errno_name(want.error), reason_name(want.reason))) &&
      !error) {
    if (!std::exchange(checked, true))
      pair.self_test();
    pair.run();
  }
  if (const int status = pair.mover().release(); status != 0)
    report().fail(name + ": release", errno_name(status));
  return report().failures() == failures ? cell : "FAILED " + cell;
}

// AUTO takes the first path that this memory and kernel have, and says why not premapped.
void check_auto(const Session &session, const Memory &memory, const Target &target,
                const std::vector<Path> &here) {
  const std::string name = std::format("{} / {} / auto", memory.name, target.name);
  std::uint32_t takes = DMABUF_RW_PATH_AUTO;
  for (const Path path : {Path::Registered, Path::Bvec}) {
    const bool is_here = std::ranges::contains(here, path);
    if (!takes && !expected(memory.kind, target.kind, path, is_here).error)
      takes = static_cast<std::uint32_t>(path);
  }
  dmabuf_rw_map_entry entry = map_entry(memory.fd(), target.file.get(), Path::Auto);
  const int error = session.map_one(entry);
  const std::uint32_t why_not = entry.refused[DMABUF_RW_PATH_PREMAPPED];
  report().check(why_not == expected(memory.kind, target.kind, Path::Premapped, true).reason,
                 name + ": why it passes over premapped", reason_name(why_not));
  if (!takes) {
    report().check(error == -EOPNOTSUPP && entry.reason == DMABUF_RW_REASON_NO_PATH_FITS,
                   name + ": refused", errno_name(error) + " " + reason_name(entry.reason));
    return;
  }
  if (report().check(error == 0 && entry.path == takes, name + ": what it takes",
                     std::format("{} {}, path {} instead of {}", errno_name(error),
                                 reason_name(entry.reason), +entry.path, takes)))
    report().check(session.unmap_one(entry.handle) == 0, name + ": UNMAP");
}

// With the consent to hold a file still, premapped is refused for a reason that may be another.
void check_held(const Session &session, const Memory &memory, const Target &target) {
  if (target.held == DMABUF_RW_REASON_NONE || !target.direct)
    return;
  const std::string link = std::format("/proc/self/fd/{}", target.file.get());
  const UniqueFd file = open_target(link, O_RDONLY | O_DIRECT | O_CLOEXEC);
  dmabuf_rw_map_entry entry =
      map_entry(memory.fd(), file.get(), Path::Premapped, DMABUF_RW_DIR_READ);
  entry.flags = DMABUF_RW_MAP_HOLD_FILE;
  const int error = session.map_one(entry);
  dmabuf_rw_query query{};
  if (const int status = session.query(query); status != 0)
    die("QUERY: " + errno_name(status));
  const bool can_hold = query.features & DMABUF_RW_FEAT_HOLD_FILE;
  report().check(can_hold ? error == -EOPNOTSUPP && entry.reason == target.held : error != 0,
                 std::format("{} / {} / HOLD_FILE is refused", memory.name, target.name),
                 std::format("{} {} instead of {}", errno_name(error), reason_name(entry.reason),
                             reason_name(target.held)));
}

using Table = std::map<std::tuple<std::size_t, Path, std::size_t>, std::string>;

void print(const Table &table, const std::vector<std::unique_ptr<Memory>> &memories,
           const std::vector<Target> &targets) {
  std::string line = std::format("{:15} {:10}", "target", "path");
  for (const auto &memory : memories)
    line += std::format(" {:17}", memory->name);
  std::puts(line.c_str());
  for (std::size_t t = 0; t < targets.size(); ++t)
    for (const Path path : {Path::Premapped, Path::Registered, Path::Bvec}) {
      line = std::format("{:15} {:10}", targets[t].name, name_of(path));
      for (std::size_t m = 0; m < memories.size(); ++m)
        line += std::format(" {:17}", table.at({t, path, m}));
      std::puts(line.c_str());
    }
}

// In the words of the support matrix.
std::string outcome_of(const std::string &cell) {
  if (cell.starts_with("FAILED"))
    return "failed";
  return cell == "ok" ? "byte-exact" : "refused " + cell;
}

std::vector<Cell> cells_of(const Table &table, const std::vector<std::unique_ptr<Memory>> &memories,
                           const std::vector<Target> &targets) {
  std::vector<Cell> cells;
  for (const auto &[key, cell] : table) {
    const auto [t, path, m] = key;
    cells.push_back(
        {memories[m]->name, targets[t].name, std::string(name_of(path)), outcome_of(cell)});
  }
  return cells;
}

struct Options {
  bool p2p = false;
  std::string described, results;
  std::vector<std::string> exporters;
};

void run(const Options &options) {
  const double begin = now_s();
  const std::vector<Path> here = paths_here();
  const bool described = !options.described.empty();
  std::optional<Targets> made;
  std::vector<Target> given;
  if (described)
    given = described_targets(options.described);
  else
    made.emplace();
  auto &targets = described ? given : made->all();
  const auto memories = options.p2p ? bar_memories() : plain_memories(options.exporters);
  Table table;
  std::size_t moved = 0;
  for (std::size_t m = 0; m < memories.size(); ++m) {
    const double start = now_s();
    Session session;
    for (std::size_t t = 0; t < targets.size(); ++t) {
      for (const Path path : {Path::Premapped, Path::Registered, Path::Bvec})
        moved += (table[{t, path, m}] = run_pair(session, *memories[m], targets[t], path,
                                                 std::ranges::contains(here, path))) == "ok";
      if (described) {
        check_auto(session, *memories[m], targets[t], here);
        check_held(session, *memories[m], targets[t]);
      }
    }
    report().note(std::format("{}: {:.1f} s", memories[m]->name, now_s() - start));
  }
  print(table, memories, targets);
  if (!options.results.empty())
    write_results(options.results, cells_of(table, memories, targets));
  report().note(std::format("{} combinations, {} of them moved bytes, the others were refused; "
                            "{} MiB compared in {:.0f} s",
                            table.size(), moved, compared_bytes() >> 20, now_s() - begin));
  // A kernel or an exporter that takes nothing must not look like success.
  if (described)
    report().check(moved >= targets.size(),
                   "as many combinations moved bytes as there are targets");
  else
    report().check(moved >= 2 * memories.size(), "every exporter moved bytes to NVMe");
}

std::vector<std::string> split(const std::string &list) {
  std::vector<std::string> words;
  std::istringstream in(list);
  for (std::string word; std::getline(in, word, ',');)
    words.push_back(word);
  return words;
}

} // namespace

} // namespace vmtest

int main(int argc, char **argv) {
  using namespace vmtest;
  report().take_options(argc, argv);
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    const bool more = i + 1 < argc;
    if (word == "--p2p")
      options.p2p = true;
    else if (word == "--described" && more)
      options.described = argv[++i];
    else if (word == "--exporters" && more)
      options.exporters = split(argv[++i]);
    else if (word == "--results" && more)
      options.results = argv[++i];
    else
      die("usage: targets [--p2p] [--described FILE] [--exporters A,B] [--results FILE]");
  }
  run(options);
  if (module_loaded("dmabuf_testexp")) {
    const int status = unload_module("dmabuf_testexp", 5);
    report().check(status == 0, "the test exporter unloads", errno_name(status));
  }
  return report().finish("targets");
}
