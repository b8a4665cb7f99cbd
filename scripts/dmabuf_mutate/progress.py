# SPDX-License-Identifier: GPL-2.0-only
"""Progress on stderr; stdout has the table alone."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


def say(text: str) -> None:
    """Prints one line on stderr."""
    print(f"dmabuf-mutate: {text}", file=sys.stderr, flush=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Announces a step, and says how many seconds it took."""
    start = time.monotonic()
    say(f"{text} …")
    yield
    say(f"{text}: done in {time.monotonic() - start:.0f} s")
