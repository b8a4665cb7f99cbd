// SPDX-License-Identifier: GPL-2.0-only
#include "invalidate.hpp"

#include <vector>
#include <xf86drm.h>

namespace vmtest {

namespace {

constexpr std::uint64_t disk_base = 430u << 20;
constexpr std::size_t bytes = 256u << 10;

// MAP must fail with this errno and one of these reasons, and leave nothing.
void refused(const InvalidateOptions &options, const TestBuffer &buffer, const std::string &name,
             int error, std::uint32_t reason, std::uint32_t other_reason = 0,
             Path path = Path::Premapped) {
  const Session session;
  const UniqueFd target = open_target(options.nvme);
  auto entry = map_entry(buffer.fd(), target.get(), path);
  const int result = session.map_one(entry);
  report().check(result == error &&
                     (entry.reason == reason || (other_reason && entry.reason == other_reason)),
                 name, std::format("{}, {}", errno_name(result), reason_name(entry.reason)));
  const auto stats = buffer.must_stats();
  report().check(stats.attachments == 0 && stats.mappings == 0 && stats.pins == 0 &&
                     stats.vmaps == 0,
                 name + ": nothing left",
                 std::format("{} attachments, {} mappings, {} pins, {} vmaps", stats.attachments,
                             stats.mappings, stats.pins, stats.vmaps));
}

void operations(const InvalidateOptions &options, const Testexp &testexp) {
  struct Case {
    const char *name;
    std::uint32_t operation;
    int asked, error;
    std::uint32_t reason;
  };
  constexpr Case cases[] = {
      {"attach refused with EBUSY", DMABUF_TESTEXP_OP_ATTACH, EBUSY, -EOPNOTSUPP,
       DMABUF_RW_REASON_ATTACH},
      {"attach refused with EINVAL", DMABUF_TESTEXP_OP_ATTACH, EINVAL, -EOPNOTSUPP,
       DMABUF_RW_REASON_ATTACH},
      {"attach refused with ENOMEM", DMABUF_TESTEXP_OP_ATTACH, ENOMEM, -ENOMEM,
       DMABUF_RW_REASON_NO_MEMORY},
      {"attach refused with ENODEV", DMABUF_TESTEXP_OP_ATTACH, ENODEV, -ENODEV,
       DMABUF_RW_REASON_REVOKED},
      {"map refused with EIO", DMABUF_TESTEXP_OP_MAP, EIO, -EOPNOTSUPP, DMABUF_RW_REASON_MAP},
      {"map refused with EBUSY", DMABUF_TESTEXP_OP_MAP, EBUSY, -EOPNOTSUPP, DMABUF_RW_REASON_MAP},
      {"map refused with EREMOTEIO", DMABUF_TESTEXP_OP_MAP, EREMOTEIO, -EOPNOTSUPP,
       DMABUF_RW_REASON_NO_P2P_ROUTE},
      {"map refused with ENOMEM", DMABUF_TESTEXP_OP_MAP, ENOMEM, -ENOMEM,
       DMABUF_RW_REASON_NO_MEMORY},
      {"map refused with EINTR", DMABUF_TESTEXP_OP_MAP, EINTR, -EINTR,
       DMABUF_RW_REASON_INTERRUPTED},
  };
  const TestBuffer buffer = testexp.make(gpu_buffer(bytes, options.seed));
  for (const Case &c : cases) {
    if (const int error = buffer.fail(c.operation, c.asked))
      die("FAIL: " + errno_name(error));
    const auto before = buffer.must_stats().refused[c.operation];
    refused(options, buffer, c.name, c.error, c.reason);
    report().check(buffer.must_stats().refused[c.operation] == before + 1,
                   std::string(c.name) + ": it was this that failed");
    buffer.fail(c.operation, 0);
  }
}

// The third map fails, once: what was mapped before works, what comes after, too.
void nth_map(const InvalidateOptions &options, const Testexp &testexp) {
  const std::string name = "third map fails";
  const TestBuffer buffer = testexp.make(gpu_buffer(bytes, options.seed));
  const UniqueFd target = open_target(options.nvme), plain = open_target(options.nvme);
  DiskRegion region(plain.get(), disk_base, bytes);
  region.lay_down_all(1);
  {
    Session session;
    Ring ring(8);
    buffer.fail(DMABUF_TESTEXP_OP_MAP, EIO, 2, 1);
    Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped);
    report().check(mover.error() == 0, name + ": MAP", errno_name(mover.error()));
    report().check(buffer.move() == 0, name + ": MOVE");
    std::string wrong = check_transfer(buffer, mover, region, 2);
    report().check(wrong.empty(), name + ": the second works", wrong);
    report().check(buffer.move() == 0, name + ": MOVE again");
    const int result = mover.transfer(Direction::Read, 0, 4096, disk_base);
    report().check(result == -ENODEV, name + ": I/O", errno_name(result));
    dmabuf_rw_info info{};
    session.info(mover.entry().handle, info);
    report().check(info.last_reason == DMABUF_RW_REASON_REVOKED, name + ": INFO.last_reason",
                   reason_name(info.last_reason));
    wrong = check_transfer(buffer, mover, region, 4);
    report().check(wrong.empty(), name + ": the fourth works", wrong);
    report().check(buffer.must_stats().refused[DMABUF_TESTEXP_OP_MAP] == 1, name + ": one failed");
  }
  check_nothing_left(buffer, name);
}

void segments(const InvalidateOptions &options, const Testexp &testexp) {
  struct Case {
    const char *name;
    std::uint32_t flags, misalign, reason, other_reason;
  };
  constexpr Case cases[] = {
      {"segments that start 512 bytes into a page", DMABUF_TESTEXP_MISALIGN_START, 512,
       DMABUF_RW_REASON_SEG_ALIGN, 0},
      {"segments that start 1 byte into a page", DMABUF_TESTEXP_MISALIGN_START, 1,
       DMABUF_RW_REASON_SEG_ALIGN, 0},
      {"segments of unaligned length", DMABUF_TESTEXP_MISALIGN_LENGTH, 2048,
       DMABUF_RW_REASON_SEG_ALIGN, 0},
      {"segments that sum to less", DMABUF_TESTEXP_SUM_SHORT, 0, DMABUF_RW_REASON_SEG_SUM, 0},
      {"segments that sum to more", DMABUF_TESTEXP_SUM_LONG, 0, DMABUF_RW_REASON_SEG_SUM, 0},
      {"segment over 4 GiB", DMABUF_TESTEXP_SEG_4G, 0, DMABUF_RW_REASON_SEG_SUM, 0},
      {"segment of 4 GiB, length 0", DMABUF_TESTEXP_SEG_4G_ZERO, 0, DMABUF_RW_REASON_SEG_SUM,
       DMABUF_RW_REASON_SEG_ALIGN},
  };
  for (const Case &c : cases) {
    for (const std::uint32_t pages : {0u, DMABUF_TESTEXP_NO_PAGES}) {
      auto create = gpu_buffer(bytes, options.seed,
                               DMABUF_TESTEXP_DYNAMIC | DMABUF_TESTEXP_NO_CPU | pages | c.flags);
      create.misalign = c.misalign;
      create.segment_min = create.segment_max = 16384;
      const TestBuffer buffer = testexp.make(create);
      refused(options, buffer, std::format("{}{}", c.name, pages ? ", no pages" : ""), -EOPNOTSUPP,
              c.reason, c.other_reason);
    }
  }
}

// Importers that are not fit for a buffer: the DRM drivers attach for good, and pin.
void static_importer(const InvalidateOptions &options, const Testexp &testexp) {
  const UniqueFd card = open_drm_driver("virtio_gpu");
  if (!card) {
    report().skip("an importer that pins", "no virtio GPU");
    return;
  }
  std::uint32_t handle = 0;
  const auto import = [&](const TestBuffer &buffer) {
    handle = 0;
    return ::drmPrimeFDToHandle(card.get(), buffer.fd(), &handle) == 0 ? 0 : -errno;
  };
  {
    const TestBuffer buffer =
        testexp.make(gpu_buffer(bytes, options.seed, gpu_like & ~DMABUF_TESTEXP_NO_PAGES));
    const int result = import(buffer);
    report().check(result == -EOPNOTSUPP, "an importer that cannot be told of moves is refused",
                   errno_name(result));
  }
  const TestBuffer buffer =
      testexp.make(gpu_buffer(bytes, options.seed, DMABUF_TESTEXP_DYNAMIC | DMABUF_TESTEXP_NO_CPU));
  buffer.fail(DMABUF_TESTEXP_OP_PIN, EPERM);
  int result = import(buffer);
  const auto refusals = buffer.must_stats().refused[DMABUF_TESTEXP_OP_PIN];
  if (result == 0 && refusals == 0) {
    report().skip("an importer that pins", "virtio_gpu imports without mapping here");
    drmCloseBufferHandle(card.get(), handle);
    return;
  }
  report().check(result == -EPERM && refusals == 1, "pin refused with EPERM", errno_name(result));
  buffer.fail(DMABUF_TESTEXP_OP_PIN, 0);
  result = import(buffer);
  if (result == 0) {
    report().check(buffer.must_stats().pins == 1, "an importer that pins: one pin");
    result = buffer.move();
    report().check(result == -EBUSY, "a pinned buffer does not move", errno_name(result));
    drmCloseBufferHandle(card.get(), handle);
  } else {
    // virtio_gpu pins and maps before it finds that it cannot use foreign memory.
    report().check(buffer.must_stats().maps == 1, "an importer that pins: mapped",
                   errno_name(result));
  }
  result = buffer.move();
  report().check(result == 0, "a buffer that was unpinned moves", errno_name(result));
  check_nothing_left(buffer, "an importer that pins");
}

// A buffer of an exporter that knows no pinning stays where it is while it is mapped.
void static_exporter(const InvalidateOptions &options, const Testexp &testexp) {
  const std::string name = "a static exporter";
  const TestBuffer buffer = testexp.make(gpu_buffer(bytes, options.seed, DMABUF_TESTEXP_NO_CPU));
  const UniqueFd target = open_target(options.nvme), plain = open_target(options.nvme);
  DiskRegion region(plain.get(), disk_base, bytes);
  {
    Session session;
    Ring ring(8);
    Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped);
    report().check(mover.error() == 0, name + ": MAP", errno_name(mover.error()));
    const int moved = buffer.move();
    report().check(moved == -EBUSY, name + ": does not move while mapped", errno_name(moved));
    const std::string wrong = check_transfer(buffer, mover, region, 60);
    report().check(wrong.empty(), name + ": I/O", wrong);
  }
  check_nothing_left(buffer, name);
}

