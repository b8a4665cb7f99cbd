# SPDX-License-Identifier: GPL-2.0-only
# ctest entries for races on purpose, bad sectors, users that take all there is, and soak. Included by
# CMakeLists.txt here.

if(DMABUF_TESTS STREQUAL "vm")
  return()
endif()

set(races ${programs}/races)
set(soak ${programs}/soak)

# Formats, too. Without an IOMMU: Linux 7.3 warns (dma_iova_link) when it maps the metadata of several
# of its own requests in one. The drive's own messages about commands in old blocks are no complaint.
add_vm_test(races LAB --kaslr --formats --no-multipath --iommu off ${poison} COMMAND ${races} --seconds 15)
# Losses of either path and of both; polled rings.
add_vm_test(races.paths LAB --kaslr --paths 2 --append nvme.poll_queues=1 ${poison} COMMAND
  ${races} --polled --seconds 15)
# One boot for what needs a minute in all.
add_vm_test(sectors ALONE LAB --errors COMMAND
  ${programs}/sectors && ${programs}/users && ${soak} --seconds 20 --settle 8 --interval 1)

# On the debug kernel longer, and with four CPUs.
add_debug_test(races TIMEOUT 1500 LAB --formats --no-multipath --iommu off --smp 4 COMMAND
  ${races} --seconds 300 --limit 1200)
add_debug_test(races.paths TIMEOUT 1500 LAB --paths 2 --smp 4 --append nvme.poll_queues=1 COMMAND
  ${races} --polled --seconds 300 --limit 1200)
# Completions that the block layer loses: the driver's messages when it takes the commands back.
add_debug_test(faults.timeouts TIMEOUT 600
  LAB --expect "I/O tag \\d+ .* timeout, (aborting|reset controller)"
    --expect "nvme\\d+: Abort status: 0x"
  COMMAND ${programs}/faults --timeouts)
add_debug_test(faults.paths TIMEOUT 900
  LAB --paths 2 --errors --expect "WARNING: drivers/dma-buf/dma-buf.c:\\d+ at dma_buf_vmap\\+"
  COMMAND ${programs}/faults && ${programs}/sectors)

# Half an hour and more, on an emulated machine.
function(add_soak_test name)
  cmake_parse_arguments(PARSE_ARGV 1 test "" "" "LAB;COMMAND")
  list(JOIN test_COMMAND " " command)
  add_test(NAME soak.${name}
    COMMAND ${CMAKE_SOURCE_DIR}/scripts/dmabuf-lab run --timeout 5400 ${test_LAB} -- "${command}")
  set_tests_properties(soak.${name} PROPERTIES LABELS soak RUN_SERIAL TRUE TIMEOUT 6000)
endfunction()
add_soak_test(io LAB --kernel debug COMMAND ${soak} --seconds 1800)
add_soak_test(races LAB --kernel debug --paths 2 --smp 4 COMMAND ${races} --seconds 1800 --limit 3600)
add_soak_test(races.formats LAB --kernel debug --formats --no-multipath --iommu off --smp 4 COMMAND
  ${races} --seconds 1800 --limit 3600)
