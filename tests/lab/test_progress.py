# SPDX-License-Identifier: GPL-2.0-only
"""What a step that fetches says of how much has come: that, and nothing else that is there."""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from dmabuf_lab import kept, progress, root

MIB = 1 << 20


@pytest.fixture(name="told")
def _told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[], list[float]]:
    monkeypatch.setattr(progress, "EVERY_S", 0.02)

    def figures() -> list[float]:
        """Those that it says from now on."""
        capsys.readouterr()
        end = time.monotonic() + 60
        said = ""
        while len(said.splitlines()) < 3 and time.monotonic() < end:
            time.sleep(0.02)
            said += capsys.readouterr().err
        # The first one may have been counted before.
        return [float(figure) for figure in re.findall(r"(\S+) MiB so far", said)][1:]

    return figures


def test_what_was_kept_and_what_is_made_beside_it_do_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Callable[[], list[float]]
) -> None:
    """As a set-up does it: packages are lent, others come, all are unpacked, and fio is built in the same root."""
    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path / "cache"))
    target = tmp_path / "root"
    archives = target / kept.ARCHIVES
    (tmp_path / "before").mkdir()
    (tmp_path / "before/old_1_all.deb").write_bytes(bytes(5 * MIB))
    kept.keep("root", tmp_path / "before")
    with progress.fetching("making a root", *root.network_folders(target), kept=kept.folder()):
        archives.mkdir(parents=True)
        kept.lend(archives)
        (target / "usr/local/src").mkdir(parents=True)
        (target / "usr/local/src/fio.o").write_bytes(bytes(7 * MIB))
        assert (archives / "old_1_all.deb").stat().st_size == 5 * MIB
        assert set(told()) == {0.0}
        (archives / "new_1_all.deb").write_bytes(bytes(2 * MIB))
        (target / root.KERNEL).mkdir(parents=True)
        (target / root.KERNEL / "linux_1_amd64.deb").write_bytes(bytes(MIB))
        assert set(told()) == {3.0}
        # What is kept after it came has come all the same, and so has what apt throws away.
        kept.keep("root", archives)
        assert set(told()) == {3.0}
        os.unlink(archives / "new_1_all.deb")
        assert set(told()) == {3.0}
