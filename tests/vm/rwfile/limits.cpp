// SPDX-License-Identifier: GPL-2.0-only
// How much of the module a user without rights can have: memory, descriptors, rw fds.
#include "hostile.hpp"

#include <sys/resource.h>

namespace vmtest {

namespace {

void set_limit(int which, rlim_t value) {
  const rlimit limits{.rlim_cur = value, .rlim_max = value};
  if (::setrlimit(static_cast<__rlimit_resource>(which), &limits) != 0)
    die("setrlimit");
}

int memlock_child() {
  const DmaBuf one = must_make(Exporter::Udmabuf, 4u << 20),
               two = must_make(this_or_other(Exporter::Heap), 4u << 20);
  Session session;
  set_limit(RLIMIT_MEMLOCK, 6u << 20);
  {
    const UniqueFd a = must_open_rw(session, one.fd()), b = must_open_rw(session, two.fd());
    report().check(a && b, "root is over the limit");
  }
  become_nobody();
  for (int i = 0; i < 3; ++i) { // an account that is not given back would refuse the second
    const UniqueFd a = must_open_rw(session, one.fd());
    refused("a user over RLIMIT_MEMLOCK", session, two.fd(), O_RDWR, ENOMEM,
            DMABUF_RW_REASON_MEMLOCK);
  }
  return report().failures() ? 1 : 0;
}

int descriptors_child() {
  const DmaBuf buffer = must_make(this_or_other(Exporter::Heap), page);
  const Session session;
  set_limit(RLIMIT_NOFILE, static_cast<rlim_t>(session.fd()) + 1);
  const Opened opened = open_rw(session, buffer.fd());
  expect_result("OPEN without a free descriptor", opened.error, -EMFILE);
  report().check(opened.answer.reason == DMABUF_RW_REASON_LIMIT, "its reason");
  return report().failures() ? 1 : 0;
}

int files_child(std::uint64_t most) {
  const DmaBuf buffer = must_make(this_or_other(Exporter::Heap), page);
  set_limit(RLIMIT_NOFILE, most + 64);
  set_limit(RLIMIT_MEMLOCK, RLIM_INFINITY);
  Session session;
  become_nobody();
  std::vector<UniqueFd> files;
  Opened last;
  while (files.size() < most + 8) {
    last = open_rw(session, buffer.fd());
    if (last.error)
      break;
    files.push_back(std::move(last.fd));
  }
  // Counted for whoever opened the session; the right to pass the limit is the caller's.
  report().check(files.size() == most, "a user has max_rw_files rw fds",
                 std::format("{}", files.size()));
  report().check(last.error == -EMFILE && last.answer.reason == DMABUF_RW_REASON_LIMIT,
                 "one more is refused", errno_name(last.error));
  if (files.empty())
    return 1;
  files.pop_back();
  report().check(open_rw(session, buffer.fd()).error == 0, "and opens when one was closed");
  char byte;
  expect_result("the first still works", ::pread(files.front().get(), &byte, 1, 0), 1);
  return report().failures() ? 1 : 0;
}

// Root has no limit.
int files_of_root_child(std::uint64_t most) {
  const DmaBuf buffer = must_make(this_or_other(Exporter::Heap), page);
  set_limit(RLIMIT_NOFILE, most + 64);
  Session session;
  std::vector<UniqueFd> files;
  while (files.size() < most + 8) {
    Opened opened = open_rw(session, buffer.fd());
    if (!expect_result("root opens more rw fds than a user may", opened.error, 0))
      break;
    files.push_back(std::move(opened.fd));
  }
  return report().failures() ? 1 : 0;
}

} // namespace

void test_limits(const RwOptions &) {
  in_child("RLIMIT_MEMLOCK holds", memlock_child);
  in_child("RLIMIT_NOFILE holds", descriptors_child);
  dmabuf_rw_query query{};
  Session().query(query);
  report().check((query.features & DMABUF_RW_FEAT_RWFILE) && (query.features & DMABUF_RW_FEAT_IO) &&
                     query.max_rw_files >= 1024 && query.max_rw_buffer_bytes >= 1ull << 32,
                 "QUERY tells of OPEN and RW");
  // Twice: what the first had must not count against the second.
  for (int i = 0; i < 2; ++i)
    in_child("rw fds of a user are limited", [&] { return files_child(query.max_rw_files); });
  in_child("rw fds of root are not limited",
           [&] { return files_of_root_child(query.max_rw_files); });
}

} // namespace vmtest