// AUTO takes another path where one cannot, not where something is wrong: other paths would do
// here.
void auto_stays(const InvalidateOptions &options, const Testexp &testexp) {
  const TestBuffer buffer = testexp.make(gpu_buffer(bytes, options.seed, DMABUF_TESTEXP_DYNAMIC));
  const struct {
    int asked, error;
    std::uint32_t reason;
  } cases[] = {{ENOMEM, -ENOMEM, DMABUF_RW_REASON_NO_MEMORY},
               {ENODEV, -ENODEV, DMABUF_RW_REASON_REVOKED},
               {EINTR, -EINTR, DMABUF_RW_REASON_INTERRUPTED}};
  for (const auto &c : cases) {
    buffer.fail(DMABUF_TESTEXP_OP_MAP, c.asked, 0, 1);
    refused(options, buffer,
            std::format("AUTO of memory whose map fails with {}", errno_name(c.asked)), c.error,
            c.reason, 0, Path::Auto);
    buffer.fail(DMABUF_TESTEXP_OP_MAP, 0);
  }
  // And where one cannot, it does.
  buffer.fail(DMABUF_TESTEXP_OP_MAP, EIO, 0, 1);
  const UniqueFd target = open_target(options.nvme);
  {
    const Session session;
    auto entry = map_entry(buffer.fd(), target.get(), Path::Auto);
    const int error = session.map_one(entry);
    report().check(error == 0 && entry.path != DMABUF_RW_PATH_PREMAPPED &&
                       entry.refused[DMABUF_RW_PATH_PREMAPPED] == DMABUF_RW_REASON_MAP,
                   "AUTO of memory whose map fails with EIO",
                   errno_name(error) + ", " + reason_name(entry.reason));
  }
  buffer.fail(DMABUF_TESTEXP_OP_MAP, 0);
}

} // namespace

