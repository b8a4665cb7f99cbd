# SPDX-License-Identifier: GPL-2.0-only
"""The question without I/O: each refusal by its name, the JSON as its schema says, the exit status."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dmabuf_common import process
from dmabuf_common.process import Ended
from dmabuf_common.sysfs import System
from dmabuf_qual import cli, drive as drives, exporters, paths, preflight, tools
from dmabuf_qual.checks import RED
from dmabuf_qual.errors import QualError

TOP = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((TOP / "docs/schema/paths.schema.json").read_text())
NO_ROUTE = ("/dev/nvme0n1 cannot be used with datapath premapped: there is no peer-to-peer route from the "
            "drive to this memory (NO_P2P_ROUTE, EREMOTEIO); put both behind one PCIe switch, or check the "
            "IOMMU and ACS settings")
NO_CUDA = "libcuda.so.1 cannot be loaded (libcuda.so.1: cannot open shared object file); install the driver"

Said = dict[str, Any]


def way(**changes: Any) -> Said:
    return {"works": True, "memory": "system", "route": "memory", "segments": 3, "max_command_bytes": 0, **changes}


class Integrity:
    """Stands in for dmabuf-integrity: what it says, by the words it is called with."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.facts: Callable[[list[str]], Said] = lambda argv: {}
        self.ended: Ended | None = None

    def run(self, argv: list[str], limit_s: float) -> Ended:
        assert 0 < limit_s < 1000
        self.calls.append(argv[1:])
        if self.ended and argv[1] != "query":
            return self.ended
        said = self.facts(argv) if argv[1] == "paths" else {}
        if "error" not in said:
            said = {"case": argv[1], "facts": said, "findings": [], "compared_bytes": 0, "transfers": 0}
        return Ended(2 if "error" in said else 0, json.dumps(said), "", 0.1)


@pytest.fixture
def integrity(monkeypatch: pytest.MonkeyPatch) -> Integrity:
    made = Integrity()
    monkeypatch.setattr(process, "run", made.run)
    monkeypatch.setattr(tools, "integrity_program", lambda: "integrity")
    return made


@pytest.fixture
def system(tmp_path: Path) -> System:
    """Two drives, one of them not NVMe; a partition; a loop device and a hidden path of a head."""
    for name, number, device in (("nvme0n1", "259:0", True), ("vda", "254:0", True),
                                 ("loop0", "7:0", False), ("nvme1c1n1", "", True)):
        folder = tmp_path / "sys/block" / name
        (folder / "queue").mkdir(parents=True)
        (folder / "queue/max_sectors_kb").write_text("128")
        (folder / "size").write_text("2048")
        if number:
            (folder / "dev").write_text(number)
        if device:
            (folder / "device").mkdir()
            (folder / "device/model").write_text("Some Drive")
            (folder / "device/serial").write_text("S1")
    (tmp_path / "sys/block/nvme0n1/nvme0n1p1").mkdir()
    (tmp_path / "sys/block/nvme0n1/nvme0n1p1/partition").write_text("1")
    (tmp_path / "sys/block/nvme0n1/nvme0n1p1/size").write_text("1024")
    (tmp_path / "sys/class/block").mkdir(parents=True)
    (tmp_path / "sys/class/block/nvme0n1p1").symlink_to(tmp_path / "sys/block/nvme0n1/nvme0n1p1")
    (tmp_path / "sys/module/dmabuf_rw").mkdir(parents=True)
    (tmp_path / "sys/module/dmabuf_rw/version").write_text("0.1.0")
    return System(tmp_path)


def find(system: System, devices: list[str], specs: list[str], named: bool = True) -> paths.Answer:
    answer = paths.find("integrity", system, devices, specs, named, lambda name: None)
    jsonschema.Draft202012Validator(SCHEMA).validate(answer.words())
    return answer


def test_the_schema_is_a_schema_and_refuses_what_is_none() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    good = {"format": "libdmabuf-paths", "version": 1, "kernel": "7.3", "module": "1", "direct": 0,
            "not_direct": 0, "exporters": [{"exporter": "cuda", "made": False, "reason": "NOT_AVAILABLE", "text": "t"}],
            "drives": [{"device": "/dev/a", "model": "", "serial": "", "multipath": False, "paths": []}]}
    check = jsonschema.Draft202012Validator(SCHEMA)
    check.validate(good)
    no_reason = {"exporter": "cuda", "made": False}
    no_device = {"exporter": "cuda", "made": True}
    for bad in ({**good, "version": 2}, {**good, "more": 1}, {**good, "exporters": [no_reason]},
                {**good, "exporters": [no_device]},
                {**good, "exporters": [{**no_device, "device": "d", "reason": "A"}]}):
        assert not check.is_valid(bad), bad


