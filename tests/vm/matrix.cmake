# SPDX-License-Identifier: GPL-2.0-only
# ctest entries that show on each stock kernel that the module keeps its promises there: both
# directions against the witness, and the core of isolation. Included by CMakeLists.txt here.
#
# They have the label matrix. The default run has one of each amd64 kernel, but for 7.3 and 6.12, on which
# it has the whole witness and isolation, and one of arm64. The others have the label fetched, too, and are
# run by `scripts/check --matrix`. A kernel that set-up does not bring is fetched by the first test that asks for it.

if(DMABUF_TESTS STREQUAL "vm")
  return()
endif()

# What the combinations of exporter, datapath and target did is left there; `dmabuf-lab matrix` makes
# the table of docs/support-matrix.md of it.
set(matrix_results ${CMAKE_BINARY_DIR}/matrix)
file(MAKE_DIRECTORY ${matrix_results})

# FETCHED: not in the default run; the smoke has the witness of all exporters then. FIRST: it makes much when it first runs, and begins before the others.
# LAB: the lab's options, if not --kernel alone. EXPORTERS: others than udmabuf and heap; the first one is
# isolation's, whose group modes needs a heap. NO: what this kernel lacks, as GROUP/NAME of isolation's checks.
# NO_EXPORTER, NO_TRANSPORT: exporters and ways to an NVMe drive that it lacks.
function(add_smoke_test kernel)
  cmake_parse_arguments(PARSE_ARGV 1 test "FETCHED;FIRST" "" "LAB;EXPORTERS;NO;NO_EXPORTER;NO_TRANSPORT")
  # The other guests' kernels are where they are on every boot.
  if(NOT test_LAB)
    set(test_LAB --kernel ${kernel} --kaslr)
  endif()
  if(NOT test_EXPORTERS)
    set(test_EXPORTERS udmabuf-scattered heap)
  endif()
  list(GET test_EXPORTERS 0 first)
  # In the default run the witness looks at one; at all of them in vm.witness.KERNEL.
  list(JOIN test_EXPORTERS "," exporters)
  if(NOT test_FETCHED)
    add_test(NAME vm.witness.${kernel}
      COMMAND ${CMAKE_SOURCE_DIR}/scripts/dmabuf-lab run ${test_LAB} --programs witness --timeout 800 --
        "${programs}/witness --quick --fuzz 20 --load 1 --exporters ${exporters}")
    set_tests_properties(vm.witness.${kernel} PROPERTIES LABELS "matrix;fetched" TIMEOUT 1800)
    set(exporters ${first})
  endif()
  set(groups "")
  set(names handles ranges commands partition)
  if("heap" IN_LIST test_EXPORTERS)
    list(PREPEND names modes)
  endif()
  # No command would notice that such a skip does not come.
  foreach(lacking IN LISTS test_NO)
    string(REGEX REPLACE "/.*" "" group "${lacking}")
    if(NOT group IN_LIST names)
      message(FATAL_ERROR "smoke test of ${kernel}: the group of '${lacking}' does not run")
    endif()
  endforeach()
  foreach(group IN LISTS names)
    set(command "${programs}/isolation --only ${group} --exporter ${first}")
    foreach(lacking IN LISTS test_NO)
      string(APPEND command " --allow-skip '${lacking}'")
    endforeach()
    list(APPEND groups "${command}")
  endforeach()
  list(JOIN groups " && " isolation)
  add_test(NAME vm.smoke.${kernel}
    COMMAND ${CMAKE_SOURCE_DIR}/scripts/dmabuf-lab run ${test_LAB} --programs witness,isolation --timeout 800 --
      "${programs}/witness --quick --fuzz 20 --load 1 --exporters ${exporters} && ${isolation}")
  set(labels matrix vm)
  if(test_FETCHED)
    set(labels matrix fetched)
  endif()
  set_tests_properties(vm.smoke.${kernel} PROPERTIES LABELS "${labels}" TIMEOUT 1800)
  # One after the other at the end they would leave a CPU without work.
  set(cost 70)
  if(test_FIRST)
    set(cost 1000)
  endif()
  set_tests_properties(vm.smoke.${kernel} PROPERTIES COST ${cost})

  # The default run has this on 7.3, with a multipath head (vm.targets), and what users mount (vm.targets.stacks).
  set(targets "${python}/stacks/run.py --everything --results /share/${kernel}.json")
  foreach(lacking IN LISTS test_NO_EXPORTER)
    string(APPEND targets " --allow-skip ${lacking}")
  endforeach()
  foreach(lacking IN LISTS test_NO_TRANSPORT)
    string(APPEND targets " --without ${lacking}")
  endforeach()
  # Results of a run that failed or was killed, or of one before, are no results; that it failed is.
  add_test(NAME vm.matrix.${kernel}
    COMMAND sh -c "file=$1; shift; rm -f \"$file\".*; touch \"$file.failed\"; \
\"$@\" && rm \"$file.failed\" && exit; rm -f \"$file.json\"; exit 1"
      sh ${matrix_results}/${kernel}
      ${CMAKE_SOURCE_DIR}/scripts/dmabuf-lab run ${test_LAB} --errors --timeout 800
      --share ${matrix_results} -- "${targets}")
  set_tests_properties(vm.matrix.${kernel} PROPERTIES LABELS "matrix;fetched" TIMEOUT 1800)
