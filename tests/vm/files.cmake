# SPDX-License-Identifier: GPL-2.0-only
# ctest entries for files/: regular files that are held still. Included by CMakeLists.txt here.

if(DMABUF_TESTS STREQUAL "vm")
  return()
endif()

add_vm_test(files.ext4 LAB COMMAND ${programs}/files ext4)
add_vm_test(files.xfs LAB COMMAND ${programs}/files xfs)
add_vm_test(files.6.12 LAB --kernel 6.12 COMMAND ${programs}/files ext4 xfs)
add_vm_test(files.fio LAB COMMAND ${python}/fio/files.py)
add_debug_test(files TIMEOUT 1800 COMMAND ${programs}/files --allow-skip landlock ext4)
