# SPDX-License-Identifier: GPL-2.0-only
"""A plan writes to the drive that it names, held for the whole night, and to nothing else."""

import json
import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "common"))
# pylint: disable=wrong-import-position
import images  # noqa: E402
from drives import Machine  # noqa: E402

from dmabuf_common.drive_guard import Demand, Gone, Refused  # noqa: E402
from dmabuf_nightly import cli, drives, fio, jobfile, plan, runner  # noqa: E402
from dmabuf_nightly.errors import NightlyError  # noqa: E402
from dmabuf_nightly.store import Store  # noqa: E402

MIB = 1 << 20
DISK = "nvme987n1"
JOB = """[global]
ioengine=psync
filename=${DEV}
bs=4k
size=64k
[lay]
rw=%s
[again]
filename=${DEV}
stonewall
rw=read
"""
TARGET = '[target]\nserial = "S1"\n'
# What a host's fingerprint command prints.
PRINTS = json.dumps({"format": "libdmabuf-fingerprint", "version": 1, "key": {"a": "b"}, "subject": {},
                     "state": {}})
PLAN = """version = 1
name = "p"
repeats = 5
runtime = 0
[parameters]
DEV = "{dev}"
{more}
[[cases]]
name = "c"
job = "j.fio"
jobs = ["again"]
"""
LOCAL = f"[hosts.local]\nfingerprint = {json.dumps(['echo', PRINTS])}\n"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    (tmp_path / "root").mkdir()
    made = Machine(tmp_path / "root")
    # A name that no machine has: a test that goes wrong must not write to a drive.
    made.drive(DISK)
    made.partition(DISK, 1, "259:1", MIB, 8 * MIB)
    return made


class Lab:
    """A plan, its job file, a store."""

    def __init__(self, folder: Path, machine: Machine) -> None:
        self.folder, self.machine = folder, machine
        self.dev = "/dev/nvme987n1"
        self.job()
        self.store = Store(folder / "s.db")

    def job(self, mode: str = "write", text: str = JOB) -> None:
        (self.folder / "j.fio").write_text(text % mode if "%s" in text else text)

    def plan(self, more: str = LOCAL + TARGET) -> plan.Plan:
        # A machine that writes is this one; its drive is a file.
        made = plan.parse(PLAN.format(dev=self.dev, more=more), self.folder)
        (self.folder / "p.toml").write_text(made.text)
        return made

    def wanted(self, more: str = LOCAL + TARGET) -> dict[str, drives.Want]:
        return drives.wanted(runner.Execution(self.store, self.plan(more), 0).planned())

    def night(self, more: str = LOCAL + TARGET) -> Any:
        """One run of a new night, with the drive held."""
        made = self.plan(more)
        number = runner.new_night(self.store, made, 1, "")
        planned = runner.Execution(self.store, made, number).planned()
        with drives.hold(planned, self.machine.system, self.machine.devices) as held:
            execution = runner.Execution(self.store, made, number, held)
            return execution.one(self.store.runs(number)[0])


@pytest.fixture
def lab(tmp_path: Path, machine: Machine) -> Lab:
    return Lab(tmp_path, machine)


def calls(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None] = lambda: None) -> list[dict[str, Any]]:
    """What fio is started with, in place of starting it."""
    seen: list[dict[str, Any]] = []

    def run(argv: list[str], folder: Path, _mark: str, _limit: float, fds: Iterable[int] = ()) -> tuple[int, str]:
        seen.append({"argv": argv, "fds": tuple(fds), "job": (folder / argv[-1]).read_text()})
        act()
        return 1, "Input/output error"

    monkeypatch.setattr(fio, "run", run)
    return seen


@pytest.mark.parametrize("mode", ["write", "randwrite", "rw", "readwrite", "randrw:8", "trim", "trimwrite", ""])
def test_a_plan_that_writes_must_say_to_which_drive(lab: Lab, mode: str) -> None:
    lab.job(mode)
    with pytest.raises(NightlyError, match=r"case c writes.*add \[target\] with serial"):
        lab.wanted(LOCAL)
    assert lab.wanted()["/dev/nvme987n1"].writes


