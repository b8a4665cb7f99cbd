# SPDX-License-Identifier: GPL-2.0-only
"""Guests of arm64: another machine, kernel, root and compiler, all fetched when one is first asked for."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from dmabuf_common import kernel_log
from dmabuf_lab import (
    apt,
    arm64,
    build,
    cache,
    chroot,
    cli,
    config,
    fio_source,
    guest_kernel,
    initramfs,
    kernels,
    private_apt,
    qemu,
    root,
    runner,
    stock_kernel,
)
from dmabuf_lab.errors import LabError

NAMES = [
    "linux-image-7.3.4+deb13-amd64",
    "linux-image-7.3.4+deb13-arm64",
    "linux-image-7.3.4+deb13-arm64-16k",
    "linux-image-7.3.9+deb13-rt-arm64",
    "linux-image-7.3.9+deb13-cloud-arm64",
]


def parse(*words: str) -> runner.Request:
    return cli.request(cli.parser().parse_args(["run", *words, "--", "true"]))


# Kernels


def test_each_kernel_for_arm64_has_a_name_of_its_own_and_none_comes_with_set_up() -> None:
    names = [series.name for series in (*config.KERNELS, *config.ARM64_KERNELS)]
    assert len(names) == len(set(names))
    assert {"7.3-arm64", "7.3-arm64-16k", "6.12-arm64", "6.12-arm64-16k"} <= set(names)
    assert not [series for series in config.ARM64_KERNELS if series.setup]


def test_the_size_of_its_pages_decides_which_package_it_is() -> None:
    small = guest_kernel.arm64_series("7.3", "4k")
    large = guest_kernel.arm64_series("7.3", "16k")
    assert kernels.newest(NAMES, "7.3", small.flavour) == "linux-image-7.3.4+deb13-arm64"
    assert kernels.newest(NAMES, "7.3", large.flavour) == "linux-image-7.3.4+deb13-arm64-16k"
    assert stock_kernel.item_path(small) != stock_kernel.item_path(large)


def test_a_kernel_that_there_is_not_for_arm64_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(LabError, match=r"no kernel 7\.3-rt for arm64, only 7\.3, 6\.12"):
        guest_kernel.arm64_series("7.3-rt", "4k")


def test_its_packages_are_of_arm64_but_for_the_programs_that_build_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those run on this machine."""
    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path))
    release = "7.3.4+deb13-arm64-16k"
    asked: list[str] = []

    class Archive(private_apt.PrivateApt):
        def use(self, mirror: str, suite: str, kind: str = "deb-src") -> bool:
            return self.arch == "arm64"

        def names(self, prefix: str) -> list[str]:
            return NAMES

        def depends(self, package: str) -> str:
            if package.startswith("linux-headers"):
                return """\
  Depends: linux-headers-7.3.4+deb13-common
  Depends: linux-kbuild-7.3.4+deb13
    linux-kbuild-7.3.4+deb13:amd64
"""
            return f"  Depends: linux-binary-{release}\n  Depends: linux-modules-{release}\n"

        def download(self, package: str) -> Path:
            asked.append(package)
            return self.folder / "download"

    def extract(_folder: Path, into: Path) -> None:
        for name in (f"usr/src/linux-headers-{release}/Makefile", f"usr/lib/modules/{release}/vmlinuz"):
            (into / name).parent.mkdir(parents=True, exist_ok=True)
            (into / name).write_text("")

    monkeypatch.setattr(stock_kernel, "PrivateApt", Archive)
    monkeypatch.setattr(stock_kernel, "extract", extract)
    monkeypatch.setattr(root, "debian_mirror", lambda: "mirror")
    monkeypatch.setattr(chroot, "need_root", lambda: None)
    monkeypatch.setattr(chroot, "check", lambda *_words, **_more: "")
    series = guest_kernel.arm64_series("7.3", "16k")
    kernel = guest_kernel.fetched(stock_kernel.get(root.Root(tmp_path, {}), series))
    assert kernel.arch == "arm64"
    assert kernel.lacks == ("/dev/dma_heap/system",)
    assert sorted(asked) == [
        f"linux-binary-{release}",
        f"linux-headers-{release}",
        "linux-headers-7.3.4+deb13-common",
        f"linux-image-{release}",
        "linux-kbuild-7.3.4+deb13:amd64",
        f"linux-modules-{release}",
    ]


def test_the_labs_apt_of_another_architecture_knows_amd64_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Sequence[str]] = []

    class Result:
        returncode, stdout, stderr = 0, "", ""

    def run(argv: Sequence[str], **_more: object) -> Result:
        ran.append(argv)
        return Result()

    monkeypatch.setattr(private_apt.subprocess, "run", run)  # type: ignore[attr-defined]
    assert private_apt.PrivateApt(tmp_path, "arm64").use("mirror", "trixie", "deb")
    assert "arch=arm64,amd64]" in (tmp_path / "sources.list").read_text()
    assert "APT::Architecture=arm64" in ran[0]
    assert private_apt.PrivateApt(tmp_path).use("mirror", "trixie", "deb")
    assert "arch=amd64]" in (tmp_path / "sources.list").read_text()
    assert not [word for word in ran[1] if word.startswith("APT::Architecture")]