endfunction()

add_smoke_test(7.3 FETCHED)
set(before_7_3 "ranges/ranges of a registered buffer")
set(before_7 ${before_7_3} "modes/one way for the drive")
add_smoke_test(6.12 FETCHED NO ${before_7})
add_smoke_test(7.2 NO ${before_7_3})
add_smoke_test(7.3-rt)
# Debian builds it without udmabuf, DMA heaps and nvme-loop.
add_smoke_test(6.1 EXPORTERS vgem virtio-gpu NO ${before_7_3}
  NO_EXPORTER udmabuf-scattered udmabuf-huge heap NO_TRANSPORT loop)

# arm64, with pages of both sizes, behind an SMMU and without. Debian builds no heaps for it. udmabuf
# takes the witness a minute for each datapath there: its SYNC is as dear as the whole buffer.
set(arm64 NO_EXPORTER heap)
add_smoke_test(7.3-arm64 FETCHED ${arm64} LAB --arch arm64 --kernel 7.3 --iommu strict
  EXPORTERS udmabuf-scattered vgem)
add_smoke_test(7.3-arm64-16k FIRST ${arm64} LAB --arch arm64 --kernel 7.3 --pages 16k --iommu off
  EXPORTERS vgem virtio-gpu)
add_smoke_test(6.12-arm64 FETCHED ${arm64} LAB --arch arm64 --kernel 6.12 --iommu strict
  EXPORTERS vgem virtio-gpu NO ${before_7_3})

# What else runs with pages of 16 KiB: everything that the module promises, but for what needs other machines. No script
# of the guest's packages ran: it has no mtab, which e4defrag reads.
add_test(NAME vm.arm64
  COMMAND ${CMAKE_SOURCE_DIR}/scripts/dmabuf-lab run --arch arm64 --kernel 7.3 --pages 16k --iommu strict --formats
    --append nvme.poll_queues=1 --timeout 1600 --
    "ln -s /proc/self/mounts /etc/mtab && \
${programs}/isolation --allow-skip 'one way for the drive' --allow-skip 'a dma-buf that nobody may read*' && ${programs}/rings --polled && ${programs}/ranges && \
${programs}/teardown --kills 4 && ${programs}/invalidate --quick && ${programs}/watch && ${programs}/testexp && \
${programs}/rwfile --seconds 1 --kills 1 --allow-skip 'a dma-buf that nobody may read*' && ${programs}/formats --allow-skip 'extended metadata' && ${programs}/files ext4")
set_tests_properties(vm.arm64 PROPERTIES LABELS "matrix;fetched" TIMEOUT 2400)

# PCI devices that do not look into the CPU's caches: premapped is refused, and AUTO takes another path.
add_test(NAME vm.smoke.incoherent_arm64
  COMMAND ${CMAKE_SOURCE_DIR}/scripts/dmabuf-lab run --arch arm64 --pages 16k --incoherent --iommu off
    --timeout 800 -- ${programs}/bounce)
set_tests_properties(vm.smoke.incoherent_arm64 PROPERTIES LABELS "matrix;fetched" TIMEOUT 1800)

# Secure Boot, with a key that signs modules as DKMS does. The firmware is fetched when it is first asked for.
add_test(NAME vm.secure_boot
  COMMAND ${CMAKE_SOURCE_DIR}/scripts/dmabuf-lab run --secure-boot --timeout 800 --
    ${python}/fio/secure_boot.py)
set_tests_properties(vm.secure_boot PROPERTIES LABELS "matrix;fetched" TIMEOUT 1800)

# The same with a key that is enrolled as a user does it. The firmware's variables and the key are kept from boot to boot.
add_test(NAME vm.secure_boot.enrolment
  COMMAND sh -c "folder=$1; shift; rm -rf \"$folder\" && mkdir \"$folder\" || exit 1
    for boot in '--env MOK_PASSWORD=lab-12345 -- ${python}/fio/enrolment.py ask' \
      '--no-build --mok-password lab-12345 -- ${python}/fio/enrolment.py use'; do
      \"$@\" --secure-boot --flash \"$folder/flash\" --share \"$folder\" --timeout 400 $boot || exit 1
    done"
    sh ${CMAKE_BINARY_DIR}/enrolment ${CMAKE_SOURCE_DIR}/scripts/dmabuf-lab run)
set_tests_properties(vm.secure_boot.enrolment PROPERTIES LABELS "matrix;fetched" TIMEOUT 1200)
