# SPDX-License-Identifier: GPL-2.0-only
"""Messages of this program on stderr."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dmabuf_common.terminal import Voice

_VOICE = Voice("dmabuf-lab")
say, step = _VOICE.say, _VOICE.step

# How often a step that fetches something says how far it is.
EVERY_S = 30.0


def _bytes_in(folder: Path) -> int:
    """The lengths of all files below a folder; what goes away in the middle counts nothing."""
    total = 0
    for here, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(here, name)).st_size
            except FileNotFoundError:
                pass
    return total


@contextmanager
def fetching(text: str, *folders: Path) -> Iterator[None]:
    """A step that fills folders by the network: it says now and then how much is there, as a mirror may be slow."""
    over = threading.Event()
    before = sum(map(_bytes_in, folders))

    def tell() -> None:
        while not over.wait(EVERY_S):
            come = max(sum(map(_bytes_in, folders)) - before, 0)
            say(f"{text}: {come / (1 << 20):.1f} MiB so far")

    teller = threading.Thread(target=tell, daemon=True)
    with step(text):
        teller.start()
        try:
            yield
        finally:
            over.set()
            teller.join()
