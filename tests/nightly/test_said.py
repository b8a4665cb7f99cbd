# SPDX-License-Identifier: GPL-2.0-only
"""What a report says: the p of what decided, what is not known of earlier nights, and no name of a file to
strangers."""

from pathlib import Path

import pytest
from dmabuf_common import stats
from dmabuf_nightly import analyse, decide, fio, results
from dmabuf_nightly.judged import Judgement
from dmabuf_nightly.plan import Rules
from dmabuf_nightly.question import Question
from dmabuf_nightly.store import Series
from made import JOB, KEY, PLAN, SERIES, SUBJECT, Made


def test_a_change_beside_a_baseline_has_the_p_of_the_nights_that_decided(made: Made) -> None:
    def runs(level: float) -> list[float]:
        return [level + (i - 4.5) * 1.0 for i in range(10)]

    nights = [*[99.9, 100.1, 100.0, 100.2, 99.8] * 3, 97.3, 97.4]
    old = [value for _ in range(3) for value in runs(100.0)]
    question = Question(0, "higher", 0.02, old, runs(97.4), nights, frozenset(),
                               [runs(level) for level in nights], 3)
    found = decide.first_look([question] * 12, Rules())
    assert found[0].change is not None and found[0].contrast is not None
    plan = analyse.plan_of(made.store, made.store.night(1))
    results.fill_p(Judgement(made.store, plan, 1, found))
    assert found[0].p_adjusted == pytest.approx(12 * found[0].contrast.p)
    assert found[0].p_adjusted < 12 * stats.rank_p(old, question.new)


def night(made: Made, level: float, job: dict[str, str] | None, text: str = "") -> int:
    with made.store.transaction():
        number = made.store.add_night("night", "p", text or PLAN.format(plan="p"), "h", 1, "")
        made.store.add_runs(number, 0, [(SERIES, n) for n in range(10)])
    for run in made.store.runs(number):
        made.store.complete(run.id, fio.Outcome(metrics={"read_iops": made.runs(level, 1)[0]}), 1, KEY, SUBJECT,
                            {}, {}, job)
    made.store.finish(number, "measured", "")
    return number


def test_nights_whose_jobs_are_not_stored_are_said_to_be_so(tmp_path: Path) -> None:
    made = Made(tmp_path / "s.db")
    for _ in range(12):
        night(made, 1000, None)
    texts = []
    for _ in range(6):
        number = night(made, 700, {**JOB, "rw": "read"})
        made.call("analyze")
        texts.append(made.store.decisions(number)[-1]["document"]["text"])
    said = ("; an earlier release did not store the jobs of nights 1 to 12: they are compared by what the engine "
            "reported, block size and depth alone")
    assert "worse than nights 3 to 12" in texts[0] and texts[0].endswith(said)
    assert "as it was since" in texts[5] and said.replace("nights 1", "nights 3") in texts[5]
    assert all("did not store" not in text for text in [
        made.store.decisions(12)[0]["document"]["text"]])


FILES = ["/srv/customers/acme.img", "/srv/our customers/init ech.img", "globex.img"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("other", FILES)
def test_no_name_of_a_file_is_published(tmp_path: Path, name: str, other: str) -> None:
    made = Made(tmp_path / "s.db")
    text = PLAN.format(plan="p").replace("/dev/x", name)
    night(made, 1000, {**JOB, "filename": name, "[j] directory": "/home/wayne"}, text)
    assert made.call("baseline", "pin", "--plan", "p", "--last", "1") == 0
    night(made, 1000, {**JOB, "filename": other}, text)
    made.call("analyze")
    out = tmp_path / "www"
    assert made.call("publish", "--plan", "p", "--out", str(out)) == 0
    assert made.store.night(2).status == "inconclusive" and "wayne" in str(made.store.night(2).verdict)
    for page in ("index.html", "night-0002/index.html"):
        shown = (out / page).read_text()
        assert "[j] directory" in shown
        for secret in ("acme", "ech.img", "customers", "globex", "wayne"):
            assert secret not in shown, page
        assert Series("c", "", "local").test in shown
