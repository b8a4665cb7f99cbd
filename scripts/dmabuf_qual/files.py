# SPDX-License-Identifier: GPL-2.0-only
"""Small files of /sys and /proc, below a root so that tests can bring their own."""

from pathlib import Path


class Files:
    """Reads below `root`; what is not there or not permitted is None or empty."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Where an absolute name really is."""
        return self.root / name.lstrip("/")

    def exists(self, name: str) -> bool:
        """Whether it is there."""
        return self.path(name).exists()

    def text(self, name: str) -> str | None:
        """The contents without white space at the ends."""
        try:
            return self.path(name).read_text(errors="replace").strip()
        except OSError:
            return None

    def number(self, name: str) -> int | None:
        """A decimal number; None when it is none."""
        text = self.text(name)
        try:
            return None if text is None else int(text)
        except ValueError:
            return None

    def data(self, name: str) -> bytes:
        """The raw bytes."""
        try:
            return self.path(name).read_bytes()
        except OSError:
            return b""

    def names(self, folder: str) -> list[str]:
        """What a folder has."""
        try:
            return sorted(entry.name for entry in self.path(folder).iterdir())
        except OSError:
            return []

    def real(self, name: str) -> str:
        """The name with links followed, as seen from the root."""
        real = self.path(name).resolve()
        try:
            return "/" + str(real.relative_to(self.root.resolve()))
        except ValueError:
            return str(real)
