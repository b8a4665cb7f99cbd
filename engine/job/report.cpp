// SPDX-License-Identifier: GPL-2.0-only
#include "job/report.hpp"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <string_view>

namespace dmabuf {
namespace {

unsigned long long ull(uint64_t number) { return number; }

/// Whether a path is one of the process's own descriptors, which only the kernel makes links of.
bool is_descriptor(std::string_view path) {
  for (const std::string_view folder : {"/dev/fd/", "/proc/self/fd/"})
    if (path.starts_with(folder))
      return path.find_first_not_of("0123456789", folder.size()) == path.npos;
  return path == "/dev/stdout" || path == "/dev/stderr";
}

/// Length of the UTF-8 sequence at `at`, 0 if it is none.
size_t utf8_length(const std::string &text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(at);
  const size_t length = lead < 0x80                   ? 1
                        : lead >= 0xc2 && lead < 0xe0 ? 2
                        : (lead & 0xf0) == 0xe0       ? 3
                        : lead >= 0xf0 && lead < 0xf5 ? 4
                                                      : 0;
  if (!length || at + length > text.size())
    return 0;
  for (size_t i = 1; i < length; i++)
    if ((byte(at + i) & 0xc0) != 0x80)
      return 0;
  // Overlong forms, surrogates, and what lies above U+10FFFF.
  if ((lead == 0xe0 && byte(at + 1) < 0xa0) || (lead == 0xed && byte(at + 1) > 0x9f) ||
      (lead == 0xf0 && byte(at + 1) < 0x90) || (lead == 0xf4 && byte(at + 1) > 0x8f))
    return 0;
  return length;
}

std::string counts_text(uint64_t reads, uint64_t writes, uint64_t read_bytes,
                        uint64_t write_bytes) {
  return strf("%llu reads (%llu bytes) and %llu writes (%llu bytes)", ull(reads), ull(read_bytes),
              ull(writes), ull(write_bytes));
}

std::string issued_text(const Counters &issued) {
  return counts_text(issued.ops[0] + issued.partial[0], issued.ops[1] + issued.partial[1],
                     issued.bytes[0], issued.bytes[1]);
}

Proof prove_syscall(const JobReport &report, const std::string &done) {
  const Counters &issued = report.issued;
  const FileEvidence &files = report.files;
  if (report.submit == Submit::mmap) {
    if (issued.copied_from_buffer < issued.bytes[0] || issued.copied_to_buffer < issued.bytes[1])
      return {false,
              strf("the CPU copied %llu bytes from and %llu bytes to the dma-buf for %s",
                   ull(issued.copied_from_buffer), ull(issued.copied_to_buffer), done.c_str())};
    return {true,
            strf("the %s were copies by the CPU from and to the dma-buf's mmap", done.c_str())};
  }
  const uint64_t moved = issued.ops[0] + issued.partial[0] + issued.ops[1] + issued.partial[1];
  if (report.submit == Submit::sync ? issued.calls < moved : issued.calls != 0)
    return {false, strf("%llu calls of pread or pwrite were made for %s", ull(issued.calls),
                        done.c_str())};
  if (!files.files || files.same != files.files)
    return {false,
            strf("%u of %u files were seen to be the dma-buf, before the first I/O and after "
                 "the last",
                 files.same, files.files)};
  const std::string what =
      strf("%u rw fd%s of %llu bytes, seen to be the dma-buf's before the first "
           "I/O and after the last",
           files.files, files.files == 1 ? "" : "s", ull(files.bytes));
  if (report.submit == Submit::sync)
    return {true, strf("the %s were %llu calls of pread or pwrite on %s", done.c_str(),
                       ull(issued.calls), what.c_str())};
  return {true, strf("the %s were all IORING_OP_READ or WRITE on %s", done.c_str(), what.c_str())};
}

/// A sentence: what the copies of memory without a CPU view leave out; empty if they are complete.
std::string copies_missing(const JobReport &report) {
  const Counters &issued = report.issued;
  if (report.copies_up && issued.shadow_to_buffer < issued.bytes[1])
    return strf("%llu bytes of fio's were copied to the dma-buf for %llu written",
                ull(issued.shadow_to_buffer), ull(issued.bytes[1]));
  if (report.copies_down && issued.shadow_from_buffer < issued.bytes[0])
    return strf("%llu bytes were copied from the dma-buf to fio for %llu read",
                ull(issued.shadow_from_buffer), ull(issued.bytes[0]));
  return {};
}

/// The copies of memory without a CPU view, for the summary; empty if there were none.
std::string copies_text(const Counters &issued) {
  const uint64_t up = issued.first_fill + issued.shadow_to_buffer;
  if (!up && !issued.shadow_from_buffer)
    return {};
  return strf(", %llu bytes copied to it and %llu from it", ull(up),
              ull(issued.shadow_from_buffer));
}

/// What dmabuf_ranges came to; empty without it.
std::string vectors_text(const Counters &issued) {
  return issued.vectors
             ? strf(", asked for by %llu READV and WRITEV of %.1f I/Os each", ull(issued.vectors),
                    static_cast<double>(issued.vectored) / static_cast<double>(issued.vectors))
             : "";
}

/// What is to be said of commands beyond those that the ended reads and writes take, each as many
/// as the longest; empty if there are none. Nothing is in flight when they are counted.
std::string commands_beyond(const JobReport &report) {
  const ModuleCounts &module = report.module;
  const uint64_t each = module.command_bytes
                            ? std::max<uint64_t>(1, (report.longest + module.command_bytes - 1) /
                                                        module.command_bytes)
                            : 1;
  const uint64_t most = each * (module.reads + module.writes);
  return module.commands > most ? strf(", %llu of them for I/Os that failed or were sent again",
                                       ull(module.commands - most))
                                : "";
}

} // namespace

Result<UniqueFd> open_report(const std::string &path) {
  const int links = is_descriptor(path) ? 0 : O_NOFOLLOW;
  UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | links, 0644));
  if (fd)
    return fd;
  const int code = errno;
  const std::string what = "dmabuf_report=" + path;
  if (code == ELOOP && links)
    return fail(code, what + " is a symbolic link, and none is followed, because whoever made it "
                             "may lead root to another's file; give the file itself (realpath)");
  return fail(code, errno_text("cannot open " + what, code));
}

