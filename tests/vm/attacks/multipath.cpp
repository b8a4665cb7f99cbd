// SPDX-License-Identifier: GPL-2.0-only
// A namespace with two controllers: while one of them is left, I/O goes on, whichever goes. A
// format through one moves no byte too many through the other.
#include "attacks.hpp"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <set>
#include <thread>
#include <vector>

namespace vmtest {

namespace {

constexpr std::uint32_t block = 16384;
constexpr std::size_t region_bytes = 2u << 20;
constexpr unsigned depth = 8;
constexpr std::uint64_t write_base = attack_base + (16u << 20);

// Reads of random blocks, each compared, and writes of blocks in turn, until stop(). Starts once
// some have ended.
class PathLoad {
public:
  explicit PathLoad(Path path)
      : path_(path), target_(open_target(drive)), plain_(open_target(drive)),
        disk_(plain_.get(), attack_base, region_bytes),
        written_(plain_.get(), write_base, region_bytes), buffer_(make_buffer(2 * depth * block)) {
    disk_.lay_down_all(3);
    written_.lay_down_all(4);
    thread_ = std::jthread([this](const std::stop_token &stop) { run(stop); });
    wait_for([this] { return good > 100 || dead; }, 30);
  }

  bool goes_on() {
    const std::uint64_t before = good;
    return wait_for([&] { return good > before + 200 || dead; }, 60) && !dead;
  }
  // INFO of the mapping when it was new, and at the end.
  std::pair<dmabuf_rw_info, dmabuf_rw_info> stop() {
    thread_.request_stop();
    if (thread_.joinable())
      thread_.join();
    return {begun_, info_};
  }
  std::string errors_seen() const {
    std::string text = std::format("{} good, {} failed:", good.load(), failed.load());
    for (const int error : errors_)
      text += " " + errno_name(error);
    return text;
  }
  // After stop(): what was written, by plain reads.
  std::optional<std::string> check_written() { return written_.check_all(); }

  std::atomic<std::uint64_t> good = 0, failed = 0, wrong = 0;
  std::atomic<bool> dead = false;

private:
  // Even slots read, odd ones write; each has its own block of the buffer.
  void start(Mover &mover, unsigned slot) {
    const std::uint64_t offset = std::uint64_t{slot} * block;
    if (slot % 2 == 0) {
      position_[slot] = random_() % (region_bytes / block) * block;
      mover.queue(Direction::Read, offset, block, attack_base + position_[slot], slot);
      return;
    }
    // Every writing slot has its own blocks of the region.
    position_[slot] = (turn_[slot]++ * depth + slot / 2) % (region_bytes / block) * block;
    fill_pattern(words(slot), ++generation_ % max_generation, write_base + position_[slot]);
    std::ranges::copy(words(slot),
                      written_.expected(write_base + position_[slot], block).begin());
    mover.queue(Direction::Write, offset, block, write_base + position_[slot], slot);
  }
  std::span<Word> words(unsigned slot) {
    return buffer_.words().subspan(slot * (block / sizeof(Word)), block / sizeof(Word));
  }
  void ended(unsigned slot, int result) {
    if (result != static_cast<int>(block)) {
      ++failed;
      errors_.insert(result);
      dead = failed > 64;
      return;
    }
    ++good;
    if (slot % 2)
      return;
    const auto bad =
        compare_words(words(slot), disk_.expected(attack_base + position_[slot], block));
    if (bad && wrong++ == 0)
      report().fail(std::format("{}: a read that succeeded has its data", name_of(path_)),
                    describe(*bad, 0));
    std::ranges::fill(words(slot), pattern_word(buffer_poison, 0));
  }
  void run(const std::stop_token &stop) {
    Ring ring(2 * depth);
    if (path_ == Path::Registered)
      ring.make_buffer_table(1);
    Mover mover(session_, ring, buffer_.fd(), target_.get(), path_);
    if (mover.error())
      die(std::format("MAP {}: {}", name_of(path_), errno_name(mover.error())));
    session_.info(mover.entry().handle, begun_);
    position_.resize(2 * depth);
    turn_.resize(2 * depth);
    unsigned flying = 0;
    for (; flying < 2 * depth; ++flying)
      start(mover, flying);
    while (flying > 0) {
      const int count = ring.reap([&](std::uint64_t slot, int result) {
        --flying;
        ended(static_cast<unsigned>(slot), result);
        if (!stop.stop_requested() && !dead) {
          start(mover, static_cast<unsigned>(slot));
          ++flying;
        }
      });
      if (count < 0)
        die("io_uring_enter: " + errno_name(count));
    }
    session_.info(mover.entry().handle, info_);
  }
  unsigned random_() { return seed_ = seed_ * 1103515245u + 12345u, (seed_ >> 8) & 0xffff; }

