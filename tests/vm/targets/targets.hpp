// SPDX-License-Identifier: GPL-2.0-only
// The parts of `targets`: memory of any exporter, files of any kind, and what their pairs
// must do.
#pragma once

#include "lib/exporter.hpp"
#include "lib/pattern.hpp"
#include "lib/session.hpp"
#include "lib/target.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace vmtest {

// The memory of one dma-buf, and a way to look at it that is not the datapath under test.
class Memory {
public:
  // What the datapaths find: pages that the kernel can map, or only DMA addresses.
  enum class Kind { Pages, HugePages, NoCpuView };

  virtual ~Memory() = default;
  virtual int fd() const = 0;
  // All of it. The sizes are that of the dma-buf.
  virtual void put(std::span<const Word> words) = 0;
  virtual void get(std::span<Word> words) = 0;

  std::string name;
  Kind kind = Kind::Pages;
};

inline constexpr std::size_t memory_bytes = 2u << 20; // of each, a multiple of a huge page

// One of every exporter of a plain machine, and the test exporter's if its file is named. Only
// those in `only`, unless it is empty.
std::vector<std::unique_ptr<Memory>> plain_memories(const std::vector<std::string> &only);
// Only the PCI BAR.
std::vector<std::unique_ptr<Memory>> bar_memories();

// A file to be read and written: what the datapath uses, and what the witness does.
struct Target {
  // Of a drive the premapped path takes; the same through the page cache; another block
  // device; a namespace whose paths are not PCI; a regular file.
  enum class Kind { Nvme, NvmeBuffered, OtherBlock, Fabric, File };

  std::string name;
  Kind kind;
  bool direct;              // O_DIRECT
  UniqueFd file;            // for the datapath
  std::uint64_t base;       // of the range in `file`, bytes
  UniqueFd plain;           // for plain pread and pwrite, past the page cache where there is one
  std::uint64_t plain_base; // of the same range in `plain`
  // Why it cannot be held still (DMABUF_RW_REASON_*); NONE: not asked.
  std::uint32_t held = DMABUF_RW_REASON_NONE;
};

// Bytes of each target that may be used; a regular file ends with them.
inline constexpr std::size_t region_bytes = memory_bytes + 128 * 1024;

// What a file describes: a line for each, of fields with tabs between. kind (block, fabric, file),
// name, "direct" or "buffered", path, offset, the witness' path and offset, and the reason by which
// HOLD_FILE is refused. The witness opens with O_DIRECT. What cannot be opened ends the program
// with exit_setup.
std::vector<Target> described_targets(const std::string &file);

// Partitions, file systems, a loop device and a RAM disk on the two scratch disks; taken
// down again when it goes away. What cannot be made ends the program with exit_setup.
class Targets {
public:
  Targets();
  Targets(const Targets &) = delete;
  Targets &operator=(const Targets &) = delete;
  ~Targets();

  std::vector<Target> &all() { return all_; }

private:
  void add_partitions();
  void add_file(const std::string &system, const std::string &folder, bool direct);
  void add_loop();

  std::string loop_;
  std::vector<Target> all_;
};

} // namespace vmtest
