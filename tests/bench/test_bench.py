# SPDX-License-Identifier: GPL-2.0-only
"""What dmabuf-bench makes of figures: nothing is accepted that was not measured."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from dmabuf_bench import cases, cli, fio, goals, jobs, lab, plots, profiles, results, samples, table
from dmabuf_bench.cases import IoCase, MapCase
from dmabuf_bench.errors import BenchError
from dmabuf_bench.samples import Sample
from dmabuf_common.sizes import size_text
from dmabuf_common.verdict import EXIT_ERROR, EXIT_FAIL

HOST = IoCase("host")
FAST = IoCase("premapped")
SLOW = IoCase("premapped", bs=8192)


def lines(values: dict[int, list[float]], **other: float) -> str:
    """What the guest prints."""
    return "\n".join(
        json.dumps({"case": number, "repeat": repeat, "instructions": value, **other})
        for number, repeats in values.items()
        for repeat, value in enumerate(repeats, 1)
    )


def sample(case: cases.Case, value: float, commands: float = 1) -> Sample:
    """Seven repeats that differ by less than anybody minds."""
    return Sample(case, [value * (1 + i / 10000) for i in range(7)], {"commands": [commands] * 7})


@pytest.mark.parametrize(("text", "size"), [("512", 512), ("4k", 4096), ("8M", 8 << 20)])
def test_sizes_are_read(text: str, size: int) -> None:
    assert cases.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "4", "513", "-4k", "4g", "k"])
def test_what_is_no_size_of_a_block_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        cases.parse_size(text)


@pytest.mark.parametrize("size", [512, 4096, 65536, 1 << 20, 1536])
def test_a_size_survives_its_text(size: int) -> None:
    assert cases.parse_size(size_text(size)) == size


@pytest.mark.parametrize(
    "case",
    [
        IoCase("host", "huge", 65536, 128, writes=True),
        IoCase("premapped", polled=True),
        IoCase("bvec", free=True),
        IoCase("premapped", each=True, ranges=8, command=512 << 10),
        IoCase("premapped", file="many"),
        MapCase("batch", "scattered", 1 << 20, 64),
    ],
)
def test_a_case_survives_its_line(case: cases.Case) -> None:
    assert results.case_of(case.line()) == case


def test_figures_are_told_apart_by_case() -> None:
    found = samples.parse(lines({1: [5, 6, 7], 0: [1, 2, 3]}, redone=0), [HOST, FAST], 3)
    assert [one.values for one in found] == [[1, 2, 3], [5, 6, 7]]
    assert found[0].median() == 2
    assert found[0].other == {"redone": [0, 0, 0]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        lines({0: [1, 2, 3]}),
        lines({0: [1, 2, 3], 1: [1, 2]}),
        lines({0: [1, 2, 3], 1: [1, 2, 3], 2: [1, 2, 3]}),
        lines({0: [1, 2, 3], 1: [1, 2, 3]}) + "\n" + lines({0: [1]}),
        lines({0: [1, 2, 3], 1: [1, 2, -3]}),
        lines({0: [1, 2, 3], 1: [1, 2, 0]}),
        lines({0: [1, 2, 3], 1: [1, 2, float("nan")]}),
        lines({0: [1, 2, 3], 1: [1, 2]}) + '\n{"case": 1, "repeat": 3}',
        lines({0: [1, 2, 3], 1: [1, 2, 3]}) + "\n{broken",
        lines({0: [1, 2, 3], 1: [1, 2, 3]}) + '\n{"case": "x"}',
    ],
)
def test_missing_or_odd_figures_are_no_result(text: str) -> None:
    with pytest.raises(BenchError):
        samples.parse(text, [HOST, FAST], 3)


def test_repeats_that_differ_are_noise() -> None:
    assert not sample(HOST, 1000).noisy()
    assert Sample(HOST, [1000, 1030, 970, 1050, 950, 1020, 980]).noisy()


def goal(most: float = 0.5, one_command: bool = False) -> goals.Goal:
    return goals.Goal("x", ((FAST, HOST),), most, ("off", "strict"), one_command)


def test_the_worst_boot_decides() -> None:
    boots = {
        "off": [sample(HOST, 1000), sample(FAST, 600)],
        "strict": [sample(HOST, 1000), sample(FAST, 300)],
    }
    verdict = goals.judge(goal(), boots)
    assert verdict.ratio == pytest.approx(0.6)
    assert not verdict.holds
    assert verdict.interval[0] <= verdict.ratio <= verdict.interval[1]
    assert goals.judge(goal(0.61), boots).holds
    # All of the interval has to be below.
    assert not goals.judge(goal(0.6001), boots).holds


def test_the_pair_whose_interval_is_worst_decides() -> None:
    pairs = ((FAST, HOST), (SLOW, HOST))
    boots = {name: [sample(HOST, 1000), sample(FAST, 490), Sample(SLOW, [460, 461, 462, 463, 520], {})]
             for name in ("off", "strict")}
    verdict = goals.judge(replace(goal(0.5), pairs=pairs), boots)
    assert not verdict.holds and verdict.interval[1] > 0.5


def test_noise_holds_no_goal() -> None:
    noise = Sample(FAST, [1, 2, 3, 4, 5, 6, 7], {})
    boots = {name: [sample(HOST, 1000), noise] for name in ("off", "strict")}
    verdict = goals.judge(goal(), boots)
    assert verdict.ratio < 0.5
    assert not verdict.holds
    assert "differ" in table.of_verdicts([verdict])


@pytest.mark.parametrize(("commands", "holds"), [(1, True), (2, False), (1.01, False)])
def test_one_command_means_one(commands: float, holds: bool) -> None:
    boots = {
        name: [sample(HOST, 1000), sample(FAST, 300, commands)] for name in ("off", "strict")
    }
    assert goals.judge(goal(one_command=True), boots).holds is holds


def test_a_part_is_what_is_compared() -> None:
    whole = replace(goal(), parts=4)
    boots = {name: [sample(HOST, 1000), sample(FAST, 1600)] for name in ("off", "strict")}
    verdict = goals.judge(whole, boots)
    assert verdict.ratio == pytest.approx(0.4)
    assert verdict.interval[0] <= 0.4 <= verdict.interval[1]
    assert verdict.holds and "400 / 1000" in verdict.where


def test_a_case_that_was_not_measured_is_no_verdict() -> None:
    with pytest.raises(KeyError):
        goals.judge(goal(), {"off": [sample(HOST, 1)], "strict": []})


def test_every_goal_can_be_judged_and_missed() -> None:
    for cheap in (True, False):
        boots = {}
        for iommu in goals.BOOTS:
            needed = goals.needed(iommu)
            assert len(needed) == len(set(needed))
            parts = {pair[0]: g.parts for g in goals.GOALS for pair in g.pairs}
            against = {pair[1] for g in goals.GOALS for pair in g.pairs}

            def value(case: cases.Case) -> float:
                if not cheap:
                    return 1000 * parts.get(case, 1)
                # What one goal compares with is what another one's cost is.
                return 5 if case not in against else 50 if case in parts else 1000

            boots[iommu] = [sample(case, value(case)) for case in needed]
        verdicts = {g.name: goals.judge(g, boots) for g in goals.GOALS}
        below_one = [v for v in verdicts.values() if v.goal.most < 1]
        assert below_one
        assert all(verdict.holds is cheap for verdict in below_one)


def test_a_goal_beyond_the_module_is_shown_and_does_not_decide() -> None:
    boots = {name: [sample(HOST, 1000), sample(FAST, 960)] for name in ("off", "strict")}
    verdict = goals.judge(replace(goal(), beyond=1.1), boots)
    assert not verdict.holds
    assert "beyond this module" in table.of_verdicts([verdict]) and "0.960" in table.of_verdicts([verdict])
    assert verdict.decides and not goals.judge(replace(goal(), beyond=0.95), boots).decides
    noise = {name: [sample(HOST, 1000), Sample(FAST, [500, 700, 900, 1000, 1200], {})] for name in boots}
    assert "differ" in goals.judge(replace(goal(), beyond=2), noise).word
    assert [g.name for g in goals.GOALS if g.beyond] == [
        "premapped polled ÷ by interrupt, 4 KiB",
        "premapped, a buffer whose fences have signalled ÷ one without fences, 4 KiB"]


def test_jobs_are_counted_without_what_runs_in_gaps() -> None:
    # Two batches of two I/Os each: a, and t, the tick, which the other one's gaps show.
    one = profiles.parse("batches 2\ngaps 2\n1010 400 0\n2000 90 0\n")
    four = profiles.parse("batches 2\ngaps 2\n1010 1616 0\n2000 80 8\n")
    symbols = profiles.Symbols(["0000 t start", "1000 T a", "2000 t tick"])
    found, share = jobs.costs([one, four], symbols, [1, 4], 2)
    assert found == [100, 101]
    assert share == pytest.approx(201 / (201 + 90 / 4 + 72 / 16))


def test_what_a_gap_has_of_a_module_is_subtracted_and_not_left_out() -> None:
    one = profiles.parse("batches 2\ngaps 2\n1010 400 0\n2000 40 4\n")
    four = profiles.parse("batches 2\ngaps 2\n1010 1600 0\n2000 800 0\n")
    symbols = profiles.Symbols(["0000 t start", "1000 T a", "2000 t issue [dmabuf_rw]"])
    found, share = jobs.costs([one, four], symbols, [1, 4], 2)
    assert found == [109, 150] and share == 1


@pytest.mark.parametrize(
    "output",
    ["", '{"jobs": 1}\n{"jobs": 4}\n', '{"jobs": 4}\n{"jobs": 1}\n' * 2, '{"jobs": 1}\n{"jobs": 4}\n' * 3,
     '{"jobs": 1}\n{"jobs": 3}\n' * 2, "{nothing}\n", '{"redone": 1}\n'],
)
def test_jobs_that_did_not_run_are_an_error(output: str) -> None:
    with pytest.raises(BenchError):
        jobs.files(output, 1)
    assert jobs.files('set up\n{"jobs": 1}\n{"jobs": 4, "redone": 2}\n' * 2, 1) == [1, 4, 1, 4]


@pytest.mark.parametrize(("several", "word"), [(1040, "holds"), (1060, "MISSED"), (900, "holds")])
def test_jobs_have_a_goal(several: float, word: str) -> None:
    verdict = jobs.judge(sample(FAST, several), sample(FAST, 1000))
    assert verdict.word == word and verdict.ratio == pytest.approx(several / 1000)
    noise = Sample(FAST, [800, 900, 1000, 1100, 1200], {})
    assert "differ" in jobs.judge(sample(FAST, several), noise).word


COUNTED = "batches 2\ngaps 4\n1010 640 0\n1014 64 128\n2000 6 0\n"
SYMBOLS = ["0000 t start", "1000 T a", "2000 t b [m]", "1800 D data"]


def test_a_profile_is_of_a_batch_less_a_gap() -> None:
    costs = profiles.by_function(profiles.parse(COUNTED), profiles.Symbols(SYMBOLS), 32)
    # 640 / 2, and 64 / 2 less 128 / 4, for 32 I/Os.
    assert costs == {"a": pytest.approx(10), "b [m]": pytest.approx(6 / 2 / 32)}


def test_a_profile_shows_what_costs_most_and_the_modules() -> None:
    lines = profiles.text(110, {"a": 60, "b [m]": 25, "c [m]": 15}, 2).splitlines()
    assert lines[1].split() == ["a", "60.0", "60.0%"]
    assert lines[2].split() == ["b", "[m]", "25.0", "25.0%"]
    assert lines[5].split() == ["kernel", "60.0", "60.0%"]
    assert lines[6].split() == ["m", "40.0", "40.0%"]
    assert lines[-1].startswith("the kernel in all: 100 of 110 ")


@pytest.mark.parametrize("figure", [90, 120])
def test_a_profile_that_the_clock_does_not_confirm_is_none(figure: float) -> None:
    with pytest.raises(BenchError, match="plug-in counted"):
        profiles.text(figure, {"a": 100}, 2)


@pytest.mark.parametrize(
    "text",
    ["", "batches 1\n", "batches 0\ngaps 1\n10 1 1\n", "batches 1\ngaps 0\n10 1 1\n", "batches 1\ngaps 1\n",
     "gaps 1\nbatches 1\n10 1 1\n", "batches 1\ngaps 1\nx 1 1\n", "batches 1\ngaps 1\n10 1\n"],
)
def test_counts_that_are_not_there_are_an_error(text: str) -> None:
    with pytest.raises(BenchError):
        profiles.parse(text)


@pytest.mark.parametrize("lines", [[], ["0000000000000000 T a"]])
def test_a_kernel_that_hides_its_functions_has_no_profile(lines: list[str]) -> None:
    with pytest.raises(BenchError, match="where its functions are"):
        profiles.Symbols(lines)


@pytest.mark.parametrize(
    "line",
    ["io path=premapped", "nothing", "map how=first", MapCase("first", "heap", 4096).line(),
     IoCase("premapped", free=True).line()],
)
def test_a_profile_needs_a_whole_case(line: str) -> None:
    with pytest.raises(BenchError):
        profiles.measure(line, "off", 1)


def test_a_drive_of_this_machine_is_only_read() -> None:
    words = fio.FioCase("passthrough").words(1, "/dev/nvme3n2")
    assert "--filename=/dev/ng3n2" in words
    assert "--readonly" in words and "--rw=randread" in words


def test_here_names_what_is_missing(tmp_path: Path) -> None:
    drive = tmp_path / "drive"
    for engine in (tmp_path / "none.so", Path(__file__)):
        with pytest.raises(BenchError, match="there is no"):
            fio.measure_here([fio.FioCase("host")], drive, engine, 3, 1)
    drive.touch()
    with pytest.raises(BenchError, match="there is no engine"):
        fio.measure_here([fio.FioCase("host")], drive, tmp_path / "none.so", 3, 1)


def test_the_goals_are_the_ones_of_the_documentation() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs/performance.md").read_text()
    for one in (*goals.GOALS, jobs.GOAL):
        assert f"| {one.name} | <= {one.most:.2f} |" in text


def test_a_document_is_read_as_it_was_written(tmp_path: Path) -> None:
    kept = [sample(HOST, 1000), sample(MapCase("each", "huge", 2 << 20, 4), 5)]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results.document([lab.Boot("off", "cmd", kept)], [])))
    assert results.samples_of(results.load(path)) == {"off": kept}
    path.write_text('{"version": 0}')
    with pytest.raises(BenchError):
        results.load(path)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_plot_has_a_line_for_each_datapath(tmp_path: Path, suffix: str) -> None:
    kept = [sample(replace(case, bs=bs), bs) for case in (HOST, FAST) for bs in (4096, 65536)]
    assert set(plots.lines(kept)) == {("host", 32, "scattered"), ("premapped", 32, "scattered")}
    plots.draw({"off": kept, "strict": kept}, tmp_path / f"p.{suffix}")
    assert (tmp_path / f"p.{suffix}").stat().st_size > 1000


def test_options_choose_cases() -> None:
    parse = cli.parser().parse_args
    chosen = cli.chosen(parse(["run", "--paths", "host,bounce", "--sizes", "512,4k", "--polled"]))
    assert IoCase("host", bs=512, polled=True) in chosen
    assert all(isinstance(c, IoCase) and not (c.polled and c.path == "bounce") for c in chosen)
    chosen = cli.chosen(parse(["run", "--paths", "bounce,premapped", "--writes"]))
    assert {c.path for c in chosen if isinstance(c, IoCase)} == {"premapped"}


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["run", "--paths", "magic"],
        ["run", "--sizes", "1"],
        ["run", "--iommu", "maybe"],
        ["goals", "--repeats", "2"],
        ["report"],
    ],
)
def test_wrong_usage_is_status_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    assert end.value.code == EXIT_ERROR
    assert "usage:" in capsys.readouterr().err


def test_goals_that_are_missed_fail_the_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def measured(
        wanted: list[cases.Case], iommu: str, repeats: int, scheduler: str
    ) -> lab.Boot:
        assert scheduler == "none"
        return lab.Boot(iommu, "cmd", [sample(case, 1000) for case in wanted])

    # No guest of its own for the jobs either; what several cost beside one is `ratio`.
    def measured_jobs(repeats: int) -> tuple[Sample, Sample]:
        return sample(jobs.CASE, 1000 * ratio), sample(jobs.CASE, 1000)

    monkeypatch.setattr(cli, "_packages", lambda: None)
    monkeypatch.setattr(lab, "instructions", measured)
    monkeypatch.setattr(jobs, "measure", measured_jobs)
    ratio = 1.0
    assert cli.main(["goals", "--out", str(tmp_path)]) == EXIT_FAIL
    monkeypatch.setattr(goals, "GOALS", (goal(1.01),))
    monkeypatch.setattr(goals, "needed", lambda iommu: [HOST, FAST])
    assert cli.main(["goals", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "results.json").exists()
    ratio = jobs.GOAL.most * 1.01
    assert cli.main(["goals", "--out", str(tmp_path)]) == EXIT_FAIL


def test_the_lab_is_asked_for_what_the_cases_need() -> None:
    plain = lab.options([HOST], "off")
    assert "--icount" in plain and "poll_queues" not in " ".join(plain)
    assert "nvme.poll_queues" in " ".join(lab.options([replace(HOST, polled=True)], "off"))
    assert "hugepagesz=1G" in " ".join(lab.options([IoCase("host", "contiguous")], "off"))


def test_a_plan_says_how_the_drive_is_scheduled() -> None:
    assert lab.plan([HOST.line()]).splitlines() == ["drive scheduler=none", HOST.line()]
    assert lab.plan([], "mq-deadline") == "drive scheduler=mq-deadline\n"
    args = cli.parser().parse_args(["run"])
    assert args.scheduler == cases.SCHEDULER


def test_a_document_says_how_the_drive_was_scheduled() -> None:
    boots = [lab.Boot("off", "cmd", [sample(HOST, 1)], "mq-deadline"), lab.Boot("strict", "cmd", [])]
    found = results.document(boots, [])["boots"]
    assert [boot["scheduler"] for boot in found] == ["mq-deadline", "none"]


def test_figures_of_fio_are_complete_or_none() -> None:
    case = fio.FioCase("host")
    line = json.dumps(
        {"case": 0, "iops": 10, "mean_ns": 1, "cpu_us": 1, "p50_ns": 1, "p99_ns": 1}
    )
    found = fio.parse("\n".join([line] * 3), [case], 3)
    assert found[0]["median"]["iops"] == 10
    assert "QD 32" in table.of_fio(found)
    with pytest.raises(BenchError):
        fio.parse(line, [case], 3)


def test_fio_is_given_the_datapath_that_is_named() -> None:
    assert "--ioengine=io_uring" in fio.FioCase("host").words(1)
    assert "--ioengine=io_uring_cmd" in fio.FioCase("passthrough").words(1)
    words = fio.FioCase("premapped", polled=True).words(1)
    assert "--dmabuf_datapath=premapped" in words and "--hipri" in words
    assert words.index("--ioengine=ENGINE") < words.index("--dmabuf_datapath=premapped")
