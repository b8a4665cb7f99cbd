# SPDX-License-Identifier: GPL-2.0-only
# ctest entries that attack the module. Included by CMakeLists.txt here.
if(DMABUF_TESTS STREQUAL "vm")
  return()
endif()

set(corpus /src/tests/vm/fuzz/corpus)
set(fuzz ${programs}/fuzz --corpus ${corpus} --avoid-known)
# Polled rings need a queue that is polled.
set(polled --append nvme.poll_queues=1)

# First that one seed means one sequence of calls, and a trace repeats it. Then a minute, and longer
# where a slow machine has not come round to every call by then.
add_vm_test(fuzz LAB ${polled} COMMAND
  ${fuzz} --seed 1 --threads 1 --calls 3000 --trace /tmp/first &&
  ${fuzz} --seed 1 --threads 1 --calls 3000 --trace /tmp/second && cmp /tmp/first /tmp/second &&
  ${fuzz} --threads 1 --replay /tmp/first --trace /tmp/third && cmp /tmp/first /tmp/third &&
  ${fuzz} --seconds 60)
add_debug_test(fuzz TIMEOUT 3600 LAB ${polled} COMMAND ${fuzz} --calls 1000000)
# Hours, on an emulated machine.
add_test(NAME soak.fuzz
  COMMAND ${CMAKE_SOURCE_DIR}/scripts/dmabuf-lab run --kernel debug --timeout 36000 ${polled} --
    "${programs}/fuzz --corpus ${corpus} --avoid-known --calls 10000000")
set_tests_properties(soak.fuzz PROPERTIES LABELS soak RUN_SERIAL TRUE TIMEOUT 36600)
