# SPDX-License-Identifier: GPL-2.0-only
"""Kernels that set-up does not bring are fetched when they are first asked for, once, and as a whole."""

import re
import subprocess
from pathlib import Path

import pytest
from dmabuf_lab import apt, build, cache, chroot, config, fio_source, guest_kernel, kept, private_apt, root, stock_kernel
from dmabuf_lab.errors import LabError

OLD = config.KernelSeries("6.1", "bookworm", "6.1", compiler=("gcc-12", "cpp-12"), lacks=("/dev/udmabuf",))
NEW = config.KernelSeries("7.3-rt", "trixie-backports", "7.3", realtime=True)

NAMES = [
    "linux-image-6.1.0-47-amd64",
    "linux-image-6.1.0-50-amd64",
    "linux-image-6.1.0-50-rt-amd64",
    "linux-image-7.3.4+deb13-amd64",
    "linux-image-7.3.4+deb13-rt-amd64",
]
DEPENDS = {
    "linux-headers-6.1.0-50-amd64": """\
  Depends: linux-headers-6.1.0-50-common
  Depends: linux-kbuild-6.1
  Depends: linux-compiler-gcc-12-x86
""",
    "linux-headers-7.3.4+deb13-rt-amd64": """\
  Depends: <gcc-14-for-host>
  Depends: linux-base-7.3.4+deb13-rt-amd64
  Depends: linux-headers-7.3.4+deb13-common
  Depends: linux-kbuild-7.3.4+deb13
""",
    "linux-image-7.3.4+deb13-rt-amd64": """\
  Depends: linux-binary-7.3.4+deb13-rt-amd64
  Depends: linux-modules-7.3.4+deb13-rt-amd64
""",
}
# What the packages hold; "-> x" is a link.
FILES = {
    "linux-headers-6.1.0-50-amd64": {
        "usr/src/linux-headers-6.1.0-50-amd64/Makefile": "include /usr/src/linux-headers-6.1.0-50-common/Makefile",
        "usr/src/linux-headers-6.1.0-50-amd64/scripts": "-> ../../lib/linux-kbuild-6.1/scripts",
    },
    "linux-headers-6.1.0-50-common": {"usr/src/linux-headers-6.1.0-50-common/Makefile": "all:"},
    "linux-kbuild-6.1": {"usr/lib/linux-kbuild-6.1/scripts/mod/modpost": "modpost"},
    "linux-image-6.1.0-50-amd64": {
        "boot/vmlinuz-6.1.0-50-amd64": "an image",
        "lib/modules/6.1.0-50-amd64/kernel/a.ko": "a module",
    },
    "gcc-12": {"usr/bin/gcc-12": "a compiler"},
    "cpp-12": {"usr/lib/gcc/12/cc1": "its part"},
    "linux-headers-7.3.4+deb13-rt-amd64": {
        "usr/src/linux-headers-7.3.4+deb13-rt-amd64/Makefile": "include",
        "usr/src/linux-headers-7.3.4+deb13-rt-amd64/tools": "-> ../../lib/linux-kbuild-7.3.4+deb13/tools",
    },
    "linux-headers-7.3.4+deb13-common": {"usr/src/linux-headers-7.3.4+deb13-common/Makefile": "all:"},
    "linux-kbuild-7.3.4+deb13": {"usr/lib/linux-kbuild-7.3.4+deb13/tools/objtool": "objtool"},
    "linux-image-7.3.4+deb13-rt-amd64": {"usr/share/doc/x": "nothing"},
    "linux-binary-7.3.4+deb13-rt-amd64": {
        "usr/lib/modules/7.3.4+deb13-rt-amd64/vmlinuz": "an image",
        "usr/lib/modules/7.3.4+deb13-rt-amd64/build": "-> ../../../src/linux-headers-7.3.4+deb13-rt-amd64",
    },
    "linux-modules-7.3.4+deb13-rt-amd64": {
        "usr/lib/modules/7.3.4+deb13-rt-amd64/kernel/b.ko": "a module"
    },
}


