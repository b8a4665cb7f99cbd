// SPDX-License-Identifier: GPL-2.0-only
// One transfer at a time: each direction alone, both together, across pieces, and how it is cut.
#include "base/sizes.hpp"
#include "bench.hpp"
#include "names.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <linux/udmabuf.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

namespace integrity {

using dmabuf::errno_name;
using dmabuf::fail;
using dmabuf::kPage;
using dmabuf::Result;
using dmabuf::strf;

namespace {

constexpr uint64_t kMargin = 64u << 10;

struct Transfer {
  uint64_t buffer_offset, bytes, drive_offset;
};

using ull = unsigned long long;

/// Places and lengths that tell mistakes apart, then random ones.
std::vector<Transfer> transfers(const Mover &mover, const Region &region, uint32_t seed,
                                unsigned random_ones) {
  std::vector<Transfer> list;
  std::mt19937 dice(seed);
  const uint64_t block = region.block(), buffer = mover.size();
  const auto add = [&](uint64_t offset, uint64_t bytes) {
    offset -= offset % block;
    bytes -= bytes % block;
    if (!bytes || bytes > region.size() || offset + bytes > buffer)
      return;
    const uint64_t room = (region.size() - bytes) / block;
    list.push_back({offset, bytes, region.begin() + block * (dice() % (room + 1))});
  };
  for (const uint64_t bytes : {block, kPage, 2 * kPage, kPage + block, 16 * kPage, 33 * kPage,
                               256 * kPage + block, 512 * kPage, 1023 * kPage})
    for (const uint64_t offset : {uint64_t{0}, block, kPage - block, 17 * kPage, 255 * kPage,
                                  510 * kPage, 511 * kPage + block, 512 * kPage, buffer - bytes})
      add(offset, bytes);
  for (unsigned i = 0; i < random_ones; i++) {
    const uint64_t bytes = block * (1 + dice() % ((block << dice() % 12) / block));
    add(dice() % buffer, bytes);
  }
  return list;
}

std::string where(const Transfer &t, const Wrong &wrong, uint64_t from) {
  return strf("%llu bytes, buffer offset %llu, drive offset %llu: %llu words are wrong, the first "
              "%llu bytes in: 0x%llx instead of 0x%llx",
              static_cast<ull>(t.bytes), static_cast<ull>(t.buffer_offset),
              static_cast<ull>(t.drive_offset), static_cast<ull>(wrong.words),
              static_cast<ull>(wrong.first * 8 + from), static_cast<ull>(wrong.found),
              static_cast<ull>(wrong.expected));
}

/// The poison around a transfer must be as it was.
void check_around(BufferMemory &memory, const Transfer &t, Pages &pages, Outcome &outcome) {
  const uint64_t from = t.buffer_offset > kMargin ? t.buffer_offset - kMargin : 0;
  const uint64_t end = t.buffer_offset + t.bytes;
  const uint64_t to = std::min(memory.size(), end + kMargin);
  uint64_t stray = 0;
  const auto look = [&](uint64_t begin, std::span<const Word> words) {
    for (size_t i = 0; i < words.size(); i++)
      if (words[i] != word_at(kBufferPoison, begin + 8 * i)) {
        stray++;
        pages.stray(begin + 8 * i);
      }
  };
  look(from, memory.look(from, t.buffer_offset - from));
  look(end, memory.look(end, to - end));
  outcome.compared += to - from - t.bytes;
  if (stray)
    outcome.find("STRAY_WRITE",
                 strf("a read of %llu bytes to buffer offset %llu changed memory beside it",
                      static_cast<ull>(t.bytes), static_cast<ull>(t.buffer_offset)),
                 stray);
}

/// True when the transfer itself failed; then it is in the outcome.
bool failed(int result, Way way, const Transfer &t, Outcome &outcome) {
  outcome.transfers++;
  if (result == static_cast<int>(t.bytes))
    return false;
  outcome.find("IO_ERROR",
               strf("a %s of %llu bytes at %llu gave %s", way == Way::read ? "read" : "write",
                    static_cast<ull>(t.bytes), static_cast<ull>(t.drive_offset),
                    result < 0 ? errno_name(result).c_str() : "a short transfer"));
  return true;
}

Result<void> read_all(Mover &mover, Region &region, const Options &options, unsigned random_ones,
                      Pages &pages, Outcome &outcome) {
  if (auto ok = region.lay_down(options.generation); !ok)
    return ok;
  HostBuffer again(region.size());
  BufferMemory &memory = mover.memory();
  memory.begin_cpu();
  memory.poison(0, memory.size());
  memory.end_cpu();
  for (const Transfer &t : transfers(mover, region, options.seed, random_ones)) {
    const int result =
        mover.transfer(Way::read, t.buffer_offset, static_cast<uint32_t>(t.bytes), t.drive_offset);
    if (failed(result, Way::read, t, outcome))
      continue;
    memory.begin_cpu();
    const auto expected = region.expected(t.drive_offset, t.bytes);
    const auto found = memory.look(t.buffer_offset, t.bytes);
    if (auto ok = memory.trouble(); !ok)
      return ok;
    const Wrong wrong =
        compare(found, expected, kBufferPoison, options.generation, region.drive_bytes());
    outcome.compared += t.bytes;
    if (wrong.words) {
      // To find the culprit: does the drive itself hold what was laid down?
      const auto plain = again.at(0, t.bytes);
      if (auto ok = region.read(plain, t.drive_offset); !ok)
        return ok;
      if (std::ranges::equal(plain, found))
        outcome.find("DRIVE_CORRUPTED",
                     "plain reads of the drive give the same wrong data: " + where(t, wrong, 0),
                     wrong.words);
      else
        judge(wrong, Way::read, false, where(t, wrong, 0), outcome);
    }
    pages.look(found, expected, t.buffer_offset, wrong);
    check_around(memory, t, pages, outcome);
    memory.poison(t.buffer_offset, t.bytes);
    memory.end_cpu();
  }
  return memory.trouble();
}

Result<void> write_all(Mover &mover, Region &region, const Options &options, unsigned random_ones,
                       Pages &pages, Outcome &outcome) {
  if (auto ok = region.lay_down(kDrivePoison); !ok)
    return ok;
  HostBuffer plain(region.size());
  uint32_t generation = options.generation;
  BufferMemory &memory = mover.memory();
  memory.begin_cpu();
  memory.poison(0, memory.size());
  memory.end_cpu();
  for (const Transfer &t : transfers(mover, region, options.seed + 1, random_ones)) {
    generation++;
    memory.begin_cpu();
    memory.put(generation, t.buffer_offset, t.bytes, t.drive_offset);
    memory.end_cpu();
    if (auto ok = memory.trouble(); !ok)
      return ok;
    const int result =
        mover.transfer(Way::write, t.buffer_offset, static_cast<uint32_t>(t.bytes), t.drive_offset);
    if (failed(result, Way::write, t, outcome))
      continue;
    fill(region.expected(t.drive_offset, t.bytes), generation, t.drive_offset);
    const uint64_t from =
        std::max(region.begin(), t.drive_offset - std::min(t.drive_offset, kMargin));
    const uint64_t to =
        std::min(region.begin() + region.size(), t.drive_offset + t.bytes + kMargin);
    const auto got = plain.at(0, to - from);
    if (auto ok = region.read(got, from); !ok)
      return ok;
    const auto inside = got.subspan((t.drive_offset - from) / 8, t.bytes / 8);
    const Wrong wrong = compare(inside, region.expected(t.drive_offset, t.bytes), kDrivePoison,
                                generation, region.drive_bytes());
    outcome.compared += to - from;
    judge(wrong, Way::write, false, where(t, wrong, 0), outcome);
    pages.look(inside, region.expected(t.drive_offset, t.bytes), t.buffer_offset, wrong);
    const Wrong all = compare(got, region.expected(from, to - from), kDrivePoison, generation,
                              region.drive_bytes());
    if (all.words > wrong.words)
      outcome.find(all.damaged > wrong.damaged ? "DATA_CORRUPTED" : "STRAY_WRITE",
                   strf("a write of %llu bytes to drive offset %llu: the drive changed beside it",
                        static_cast<ull>(t.bytes), static_cast<ull>(t.drive_offset)),
                   all.words - wrong.words);
    // The next ones expect what the drive holds.
    std::ranges::copy(got, region.expected(from, to - from).begin());
    memory.begin_cpu();
    memory.poison(t.buffer_offset, t.bytes);
    memory.end_cpu();
  }
  return memory.trouble();
}

/// A udmabuf whose pages are in backward order, so that each is a piece of its own.
Result<dmabuf::DmaBuf> scattered(uint64_t bytes) {
  const auto no = [](const char *what) { return fail(errno, dmabuf::errno_text(what, errno)); };
  const size_t pages = bytes / kPage;
  dmabuf::UniqueFd memory(memfd_create("integrity", MFD_ALLOW_SEALING | MFD_CLOEXEC));
  if (!memory || ftruncate(memory.get(), static_cast<off_t>(bytes)) < 0 ||
      fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK) < 0)
    return no("cannot make a memfd for udmabuf");
  std::vector<uint64_t> room(1 + 3 * pages);
  auto *list = reinterpret_cast<udmabuf_create_list *>(room.data());
  list->flags = UDMABUF_FLAGS_CLOEXEC;
  list->count = static_cast<uint32_t>(pages);
  for (size_t i = 0; i < pages; i++)
    list->list[i] = {.memfd = static_cast<uint32_t>(memory.get()),
                     .__pad = 0,
                     .offset = (pages - 1 - i) * kPage,
                     .size = kPage};
  dmabuf::UniqueFd device(open("/dev/udmabuf", O_RDWR | O_CLOEXEC));
  if (!device)
    return no("cannot open /dev/udmabuf");
  dmabuf::DmaBuf buffer;
  buffer.fd.reset(ioctl(device.get(), UDMABUF_CREATE_LIST, list));
  if (!buffer.fd)
    return no("udmabuf does not take a list of pages; see its list_limit");
  void *view = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, buffer.fd.get(), 0);
  if (view == MAP_FAILED)
    return no("cannot map the dma-buf");
  buffer.bytes = bytes;
  buffer.view = dmabuf::MappedRange(view, bytes);
  return buffer;
}

