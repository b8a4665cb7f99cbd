// SPDX-License-Identifier: GPL-2.0-only
#include "program.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <format>
#include <fstream>
#include <linux/dmabuf_rw.h>
#include <sstream>

namespace vmtest::fuzz {

namespace {

using enum Kind;
using enum Success;

// Of every request on a ring, at the end.
#define SQE                                                                                        \
  {"ring", Ring}, {"sqe_flags", SqeFlags}, {"misc", Zero}, { "submit", Submit }
#define COMMAND {"cmd_flags", CommandFlags}, SQE

constexpr Arg query_args[] = {
    {"session", Session}, {"memory", Memory}, {"flags", Zero}, {"reserved", Zero}};
constexpr Arg config_args[] = {{"session", Session},
                               {"memory", Memory},
                               {"timeout", Timeout},
                               {"flags", Zero},
                               {"reserved", Zero}};
constexpr Arg map_args[] = {{"session", Session},
                            {"handle", Handle},
                            {"keep", Zero},
                            {"dmabuf", DmaBuf},
                            {"target", Target},
                            {"path", Path},
                            {"directions", Directions},
                            {"hint", Zero},
                            {"entry_flags", MapFlags},
                            {"entry_reserved", Zero},
                            {"entries", Entries},
                            {"nr", Zero},
                            {"flags", Zero},
                            {"reserved", Zero},
                            {"memory", Memory},
                            {"array_memory", Memory}};
constexpr Arg unmap_args[] = {{"session", OfSession}, {"handle", Handle}, {"bend", Bend},
                              {"entries", Entries},   {"nr", Zero},       {"flags", Zero},
                              {"reserved", Zero},     {"memory", Memory}, {"array_memory", Memory}};
constexpr Arg info_args[] = {{"session", OfSession},
                             {"handle", Handle},
                             {"bend", Bend},
                             {"flags", Zero},
                             {"memory", Memory}};
constexpr Arg open_args[] = {{"session", Session}, {"rw", RwSlot},      {"dmabuf", DmaBuf},
                             {"flags", OpenFlags}, {"reserved0", Zero}, {"reserved", Zero},
                             {"memory", Memory}};
constexpr Arg io_args[] = {{"session", OfSession},
                           {"handle", Handle},
                           {"bend", Bend},
                           {"direction", Direction},
                           {"buffer_offset", BufferOffset},
                           {"file_offset", FileOffset},
                           {"length", Length},
                           {"flags", Zero},
                           {"reserved", Zero},
                           {"memory", Memory}};
constexpr Arg ioctl_args[] = {
    {"session", SessionSlot}, {"command", Choice, 512}, {"memory", Memory}};

constexpr Arg cmd_io_args[] = {{"session", OfSession},
                               {"handle", Handle},
                               {"bend", Bend},
                               {"buffer_offset", BufferOffset},
                               {"file_offset", FileOffset},
                               {"length", Length},
                               {"flags", Zero},
                               COMMAND};
constexpr Arg cmd_ranges_args[] = {{"session", OfSession},
                                   {"handle", Handle},
                                   {"bend", Bend},
                                   {"buffer_offset", BufferOffset},
                                   {"file_offset", FileOffset},
                                   {"length", Length},
                                   {"stride", Length},
                                   {"entries", Entries},
                                   {"nr", Zero},
                                   {"offset", Zero},
                                   {"flags", Zero},
                                   {"memory", Memory},
                                   COMMAND};
constexpr Arg cmd_register_args[] = {{"session", OfSession}, {"handle", Handle},
                                     {"bend", Bend},         {"index", Index},
                                     {"window", Choice, 3},  {"offset", BufferOffset},
                                     {"length", Length},     {"flags", Zero},
                                     {"reserved", Zero},     COMMAND};
constexpr Arg cmd_unregister_args[] = {
    {"session", Session}, {"index", Index}, {"handle", Zero}, {"flags", Zero},
    {"reserved", Zero},   {"addr", Zero},   {"len", Zero},    COMMAND};
constexpr Arg cmd_other_args[] = {{"session", SessionSlot}, {"command", Choice, 512}, COMMAND};
constexpr Arg fixed_args[] = {{"target", Target},          {"index", Index},
                              {"offset", BufferOffset},    {"length", Length},
                              {"file_offset", FileOffset}, SQE};
constexpr Arg sq_rw_args[] = {{"rw", RwSlot},     {"position", Position}, {"bytes", Bytes},
                              {"memory", Memory}, {"rwf", RwfFlags},      SQE};
constexpr Arg sq_fixed_args[] = {{"rw", RwSlot},         {"index", Index}, {"offset", BufferOffset},
                                 {"position", Position}, {"bytes", Bytes}, SQE};
constexpr Arg sq_file_args[] = {{"rw", RwSlot}, {"position", Position}, {"bytes", Bytes}, SQE};
constexpr Arg sq_splice_args[] = {{"rw", RwSlot},         {"pipe", Pipe},   {"out", Choice, 2},
                                  {"position", Position}, {"bytes", Bytes}, SQE};
constexpr Arg cancel_args[] = {{"mode", Choice, 5}, {"file", Session}, SQE};
constexpr Arg sqe_args[] = {SQE};

constexpr Arg ring_new_args[] = {{"ring", Ring}, {"flags", RingFlags}, {"tables", Choice, 8}};
constexpr Arg ring_args[] = {{"ring", Ring}};
constexpr Arg ring_wait_args[] = {{"ring", Ring}, {"wait", Choice, 3}};
constexpr Arg ring_memory_args[] = {
    {"ring", Ring}, {"index", Index}, {"memory", Memory}, {"bytes", Bytes}};

constexpr Arg move_args[] = {{"rw", RwSlot}, {"memory", Memory}, {"bytes", Bytes}};
constexpr Arg pmove_args[] = {
    {"rw", RwSlot}, {"memory", Memory}, {"bytes", Bytes}, {"position", Position}};
constexpr Arg vmove_args[] = {
    {"rw", RwSlot}, {"memory", Memory}, {"bytes", Bytes}, {"vectors", Choice, 6}};
constexpr Arg v2move_args[] = {{"rw", RwSlot},         {"memory", Memory},     {"bytes", Bytes},
                               {"vectors", Choice, 6}, {"position", Position}, {"rwf", RwfFlags}};
constexpr Arg seek_args[] = {{"rw", RwSlot}, {"position", Position}, {"whence", Choice, 7}};
constexpr Arg splice_args[] = {{"rw", RwSlot},         {"pipe", Pipe},    {"bytes", Bytes},
                               {"position", Position}, {"at", Choice, 2}, {"flags", Choice, 16}};
constexpr Arg sendfile_args[] = {
    {"rw", RwSlot}, {"to", Choice, 3}, {"bytes", Bytes}, {"position", Position}, {"at", Choice, 2}};
constexpr Arg copy_range_args[] = {{"from", RwSlot},
                                   {"to", RwSlot},
                                   {"bytes", Bytes},
                                   {"position", Position},
                                   {"to_sink", Choice, 2}};
constexpr Arg rw_args[] = {{"rw", RwSlot}};
constexpr Arg poll_args[] = {{"rw", RwSlot}, {"events", Choice, 64}};
constexpr Arg epoll_args[] = {{"rw", RwSlot}, {"operation", Choice, 3}};
constexpr Arg mmap_args[] = {{"file", Object},          {"place", Place},
                             {"bytes", Bytes},          {"offset", BufferOffset},
                             {"protection", Choice, 8}, {"private", Zero}};
constexpr Arg place_args[] = {{"place", Place}};
constexpr Arg touch_args[] = {{"place", Place}, {"offset", BufferOffset}, {"write", Choice, 2}};
constexpr Arg mprotect_args[] = {{"place", Place}, {"bytes", Bytes}, {"protection", Choice, 8}};
constexpr Arg mremap_args[] = {{"place", Place}, {"to", Place}, {"bytes", Bytes}};
constexpr Arg advise_args[] = {{"place", Place}, {"bytes", Bytes}, {"advice", Choice, 30}};
constexpr Arg fcntl_args[] = {{"rw", RwSlot}, {"flags", Choice, 16}};
constexpr Arg fcntl_other_args[] = {
    {"rw", RwSlot}, {"command", Choice, 24}, {"argument", Position}};
constexpr Arg sync_args[] = {
    {"file", Object}, {"flags", Choice, 8}, {"other", Zero}, {"memory", Memory}};
constexpr Arg rw_ioctl_args[] = {{"rw", RwSlot}, {"command", Choice, 16}, {"memory", Memory}};
constexpr Arg size_args[] = {{"rw", RwSlot}, {"position", Position}};
constexpr Arg fallocate_args[] = {
    {"rw", RwSlot}, {"mode", Choice, 128}, {"position", Position}, {"bytes", Bytes}};
constexpr Arg mode_args[] = {{"rw", RwSlot}, {"mode", Choice, 4096}};
constexpr Arg range_args[] = {
    {"rw", RwSlot}, {"position", Position}, {"bytes", Bytes}, {"advice", Choice, 8}};
constexpr Arg flock_args[] = {{"rw", RwSlot}, {"operation", Choice, 3}};

constexpr Arg session_slot_args[] = {{"session", SessionSlot}};
constexpr Arg dmabuf_dup_args[] = {{"dmabuf", DmaBufSlot}, {"master", Choice, 24}};
constexpr Arg dmabuf_new_args[] = {
    {"dmabuf", DmaBufSlot}, {"kind", Choice, 5}, {"pages", Choice, 64}};
constexpr Arg dmabuf_args[] = {{"dmabuf", DmaBufSlot}};
constexpr Arg target_dup_args[] = {{"target", TargetSlot}, {"master", TargetMaster}};
constexpr Arg target_args[] = {{"target", TargetSlot}};
constexpr Arg rw_dup_args[] = {{"rw", RwSlot}, {"from", RwSlot}};
constexpr Arg rw_master_args[] = {{"rw", RwSlot}, {"master", Choice, 2}};
constexpr Arg rw_slot_args[] = {{"rw", RwSlot}};
constexpr Arg pipe_args[] = {{"pipe", Pipe}};
constexpr Arg id_args[] = {{"id", Id}};
constexpr Arg fail_args[] = {{"id", Id},
                             {"operation", Choice, 5},
                             {"error", Choice, 8},
                             {"after", Choice, 3},
                             {"times", Choice, 3}};
constexpr Arg fence_args[] = {
    {"id", Id}, {"usage", Choice, 4}, {"delay", Choice, 4}, {"error", Choice, 3}};
constexpr Arg mover_args[] = {{"id", Id}, {"count", Choice, 8}, {"interval", Choice, 2000}};
constexpr Arg fork_args[] = {{"how", Choice, 5}, {"calls", Choice, 6}};
constexpr Arg thread_args[] = {{"calls", Choice, 8}};
constexpr Arg timer_args[] = {{"microseconds", Choice, 2000}};

#undef COMMAND
#undef SQE

constexpr Type table[] = {
    {"query", 16, Must, query_args},
    {"config", 24, Must, config_args},
    {"map", 360, Must, map_args},
    {"unmap", 160, Must, unmap_args},
    {"info", 120, Must, info_args},
    {"open", 160, Must, open_args},
    {"io", 400, Must, io_args},
    {"ioctl_other", 24, Never, ioctl_args},
    {"cmd_read", 360, Must, cmd_io_args},
    {"cmd_write", 360, Must, cmd_io_args},
    {"cmd_readv", 200, Must, cmd_ranges_args},
    {"cmd_writev", 200, Must, cmd_ranges_args},
    {"cmd_register", 160, Must, cmd_register_args},
    {"cmd_unregister", 80, Must, cmd_unregister_args},
    {"cmd_other", 24, Never, cmd_other_args},
    {"fixed_read", 120, Must, fixed_args},
    {"fixed_write", 120, Must, fixed_args},
    {"sq_read", 80, Must, sq_rw_args},
    {"sq_write", 80, Must, sq_rw_args},
    {"sq_read_fixed", 40, Must, sq_fixed_args},
    {"sq_write_fixed", 40, Must, sq_fixed_args},
    {"sq_poll", 32, Must, sq_file_args},
    {"sq_fsync", 16, Must, sq_file_args},
    {"sq_ftruncate", 12, Never, sq_file_args},
    {"sq_splice", 32, Must, sq_splice_args},
    {"sq_cancel", 48, Must, cancel_args},
    {"sq_nop", 16, Must, sqe_args},
    {"ring_new", 10, Must, ring_new_args},
    {"ring_close", 4, Must, ring_args},
    {"ring_wait", 60, Must, ring_wait_args},
    {"ring_memory", 32, Must, ring_memory_args},
    {"ring_files", 4, Must, ring_args},
    {"read", 100, Must, move_args},
    {"write", 100, Must, move_args},
    {"pread", 100, Must, pmove_args},
    {"pwrite", 100, Must, pmove_args},
    {"readv", 32, Must, vmove_args},
    {"writev", 32, Must, vmove_args},
    {"preadv2", 60, Must, v2move_args},
    {"pwritev2", 60, Must, v2move_args},
    {"lseek", 48, Must, seek_args},
    {"splice_out", 40, Must, splice_args},
    {"splice_in", 40, Must, splice_args},
    {"vmsplice", 16, Must, pmove_args},
    {"sendfile", 32, Must, sendfile_args},
    {"copy_file_range", 24, Must, copy_range_args},
    {"poll", 40, Must, poll_args},
    {"epoll", 16, Must, epoll_args},
    {"mmap", 60, Must, mmap_args},
    {"munmap", 32, Must, place_args},
    {"touch", 60, Must, touch_args},
    {"mprotect", 24, Must, mprotect_args},
    {"mremap", 16, Must, mremap_args},
    {"madvise", 16, Must, advise_args},
    {"setfl", 24, Must, fcntl_args},
    {"fcntl", 20, Must, fcntl_other_args},
    {"sync", 48, Must, sync_args},
    {"rw_ioctl", 16, Must, rw_ioctl_args},
    {"fsync", 12, Must, rw_args},
    {"fstat", 12, Must, rw_args},
    {"fdinfo", 8, Must, rw_args},
    {"reopen", 12, Never, mode_args},
    {"ftruncate", 16, Never, size_args},
    {"fallocate", 16, Never, fallocate_args},
    {"fchmod", 8, Never, mode_args},
    {"fadvise", 12, Must, range_args},
    {"flock", 8, Must, flock_args},
    {"session_new", 8, Must, session_slot_args},
    {"session_close", 1, Must, session_slot_args},
    {"dmabuf_dup", 20, Must, dmabuf_dup_args},
    {"dmabuf_new", 8, Must, dmabuf_new_args},
    {"dmabuf_close", 2, Must, dmabuf_args},
    {"target_dup", 24, Must, target_dup_args},
    {"target_close", 2, Must, target_args},
    {"rw_dup", 16, Must, rw_dup_args},
    {"rw_master", 16, Must, rw_master_args},
    {"rw_close", 8, Must, rw_slot_args},
    {"pipe_drain", 24, Must, pipe_args},
    {"te_move", 24, Must, id_args},
    {"te_revoke", 4, Must, id_args},
    {"te_unrevoke", 20, Must, id_args},
    {"te_fail", 12, Must, fail_args},
    {"te_fence", 8, Must, fence_args},
    {"te_signal", 12, Must, id_args},
    {"te_mover", 3, Must, mover_args},
    {"fork", 1, Must, fork_args},
    {"thread", 3, Must, thread_args},
    {"timer", 3, Must, timer_args},
};
static_assert(std::size(table) < 255);

// Numbers up to 9999 in decimal, others in hexadecimal, those relative to a size as "size+1".
std::string number_text(std::uint64_t value) {
  if ((value & size_mark_mask) == size_mark)
    return std::format("size{:+}", static_cast<int>(value & 0xFFFF) - 0x8000);
  // In hexadecimal a number of this kind reads like an address of the kernel, which nothing may
  // show.
  const bool address = value >> 48 == 0xFFFF;
  return value < 10000 || address ? std::format("{}", value) : std::format("0x{:x}", value);
}

bool parse_number(std::string_view text, std::uint64_t &value) {
  const auto whole = [](std::string_view digits, auto &number, int base) {
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), number, base);
    return error == std::errc() && end == digits.data() + digits.size();
  };
  if (text.starts_with("size")) {
    int delta = 0;
    text.remove_prefix(text.starts_with("size+") ? 5 : 4);
    if (!whole(text, delta, 10) || delta < -0x8000 || delta > 0x7FFF)
      return false;
    value = of_size(delta);
    return true;
  }
  if (text.starts_with("0x"))
    return whole(text.substr(2), value, 16);
  return whole(text, value, 10);
}

