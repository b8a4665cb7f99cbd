// SPDX-License-Identifier: GPL-2.0-only
// Bad sectors: an I/O that touches one is an error, whatever its length and wherever in it the
// sector is; none is a short success; neighbours are intact; and an error that comes once is either
// got over or told of.
//
// usage: sectors        (dmabuf-lab run --errors)
#include "lib/exporter.hpp"
#include "lib/report.hpp"
#include "lib/ring.hpp"
#include "lib/session.hpp"
#include "lib/target.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <sstream>
#include <vector>

namespace vmtest {

namespace {

constexpr std::uint64_t sector = 512;
constexpr std::size_t area = 256 << 10; // around a bad sector, which is in the middle of it
constexpr std::uint32_t hint = 16 << 10;
constexpr std::uint32_t fresh = 5;

std::string variable(const char *name) {
  const char *text = std::getenv(name);
  if (!text)
    die(std::format("{} is not set (dmabuf-lab run --errors)", name));
  return text;
}

// Byte offsets of the bad sectors of a kind.
std::vector<std::uint64_t> sectors_of(const char *name) {
  std::istringstream text(variable(name));
  std::vector<std::uint64_t> found;
  for (std::uint64_t number = 0; text >> number;)
    found.push_back(number * sector);
  if (found.empty())
    die(std::format("{} names no sector", name));
  return found;
}

// How an I/O is made.
struct Way {
  Path path;
  bool several; // of several commands
  bool waited;  // by the ioctl
  std::string name() const {
    return std::format("{}{}{}", name_of(path), several ? ", several commands" : "",
                       waited ? ", by ioctl" : "");
  }
};

std::vector<Way> ways() {
  std::vector<Way> all;
  for (const Path path : paths_here()) {
    all.push_back({path, false, false});
    if (path != Path::Registered)
      all.push_back({path, false, true});
    if (path == Path::Premapped) {
      all.push_back({path, true, false});
      all.push_back({path, true, true});
    }
  }
  return all;
}

class Drive {
public:
  Drive() : node_(variable("LAB_ERRORS")), target_(open_target(node_)), plain_(open_target(node_)) {
    auto made = DmaBuf::create(Exporter::UdmabufScattered, area);
    if (!made)
      die(made.error());
    buffer_.emplace(std::move(*made));
  }

  // The area around a sector, in the pattern of `generation`, but for the sector itself.
  void lay_down(std::uint64_t bad, std::uint32_t generation) {
    for (const auto &[from, to] : {std::pair{start(bad), bad}, {bad + sector, start(bad) + area}}) {
      HostBuffer host(to - from);
      fill_pattern(host.words(), generation, from);
      write_plain(plain_.get(), host.words(), from);
    }
  }
  static std::uint64_t start(std::uint64_t bad) { return bad - area / 2; }

  // A session with a mapping, and one I/O of it; the buffer's place is that in the area.
  class Mapped {
  public:
    Mapped(Drive &drive, const Way &way)
        : way_(way), mover_(make_table(), ring_, drive.buffer_->fd(), drive.target_.get(), way.path,
                            0, both_directions, way.several ? hint : 0) {
      if (mover_.error())
        die(std::format("MAP {}: {} {}", way.name(), errno_name(mover_.error()),
                        reason_name(mover_.entry().reason)));
    }
    int move(Direction direction, std::uint64_t bad, std::uint64_t at, std::uint32_t length) {
      const std::uint64_t offset = at - start(bad);
      return way_.waited ? mover_.waited(direction, offset, length, at, &reason_)
                         : mover_.transfer(direction, offset, length, at);
    }
    dmabuf_rw_info info() {
      dmabuf_rw_info result{};
      session_.info(mover_.entry().handle, result);
      return result;
    }

  private:
    Session &make_table() {
      if (way_.path == Path::Registered)
        ring_.make_buffer_table(1);
      return session_;
    }
    Way way_;
    Session session_;
    Ring ring_{8};
    std::uint32_t reason_ = 0;
    Mover mover_;
  };

