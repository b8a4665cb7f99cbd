# SPDX-License-Identifier: GPL-2.0-only
# ctest entries for what the module promises beyond moving bytes: rings of every kind, device
# memory, memory that moves, drives that fail, buffers past 4 GiB, and the older kernel.

if(DMABUF_TESTS STREQUAL "vm")
  return()
endif()

set(library "${python}/examples/library.py")
add_vm_test(rings LAB --append nvme.poll_queues=1 COMMAND
  ${programs}/rings --polled && ${python}/fio/polled.py)
# Several ranges in one command. Before it, skips: a program fails if its --allow-skip is not used.
add_vm_test(ranges COMMAND ${programs}/skips && ${programs}/ranges && ${python}/fio/ranges.py)
add_vm_test(ranges.kernel_6_12 LAB --kernel 6.12 COMMAND
  ${programs}/ranges --allow-skip 'ranges while the memory moves')
# What fio does in the middle of a job.
add_vm_test(fio.contract LAB --append nvme.poll_queues=1 COMMAND ${python}/fio/contract.py)
# Drives that people reported trouble with. Two CPUs: with one, drives begin with mq-deadline, and what that merges of a drive
# with PI Linux 7.3.4 warns of behind an IOMMU (dma_iova_link).
add_vm_test(fio.reported LAB --formats COMMAND ${python}/fio/reported.py)
add_vm_test(large LAB --memory 7168 COMMAND ${programs}/large)
# First two NVMe drives at once; the fourth namespace of the second one is a plain one of 4 KiB blocks.
add_vm_test(formats LAB --formats COMMAND
  ${library} importers ${programs} $DEV /dev/nvme1n4 && ${programs}/formats --allow-skip 'extended metadata' && ${programs}/drives)
add_vm_test(formats.kernel_6_12 LAB --formats --kernel 6.12 COMMAND
  ${programs}/formats --allow-skip 'extended metadata' --allow-skip '16 KiB blocks' && ${programs}/drives)
only_with_matrix(formats.kernel_6_12 ranges.kernel_6_12)
add_vm_test(p2p LAB --p2p --iommu strict COMMAND
  ${programs}/p2p && ${programs}/targets --p2p && ${python}/qual/machine.py peer)
# fio on memory that the CPU does not map. One CPU: QEMU, emulating two, sometimes ends with an
# assertion (iotlb_to_section) when a function that is given back is reset and its BAR goes.
set(bar --p2p --iommu strict --smp 1)
add_vm_test(fio.bar LAB ${bar} COMMAND ${python}/fio/device.py bar)
add_vm_test(fio.bar_refusals LAB ${bar} COMMAND ${python}/fio/device.py refusals)
# dmabuf-integrity on it, and the question without I/O. Each of the four begins with a function that no driver has.
add_vm_test(integrity.bar LAB ${bar} COMMAND ${python}/gpu/integrity.py bar)
add_vm_test(paths.bar LAB ${bar} COMMAND ${python}/qual/routes.py bar)
# Linux trusts peer-to-peer through the host bridge of some processors only; not of this one.
add_vm_test(p2p.no_route LAB ${bar} --cpu qemu64 COMMAND ${programs}/p2p --no-route && ${python}/qual/routes.py no-route)
add_vm_test(fio.bar_no_route LAB ${bar} --cpu qemu64 COMMAND ${python}/fio/device.py no-route)
add_vm_test(fio.bar_no_iommu LAB --p2p --iommu off COMMAND ${python}/fio/device.py no-iommu)
add_vm_test(fio.bar_old_kernel LAB ${bar} --kernel 6.12 COMMAND ${python}/fio/device.py old-kernel)
# The IOMMU's faults are what is asked for.
add_vm_test(qual.unmapped
  LAB ${bar} --switch --expect "DMAR: (DRHD: handling fault|\\[DMA (Read|Write) NO_PASID\\] Request device)"
  COMMAND ${python}/qual/machine.py unmapped)
# Memory of the user's own, by a plug-in and over a socket; qual's part last.
add_vm_test(plugin ONE_CPU COMMAND ${python}/gpu/plugin.py)
# Drives on every branch of a machine; the BAR is behind the switch, and a BAR needs an IOMMU here.
set(topology --topology --memory 4096)
add_vm_test(topology LAB ${topology} --iommu strict COMMAND
  ${programs}/branches --node 1 && ${python}/fio/topology.py bar)
