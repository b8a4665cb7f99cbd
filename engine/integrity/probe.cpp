// SPDX-License-Identifier: GPL-2.0-only
// What can be known without moving a byte: what the module does, which datapaths a drive and a
// buffer of an exporter have, and by which way. By MAP, INFO and UNMAP alone.
#include "bench.hpp"

namespace integrity {

using dmabuf::Result;

namespace {

/// Maps a buffer for reading, which asks for no right to write to the drive, and says where it is.
/// `target`: the drive, or -1.
Result<dmabuf_rw_info> look(dmabuf::Session &session, const dmabuf::DmaBuf &buffer, uint32_t path,
                            int target, const Options &options) {
  // A registered buffer is mapped for no drive: whichever reads into it gets its pages.
  const bool registered = path == DMABUF_RW_PATH_REGISTERED;
  const auto entry =
      session.map({.dmabuf_fd = buffer.fd.get(),
                   .target_fd = registered ? -1 : target,
                   .path = path,
                   .directions = DMABUF_RW_DIR_READ,
                   .max_command_hint = registered ? 0 : static_cast<uint32_t>(options.max_command),
                   .no_room = buffer.no_room.c_str()},
                  options.device.empty() ? "no drive" : options.device);
  if (!entry)
    return std::unexpected(entry.error());
  const auto info = session.info(entry->handle);
  if (auto gone = session.unmap(entry->handle); !gone)
    return std::unexpected(std::move(gone.error()));
  return info;
}

/// What came of it, as a JSON object.
std::string said(const Result<dmabuf_rw_info> &info) {
  if (!info)
    return dmabuf::strf("{\"works\":false,\"errno\":%d,\"text\":%s}", info.error().code,
                        quoted(info.error().message).c_str());
  std::string controller;
  if (info->controller != DMABUF_RW_NO_CONTROLLER)
    controller = dmabuf::strf(",\"controller\":%u", info->controller);
  return dmabuf::strf("{\"works\":true,\"memory\":%s,\"route\":%s,\"segments\":%u,"
                      "\"max_command_bytes\":%u%s}",
                      quoted(dmabuf::memory_name(info->memory)).c_str(),
                      quoted(dmabuf::route_name(info->route)).c_str(), info->segments,
                      info->max_command_bytes, controller.c_str());
}

} // namespace

Result<Outcome> run_query(const Options &) {
  auto session = dmabuf::Session::open();
  if (!session)
    return std::unexpected(std::move(session.error()));
  const dmabuf_rw_query &q = session->query();
  Outcome outcome;
  outcome.fact("abi_version", q.abi_version);
  outcome.fact("features", q.features);
  outcome.fact("max_io_bytes", q.max_io_bytes);
  outcome.fact("max_premapped_bytes", q.max_buffer_bytes[DMABUF_RW_PATH_PREMAPPED]);
  outcome.fact("max_registered_bytes", q.max_buffer_bytes[DMABUF_RW_PATH_REGISTERED]);
  outcome.fact("max_bvec_bytes", q.max_buffer_bytes[DMABUF_RW_PATH_BVEC]);
  return outcome;
}

Result<Outcome> run_probe(const Options &options) {
  auto target = drive_of(options);
  if (!target)
    return std::unexpected(std::move(target.error()));
  auto buffer = dmabuf::allocate_dmabuf(request_of(options));
  if (!buffer)
    return std::unexpected(std::move(buffer.error()));
  auto session = dmabuf::Session::open();
  if (!session)
    return std::unexpected(std::move(session.error()));
  const auto info = look(*session, *buffer, options.path, target->get(), options);
  if (!info)
    return std::unexpected(info.error());
  Outcome outcome;
  outcome.fact("memory", dmabuf::memory_name(info->memory));
  outcome.fact("route", dmabuf::route_name(info->route));
  outcome.fact("segments", info->segments);
  outcome.fact("max_command_bytes", info->max_command_bytes);
  outcome.fact_device(*buffer);
  return outcome;
}

Result<Outcome> run_paths(const Options &options) {
  auto session = dmabuf::Session::open();
  if (!session)
    return std::unexpected(std::move(session.error()));
  dmabuf::UniqueFd drive;
  if (!options.device.empty()) {
    auto target = drive_of(options);
    if (!target)
      return std::unexpected(std::move(target.error()));
    drive = std::move(*target);
  }
  auto buffer = dmabuf::allocate_dmabuf(request_of(options));
  if (!buffer)
    return std::unexpected(std::move(buffer.error()));
  Outcome outcome;
  outcome.fact_device(*buffer);
  outcome.fact("buffer_bytes", buffer->bytes);
  for (const uint32_t path :
       {DMABUF_RW_PATH_PREMAPPED, DMABUF_RW_PATH_REGISTERED, DMABUF_RW_PATH_BVEC})
    if (drive || path == DMABUF_RW_PATH_REGISTERED)
      outcome.facts.emplace_back(dmabuf::path_name(path),
                                 said(look(*session, *buffer, path, drive.get(), options)));
  return outcome;
}

} // namespace integrity
