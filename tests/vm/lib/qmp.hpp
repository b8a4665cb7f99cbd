// SPDX-License-Identifier: GPL-2.0-only
// Commands to the QEMU that runs this guest (dmabuf-lab run --qmp).
#pragma once

#include "unique_fd.hpp"

#include <string>
#include <string_view>

namespace vmtest {

class Qmp {
public:
  // Finds the port and gets ready; ends the program with exit_setup when there is none.
  Qmp();
  // Runs a command, e.g. run("device_del", R"({"id": "nvme"})"). True when QEMU accepted it.
  bool run(std::string_view command, std::string_view arguments);

private:
  // The answer to a command, an error or not.
  std::string ask(std::string_view command, std::string_view arguments);
  std::string line();
  UniqueFd port_;
  std::string pending_;
};

} // namespace vmtest
