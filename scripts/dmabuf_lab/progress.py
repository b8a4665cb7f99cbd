# SPDX-License-Identifier: GPL-2.0-only
"""Progress and failure messages, always on stderr so that stdout stays the command's."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


def say(text: str) -> None:
    """Prints one line on stderr, with the lab's prefix."""
    print(f"dmabuf-lab: {text}", file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Announces a step before it starts and says how many seconds it took when it succeeded."""
    start = time.monotonic()
    say(f"{text} …")
    yield
    say(f"{text}: done in {time.monotonic() - start:.0f} s")