@pytest.mark.parametrize("mode", ["read", "randread", "randread:8"])
def test_a_plan_that_reads_need_not(lab: Lab, mode: str) -> None:
    lab.job(mode)
    assert lab.wanted(LOCAL) == {}
    assert not lab.wanted()["/dev/nvme987n1"].writes


def test_the_program_refuses_before_anything_is_stored_or_run(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = calls(monkeypatch)
    lab.plan(LOCAL)
    argv = ["run", str(lab.folder / "p.toml"), "--store", str(lab.folder / "s.db")]
    assert cli.main(argv) == 2
    assert "does not say which drive" in capsys.readouterr().err
    # There is no such drive here.
    lab.plan(LOCAL.replace("hosts.local", "hosts.x") + TARGET.replace("S1", "nobody's"))
    assert cli.main(argv) == 2
    assert capsys.readouterr().err.count("/dev/nvme987n1") >= 1
    assert (seen, lab.store.nights()) == ([], [])


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("[target]\nwwid = 'x'\n", "has no serial"),
        (TARGET + "drive = 'x'\n", "unknown key 'drive'"),
        ("[hosts.h]\naddress = 'x'\nfingerprint = ['f']\n[hosts.h.target]\nserial = 'S1'\n",
         "address and a target"),
    ],
)
def test_a_target_that_is_none_is_named(lab: Lab, more: str, says: str) -> None:
    with pytest.raises(NightlyError, match=says):
        lab.plan(more)


def test_a_target_is_the_machines_own(lab: Lab) -> None:
    more = ('[target]\nserial = "S1"\nwwid = "w"\nnsid = "1"\noverwrite_signature = ["ext4"]\n[hosts.a]\n'
            '[hosts.b]\n[hosts.b.target]\nserial = "S2"\n'
            '[hosts.c]\naddress = "x"\nfingerprint = ["f"]\n')
    found = {host.name: host.target for host in lab.plan(more).hosts}
    assert found["a"] == plan.Target("S1", "w", "1", ("ext4",))
    assert found["a"] and found["a"].demand == Demand("S1", "w", "1")
    assert (found["b"], found["c"]) == (plan.Target("S2"), None)


def test_a_server_elsewhere_only_reads(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    more = TARGET + LOCAL.replace("hosts.local]", 'hosts.far]\naddress = "far"')
    with pytest.raises(NightlyError, match="writes on host far, which only reads.*by its name"):
        lab.wanted(more)
    lab.job("read")
    seen = calls(monkeypatch)
    lab.night(more)
    # A fio that is told before its --client keeps it for itself.
    assert seen[0]["argv"][1:3] == ["--client=far", "--readonly"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (JOB.replace("filename=${DEV}\nstonewall", "filename=/dev/nvme988n1"), "names /dev/nvme987n1, /dev/nvme988n1"),
        (JOB.replace("filename=${DEV}\nstonewall", "filename=${DEV}:/dev/nvme988n1"), "names /dev/nvme987n1, /dev/nv"),
        (JOB.replace("stonewall", "directory=/dev"), "has directory"),
        (JOB.replace("stonewall", "filename_format=x"), "has filename_format"),
        (JOB.replace("stonewall", "read_iolog=log"), "has read_iolog"),
        (JOB.replace("filename=${DEV}\nstonewall", "filename=/dev/disk/by-path/pci-0000:01:00.0-nvme-1"),
         r"names .*one in a name is written \\:"),
    ],
)
def test_a_job_that_reaches_more_than_the_target_is_refused(lab: Lab, text: str, says: str) -> None:
    lab.job(text=text % "write")
    with pytest.raises(NightlyError, match=says):
        lab.wanted()


@pytest.mark.parametrize("name", ["/dev//nvme987n1", "//dev/nvme987n1", "/dev/./nvme987n1", "/dev/x/../nvme987n1",
                                  "/dev/nvme987n1/", "nvme987n1", "dev/nvme987n1", ""])