# What is asked for


def test_the_architecture_and_pages_are_those_that_are_asked_for() -> None:
    assert (parse().arch, parse().pages) == ("amd64", "4k")
    request = parse("--arch", "arm64", "--pages", "16k", "--kernel", "6.12")
    assert (request.arch, request.pages, request.kernel) == ("arm64", "16k", "6.12")
    runner.check_kernel(request)


def test_what_does_not_go_together_is_refused_in_one_sentence(tmp_path: Path) -> None:
    for words, why in (
        (("--pages", "16k"), "pages of 16k are for arm64"),
        (("--arch", "arm64", "--kernel-tree", str(tmp_path)), "--kernel-tree is for amd64"),
    ):
        with pytest.raises(LabError, match=why) as error:
            runner.check_kernel(parse(*words))
        assert "\n" not in str(error.value)
    kernel = guest_kernel.GuestKernel("7.3", Path("image"), Path("modules"))
    for words, why in (
        (("--incoherent",), "is for guests of arm64"),
        (("--arch", "arm64", "--icount"), "is for guests of amd64"),
        (("--arch", "arm64", "--plugin", "x.so"), "is for guests of amd64"),
    ):
        with pytest.raises(LabError, match=why):
            runner._machine(parse(*words), kernel)


# The machine


def words_of(machine: qemu.Machine) -> list[str]:
    fds = qemu.Descriptors(10, 11, 12, {name: 20 + i for i, name in enumerate((qemu.CONSOLE, *qemu.PORTS))})
    kernel = guest_kernel.GuestKernel("7.3", Path("/vmlinuz"), Path("/modules"), arch=machine.arch)
    return qemu.arguments(Path("/root"), kernel, Path("/checkout"), machine, fds)


def test_it_is_qemus_virt_with_an_smmu_unless_that_is_off() -> None:
    for iommu, board in (("off", "virt,gic-version=3"), ("strict", "virt,gic-version=3,iommu=smmuv3")):
        words = words_of(qemu.Machine("7.3", arch="arm64", iommu=iommu, p2p=True))
        assert words[words.index("-machine") + 1] == board
        assert words[words.index("-cpu") + 1] == config.ARM64_CPU
        assert not [word for word in words if "intel" in word or "ICH9" in word]
        assert "-dtb" not in words
    parameters = qemu.kernel_parameters(qemu.Machine("7.3", arch="arm64", iommu="strict")).split()
    assert "console=ttyAMA0" in parameters and "iommu.strict=1" in parameters
    assert "iommu.passthrough=0" in parameters
    assert not [word for word in parameters if "intel" in word or word == "no_timer_check"]


def test_amd64_keeps_its_machine() -> None:
    words = words_of(qemu.Machine("7.3", iommu="strict", p2p=True))
    assert words[words.index("-machine") + 1] == "q35,kernel-irqchip=off"
    assert words[words.index("-cpu") + 1] == config.DEFAULT_CPU
    assert "intel-iommu,aw-bits=48" in words and [word for word in words if "ICH9" in word]
    parameters = qemu.kernel_parameters(qemu.Machine("7.3", iommu="strict")).split()
    assert {"console=ttyS0", "intel_iommu=on", "iommu.strict=1", "no_timer_check"} <= set(parameters)


def test_another_processor_can_be_given() -> None:
    words = words_of(qemu.Machine("7.3", arch="arm64", cpu="max"))
    assert words[words.index("-cpu") + 1] == "max"


def test_a_machine_that_is_not_coherent_has_another_device_tree() -> None:
    machine = qemu.Machine("7.3", arch="arm64", incoherent=True, memory_mib=512, iommu="strict")
    dump = qemu.dump_tree(Path("/r"), machine, Path("/t"))
    assert dump[dump.index("-machine") + 1] == "virt,gic-version=3,iommu=smmuv3,dumpdtb=/t"
    assert dump[dump.index("-m") + 1] == "512M"
    assert "-dtb" not in words_of(machine)
    fds = qemu.Descriptors(10, 11, 12, {name: 20 for name in (qemu.CONSOLE, *qemu.PORTS)}, device_tree=33)
    kernel = guest_kernel.GuestKernel("7.3", Path("/vmlinuz"), Path("/modules"), arch="arm64")
    words = qemu.arguments(Path("/root"), kernel, Path("/checkout"), machine, fds)
    assert words[words.index("-dtb") + 1] == "/proc/self/fd/33"
    assert 33 in fds.files()


