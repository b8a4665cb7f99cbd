# SPDX-License-Identifier: GPL-2.0-only
# ctest entries on the debug kernel (KASAN, lockdep, DMA-API debugging, kmemleak). Included by
# CMakeLists.txt here. They have the label debug and are left out of the default run, but for a
# part that takes a few minutes: that runs wherever the debug kernel is built already.

if(DMABUF_TESTS STREQUAL "vm")
  return()
endif()

set(DMABUF_DEBUG_IN_CHECK AUTO CACHE STRING
  "Part of the debug kernel's tests in the default run: ON, OFF, or AUTO, where that kernel is built")
set_property(CACHE DMABUF_DEBUG_IN_CHECK PROPERTY STRINGS AUTO ON OFF)
set(debug_in_check ${DMABUF_DEBUG_IN_CHECK})
if(debug_in_check STREQUAL AUTO)
  execute_process(COMMAND ${CMAKE_SOURCE_DIR}/scripts/dmabuf-lab info --json
    OUTPUT_VARIABLE lab_info ERROR_QUIET)
  string(JSON debug_kernel ERROR_VARIABLE no_info GET "${lab_info}" debug_kernel release)
  set(debug_in_check OFF)
  if(NOT no_info)
    set(debug_in_check ON)
  endif()
endif()
message(STATUS "debug kernel: part of its tests in the default run: ${debug_in_check}")

# PART: one of those for the default run. Everything is several times slower on this kernel.
function(add_debug_test name)
  cmake_parse_arguments(PARSE_ARGV 1 test "PART" "TIMEOUT" "LAB;COMMAND")
  list(JOIN test_COMMAND " " command)
  add_test(NAME debug.${name}
    COMMAND ${CMAKE_SOURCE_DIR}/scripts/dmabuf-lab run --kernel debug --timeout ${test_TIMEOUT}
      ${test_LAB} -- "${command}")
  math(EXPR limit "${test_TIMEOUT} + 300")
  set(labels debug)
  set(alone TRUE)
  if(test_PART AND debug_in_check)
    set(labels debug_part)
    set(alone FALSE)
  endif()
  set_tests_properties(debug.${name} PROPERTIES
    LABELS ${labels} RUN_SERIAL ${alone} TIMEOUT ${limit})
endfunction()

set(programs /src/build/lab/tests/vm)
# In one guest, as that kernel takes a minute to boot: memory that is freed, lists that are changed, locks. The exporter by
# itself, what waits by the clock, and watch are left to the others.
add_debug_test(several PART TIMEOUT 1500 COMMAND
  ${programs}/isolation --only handles && ${programs}/isolation --only threads && ${programs}/invalidate --quick kill revoke sharing &&
  ${programs}/attacks publish durability pin late-return cpu-access)
add_debug_test(isolation TIMEOUT 1500 COMMAND ${programs}/isolation)
add_debug_test(rwfile TIMEOUT 900 COMMAND
  ${programs}/rwfile --kills 3 --allow-skip 'a reader whose page is held back')
add_debug_test(invalidate TIMEOUT 1200 COMMAND ${programs}/invalidate --quick && ${programs}/watch)
# A kernel mapping that an exporter cannot make is a warning of the dma-buf framework.
add_debug_test(faults PART TIMEOUT 600
  LAB --errors --expect "WARNING: drivers/dma-buf/dma-buf.c:\\d+ at dma_buf_vmap\\+"
  COMMAND ${programs}/faults)
add_debug_test(teardown TIMEOUT 900 COMMAND
  ${programs}/teardown --kills 8 && ${programs}/teardown --unbind)
add_debug_test(rings TIMEOUT 900 LAB --append nvme.poll_queues=1 COMMAND ${programs}/rings --polled)
# Not unplugged: of Linux 7.3's own pciehp, which takes a slot's reset_lock and pci_rescan_remove_lock
# in either order, lockdep complains.
add_debug_test(loss TIMEOUT 1200 LAB --qmp COMMAND ${programs}/loss reset format namespace remove)
# The drive is slowed down until the driver gives up on it: those are its messages.
add_debug_test(loss.slow TIMEOUT 1200
  LAB --qmp
    --expect "I/O tag \\d+ .* timeout, (aborting|reset controller)"
    --expect "nvme\\d+: Abort status: 0x"
  COMMAND ${programs}/loss slow)
add_debug_test(witness TIMEOUT 1500 LAB --iommu strict COMMAND
  ${programs}/witness --quick --fuzz 50 --load 2
    --exporters udmabuf-scattered,udmabuf-huge,heap,vgem,virtio-gpu)
add_debug_test(p2p TIMEOUT 900 LAB --p2p --iommu strict COMMAND ${programs}/p2p)
add_debug_test(formats TIMEOUT 900 LAB --formats COMMAND
  ${programs}/formats --allow-skip 'extended metadata' && ${programs}/drives)
add_debug_test(targets TIMEOUT 1500 COMMAND ${programs}/targets)
add_debug_test(targets.p2p TIMEOUT 900 LAB --p2p --iommu strict COMMAND ${programs}/targets --p2p)
