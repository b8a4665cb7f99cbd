# SPDX-License-Identifier: GPL-2.0-only
"""What is published of a night: a page of its own, a list, and nothing that is nobody's business."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made import KEY, Made

SECRET = {"drive serial": "S5SECRET", "kernel parameters": "root=UUID=4711 password=x"}


class Links(HTMLParser):
    """Where a page leads, and what it says of its nights."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [value or "" for name, value in attrs if name in ("href", "src")]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    found = Made(tmp_path / "s.db")
    for _ in range(6):
        found.night(1000, key={**KEY, **SECRET})
    assert found.call("baseline", "pin", "--plan", "p", "--nights", "1,2,3") == 0
    assert found.call("analyze") == 0
    return found


def test_a_page_a_night_and_a_list_of_them(made: Made, tmp_path: Path) -> None:
    out = tmp_path / "www"
    publish = ("publish", "--plan", "p", "--out", str(out))
    assert made.call(*publish) == 0
    for _ in range(2):
        made.night(500, key={**KEY, **SECRET})
    assert made.call("analyze") == 1
    made.store.db.execute("UPDATE night SET label = '<script>alert(1)</script>' WHERE id = 8")
    assert made.call(*publish) == 0
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == [
        "index.html", "night-0006/index.html", "night-0008/index.html",
    ]
    text = (out / "index.html").read_text()
    page = Links(text)
    assert [link for link in page.found if link.startswith("night")] == [
        "night-0008/index.html", "night-0006/index.html"
    ]
    assert all((out / link).is_file() for link in page.found if not link.startswith("data:"))
    rows = re.findall(r'<tr><td>(?:<a [^>]*>)?(\d+).*?class="(\w+)"', text)
    assert rows == [("8", "fail"), ("7", "inconclusive"), *((str(n), "pass") for n in range(6, 0, -1))]
    assert "script" not in page.tags and "&lt;script&gt;" in text
    assert "worse than baseline of nights 1, 2, 3" in text
    night = (out / "night-0008/index.html").read_text()
    assert "Night 8 of plan p" in night and "a processor" in night and "not published" in night
    for name in out.rglob("*.html"):
        for value in SECRET.values():
            assert value not in name.read_text(), name
    # Each page stands by itself.
    assert all(link.startswith(("#", "data:")) for link in Links(night).found)


def test_what_nobody_judged_is_not_published(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made.night(500)
    out = ("--out", str(tmp_path / "www"))
    assert made.call("publish", "--plan", "p", "--night", "7", *out) == 2
    assert "plan p has no night 7 that was judged" in capsys.readouterr().err
    assert made.call("publish", "--plan", "q", *out) == 2
    assert not (tmp_path / "www").exists()
    assert made.call("publish", "--plan", "p", "--night", "2", *out) == 0
    assert (tmp_path / "www/night-0002/index.html").is_file()
    assert made.store.night(7).status == "measured"


def test_a_page_and_its_list_say_the_same(made: Made, tmp_path: Path) -> None:
    """What was acknowledged after the night was judged is on the page, and not in what is stored."""
    out = tmp_path / "www"
    for _ in range(2):
        made.night(500, key={**KEY, **SECRET})
    assert made.call("analyze") == 1
    assert made.call("acknowledge", "--plan", "p", "--case", "c", "--metric", "read_iops", "--note", "x") == 0
    assert made.call("publish", "--plan", "p", "--out", str(out)) == 0
    page, listed = (out / "night-0008/index.html").read_text(), (out / "index.html").read_text()
    assert "When it was judged, this night came to fail: 1 of 2 requirements failed" in page
    assert "makes it pass; `dmabuf-nightly analyze --night 8` stores that" in page
    assert "By what is stored since: pass." in listed and listed.count("By what is stored since") == 1
    assert made.call("analyze") == 0
    assert made.call("publish", "--plan", "p", "--out", str(out)) == 0
    assert "When it was judged" not in (out / "night-0008/index.html").read_text()
    assert "stored since" not in (out / "index.html").read_text()
