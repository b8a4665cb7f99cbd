# SPDX-License-Identifier: GPL-2.0-only
"""The page in a real browser: it asks the network for nothing and its console stays empty."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from dmabuf_report import html

from sample import results

CHROMIUM = shutil.which("chromium")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)"
)


def browse(page: Path, folder: Path) -> tuple[str, str, list[str]]:
    """Opens a page; the document as the browser has it, its console, the addresses it asked for."""
    assert CHROMIUM is not None
    log = folder / "net.json"
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}",
         "--enable-logging=stderr", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )
    text = log.read_text().rstrip().rstrip(",")
    try:
        events: list[dict[str, Any]] = json.loads(text)["events"]
    except ValueError:  # cut off at exit
        events = json.loads(text + "]}")["events"]
    asked = {str(e["params"]["url"]) for e in events if "url" in e.get("params", {})}
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, "\n".join(console), sorted(u for u in asked if u.startswith("http"))


def ours(asked: list[str]) -> list[str]:
    """Without the browser's own calls home, which an empty page makes, too."""
    return [u for u in asked if "google" not in u and "gvt1" not in u]


def test_the_page_loads_without_network_and_without_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(html.render(results()))
    document, console, asked = browse(page, tmp_path)
    assert document.count("<svg") == 7 and "</html>" in document
    assert console == ""
    assert ours(asked) == []


def test_what_this_looks_for_would_be_found(tmp_path: Path) -> None:
    """A page that does both wrong, so that the check above is known to be able to fail."""
    page = tmp_path / "page.html"
    page.write_text('<img src="http://127.0.0.1:9/x.png"><script>undefined_function()</script>')
    _, console, asked = browse(page, tmp_path)
    assert "undefined_function" in console
    assert ours(asked) == ["http://127.0.0.1:9/x.png"]