def test_a_target_has_one_spelling(lab: Lab, name: str) -> None:
    for text in (JOB.replace("${DEV}", name), JOB.replace("filename=${DEV}\nstonewall", f"filename={name}")):
        lab.job(text=text % "write")
        with pytest.raises(NightlyError, match=r"write the drive's whole path|names /dev/nvme987n1, |no filename"):
            lab.wanted()


def test_a_comment_at_the_end_of_a_line_is_none_of_it(lab: Lab) -> None:
    text = JOB.replace("${DEV}", "${DEV} ; the ${SCRATCH} drive").replace("[again]", "[again] # rw=write")
    lab.job(text=text % "read # not write")
    assert lab.wanted(LOCAL) == {}
    lab.job(text=text % "write;x")
    assert list(lab.wanted()) == ["/dev/nvme987n1"]
    assert not {";", "#"} & set(runner.Execution(lab.store, lab.plan(), 0).planned()[0][2].text)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("include=more", "would include a file"),
        ("include:more", "would include a file"),
        ("includes", "would include a file"),
        ("${X}", "would include a file"),
        ("${Y}lename=/dev/nvme988n1", "has a control character"),
        ("description=a\x0bfilename=/dev/nvme988n1", "has a control character"),
        ("description=a\x1ffilename=/dev/nvme988n1", "has a control character"),
        ("description=a\u2028filename=/dev/nvme988n1", "has a control character"),
        ("bs=${no-name}", r"has \$, ; or #"),
        ("${no-name}filename=/dev/nvme988n1", r"has \$, ; or #"),
        ("bs=${Z}", r"has \$, ; or #"),
        ("filename /dev/nvme988n1", "neither a section"),
        ("[half", "neither a section"),
        ("description=" + "x" * 4000, "more than 4000 bytes"),
        ("description=" + "é" * 2000, "more than 4000 bytes"),
    ],
)
def test_a_line_that_fio_reads_otherwise_is_refused(lab: Lab, line: str, says: str) -> None:
    (lab.folder / "more").write_text("filename=/dev/nvme988n1\n")
    lab.job(text=JOB % "write" + line + "\n")
    more = r'X = "include more"' + "\n" + r'Y = "a=b\nfi"' + "\n" + 'Z = "4k;"\n'
    with pytest.raises(NightlyError, match=says):
        lab.wanted(more + LOCAL + TARGET)


def test_a_line_of_a_plans_options_is_judged_too(lab: Lab) -> None:
    more = r'[options]' + "\n" + r'description = "x\nfilename=/dev/nvme988n1"' + "\n"
    with pytest.raises(NightlyError, match="has a control character"):
        lab.wanted(more + LOCAL + TARGET)


def test_a_file_is_no_target(lab: Lab) -> None:
    lab.dev = "/mnt/scratch/file"
    with pytest.raises(NightlyError, match="no plan writes to a file in a file system"):
        lab.wanted(LOCAL)


def test_one_target_is_one_drive(lab: Lab) -> None:
    more = '[hosts.a]\n[hosts.b]\n[hosts.b.target]\nserial = "S2"\n'
    with pytest.raises(NightlyError, match="each with another"):
        lab.wanted(TARGET + more)
    sides = '[sides.x]\nparameters = { DEV = "/dev/nvme988n1" }\n[sides.y]\n'
    with pytest.raises(NightlyError, match="names /dev/nvme988n1 and /dev/nvme987n1 on host local"):
        lab.wanted(LOCAL + TARGET + sides)


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda m: m.put("/proc/self/mountinfo", "22 1 259:1 / /data rw - ext4 none rw"),
         "/dev/nvme987n1p1 is mounted at /data"),
        (lambda m: m.holder("259:1", "md0", md_level="raid1"), r"/dev/nvme987n1p1 is held by md0 \(a RAID, raid1"),
        (lambda m: m.put("/proc/swaps", "Filename\n/dev/nvme987n1 partition 1 0 -2"), "is swap space"),
        (lambda m: images.zfs(m.root / "dev/nvme987n1"), "holds zfs_member"),
        (lambda m: images.ext4(m.root / "dev/nvme987n1", MIB), "/dev/nvme987n1p1 holds ext4"),
        (lambda m: (m.drive("nvme988n1", "259:4"),
                    m.put("/proc/self/mountinfo", "22 1 259:4 / /data rw - ext4 none rw")),
         "/dev/nvme988n1, the same namespace as /dev/nvme987n1, is mounted at /data"),
        (lambda m: m.put("/sys/block/nvme987n1/device/serial", "S2"), "its serial number is S2, not S1"),
    ],
)
def test_a_drive_that_is_in_use_or_signed_or_another_is_never_written(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, act: Callable[[Machine], object], says: str
) -> None:
    act(lab.machine)
    seen = calls(monkeypatch)
    before = (lab.machine.root / "dev/nvme987n1").read_bytes()
    with pytest.raises(Refused, match=says):
        lab.night()
    assert seen == []
    assert (lab.machine.root / "dev/nvme987n1").read_bytes() == before