void test_refusals(const InvalidateOptions &options, const Testexp &testexp) {
  operations(options, testexp);
  auto_stays(options, testexp);
  segments(options, testexp);
  if (testexp.can_move())
    nth_map(options, testexp);
  else
    report().skip("third map fails", "this kernel pins mapped buffers, they cannot move");
  static_importer(options, testexp);
  static_exporter(options, testexp);
}

namespace {

// The paths that use the CPU's view of the pages, and the module's word for each.
struct PagePath {
  Path path;
  std::uint64_t feature;
};
constexpr PagePath page_paths[] = {{Path::Registered, DMABUF_RW_FEAT_REGISTERED},
                                   {Path::Bvec, DMABUF_RW_FEAT_BVEC}};

bool has(std::uint64_t feature) {
  const Session session;
  dmabuf_rw_query query{};
  if (const int error = session.query(query))
    die("QUERY: " + errno_name(error));
  return query.features & feature;
}

// While such a mapping is alive the buffer cannot move, and works.
void held_still(const InvalidateOptions &options, const Testexp &testexp, Path path,
                DiskRegion &region) {
  const std::string name = std::format("{} holds the memory still", name_of(path));
  const TestBuffer buffer = testexp.make(gpu_buffer(bytes, options.seed, DMABUF_TESTEXP_DYNAMIC));
  {
    const UniqueFd target = open_target(options.nvme);
    Session session;
    Ring ring(8);
    if (path == Path::Registered && ring.make_buffer_table(1) < 0)
      die("no table of registered buffers");
    Mover mover(session, ring, buffer.fd(), target.get(), path);
    report().check(mover.error() == 0, name + ": MAP", errno_name(mover.error()));
    const int moved = buffer.move();
    report().check(moved == -EBUSY, name + ": MOVE", errno_name(moved));
    const std::string wrong = check_transfer(buffer, mover, region, 50);
    report().check(wrong.empty(), name + ": I/O", wrong);
  }
  for (int tries = 0; tries < 250 && buffer.must_stats().vmaps; ++tries)
    ::usleep(20000);
  check_nothing_left(buffer, name);
}

// An I/O that ends with the first page of a list has lists of its own, which move with the memory.
void second_lists(const InvalidateOptions &options, const Testexp &testexp) {
  constexpr std::uint64_t list = 511 * 4096; // what one page of addresses names, and the next page
  constexpr std::uint32_t length = 65536;
  const std::string name = "the first page of the next list is the last";
  const TestBuffer buffer = testexp.make(gpu_buffer(2 * list, options.seed));
  const UniqueFd target = open_target(options.nvme), plain = open_target(options.nvme);
  DiskRegion region(plain.get(), disk_base, length);
  {
    Session session;
    Ring ring(8);
    Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped);
    report().check(mover.error() == 0, name + ": MAP", errno_name(mover.error()));
    std::vector<Word> words(length / 8);
    for (std::uint32_t generation = 1; generation < 4; ++generation) {
      region.lay_down_all(generation);
      // The buffer's page 511 is the first entry of the second list, and the command's last.
      const int result =
          mover.transfer(Direction::Read, list + 4096 - length, length, region.base());
      report().check(result == static_cast<int>(length), name + ": read", errno_name(result));
      buffer.must_read(words, list + 4096 - length);
      const auto wrong = compare_words(words, region.expected(region.base(), length));
      report().check(!wrong, name + ": every byte", wrong ? describe(*wrong, 0) : "");
      const int moved = buffer.move();
      report().check(moved == 0, name + ": MOVE", errno_name(moved));
    }
    dmabuf_rw_info info{};
    session.info(mover.entry().handle, info);
    report().check(info.deferred == 2, name + ": INFO counts the reads that met a move",
                   std::format("{}", std::uint64_t{info.deferred}));
  }
  check_nothing_left(buffer, name);
}

} // namespace

