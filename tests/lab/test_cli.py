# SPDX-License-Identifier: GPL-2.0-only
"""Arguments mean what --help says."""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from dmabuf_common.verdict import EXIT_ERROR
from dmabuf_lab import cli, config, fio_source, qemu, root, runner
from dmabuf_lab.errors import LabError
from dmabuf_lab.guest_kernel import GuestKernel

ENTRY = Path(__file__).resolve().parents[2] / "scripts/dmabuf-lab"

MACHINE = qemu.Machine("7.3")


def parse(*words: str) -> runner.Request:
    return cli.request(cli.parser().parse_args(list(words)))


def test_defaults_are_the_first_kernel_with_the_module() -> None:
    request = parse("run", "--", "true")
    assert request.kernel == config.KERNELS[0].name
    assert request.module and request.build and request.multipath
    assert request.timeout_s == config.DEFAULT_TIMEOUT_S
    assert request.command == ["true"]


def test_the_debug_kernel_gets_more_time_and_memory_unless_told_otherwise() -> None:
    request = parse("run", "--kernel", "debug", "--", "true")
    assert request.timeout_s == config.DEBUG_TIMEOUT_S
    assert request.memory_mib == config.DEBUG_MEMORY_MIB
    request = parse("run", "--kernel", "debug", "--timeout", "9", "--memory", "512", "--", "true")
    assert (request.timeout_s, request.memory_mib) == (9, 512)


def test_every_debug_kernel_can_be_built_and_gets_the_time_of_one() -> None:
    assert cli.parser().parse_args(["debug-kernel"]).flavour == config.DEBUG_KERNEL
    for flavour in config.DEBUG_FLAVOURS:
        assert cli.parser().parse_args(["debug-kernel", "--flavour", flavour]).flavour == flavour
        assert parse("run", "--kernel", flavour, "--", "true").timeout_s == config.DEBUG_TIMEOUT_S


def test_all_machine_options_arrive() -> None:
    request = parse(
        *("run", "--kernel", "6.12", "--iommu", "strict", "--smp", "4", "--memory", "512"),
        *("--p2p", "--switch", "--no-module", "--no-build", "--no-multipath", "--timeout", "7.5"),
        *("--append", "a=b c", "--append", "d=e", "--kaslr", "--share", "/tmp", "--formats", "--errors",
          "--nodes", "2", "--topology", "--drive-gib", "8", "--writes", "/tmp/log", "--", "ls", "--color", "-l"),
    )
    assert request == runner.Request(
        command=["ls", "--color", "-l"],
        kernel="6.12",
        iommu="strict",
        smp=4,
        memory_mib=512,
        p2p=True,
        switch=True,
        multipath=False,
        share=Path("/tmp"),
        module=False,
        build=False,
        timeout_s=7.5,
        append="a=b c d=e",
        kaslr=True,
        formats=True,
        errors=True,
        nodes=2,
        topology=True,
        drive_gib=8,
        writes=Path("/tmp/log"),
    )


def test_a_topology_has_two_nodes_and_no_other_ports() -> None:
    kernel = GuestKernel("7.3", Path("/boot/vmlinuz"), Path("/modules"))
    machine = runner._machine(parse("run", "--topology", "--", "true"), kernel)
    assert (machine.topology, machine.nodes) == (True, 2)
    assert runner._machine(parse("run", "--topology", "--nodes", "3", "--", "true"), kernel).nodes == 3
    assert runner._machine(parse("run", "--", "true"), kernel).nodes == 1
    for other in (("--p2p",), ("--paths", "2"), ("--arch", "arm64")):
        with pytest.raises(LabError, match="not with --p2p, --paths or --arch arm64"):
            runner._machine(parse("run", "--topology", *other, "--", "true"), kernel)


def test_a_random_address_is_for_kernels_whose_image_qemu_would_leave_out() -> None:
    kernel = GuestKernel("7.3", Path("/boot/vmlinuz"), Path("/modules"), stock=True)
    assert runner._machine(parse("run", "--kaslr", "--", "true"), kernel).kaslr
    assert not runner._machine(parse("run", "--", "true"), kernel).kaslr
    for other in (replace(kernel, stock=False), replace(kernel, arch="arm64")):
        with pytest.raises(LabError, match="--kaslr is for stock kernels"):
            runner._machine(parse("run", "--kaslr", "--", "true"), other)


def test_programs_are_named_for_a_build() -> None:
    kernel = GuestKernel("7.3", Path("/boot/vmlinuz"), Path("/modules"))
    request = parse("run", "--programs", "witness,isolation", "--", "true")
    assert request.programs == ("witness", "isolation") and runner._machine(request, kernel)
    with pytest.raises(LabError, match="--programs .* does not go with --no-build"):
        runner._machine(parse("run", "--no-build", "--programs", "witness", "--", "true"), kernel)


def test_a_plugin_reaches_the_machine() -> None:
    kernel = GuestKernel("7.3", Path("/boot/vmlinuz"), Path("/modules"))
    assert runner._machine(parse("run", "--plugin", "x.so,out=y", "--", "true"), kernel).plugin == "x.so,out=y"
    assert runner._machine(parse("run", "--", "true"), kernel).plugin == ""


