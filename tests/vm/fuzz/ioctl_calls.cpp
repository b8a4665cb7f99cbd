// SPDX-License-Identifier: GPL-2.0-only
// The ioctls of /dev/dmabuf_rw.
#include "fds.hpp"
#include "worker.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <fcntl.h>
#include <linux/dmabuf_rw.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace vmtest::fuzz {

namespace {

// No lock: it might be held where a fork leaves it. The size may be that of the one before.
struct SharedHandle {
  std::atomic<std::uint64_t> name; // handle and session
  std::atomic<std::uint64_t> bytes;
};
std::array<SharedHandle, handle_slots> handles;

void keep_handle(std::uint64_t slot, const HandleSlot &handle) {
  SharedHandle &kept = handles[slot % handle_slots];
  kept.bytes = handle.bytes;
  kept.name = std::uint64_t{handle.handle} << 32 | static_cast<std::uint32_t>(handle.session);
}

template <typename Structure>
long call(int fd, unsigned long command, const Piece &piece, const Structure &content) {
  std::memcpy(piece.own, &content, sizeof(content));
  return outcome(::ioctl(fd, command, piece.given));
}

template <typename Structure> Piece room(Worker &worker, std::uint64_t memory) {
  return worker.arena().structure(memory, sizeof(Structure));
}

long query(Worker &worker, Args &args) {
  dmabuf_rw_query content{};
  const int session = args.fd();
  const auto piece = room<dmabuf_rw_query>(worker, args.next());
  content.flags = args.word();
  content.reserved[std::size(content.reserved) - 1] = args.next();
  return call(session, DMABUF_RW_IOC_QUERY, piece, content);
}

long config(Worker &worker, Args &args) {
  dmabuf_rw_config content{};
  const int session = args.fd();
  const auto piece = room<dmabuf_rw_config>(worker, args.next());
  content.timeout_ms = args.word();
  content.flags = args.word();
  content.reserved[2] = args.next();
  return call(session, DMABUF_RW_IOC_CONFIG, piece, content);
}

// A slot's old mapping makes room for the new one, as it would in a program in its right mind.
void unmap_slot(std::uint64_t slot) {
  HandleSlot old = handle_at(slot);
  if (!old.handle)
    return;
  dmabuf_rw_unmap unmap{};
  unmap.handles = reinterpret_cast<std::uintptr_t>(&old.handle);
  unmap.nr_handles = 1;
  ::ioctl(old.session, DMABUF_RW_IOC_UNMAP, &unmap);
}

int neighbour(const Pool &pool, std::uint64_t fd, std::uint64_t step) {
  if (!pool.has(fd))
    return static_cast<int>(fd);
  const auto index =
      (fd - static_cast<unsigned>(pool.first) + step) % static_cast<unsigned>(pool.count);
  return pool.first + static_cast<int>(index);
}

long map(Worker &worker, Args &args) {
  const int session = args.fd();
  const std::uint64_t slot = args.next();
  const bool keep = args.next();
  const std::uint64_t dmabuf = args.next(), target = args.next();
  dmabuf_rw_map_entry entry{};
  entry.path = args.word();
  entry.directions = args.word();
  entry.max_command_hint = args.word();
  entry.flags = args.word();
  entry.reserved[std::size(entry.reserved) - 1] = args.next();
  const std::uint64_t entries = args.next(), nr = args.next();
  dmabuf_rw_map content{};
  content.nr_entries = static_cast<__u32>(nr ? nr : entries);
  content.flags = args.word();
  content.reserved = args.word();
  const std::uint64_t memory = args.next(), array_memory = args.next();
  // Only a good array has room for all that a call may have.
  const std::uint64_t filled = std::min<std::uint64_t>(entries, array_memory ? 16 : 1024);
  const Piece array = worker.arena().array(array_memory, filled * sizeof(entry));
  for (std::uint64_t i = 0; i < filled; ++i) {
    entry.dmabuf_fd = static_cast<__u32>(neighbour(dmabufs, dmabuf, i));
    entry.target_fd = static_cast<__u32>(neighbour(targets, target, i / 2));
    if (target == 0xFFFFFFFF)
      entry.target_fd = DMABUF_RW_NO_TARGET;
    std::memcpy(array.own + i * sizeof(entry), &entry, sizeof(entry));
  }
  content.entries = array.given;
  const long result =
      call(session, DMABUF_RW_IOC_MAP, room<dmabuf_rw_map>(worker, memory), content);
  if (result)
    return result;
  long last = -EIO;
  for (std::uint64_t i = 0; i < filled; ++i) {
    std::memcpy(&entry, array.own + i * sizeof(entry), sizeof(entry));
    last = -static_cast<long>(entry.error);
    if (entry.error)
      continue;
    if (!keep)
      unmap_slot(slot + i);
    keep_handle(slot + i, {entry.handle, session, entry.buffer_bytes});
  }
  return last;
}

long unmap(Worker &worker, Args &args) {
  args.next();
  const std::uint64_t slot = args.next();
  args.rewind();
  const HandleSlot named = handle_of(args);
  const std::uint64_t entries = args.next(), nr = args.next();
  dmabuf_rw_unmap content{};
  content.nr_handles = static_cast<__u32>(nr ? nr : entries);
  content.flags = args.word();
  content.reserved = args.word();
  const std::uint64_t memory = args.next(), array_memory = args.next();
  const std::uint64_t filled = std::min<std::uint64_t>(entries, array_memory ? 16 : 1024);
  const Piece array = worker.arena().array(array_memory, filled * 4);
  for (std::uint64_t i = 0; i < filled; ++i) {
    const std::uint32_t handle = i ? handle_at(slot + i).handle : named.handle;
    std::memcpy(array.own + i * 4, &handle, 4);
  }
  content.handles = array.given;
  return call(named.session, DMABUF_RW_IOC_UNMAP, room<dmabuf_rw_unmap>(worker, memory), content);
}

bool kernel_address(std::uint64_t value) {
  return value >= 0xFFFF'8000'0000'0000 && ~value > 0xFFFF;
}

long info(Worker &worker, Args &args) {
  const HandleSlot named = handle_of(args);
  dmabuf_rw_info content{};
  content.handle = named.handle;
  content.flags = args.word();
  const auto piece = room<dmabuf_rw_info>(worker, args.next());
  const long result = call(named.session, DMABUF_RW_IOC_INFO, piece, content);
  if (result)
    return result;
  std::uint64_t words[sizeof(content) / 8];
  std::memcpy(words, piece.own, sizeof(words));
  if (std::ranges::any_of(words, kernel_address))
    ++worker.shared().kernel_addresses;
  return result;
}

long open(Worker &worker, Args &args) {
  dmabuf_rw_open content{};
  const int session = args.fd(), slot = args.fd();
  content.dmabuf_fd = args.word();
  content.flags = args.word();
  content.reserved0 = args.word();
  content.reserved[std::size(content.reserved) - 1] = args.next();
  const auto piece = room<dmabuf_rw_open>(worker, args.next());
  const long result = call(session, DMABUF_RW_IOC_OPEN, piece, content);
  if (result)
    return result;
  std::memcpy(&content, piece.own, sizeof(content));
  const int fd = static_cast<int>(content.fd);
  set_object_bytes(slot, content.buffer_bytes);
  ::dup3(fd, slot, content.flags & O_CLOEXEC);
  ::close(fd);
  return result;
}

long io(Worker &worker, Args &args) {
  const HandleSlot named = handle_of(args);
  dmabuf_rw_io content{};
  content.handle = named.handle;
  // A mask where one direction has to be: both are sent now and then.
  content.direction = args.word();
  content.buffer_offset = resolve(args.next(), named.bytes);
  content.file_offset = resolve(args.next(), partition_bytes);
  content.length = resolve(args.next(), named.bytes);
  content.flags = args.word();
  content.reserved[1] = args.next();
  return call(named.session, DMABUF_RW_IOC_IO, room<dmabuf_rw_io>(worker, args.next()), content);
}

long other(Worker &worker, Args &args) {
  const int session = args.fd();
  const std::uint64_t number = args.next();
  const auto direction = static_cast<unsigned>(number >> 7) & 3;
  const auto command = static_cast<unsigned>(number) & 0x7F;
  // No call of ours has this size.
  const unsigned long request = _IOC(direction, DMABUF_RW_IOC_MAGIC, command, 40);
  return outcome(::ioctl(session, request, worker.arena().structure(args.next(), 64).given));
}

constexpr Action actions[] = {
    {"query", query}, {"config", config}, {"map", map}, {"unmap", unmap},
    {"info", info},   {"open", open},     {"io", io},   {"ioctl_other", other},
};

} // namespace

std::span<const Action> ioctl_actions() { return actions; }

HandleSlot handle_at(std::uint64_t slot) {
  const SharedHandle &kept = handles[slot % handle_slots];
  const std::uint64_t name = kept.name;
  if (!name) // nothing was ever mapped there
    return {0, sessions.first, 0};
  return {static_cast<std::uint32_t>(name >> 32), static_cast<int>(name & 0xFFFFFFFF), kept.bytes};
}

HandleSlot handle_of(Args &args) {
  const int session = args.fd();
  HandleSlot named = handle_at(args.next());
  if (session)
    named.session = session;
  constexpr std::uint32_t generation = 1u << 12;
  switch (args.next()) {
  case 1:
    named.handle += generation;
    break;
  case 2:
    named.handle -= generation;
    break;
  case 3:
    named.handle ^= 1;
    break;
  case 4:
    named.handle = 0;
    break;
  case 5:
    named.handle = ~0u;
    break;
  case 6:
    named.handle ^= 0x8000'0000;
    break;
  case 7:
    named.handle &= generation - 1;
    break;
  default:
    break;
  }
  return named;
}

} // namespace vmtest::fuzz
