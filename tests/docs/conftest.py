# SPDX-License-Identifier: GPL-2.0-only
"""Where the tree is, for the stand-ins."""

import os
from pathlib import Path

os.environ.setdefault("DMABUF_ROOT", str(Path(__file__).resolve().parents[2]))
