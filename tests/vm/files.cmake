# SPDX-License-Identifier: GPL-2.0-only
# ctest entries for files/: regular files that are held still. Included by CMakeLists.txt here.

if(DMABUF_TESTS STREQUAL "vm")
  return()
endif()

# With a drive past 4 GiB, and a PCI BAR, which VFIO of 6.12 does not export.
add_vm_test(files.ext4 LAB --drive-gib 8 --p2p COMMAND ${programs}/files ext4 && ${programs}/files ext4 bar large)
add_vm_test(files.xfs LAB --drive-gib 8 COMMAND ${programs}/files xfs && ${programs}/files xfs large)
add_vm_test(files.6.12 LAB --kernel 6.12 --drive-gib 8
  COMMAND ${programs}/files ext4 && ${programs}/files ext4 large)
add_vm_test(files.6.12.xfs LAB --kernel 6.12 --drive-gib 8 COMMAND ${programs}/files xfs && ${programs}/files xfs large)
only_with_matrix(files.6.12.xfs)
# What QEMU logs of the drive's writes is in the folder that the guest is shown.
set(writes ${CMAKE_CURRENT_BINARY_DIR}/power_cut)
file(MAKE_DIRECTORY ${writes})
add_vm_test(files.power_cut ONE_CPU LAB --share ${writes} --writes ${writes}/writes
  COMMAND ${python}/files/power_cut.py ext4 xfs && ${python}/files/durable.py ext4 raw)
set_tests_properties(vm.files.power_cut PROPERTIES COST 240)
set(writes_xfs ${CMAKE_CURRENT_BINARY_DIR}/power_cut_xfs)
file(MAKE_DIRECTORY ${writes_xfs})
add_vm_test(files.durable ONE_CPU LAB --share ${writes_xfs} --writes ${writes_xfs}/writes
  COMMAND ${python}/files/durable.py xfs)
set(writes_6_12 ${CMAKE_CURRENT_BINARY_DIR}/power_cut_6.12)
file(MAKE_DIRECTORY ${writes_6_12})
add_vm_test(files.6.12.durable LAB --kernel 6.12 --share ${writes_6_12} --writes ${writes_6_12}/writes
  COMMAND ${python}/files/durable.py ext4 xfs)
only_with_matrix(files.durable files.6.12.durable)
add_test(NAME soak.files.power_cut
  COMMAND ${CMAKE_SOURCE_DIR}/scripts/dmabuf-lab run --timeout 3000 --share ${writes} --writes ${writes}/writes --
    "${python}/files/power_cut.py --cuts 500 ext4 xfs")
set_tests_properties(soak.files.power_cut PROPERTIES LABELS soak RUN_SERIAL TRUE TIMEOUT 3600)
add_vm_test(files.fio ONE_CPU COMMAND ${python}/fio/files.py)
add_debug_test(files TIMEOUT 1800 COMMAND ${programs}/files --allow-skip landlock --allow-skip inotify --allow-skip ext2 ext4)
