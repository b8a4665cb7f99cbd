# SPDX-License-Identifier: GPL-2.0-only
"""README's two commands on a machine with nothing but apt: from no python3 to what they are there for.

The demo has the lab of this machine: making one is the same in any root, and is not done again here. It boots its guest
and runs to the end. check installs what it needs, builds its fio and everything for the host, and runs the tests of one
short label; it boots no guest.
"""

import shutil

import bare_root
import pytest
from dmabuf_lab import cache, chroot, root

AS_NOBODY = "setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/nonexistent"
SENTENCES = {
    "./scripts/demo": "demo: the demo makes a Debian root and mounts folders in it; run it as root\n",
    "./scripts/check": "run it as root\n",
    "./scripts/check --quick": "run it as root\n",
}


@pytest.mark.parametrize("command", SENTENCES)
def test_another_user_is_told_in_one_line(suite: str, command: str) -> None:
    with bare_root.bare(suite) as bare:
        done = bare.run(f"chmod a+rx /root; {AS_NOBODY} {command}")
        assert done.returncode == 1
        assert done.stdout.endswith(SENTENCES[command]) and done.stdout.count("\n") == 1, done.stdout


def test_the_demo_proves_every_path(suite: str) -> None:
    lab = root.load()
    assert lab, "there is no lab root: dmabuf-lab setup makes it"
    with bare_root.bare(suite) as bare:
        assert "python3" not in bare.packages()
        built = bare_root.CHECKOUT / "build/lab"
        if built.is_dir():
            shutil.copytree(built, bare.inside(bare_root.SOURCE) / "build/lab", symlinks=True)
        place = str(cache.folder())
        bare.inside(place).mkdir(parents=True, exist_ok=True)
        shared = chroot.Bind(cache.folder(), place, read_only=False)
        done = bare.run("./scripts/demo", binds=[shared], env={"DMABUF_LAB_CACHE": place})
        assert done.returncode == 0, done.stdout[-4000:]
        assert "Every path is proven." in done.stdout
        assert "demo: installing python3" in done.stdout


def test_check_builds_and_runs_tests(suite: str) -> None:
    with bare_root.bare(suite) as bare:
        done = bare.run("./scripts/check --label mutate")
        assert done.returncode == 0, done.stdout[-4000:]
        assert "fio-3.33" in done.stdout
        assert "100% tests passed" in done.stdout
