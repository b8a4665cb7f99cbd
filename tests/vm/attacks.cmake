# SPDX-License-Identifier: GPL-2.0-only
# ctest entries for attacks/: what users, drives and other parts of the kernel once could do to the
# module. Included by CMakeLists.txt here. attacks/README.md says what each is about.

if(DMABUF_TESTS STREQUAL "vm")
  return()
endif()

# A watcher that may forbid (fanotify) taints the kernel, whose own message that is.
add_vm_test(attacks
  LAB --append nvme.poll_queues=1 ${poison}
    --expect "Using fanotify permission checks may lead to deadlock. tainting kernel"
  COMMAND
  ${programs}/attacks publish durability dead-task heirless crowd killed late-fence stale-sqe stale-copy uncounted
    checks file-rules personality busy-file debugfs polled-cache cpu-access cpu-copies pin late-return flags)
# A queue that can be frozen by its name, one mapping for each page, and a disk that is found until its
# driver has left.
add_vm_test(attacks.plain_disk LAB --no-multipath --iommu off COMMAND
  ${programs}/attacks prp-words late-send frozen classify leaving)
# Behind an IOMMU the NVMe driver of 7.3.4 fails what xfs writes of its own to such a disk, and warns
# (dma_iova_link).
add_vm_test(attacks.sums LAB --iommu off --formats COMMAND ${programs}/attacks cpu-sums)
# The drive gets stuck until its driver gives up on it: those are the driver's messages. That a user's
# own time-out provokes none of them, the attack checks itself.
add_vm_test(attacks.timeouts
  LAB --qmp
    --expect "I/O tag \\d+ .* timeout, (aborting|reset controller)"
    --expect "nvme\\d+: Abort status: 0x"
  COMMAND ${programs}/attacks timeouts && ${programs}/loss slow)
add_vm_test(attacks.stuck LAB --qmp --formats COMMAND
  ${programs}/attacks stale-cache long-submit removal)
# An exporter that refuses is no controller that left: what it says is what the caller hears.
add_vm_test(attacks.paths LAB --paths 2 COMMAND
  ${programs}/attacks path-change multipath && ${programs}/invalidate --quick refusals revoke)
# There io_uring forgets what a worker is to do; what else waits on the way to another controller.
add_vm_test(attacks.6.12 LAB --kernel 6.12 --paths 2 COMMAND
  ${programs}/attacks late-fence stale-sqe stale-copy multipath)
add_vm_test(fio.paths ONE_CPU LAB --paths 2 COMMAND ${python}/fio/paths.py)
# One namespace as a multipath head, and the same by two names. Each of these changes what the machine has.
add_vm_test(guard.head ONE_CPU LAB --paths 2 COMMAND ${python}/qual/routes.py head && ${python}/drive/guard.py head)
set(names --paths 2 --append nvme_core.multipath=N)
add_vm_test(guard ONE_CPU LAB ${names} COMMAND ${python}/drive/guard.py)
add_vm_test(drive_claim ONE_CPU LAB ${names} COMMAND ${python}/drive/claim.py)
add_vm_test(nightly.drives ONE_CPU LAB ${names} COMMAND ${python}/nightly/drives.py)
# Memory that the kernel does not use: above 4 GiB.
add_vm_test(attacks.no_pages LAB --memory 3072 --append mem=4G COMMAND ${programs}/attacks carveout)
