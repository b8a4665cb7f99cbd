// SPDX-License-Identifier: GPL-2.0-only
// testexp: the test exporter of this project, for kernel developers. Its memory may move while
// fio does I/O.
#include "exporter/testexp.hpp"
#include "base/sizes.hpp"
#include "base/system.hpp"
#include "exporter/exporter.hpp"

#include <cerrno>
#include <charconv>
#include <fcntl.h>
#include <linux/dmabuf_testexp.h>
#include <optional>
#include <sys/ioctl.h>

namespace dmabuf {
namespace {

constexpr const char *kDevice = DMABUF_TESTEXP_DEVICE;
constexpr uint32_t kMaxInterval = 1'000'000; // µs, MOVER_START's own limit
constexpr uint32_t kMaxAccesses = 1'000'000;

/// Memory without a CPU view: the test exporter's own copies, in its session.
class TestexpMemory : public DeviceMemory {
public:
  TestexpMemory(UniqueFd control, uint32_t id) : control_(std::move(control)), id_(id) {}

  int read(uint64_t offset, std::span<std::byte> to) override {
    return copy(DMABUF_TESTEXP_IOC_READ, offset, to.data(), to.size());
  }
  int write(uint64_t offset, std::span<const std::byte> from) override {
    return copy(DMABUF_TESTEXP_IOC_WRITE, offset, from.data(), from.size());
  }

private:
  int copy(unsigned long call, uint64_t offset, const std::byte *address, size_t bytes) {
    dmabuf_testexp_access access = {};
    access.id = id_;
    access.offset = offset;
    access.length = bytes;
    access.address = reinterpret_cast<uintptr_t>(address);
    return ioctl(control_.get(), call, &access) < 0 ? errno : 0;
  }

