# SPDX-License-Identifier: GPL-2.0-only
# ctest entries: every exporter x datapath x kind of file, what users mount, and fio while the memory moves. Included by
# CMakeLists.txt here.
if(DMABUF_TESTS STREQUAL "vm")
  return()
endif()

# A multipath head of two controllers, then the plain disk that QEMU's drive is by default.
add_vm_test(targets LAB --paths 2 COMMAND ${programs}/targets)
add_vm_test(targets.plain_disk LAB --no-multipath COMMAND ${programs}/targets)
only_with_matrix(targets.plain_disk)
add_vm_test(targets.kernel_6_12 LAB --kernel 6.12 COMMAND ${programs}/targets)
only_with_matrix(targets.kernel_6_12)
# md raid0, LVM, dm-crypt, btrfs, f2fs, overlayfs, NVMe over loop and TCP.
add_vm_test(targets.stacks ONE_CPU LAB --errors COMMAND ${python}/stacks/run.py)
add_vm_test(fio.moves COMMAND ${python}/fio/moves.py --quick)

add_test(NAME soak.fio.moves
  COMMAND ${CMAKE_SOURCE_DIR}/scripts/dmabuf-lab run --timeout 600 -- "${python}/fio/moves.py")
set_tests_properties(soak.fio.moves PROPERTIES LABELS soak RUN_SERIAL TRUE TIMEOUT 1200)
