// SPDX-License-Identifier: GPL-2.0-only
// The exporters that this engine knows, and the allocation of dma-bufs from them. The list of them
// is exporters.def.
#pragma once

#include "base/dma_buf.hpp"
#include "base/error.hpp"
#include "base/system.hpp"

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>

namespace dmabuf {

/// The kinds of exporter: what allocates the dma-buf. A job on datapath `host` has `none`.
enum class ExporterKind : unsigned {
#define DMABUF_EXPORTER(name, cpu, memory, place, what) name,
#include "exporter/exporters.def"
#undef DMABUF_EXPORTER
  none
};

/// What to allocate.
struct BufferRequest {
  ExporterKind kind = ExporterKind::udmabuf;
  std::string device = {}; ///< the exporter's device; empty: the first there is, of vfio none
  uint64_t bytes = 0;      ///< at least
  bool hugepages = false;
  const char *shrink = kShrinkIo; ///< what makes the buffer smaller, for messages
};

// One function per exporter; the part of allocate_dmabuf() before the CPU view.
#define DMABUF_EXPORTER(name, cpu, memory, place, what)                                            \
  Result<DmaBuf> allocate_##name(const BufferRequest &request);
#include "exporter/exporters.def"
#undef DMABUF_EXPORTER

/// The CPU and an exporter's dma-bufs: it maps them, or the exporter copies.
enum class CpuReach { maps, copies };
/// Whose memory it is, as far as the exporter's name tells.
enum class MemoryOf { host, device, either };
/// Whether it may move while a drive has it mapped.
enum class Mobility { stays, moves };

/// A row of the table of exporters.
struct Exporter {
  const char *name;
  const char *what; ///< for the list of options
  Result<DmaBuf> (*allocate)(const BufferRequest &request);
  CpuReach cpu;    ///< maps: its dma-bufs have a `view`, unless they give `memory`
  MemoryOf memory; ///< host: MemAvailable counts it; device: it is, or may be, a device's
  Mobility place;
};

/// By ExporterKind; `none` has no row.
inline constexpr Exporter kExporters[] = {
#define DMABUF_EXPORTER(name, cpu, memory, place, what)                                            \
  {#name, what, allocate_##name, CpuReach::cpu, MemoryOf::memory, Mobility::place},
#include "exporter/exporters.def"
#undef DMABUF_EXPORTER
};

static_assert(std::size(kExporters) == static_cast<size_t>(ExporterKind::none));

/// The row of an exporter; nullptr for ExporterKind::none.
constexpr const Exporter *exporter_row(ExporterKind kind) {
  const auto row = static_cast<size_t>(kind);
  return row < std::size(kExporters) ? &kExporters[row] : nullptr;
}

constexpr const char *exporter_name(ExporterKind kind) {
  const Exporter *const row = exporter_row(kind);
  return row ? row->name : "none";
}

/// The exporter of that name; nothing if there is none.
constexpr std::optional<ExporterKind> exporter_by_name(std::string_view name) {
  for (size_t i = 0; i < std::size(kExporters); i++)
    if (kExporters[i].name == name)
      return static_cast<ExporterKind>(i);
  return std::nullopt;
}

/// Allocates a dma-buf and maps it for the CPU, where its exporter does that. Nothing is left
/// behind on failure.
Result<DmaBuf> allocate_dmabuf(const BufferRequest &request);

} // namespace dmabuf