add_vm_test(topology.no_iommu LAB ${topology} --iommu off COMMAND
  ${programs}/branches && ${python}/fio/topology.py)
only_with_matrix(topology.no_iommu)
add_vm_test(loss LAB --qmp COMMAND ${programs}/loss)
# The test exporter itself. The framework warns when an exporter's vmap fails. One carve-out lies
# amid RAM and has struct pages; the other fills a section of the memory map, which then has none.
add_vm_test(testexp COMMAND ${programs}/testexp)
add_vm_test(testexp.kernel_6_12 LAB --kernel 6.12 COMMAND ${programs}/testexp)
set(vmap_fails --expect "WARNING: .*drivers/dma-buf/dma-buf.c:\\d+ (at )?dma_buf_vmap")
add_vm_test(testexp.vmap_refused LAB ${vmap_fails} COMMAND ${programs}/testexp --refuse-vmap)
set(carved --append "memmap=16M$0x30000000 memmap=128M$0x28000000")
set(ranges "--with-pages 0x30000000,16M --without-pages 0x28000000,16M")
add_vm_test(testexp.carveout LAB ${carved} COMMAND ${programs}/testexp ${ranges})
add_vm_test(testexp.carveout_6_12 LAB --kernel 6.12 ${carved} COMMAND
  ${programs}/testexp ${ranges})
only_with_matrix(testexp.kernel_6_12 testexp.carveout_6_12)
add_vm_test(invalidate COMMAND ${programs}/invalidate --quick && ${programs}/watch)

# A dma-buf as a file, RW, libdmabuf_rw and the examples. The second drive is one that premapped does not take.
add_vm_test(rwfile COMMAND ${programs}/rwfile && ${python}/examples/documented.py ${programs} &&
  ${programs}/library && ${library} importers ${programs} $DEV /dev/vda && ${library} network ${programs})

# A check that is skipped fails its entry, but for what the older kernel lacks: registered buffers,
# and memory that moves while it is mapped. An entry that allows a skip which does not come fails, too.
set(no_registered --allow-skip 'ranges of a registered buffer' --allow-skip slots
  --allow-skip 'MAP with AUTO' --allow-skip 'one way for the drive')
set(no_moves --allow-skip load --allow-skip twins --allow-skip 'third map fails'
  --allow-skip 'registered holds the memory still' --allow-skip 'second lists after a move')
add_vm_test(kernel_6_12 LAB --kernel 6.12 COMMAND
  ${programs}/isolation ${no_registered} && ${programs}/rings && ${programs}/teardown --kills 4 &&
  ${programs}/witness --quick --fuzz 100 --load 2 --exporters udmabuf-scattered,heap &&
  ${programs}/targets --exporters udmabuf-huge,testexp-gpu && ${programs}/invalidate --quick kill revoke fences &&
  ${programs}/rwfile --seconds 1 --kills 1 --allow-skip 'RW while the memory moves' &&
  ${programs}/library --no-registered && ${library} importers ${programs} $DEV /dev/vda &&
  ${library} network-refused ${programs})
add_vm_test(kernel_6_12.invalidate LAB --kernel 6.12 COMMAND
  ${programs}/invalidate --quick ${no_moves})

add_vm_test(kernel_6_12.rwfile LAB --kernel 6.12 COMMAND
  ${programs}/rwfile --seconds 1 --kills 3 --allow-skip 'RW while the memory moves' && ${python}/examples/documented.py ${programs})
# The default run has on 6.12 what is in kernel_6_12, attacks and files on ext4.
only_with_matrix(kernel_6_12.invalidate kernel_6_12.rwfile)

add_test(NAME soak.invalidate
  COMMAND ${CMAKE_SOURCE_DIR}/scripts/dmabuf-lab run --timeout 900 --
    ${programs}/invalidate --seconds 60)
add_test(NAME soak.generations
  COMMAND ${CMAKE_SOURCE_DIR}/scripts/dmabuf-lab run --timeout 3000 --
    ${programs}/isolation --only generations)
set_tests_properties(soak.generations PROPERTIES LABELS soak RUN_SERIAL TRUE TIMEOUT 3600)
set_tests_properties(soak.invalidate PROPERTIES LABELS soak RUN_SERIAL TRUE TIMEOUT 1200)