Proof prove(const JobReport &report) {
  const Datapath path = report.path;
  const Counters &issued = report.issued;
  const ModuleCounts &module = report.module;
  const uint64_t reads = issued.ops[0] + issued.partial[0];
  const uint64_t writes = issued.ops[1] + issued.partial[1];
  const std::string done = issued_text(issued);
  if (report.unreaped)
    return {false, strf("%llu I/Os were submitted and never seen to end, beside %s",
                        ull(report.unreaped), done.c_str())};
  if (!reads && !writes && !issued.errors)
    return {true, "no data was moved"};
  if (const std::string missing = copies_missing(report); !missing.empty())
    return {false, missing};
  switch (path) {
  case Datapath::premapped:
  case Datapath::bvec: {
    if (!module.known)
      return {false, "the module gave no counters to compare with"};
    if (module.reads == reads && module.writes == writes && module.read_bytes == issued.bytes[0] &&
        module.write_bytes == issued.bytes[1] && module.commands >= reads + writes &&
        (report.submit == Submit::ioctl ? issued.calls >= reads + writes : !issued.calls))
      return {true, strf("the module counted the engine's %s in %llu %s", done.c_str(),
                         ull(module.commands),
                         path == Datapath::bvec ? "calls of the target" : "commands") +
                        commands_beyond(report) + vectors_text(issued) +
                        (report.submit == Submit::ioctl
                             ? strf(", for %llu calls of the ioctl IO", ull(issued.calls))
                             : "")};
    return {
        false,
        strf(
            "the module counted %s in %llu commands, the engine %s",
            counts_text(module.reads, module.writes, module.read_bytes, module.write_bytes).c_str(),
            ull(module.commands), done.c_str())};
  }
  case Datapath::registered:
    if (!module.known || !module.registrations)
      return {false, "the module did not register the dma-buf in this job's ring"};
    return {true,
            strf("the module registered the dma-buf in slot 0 of the ring, and the %s were all "
                 "READ_FIXED or WRITE_FIXED on that slot",
                 done.c_str())};
  case Datapath::bounce:
    if (issued.copied_to_buffer != issued.bytes[0] || issued.copied_from_buffer < issued.bytes[1])
      return {false,
              strf("%llu bytes were copied to and %llu bytes from the dma-buf for %s",
                   ull(issued.copied_to_buffer), ull(issued.copied_from_buffer), done.c_str())};
    return {true,
            strf("the %s were all READ_FIXED or WRITE_FIXED on host memory, and %llu bytes were "
                 "copied to and %llu bytes from the dma-buf",
                 done.c_str(), ull(issued.copied_to_buffer), ull(issued.copied_from_buffer))};
  case Datapath::host:
    if (report.atomic)
      return {true,
              strf("the %s were all READ_FIXED on registered host memory, or WRITE of it with "
                   "RWF_ATOMIC",
                   done.c_str())};
    return {true, strf("the %s were all READ_FIXED or WRITE_FIXED on registered host memory",
                       done.c_str())};
  case Datapath::syscall:
    return prove_syscall(report, done);
  case Datapath::upstream:
    if (!report.upstream)
      return {false, "io_uring did not register the dma-buf"};
    return {true,
            strf("io_uring itself registered the dma-buf (%llu registrations), the %s were all "
                 "READ_FIXED or WRITE_FIXED on its slots, and %llu were issued again",
                 ull(report.upstream), done.c_str(), ull(issued.retries))};
  case Datapath::automatic:
    break;
  }
  return {false, "no datapath was chosen"};
}

