# SPDX-License-Identifier: GPL-2.0-only
"""What a run of the matrix tested: the module that is loaded, the sources that it was built from, and the QEMU that runs
the guest. Needs only the standard library."""

import hashlib
import os
from pathlib import Path

# What make copies to where it builds the module. srcversion does not name these alone: the build of 6.12 and older takes
# the probes' answers into it, so that it differs from kernel to kernel.
SOURCES = ("*.c", "*.h", "Kbuild", "probes/*.c", "probes/Kbuild", "uapi/linux/dmabuf_rw.h")


def tested(kernel: Path, built: Path, loaded: Path) -> dict[str, str]:
    """Version, srcversion and digest of the sources. kernel: that folder of the checkout; built: where the module was built;
    loaded: the module's folder in /sys/module. ValueError: the checkout has other sources than the module."""
    digest = hashlib.sha256()
    for name in sorted(str(path.relative_to(kernel)) for pattern in SOURCES for path in kernel.glob(pattern)):
        source = (kernel / name).read_bytes()
        if not (built / name).is_file() or (built / name).read_bytes() != source:
            raise ValueError(f"the module was not built from the checkout: {name} differs")
        digest.update(f"{name} {len(source)}\n".encode() + source)
    found = {name: (loaded / name).read_text().strip() for name in ("version", "srcversion")}
    return {**found, "source": digest.hexdigest()[:12]}


def here() -> dict[str, object]:
    """Of this guest, as its results have it."""
    module = tested(Path("/src/kernel"), Path(os.environ["DMABUF_RW_KO"]).parent, Path("/sys/module/dmabuf_rw"))
    return {"qemu": os.environ["LAB_QEMU"], "module": module}
