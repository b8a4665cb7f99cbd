# SPDX-License-Identifier: GPL-2.0-only
"""Makes the package importable for its tests."""

import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