Result<Outcome> both(const Options &options, bool reads, bool writes, bool scatter) {
  auto region = Region::open(options);
  if (!region)
    return std::unexpected(std::move(region.error()));
  auto buffer = scatter ? scattered(4u << 20) : dmabuf::allocate_dmabuf(request_of(options));
  if (!buffer)
    return std::unexpected(std::move(buffer.error()));
  auto mover = Mover::open(options, std::move(*buffer), (*region)->fd());
  if (!mover)
    return std::unexpected(std::move(mover.error()));
  Outcome outcome;
  (*mover)->say_place(outcome);
  outcome.fact("segments", (*mover)->entry().segments);
  if (const auto agree = copies_agree((*mover)->memory(), outcome); !agree)
    return std::unexpected(agree.error());
  else if (!*agree)
    return outcome;
  constexpr unsigned kRandom = 60;
  Pages pages((*mover)->size());
  if (reads)
    if (auto ok = read_all(**mover, **region, options, kRandom, pages, outcome); !ok)
      return std::unexpected(std::move(ok.error()));
  if (writes)
    if (auto ok = write_all(**mover, **region, options, kRandom, pages, outcome); !ok)
      return std::unexpected(std::move(ok.error()));
  pages.name((*mover)->entry().segments, outcome);
  if (const auto info = (*mover)->info()) {
    outcome.fact("invalidations", info->invalidations);
    outcome.fact("commands", info->commands);
    outcome.fact("module_errors", info->errors);
    if (options.path != DMABUF_RW_PATH_REGISTERED &&
        info->reads + info->writes != outcome.transfers && outcome.findings.empty())
      outcome.find("BOUNCED", strf("%llu transfers ended well and the module counted %llu: others "
                                   "moved the data",
                                   static_cast<ull>(outcome.transfers),
                                   static_cast<ull>(info->reads + info->writes)));
  }
  return outcome;
}

} // namespace

