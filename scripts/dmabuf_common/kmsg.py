# SPDX-License-Identifier: GPL-2.0-only
"""The kernel's log as /dev/kmsg has it, from a moment or a record on."""

import os
from types import TracebackType

PATH = "/dev/kmsg"
# Stands where messages were overwritten before they were read.
OVERRAN = "the kernel's log overran"
# No record of the kernel's is longer.
_RECORD_BYTES = 16384


class KernelLog:
    """Kernel messages from the moment it is opened, or those after the record number `after`;
    -1: all that are still there. Without the right to read them there are none: see `readable`."""

    def __init__(self, path: str = PATH, after: int | None = None) -> None:
        self.newest = -1 if after is None else after
        self._fd = -1
        # Until the first record that is new: whether it is the one that comes next.
        self._skipping = after is not None
        self._lost = False
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            if after is None:
                os.lseek(self._fd, 0, os.SEEK_END)
        except OSError:
            self.close()

    def __enter__(self) -> "KernelLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def readable(self) -> bool:
        """Whether messages can be seen at all."""
        return self._fd >= 0

    def messages(self) -> list[str]:
        """What was said since the last call; OVERRAN stands for what was lost."""
        found: list[str] = []
        while self._fd >= 0:
            try:
                record = os.read(self._fd, _RECORD_BYTES)
            except BlockingIOError:
                break
            except BrokenPipeError:  # messages were overwritten before they were read
                self._lost = True
                continue
            except OSError:
                self._lost = True
                break
            if not record:
                break
            self._add(found, record.decode(errors="replace"))
        if self._lost and not self._skipping:
            found.append(OVERRAN)
            self._lost = False
        return found

    def _add(self, found: list[str], record: str) -> None:
        head, _, text = record.partition(";")
        fields = head.split(",")
        if len(fields) < 2 or not fields[1].isdecimal():
            return
        number = int(fields[1])
        if self._skipping:
            if number <= self.newest:
                self._lost = False  # what was lost is older than what is asked for
                return
            self._skipping = False
            self._lost = self.newest >= 0 and number > self.newest + 1
        if self._lost:
            found.append(OVERRAN)
            self._lost = False
        self.newest = number
        found.append(text.splitlines()[0] if text else "")

    def close(self) -> None:
        """No more messages."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def newest(path: str = PATH) -> int:
    """The number of the latest record; -1 when there is none that may be read."""
    with KernelLog(path, after=-1) as log:
        log.messages()
        return log.newest


def after(number: int, path: str = PATH) -> list[str] | None:
    """What was said after a record (-1: all that is still there); None when it cannot be read."""
    with KernelLog(path, after=number) as log:
        messages = log.messages()
        return messages if log.readable else None