class Archive(private_apt.PrivateApt):
    """Stands in for the archive; `asked` has what was downloaded, `down` makes it unreachable."""

    asked: list[str] = []
    suites: list[str] = []
    down = False

    def use(self, mirror: str, suite: str, kind: str = "deb-src") -> bool:
        self.suites.append(f"{mirror} {suite} {kind}")
        return not self.down

    def names(self, prefix: str) -> list[str]:
        return [name for name in NAMES if name.startswith(prefix)]

    def depends(self, package: str) -> str:
        return DEPENDS.get(package, "")

    def download(self, package: str) -> Path:
        self.asked.append(package)
        into = self.folder / "download"
        subprocess.run(["rm", "-rf", into], check=True)
        tree = into / "tree"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(
            f"Package: {package}\nVersion: 1\nArchitecture: all\nMaintainer: x <x@x>\nDescription: x\n"
        )
        for name, text in FILES[package].items():
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text.startswith("-> "):
                path.symlink_to(text[3:])
            else:
                path.write_text(text)
        command = ["dpkg-deb", "--root-owner-group", "-b", str(tree), str(into / f"{package}.deb")]
        subprocess.run(command, check=True, capture_output=True)
        return into


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> root.Root:
    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path))
    monkeypatch.setattr(stock_kernel, "PrivateApt", Archive)
    monkeypatch.setattr(apt, "host_mirrors", lambda: apt.Mirrors("http://mirror.test/debian", None))
    monkeypatch.setattr(chroot, "need_root", lambda: None)

    def depmod(_root: Path, command: list[str], _what: str, binds: list[chroot.Bind]) -> str:
        assert command[:2] == ["depmod", "-b"]
        (binds[0].source / "lib/modules" / command[3] / "modules.dep").touch()
        return ""

    monkeypatch.setattr(chroot, "check", depmod)
    Archive.asked, Archive.suites, Archive.down = [], [], False
    return root.Root(tmp_path / "root", {"packages": {}})


def test_it_is_fetched_from_the_hosts_mirror_when_first_asked_for_and_only_then(lab: root.Root) -> None:
    assert stock_kernel.find(OLD) is None
    kernel = stock_kernel.get(lab, OLD)
    assert kernel.release == "6.1.0-50-amd64"
    assert Archive.suites == ["http://mirror.test/debian bookworm deb"]
    assert kernel.info["packages"] == Archive.asked
    assert set(Archive.asked) == {
        *("linux-headers-6.1.0-50-amd64", "linux-headers-6.1.0-50-common", "linux-kbuild-6.1"),
        *("linux-image-6.1.0-50-amd64", "gcc-12", "cpp-12"),
    }
    Archive.down = True
    assert stock_kernel.get(lab, OLD) == kernel


def test_both_layouts_of_the_packages_become_one(lab: root.Root) -> None:
    for series, module, link in (
        (OLD, "a.ko", "scripts/mod/modpost"),
        (NEW, "b.ko", "tools/objtool"),
    ):
        kernel = stock_kernel.get(lab, series)
        assert kernel.image.read_text() == "an image"
        assert (kernel.modules / "kernel" / module).read_text() == "a module"
        assert (kernel.modules / "modules.dep").is_file()
        # Found through the link, which stays inside what is shown as /usr/src.
        assert (kernel.headers / link).is_file()
        assert (kernel.headers / link).resolve().is_relative_to(kernel.source)
        assert not (kernel.modules / "build").is_symlink()


def test_modules_are_built_where_its_headers_look_for_each_other_with_its_compiler(lab: root.Root) -> None:
    kernel = guest_kernel.fetched(stock_kernel.get(lab, OLD))
    headers, binds, path = build._headers(kernel)
    assert headers == "/usr/src/linux-headers-6.1.0-50-amd64"
    assert [(bind.source, bind.target, bind.read_only) for bind in binds] == [
        (kernel.source, "/usr/src", True)
    ]
    first = path.split(":")[0]
    assert kernel.source and first.startswith("/usr/src/")
    assert (kernel.source / Path(first).relative_to("/usr/src") / "gcc-12").is_file()
    assert kernel.hurt
    assert kernel.lacks == ("/dev/udmabuf",)