def device_tree(names: bytes) -> bytes:
    """A header, a block of structure, and the names of properties."""
    header = struct.pack(">10I", 0xD00DFEED, 56 + len(names), 40, 56, 40, 17, 16, 0, len(names), 16)
    return header + b"dma-coherent\0abc" + names


def test_only_the_name_of_the_property_changes_and_nothing_moves() -> None:
    tree = device_tree(b"reg\0dma-coherent\0ranges\0")
    assert qemu.without_coherence(tree) == device_tree(b"reg\0lab-coherent\0ranges\0")


def test_the_room_that_qemu_leaves_behind_it_goes() -> None:
    """QEMU would double it, and Linux starts with no tree of more than 2 MiB, without a word."""
    tree = device_tree(b"dma-coherent\0")
    with_room = tree[:4] + struct.pack(">I", 1 << 20) + tree[8:] + bytes((1 << 20) - len(tree))
    assert qemu.without_coherence(with_room) == device_tree(b"lab-coherent\0")


def test_what_is_no_such_tree_is_refused() -> None:
    for other in (device_tree(b"reg\0"), b"\0" * 64):
        with pytest.raises(LabError, match="does not say what is coherent"):
            qemu.without_coherence(other)


def test_each_architecture_has_its_emulator() -> None:
    for arch, name in (("amd64", "qemu-system-x86_64"), ("arm64", "qemu-system-aarch64")):
        assert Path("/r/usr/bin") / name in [Path(word) for word in qemu.program(Path("/r"), arch)]


def test_the_guest_finds_what_was_built_for_it_where_any_other_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(initramfs, "load_order", lambda *_words: [])
    (tmp_path / "usr/bin").mkdir(parents=True)
    for name in ("usr/bin/busybox", "modules.dep", "modules.builtin"):
        (tmp_path / name).write_text("")
    shown = f"{config.BUILD_DIR} {config.ARM64_BUILD_DIR}\n".encode()
    for arch in config.ARCHITECTURES:
        kernel = guest_kernel.GuestKernel("7.3", tmp_path / "vmlinuz", tmp_path, arch=arch)
        archive = initramfs.make(tmp_path, kernel, {}, share=False)
        assert (shown in archive) == (arch == "arm64")
    assert "want-build" in (Path(initramfs.__file__).parent / "guest/init").read_text()


# What is built


def test_what_is_built_for_it_is_apart_and_by_the_cross_compiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: dict[str, list[str]] = {}

    def inside(builder: build.Builder, command: list[str], what: str, *_more: object) -> str:
        ran[what] = list(command)
        for name in build.ENGINE_PRODUCTS:
            (builder.out / name).parent.mkdir(parents=True, exist_ok=True)
            (builder.out / name).write_text("")
        for product in (build.module_path, build.exporter_path, build.hurt_path):
            place = tmp_path / product("7.3", builder.arch)
            if place.parent.is_dir():
                place.write_text("")
        return ""

    monkeypatch.setattr(build.Builder, "_inside", inside)
    monkeypatch.setattr(build, "fingerprint", lambda *_words: "x")
    lab = root.Root(tmp_path / "root", {"made": "now"})
    for arch, place in (("amd64", config.BUILD_DIR), ("arm64", config.ARM64_BUILD_DIR)):
        ran.clear()
        builder = build.Builder(lab, tmp_path, arch)
        kernel = guest_kernel.GuestKernel(
            "7.3", Path("v"), Path("m"), headers=tmp_path / "s/h", source=tmp_path / "s", arch=arch
        )
        builder.engine(["witness", "rings"])
        assert ran["building the engine"][-2:] == ["vm_witness", "vm_rings"]
        ran.clear()
        builder.engine()
        assert ran["building the engine"][-2:] == ["-C", f"/src/{place}"]
        builder.module(kernel)
        assert (tmp_path / place / "kernel/7.3/dmabuf_rw.ko").is_file()
        cross = arch == "arm64"
        configured = ran["configuring the engine"]
        assert f"/src/{place}" in configured
        assert (f"-DCMAKE_TOOLCHAIN_FILE={arm64.TOOLCHAIN}" in configured) == cross
        assert (f"PKG_CONFIG_LIBDIR={arm64.PKG_CONFIG}" in configured) == cross
        made = ran["building dmabuf_rw.ko for 7.3"]
        assert ("ARCH=arm64" in made) == ("CROSS_COMPILE=aarch64-linux-gnu-" in made) == cross
        assert f"BUILD=/src/{place}/kernel/7.3" in made


