# SPDX-License-Identifier: GPL-2.0-only
"""The lab: a Debian root with kernels and QEMU, in which libdmabuf is built and run."""
