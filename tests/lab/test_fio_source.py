# SPDX-License-Identifier: GPL-2.0-only
"""The right source package is chosen for a fio version."""

import pytest
from dmabuf_lab import config, fio_source
from dmabuf_lab.errors import LabError


@pytest.mark.parametrize(
    ("debian", "upstream"),
    [("3.41-2", "3.41"), ("3.33-3", "3.33"), ("1:3.39-1+b1", "3.39"), ("3.41", "3.41")],
)
def test_upstream_part_of_a_debian_version(debian: str, upstream: str) -> None:
    assert fio_source.upstream(debian) == upstream


def test_only_the_exact_version_is_chosen() -> None:
    assert fio_source.choose(["3.39-1", "3.41-2"], "3.41") == "3.41-2"
    assert fio_source.choose(["3.39-1", "3.41-2"], "3.4") is None
    assert fio_source.choose([], "3.41") is None


def test_versions_are_read_from_showsrc() -> None:
    text = "Package: fio\nVersion: 3.39-1\n\nPackage: fio\nVersion: 3.41-2\nStandards-Version: 4.7.2\n"
    assert fio_source.parse_versions(text) == ["3.39-1", "3.41-2"]


def test_the_hosts_own_suite_is_asked_first_and_none_twice() -> None:
    order = fio_source.suites("bookworm")
    assert order[0] == "bookworm"
    assert len(order) == len(set(order))
    assert set(config.FIO_SOURCE_SUITES) <= set(order)
    assert fio_source.suites("")[0] == config.FIO_SOURCE_SUITES[0]


@pytest.mark.parametrize("text", ["", "latest", "../3.41", "3.41; true"])
def test_what_is_no_version_is_refused_before_anything_is_fetched(text: str) -> None:
    with pytest.raises(LabError, match="not a fio version"):
        fio_source.get(text, None)