  UniqueFd control_;
  uint32_t id_;
};

Result<UniqueFd> open_testexp() {
  UniqueFd control(open(kDevice, O_RDWR | O_CLOEXEC));
  if (control)
    return control;
  const int code = errno;
  if (code == ENOENT || code == ENODEV || code == ENXIO)
    return fail(code, strf("there is no %s; load dmabuf_testexp.ko, or use another dmabuf_exporter",
                           kDevice));
  return fail(code, errno_text(strf("cannot open %s", kDevice), code));
}

/// Fails where mapped buffers stay where they are; `word` of dmabuf_device needs them to move.
Result<void> need_moves(int control, const char *word) {
  dmabuf_testexp_query query = {};
  if (ioctl(control, DMABUF_TESTEXP_IOC_QUERY, &query) < 0)
    return fail(errno, errno_text(strf("%s does not answer QUERY", kDevice), errno));
  if (!(query.features & DMABUF_TESTEXP_FEAT_MOVE))
    return fail(EOPNOTSUPP, strf("this kernel keeps mapped dma-bufs where they are; drop %s from "
                                 "dmabuf_device",
                                 word));
  return {};
}

Result<void> start_mover(int control, uint32_t id, uint32_t interval_us) {
  if (auto ok = need_moves(control, "move"); !ok)
    return ok;
  dmabuf_testexp_mover mover = {};
  mover.id = id;
  mover.flags = DMABUF_TESTEXP_MOVER_MAPPED;
  mover.interval_us = interval_us;
  if (ioctl(control, DMABUF_TESTEXP_IOC_MOVER_START, &mover) < 0)
    return fail(errno, errno_text("the test exporter did not start to move the buffer", errno));
  return {};
}

Result<void> refuse(int control, uint32_t id, uint32_t operation) {
  dmabuf_testexp_fail refusal = {};
  refusal.id = id;
  refusal.operation = operation;
  refusal.error = EIO;
  if (ioctl(control, DMABUF_TESTEXP_IOC_FAIL, &refusal) < 0)
    return fail(errno, errno_text("the test exporter did not learn what to refuse", errno));
  return {};
}

/// The number N, 1 to `most`, of a word such as move-N; nothing if it is another word.
std::optional<uint32_t> number_of(std::string_view word, std::string_view name, uint32_t most) {
  uint32_t number = 0;
  if (!word.starts_with(name))
    return {};
  const char *end = word.data() + word.size();
  const auto [stop, error] = std::from_chars(word.data() + name.size(), end, number);
  if (error != std::errc() || stop != end || number < 1 || number > most)
    return {};
  return number;
}

} // namespace

Result<TestexpPlan> testexp_plan(std::string_view words) {
  TestexpPlan plan;
  while (!words.empty()) {
    const size_t plus = words.find('+');
    const std::string_view word = words.substr(0, plus);
    words = plus == std::string_view::npos ? "" : words.substr(plus + 1);
    if (const auto number = number_of(word, "move-", kMaxInterval)) {
      plan.move_us = *number;
      continue;
    }
    if (const auto number = number_of(word, "exchange-", kMaxAccesses)) {
      plan.exchange_after = *number;
      continue;
    }
    if (word == "shift-segments") {
      plan.shift = true;
      continue;
    }
    if (word == "lose-writes") {
      plan.lose |= DMABUF_TESTEXP_LOSE_WRITES;
      continue;
    }
    if (word == "stale-reads") {
      plan.lose |= DMABUF_TESTEXP_STALE_READS;
      continue;
    }
    if (word == "no-cpu") {
      plan.no_cpu = true;
      continue;
    }
    if (word == "refuse-attach") {
      plan.refuse_attach = true;
      continue;
    }
    if (word == "refuse-map") {
      plan.refuse_map = true;
      continue;
    }
    return fail(EINVAL,
                strf("dmabuf_device=%.*s is no word of exporter testexp; it knows move-N, "
                     "to move the memory every N µs (1 to %u), exchange-N, to mislead "
                     "devices after every N CPU accesses (1 to %u), shift-segments, "
                     "lose-writes, stale-reads, no-cpu, refuse-attach and refuse-map",
                     static_cast<int>(word.size()), word.data(), kMaxInterval, kMaxAccesses));
  }
  if (plan.lose && plan.move_us)
    return fail(EINVAL, "dmabuf_device: memory that loses data does not move; drop move-N, or "
                        "lose-writes and stale-reads");
  if (plan.lose && (plan.shift || plan.exchange_after))
    return fail(EINVAL, "dmabuf_device: memory that loses data misleads no device; drop "
                        "lose-writes and stale-reads, or shift-segments and exchange-N");
  return plan;
}

Result<DmaBuf> allocate_testexp(const BufferRequest &request) {
  const std::string &device = request.device;
  const auto plan = testexp_plan(device);
  if (!plan)
    return std::unexpected(plan.error());
  auto control = open_testexp();
  if (!control)
    return std::unexpected(std::move(control.error()));
  if (plan->exchange_after)
    if (auto ok = need_moves(control->get(), "exchange"); !ok)
      return std::unexpected(std::move(ok.error()));
  const auto size = round_up(request.bytes, page_bytes());
  if (!size)
    return fail(EOVERFLOW, strf("the job's buffer is too large; %s", request.shrink));
  dmabuf_testexp_create create = {};
  create.bytes = *size;
  create.seed = 1;
  // Memory that devices are led away from does not move.
  create.flags = plan->lose ? plan->lose : uint32_t{DMABUF_TESTEXP_DYNAMIC};
  if (plan->no_cpu)
    create.flags |= DMABUF_TESTEXP_NO_CPU | DMABUF_TESTEXP_NO_PAGES;
  create.segment_min = plan->shift ? 2 * kPage : kPage;
  create.segment_max = 16 * kPage;
  create.quarantine = 4;
  if (plan->shift)
    create.flags |= DMABUF_TESTEXP_SHIFT_SEGMENTS;
  if (plan->exchange_after)
    create.flags |= DMABUF_TESTEXP_EXCHANGE;
  create.exchange_after = plan->exchange_after;
  if (ioctl(control->get(), DMABUF_TESTEXP_IOC_CREATE, &create) < 0) {
    const int code = errno;
    return fail(code,
                errno_text(strf("the test exporter did not give %llu MiB; %s, or load it "
                                "with a larger max_mib",
                                static_cast<unsigned long long>(mib_up(*size)), request.shrink),
                           code));
  }
  DmaBuf buffer;
  buffer.device = device.empty() ? kDevice : strf("%s+%s", kDevice, device.c_str());
  buffer.fd.reset(static_cast<int>(create.fd));
  if (plan->refuse_attach)
    if (auto ok = refuse(control->get(), create.id, DMABUF_TESTEXP_OP_ATTACH); !ok)
      return std::unexpected(std::move(ok.error()));
  if (plan->refuse_map)
    if (auto ok = refuse(control->get(), create.id, DMABUF_TESTEXP_OP_MAP); !ok)
      return std::unexpected(std::move(ok.error()));
  if (plan->move_us)
    if (auto ok = start_mover(control->get(), create.id, plan->move_us); !ok)
      return std::unexpected(std::move(ok.error()));
  if (plan->no_cpu)
    buffer.memory = std::make_unique<TestexpMemory>(std::move(*control), create.id);
  else
    buffer.keeper = std::move(*control);
  return buffer;
}

} // namespace dmabuf
