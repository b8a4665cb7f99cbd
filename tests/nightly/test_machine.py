# SPDX-License-Identifier: GPL-2.0-only
"""What a host says of itself."""

import pytest
from dmabuf_nightly import health, machine
from dmabuf_nightly.errors import NightlyError


def test_a_fingerprint_goes_over_the_wire_whole() -> None:
    facts = {"key": {"CPU": "x"}, "subject": {}, "state": {"T": "1"}}
    seen = health.Snapshot({"n": 1}, {"tainted": "0"}, {}, ["x"])
    assert machine.from_json(machine.to_json(facts, seen), "h") == (facts, seen)
    for text in ("", "{}", '{"format": "libdmabuf-fingerprint", "version": 1}'):
        with pytest.raises(NightlyError, match="of h"):
            machine.from_json(text, "h")
