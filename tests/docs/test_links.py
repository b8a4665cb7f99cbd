# SPDX-License-Identifier: GPL-2.0-only
"""Every link of a document leads to a file that is there, and to a heading that it has."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Not the folders of builds, and what others gave.
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "jobs").rglob("*.md"),
                 *(ROOT / "tests").rglob("*.md"), *(ROOT / "kernel").rglob("*.md")]
    if "build" not in path.relative_to(ROOT).parts
)
LINK = re.compile(r"\]\(([^()\s]+)\)")


def without_code(text: str) -> str:
    """Without blocks of code, whose brackets mean something else."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return "\n".join(line for line in text.split("\n") if not line.startswith(("    ", "\t")))


def anchor(heading: str) -> str:
    """What the usual viewers make of a heading."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip())
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def anchors(text: str) -> set[str]:
    return {anchor(head) for head in re.findall(r"^#+ (.*)$", without_code(text), re.MULTILINE)}


def broken(page: Path, text: str) -> list[str]:
    found = []
    for link in LINK.findall(without_code(text)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, place = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            found.append(f"{link}: there is no {name}")
        elif place and place not in anchors(target.read_text() if name else text):
            found.append(f"{link}: {target.name} has no such heading")
    return found


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    assert not broken(page, page.read_text())


def test_there_are_pages() -> None:
    assert len(PAGES) > 20


def test_every_page_is_in_the_index() -> None:
    """A page of docs/ that the index by reader does not name is not found."""
    index = (ROOT / "docs/README.md").read_text()
    named = {link.partition("#")[0] for link in LINK.findall(index)}
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"} <= named


def test_a_broken_link_is_noticed() -> None:
    page = ROOT / "docs/README.md"
    text = "# One `two`: three\n[a](../README.md) [b](none.md) [c](#one-two-three) [d](#four)\n    [e](code.md)\n"
    assert broken(page, text) == ["none.md: there is no none.md", "#four: README.md has no such heading"]