Result<Outcome> run_read(const Options &options) { return both(options, true, false, false); }
Result<Outcome> run_write(const Options &options) { return both(options, false, true, false); }

Result<Outcome> run_segments(const Options &options) {
  const bool udmabuf = options.exporter == dmabuf::ExporterKind::udmabuf;
  return both(options, true, true, udmabuf);
}

Result<Outcome> run_lay(const Options &options) {
  auto region = Region::open(options);
  if (!region)
    return std::unexpected(std::move(region.error()));
  if (auto ok = (*region)->lay_down(options.generation); !ok)
    return std::unexpected(std::move(ok.error()));
  return Outcome{};
}

Result<Outcome> run_check(const Options &options) {
  auto region = Region::open(options);
  if (!region)
    return std::unexpected(std::move(region.error()));
  Outcome outcome;
  HostBuffer got(1u << 20), want(1u << 20);
  for (uint64_t at = 0; at < options.bytes; at += got.size()) {
    const size_t bytes = std::min<uint64_t>(got.size(), options.bytes - at);
    fill(want.at(0, bytes), options.generation, options.offset + at);
    if (auto ok = (*region)->read(got.at(0, bytes), options.offset + at); !ok)
      return std::unexpected(std::move(ok.error()));
    const Wrong wrong = compare(got.at(0, bytes), want.at(0, bytes), kDrivePoison,
                                options.generation, (*region)->drive_bytes());
    outcome.compared += bytes;
    outcome.transfers++;
    if (wrong.words)
      outcome.find("DRIVE_CORRUPTED",
                   strf("what plain writes put at drive offset %llu, plain reads do not find: "
                        "0x%llx instead of 0x%llx",
                        static_cast<ull>(options.offset + at + wrong.first * 8),
                        static_cast<ull>(wrong.found), static_cast<ull>(wrong.expected)),
                   wrong.words);
  }
  return outcome;
}

