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
    std::ranges::copy(words(slot), written_.expected(write_base + position_[slot], block).begin());
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

// The controllers by which the drive can be reached.
std::ptrdiff_t paths() {
  return std::ranges::count_if(std::filesystem::directory_iterator("/sys/class/block"),
                               [](const auto &entry) {
                                 const std::string name = entry.path().filename();
                                 return name.starts_with("nvme0c") && name.ends_with("n1");
                               });
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
  report().check(controllers() == std::vector{name(after)},
                 "INFO names the controller that is left", detail);
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
        shell(std::format("echo 1 > /sys/class/nvme/{}/reset_controller", controller_of(function)));
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
  if (session.map_one(entry) || session.info(entry.handle, info) || session.unmap_one(entry.handle))
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
    report().note(
        std::format("format through {}: {} reads, {} refused", controller, good, refused));
    mover.release();
    shell(std::format("nvme format /dev/{} --namespace-id=1 --lbaf=0 --force", controller));
    wait_for(
        [] { return read_file("/sys/block/nvme0n1/queue/logical_block_size").starts_with("512"); },
        20);
  }
}

// The other controller gives the blocks metadata, and leaves their size alone. A command that is
// made for blocks without would have the drive read or write metadata at address 0.
void other_metadata() {
  for (const std::string &controller : controllers()) {
    const UniqueFd target = open_target(drive);
    const DmaBuf buffer = make_buffer(block);
    Session session;
    Ring ring(8);
    Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped);
    if (mover.error())
      die("MAP: " + errno_name(mover.error()));
    const auto read = [&] { return mover.transfer(Direction::Read, 0, block, attack_base); };
    const std::string name = std::format("metadata by way of {}", controller);
    report().check(read() == static_cast<int>(block), name + ": a read before it");
    shell(std::format("nvme format /dev/{} --namespace-id=1 --lbaf=1 --force", controller));
    const bool there = wait_for(
        [] { return read_file("/sys/block/nvme0n1/metadata_bytes").starts_with("8"); }, 30);
    report().check(there, name + ": the block layer knows of it");
    int got = 0;
    const bool refused = wait_for([&] { return (got = read()) == -EMEDIUMTYPE; }, 30);
    report().check(refused, name + ": a read is refused", errno_name(got));
    report().check(read() == -EMEDIUMTYPE, name + ": so is the next one");
    mover.release();
    shell(std::format("nvme format /dev/{} --namespace-id=1 --lbaf=0 --force", controller));
    if (!wait_for([] { return read_file("/sys/block/nvme0n1/metadata_bytes").starts_with("0"); },
                  30))
      die("the namespace keeps its metadata");
  }
}

// A drive says that the path failed, not the command: it is done by way of the other one. What is
// no business of the path ends as it did.
void path_errors() {
  constexpr unsigned path_error = 0x370, unrecovered_for_good = 0x4281;
  const Hurt hurt;
  const UniqueFd target = open_target(drive);
  const DmaBuf buffer = make_buffer(block);
  Session session;
  Ring ring(8);
  Mover mover(session, ring, buffer.fd(), target.get(), Path::Premapped);
  if (mover.error())
    die("MAP: " + errno_name(mover.error()));
  DiskRegion(target.get(), attack_base, block).lay_down_all(6);
  const auto controller = [&] {
    dmabuf_rw_info info{};
    if (session.info(mover.entry().handle, info))
      die("INFO");
    return info.controller;
  };
  const auto read = [&](std::string_view name, unsigned status, int wanted) {
    {
      const CpuAccess access(buffer, true);
      std::ranges::fill(buffer.words(), pattern_word(buffer_poison, 0));
    }
    hurt.lie("dmabuf_rw:single_read_end", status, 1);
    const int got = mover.transfer(Direction::Read, 0, block, attack_base);
    const int lies = hurt.lies();
    hurt.lie_off();
    report().check(lies == 1 && got == wanted, std::string(name),
                   std::format("{} commands ended so, {}", lies, errno_name(got)));
  };
  const std::uint32_t before = controller();
  read("a path error: the other path does the read", path_error, static_cast<int>(block));
  report().check(controller() != before, "a path error: the mapping is the other controller's");
  const std::uint32_t after = controller();
  read("an error of the medium that is final ends the read", unrecovered_for_good, -ENODATA);
  report().check(controller() == after, "an error of the medium: the controller is the same");
  mover.release();
}

} // namespace