def test_how_the_exporter_made_its_memory_is_said(integrity: Integrity, system: System) -> None:
    """The record of a run has it, too: it is a fact of the same program."""
    made = {"exporter_device": "0000:41:00.0", "pci": "0000:41:00.0", "exported": "vmm+pcie"}
    integrity.facts = lambda argv: {**made, **{path: way() for path in paths.DATAPATHS}}
    answer = find(system, ["/dev/nvme0n1"], ["cuda:0000:41:00.0+vmm"])
    said = answer.words()
    assert said["exporters"] == [{"exporter": "cuda:0000:41:00.0+vmm", "made": True, "device": "0000:41:00.0",
                                  "pci": "0000:41:00.0", "exported": "vmm+pcie"}]
    jsonschema.Draft202012Validator(SCHEMA).validate(said)


def test_the_drives_of_a_machine_are_its_own_whole_disks(system: System) -> None:
    assert paths.devices(system) == ["/dev/nvme0n1", "/dev/vda"]


def test_each_datapath_of_a_drive_says_its_way(integrity: Integrity, system: System) -> None:
    def facts(argv: list[str]) -> Said:
        made = {"exporter_device": "0000:41:00.0", "pci": "0000:41:00.0", "buffer_bytes": 8 << 20}
        if "--device" not in argv:
            return {**made, "registered": way()}
        return {**made, "premapped": way(memory="peer", route="switch", segments=1, max_command_bytes=524288,
                                         controller=3),
                "registered": {"works": False, "errno": 95, "text":
                    "/dev/nvme0n1 cannot be used with datapath registered: the exporter gives the kernel no view of "
                    "the memory, or a wrong one (NO_CPU_VIEW, EOPNOTSUPP); use premapped"},
                "bvec": way()}

    integrity.facts = facts
    answer = find(system, ["/dev/nvme0n1"], ["cuda:0000:41:00.0"])
    said = answer.words()
    assert said["exporters"] == [{"exporter": "cuda:0000:41:00.0", "made": True, "device": "0000:41:00.0",
                                  "pci": "0000:41:00.0"}]
    premapped, registered, bvec = said["drives"][0]["paths"]
    assert premapped == {"exporter": "cuda:0000:41:00.0", "datapath": "premapped", "works": True, "memory": "peer",
                         "route": "switch", "segments": 1, "direct": True, "command_bytes": 524288, "controller": "nvme3"}
    assert (registered["works"], registered["reason"]) == (False, "NO_CPU_VIEW")
    assert registered["text"].startswith("the exporter gives the kernel no view")
    # What is not premapped is cut by the block layer.
    assert bvec["command_bytes"] == 128 << 10 and "controller" not in bvec
    # bvec works, over memory that is no device's: that is not what the exporter is named for.
    assert bvec["direct"] is False
    assert (answer.direct, answer.status, said["direct"], said["not_direct"]) == (1, 0, 1, 1)
    text = paths.table(answer)
    assert "a device's memory, peer to peer by a PCIe switch, 512 KiB a command, by nvme3" in text
    assert "NO_CPU_VIEW: the exporter gives" in text
    assert "1 direct datapath, 1 over other memory; nothing was read or written" in text
    assert "the machine's memory, no device's, by the memory bus" in text


@pytest.mark.parametrize("mdts,words", [(131072, ["--max-command", "131072"]), (0, []), (None, [])])
def test_the_drives_own_limit_is_what_a_command_may_be(
    integrity: Integrity, system: System, mdts: int | None, words: list[str]
) -> None:
    found = drives.find("/dev/nvme0n1", system)
    integrity.facts = lambda argv: {path: way(controller=0) for path in paths.DATAPATHS}
    asked = paths.of_drive("integrity", system, dataclasses.replace(found, mdts=mdts), [paths.Exporter("udmabuf", "u")])
    assert integrity.calls[0][5:] == words
    assert asked.ways[0].controller == "nvme0"


def test_no_datapath_at_all_is_77_with_the_reasons(integrity: Integrity, system: System) -> None:
    def facts(argv: list[str]) -> Said:
        no = {"works": False, "errno": 121, "text": NO_ROUTE}
        made = {"exporter_device": "0000:05:00.0/2", "pci": "0000:05:00.0"}
        return {**made, **{path: no for path in paths.DATAPATHS}}

    integrity.facts = facts
    answer = find(system, ["/dev/nvme0n1"], ["vfio:0000:05:00.0"])
    assert (answer.direct, answer.status) == (0, 77)
    assert "no direct datapath; nothing was read or written" in paths.table(answer)
    assert {one["reason"] for one in answer.words()["drives"][0]["paths"]} == {"NO_P2P_ROUTE"}


