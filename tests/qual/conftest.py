# SPDX-License-Identifier: GPL-2.0-only
"""Makes the packages importable for their tests, and the machine on which a run is made up."""

import sys
from pathlib import Path

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
# pylint: disable=wrong-import-position
from runs import Machine  # noqa: E402

from dmabuf_common import kmsg, measuring  # noqa: E402
from dmabuf_qual import environment, suite  # noqa: E402
from dmabuf_qual.execute import Bench  # noqa: E402


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path, monkeypatch)

    class Log(kmsg.KernelLog):
        """Reads a file line by line, as the device gives a record each time."""

        def messages(self) -> list[str]:
            found: list[str] = []
            if not self.readable:
                return found
            for line in made.log.read_text().splitlines():
                if int(line.split(",")[1]) > self.newest:
                    self._add(found, line)
            return found

    def newest(_path: str = "") -> int:
        return made.number

    monkeypatch.setattr(measuring, "FOLDERS", (tmp_path,))
    monkeypatch.setattr(kmsg, "PATH", str(made.log))
    monkeypatch.setattr(kmsg, "KernelLog", Log)
    monkeypatch.setattr(kmsg, "newest", newest)
    monkeypatch.setattr(Bench, "run", lambda bench, case: made.run(bench, case))
    monkeypatch.setattr(suite.drives, "health", lambda _drive: None)
    monkeypatch.setattr(environment, "facts", lambda *_: [list(fact) for fact in made.facts])
    works = {"works": True, "name": "", "text": "", "facts": {}}
    monkeypatch.setattr(suite, "probe", lambda _t, _d, _e, path: {**works, "works": path == "premapped"})
    return made
