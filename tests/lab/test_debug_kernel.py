# SPDX-License-Identifier: GPL-2.0-only
"""The debug kernel's recipe, and what is made of its reports."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from dmabuf_common import kernel_log
from dmabuf_lab import config, debug_kernel, leaks, verdict
from dmabuf_lab.vm import Outcome

GUEST = Path(debug_kernel.__file__).with_name("guest")

REPORT = """\
unreferenced object 0xffff888104c58a00 (size 512):
  comm "isolation", pid 211, jiffies 4294941234
  hex dump (first 32 bytes):
    00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00  ................
  backtrace (crc 0):
    kmemleak_alloc+0x40/0x80
    __kmalloc_cache_noprof+0x230/0x2c0
    dmabuf_rw_map+0x45 [dmabuf_rw]
    dmabuf_rw_ioctl+0x10 [dmabuf_rw]
    __x64_sys_ioctl+0xb2/0xd0"""


@pytest.fixture(name="checks")
def _checks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("debug_checks", GUEST / "debug_checks.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["debug_checks"] = module
    spec.loader.exec_module(module)
    return module


def test_a_setting_that_the_kernel_dropped_is_named() -> None:
    fragment = 'CONFIG_A=y\nCONFIG_B=m\nCONFIG_N="-x"\n# optional:\nCONFIG_C=y\n'
    made = 'CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_N="-x"\n'
    assert debug_kernel.unmet(fragment, made) == ["CONFIG_B=m"]


def test_a_setting_that_must_be_off_and_is_not_is_named() -> None:
    fragment = "CONFIG_A=y\n# CONFIG_B is not set\n# CONFIG_C is not set\n"
    assert debug_kernel.unmet(fragment, "CONFIG_A=y\nCONFIG_B=m\n") == ["CONFIG_B=n"]


def test_changes_take_the_place_of_the_settings_that_they_name() -> None:
    base = "# head\nCONFIG_A=y\nCONFIG_AB=y\n# CONFIG_D is not set\n# optional:\nCONFIG_C=y\n"
    changes = "# why\nCONFIG_D=y\n# CONFIG_A is not set\n"
    assert debug_kernel.merged(base, changes) == (
        "# why\nCONFIG_D=y\n# CONFIG_A is not set\n# head\nCONFIG_AB=y\n# optional:\nCONFIG_C=y\n"
    )
    required, optional = debug_kernel.wanted(debug_kernel.merged(base, changes))
    assert (set(required), set(optional)) == ({"CONFIG_D", "CONFIG_AB"}, {"CONFIG_C"})


def test_the_kernel_for_data_races_has_kcsan_in_place_of_kasan_and_lockdep() -> None:
    required, _ = debug_kernel.wanted(debug_kernel.fragment("kcsan"))
    assert required["CONFIG_KCSAN"] == "y"
    for name in ("KASAN", "KASAN_INLINE", "PROVE_LOCKING"):
        assert f"CONFIG_{name}" not in required
    for name in ("DMA_API_DEBUG", "DEBUG_KMEMLEAK", "KPROBES"):
        assert required[f"CONFIG_{name}"] == "y"
    # Without it, KCSAN is there and does nothing.
    assert required["CONFIG_KCSAN_EARLY_ENABLE"] == "y"
    for flavour, setting, on in (
        ("debug", "CONFIG_PROVE_LOCKING", True),
        ("debug", "CONFIG_KCSAN", False),
        ("kcsan", "CONFIG_PROVE_LOCKING", False),
        ("kcsan", "CONFIG_KCSAN", True),
    ):
        assert debug_kernel.has(flavour, setting) == on


def test_the_real_time_one_looks_for_locks_that_sleep_where_nothing_may() -> None:
    for setting in ("PREEMPT_RT", "DEBUG_ATOMIC_SLEEP", "PROVE_LOCKING", "PROVE_RAW_LOCK_NESTING"):
        assert debug_kernel.has("debug-rt", f"CONFIG_{setting}")
    assert not debug_kernel.has("debug", "CONFIG_PREEMPT_RT")
    assert debug_kernel.has("debug-rt", "CONFIG_DMA_API_DEBUG") and not debug_kernel.has("debug-rt", "CONFIG_KASAN")


def test_every_change_is_one() -> None:
    # A setting that debug-kernel.config has not, or has with the same value, need not be turned off.
    base, _ = debug_kernel.wanted(debug_kernel.fragment())
    folder = Path(debug_kernel.__file__).parent
    for changes in filter(None, config.DEBUG_FLAVOURS.values()):
        text = (folder / changes).read_text()
        off = re.findall(r"^# (CONFIG_\w+) is not set$", text, re.MULTILINE)
        assert all(name in base for name in off)
        assert all(base.get(name) != value for name, value in debug_kernel.wanted(text)[0].items())


def test_no_two_debug_kernels_have_the_same_release() -> None:
    fragments = [debug_kernel.wanted(debug_kernel.fragment(name))[0] for name in config.DEBUG_FLAVOURS]
    releases = [settings["CONFIG_LOCALVERSION"] for settings in fragments]
    assert len(set(releases)) == len(releases)


def test_the_fragment_asks_for_what_finds_mistakes() -> None:
    required, _ = debug_kernel.wanted(debug_kernel.fragment())
    for name in ("KASAN", "PROVE_LOCKING", "DMA_API_DEBUG", "DMABUF_DEBUG", "DEBUG_KMEMLEAK"):
        assert required[f"CONFIG_{name}"] == "y"


def test_kmemleaks_file_is_split_into_its_reports(checks: ModuleType) -> None:
    assert checks.split_reports(f"{REPORT}\n{REPORT}\n") == [REPORT, REPORT]
    assert checks.split_reports("") == []


def test_addresses_of_a_module_that_is_gone_are_named(checks: ModuleType) -> None:
    kallsyms = (
        "ffffffffc0001000 t dmabuf_rw_map\t[dmabuf_rw]\n"
        "ffffffffc0001800 t dmabuf_rw_unmap\t[dmabuf_rw]\n"
        "ffffffffc0001900 d data\t[dmabuf_rw]\n"
        "ffffffffc0900000 t other\t[nvme]\n"
    )
    symbols = checks.Symbols(kallsyms, ["dmabuf_rw"])
    assert symbols.resolve("    0xffffffffc0001045") == "    dmabuf_rw_map+0x45 [dmabuf_rw]"
    assert symbols.resolve("    0xffffffffc0001810") == "    dmabuf_rw_unmap+0x10 [dmabuf_rw]"
    assert symbols.resolve("    0xffffffffc0900010") == "    0xffffffffc0900010"
    assert symbols.resolve("    0xffffffffc0000010") == "    0xffffffffc0000010"


def test_file_systems_of_drives_are_unmounted_from_the_inside_out(checks: ModuleType) -> None:
    mounts = "root / 9p ro 0 0\n/dev/nvme0n1 /mnt ext4 rw 0 0\n/dev/nvme0n2 /mnt/in xfs rw 0 0\n"
    assert checks.mounted_disks(mounts) == ["/mnt/in", "/mnt"]


def test_mappings_of_devices_without_a_driver_are_counted(checks: ModuleType) -> None:
    tail = "idx 1 P=0x0 D=0 L=1000 cln=0x0 DMA_TO_DEVICE dma map error checked attrs=0x0"
    lines = [
        f"nvme 0000:00:04.0 coherent {tail}",
        f"pci 0000:00:05.0 scatter-gather {tail}",
        f"pci 0000:00:05.0 coherent {tail}",
        f"misc udmabuf scatter-gather {tail}",
    ]
    found = checks.mappings_left("\n".join(lines))
    assert found == ["2 DMA mapping(s) left on device 0000:00:05.0"]
    assert checks.mappings_left("") == []


@pytest.mark.parametrize(
    ("stats", "problems"), [(" debug_locks:      1\n", 0), (" debug_locks:   0\n", 1), ("", 1)]
)
def test_a_lockdep_that_stopped_looking_is_a_problem(
    checks: ModuleType, stats: str, problems: int
) -> None:
    assert len(checks.lockdep_off(stats)) == problems


@pytest.mark.parametrize(
    ("stats", "problems"),
    [
        ("enabled: 1\nused_watchpoints: 0\nsetup_watchpoints: 12\ndata_races: 0\n", 0),
        ("enabled: 1\nused_watchpoints: 0\nsetup_watchpoints: 0\ndata_races: 0\n", 1),
        ("enabled: 0\nused_watchpoints: 0\nsetup_watchpoints: 12\ndata_races: 0\n", 1),
        ("", 1),
    ],
)
def test_a_kcsan_that_does_not_look_is_a_problem(
    checks: ModuleType, stats: str, problems: int
) -> None:
    assert len(checks.kcsan_off(stats)) == problems


def test_a_leak_fails_a_run_and_says_where() -> None:
    outcome = Outcome(status=0, ended=True, ready=True, leaks=[REPORT, REPORT])
    outcome.kmsg = ["6 kmemleak: 2 new suspected memory leaks (see /sys/kernel/debug/kmemleak)"]
    result = verdict.judge(outcome, 600)
    assert result.status == 1
    assert result.reasons == [
        "kmemleak: 512 bytes leaked by isolation, allocated in dmabuf_rw_map+0x45 [dmabuf_rw] < "
        "dmabuf_rw_ioctl+0x10 [dmabuf_rw] < __x64_sys_ioctl+0xb2/0xd0"
    ]
    assert REPORT.splitlines()[0] in result.log


def test_every_allowed_leak_has_a_reason() -> None:
    assert all(reason for _, reason in leaks.ALLOWED)


def test_only_the_entries_of_the_kernels_own_table_may_leak() -> None:
    start = 'unreferenced object 0xffff888110b66340 (size 32):\n  comm "p2p", pid 1, jiffies 1\n'
    kernels = ("__kmalloc_noprof+0x1/0x2", "__sg_alloc_table+0x1/0x2", "sg_alloc_table+0x1/0x2")
    ours = ("dma_buf_map_attachment+0x1/0x2", "attach_map+0x81 [dmabuf_rw]")
    allowed = (*kernels, "dma_buf_phys_vec_to_sgt+0x247/0xcd0", *ours)
    others = ((*kernels, *ours), (kernels[0], "dma_buf_phys_vec_to_sgt+0x1/0x2", *ours))
    for trace, count in ((allowed, 0), *((other, 1) for other in others)):
        report = f"{start}  backtrace (crc 0):\n" + "\n".join(f"    {frame}" for frame in trace)
        assert len(leaks.examine([report])) == count


@pytest.mark.parametrize(
    "line",
    [
        "DMA-API: debugging out of memory - disabling",
        "DMA-API: nvme 0000:00:03.0: device driver has pending DMA allocations [count=3]",
        "kmemleak: Memory pool empty, memory leak detector disabled",
    ],
)
def test_a_debugging_aid_that_gave_up_is_a_complaint(line: str) -> None:
    assert kernel_log.examine([line])
