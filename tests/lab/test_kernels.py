# SPDX-License-Identifier: GPL-2.0-only
"""The newest stock kernel of a series is picked."""

import pytest
from dmabuf_lab import kernels
from dmabuf_lab.errors import LabError

NAMES = [
    "linux-image-amd64",
    "linux-image-7.3.4+deb13-amd64",
    "linux-image-7.3.10+deb13-amd64",
    "linux-image-7.3.10+deb13-cloud-amd64",
    "linux-image-7.3.11+deb13-rt-amd64",
    "linux-image-7.3.12+deb13-amd64-unsigned",
    "linux-image-7.3.12+deb13-amd64-dbg",
    "linux-image-7.30.1+deb13-amd64",
    "linux-image-6.12.9+deb13-amd64",
    "linux-image-6.12.117+deb13-amd64",
    "linux-image-6.12.90+deb13.1-amd64",
]


def test_newest_is_by_number_and_of_the_plain_flavour() -> None:
    assert kernels.newest(NAMES, "7.3") == "linux-image-7.3.10+deb13-amd64"
    assert kernels.newest(NAMES, "6.12") == "linux-image-6.12.117+deb13-amd64"


def test_a_series_that_is_not_there_is_an_error_that_names_it() -> None:
    with pytest.raises(LabError, match=r"7\.4"):
        kernels.newest(NAMES, "7.4")


def test_the_real_time_flavour_is_another_one() -> None:
    assert kernels.newest(NAMES, "7.3", "rt-amd64") == "linux-image-7.3.11+deb13-rt-amd64"


def test_debians_own_number_before_the_flavour_counts() -> None:
    names = ["linux-image-6.1.0-9-amd64", "linux-image-6.1.0-50-amd64", "linux-image-6.1.0-60-rt-amd64"]
    assert kernels.newest(names, "6.1") == "linux-image-6.1.0-50-amd64"
    assert kernels.newest(names, "6.1", "rt-amd64") == "linux-image-6.1.0-60-rt-amd64"


def test_headers_are_found_without_compilers() -> None:
    text = """\
  Depends: linux-headers-6.1.0-50-common
  Depends: linux-kbuild-6.1
  Depends: linux-compiler-gcc-12-x86
  Depends: <gcc-14-for-host>
"""
    assert kernels.headers(text, "6.1.0-50-amd64") == [
        "linux-headers-6.1.0-50-amd64",
        "linux-headers-6.1.0-50-common",
        "linux-kbuild-6.1",
    ]


def test_release_of_a_package() -> None:
    assert kernels.release_of("linux-image-7.3.4+deb13-amd64") == "7.3.4+deb13-amd64"


def test_the_packages_that_hold_a_split_kernel_are_found() -> None:
    text = """\
linux-image-7.3.4+deb13-amd64
 |Depends: dracut
  Depends: initramfs-tools
  Depends: linux-base-7.3.4+deb13-amd64
  Depends: linux-binary-7.3.4+deb13-amd64
  Depends: linux-modules-7.3.4+deb13-amd64
  Depends: linux-modules-7.3.5+deb13-amd64
"""
    assert kernels.parts(text, "7.3.4+deb13-amd64") == [
        "linux-base-7.3.4+deb13-amd64",
        "linux-binary-7.3.4+deb13-amd64",
        "linux-modules-7.3.4+deb13-amd64",
    ]


def test_an_unsplit_kernel_has_no_other_parts() -> None:
    assert kernels.parts("x\n  Depends: kmod\n", "6.12.117+deb13-amd64") == []
