# SPDX-License-Identifier: GPL-2.0-only
# ctest entries that attack the module. Included by CMakeLists.txt here.
if(DMABUF_TESTS STREQUAL "vm")
  return()
endif()

set(corpus /src/tests/vm/fuzz/corpus)
set(fuzz ${programs}/fuzz --corpus ${corpus})
# Polled rings need a queue that is polled. A kernel mapping that an exporter cannot make, as that of a
# buffer that is revoked, is a warning of the dma-buf framework.
set(fuzz_lab --append nvme.poll_queues=1 ${poison}
  --expect "WARNING: .*drivers/dma-buf/dma-buf.c:\\d+ (at )?dma_buf_vmap\\+")
# The system heap syncs a buffer for the CPU in the direction of the access, whatever the one that a
# drive has it mapped for; of a dma-buf that is open for reading only that is another one. It looks
# whether a drive has the buffer mapped without the lock under which that one lets go of it.
set(fuzz_debug_lab ${fuzz_lab}
  --expect "DMA-API: nvme .*: device driver syncs DMA memory with different direction"
  --expect "DMA-API: nvme .*: device driver syncs device read-only DMA memory for cpu"
  --expect "DMA-API: nvme .*: device driver tries to sync DMA memory it has not allocated"
  --expect "WARNING: kernel/dma/debug.c:\\d+ at check_sync\\+" --expect "DMA-API: Mapped at:")

# First that one seed means one sequence of calls, that a trace repeats it, and that the program sees
# what it is there to see. Then a minute, and longer where a slow machine has not come round to every
# call by then.
add_vm_test(fuzz LAB ${fuzz_lab} --kaslr COMMAND
  grep -qx 1 /sys/module/nvme/parameters/poll_queues &&
  ${fuzz} --seed 1 --threads 1 --calls 3000 --trace /tmp/first &&
  ${fuzz} --seed 1 --threads 1 --calls 3000 --trace /tmp/second && cmp /tmp/first /tmp/second &&
  ${fuzz} --threads 1 --replay /tmp/first --trace /tmp/third && cmp /tmp/first /tmp/third &&
  ${python}/fuzz/notices.py ${programs}/fuzz &&
  ${fuzz} --seconds 60)
set_tests_properties(vm.fuzz PROPERTIES COST 170)
add_debug_test(fuzz TIMEOUT 3600 LAB ${fuzz_debug_lab} COMMAND ${fuzz} --calls 1000000)
# Hours, on an emulated machine.
add_test(NAME soak.fuzz
  COMMAND ${CMAKE_SOURCE_DIR}/scripts/dmabuf-lab run --kernel debug --timeout 36000 ${fuzz_debug_lab} --
    "${programs}/fuzz --corpus ${corpus} --calls 10000000")
set_tests_properties(soak.fuzz PROPERTIES LABELS soak RUN_SERIAL TRUE TIMEOUT 36600)
