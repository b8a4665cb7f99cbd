# SPDX-License-Identifier: GPL-2.0-only
"""run --kernel-tree DIR: a kernel that the user built, or one sentence that says what it lacks."""

import shutil
import threading
from pathlib import Path

import pytest
from dmabuf_common import files
from dmabuf_lab import build, cache, chroot, cli, guest_kernel, kernel_tree, root
from dmabuf_lab.errors import LabError

RELEASE = "7.3.9-mine"


def settings() -> str:
    return "".join(f"{name}={value}\n" for name, value in kernel_tree.NEEDED.items())


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "linux"
    files = {
        ".config": settings(),
        kernel_tree.IMAGE: "an image",
        "modules.order": "drivers/a/a.o\nkernel/fs/b.ko\n",
        "modules.builtin": "kernel/c.ko\n",
        "modules.builtin.modinfo": "c.name=c",
        "Module.symvers": "",
        "include/config/kernel.release": f"{RELEASE}\n",
        "drivers/a/a.ko": "module a",
        "fs/b.ko": "module b",
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> root.Root:
    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(chroot, "need_root", lambda: None)

    def depmod(_root: Path, command: list[str], _what: str, binds: list[chroot.Bind]) -> str:
        made = binds[0].source / "lib/modules" / command[3]
        (made / "modules.dep").write_text("".join(f"{p.name}:\n" for p in made.rglob("*.ko")))
        return ""

    monkeypatch.setattr(chroot, "check", depmod)
    return root.Root(tmp_path / "root", {"packages": {}})


def test_its_image_and_all_of_its_modules_are_taken(lab: root.Root, tree: Path) -> None:
    with guest_kernel.in_use(lab, "7.3", tree) as kernel:
        assert kernel.release == RELEASE
        assert kernel.image.read_text() == "an image"
        assert (kernel.modules / "kernel/drivers/a/a.ko").read_text() == "module a"
        assert (kernel.modules / "kernel/fs/b.ko").read_text() == "module b"
        assert (kernel.modules / "modules.builtin").read_text() == "kernel/c.ko\n"
        assert (kernel.modules / "modules.dep").is_file()
        headers, binds, _ = build._headers(kernel)
        assert [(bind.source, bind.target) for bind in binds] == [(tree, headers)]
        assert not kernel.debug


def test_a_kernel_that_was_built_anew_is_taken_anew(lab: root.Root, tree: Path) -> None:
    with guest_kernel.in_use(lab, "7.3", tree):
        pass
    (tree / "fs/d.ko").write_text("module d")
    (tree / "modules.order").write_text("fs/d.ko\n")
    with guest_kernel.in_use(lab, "7.3", tree) as kernel:
        assert [path.name for path in kernel.modules.rglob("*.ko")] == ["d.ko"]
    assert kernel_tree.remove() == []
    assert (tree / "fs/d.ko").read_text() == "module d"


def test_a_module_that_was_built_alone_is_taken_anew(lab: root.Root, tree: Path) -> None:
    """As `make M=drivers/nvme/host` does: nothing else in the folder changes, the lists of modules least of all."""
    with guest_kernel.in_use(lab, "7.3", tree):
        pass
    (tree / "fs/b.new").write_text("module B")  # of the same length; a linker makes a file of its own
    (tree / "fs/b.new").rename(tree / "fs/b.ko")
    with guest_kernel.in_use(lab, "7.3", tree) as kernel:
        assert (kernel.modules / "kernel/fs/b.ko").read_text() == "module B"


def test_our_modules_are_built_again_for_a_kernel_that_was_built_anew(
    lab: root.Root, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the same release, of a changed header say: what was built for the old one would not fit."""
    base = tmp_path / "checkout"
    (base / "kernel").mkdir(parents=True)
    (base / "kernel/main.c").write_text("")
    product = base / build.module_path(RELEASE)
    built: list[str] = []

    def make(_builder: build.Builder, _command: list[str], what: str, *_more: object) -> str:
        product.write_text("")
        built.append(what)
        return ""

    monkeypatch.setattr(build.Builder, "_inside", make)
    builder = build.Builder(root.Root(lab.path, {"made": "now"}), base)

    def build_module() -> None:
        with guest_kernel.in_use(lab, "7.3", tree) as kernel:
            builder._module("kernel", kernel, product, ["kernel"])

    build_module()
    build_module()
    assert len(built) == 1
    (tree / kernel_tree.IMAGE).write_text("a new image")
    build_module()
    assert len(built) == 2


def test_two_may_use_the_same_kernel_at_once(lab: root.Root, tree: Path) -> None:
    with guest_kernel.in_use(lab, "7.3", tree):
        place = next(path for path in cache.folder().glob(f"{kernel_tree.PREFIX}*") if path.is_dir())
        # Another process needs a lock of its own on the file; two of one process stand for that.
        with files.try_lock(place.with_name(place.name + ".lock")) as alone:
            assert not alone, "nobody lists the modules anew meanwhile"
        second = threading.Thread(target=lambda: _use(lab, tree), daemon=True)
        second.start()
        second.join(60)
        assert not second.is_alive(), "the second waits for the first to end"


def _use(lab: root.Root, tree: Path) -> None:
    with guest_kernel.in_use(lab, "7.3", tree):
        pass


def test_a_list_of_modules_that_is_partly_removed_is_not_used(
    lab: root.Root, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(place: Path) -> None:
        next(place.rglob("*.ko")).unlink()
        raise KeyboardInterrupt

    with guest_kernel.in_use(lab, "7.3", tree):
        pass
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", interrupted)
        kernel_tree.remove()
    with guest_kernel.in_use(lab, "7.3", tree) as kernel:
        assert len(list(kernel.modules.rglob("*.ko"))) == 2


def test_a_kernel_that_is_built_meanwhile_is_not_taken(
    lab: root.Root, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = kernel_tree.list_modules

    def build_another(tree: Path, folder: Path) -> None:
        listed(tree, folder)
        (tree / "fs/b.new").write_text("module B")
        (tree / "fs/b.new").rename(tree / "fs/b.ko")

    monkeypatch.setattr(kernel_tree, "list_modules", build_another)
    with pytest.raises(LabError, match="it changes while"), guest_kernel.in_use(lab, "7.3", tree):
        pass
    monkeypatch.setattr(kernel_tree, "list_modules", listed)
    with guest_kernel.in_use(lab, "7.3", tree) as kernel:
        assert (kernel.modules / "kernel/fs/b.ko").read_text() == "module B"


@pytest.mark.parametrize("name", ["../victim.ko", "fs/../../victim.ko", "ABSOLUTE", "kernel/ABSOLUTE"])
def test_no_file_outside_is_written(lab: root.Root, tree: Path, tmp_path: Path, name: str) -> None:
    """Root makes the list, and the folder may be somebody else's."""
    victim = tmp_path / "victim.ko"
    victim.write_text("of somebody else")
    (tree / "modules.order").write_text(f"fs/b.ko\n{name.replace('ABSOLUTE', str(victim))}\n")
    with pytest.raises(LabError, match="outside"), guest_kernel.in_use(lab, "7.3", tree):
        pass
    assert victim.read_text() == "of somebody else"


@pytest.mark.parametrize("release", ["../../../../victim", "/victim", "", ".", "..", "7.3 x", "7.3\n7.4"])
def test_a_release_that_is_none_is_refused(lab: root.Root, tree: Path, release: str) -> None:
    (tree / "include/config/kernel.release").write_text(f"{release}\n")
    with pytest.raises(LabError, match="no release of a kernel"), guest_kernel.in_use(lab, "7.3", tree):
        pass


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        (".config", "there is no .config; configure and build the kernel first"),
        (kernel_tree.IMAGE, "there is no arch/x86/boot/bzImage; run `make bzImage modules` there"),
        ("modules.order", "there is no modules.order; run `make modules` there"),
        ("Module.symvers", "there is no Module.symvers"),
        ("include/config/kernel.release", "it does not say its release"),
        ("drivers/a/a.ko", "there is no drivers/a/a.ko; run `make modules` there"),
    ],
)
def test_what_is_not_there_is_named(lab: root.Root, tree: Path, gone: str, said: str) -> None:
    (tree / gone).unlink()
    with pytest.raises(LabError) as error, guest_kernel.in_use(lab, "7.3", tree):
        pass
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_there_and_one_with_its_source_elsewhere_are_refused(
    lab: root.Root, tree: Path
) -> None:
    with pytest.raises(LabError, match="no such folder"):
        kernel_tree.examine(tree / "nowhere")
    (tree / "source").symlink_to("..")
    with pytest.raises(LabError, match="O="):
        kernel_tree.examine(tree)


def test_settings_that_the_guest_needs_are_named(lab: root.Root, tree: Path) -> None:
    text = settings().replace("CONFIG_IO_URING=y\n", "# CONFIG_IO_URING is not set\n")
    text = text.replace("CONFIG_DEBUG_FS=y", "CONFIG_DEBUG_FS=m").replace("CONFIG_9P_FS=m", "CONFIG_9P_FS=y")
    (tree / ".config").write_text(text)
    with pytest.raises(LabError, match=r"needs CONFIG_DEBUG_FS=y, CONFIG_IO_URING=y in"):
        kernel_tree.examine(tree)


def test_the_option_goes_with_no_other_kernel() -> None:
    parse = cli.parser().parse_args
    assert cli.request(parse(["run", "--kernel-tree", "x", "--", "true"])).kernel_tree == Path("x")
    with pytest.raises(SystemExit):
        parse(["run", "--kernel-tree", "x", "--kernel", "6.12", "--", "true"])