std::string json_string(const std::string &text) {
  std::string out = "\"";
  for (size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    const size_t length = utf8_length(text, i);
    if (!length) {
      out += "\\ufffd";
      i++;
      continue;
    }
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c < 0x20 || c == 0x7f) {
      out += strf("\\u%04x", c);
    } else {
      out.append(text, i, length);
    }
    i += length;
  }
  return out + '"';
}

std::string to_json(const JobReport &report) {
  const Counters &io = report.issued;
  std::string out = "{\"version\":1";
  const auto text = [&](const char *name, const std::string &value) {
    out += strf(",\"%s\":", name) + json_string(value);
  };
  const auto number = [&](const char *name, uint64_t value) {
    out += strf(",\"%s\":%llu", name, ull(value));
  };
  text("job", report.job);
  number("job_number", report.job_number);
  text("datapath", datapath_name(report.path));
  text("datapath_requested", datapath_name(report.requested));
  text("submit", submit_name(report.submit));
  text("exporter", exporter_name(report.exporter));
  text("device", report.device);
  text("exported", report.exported);
  text("target", report.target);
  text("memory", report.memory);
  text("route", report.route);
  number("segments", report.segments);
  number("buffers", report.buffers);
  number("buffer_bytes", report.buffer_bytes);
  out +=
      strf(",\"issued\":{\"reads\":%llu,\"writes\":%llu,\"read_bytes\":%llu,\"write_bytes\":%llu,"
           "\"syncs\":%llu,\"trims\":%llu,\"queued_trims\":%llu}",
           ull(io.ops[0] + io.partial[0]), ull(io.ops[1] + io.partial[1]), ull(io.bytes[0]),
           ull(io.bytes[1]), ull(io.syncs), ull(io.trims), ull(io.queued_trims));
  const ModuleCounts &module = report.module;
  if (module.known)
    out +=
        strf(",\"module\":{\"reads\":%llu,\"writes\":%llu,\"read_bytes\":%llu,\"write_bytes\":%llu,"
             "\"commands\":%llu,\"errors\":%llu,\"deferred\":%llu,\"invalidations\":%llu,"
             "\"registrations\":%llu,\"map_ns\":%llu}",
             ull(module.reads), ull(module.writes), ull(module.read_bytes), ull(module.write_bytes),
             ull(module.commands), ull(module.errors), ull(module.deferred),
             ull(module.invalidations), ull(module.registrations), ull(module.map_ns));
  else
    out += ",\"module\":null";
  if (report.path == Datapath::syscall)
    out += strf(",\"files\":{\"count\":%u,\"bytes\":%llu,\"same_as_dmabuf\":%u}",
                report.files.files, ull(report.files.bytes), report.files.same);
  else
    out += ",\"files\":null";
  number("upstream_registrations", report.upstream);
  number("calls", io.calls);
  out += strf(",\"vectored\":{\"commands\":%llu,\"ios\":%llu}", ull(io.vectors), ull(io.vectored));
  number("unreaped", report.unreaped);
  number("errors", io.errors);
  number("short", io.short_requests);
  number("retries", io.retries);
  number("remaps", io.remaps);
  out += strf(",\"copies\":{\"to_buffer_bytes\":%llu,\"from_buffer_bytes\":%llu}",
              ull(io.copied_to_buffer + io.shadow_to_buffer),
              ull(io.copied_from_buffer + io.shadow_from_buffer));
  number("first_fill_bytes", io.first_fill);
  number("map_ns", report.map_ns);
  number("unmap_ns", report.unmap_ns);
  out += report.proof.proven ? ",\"proven\":true" : ",\"proven\":false";
  text("proof", report.proof.text);
  return out + "}";
}

std::string summary_line(const JobReport &report) {
  std::string memory = report.memory + " memory";
  if (report.segments)
    memory += strf(", %u segments", report.segments);
  memory += copies_text(report.issued);
  std::string path = datapath_name(report.path);
  if (report.submit != Submit::uring)
    path += strf(" by %s", submit_name(report.submit));
  std::string exporter = exporter_name(report.exporter);
  if (!report.exported.empty())
    exporter += " (" + report.exported + ")";
  return strf("libdmabuf: job %s: datapath %s (asked: %s), exporter %s, %s, %s: %s",
              report.job.c_str(), path.c_str(), datapath_name(report.requested), exporter.c_str(),
              memory.c_str(), report.proof.proven ? "proven" : "NOT PROVEN",
              report.proof.text.c_str());
}

} // namespace dmabuf
