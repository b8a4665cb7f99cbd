// SPDX-License-Identifier: GPL-2.0-only
// Targets that somebody else made, by a file that describes them: one line each, of fields with
// tabs between.
#include "targets.hpp"

#include "lib/report.hpp"

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <sstream>
#include <unistd.h>

namespace vmtest {

namespace {

constexpr int direct_flags = O_RDWR | O_DIRECT | O_CLOEXEC;

// kind, name, how the datapath opens it, its path, its offset, the witness' path, its offset, why
// HOLD_FILE is refused.
using Fields = std::array<std::string, 8>;

std::optional<Target::Kind> kind_of(const std::string &word) {
  using enum Target::Kind;
  if (word == "block")
    return OtherBlock;
  if (word == "fabric")
    return Fabric;
  return word == "file" ? std::optional(File) : std::nullopt;
}

// The reason of this name, as reason_name() has it.
std::optional<std::uint32_t> reason_of(const std::string &name) {
  for (std::uint32_t reason = 0; reason < DMABUF_RW_NR_REASONS; ++reason)
    if (reason_name(reason).starts_with(name + " "))
      return reason;
  return std::nullopt;
}

std::optional<std::uint64_t> number_of(const std::string &word) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  if (error != std::errc{} || end != word.data() + word.size())
    return std::nullopt;
  return number;
}

Target made_of(const Fields &fields, const std::string &line) {
  const auto &[kind_word, name, how, node, base_word, witness, plain_word, held_word] = fields;
  const auto kind = kind_of(kind_word);
  const auto base = number_of(base_word), plain_base = number_of(plain_word);
  const auto held = reason_of(held_word);
  if (!kind || !base || !plain_base || !held || (how != "direct" && how != "buffered"))
    die("no target is described by: " + line);
  const bool direct = how == "direct";
  Target target{name,        *kind,
                direct,      open_target(node, direct ? direct_flags : direct_flags & ~O_DIRECT),
                *base,       open_target(witness, direct_flags),
                *plain_base, *held};
  if (*kind == Target::Kind::File &&
      ::ftruncate(target.file.get(), static_cast<off_t>(*base + region_bytes)) != 0)
    die(std::format("ftruncate of {}: {}", node, std::strerror(errno)));
  return target;
}

} // namespace

std::vector<Target> described_targets(const std::string &file) {
  std::ifstream in(file);
  std::vector<Target> all;
  for (std::string line; std::getline(in, line);) {
    std::istringstream words(line);
    Fields fields;
    for (auto &field : fields)
      if (!std::getline(words, field, '\t'))
        die("too few fields: " + line);
    all.push_back(made_of(fields, line));
  }
  if (all.empty())
    die(file + " describes no target");
  return all;
}

} // namespace vmtest
