// SPDX-License-Identifier: GPL-2.0-only
// A strict JSON checker, so that well-formedness is not judged by the code under test.
#pragma once

#include <cctype>
#include <string>
#include <string_view>

namespace dmabuf::test {

class JsonCheck {
public:
  /// True if `text` is one JSON value and nothing else.
  static bool valid(std::string_view text) {
    JsonCheck check(text);
    return check.value() && check.at_ == text.size();
  }

private:
  explicit JsonCheck(std::string_view text) : text_(text) {}

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  bool take(char c) { return peek() == c && ++at_; }
  bool word(std::string_view expected) {
    if (text_.substr(at_, expected.size()) != expected)
      return false;
    at_ += expected.size();
    return true;
  }
  bool digits() {
    const size_t start = at_;
    while (std::isdigit(static_cast<unsigned char>(peek())))
      at_++;
    return at_ > start;
  }
  bool number() {
    take('-');
    const bool zero = peek() == '0';
    const size_t start = at_;
    if (!digits() || (zero && at_ - start > 1))
      return false;
    return !take('.') || digits();
  }
  bool string() {
    if (!take('"'))
      return false;
    while (at_ < text_.size() && peek() != '"') {
      const auto c = static_cast<unsigned char>(text_[at_++]);
      if (c < 0x20)
        return false;
      if (c != '\\')
        continue;
      const char escape = peek();
      at_++;
      if (escape == 'u') {
        for (int i = 0; i < 4; i++)
          if (!std::isxdigit(static_cast<unsigned char>(text_[at_++])))
            return false;
      } else if (std::string_view("\"\\/bfnrt").find(escape) == std::string_view::npos) {
        return false;
      }
    }
    return take('"');
  }
  bool members(char open, char close, bool named) {
    if (!take(open))
      return false;
    if (take(close))
      return true;
    do
      if ((named && !(string() && take(':'))) || !value())
        return false;
    while (take(','));
    return take(close);
  }
  bool value() {
    switch (peek()) {
    case '{':
      return members('{', '}', true);
    case '[':
      return members('[', ']', false);
    case '"':
      return string();
    case 't':
      return word("true");
    case 'f':
      return word("false");
    case 'n':
      return word("null");
    default:
      return number();
    }
  }

  std::string_view text_;
  size_t at_ = 0;
};

} // namespace dmabuf::test