  Path path_;
  UniqueFd target_, plain_;
  DiskRegion disk_, written_;
  DmaBuf buffer_;
  Session session_;
  std::vector<std::uint64_t> position_, turn_;
  std::set<int> errors_;
  unsigned seed_ = 1;
  std::uint32_t generation_ = 16;
  dmabuf_rw_info begun_{}, info_{};
  std::jthread thread_;
};

// The controllers that are live.
std::vector<std::string> controllers() {
  std::vector<std::string> found;
  for (const auto &entry : std::filesystem::directory_iterator("/sys/class/nvme"))
    if (read_file(entry.path() / "state").starts_with("live"))
      found.push_back(entry.path().filename());
  std::ranges::sort(found);
  return found;
}

bool both_there() { return controllers().size() == 2; }

std::pair<dmabuf_rw_info, dmabuf_rw_info> with_load(Path path, const std::string &what,
                                                    const std::function<void()> &event) {
  const std::string name = std::format("{}, {}", name_of(path), what);
  PathLoad load(path);
  report().check(load.good > 100, name + ": I/O before", load.errors_seen());
  event();
  report().check(load.goes_on(), name + ": I/O goes on", load.errors_seen());
  const auto infos = load.stop();
  report().check(load.failed == 0 && load.wrong == 0, name + ": without an error",
                 load.errors_seen());
  if (load.failed == 0) {
    const auto bad = load.check_written();
    report().check(!bad, name + ": every byte written", bad.value_or(""));
  }
  return infos;
}

// MAP while only the other controller is left.
void map_on_the_other(const std::string &name) {
  const UniqueFd target = open_target(drive);
  const DmaBuf buffer = make_buffer(block);
  Session session;
  Ring ring(8);
  Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped);
  report().check(mover.error() == 0, name + ": MAP on the one that is left",
                 errno_name(mover.error()) + " " + reason_name(mover.entry().reason));
  if (mover.error())
    return;
  const int got = mover.transfer(Direction::Read, 0, block, attack_base);
  report().check(got == static_cast<int>(block), name + ": and I/O", errno_name(got));
}

// What the controller of this PCI function is called now: one that comes back has a new name.
std::string controller_of(const std::string &function) {
  for (const std::string &name : controllers())
    if (pci_function(name) == function)
      return name;
  die(function + " has no controller");
}

// Another path was taken if, and only if, the one in use went.
void path_counted(const std::string &removed, const dmabuf_rw_info &before,
                  const dmabuf_rw_info &after) {
  const auto name = [](const dmabuf_rw_info &info) {
    return std::format("nvme{}", info.controller);
  };
  const auto detail = std::format("{} was removed, {} at first, {} now, {} changes", removed,
                                  name(before), name(after), std::uint64_t{after.path_changes});
  report().check(controllers() == std::vector{name(after)}, "INFO names the controller that is left",
                 detail);
  report().check(before.path_changes == 0 &&
                     (name(before) == removed ? after.path_changes > 0 : after.path_changes == 0),
                 "INFO counts the change of path", detail);
}

void losses() {
  std::vector<std::string> functions;
  for (const std::string &name : controllers())
    functions.push_back(pci_function(name));
  for (const std::string &function : functions) {
    for (const Path path : paths_here()) {
      with_load(path, function + " is reset", [&] {
        shell(std::format("echo 1 > /sys/class/nvme/{}/reset_controller",
                          controller_of(function)));
      });
      if (!wait_for(both_there, 60))
        die("a controller did not survive its reset");
      const std::string removed = controller_of(function);
      const auto [before, after] = with_load(path, function + " is removed", [&] {
        shell(std::format("echo 1 > /sys/bus/pci/devices/{}/remove", function));
      });
      if (path == Path::Premapped)
        path_counted(removed, before, after);
      map_on_the_other(function + " is removed");
      shell("echo 1 > /sys/bus/pci/rescan");
      if (!wait_for(both_there, 60))
        die("a controller that was removed does not come back");
    }
  }
}

// The controller that MAP has chosen goes while MAP is under way: the other one serves.
void map_meanwhile() {
  const Hurt hurt;
  const UniqueFd target = open_target(drive);
  const DmaBuf buffer = make_buffer(block);
  const Session session;
  auto entry = map_entry(buffer.fd(), target.get(), Path::Premapped);
  dmabuf_rw_info info{};
  if (session.map_one(entry) || session.info(entry.handle, info) ||
      session.unmap_one(entry.handle))
    die("MAP, INFO, UNMAP");
  const std::string chosen = std::format("nvme{}", info.controller);
  const std::string function = pci_function(chosen);
  const std::string name = std::format("MAP while {} is removed", chosen);
  entry = map_entry(buffer.fd(), target.get(), Path::Premapped);
  int error = -1;
  std::jthread mapper([&] {
    // Comes after the choice.
    hurt.slow("dmabuf_rw_nvme_prove", 5000);
    error = session.map_one(entry);
  });
  const bool late = wait_for([&] { return hurt.slowed() > 0; }, 30);
  shell(std::format("echo 1 > /sys/bus/pci/devices/{}/remove", function));
  report().check(late && error == -1, name + ": it is on its way");
  mapper.join();
  hurt.slow_off();
  report().check(error == 0, name, errno_name(error) + " " + reason_name(entry.reason));
  if (error == 0) {
    report().check(session.info(entry.handle, info) == 0 &&
                       controllers() == std::vector{std::format("nvme{}", info.controller)},
                   name + ": by way of the one that is left",
                   std::format("nvme{}", info.controller));
    report().check(session.unmap_one(entry.handle) == 0, name + ": UNMAP");
  }
  shell("echo 1 > /sys/bus/pci/rescan");
  if (!wait_for(both_there, 60))
    die("a controller that was removed does not come back");
}

// The block size changes through the other controller. What a read moves, lies in its range.
void other_format() {
  // One block after the format, eight before: whoever counts in old blocks moves 32 KiB.
  constexpr std::uint32_t asked = 4096;
  const auto names = controllers();
  for (const std::string &controller : names) {
    const UniqueFd target = open_target(drive);
    const DmaBuf buffer = make_buffer(65536);
    {
      DiskRegion(target.get(), attack_base, 65536).lay_down_all(5);
      const CpuAccess access(buffer, true);
      std::ranges::fill(buffer.words(), pattern_word(buffer_poison, 0));
    }
    Session session;
    Ring ring(8);
    Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped);
    if (mover.error())
      die("MAP: " + errno_name(mover.error()));
    std::atomic<bool> done = false;
    std::jthread formatter([&] {
      shell(std::format("nvme format /dev/{} --namespace-id=1 --lbaf=4 --force", controller));
      done = true;
    });
    // 4 KiB at byte 16384, from before the format to after it.
    unsigned good = 0, refused = 0;
    for (int after = 0; after < 50; after += done) {
      const int got = mover.transfer(Direction::Read, 16384, asked, attack_base);
      good += got == static_cast<int>(asked);
      refused += got < 0;
    }
    formatter.join();
    const CpuAccess access(buffer, false);
    std::size_t strayed = 0;
    for (std::size_t i = 0; i < buffer.words().size(); ++i)
      if (i < 16384 / 8 || i >= (16384 + asked) / 8)
        strayed += buffer.words()[i] != pattern_word(buffer_poison, 0);
    report().check(strayed == 0,
                   std::format("a format through {}: no byte beside the range", controller),
                   std::format("{} words", strayed));
    report().check(good > 0, std::format("a format through {}: reads go on", controller));
    report().note(std::format("format through {}: {} reads, {} refused", controller, good, refused));
    mover.release();
    shell(std::format("nvme format /dev/{} --namespace-id=1 --lbaf=0 --force", controller));
    wait_for([] {
      return read_file("/sys/block/nvme0n1/queue/logical_block_size").starts_with("512");
    }, 20);
  }
}

} // namespace

void attack_multipath() {
  if (!wait_for(both_there, 30))
    die("one controller only (dmabuf-lab run --paths 2)");
  other_format();
  losses();
  map_meanwhile();
}

} // namespace vmtest