std::string parse_call(std::istringstream &words, std::string_view name, Call &call) {
  call.type = type_by_name(name);
  if (call.type >= types().size())
    return std::format("there is no call {}", name);
  const auto args = types()[call.type].args;
  for (std::string word; words >> word;) {
    const std::size_t equals = word.find('=');
    const auto arg = std::ranges::find_if(
        args, [&](const Arg &candidate) { return word.substr(0, equals) == candidate.name; });
    if (equals == std::string::npos || arg == args.end() ||
        !parse_number(std::string_view(word).substr(equals + 1),
                      call.args[static_cast<std::size_t>(arg - args.begin())]))
      return std::format("{}: what is {}?", name, word);
  }
  return "";
}

} // namespace

std::span<const Type> types() { return table; }

std::uint8_t type_by_name(std::string_view name) {
  for (std::size_t i = 0; i < std::size(table); ++i)
    if (name == table[i].name)
      return static_cast<std::uint8_t>(i);
  return 255;
}

bool possible(const Type &type, std::uint64_t features) {
  const std::string_view name = type.name;
  if (name == "cmd_register" || name == "cmd_unregister")
    return features & DMABUF_RW_FEAT_REGISTERED;
  return true;
}

std::string to_text(const Program &program) {
  std::string text = std::format("program thread={}\n", program.thread);
  for (const Call &call : program.used()) {
    const Type &type = types()[call.type];
    text += type.name;
    for (std::size_t i = 0; i < type.args.size(); ++i)
      if (call.args[i])
        text += std::format(" {}={}", type.args[i].name, number_text(call.args[i]));
    text += '\n';
  }
  return text;
}

