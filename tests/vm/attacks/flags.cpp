// SPDX-License-Identifier: GPL-2.0-only
// Flags of IORING_OP_URING_CMD that this module gives no meaning: refused, and nothing is left
// behind. A command that the core takes for multishot and that nobody completes would keep its
// ring, its session and the module for ever.
#include "attacks.hpp"

#include <cstring>

namespace vmtest {

namespace {

constexpr std::uint32_t fixed = 1u << 0, multishot = 1u << 1; // IORING_URING_CMD_*
constexpr std::uint32_t block = 4096;

struct Flags {
  const char *name;
  std::uint32_t uring;
  unsigned sqe;
};

// Submits what is queued: its result, or nothing when it does not end within seconds.
std::optional<int> result_of(Ring &ring) {
  ring.submit();
  __kernel_timespec limit{.tv_sec = 3, .tv_nsec = 0};
  io_uring_cqe *cqe = nullptr;
  if (io_uring_wait_cqe_timeout(ring.raw(), &cqe, &limit) != 0)
    return std::nullopt;
  const int result = cqe->res;
  io_uring_cqe_seen(ring.raw(), cqe);
  return result;
}

class Setting {
public:
  Setting() : buffer_(make_buffer(65536)), target_(open_target(drive)) {
    if (ring_.make_buffer_table(4) < 0)
      die("no table of registered buffers");
    read_.emplace(session_, ring_, buffer_.fd(), target_.get(), Path::Premapped);
    if (read_->error())
      die("MAP: " + errno_name(read_->error()));
    entry_ = map_entry(buffer_.fd(), target_.get(), pages_path());
    if (const int error = session_.map_one(entry_))
      die("MAP: " + errno_name(error));
  }

  void check(std::uint32_t op, std::string_view name, const Flags &flags) {
    if (op == DMABUF_RW_URING_UNREGISTER)
      check_plain(DMABUF_RW_URING_REGISTER, "REGISTER", 0);
    io_uring_sqe *sqe = queue(op);
    sqe->uring_cmd_flags = flags.uring;
    sqe->flags |= static_cast<__u8>(flags.sqe);
    const auto result = result_of(ring_);
    // Of what it does not know yet, io_uring itself says that it is not supported.
    report().check(result == -EINVAL || (flags.sqe && result == -EOPNOTSUPP),
                   std::format("{} with {} is refused", name, flags.name),
                   result ? errno_name(*result) : "no completion in 3 s");
  }

  // The same without flags works.
  void check_plain(std::uint32_t op, std::string_view name, int wanted) {
    queue(op);
    const auto result = result_of(ring_);
    report().check(result == wanted, std::format("{} without flags", name),
                   result ? errno_name(*result) : "no completion in 3 s");
  }

private:
  io_uring_sqe *queue(std::uint32_t op) {
    io_uring_sqe *sqe = ring_.sqe();
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->fd = session_.fd();
    sqe->cmd_op = op;
    if (op == DMABUF_RW_URING_READ || op == DMABUF_RW_URING_WRITE) {
      const dmabuf_rw_uring_io io{
          .file_offset = attack_base, .handle = read_->entry().handle, .flags = 0};
      sqe->len = block;
      std::memcpy(sqe->cmd, &io, sizeof(io));
    } else {
      const dmabuf_rw_uring_reg reg{.handle = op == DMABUF_RW_URING_REGISTER ? entry_.handle : 0,
                                    .index = 1,
                                    .flags = 0,
                                    .reserved = 0};
      std::memcpy(sqe->cmd, &reg, sizeof(reg));
    }
    return sqe;
  }

  DmaBuf buffer_;
  UniqueFd target_;
  Session session_;
  Ring ring_{8};
  std::optional<Mover> read_;
  dmabuf_rw_map_entry entry_{};
};

} // namespace

void attack_flags() {
  constexpr Flags kinds[] = {{"FIXED", fixed, 0}, {"MULTISHOT", multishot, IOSQE_BUFFER_SELECT}};
  constexpr struct {
    std::uint32_t op;
    const char *name;
    int plain;
  } commands[] = {{DMABUF_RW_URING_READ, "READ", block},
                  {DMABUF_RW_URING_WRITE, "WRITE", block},
                  {DMABUF_RW_URING_REGISTER, "REGISTER", 0},
                  {DMABUF_RW_URING_UNREGISTER, "UNREGISTER", 0}};
  // READ and WRITE only, where a buffer cannot be registered.
  const auto here = std::span(commands).first(pages_path() == Path::Registered ? 4 : 2);
  const int users = module_users(), mappings = mappings_alive();
  for (const Flags &flags : kinds) {
    // Of their own each: a command that is never completed keeps all it touched.
    for (const auto &command : here)
      Setting().check(command.op, command.name, flags);
  }
  {
    Setting setting;
    for (const auto &command : here)
      setting.check_plain(command.op, command.name, command.plain);
  }
  report().check(wait_for([&] { return mappings_alive() == mappings; }, 10),
                 "sessions are gone when their rings are closed",
                 std::format("{} mappings left", mappings_alive() - mappings));
  report().check(wait_for([&] { return module_users() == users; }, 10),
                 "so are users of the module", std::format("{} left", module_users() - users));
}

} // namespace vmtest
