# SPDX-License-Identifier: GPL-2.0-only
"""dmabuf-guard starts a command with a drive that is held, or refuses the drive and starts nothing."""

import os
import resource
import subprocess
import time
from pathlib import Path

import images
import pytest
from drives import Machine

from dmabuf_common import drive_guard, drive_program
from dmabuf_common.drive_guard import Demand, Refused
from dmabuf_common.drive_program import Wrong

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
MINE = ["--serial", "S1", "/dev/nvme0n1"]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine(tmp_path)
    made.drive()
    made.partition("nvme0n1", 1, "259:1", 1 << 20, 8 << 20)
    return made


def act(machine: Machine, *words: str) -> int:
    return drive_program.act(words, machine.system, machine.devices)


class Started:
    """The program in a process of its own, which the command takes the place of."""

    def __init__(self, machine: Machine, *words: str) -> None:
        self.child = os.fork()
        if not self.child:
            status = 70
            try:
                status = act(machine, *words)
            except Wrong:
                status = 71
            finally:
                os._exit(status)

    def ended(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])


# Ends with ten for each descriptor that is a drive, and one more where all their numbers are high.
NUMBERS = """
import os, sys
to = {int(name): os.path.realpath("/proc/self/fd/" + name) for name in os.listdir("/proc/self/fd")}
drives = [number for number, path in to.items() if "/dev/nvme" in path]
sys.exit(10 * len(drives) + (min(drives) >= 500))
"""


def free(machine: Machine) -> bool:
    """Whether somebody could claim the drive now."""
    try:
        drive_guard.claim("/dev/nvme0n1", Demand("S1"), (), machine.system, machine.devices).close()
    except Refused:
        return False
    return True


def sh(text: str) -> list[str]:
    """A command that gets the drive by both of its names."""
    return ["sh", "-c", text, "sh", "{fd}", "{path}"]


def test_the_command_gets_the_open_drive_and_gives_the_exit_status(machine: Machine) -> None:
    node = machine.root / "dev/nvme0n1"
    # The name leads elsewhere by the time that the command runs.
    text = f"cd {node.parent}; mv nvme0n1 nvme0n1.gone; [ $2 = /proc/self/fd/$1 ] && printf data > $2 && exit 7"
    assert Started(machine, *MINE, "--", *sh(text)).ended() == 7
    assert Path(f"{node}.gone").read_bytes()[:4] == b"data"


def test_the_drive_is_held_as_long_as_the_command_runs(machine: Machine) -> None:
    machine.drive("nvme1n1", "259:4")
    go, there = machine.root / "go", machine.root / "there"
    run = Started(machine, *MINE, "--", *sh(f"touch {there}; while [ ! -e {go} ]; do sleep 0.01; done"))
    end = time.monotonic() + 60
    while not there.exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert not free(machine)
    # By its other name neither: the command has that claim, too.
    with pytest.raises(OSError):
        os.close(machine.devices.claim(str(machine.root / "dev/nvme1n1"), os.O_RDONLY))
    go.touch()
    assert run.ended() == 0
    assert free(machine)


def test_a_signal_that_python_ignores_ends_the_command(machine: Machine) -> None:
    assert Started(machine, *MINE, "--", *sh("kill -PIPE $$")).ended() == -13


@pytest.mark.parametrize("words", [
    ["/dev/nvme0n1"], ["--serial", "S2", "/dev/nvme0n1"], ["--serial", "S1", "--nsid", "2", "/dev/nvme0n1"],
    ["--serial", "S1", "--wwid", "eui.1", "/dev/nvme0n1"]])
def test_a_drive_that_was_not_named_is_refused_and_nothing_started(machine: Machine, words: list[str]) -> None:
    mark = machine.root / "started"
    with pytest.raises(Refused, match="/dev/nvme0n1 is not overwritten"):
        act(machine, *words, "--", *sh(f"touch {mark}"))
    assert not mark.exists()


def test_what_is_on_it_is_lost_only_by_its_name(machine: Machine) -> None:
    images.ext4(machine.root / "dev/nvme0n1")
    with pytest.raises(Refused, match="holds ext4.*: --overwrite-signature ext4$"):
        act(machine, *MINE, "--", *sh("exit 9"))
    assert Started(machine, "--overwrite-signature", "ext4", *MINE, "--", *sh("exit 5")).ended() == 5


