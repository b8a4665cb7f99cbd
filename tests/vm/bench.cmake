# SPDX-License-Identifier: GPL-2.0-only
# What I/O and MAP cost, in instructions. Included by CMakeLists.txt here, once for the program and
# once for the ctest entries.
if(DMABUF_TESTS STREQUAL "vm")
  # It counts by the time stamp counter of amd64, which --icount makes count instructions.
  if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
    add_vm_program(measure OPTIMISED measure/main.cpp measure/plan.cpp measure/memory.cpp measure/busy.cpp
      measure/io.cpp measure/jobs.cpp measure/datapath.cpp measure/map.cpp)
    # QEMU loads it, outside the guest.
    add_library(count MODULE measure/count.c)
    target_compile_options(count PRIVATE -Wall -Wextra)
    set_target_properties(count PROPERTIES C_VISIBILITY_PRESET hidden
      LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests/vm)
  endif()
  return()
endif()

# That the program measures: every datapath, held and free, and MAP. Few repeats, no goals.
add_test(NAME vm.measure
  COMMAND ${CMAKE_SOURCE_DIR}/scripts/dmabuf-lab run --timeout 400 --icount --iommu strict
    --mdts 9 --memory 2048 -- "${python}/measure/smoke.py")
set_tests_properties(vm.measure PROPERTIES LABELS vm TIMEOUT 1200)

# That a plug-in of QEMU counts what each function of the kernel executes, as much as the clock says.
add_test(NAME vm.profile
  COMMAND ${CMAKE_SOURCE_DIR}/scripts/dmabuf-bench profile --rounds 3
    io path=premapped memory=scattered bs=4096 depth=32)
set_tests_properties(vm.profile PROPERTIES LABELS vm TIMEOUT 1200)

# Datapath host against fio's own engine, on the drive; by a clock that counts instructions, so that load matters little.
add_test(NAME bench.parity_drive
  COMMAND ${CMAKE_SOURCE_DIR}/scripts/dmabuf-lab run --timeout 600 --icount --no-module --
    /usr/bin/python3 -B /src/tests/host/bench_parity.py --measure iops --drive /dev/nvme0n1
    --ios 30000 --pairs 7 --most 21)
set_tests_properties(bench.parity_drive PROPERTIES LABELS bench RUN_SERIAL TRUE TIMEOUT 1200)

# The goals themselves. Only when asked for: it takes minutes.
add_test(NAME bench.goals COMMAND ${CMAKE_SOURCE_DIR}/scripts/dmabuf-bench goals)
set_tests_properties(bench.goals PROPERTIES LABELS bench RUN_SERIAL TRUE TIMEOUT 3600)