# What is fetched


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, list[str]]]:
    """Each root that was made: its name, architectures and packages."""
    roots: list[tuple[str, str, list[str]]] = []

    def debootstrap(
        target: Path, _mirrors: apt.Mirrors, _settings: list[str], packages: Sequence[str], **more: Any
    ) -> set[str]:
        roots.append((target.name, f"{more['architectures']} {more['variant']}", list(packages)))
        (target / "usr/bin").mkdir(parents=True)
        (target / "usr/share/base-passwd").mkdir(parents=True)
        (target / "etc").mkdir()
        for name in ("passwd", "group"):
            (target / f"usr/share/base-passwd/{name}.master").write_text(name)
        return set()

    def check(tools: Path, _command: list[str], _what: str, **more: Any) -> str:
        assert (tools / config.FIO_SOURCE.lstrip("/") / "configure").is_file()
        guest = more["binds"][0].source
        (guest / "usr/local/bin").mkdir(parents=True)
        (guest / "usr/local/bin/fio").write_text("")
        return ""

    source = tmp_path / "fio"
    source.mkdir()
    (source / "configure").write_text("")
    monkeypatch.setenv("DMABUF_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(chroot, "need_root", lambda: None)
    monkeypatch.setattr(chroot, "check", check)
    monkeypatch.setattr(root, "debootstrap", debootstrap)
    monkeypatch.setattr(root, "debian_mirror", lambda: "mirror")
    monkeypatch.setattr(apt, "install", lambda _packages: None)
    monkeypatch.setattr(apt, "host_mirrors", lambda: apt.Mirrors("mirror", None))
    monkeypatch.setattr(apt, "host_settings", list)
    monkeypatch.setattr(fio_source, "get", lambda *_words: source)
    return roots


def test_the_default_set_up_brings_none_of_it() -> None:
    text = " ".join(config.PACKAGES)
    assert "aarch64" not in text and "arm" not in text
    assert not [series for series in config.SETUP_KERNELS if series.arch != "amd64"]


def test_both_roots_are_made_once_and_nothing_of_arm64_runs(made: list[tuple[str, str, list[str]]]) -> None:
    with arm64.in_use() as first, arm64.in_use() as second:
        assert first == second
    assert [(name, how) for name, how, _ in made] == [("tools", "amd64,arm64 apt"), ("root", "arm64 extract")]
    assert (first.tools.path / arm64.TOOLCHAIN.lstrip("/")).read_text() == arm64.TOOLCHAIN_TEXT
    assert (first.tools.path / "usr/bin/aarch64-linux-gnu-gcc").is_symlink()
    assert (first.guest / "etc/passwd").read_text() == "passwd"
    assert first.tools.info["made"]


def test_what_was_cut_off_is_never_used(
    made: list[tuple[str, str, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_guest: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(arm64, "prepare_guest", fail)
        arm64.get()
    assert arm64.find() is None
    assert not list(cache.folder().glob("arm64-*/"))
    arm64.get()
    assert arm64.find()


def test_clean_keeps_what_is_wanted_or_in_use(
    made: list[tuple[str, str, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    old = cache.folder() / f"{arm64.PREFIX}0123"
    old.mkdir()
    with arm64.in_use() as found:
        assert arm64.remove(everything=False) == []
        assert not old.exists() and found.guest.is_dir()
        assert arm64.remove(everything=True) == [str(found.path)]
    assert arm64.remove(everything=True) == []
    assert arm64.find() is None


def test_another_recipe_is_another_root(monkeypatch: pytest.MonkeyPatch) -> None:
    before = arm64.item_path()
    monkeypatch.setattr(config, "ARM64_GUEST", (*config.ARM64_GUEST, "something"))
    assert arm64.item_path() != before


# What its kernel says


@pytest.mark.parametrize(
    "line",
    [
        "Call trace:",
        "arm-smmu-v3 9050000.smmuv3: event 0x10 received:",
        "arm-smmu-v3 9050000.smmuv3: CMD_SYNC timeout at 0x0000000a",
        "arm-smmu-v3 9050000.smmuv3: unexpected global error reported (0x00000001), GERROR",
        "Internal error: Oops: 0000000096000004 [#1]  SMP",
        "SError Interrupt on CPU0, code 0x00000000bf000002 -- SError",
        "Unhandled fault at 0xffff80008297b000",
    ],
)
def test_what_a_kernel_of_arm64_complains_of_fails_a_run(line: str) -> None:
    assert kernel_log.examine([line])


def test_what_it_says_of_its_smmu_when_it_boots_does_not() -> None:
    assert not kernel_log.examine(
        [
            "arm-smmu-v3 9050000.smmuv3: option mask 0x0",
            "arm-smmu-v3 9050000.smmuv3: ias 44-bit, oas 44-bit (features 0x00008305)",
            "arm-smmu-v3 9050000.smmuv3: allocated 65536 entries for cmdq",
            "arm-smmu-v3 9050000.smmuv3: msi_domain absent - falling back to wired irqs",
        ]
    )
