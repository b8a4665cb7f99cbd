# SPDX-License-Identifier: GPL-2.0-only
# ctest entries that show on each stock kernel that the module keeps its promises there: both
# directions against the witness, and the core of isolation. Included by CMakeLists.txt here.
#
# They have the label matrix. The default run has those of the kernels that set-up brings. The others,
# which have the label fetched, too, are fetched when `scripts/check --matrix` first asks for them.

if(DMABUF_TESTS STREQUAL "vm")
  return()
endif()

# FETCHED: not in the default run. EXPORTERS: others than udmabuf and heap; the first one is isolation's,
# whose group modes needs a heap. NO: what this kernel lacks, as isolation's checks name it.
function(add_smoke_test kernel)
  cmake_parse_arguments(PARSE_ARGV 1 test "FETCHED" "" "EXPORTERS;NO")
  if(NOT test_EXPORTERS)
    set(test_EXPORTERS udmabuf-scattered heap)
  endif()
  list(GET test_EXPORTERS 0 first)
  list(JOIN test_EXPORTERS "," exporters)
  set(groups "")
  set(names handles ranges commands partition)
  if("heap" IN_LIST test_EXPORTERS)
    list(PREPEND names modes)
  endif()
  foreach(group IN LISTS names)
    set(command "${programs}/isolation --only ${group} --exporter ${first}")
    foreach(lacking IN LISTS test_NO)
      string(APPEND command " --allow-skip '${lacking}'")
    endforeach()
    list(APPEND groups "${command}")
  endforeach()
  list(JOIN groups " && " isolation)
  add_test(NAME vm.smoke.${kernel}
    COMMAND ${CMAKE_SOURCE_DIR}/scripts/dmabuf-lab run --kernel ${kernel} --timeout 800 --
      "${programs}/witness --quick --fuzz 20 --load 1 --exporters ${exporters} && ${isolation}")
  set(labels matrix vm)
  if(test_FETCHED)
    set(labels matrix fetched)
  endif()
  set_tests_properties(vm.smoke.${kernel} PROPERTIES LABELS "${labels}" TIMEOUT 1800)
endfunction()

add_smoke_test(7.3)
set(before_7_1 "ranges of a registered buffer" "one way for the drive")
add_smoke_test(6.12 NO ${before_7_1})
add_smoke_test(7.2 FETCHED)
add_smoke_test(7.3-rt FETCHED)
# Debian builds it without udmabuf and DMA heaps.
add_smoke_test(6.1 FETCHED EXPORTERS vgem virtio-gpu NO ${before_7_1})
