# SPDX-License-Identifier: GPL-2.0-only
"""Drives that a hypervisor makes up, whose figures say nothing about hardware."""

import re

# The PCI vendors of drives that are none: QEMU, virtio, VMware, VirtualBox, Parallels, bhyve, and the
# clouds of Amazon, Google and Microsoft.
VIRTUAL_VENDORS = ("0x1b36", "0x1af4", "0x15ad", "0x80ee", "0x1ab8", "0xfb5d", "0x1d0f", "0x1ae0", "0x1414")
# How they call themselves, and Linux's own target.
_VIRTUAL_MODEL = re.compile(
    r"QEMU|VMware|ORCL-VBOX|VBOX|Parallels|bhyve|Amazon (Elastic Block Store|EC2)|nvme_card|Google "
    r"|(MSFT|Microsoft) NVMe|Linux$",
    re.IGNORECASE,
)


def drive(model: str, vendor: str = "") -> bool:
    """Whether a drive of this model, from this PCI vendor ("0x144d"), is made up."""
    return vendor in VIRTUAL_VENDORS or _VIRTUAL_MODEL.match(model) is not None