  void poison() {
    const CpuAccess access(*buffer_, true);
    fill_pattern(buffer_->words(), buffer_poison, 0);
  }
  void fill(std::uint64_t bad, std::uint32_t generation) {
    const CpuAccess access(*buffer_, true);
    fill_pattern(buffer_->words(), generation, start(bad));
  }
  // Whether the buffer's part is what lies at `at`.
  std::optional<std::string> wrong(std::uint64_t bad, std::uint64_t at, std::uint32_t length) {
    HostBuffer want(length);
    fill_pattern(want.words(), fresh, at);
    const CpuAccess access(*buffer_, false);
    const auto mismatch = compare_words(
        buffer_->words().subspan((at - start(bad)) / sizeof(Word), length / sizeof(Word)),
        want.words());
    return mismatch ? std::optional(describe(*mismatch, at)) : std::nullopt;
  }
  int plain() const { return plain_.get(); }

private:
  std::string node_;
  UniqueFd target_, plain_;
  std::optional<DmaBuf> buffer_;
};

// From where to where: with the bad sector first, in the middle and last.
struct Range {
  std::uint64_t at;
  std::uint32_t length;
};
std::vector<Range> over(std::uint64_t bad) {
  return {{bad, 8192},
          {bad - 4096, 8192},
          {bad + sector - 8192, 8192},
          {bad - 65536, 131072},
          {bad - (area / 2 - 4096), area - 8192}};
}
std::vector<Range> beside(std::uint64_t bad) {
  return {{bad - 8192, 8192}, {bad + sector, 8192}, {bad - 65536, 65536}, {bad + sector, 65536}};
}

std::string result_name(long result) {
  return result < 0 ? errno_name(result) : std::format("{} bytes", result);
}

void check_info(Drive::Mapped &mapped, const Way &way, std::uint64_t errors) {
  if (way.path == Path::Registered)
    return; // its I/O does not pass the module
  const dmabuf_rw_info info = mapped.info();
  report().check(info.errors == errors && info.last_error != 0 &&
                     info.last_reason == DMABUF_RW_REASON_DRIVE,
                 way.name() + ": INFO counts the errors and names the drive",
                 std::format("{} instead of {}, {}, {}", std::uint64_t{info.errors}, errors,
                             errno_name(info.last_error), reason_name(info.last_reason)));
  // Media errors: write fault, unrecovered read error. Only premapped sees commands end.
  const std::uint32_t status = info.last_status;
  report().check(way.path == Path::Premapped ? status == 0x280 || status == 0x281 : status == 0,
                 way.name() + ": INFO has the drive's status", std::format("{:#x}", status));
}

void reads(Drive &drive, const Way &way) {
  Drive::Mapped mapped(drive, way);
  std::uint64_t errors = 0;
  for (const std::uint64_t bad : sectors_of("LAB_BAD_READ")) {
    drive.lay_down(bad, fresh);
    for (const auto &[at, length] : over(bad)) {
      drive.poison();
      const int got = mapped.move(Direction::Read, bad, at, length);
      errors += got < 0;
      report().check(got == -ENODATA || got == -EIO,
                     std::format("{}: a read of {} at {} from the bad sector", way.name(), length,
                                 static_cast<std::int64_t>(at - bad)),
                     result_name(got));
    }
    for (const auto &[at, length] : beside(bad)) {
      drive.poison();
      const int got = mapped.move(Direction::Read, bad, at, length);
      const auto name = std::format("{}: a read beside the bad sector", way.name());
      if (report().check(got == static_cast<int>(length), name, result_name(got))) {
        const auto wrong = drive.wrong(bad, at, length);
        report().check(!wrong, name + ": its data", wrong.value_or(""));
      }
    }
  }
  check_info(mapped, way, errors);
}

void writes(Drive &drive, const Way &way) {
  Drive::Mapped mapped(drive, way);
  std::uint64_t errors = 0;
  std::uint32_t generation = 100;
  constexpr std::size_t per = sector / sizeof(Word);
  for (const std::uint64_t bad : sectors_of("LAB_BAD_WRITE")) {
    HostBuffer before(area), after(area);
    drive.lay_down(bad, fresh);
    const auto one = [&](const Range &range, bool touches) {
      const std::uint64_t from = Drive::start(bad);
      read_plain(drive.plain(), before.words(), from);
      drive.fill(bad, ++generation);
      const int got = mapped.move(Direction::Write, bad, range.at, range.length);
      const auto name = std::format("{}: a write of {} at {} from the bad sector", way.name(),
                                    range.length, static_cast<std::int64_t>(range.at - bad));
      errors += got < 0;
      report().check(touches ? got == -ENODATA || got == -EIO
                             : got == static_cast<int>(range.length),
                     name, result_name(got));
      read_plain(drive.plain(), after.words(), from);
      // Beside the range, and the bad sector: as before. In it: as before, or written.
      std::string wrong;
      for (std::size_t word = 0; word < area / sizeof(Word) && wrong.empty(); word += per) {
        const std::uint64_t at = from + word * sizeof(Word);
        const bool inside = at >= range.at && at < range.at + range.length && at != bad;
        const auto found = after.words().subspan(word, per);
        const bool old = std::ranges::equal(found, before.words().subspan(word, per));
        HostBuffer want(sector);
        fill_pattern(want.words(), generation, at);
        const bool written = std::ranges::equal(found, want.words());
        if (inside ? !(written || (touches && old)) : !old)
          wrong = std::format("sector at {} holds {}", at, describe_word(found[0]));
      }
      report().check(wrong.empty(), name + ": what lies there", wrong);
    };
    for (const Range &range : over(bad))
      one(range, true);
    for (const Range &range : beside(bad))
      one(range, false);
  }
  check_info(mapped, way, errors);
}

// Each sector fails one command; every way gets one of its own.
void once(Drive &drive, Direction direction, const char *kind) {
  const auto sectors = sectors_of(kind);
  const auto all = ways();
  if (sectors.size() < all.size())
    die(std::format("{} has {} sectors for {} ways", kind, sectors.size(), all.size()));
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Way &way = all[i];
    const std::uint64_t bad = sectors[i], at = bad - 65536;
    constexpr std::uint32_t length = 131072;
    Drive::Mapped mapped(drive, way);
    drive.lay_down(bad, fresh);
    if (direction == Direction::Read) {
      // Not by the read that fails once.
      HostBuffer host(sector);
      fill_pattern(host.words(), fresh, bad);
      write_plain(drive.plain(), host.words(), bad);
    }
    for (const int turn : {1, 2}) {
      if (direction == Direction::Read)
        drive.poison();
      else
        drive.fill(bad, fresh);
      const int got = mapped.move(direction, bad, at, length);
      const auto name = std::format("{}: {} {} of a sector that is bad once", way.name(),
                                    name_of(direction), turn);
      const bool told = turn == 1 && (got == -ENODATA || got == -EIO);
      if (turn == 1)
        report().note(std::format("{}: {}", name, told ? "told of" : "got over"));
      if (!report().check(got == static_cast<int>(length) || told, name, result_name(got)) || told)
        continue;
      if (direction == Direction::Write) {
        drive.poison();
        HostBuffer host(length);
        read_plain(drive.plain(), host.words(), at);
        HostBuffer want(length);
        fill_pattern(want.words(), fresh, at);
        const auto wrong = compare_words(host.words(), want.words());
        report().check(!wrong, name + ": its data", wrong ? describe(*wrong, at) : "");
      } else {
        const auto wrong = drive.wrong(bad, at, length);
        report().check(!wrong, name + ": its data", wrong.value_or(""));
      }
    }
  }
}

void run() {
  Drive drive;
  for (const Way &way : ways()) {
    reads(drive, way);
    writes(drive, way);
  }
  once(drive, Direction::Read, "LAB_BAD_READ_ONCE");
  once(drive, Direction::Write, "LAB_BAD_WRITE_ONCE");
}

} // namespace

} // namespace vmtest

int main(int argc, char **) {
  using namespace vmtest;
  if (argc > 1)
    die("usage: sectors");
  run();
  return report().finish("sectors");
}
