// SPDX-License-Identifier: GPL-2.0-only
// The test exporter itself, dmabuf_testexp.ko: does it do what it says?
#include "parts.hpp"

#include <cerrno>
#include <getopt.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

namespace vmtest {

dmabuf_testexp_create plain_buffer(std::uint32_t flags, std::uint32_t quarantine) {
  dmabuf_testexp_create create{};
  create.bytes = test_bytes;
  create.seed = 1;
  create.flags = flags;
  create.segment_min = 4096;
  create.segment_max = 16384;
  create.quarantine = quarantine;
  return create;
}

std::vector<Word> pattern(std::uint32_t generation) {
  std::vector<Word> words(test_bytes / 8);
  fill_pattern(words, generation, 0);
  return words;
}

bool holds(const TestBuffer &buffer, const std::vector<Word> &expected, std::uint32_t flags) {
  std::vector<Word> found(expected.size());
  if (const int error = buffer.read(found, 0, flags))
    die("READ of the test exporter: " + errno_name(error));
  return !compare_words(found, expected);
}

void check_result(int result, int wanted, const std::string &name) {
  report().check(result == wanted, name,
                 std::format("{}, not {}", errno_name(result), errno_name(wanted)));
}

int sync_cpu(const TestBuffer &buffer, std::uint64_t flags) {
  dma_buf_sync sync{.flags = flags};
  return ::ioctl(buffer.fd(), DMA_BUF_IOCTL_SYNC, &sync) == 0 ? 0 : -errno;
}

void check_transfers(const TestexpOptions &options, const TestBuffer &buffer,
                     const std::string &name) {
  const UniqueFd target = open_target(options.nvme), plain = open_target(options.nvme);
  DiskRegion region(plain.get(), test_disk_base, test_bytes);
  Session session;
  Ring ring(8);
  Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped);
  check_result(mover.error(), 0, name + ": MAP");
  if (mover.error())
    return;
  region.lay_down_all(40);
  const int length = static_cast<int>(test_bytes);
  check_result(mover.transfer(Direction::Read, 0, test_bytes, region.base()), length,
               name + ": a read");
  const auto read = region.expected(region.base(), test_bytes);
  report().check(holds(buffer, {read.begin(), read.end()}), name + ": the read is byte-exact");
  buffer.must_write(pattern(41), 0);
  check_result(mover.transfer(Direction::Write, 0, test_bytes, region.base()), length,
               name + ": a write");
  const auto written = pattern(41);
  std::copy(written.begin(), written.end(), read.begin());
  const auto wrong = region.check_all();
  report().check(!wrong, name + ": the write is byte-exact", wrong.value_or(""));
}

View::View(const TestBuffer &buffer) {
  void *view = ::mmap(nullptr, test_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, buffer.fd(), 0);
  if (view == MAP_FAILED)
    die("mmap of the test exporter's buffer: " + errno_name(errno));
  words_ = static_cast<Word *>(view);
}

View::~View() { ::munmap(words_, test_bytes); }

} // namespace vmtest

namespace {

using namespace vmtest;

[[noreturn]] void usage() {
  die("usage: testexp [--nvme PATH] [--verbose] [--refuse-vmap] [--with-pages ADDRESS,SIZE]…\n"
      "               [--without-pages ADDRESS,SIZE]…\n"
      "Destroys data on the device. --refuse-vmap: this only; the kernel warns. The ranges are of\n"
      "memory that the kernel was told to leave alone (memmap=SIZE$ADDRESS) and has, or has not,\n"
      "struct pages for; with them, only the carve-outs are tested.");
}

} // namespace

int main(int argc, char **argv) {
  TestexpOptions options;
  static const option names[] = {
      {"nvme", 1, nullptr, 'n'},          {"verbose", 0, nullptr, 'v'},
      {"refuse-vmap", 0, nullptr, 'r'},   {"with-pages", 1, nullptr, 'w'},
      {"without-pages", 1, nullptr, 'o'}, {}};
  for (int c; (c = getopt_long(argc, argv, "", names, nullptr)) != -1;) {
    if (c == 'n')
      options.nvme = optarg;
    else if (c == 'v')
      report().set_verbose(true);
    else if (c == 'r')
      options.refuse_vmap = true;
    else if (c == 'w')
      options.with_pages.push_back(optarg);
    else if (c == 'o')
      options.without_pages.push_back(optarg);
    else
      usage();
  }
  if (optind != argc)
    usage();
  if (options.refuse_vmap) {
    test_vmap_refused(Testexp());
  } else if (options.with_pages.empty() && options.without_pages.empty()) {
    {
      const Testexp testexp;
      test_vmap(options, testexp);
      test_views(options, testexp);
      test_shadow(options, testexp);
      test_importer(testexp);
      test_fences(options, testexp);
      dmabuf_testexp_query query{};
      check_result(testexp.query(query), 0, "QUERY");
      report().check(query.live_buffers == 0, "no buffer is left",
                     std::format("{} left", query.live_buffers));
    }
    test_max_mib();
  } else {
    test_carveouts(options);
  }
  const int unloaded = unload_module("dmabuf_testexp", 10);
  report().check(unloaded == 0, "dmabuf_testexp can be removed at the end", errno_name(unloaded));
  return report().finish("testexp");
}