def test_how_long_an_instruction_takes_goes_with_a_clock_that_counts_them() -> None:
    assert parse("run", "--icount", "--", "true").icount_shift is None
    assert parse("run", "--icount", "--icount-shift", "7", "--", "true").icount_shift == 7
    kernel = GuestKernel("7.3", Path("/boot/vmlinuz"), Path("/modules"))
    assert runner._machine(parse("run", "--icount", "--", "true"), kernel).icount_shift == 1
    assert runner._machine(parse("run", "--icount", "--icount-shift", "0", "--", "true"), kernel).icount_shift == 0
    assert runner._machine(parse("run", "--icount", "--", "true"), kernel).smp == 1
    assert runner._machine(parse("run", "--icount", "--smp", "5", "--", "true"), kernel).smp == 5
    with pytest.raises(LabError, match="--icount-shift"):
        runner._machine(parse("run", "--icount-shift", "7", "--", "true"), kernel)
    with pytest.raises(LabError, match="a guest needs usr/bin/python3 there"):
        runner._machine(parse("run", "--root", "/proc", "--", "true"), kernel)


def test_paths_are_asked_for_by_number() -> None:
    assert parse("run", "--", "true").paths == 0
    assert parse("run", "--paths", "2", "--", "true").paths == 2


def test_the_longest_command_of_the_drive_is_qemus_own_unless_given() -> None:
    assert parse("run", "--", "true").mdts is None
    assert parse("run", "--mdts", "9", "--", "true").mdts == 9


@pytest.mark.parametrize(
    "words",
    [
        ["run"],
        ["run", "--mdts", "99", "--", "true"],
        ["run", "--nodes", "0", "--", "true"],
        ["run", "--paths", "3", "--", "true"],
        ["run", "--kernel", "5.10", "--", "true"],
        ["run", "--iommu", "maybe", "--", "true"],
        ["run", "--smp", "0", "--", "true"],
        ["run", "--timeout", "-1", "--", "true"],
        ["run", "--timeout", "inf", "--", "true"],
        ["fly"],
        [],
    ],
)
def test_wrong_usage_is_status_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == EXIT_ERROR
    assert "usage:" in capsys.readouterr().err


def test_one_word_is_a_line_for_the_shell_and_several_are_passed_as_they_are() -> None:
    assert runner.guest_argv(["echo $DEV | cat"]) == ["sh", "-c", "echo $DEV | cat"]
    assert runner.guest_argv(["echo", "$DEV"]) == ["echo", "$DEV"]
    with pytest.raises(LabError):
        runner.guest_argv([])


def test_the_guest_learns_where_everything_is() -> None:
    environment = runner.guest_environment(MACHINE, "/src/x.ko", ["A=b=c", "DEV=/dev/vda"])
    assert environment["LIBDMABUF"] == "/src/build/lab/engine/libdmabuf.so"
    assert environment["ENGINE"] == f"external:{environment['LIBDMABUF']}"
    assert environment["PYTHONPATH"] == "/src/tests/vm"
    assert environment["DMABUF_RW_KO"] == "/src/x.ko"
    assert environment["A"] == "b=c"
    assert environment["DEV"] == "/dev/vda"
    assert "DMABUF_RW_KO" not in runner.guest_environment(MACHINE, None, [])


@pytest.mark.parametrize("word", ["A", "=b", ""])
def test_env_without_a_name_or_value_is_refused(word: str) -> None:
    with pytest.raises(LabError, match="NAME=VALUE"):
        runner.guest_environment(MACHINE, None, [word])


@pytest.mark.parametrize(
    ("iommu", "present", "absent"),
    [
        ("off", "intel_iommu=off", "iommu.strict"),
        ("lazy", "iommu.strict=0", "intel_iommu=off"),
        ("strict", "iommu.strict=1", "intel_iommu=off"),
    ],
)
def test_iommu_modes_reach_the_kernel(iommu: str, present: str, absent: str) -> None:
    text = qemu.kernel_parameters(qemu.Machine("r", iommu=iommu))
    assert present in text.split()
    assert absent not in text


def test_warnings_are_never_kept_off_the_console() -> None:
    words = qemu.kernel_parameters(qemu.Machine("r")).split()
    level = next(int(word.partition("=")[2]) for word in words if word.startswith("loglevel="))
    assert level > 4
    assert "quiet" not in words


def test_help_works_as_a_program_and_has_examples() -> None:
    result = subprocess.run([ENTRY, "run", "--help"], capture_output=True, text=True)
    assert result.returncode == 0
    assert "examples:" in result.stdout


@pytest.mark.parametrize(("words", "version"), [
    ([], "3.33"),
    (["3.39"], "3.39"),
    (["--lab"], config.FIO_VERSION),
    (["--tests"], config.TEST_FIO_VERSION),
])
def test_fio_source_takes_the_version_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, words: list[str], version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fio_source, "host_fio_version", lambda: "3.33")
    monkeypatch.setattr(fio_source, "get", lambda version, mirror: Path(f"/fio-{version}"))
    monkeypatch.setattr(root, "debian_mirror", lambda: None)
    assert cli.main(["fio-source", *words]) == 0
    assert capsys.readouterr().out == f"/fio-{version}\n"
