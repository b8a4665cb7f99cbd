# SPDX-License-Identifier: GPL-2.0-only
"""run --kernel-tree DIR: a kernel that the user built, or one sentence that says what it lacks."""

from pathlib import Path

import pytest
from dmabuf_lab import build, chroot, cli, guest_kernel, kernel_tree, root
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