void attack_multipath() {
  if (!wait_for(both_there, 30))
    die("one controller only (dmabuf-lab run --paths 2)");
  other_format();
  other_metadata();
  path_errors();
  losses();
  map_meanwhile();
}

// While a mapping changes to another controller, its memory moves, and another mapping brings the
// old controller's addresses back: not those of the one that is leaving.
void attack_path_change() {
  if (!buffers_move("path-change"))
    return;
  if (!wait_for([] { return paths() == 2; }, 30))
    die("one controller only (dmabuf-lab run --paths 2)");
  constexpr std::uint32_t part = 1u << 20;
  const Hurt hurt;
  const Testexp testexp;
  const TestBuffer buffer = testexp.make(gpu_buffer(2 * part, 3));
  const UniqueFd target = open_target(drive);
  DiskRegion(target.get(), attack_base, part).lay_down_all(7);
  Session session;
  Ring ring(8), other_ring(8);
  Mover changing(session, ring, buffer.fd(), target.get(), Path::Premapped);
  Mover other(session, other_ring, buffer.fd(), target.get(), Path::Premapped);
  if (changing.error() || other.error())
    die("MAP: " + errno_name(changing.error()) + errno_name(other.error()));
  dmabuf_rw_info before{}, info{};
  session.info(other.entry().handle, before);
  const std::string old = std::format("nvme{}", std::uint32_t{before.controller});

  // The namespace goes, and the controller stays: so do the driver, and the addresses.
  const std::string id = read_file(std::format("/sys/class/nvme/{}/cntlid", old));
  const std::string which = std::format("-ns /dev/{} --namespace-id=1 --controllers={}", old,
                                        id.substr(0, id.find('\n')));
  shell("nvme detach" + which);
  if (!wait_for([] { return paths() == 1; }, 30))
    die("the namespace does not leave " + old);
  std::atomic<bool> ended = false;
  int read = 0;
  std::jthread io([&] {
    hurt.slow("dmabuf_rw_io_suspend", 3000);
    read = changing.waited(Direction::Read, 0, part, attack_base);
    ended = true;
  });
  wait_for([&] { return hurt.slowed() > 0 || ended; }, 60);
  report().check(hurt.slowed() == 1, "a mapping is changing to another controller",
                 std::format("{} times", hurt.slowed()));
  const int moved = buffer.move();
  report().check(moved == 0, "its memory moves meanwhile", errno_name(moved));
  const std::uint64_t maps = buffer.must_stats().maps;
  other.queue(Direction::Read, part, 4096, attack_base);
  other_ring.submit();
  wait_for([&] { return buffer.must_stats().maps > maps; }, 20);
  report().check(buffer.must_stats().maps > maps && !ended,
                 "and is mapped again for another mapping");
  report().check(wait_for([&] { return ended.load(); }, 20), "the change comes to an end");
  // Takes the addresses from whoever should not have had them.
  buffer.move();
  io.join();
  hurt.slow_off();
  report().check(read == static_cast<int>(part), "and so does the I/O", errno_name(read));
  session.info(changing.entry().handle, info);
  report().check(info.controller != before.controller, "by the other controller",
                 std::format("nvme{}", std::uint32_t{info.controller}));
  std::vector<Word> words(part / sizeof(Word)), want(part / sizeof(Word));
  fill_pattern(want, 7, attack_base);
  buffer.must_read(words, 0);
  const auto wrong = compare_words(words, want);
  report().check(!wrong, "with its data", wrong ? describe(*wrong, 0) : "");
  int got = 0;
  if (other_ring.reap([&](std::uint64_t, int result) { got = result; }) < 0)
    die("io_uring_enter");
  report().check(got == 4096, "the other mapping's I/O ends, too", errno_name(got));
  changing.release();
  other.release();
  shell("nvme attach" + which);
  report().check(wait_for([] { return paths() == 2; }, 60), "the old path comes back");
}

} // namespace vmtest
