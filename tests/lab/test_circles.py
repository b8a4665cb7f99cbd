# SPDX-License-Identifier: GPL-2.0-only
"""Circles of calls between source files are found by their symbols, and nothing else is taken for one."""

import pytest
from dmabuf_lab import circles

# main calls io and session, io calls session and the kernel; nobody calls back.
STRAIGHT = """\
main.o:0000000000000000 T init_module
main.o:                 U io_issue
main.o:                 U session_new
main.o:                 U kfree
io.o:0000000000000010 T io_issue
io.o:                 U session_find
session.o:0000000000000000 T session_new
session.o:0000000000000080 T session_find
session.o:0000000000000000 D session_limit
session.o:                 U kmalloc
"""

TRACEPOINTS = """\
main.o:0000000000000000 D __tracepoint_submit
main.o:0000000000000000 T __SCT__tp_func_submit
main.o:0000000000000000 D __SCK__tp_func_submit
main.o:0000000000000000 T __traceiter_submit
io.o:                 U __tracepoint_submit
io.o:                 U __SCT__tp_func_submit
io.o:                 U __SCK__tp_func_submit
io.o:                 U __traceiter_submit
"""


def found(text: str) -> list[str]:
    graph = circles.calls(text.splitlines())
    return [circles.describe(graph, circle) for circle in circles.circles(graph)]


def test_calls_that_go_one_way_are_no_circle() -> None:
    assert circles.calls(STRAIGHT.splitlines()) == {
        "main": {"io": ["io_issue"], "session": ["session_new"]},
        "io": {"session": ["session_find"]},
        "session": {},
    }
    assert found(STRAIGHT) == []


def test_two_files_that_call_each_other_are_a_circle() -> None:
    text = STRAIGHT + "session.o:                 U io_issue\n"
    assert found(text) == ["io.c -> session.c (session_find) -> io.c (io_issue)"]


def test_a_circle_of_three_files_is_shown_once_and_whole() -> None:
    text = STRAIGHT + "main.o:0000000000000020 T forget\nsession.o:                 U forget\n"
    assert "io.c -> session.c (session_find) -> main.c (forget) -> io.c (io_issue)" in found(text)
    assert "main.c -> session.c (session_new) -> main.c (forget)" in found(text)
    assert len(found(text)) == 2


def test_a_variable_of_another_file_counts_and_many_symbols_are_counted() -> None:
    more = "io.o:                 U session_limit\nsession.o:                 w io_issue\n"
    assert found(STRAIGHT + more) == ["io.c -> session.c (session_find and 1 more) -> io.c (io_issue)"]


def test_tracepoints_are_no_calls() -> None:
    assert found(STRAIGHT + TRACEPOINTS) == []


def test_the_folder_of_an_object_file_does_not_matter() -> None:
    text = STRAIGHT.replace("io.o:", "/src/build/io.o:") + "/a/session.o:      U io_issue\n"
    assert len(found(text)) == 1


def test_what_nm_does_not_write_is_an_error() -> None:
    with pytest.raises(ValueError, match="no symbols"):
        circles.calls(["nm: io.o: no symbols"])