std::expected<std::vector<Program>, std::string> from_text(std::string_view text) {
  std::vector<Program> programs;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name;
    if (!(words >> name) || name.starts_with('#'))
      continue;
    if (name == "program") {
      programs.emplace_back();
      std::string thread;
      std::uint64_t number = 0;
      if (words >> thread && thread.starts_with("thread=") &&
          parse_number(std::string_view(thread).substr(7), number))
        programs.back().thread = static_cast<std::uint32_t>(number);
      continue;
    }
    if (programs.empty() || programs.back().count == max_calls)
      return std::unexpected(std::format("no place in a program: {}", line));
    Program &program = programs.back();
    if (auto wrong = parse_call(words, name, program.calls[program.count++]); !wrong.empty())
      return std::unexpected(wrong);
  }
  return programs;
}

std::expected<std::vector<Program>, std::string> read_programs(const std::string &path) {
  namespace fs = std::filesystem;
  std::vector<fs::path> files;
  if (fs::is_directory(path)) {
    for (const auto &entry : fs::directory_iterator(path))
      files.push_back(entry.path());
    std::ranges::sort(files);
  } else {
    files.emplace_back(path);
  }
  std::vector<Program> all;
  for (const auto &file : files) {
    std::ifstream input(file);
    std::stringstream text;
    text << input.rdbuf();
    if (!input)
      return std::unexpected(std::format("{} cannot be read", file.string()));
    auto programs = from_text(text.str());
    if (!programs)
      return std::unexpected(std::format("{}: {}", file.string(), programs.error()));
    all.insert(all.end(), programs->begin(), programs->end());
  }
  return all;
}

} // namespace vmtest::fuzz
