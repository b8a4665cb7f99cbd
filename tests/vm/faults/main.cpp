// SPDX-License-Identifier: GPL-2.0-only
// Every call of the module with every one of its allocations refused in turn: it succeeds, or
// fails with ENOMEM or what the exporter makes of it, and leaves nothing behind.
//
// usage: faults [--timeouts]        (dmabuf-lab run --kernel debug --errors)
// Needs fault injection. The first allocation of a call fails, then the second, and so on, until
// one goes through in which nothing was left to fail. On a multipath head (--paths 2) MAP makes the
// mapping ready for a path that it chooses. --timeouts: completions are lost instead, until the
// driver resets the drive, with its messages in the kernel log.
#include "faults.hpp"
#include "lib/exporter.hpp"
#include "lib/report.hpp"
#include "lib/sysfs.hpp"

#include <string_view>

namespace vmtest {

namespace {

void run() {
  const UniqueFd target = open_target("/dev/nvme0n1");
  DiskRegion region(target.get(), 64 << 20, buffer_bytes);
  auto made = DmaBuf::create(Exporter::UdmabufScattered, buffer_bytes);
  if (!made)
    die("udmabuf: " + made.error());
  const DmaBuf buffer = std::move(*made);
  Faults faults;

  sessions(faults);
  const Memory udmabuf{"udmabuf", buffer.fd()};
  for (const Path path : paths_here())
    maps(faults, udmabuf, target.get(), path);
  maps(faults, udmabuf, target.get(), Path::Auto);
  maps_again(faults, udmabuf, target.get());
  for (const bool window : {false, true})
    registrations(faults, udmabuf, target.get(), window);
  for (const Path path : {Path::Premapped, Path::Bvec})
    transfers(faults, buffer, region, target.get(), path);
  // Not of bvec: nothing of it is allocated but by the block layer, which has reserves.
  waited(faults, buffer, region, target.get(), Path::Premapped, 0);
  transfers(faults, buffer, region, target.get(), Path::Premapped, 8192);
  waited(faults, buffer, region, target.get(), Path::Premapped, 8192);
  sent_again();
  opens(faults, udmabuf);

  const Testexp exporter;
  const TestBuffer gpu = exporter.make(gpu_buffer(buffer_bytes, 3));
  maps(faults, {"testexp", gpu.fd()}, target.get(), Path::Premapped);
  if (exporter.can_move())
    remaps(faults, gpu, region, target.get());
  const TestBuffer io = exporter.make(gpu_buffer(buffer_bytes, 4, DMABUF_TESTEXP_IO_VIEW));
  opens(faults, {"I/O memory", io.fd()});
  // A view that does not hold the memory in place: OPEN has to pin it.
  const TestBuffer pinned = exporter.make(
      gpu_buffer(buffer_bytes, 5, DMABUF_TESTEXP_DYNAMIC | DMABUF_TESTEXP_LOOSE_VMAP));
  opens(faults, {"memory that is to be pinned", pinned.fd()});
  const dmabuf_testexp_stats held = pinned.must_stats();
  report().check(held.pins == 0 && held.vmaps == 0 && held.attachments == 0,
                 "nothing holds it any more");
  report().check(io.must_stats().vmaps == 0, "no view is left");
  const dmabuf_testexp_stats stats = gpu.must_stats();
  report().check(stats.attachments == 0 && stats.mappings == 0 && stats.maps == stats.unmaps &&
                     stats.pins == 0 && stats.vmaps == 0,
                 "nothing is left on the test exporter's buffer");
}

} // namespace

} // namespace vmtest

int main(int argc, char **argv) {
  using namespace vmtest;
  report().take_options(argc, argv);
  if (argc == 2 && std::string_view(argv[1]) == "--timeouts") {
    timeouts();
    return report().finish("faults");
  }
  if (argc > 1)
    die("usage: faults [--timeouts]");
  run();
  if (const int status = unload_module("dmabuf_testexp", 20))
    report().fail("the test exporter unloads", errno_name(status));
  return report().finish("faults");
}