Result<Outcome> run_roundtrip(const Options &options) {
  auto region = Region::open(options);
  if (!region)
    return std::unexpected(std::move(region.error()));
  auto mover = Mover::open(options, (*region)->fd());
  if (!mover)
    return std::unexpected(std::move(mover.error()));
  Outcome outcome;
  (*mover)->say_place(outcome);
  if (const auto good = copies_agree((*mover)->memory(), outcome); !good)
    return std::unexpected(good.error());
  else if (!*good)
    return outcome;
  uint64_t agree = 0, differ = 0;
  BufferMemory &memory = (*mover)->memory();
  const uint64_t half = memory.size() / 2;
  for (const Transfer &t : transfers(**mover, **region, options.seed + 2, 20)) {
    if (t.bytes > half)
      continue;
    memory.begin_cpu();
    memory.put(options.generation, 0, t.bytes, t.drive_offset);
    memory.poison(half, t.bytes);
    memory.end_cpu();
    const auto bytes = static_cast<uint32_t>(t.bytes);
    if (failed((*mover)->transfer(Way::write, 0, bytes, t.drive_offset), Way::write, t, outcome) ||
        failed((*mover)->transfer(Way::read, half, bytes, t.drive_offset), Way::read, t, outcome))
      continue;
    memory.begin_cpu();
    const bool same = std::ranges::equal(memory.look(0, t.bytes), memory.look(half, t.bytes));
    if (auto ok = memory.trouble(); !ok)
      return std::unexpected(std::move(ok.error()));
    (same ? agree : differ)++;
    outcome.compared += t.bytes;
    memory.end_cpu();
  }
  outcome.fact("agree", agree);
  outcome.fact("differ", differ);
  return outcome;
}

Result<Outcome> run_geometry(const Options &options) {
  if (options.path == DMABUF_RW_PATH_REGISTERED) {
    Outcome outcome;
    outcome.not_applicable = "I/O of a registered buffer does not pass the module that counts";
    return outcome;
  }
  auto region = Region::open(options);
  if (!region)
    return std::unexpected(std::move(region.error()));
  auto mover = Mover::open(options, (*region)->fd());
  if (!mover)
    return std::unexpected(std::move(mover.error()));
  Outcome outcome;
  (*mover)->say_place(outcome);
  for (uint64_t bytes = kPage; bytes <= (*mover)->size() && bytes <= options.bytes; bytes *= 2) {
    const auto before = (*mover)->info();
    const int result =
        (*mover)->transfer(Way::read, 0, static_cast<uint32_t>(bytes), options.offset);
    const auto after = (*mover)->info();
    outcome.transfers++;
    if (result != static_cast<int>(bytes) || !before || !after) {
      outcome.find("IO_ERROR", strf("a read of %llu bytes gave %s", static_cast<ull>(bytes),
                                    result < 0 ? errno_name(result).c_str() : "too few"));
      continue;
    }
    outcome.fact(strf("commands_%llu", static_cast<ull>(bytes)),
                 after->commands - before->commands);
  }
  if (const auto info = (*mover)->info())
    outcome.fact("max_command_bytes", info->max_command_bytes);
  return outcome;
}

Result<Outcome> run_size(const Options &options) {
  auto region = Region::open(options);
  if (!region)
    return std::unexpected(std::move(region.error()));
  Outcome outcome;
  // In use, one end of the buffer after the other: a mapping alone may be lazy.
  auto mover = Mover::open(options, (*region)->fd());
  if (!mover) {
    outcome.find("SIZE_CAP",
                 strf("a buffer of %llu MiB was refused: %s",
                      static_cast<ull>(options.buffer_bytes >> 20), mover.error().message.c_str()));
    return outcome;
  }
  (*mover)->say_place(outcome);
  for (const uint64_t at : {uint64_t{0}, (*mover)->size() - kPage}) {
    const Transfer t = {at, kPage, options.offset};
    failed((*mover)->transfer(Way::read, at, kPage, options.offset), Way::read, t, outcome);
  }
  if (const auto info = (*mover)->info()) {
    outcome.fact("buffer_bytes", info->buffer_bytes);
    if (info->smallest_segment * info->segments > info->buffer_bytes ||
        info->largest_segment * info->segments < info->buffer_bytes)
      outcome.find("SG_4G_TRUNCATED", "the pieces of the buffer do not add up to its size");
  }
  return outcome;
}

} // namespace integrity
