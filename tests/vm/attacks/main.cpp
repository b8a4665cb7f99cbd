// SPDX-License-Identifier: GPL-2.0-only
// Attacks on the module: each takes the way by which it once could be made to lose memory, data
// or time. README.md lists them.
//
// usage: attacks NAME…
// Destroys data on /dev/nvme0n1. Which options of dmabuf-lab an attack needs, the table says.
#include "attacks.hpp"

#include <algorithm>
#include <iterator>

namespace vmtest {

namespace {

constexpr struct Attack {
  std::string_view name;
  void (*run)();
  const char *needs; // options of dmabuf-lab run
} attacks[] = {
    {"publish", attack_publish, ""},
    {"durability", attack_durability, ""},
    {"dead-task", attack_dead_task, ""},
    {"killed", attack_killed, ""},
    {"checks", attack_checks, ""},
    {"file-rules", attack_file_rules, ""},
    {"personality", attack_personality, ""},
    {"busy-file", attack_busy_file, ""},
    {"removal", attack_removal, "--qmp --formats"},
    {"leaving", attack_leaving, "--no-multipath"},
    {"timeouts", attack_timeouts, "--qmp"},
    {"frozen", attack_frozen, "--no-multipath"},
    {"long-submit", attack_long_submit, "--qmp"},
    {"polled-cache", attack_polled_cache, "--append nvme.poll_queues=1"},
    {"stale-cache", attack_stale_cache, "--qmp"},
    {"late-fence", attack_late_fence, ""},
    {"stale-sqe", attack_stale_sqe, ""},
    {"stale-copy", attack_stale_copy, ""},
    {"heirless", attack_heirless, ""},
    {"crowd", attack_crowd, ""},
    {"debugfs", attack_debugfs, ""},
    {"uncounted", attack_uncounted, ""},
    {"classify", attack_classify, "--iommu off"},
    {"pin", attack_pin, ""},
    {"late-return", attack_late_return, ""},
    {"late-send", attack_late_send, "--no-multipath"},
    {"prp-words", attack_prp_words, "--iommu off"},
    {"cpu-access", attack_cpu_access, ""},
    {"cpu-copies", attack_cpu_copies, ""},
    {"cpu-sums", attack_cpu_sums, "--iommu off --formats"},
    {"carveout", attack_carveout, "--memory 3072 --append mem=4G"},
    {"multipath", attack_multipath, "--paths 2"},
    {"path-change", attack_path_change, "--paths 2"},
    // Leaves requests behind for ever where it succeeds: last in its guest.
    {"flags", attack_flags, ""},
};

} // namespace

} // namespace vmtest

int main(int argc, char **argv) {
  using namespace vmtest;
  const auto find = [](std::string_view name) {
    return std::ranges::find(attacks, name, &Attack::name);
  };
  report().take_options(argc, argv);
  bool known = argc > 1;
  for (int i = 1; i < argc; ++i)
    known = known && find(argv[i]) != std::end(attacks);
  if (!known) {
    std::string text = "usage: attacks NAME…, of:";
    for (const auto &attack : attacks)
      text += std::format("\n  {:14} {}", attack.name, attack.needs);
    die(text);
  }
  for (int i = 1; i < argc; ++i) {
    const double begin = now_s();
    const std::uint64_t failed = report().failures();
    find(argv[i])->run();
    report().note(std::format("{}: {}, {:.1f} s", argv[i],
                              report().failures() == failed ? "repelled" : "SUCCEEDED",
                              now_s() - begin));
  }
  return report().finish("attacks");
}