def test_without_a_network_one_sentence_says_so_and_nothing_is_left(lab: root.Root) -> None:
    Archive.down = True
    with pytest.raises(LabError) as error:
        stock_kernel.get(lab, OLD)
    assert "the kernel 6.1 is to be fetched, and the archive cannot be reached" in str(error.value)
    assert "\n" not in str(error.value)
    assert stock_kernel.find(OLD) is None
    assert not [path for path in cache.folder().iterdir() if path.is_dir() and path not in (lab.path, kept.folder())]


def test_a_kernel_whose_packages_lack_a_part_is_not_kept(
    lab: root.Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FILES, "linux-image-6.1.0-50-amd64", {"lib/modules/6.1.0-50-amd64/x": ""})
    with pytest.raises(LabError, match="6.1.0-50-amd64 hold no image"):
        stock_kernel.get(lab, OLD)
    assert stock_kernel.find(OLD) is None


def test_what_was_cut_off_is_removed_and_never_used(lab: root.Root) -> None:
    left = stock_kernel.item_path(OLD).with_name(f"{stock_kernel.item_path(OLD).name}.tmp.1")
    (left / "item").mkdir(parents=True)
    assert stock_kernel.find(OLD) is None
    stock_kernel.get(lab, OLD)
    assert not left.exists()


def test_what_a_clean_that_was_cut_off_left_is_in_nobodys_way(lab: root.Root) -> None:
    kernel = stock_kernel.get(lab, OLD)
    (kernel.path / "info.json").unlink()
    (kernel.path / "vmlinuz").unlink()
    assert stock_kernel.get(lab, OLD).image.read_text() == "an image"


def test_another_recipe_is_another_kernel(lab: root.Root) -> None:
    other = config.KernelSeries("6.1", "bookworm", "6.1", compiler=("gcc-12",))
    assert stock_kernel.item_path(OLD) != stock_kernel.item_path(other)


def test_clean_removes_what_no_series_asks_for_and_keeps_what_is_in_use(
    lab: root.Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = stock_kernel.get(lab, OLD)
    monkeypatch.setattr(config, "KERNELS", (OLD,))
    assert stock_kernel.remove(everything=False) == []
    assert stock_kernel.find(OLD)
    with stock_kernel.in_use(kernel):
        assert stock_kernel.remove(everything=True) == [str(kernel.path)]
    assert stock_kernel.remove(everything=True) == []
    assert stock_kernel.find(OLD) is None
    with pytest.raises(LabError, match="removed meanwhile"), stock_kernel.in_use(kernel):
        pass


def test_what_the_default_run_needs_is_what_set_up_brings(lab: root.Root) -> None:
    assert [series.name for series in config.SETUP_KERNELS] == ["7.3", "6.12"]
    assert root.recipe()["kernels"] == [
        {"name": "7.3", "suite": "trixie-backports"},
        {"name": "6.12", "suite": "trixie"},
    ]


def test_each_stock_kernel_can_be_asked_for(lab: root.Root) -> None:
    assert guest_kernel.names()[0] == "7.3"
    assert {"6.1", "6.12", "7.2", "7.3", "7.3-rt", "debug", "kcsan", "debug-rt"} == set(guest_kernel.names())


def test_in_use_fetches_it(
    lab: root.Root, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(config, "KERNELS", (OLD, NEW))
    with guest_kernel.in_use(lab, "7.3-rt") as kernel:
        assert kernel.release == "7.3.4+deb13-rt-amd64"
        assert kernel.hurt
    assert "fetching the newest 7.3-rt kernel" in capsys.readouterr().err


def test_no_host_name_is_written_down() -> None:
    folder = Path(stock_kernel.__file__).parent
    texts = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.py")}
    assert "stock_kernel.py" in texts and "config.py" in texts
    # One is for a message alone, which tells a user where else fio's source is.
    told = texts["fio_source.py"]
    assert fio_source.FIO_REPOSITORY in fio_source.elsewhere("1.2")
    assert told.count("FIO_REPOSITORY") == 2 and not re.search(r"FIO_REPOSITORY\b(?! = |\} build/fio-)", told)
    texts["fio_source.py"] = told.replace(fio_source.FIO_REPOSITORY, "", 1)
    assert not [name for name, text in texts.items() if "http://" in text or "https://" in text]
