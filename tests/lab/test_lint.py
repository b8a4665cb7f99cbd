# SPDX-License-Identifier: GPL-2.0-only
"""What lint takes for a message about our sources, and what it lets pass."""

import pytest
from dmabuf_lab import lint

OUTPUT = """\
make -C /usr/lib/modules/7/build M=/tmp/lint modules
  CC [M]  main.o
main.c:20:5: warning: no previous prototype for 'x' [-Wmissing-prototypes]
main.c:20:5: warning: no previous prototype for 'x' [-Wmissing-prototypes]
  CHECK   main.c
/tmp/lint/io.c:7:9: warning: incorrect type in assignment (different base types)
/usr/src/linux-headers-7/include/linux/x.h:3:4: warning: something of the kernel's
./include/linux/y.h:3:4: warning: something of the kernel's
  LD [M]  dmabuf_rw.ko
"""


def test_messages_about_our_files_are_kept_once() -> None:
    assert lint.messages(OUTPUT, "/tmp/lint/") == [
        "main.c:20:5: warning: no previous prototype for 'x' [-Wmissing-prototypes]",
        "io.c:7:9: warning: incorrect type in assignment (different base types)",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "kernel/trace.h:19: CHECK:OPEN_ENDED_LINE: Lines should not end with a '('",
        "kernel/uapi/linux/dmabuf_rw.h:360: CHECK:CAMELCASE: Avoid CamelCase: <_Static_assert>",
    ],
)
def test_allowed_messages_pass(line: str) -> None:
    assert lint.refused([line]) == []


@pytest.mark.parametrize(
    "line",
    [
        "kernel/main.c:19: CHECK:OPEN_ENDED_LINE: Lines should not end with a '('",
        "kernel/trace.h:19: WARNING:LONG_LINE: line length of 120 exceeds 100 columns",
        "kernel/uapi/linux/dmabuf_rw.h:360: CHECK:CAMELCASE: Avoid CamelCase: <fooBar>",
    ],
)
def test_others_do_not(line: str) -> None:
    assert lint.refused([line]) == [line]


def test_every_allowed_message_has_a_reason() -> None:
    assert all(reason for _, reason in lint.ALLOWED)