def test_an_exporter_that_is_not_there_says_why_and_is_not_asked_again(
    integrity: Integrity, system: System
) -> None:
    integrity.facts = lambda argv: {"error": NO_CUDA, "errno": 2}
    answer = find(system, ["/dev/nvme0n1", "/dev/vda"], ["cuda"])
    assert answer.words()["exporters"][0] == {"exporter": "cuda", "made": False, "reason": "NOT_AVAILABLE",
                                              "text": NO_CUDA}
    assert [call[0] for call in integrity.calls] == ["query", "paths"]
    assert "not there:\n  cuda  NOT_AVAILABLE: libcuda.so.1 cannot be loaded" in paths.table(answer)
    assert answer.status == 77


def test_a_partition_is_asked_by_its_own_name(integrity: Integrity, system: System) -> None:
    integrity.facts = lambda argv: {"exporter_device": "u", **{path: way() for path in paths.DATAPATHS}}
    find(system, ["/dev/nvme0n1p1"], ["udmabuf"])
    assert ["--device", "/dev/nvme0n1p1"] == integrity.calls[-1][1:3]


@pytest.mark.parametrize("ended,reason,says", [
    (Ended(-9, "", "", 60.0, True, "dma_fence_wait"), "IO_HANG", "blocked in dma_fence_wait"),
    (Ended(-11, "", "died", 1.0), "PROBE_FAILED", "status -11: died"),
    (Ended(0, "[]", "", 1.0), "PROBE_FAILED", "status 0"),
])
def test_a_question_that_is_not_answered_has_a_name(
    integrity: Integrity, system: System, ended: Ended, reason: str, says: str
) -> None:
    integrity.ended = ended
    said = find(system, ["/dev/nvme0n1"], ["udmabuf"]).words()["exporters"][0]
    assert said["reason"] == reason and says in said["text"]


def test_nothing_but_questions_is_asked(integrity: Integrity, system: System) -> None:
    integrity.facts = lambda argv: {"exporter_device": "u", **{path: way() for path in paths.DATAPATHS}}
    find(system, ["/dev/nvme0n1", "/dev/vda"], ["udmabuf", "heap:/dev/dma_heap/system"])
    assert {call[0] for call in integrity.calls} == {"query", "paths"}
    assert all("--serial" not in call and "--device-fd" not in call for call in integrity.calls)


def test_names_are_those_of_the_page_of_errors() -> None:
    page = (TOP / "docs/errors.md").read_text()
    assert paths.why(NO_ROUTE).reason in page
    assert paths.why("SMALL_BAR: the job's buffer needs 8 MiB").reason == "SMALL_BAR"
    assert paths.why("SIZE_CAP: the job's buffer needs 8 MiB and udmabuf").reason == "SIZE_CAP"
    assert paths.why("EIO: x") == paths.No("NOT_AVAILABLE", "EIO: x")
    assert paths.why("there is no /dev/dmabuf_testexp") == paths.No("NOT_AVAILABLE", "there is no /dev/dmabuf_testexp")


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = cli.main(["paths", *words])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_the_command_prints_json_and_ends_with_the_status(
    integrity: Integrity, system: System, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "System", lambda: system)
    integrity.facts = lambda argv: {"exporter_device": "u", **{path: way() for path in paths.DATAPATHS}}
    status, out, _ = run(capsys, "--json", "--exporter", "udmabuf", "--exporter", "udmabuf")
    said = json.loads(out)
    assert (status, said["direct"]) == (0, 6)
    assert [one["device"] for one in said["drives"]] == ["/dev/nvme0n1", "/dev/vda"]
    assert len(said["exporters"]) == 1
    # Without exporters, all kinds are asked, and the machine's own memory is nobody's question.
    status, out, _ = run(capsys, "--json", "/dev/vda")
    said = json.loads(out)
    kinds = [kind for kind in exporters.KINDS if kind not in exporters.OWN]
    assert (status, said["direct"], said["not_direct"]) == (77, 0, 3 * len(kinds))
    assert [one["exporter"] for one in said["exporters"]] == kinds
    integrity.facts = lambda argv: {"error": NO_CUDA, "errno": 2}
    assert run(capsys, "--exporter", "cuda", "/dev/vda")[0] == 77


def test_wrong_words_and_a_missing_module_end_with_2(
    integrity: Integrity, system: System, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "System", lambda: system)
    integrity.facts = lambda argv: {"exporter_device": "u", **{path: way() for path in paths.DATAPATHS}}
    assert run(capsys, "--exporter", "gpu")[0] == 2
    assert run(capsys, "--exporter", "vfio")[0] == 2
    assert run(capsys, "--exporter", "udmabuf", "/dev/nothing")[0] == 2
    text = "there is no /dev/dmabuf_rw: the dmabuf_rw kernel module is not loaded"
    monkeypatch.setattr(paths, "ask", lambda *words: paths.No("NOT_AVAILABLE", text))
    status, _, err = run(capsys)
    assert status == 2 and text in err
    with pytest.raises(QualError):
        find(system, [], [])


