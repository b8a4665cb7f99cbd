# SPDX-License-Identifier: GPL-2.0-only
"""Percentiles of merged bins, against values worked out by hand and against fio's own."""

import json
import subprocess
from pathlib import Path

import pytest
from dmabuf_report import bins
from dmabuf_report.errors import ReportError


def test_bins_are_added() -> None:
    assert bins.merge([{20: 1, 10: 2}, {10: 3, 30: 4}]) == {10: 5, 20: 1, 30: 4}


def test_the_percentile_of_the_sum_is_not_the_mean_of_percentiles() -> None:
    fast, slow = {10: 20_000}, {1000: 20_000}
    assert bins.percentile(fast, 99) == 10
    assert bins.percentile(slow, 99) == 1000
    assert bins.percentile(bins.merge([fast, slow]), 99) == 1000
    assert bins.percentile(bins.merge([fast, slow]), 50) == 10


def test_a_percentile_needs_a_hundred_samples_beyond_it() -> None:
    assert bins.percentile({10: 99_999}, 99.9) is None
    assert bins.percentile({10: 100_000}, 99.9) == 10
    assert bins.percentile({10: 199}, 50) is None
    assert bins.percentile({10: 200}, 50) == 10
    assert bins.percentile({}, 50) is None


def test_the_percentile_is_where_the_count_is_reached() -> None:
    # 50 % of 1000 are 500 samples: the first bin has them, one more needs the second.
    assert bins.percentile({1: 500, 2: 500}, 50) == 1
    assert bins.percentile({1: 499, 2: 501}, 50) == 2


def test_io_without_bins_is_refused() -> None:
    with pytest.raises(ReportError, match="json+"):
        bins.of_job({"jobname": "j", "read": {"total_ios": 5, "clat_ns": {}}}, "read")
    assert bins.of_job({"jobname": "j", "read": {"total_ios": 0}}, "read") == {}


def test_percentiles_agree_with_fio(tmp_path: Path) -> None:
    out = tmp_path / "o.json"
    words = ["fio", "--name=t", "--ioengine=null", "--size=400m", "--rw=read", "--bs=4k",
             "--percentile_list=50:90:95:99:99.9", "--output-format=json+", f"--output={out}"]
    subprocess.run(words, check=True, capture_output=True, cwd=tmp_path)
    job = json.loads(out.read_text())["jobs"][0]
    found = bins.of_job(job, "read")
    assert bins.count(found) == 102_400
    for text, ns in job["read"]["clat_ns"]["percentile"].items():
        assert bins.percentile(found, float(text)) == ns, text