def test_a_consent_that_is_not_needed_is_said(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert act(machine, "--overwrite-signature", "xfs", *MINE) == 0
    said = "dmabuf-guard: --overwrite-signature xfs names what is not on /dev/nvme0n1\n"
    assert capsys.readouterr().err == said


def test_what_others_named_does_not_speak_to_the_terminal(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """Programs, labels and mount points are named by whoever made them; a serial number by the drive."""
    machine.put("/proc/self/mountinfo", f"22 1 259:1 / /a\\012dmabuf-guard:\x1b[8mb\u202e rw - ext4 none rw")
    with pytest.raises(Refused) as caught:
        act(machine, *MINE)
    assert r"is mounted at /a\ndmabuf-guard:\x1b[8mb\u202e: unmount it" in str(caught.value)
    machine.put("/proc/self/mountinfo", "")
    device = machine.system.real("/sys/block/nvme0n1/device")
    machine.put(f"{device}/model", "M\x1b[2J\x07é")
    assert act(machine, *MINE) == 0
    assert capsys.readouterr().out.startswith(r"/dev/nvme0n1 (M\x1b[2J\x07é S1) may be overwritten: all of")
    with drive_guard.observe("/dev/nvme0n1", Demand(), machine.system, machine.devices) as guard:
        machine.put("/proc/self/mountinfo", "22 1 259:1 / /\x1b[8m rw - ext4 none rw")
        assert any(r"mounted at /\x1b[8m: " in one for one in guard.against())


def test_a_mounted_partition_is_refused(machine: Machine) -> None:
    machine.put("/proc/self/mountinfo", "22 1 259:1 / /data rw - ext4 none rw")
    with pytest.raises(Refused, match="/dev/nvme0n1p1 is mounted at /data"):
        act(machine, *MINE, "--", *sh("exit 9"))


# A command that reads the drive from its descriptor, and cannot write by it.
READS = """
import os, sys
fd = int(sys.argv[1])
os.pread(fd, 1, 0)
try:
    os.pwrite(fd, b"w", 0)
except OSError:
    sys.exit(3)
"""


def test_reading_gives_no_path_by_which_the_drive_could_be_written(machine: Machine) -> None:
    for word in ("{path}", "--filename={path}", "/dev/fd/{fd}", "/proc/self/fd/{fd}"):
        with pytest.raises(Wrong, match="could open the drive for writing: with --read give it {fd}"):
            act(machine, "--read", *MINE, "--", "no-such-program", "{fd}", word)
    assert (machine.root / "dev/nvme0n1").read_bytes()[:4] == bytes(4)


def test_reading_knows_the_drive_and_claims_nothing(machine: Machine) -> None:
    reads = ["/usr/bin/python3", "-c", READS, "{fd}"]
    machine.put("/proc/self/mountinfo", "22 1 259:1 / /data rw - ext4 none rw")
    assert Started(machine, "--read", *MINE, "--", *reads).ended() == 3
    machine.put("/proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw")
    with drive_guard.claim("/dev/nvme0n1", Demand("S1"), (), machine.system, machine.devices):
        assert Started(machine, "--read", *MINE, "--", *reads).ended() == 3
    with pytest.raises(Refused, match="not S2"):
        act(machine, "--read", "--serial", "S2", "/dev/nvme0n1", "--", *reads)


def test_without_a_command_it_says_what_it_found_and_lets_go(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    assert act(machine, *MINE) == 0
    said = "/dev/nvme0n1 (M S1) may be overwritten: all of /dev/nvme0n1, 67108864 bytes\n"
    assert capsys.readouterr().out == said
    assert free(machine)
    assert act(machine, "--read", *MINE) == 0
    assert capsys.readouterr().out == "/dev/nvme0n1 (M S1) is the drive that is named\n"
    machine.link("/dev/mine", "/dev/nvme0n1p1")
    assert act(machine, "--serial", "S1", "/dev/mine") == 0
    said = "/dev/mine (M S1) may be overwritten: all of /dev/nvme0n1p1, 8388608 bytes\n"
    assert capsys.readouterr().out == said


def test_reading_without_a_name_says_which_drive_it_is(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert act(machine, "--read", "/dev/nvme0n1") == 0
    assert capsys.readouterr().out == "/dev/nvme0n1 is /dev/nvme0n1 (M S1)\n"


@pytest.mark.parametrize("option", ["--serial", "--wwid", "--nsid"])
def test_an_option_that_names_nothing_or_twice_is_wrong_usage(machine: Machine, option: str) -> None:
    for read in ((), ("--read",)):
        for blank in ("", " ", "\u00a0\t"):
            with pytest.raises(Wrong, match=f"{option} is empty"):
                act(machine, *read, option, blank, "/dev/nvme0n1")
        with pytest.raises(Wrong, match=f"{option} is given 2 times"):
            act(machine, *read, option, "S1", option, "S1", "/dev/nvme0n1")
    assert not machine.devices.opened


def test_a_command_that_is_not_there_is_wrong_usage(machine: Machine) -> None:
    for command in ((), ("",), ("", "{fd}")):
        with pytest.raises(Wrong, match="no command follows --"):
            act(machine, *MINE, "--", *command)
    assert not machine.devices.opened


def test_options_are_not_abbreviated(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--ser", "S1"], ["--serial", "S1", "--re"], ["--serial", "S1", "--over", "ext4"]):
        with pytest.raises(SystemExit) as ended:
            act(machine, *words, "/dev/nvme0n1")
        assert ended.value.code == 2 and "unrecognized arguments" in capsys.readouterr().err


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full"])
def test_streams_that_are_closed_are_no_fault_and_never_the_drive(machine: Machine, closed: str) -> None:
    """Run with a machine of files, in a process whose streams a shell closed."""
    common = Path(__file__).resolve().parent
    text = f"""
import sys
sys.path[:0] = [{str(SCRIPTS)!r}, {str(common)!r}]
from pathlib import Path
import drives
from dmabuf_common import drive_program
machine = drives.Machine(Path({str(machine.root / "inner")!r}))
machine.drive()
act = drive_program.act
drive_program.act = lambda argv: act(argv, machine.system, machine.devices)
sys.exit(drive_program.main(sys.argv[1:]))
"""
    (machine.root / "inner").mkdir()
    (machine.root / "run.py").write_text(text)
    (machine.root / "said").touch()
    run = ["/usr/bin/python3", "-B", str(machine.root / "run.py"), *MINE]
    say = "import os, sys; [os.fstat(n) for n in range(3)]; os.write(1, b'lost') if sys.argv[2] else None; sys.exit(5)"

    def shell(words: list[str]) -> int:
        text = f'"$@" {closed}'
        done = subprocess.run(["bash", "-c", text, "bash", *words], capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr and "Exception" not in done.stderr
        return done.returncode

    assert shell(run) == (2 if "full" in closed else 0)
    for path in (machine.root / "inner").iterdir():
        if path.is_dir() and not path.is_symlink():
            subprocess.run(["rm", "-r", str(path)], check=True)
    write = "" if "full" in closed else "1"
    assert shell([*run, "--", "/usr/bin/python3", "-c", say, "{fd}", write]) == 5
    assert (machine.root / "inner/dev/nvme0n1").read_bytes() == bytes(64 << 20)


def test_a_command_that_would_open_the_drive_by_its_name_is_not_started(machine: Machine) -> None:
    with pytest.raises(Wrong, match=r"fio would not get the drive: say where, by \{fd\} or \{path\}"):
        act(machine, *MINE, "--", "fio", "--name=x")
    with pytest.raises(Wrong, match="no-such-program cannot be started: No such file"):
        act(machine, *MINE, "--", "no-such-program", "{fd}")
    assert free(machine)


def test_a_number_that_a_shell_uses_itself_is_not_the_drives(machine: Machine) -> None:
    """dash, bash and Python give what they open the smallest numbers, whatever is there."""
    machine.drive("nvme1n1", "259:4")
    own = machine.root / "own"
    own.write_text("its own")
    for shell in ("sh", "bash"):
        text = f"for n in 3 4 5 6 7 8 9; do eval \"exec $n<{own}\"; done; printf {shell} 1<>$2 && [ $1 -ge 500 ]"
        run = Started(machine, *MINE, "--", shell, "-c", text, shell, "{fd}", "{path}")
        assert run.ended() == 0
        assert (machine.root / "dev/nvme0n1").read_bytes().startswith(shell.encode())
    assert own.read_text() == "its own"
    # Both claims, of the drive and of its other name, have such numbers, and no small one is left.
    assert Started(machine, *MINE, "--", "/usr/bin/python3", "-c", NUMBERS, "{fd}").ended() == 21


def test_where_the_limit_of_open_files_is_low_nothing_is_started(machine: Machine) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with pytest.raises(Wrong, match="256 open files are too few.*ulimit -n 1024"):
            act(machine, *MINE, "--", "no-such-program", "{fd}")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert free(machine)


@pytest.mark.parametrize("word", ["exec {fd}>log", "exec {fd}>&-", "read x {fd}<file", "{fd}>>log"])
def test_a_command_that_replaces_the_descriptor_is_not_started(machine: Machine, word: str) -> None:
    with pytest.raises(Wrong, match="a shell would put another file in place"):
        act(machine, *MINE, "--", "no-such-program", "-c", word, "{path}")
    assert free(machine)


NAMES = {
    "the drive": "--filename=/dev/nvme0n1", "its partition": "/dev/nvme0n1p1", "another drive": "of=/dev/nvme9n1",
    "a link": "/dev/disk/by-id/nvme-S1", "a name with a colon": "--filename=/dev/disk/by-path/pci-0000:01:00.0-nvme-1",
    "as fio has it": "--filename=/dev/disk/by-path/pci-0000\\:01\\:00.0-nvme-1",
    "in a script": "dd of=/dev/nvme9n1; sync",
    "glued to an option": "-o/dev/nvme9n1", "as a URL": "file:///dev/nvme9n1", "of a list": "{x,/dev/nvme9n1}",
    "as curl has it": "@/dev/nvme9n1", "in a list of Python": "open([/dev/nvme9n1])",
    "two of them": "--filename=/dev/zero:/dev/nvme9n1", "its character device": "/dev/ng9n1",
}


@pytest.mark.parametrize("word", NAMES.values(), ids=NAMES)
def test_a_command_that_has_a_drives_name_besides_is_not_started(machine: Machine, word: str) -> None:
    machine.drive("nvme9n1", "259:4", serial="S9", wwid="eui.9")
    for name in ("by-id/nvme-S1", "by-path/pci-0000:01:00.0-nvme-1"):
        machine.link(f"/dev/disk/{name}", "/dev/nvme9n1")
    machine.link("/dev/ng9n1", "/none")
    (machine.root / "dev/ng9n1").unlink()
    (machine.root / "dev/ng9n1").symlink_to("/dev/null")
    machine.link("/sys/dev/char/1:3/subsystem", "/sys/class/nvme-generic")
    (machine.root / "sys/class/nvme-generic").mkdir()
    with pytest.raises(Wrong, match="would open a drive by its name"):
        act(machine, *MINE, "--", "no-such-program", word, "{path}")
    assert free(machine)


def test_what_only_looks_like_a_name_is_no_hindrance(machine: Machine) -> None:
    words = ["/dev/zero", "if=/dev/null:/dev/full", "nvme0n1", "a=b=c", "", "/", "--name=x y"]
    assert Started(machine, *MINE, "--", *sh("exit 6"), *words).ended() == 6


def test_words_of_the_command_are_its_own() -> None:
    assert drive_program.parted(["--serial", "S", "D", "--", "a", "--", "--serial"]) == (
        ["--serial", "S", "D"], ["a", "--", "--serial"])
    assert drive_program.parted(["D"]) == (["D"], [])


def test_the_program_itself_refuses_what_is_no_drive(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"kept")
    mark = tmp_path / "started"
    done = subprocess.run([SCRIPTS / "dmabuf-guard", "--serial", "S", str(file), "--", "touch", str(mark), "{fd}"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2 and not mark.exists()
    assert done.stderr.startswith(f"dmabuf-guard: {file} is no block device")
    said = subprocess.run([SCRIPTS / "dmabuf-guard", "--help"], capture_output=True, text=True, check=False)
    assert said.returncode == 0 and "{path}" in said.stdout


@pytest.mark.parametrize("program", ["dmabuf-guard", "dmabuf-qual", "dmabuf-nightly", "dmabuf-bench"])
def test_the_environment_brings_no_module_of_its_own(tmp_path: Path, program: str) -> None:
    """All of them run as root, with whatever environment somebody left."""
    for name in ("argparse", "dmabuf_common", "sitecustomize", "fcntl", "json", "subprocess"):
        (tmp_path / f"{name}.py").write_text("import os\nos._exit(66)\n")
    done = subprocess.run([SCRIPTS / program, "--help"], capture_output=True, text=True, check=False,
                          cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0 and done.stdout.startswith(f"usage: {program}")
