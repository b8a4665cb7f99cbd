# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel says of an open block device, by its descriptor alone."""

import errno
import fcntl
import os
import stat
import struct
import time

# <linux/fs.h>
_BLKGETSIZE64, _BLKGETDISKSEQ = 0x80081272, 0x80081280
# <linux/loop.h>: struct loop_info64 has this size, and its third number is the device that the file is, if any.
_LOOP_GET_STATUS64, _LOOP_INFO64 = 0x4C05, 232


class Devices:
    """What the kernel says of an open descriptor; tests bring devices of their own."""

    # A drive that has just come is claimed for a moment by those who look what it is.
    patience_s = 3.0

    def open(self, path: str, flags: int) -> int:
        """Opens it; no child gets it unasked."""
        return os.open(path, flags | os.O_CLOEXEC)

    def look(self, path: str) -> int:
        """A descriptor that says what is there, and no more: what is there is not opened, and does not
        notice."""
        return os.open(path, os.O_PATH | os.O_CLOEXEC)

    def claim(self, path: str, flags: int) -> int:
        """Opens it so that nobody else can claim it. Raises OSError with EBUSY when somebody has, and
        still has after a while."""
        end = time.monotonic() + self.patience_s
        while True:
            try:
                return self.open(path, flags | os.O_EXCL)
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > end:
                    raise
            time.sleep(0.1)

    def number(self, descriptor: int) -> str:
        """The device number, MAJOR:MINOR; "" where it is no block device."""
        found = os.fstat(descriptor)
        if not stat.S_ISBLK(found.st_mode):
            return ""
        return f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"

    def bytes(self, descriptor: int) -> int:
        """Its size now; 0 for a drive that is gone."""
        return self._u64(descriptor, _BLKGETSIZE64) or 0

    def diskseq(self, descriptor: int) -> str:
        """The number that the kernel gives to each disk it meets, never twice until it boots again.
        "" before Linux 5.15."""
        number = self._u64(descriptor, _BLKGETDISKSEQ)
        return "" if number is None else str(number)

    def behind_loop(self, path: str, number: str) -> str | None:
        """The number of the block device that a loop device, of this number itself, has as its file; "" where
        that is a regular file, None where the loop device does not say."""
        try:
            descriptor = self.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            if self.number(descriptor) != number:
                return None
            said = fcntl.ioctl(descriptor, _LOOP_GET_STATUS64, bytes(_LOOP_INFO64))
        except OSError:
            return None
        finally:
            os.close(descriptor)
        device = int(struct.unpack_from("=Q", said, 16)[0])
        return f"{os.major(device)}:{os.minor(device)}" if device else ""

    def _u64(self, descriptor: int, request: int) -> int | None:
        try:
            return int(struct.unpack("=Q", fcntl.ioctl(descriptor, request, bytes(8)))[0])
        except OSError:
            return None
