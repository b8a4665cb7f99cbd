// SPDX-License-Identifier: GPL-2.0-only
#include "measure.hpp"

#include <charconv>
#include <sstream>

namespace measure {

Case::Case(const std::string &line) : line_(line) {
  std::istringstream words(line);
  words >> kind_;
  for (std::string word; words >> word;) {
    const auto equals = word.find('=');
    if (equals == std::string::npos)
      die(std::format("'{}' in the plan is not NAME=VALUE", word));
    words_[word.substr(0, equals)] = word.substr(equals + 1);
  }
}

std::string Case::text(const std::string &name) const {
  const auto found = words_.find(name);
  if (found == words_.end())
    die(std::format("'{}' in the plan has no {}", line_, name));
  return found->second;
}

std::uint64_t Case::number(const std::string &name) const {
  const std::string word = text(name);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error != std::errc() || end != word.data() + word.size())
    die(std::format("{}={} in the plan is not a number", name, word));
  return value;
}

std::uint64_t Case::number(const std::string &name, std::uint64_t otherwise) const {
  return words_.contains(name) ? number(name) : otherwise;
}

} // namespace measure