void test_sharing(const InvalidateOptions &options, const Testexp &testexp) {
  const UniqueFd target = open_target(options.nvme), plain = open_target(options.nvme);
  DiskRegion region(plain.get(), disk_base, bytes);
  region.lay_down_all(1);
  {
    const std::string name = "two sessions, one buffer";
    const TestBuffer buffer = testexp.make(gpu_buffer(bytes, options.seed));
    {
      Session first, second;
      Ring ring(8), other_ring(8);
      Mover a(first, ring, buffer.fd(), target.get(), Path::Premapped);
      Mover b(second, other_ring, buffer.fd(), target.get(), Path::Premapped);
      report().check(a.error() == 0 && b.error() == 0, name + ": MAP");
      dmabuf_rw_info info{};
      first.info(a.entry().handle, info);
      report().check(info.shared == 2, name + ": INFO.shared",
                     std::to_string(static_cast<unsigned>(info.shared)));
      auto stats = buffer.must_stats();
      report().check(stats.attachments == 1 && stats.mappings == 1, name + ": attached once",
                     std::format("{} attachments, {} mappings", stats.attachments, stats.mappings));
      for (std::uint32_t generation = 2; generation < 8; generation += 4) {
        std::string wrong = check_transfer(buffer, a, region, generation);
        report().check(wrong.empty(), name + ": the first works", wrong);
        wrong = check_transfer(buffer, b, region, generation + 2);
        report().check(wrong.empty(), name + ": the second works", wrong);
        const int moved = buffer.move();
        report().check(moved == (testexp.can_move() ? 0 : -EBUSY), name + ": MOVE",
                       errno_name(moved));
      }
      // Once each, however many share the memory.
      first.info(a.entry().handle, info);
      const std::uint64_t moves = buffer.must_stats().moves;
      report().check(
          info.invalidations == moves, name + ": INFO.invalidations",
          std::format("{} after {} moves", static_cast<std::uint64_t>(info.invalidations), moves));
      report().check(a.release() == 0, name + ": UNMAP of the first");
      const std::string wrong = check_transfer(buffer, b, region, 20);
      report().check(wrong.empty(), name + ": the second works without the first", wrong);
      second.info(b.entry().handle, info);
      report().check(info.shared == 1, name + ": INFO.shared afterwards",
                     std::to_string(static_cast<unsigned>(info.shared)));
    }
    check_nothing_left(buffer, name);
  }
  {
    const TestBuffer buffer = testexp.make(gpu_buffer(bytes, options.seed));
    for (const auto &[path, feature] : page_paths)
      refused(options, buffer, std::format("no CPU view: {}", name_of(path)), -EOPNOTSUPP,
              has(feature) ? DMABUF_RW_REASON_NO_CPU_VIEW : DMABUF_RW_REASON_KERNEL, 0, path);
    Session session;
    Ring ring(8);
    Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped);
    report().check(mover.error() == 0, "no CPU view: premapped", errno_name(mover.error()));
    const std::string wrong = check_transfer(buffer, mover, region, 30);
    report().check(wrong.empty(), "no CPU view: premapped is byte-exact", wrong);
    // No datapath fits a target without O_DIRECT: each says why.
    const UniqueFd cached = open_target(options.nvme, O_RDWR | O_CLOEXEC);
    auto entry = map_entry(buffer.fd(), cached.get(), Path::Auto);
    const int error = session.map_one(entry);
    report().check(error == -EOPNOTSUPP && entry.reason == DMABUF_RW_REASON_NO_PATH_FITS,
                   "no CPU view and no O_DIRECT: AUTO is refused",
                   std::format("{}, {}", errno_name(error), reason_name(entry.reason)));
    std::vector<std::pair<std::uint32_t, std::uint32_t>> reasons = {
        {DMABUF_RW_PATH_PREMAPPED, DMABUF_RW_REASON_NOT_DIRECT}};
    for (const auto &[path, feature] : page_paths)
      reasons.emplace_back(static_cast<std::uint32_t>(path),
                           has(feature) ? DMABUF_RW_REASON_NO_CPU_VIEW : DMABUF_RW_REASON_KERNEL);
    for (const auto &[path, reason] : reasons)
      report().check(entry.refused[path] == reason,
                     std::format("AUTO says why {} is refused", name_of(Path{path})),
                     reason_name(entry.refused[path]));
  }
  if (testexp.can_move())
    second_lists(options, testexp);
  else
    report().skip("second lists after a move", "this kernel pins mapped buffers");
  for (const auto &[path, feature] : page_paths)
    if (has(feature))
      held_still(options, testexp, path, region);
    else
      report().skip(std::format("{} holds the memory still", name_of(path)),
                    "this kernel has no such path");
}

} // namespace vmtest
