# SPDX-License-Identifier: GPL-2.0-only
"""A night that was judged with --need-baseline stays so, whoever looks at it later."""

import json
import re
import sqlite3
from pathlib import Path

import pytest
from dmabuf_nightly import analyse
from dmabuf_nightly.store import Store
from made import Made
from test_migrate import HERE, filled


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Two nights without a baseline, of which one is demanded."""
    found = Made(tmp_path / "s.db")
    found.night(1000)
    found.night(1000)
    assert found.call("analyze", "--need-baseline") == 77
    return found


def test_a_report_demands_what_the_night_did(made: Made, tmp_path: Path) -> None:
    assert made.call("report", "--out", str(tmp_path / "out"), "--format", "json") == 0
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert found["verdict"]["status"] == "inconclusive" and "one is demanded" in found["verdict"]["text"]


def test_what_is_published_is_what_is_stored(made: Made, tmp_path: Path) -> None:
    assert made.call("publish", "--plan", "p", "--out", str(tmp_path / "out")) == 0
    page = (tmp_path / "out/night-0002/index.html").read_text()
    assert "one is demanded" in page
    assert re.findall(r'class="(\w+)">\w+</span>', (tmp_path / "out/index.html").read_text()) == [
        "inconclusive", "inconclusive"
    ]


def test_analyze_again_demands_it_still(made: Made) -> None:
    assert made.call("analyze") == 77
    assert made.call("analyze", "--night", "1") == 77
    made.night(1000)
    assert made.call("analyze") == 0  # of this night nobody demanded one


@pytest.mark.parametrize("old", ["version-1", "version-2", "version-3"])
def test_an_old_store_says_where_one_was_demanded(tmp_path: Path, old: str) -> None:
    path = filled((HERE / f"stores/{old}.sql").read_text(), tmp_path / "s.db")
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM decision")
        text = "no baseline is pinned, and one is demanded; `dmabuf-nightly baseline pin --plan p` pins one"
        db.execute("INSERT INTO decision VALUES (3, 'c', '', 'local', 'read_iops', 'inconclusive', 'baseline', ?)",
                   (json.dumps({"text": text, "threshold": 0.02, "ratio": None}),))
    db.close()
    store = Store(path)
    assert [night.need_baseline for night in store.nights()] == [False, False, True, False]
    assert not analyse.judge_night(store, store.night(2)).need_baseline
