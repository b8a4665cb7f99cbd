// SPDX-License-Identifier: GPL-2.0-only
// What every case works with: the options, the drive by plain I/O, a dma-buf made ready for it.
#pragma once

#include "datapath/ring.hpp"
#include "drive_claim.hpp"
#include "exporter/exporter.hpp"
#include "memory.hpp"
#include "module/session.hpp"
#include "pattern.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace integrity {

struct Options {
  std::string test;
  std::string device;
  int device_fd = -1; ///< the same, as a descriptor that was inherited; its name is in `device`
  bool writes = true; ///< the case overwrites data, or may
  dmabuf::ExporterKind exporter = dmabuf::ExporterKind::udmabuf;
  std::string exporter_device;
  uint32_t path = DMABUF_RW_PATH_PREMAPPED;
  uint64_t offset = 0;        ///< where the region begins on the drive
  uint64_t bytes = 16u << 20; ///< and how long it is
  uint64_t buffer_bytes = 8u << 20;
  uint64_t max_command = 0;
  uint64_t load_bytes = 64u << 20; ///< least that a load moves
  uint32_t generation = 1;
  uint32_t seed = 1;
  unsigned depth = 32;
  unsigned timeout_ms = 0;  ///< the session's, 0: as the module has it
  unsigned limit_ms = 2000; ///< longest that ending I/O may take
};

/// The buffer that the options ask for.
inline dmabuf::BufferRequest request_of(const Options &options) {
  return {.kind = options.exporter,
          .device = options.exporter_device,
          .bytes = options.buffer_bytes,
          .hugepages = false,
          .shrink = "give --buffer less"};
}

/// The drive that the options name, as open_drive() opens it.
dmabuf::Result<dmabuf::UniqueFd> drive_of(const Options &options);

/// Something that must not be. `name` is for machines.
struct Finding {
  std::string name, text;
  uint64_t count;
};

/// What a case says: printed as one JSON object.
struct Outcome {
  std::vector<Finding> findings;
  std::vector<std::pair<std::string, std::string>> facts; ///< values are JSON
  std::string not_applicable;                             ///< why it can never be done here
  std::string missing; ///< what is not installed, without which it cannot be done
  uint64_t compared = 0, transfers = 0;

  void find(std::string name, std::string text, uint64_t count = 1);
  void fact(std::string name, uint64_t value);
  void fact(std::string name, std::string_view value);
  /// Which device a buffer came from, and what its exporter says of itself.
  void fact_device(const dmabuf::DmaBuf &buffer);
};

/// The region of the drive, read and written by plain pread and pwrite only, and what it must hold.
class Region {
public:
  static dmabuf::Result<std::unique_ptr<Region>> open(const Options &options);

  int fd() const { return fd_.get(); }
  uint64_t begin() const { return begin_; }
  uint64_t size() const { return model.size(); }
  uint64_t drive_bytes() const { return drive_bytes_; }
  uint32_t block() const { return block_; }
  /// Puts the pattern over all of it.
  dmabuf::Result<void> lay_down(uint32_t generation);
  dmabuf::Result<void> write(std::span<const Word> words, uint64_t offset);
  dmabuf::Result<void> read(std::span<Word> words, uint64_t offset);
  /// What must be at `offset` of the drive.
  std::span<Word> expected(uint64_t offset, size_t bytes) {
    return model.at(offset - begin_, bytes);
  }

private:
  Region(dmabuf::UniqueFd fd, uint64_t begin, size_t bytes)
      : fd_(std::move(fd)), begin_(begin), model(bytes) {}
  dmabuf::UniqueFd fd_;
  uint64_t begin_, drive_bytes_ = 0;
  uint32_t block_ = 512;

  HostBuffer model;
};

enum class Way { read, write };

/// A dma-buf, mapped for the drive on one datapath, and a ring to move it with.
class Mover {
public:
  static dmabuf::Result<std::unique_ptr<Mover>> open(const Options &options, dmabuf::DmaBuf buffer,
                                                     int target);
  static dmabuf::Result<std::unique_ptr<Mover>> open(const Options &options, int target);
  ~Mover();

  BufferMemory &memory() { return memory_; }
  uint64_t size() const { return memory_.size(); }
  const dmabuf::DmaBuf &buffer() const { return memory_.buffer(); }
  const dmabuf_rw_map_entry &entry() const { return entry_; }
  dmabuf::Session &session() { return session_; }
  dmabuf::Result<dmabuf_rw_info> info() { return session_.info(entry_.handle); }
  /// The facts of a case that say where its memory is: by the addresses that the drive has, and
  /// which device the exporter took.
  void say_place(Outcome &outcome);

  /// Puts one I/O in the ring; it goes out with reap() or submit().
  void queue(Way way, uint64_t buffer_offset, uint32_t bytes, uint64_t drive_offset, uint64_t id);
  dmabuf::Result<void> submit();
  /// Submits, waits for one at least, calls back for each that ended.
  dmabuf::Result<void> reap(const std::function<void(uint64_t id, int result)> &done);
  /// One I/O from start to end: bytes moved or a negative errno.
  int transfer(Way way, uint64_t buffer_offset, uint32_t bytes, uint64_t drive_offset);

private:
  explicit Mover(dmabuf::DmaBuf buffer, dmabuf::Session session, int target, uint32_t path)
      : memory_(std::move(buffer)), session_(std::move(session)), target_(target), path_(path) {}
  int command(uint32_t op, uint32_t handle);
  BufferMemory memory_;
  dmabuf::Session session_;
  dmabuf::Ring ring_;
  dmabuf_rw_map_entry entry_ = {};
  int target_;
  uint32_t path_;
};

// The cases. An error is one of the machine, or a refusal with its reason in the text.
dmabuf::Result<Outcome> run_query(const Options &options);
dmabuf::Result<Outcome> run_probe(const Options &options);
dmabuf::Result<Outcome> run_paths(const Options &options);
dmabuf::Result<Outcome> run_lay(const Options &options);
dmabuf::Result<Outcome> run_check(const Options &options);
dmabuf::Result<Outcome> run_read(const Options &options);
dmabuf::Result<Outcome> run_write(const Options &options);
dmabuf::Result<Outcome> run_segments(const Options &options);
dmabuf::Result<Outcome> run_roundtrip(const Options &options);
dmabuf::Result<Outcome> run_load(const Options &options);
dmabuf::Result<Outcome> run_geometry(const Options &options);
dmabuf::Result<Outcome> run_size(const Options &options);
dmabuf::Result<Outcome> run_close(const Options &options);
dmabuf::Result<Outcome> run_liar(const Options &options);
dmabuf::Result<Outcome> run_fence(const Options &options);
dmabuf::Result<Outcome> run_invalidate(const Options &options);
dmabuf::Result<Outcome> run_revoke(const Options &options);

/// One load: random reads, or writes, of all sizes with `depth` in flight, every byte checked.
dmabuf::Result<void> load(const Options &options, Mover &mover, Region &region, Way way,
                          Outcome &outcome);

/// Whether what the exporter's own copies put into memory without a CPU view they find there again;
/// all that follows is by these copies. False: the outcome says that they do not.
dmabuf::Result<bool> copies_agree(BufferMemory &memory, Outcome &outcome);

/// Names what is wrong with a transfer, by the direction and by what the words look like.
void judge(const Wrong &wrong, Way way, bool under_load, const std::string &where,
           Outcome &outcome);

/// A text as JSON has it.
std::string quoted(std::string_view text);

double now_s();

} // namespace integrity