def test_the_advice_is_the_plans_own_word(lab: Lab) -> None:
    node = lab.machine.root / "dev/nvme987n1"
    images.lvm(node)
    with pytest.raises(Refused) as caught:
        lab.night()
    advice = 'overwrite_signature = ["LVM2_member"]'
    assert str(caught.value).endswith(f"if all that may be lost: {advice} in the plan's [target]")
    assert lab.night(LOCAL + TARGET + advice + "\n").status == fio.VALID


def test_fio_gets_the_descriptor_in_every_section_and_writes(lab: Lab) -> None:
    outcome = lab.night()
    assert (outcome.status, outcome.reasons) == (fio.VALID, [])
    assert (lab.machine.root / "dev/nvme987n1").read_bytes()[: 64 << 10] != bytes(64 << 10)
    kept = next((lab.folder / "s.db.files/night-0001").glob("*.fio")).read_text()
    names = [line for line in kept.splitlines() if line.startswith("filename")]
    assert len(names) == 2 and len(set(names)) == 1
    assert names[0].startswith("filename=/proc/self/fd/")


@pytest.mark.parametrize("target", ["", TARGET])
def test_fio_itself_refuses_to_write_what_is_not_held(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    # As if this program had taken the job for one that reads.
    monkeypatch.setattr(jobfile.Job, "writes", property(lambda _job: False))
    node = lab.machine.root / "dev/nvme987n1"
    if not target:
        lab.dev = str(node)
    outcome = lab.night(LOCAL + target)
    assert outcome.status == fio.FAILED
    assert node.read_bytes() == bytes(node.stat().st_size)


def test_a_run_begins_with_a_look_at_the_drive(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = calls(monkeypatch)
    made = lab.plan()
    number = runner.new_night(lab.store, made, 1, "")
    planned = runner.Execution(lab.store, made, number).planned()
    with drives.hold(planned, lab.machine.system, lab.machine.devices) as held:
        lab.machine.put("/proc/self/mountinfo", "22 1 259:1 / /data rw - ext4 none rw")
        with pytest.raises(Gone, match="nvme987n1p1 is mounted"):
            runner.Execution(lab.store, made, number, held).one(lab.store.runs(number)[0])
    assert seen == []
    assert {run.state for run in lab.store.runs(number)} == {"planned"}


def test_a_drive_that_goes_away_ends_the_night_which_is_inconclusive(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls(monkeypatch, lambda: lab.machine.pull("nvme987n1"))
    status = runner.guarded(lambda: int(bool(lab.night())), lab.store, lambda: 1)
    assert status == 77
    night = lab.store.night(1)
    assert night.status == "inconclusive" and "the drive went away" in (night.verdict or "")
    assert {run.state for run in lab.store.runs(1)} == {"planned"}
    assert "night 1 is abandoned and inconclusive: /dev/nvme987n1 is not used any more" in capsys.readouterr().err


def held_night(lab: Lab, more: str, act: Callable[[], object]) -> None:
    """A night of one run, before which something happens."""
    made = lab.plan(more)
    number = runner.new_night(lab.store, made, 1, "")
    planned = runner.Execution(lab.store, made, number).planned()
    with drives.hold(planned, lab.machine.system, lab.machine.devices) as held:
        act()
        runner.Execution(lab.store, made, number, held).one(lab.store.runs(number)[0])


@pytest.mark.parametrize("target", ["", TARGET])
def test_what_was_judged_is_what_runs(lab: Lab, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    mode = "write" if target else "read"
    (lab.folder / "more").write_text("description=first\n")
    lab.job(text=JOB % mode + "include more\n")
    seen = calls(monkeypatch)

    def edit() -> None:
        (lab.folder / "more").write_text("filename=/dev/nvme988n1\nrw=write\nexec_prerun=x\n")
        lab.job(text=JOB % "write" + "include more\n[k]\nfilename=/dev/nvme988n1\nrw=write\n")

    held_night(lab, LOCAL + target, edit)
    assert "description=first" in seen[0]["job"] and f"rw={mode}" in seen[0]["job"]
    assert not re.search(r"nvme988n1|exec_prerun|\[k\]", seen[0]["job"])
    night = lab.store.runs(1)[0]
    assert len(night.conditions["job of c"]) == 16


def test_a_job_that_was_not_judged_is_not_run(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = calls(monkeypatch)
    made = lab.plan()
    number = runner.new_night(lab.store, made, 1, "")
    with drives.hold([], lab.machine.system, lab.machine.devices) as held:
        with pytest.raises(NightlyError, match="was not planned when the night began"):
            runner.Execution(lab.store, made, number, held).one(lab.store.runs(number)[0])
    lab.job(text=JOB % "read" + "exec_prerun=x\n")
    with pytest.raises(NightlyError, match="has exec_prerun"):
        runner.Execution(lab.store, made, number).one(lab.store.runs(number)[0])
    assert seen == []


def test_a_name_that_was_not_replaced_stops_the_run(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    # As if on() had missed one.
    seen = calls(monkeypatch)
    monkeypatch.setattr(jobfile.Job, "on", lambda job, path, instead: jobfile.Job(
        job.text.replace(f"filename={path}", f"filename={instead}", 1), job.values))
    with pytest.raises(NightlyError, match="a section would use more than /dev/nvme987n1"):
        lab.night()
    assert seen == []
    assert {run.state for run in lab.store.runs(1)} == {"planned"}


def test_sections_use_what_global_names() -> None:
    text = "[global]\nfilename=/a\n[x]\n[y]\nfilename=/b\n[globally]\nfilename=/c\n[z]\n"
    assert jobfile.Job(text, {}).sections == [{"/a"}, {"/a", "/b"}, {"/a", "/c"}]


ENGINES_THAT_DO_MORE = ["exec", "filecreate", "filedelete", "filestat", "dircreate", "dirdelete", "e4defrag", "mmap",
                        "io_uring_cmd", "sg", "splice", "falloc", "ftruncate", "rbd", "net", "external:/x/other.so",
                        "libaio:x", "libdmabuf.so:/x/other.so", "/libdmabuf/other.so", ""]


@pytest.mark.parametrize(
    "line",
    [
        *(f"ioengine={name}" for name in ENGINES_THAT_DO_MORE),
        "exec_prerun=blkdiscard /dev/nvme988n1",
        "exec_postrun = x",
        "write_iolog=/dev/nvme988n1",
        "merge_blktrace_file=/dev/nvme988n1",
        "profile=tiobench",
        "unlink=1",
        "unlink",
        "unlink_each_loop=1",
        "iomem=mmap:/dev/nvme988n1",
        "mem=mmaphuge:/dev/nvme988n1",
        "dmabuf_report=/dev/nvme988n1",
    ],
)
@pytest.mark.parametrize(
    "more", [LOCAL, LOCAL + TARGET, LOCAL.replace("hosts.local]", 'hosts.far]\naddress = "far"')],
    ids=["reads", "target", "remote"],
)
def test_what_writes_beside_filename_is_refused(lab: Lab, line: str, more: str) -> None:
    lab.job(text=JOB % "read" + line + "\n")
    with pytest.raises(NightlyError, match=f"j.fio has {line.split('=')[0].strip()}"):
        lab.wanted(more)
    # [global] says so, or the plan does.
    lab.job(text=(JOB % "read").replace("ioengine=psync", line))
    with pytest.raises(NightlyError, match=f" has (the option )?{line.split('=')[0].strip()}"):
        lab.wanted(more)
    lab.job("read")
    name, _, value = line.partition("=")
    with pytest.raises(NightlyError, match=f" has (the option )?{name.strip()}"):
        lab.wanted(f'[options]\n{name} = "{value or 1}"\n' + more)


@pytest.mark.parametrize("line", [
    *(f"ioengine={name}" for name in drives.ENGINES), "ioengine=external:/usr/lib/libdmabuf.so", "unlink=0",
    "ioengine=libdmabuf.so", "iomem=mmap", "mem=malloc",
])
def test_what_does_not_is_not(lab: Lab, line: str) -> None:
    lab.job(text=JOB % "write" + line + "\n")
    assert lab.wanted()["/dev/nvme987n1"].writes


SHIPPED = sorted(path for path in plan.shipped_jobs().rglob("*.fio") if path.parent.name != "include")


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_shipped_job_can_be_run(lab: Lab, path: Path) -> None:
    texts = [file.read_text() for file in (path, *plan.shipped_jobs().glob("include/*.fio"))]
    names = {name: "1" for text in texts for name in re.findall(r"\$\{(\w+)\}", text)}
    values = {**names, "DEV": lab.dev, "ENGINE": "external:/src/build/lab/engine/libdmabuf.so", "RW": "randwrite"}
    lab.job(text=path.read_text().replace("../include", str(plan.shipped_jobs() / "include")))
    more = "\n".join(f'{name} = "{value}"' for name, value in values.items() if name != "DEV") + "\n"
    found = lab.wanted(more + LOCAL + TARGET)
    assert list(found) == [lab.dev]
    destroys = re.search(r"Destroys data\s+(\w+)", texts[0])
    assert destroys and found[lab.dev].writes == (destroys.group(1) != "No")


def test_every_shipped_plan_can_be_run(lab: Lab) -> None:
    found = sorted(plan.shipped_jobs().glob("plans/*.toml"))
    assert found and len(SHIPPED) > 30
    for path in found:
        runner.Execution(lab.store, plan.load(path), 0).check()


def test_two_names_of_one_drive_are_told(lab: Lab) -> None:
    lab.machine.put("/sys/class/block/nvme987n1/dev", "259:0")
    lab.machine.put("/sys/class/block/other/dev", "259:0")
    more = ('[hosts.a]\n[hosts.b]\nparameters = { DEV = "/dev/other" }\n' + TARGET)
    with pytest.raises(NightlyError, match=r"name /dev/nvme987n1 and /dev/other, which are one drive \(device 259:0\)"):
        held_night(lab, more, lambda: None)


def test_the_drive_is_let_go(lab: Lab) -> None:
    lab.night()
    open_now = {os.path.realpath(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd")}
    assert str(lab.machine.root / "dev/nvme987n1") not in open_now


def test_the_store_is_in_a_folder_of_ones_own_and_no_link(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    with pytest.raises(PermissionError, match="anybody may write to it"):
        Store(shared / "n.db")
    (tmp_path / "n.db").symlink_to(tmp_path / "victim")
    with pytest.raises(NightlyError, match="is a symbolic link"):
        Store(tmp_path / "n.db")
    assert not (tmp_path / "victim").exists() and list(shared.iterdir()) == []


def test_colons_in_names_are_kept() -> None:
    job = jobfile.Job("[global]\nfilename=/dev/a\\:b:/x\n[j]\nrw=read\n", {})
    assert job.files == ["/dev/a:b", "/x"]
    assert job.on("/dev/a:b", "/d").text == "[global]\nfilename=/d:/x\n[j]\nrw=read\n"
    assert job.on("/x", "/d").text == "[global]\nfilename=/dev/a\\:b:/d\n[j]\nrw=read\n"
