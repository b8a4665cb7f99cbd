// SPDX-License-Identifier: GPL-2.0-only
// Tables with one row for each value of an enumeration, in its order, checked by the compiler.
#pragma once

#include <cstddef>
#include <string_view>
#include <type_traits>

namespace dmabuf {

/// Whether the type of `value` has a name for it. Compilers write a value without a name as a cast.
template <auto value> consteval bool is_enumerator() {
  return std::string_view(__PRETTY_FUNCTION__).find("= (") == std::string_view::npos;
}

/// Whether `table` has one row for each value of an enumeration, in order from 0. `key`: the member
/// of a row that holds the value.
template <auto key, class Row, size_t rows> consteval bool is_table_of(const Row (&table)[rows]) {
  using Enum = std::remove_cvref_t<decltype(table[0].*key)>;
  for (size_t i = 0; i < rows; i++)
    if (table[i].*key != static_cast<Enum>(i))
      return false;
  return !is_enumerator<static_cast<Enum>(rows)>();
}

} // namespace dmabuf
