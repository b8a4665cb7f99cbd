# SPDX-License-Identifier: GPL-2.0-only
"""Messages of this program on stderr."""

import os
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from dmabuf_common.terminal import Voice

_VOICE = Voice("dmabuf-lab")
say, step = _VOICE.say, _VOICE.step

# How often a step that fetches something says how far it is.
EVERY_S = 30.0


def _bytes_in(folder: Path, leave: Collection[int]) -> int:
    """The lengths of all files below a folder, without those inodes; what goes away in the middle counts nothing."""
    total = 0
    for here, _, names in os.walk(folder):
        for name in names:
            try:
                about = os.lstat(os.path.join(here, name))
            except FileNotFoundError:
                continue
            if about.st_ino not in leave:
                total += about.st_size
    return total


@contextmanager
def fetching(text: str, *folders: Path, kept: Path | None = None) -> Iterator[None]:
    """A step that fills folders by the network: it says now and then how much has come, as a mirror may be slow.

    kept: where the packages are that need not come; links to them are no part of it.
    """
    over = threading.Event()
    leave = {file.inode() for file in os.scandir(kept)} if kept is not None else set()

    def there() -> int:
        return sum(_bytes_in(folder, leave) for folder in folders)

    before = there()

    def tell() -> None:
        come = 0
        while not over.wait(EVERY_S):
            # apt may throw away what it has installed.
            come = max(there() - before, come)
            say(f"{text}: {come / (1 << 20):.1f} MiB so far")

    teller = threading.Thread(target=tell, daemon=True)
    with step(text):
        teller.start()
        try:
            yield
        finally:
            over.set()
            teller.join()
