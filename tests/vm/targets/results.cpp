// SPDX-License-Identifier: GPL-2.0-only
#include "results.hpp"

#include "lib/report.hpp"

#include <format>
#include <fstream>
#include <sys/utsname.h>
#include <unistd.h>

namespace vmtest {

// All texts are names of this program's own, or of Linux's: nothing in them needs an escape.
void write_results(const std::string &file, const std::vector<Cell> &cells) {
  utsname name{};
  if (::uname(&name) != 0)
    die("the kernel has no version");
  std::ofstream out(file);
  out << std::format("{{\"kernel\": \"{}\", \"machine\": \"{}\", \"page\": {}, \"cells\": [\n",
                     name.release, name.machine, ::sysconf(_SC_PAGESIZE));
  for (std::size_t i = 0; i < cells.size(); ++i)
    out << std::format("{{\"exporter\": \"{}\", \"target\": \"{}\", \"path\": \"{}\", "
                       "\"outcome\": \"{}\"}}{}\n",
                       cells[i].exporter, cells[i].target, cells[i].path, cells[i].outcome,
                       i + 1 < cells.size() ? "," : "");
  out << "]}\n";
  out.close();
  if (!out)
    die("cannot write the results to " + file);
}

} // namespace vmtest