@pytest.mark.parametrize("spec,memory,named,direct", [
    ("cuda:0", "peer", False, True), ("cuda:0", "peer", True, True), ("vfio:0000:05:00.0", "peer", True, True),
    # A device's exporter stands for the device's memory alone, whoever asks.
    ("cuda:0", "system", True, False), ("drm:/dev/dri/card0", "system", True, False),
    ("cuda:0", "mixed", True, False), ("cuda:0", "unknown", True, False),
    # The machine's own memory is what a heap stands for, and an answer only to who asks about it.
    ("udmabuf", "system", False, False), ("heap", "system", False, False),
    ("udmabuf", "system", True, True), ("heap", "system", True, True), ("testexp", "system", True, True),
])
def test_direct_is_a_way_to_the_memory_that_the_exporter_stands_for(
    integrity: Integrity, system: System, spec: str, memory: str, named: bool, direct: bool
) -> None:
    route = {"peer": "switch", "system": "memory"}.get(memory, "unknown")
    no = {"works": False, "errno": 121, "text": NO_ROUTE}
    integrity.facts = lambda argv: {"exporter_device": "x", "registered": no, "bvec": no,
                                    "premapped": way(memory=memory, route=route)}
    answer = find(system, ["/dev/nvme0n1"], [spec], named)
    assert (answer.status, answer.direct) == ((0, 1) if direct else (77, 0))
    said = answer.words()
    assert said["drives"][0]["paths"][0]["direct"] is direct
    assert said["not_direct"] == (not direct)
    assert ("1 direct datapath" if direct else "no direct datapath, 1 over") in paths.table(answer)


@pytest.mark.parametrize("queue,segments,kib", [
    ({"max_segments": 127}, 2048, 508),  # 4 KiB each
    ({"max_segments": 127}, 8, 1280),  # 1 MiB each: the limit of bytes comes first
    ({"max_segments": 127, "max_segment_size": 65536}, 8, 1280),  # a piece counts for 16
    ({"max_segments": 4, "max_segment_size": 65536}, 8, 256),
    ({}, 2048, 1280), ({"max_segments": 0}, 2048, 1280),
])
def test_a_command_has_no_more_pieces_than_the_drive_takes(
    integrity: Integrity, system: System, queue: dict[str, int], segments: int, kib: int
) -> None:
    folder = system.path("/sys/block/nvme0n1/queue")
    for name, value in {"max_sectors_kb": 1280, **queue}.items():
        (folder / name).write_text(str(value))
    integrity.facts = lambda argv: {"exporter_device": "u", "buffer_bytes": 8 << 20,
                                    "premapped": way(segments=segments, max_command_bytes=524288),
                                    **{path: way(segments=segments) for path in ("registered", "bvec")}}
    ways = find(system, ["/dev/nvme0n1"], ["udmabuf"]).drives[0].ways
    # premapped's own limit is the module's word, and its commands have no list of pieces.
    assert [way.command_bytes >> 10 for way in ways] == [512, kib, kib]


@pytest.mark.parametrize("cmdline,bounced", [("quiet swiotlb=force", True), ("swiotlb=65536,force", True),
                                             ("swiotlb=65536,2,force ro", True), ("swiotlb=noforce", False),
                                             ("swiotlb=65536", False), ("xswiotlb=force", False),
                                             ("", False)])
def test_what_the_kernel_copies_is_not_direct(
    integrity: Integrity, system: System, cmdline: str, bounced: bool
) -> None:
    """As preflight says it. What premapped does is the module's own word: it refuses there."""
    (system.path("/proc")).mkdir()
    (system.path("/proc/cmdline")).write_text(cmdline + "\n")
    integrity.facts = lambda argv: {"exporter_device": "u", **{path: way() for path in paths.DATAPATHS}}
    answer = find(system, ["/dev/nvme0n1"], ["udmabuf"])
    copied = "BOUNCED" if bounced else ""
    assert [way.no.reason if way.no else "" for way in answer.drives[0].ways] == ["", copied, copied]
    assert [check.name for check in preflight.kernel(system, str) if check.level == RED] == ["BOUNCED"] * bounced
    assert answer.direct == (1 if bounced else 3)


def test_a_bar_that_is_full_has_its_name() -> None:
    """As the engine says it for exporter cuda, in the place of the module's own reason."""
    no = paths.why("/dev/nvme0n1 cannot be used with datapath premapped: a drive reaches GPU 0000:41:00.0 by its BAR1 of "
                   "256 MiB, which all that is mapped shares and which is less than its memory (SMALL_BAR, ENOMEM); "
                   "give --buffer less, or turn on Resizable BAR and Above 4G Decoding in the firmware's setup")
    assert no.reason == "SMALL_BAR" and "BAR1 of 256 MiB" in no.text and "Resizable BAR" in no.text
