# SPDX-License-Identifier: GPL-2.0-only
"""A change goes where its list says, or nowhere."""

import pytest

from dmabuf_mutate.apply import Stale, change, changed_files
from dmabuf_mutate.model import Edit

C = """\
int one(int x);

static int one(int x)
{
	if (x > 1) {
		return x + 1;
	}
	return 0;
}

int two(int x)
{
	return one(x) + 1 > 1 ? x + 1 : 0;
}
"""

TWICE = """\
#ifdef A
int f(void)
{
	return left();
}
#else
int f(void)
{
	return right();
}
#endif
"""

CPP = """\
Result<void> Job::remap() const {
  return call(); // {
}
auto other() -> int { return call(); }
"""

PYTHON = """\
def outer(a: int,
          b: int) -> int:
    if a:
        return b

    return a + 1


class Thing:
    def inner(self) -> int:
        return 1

    def last(self) -> int:
        return 1
"""


def c(find: str, replace: str, function: str | None = None) -> Edit:
    return Edit("a.c", find, replace, function)


def test_a_text_that_occurs_once_is_replaced() -> None:
    assert change(C, c("return 0;", "return 2;")) == C.replace("return 0;", "return 2;")


@pytest.mark.parametrize("find", ["x + 1", "nothing like it"])
def test_a_text_that_does_not_occur_exactly_once_is_stale(find: str) -> None:
    with pytest.raises(Stale):
        change(C, c(find, "x"))


def test_a_function_is_its_definition_and_not_a_call_or_a_declaration() -> None:
    changed = change(C, c("x + 1", "x - 1", "one"))
    assert changed == C.replace("\t\treturn x + 1;", "\t\treturn x - 1;")
    changed = change(C, c("x + 1", "x - 1", "two"))
    assert changed == C.replace("? x + 1", "? x - 1")


def test_a_function_that_is_not_there_is_stale() -> None:
    with pytest.raises(Stale, match="no definition of three"):
        change(C, c("x + 1", "x", "three"))


def test_a_function_may_have_a_definition_for_each_ifdef() -> None:
    assert "wrong()" in change(TWICE, c("right()", "wrong()", "f"))
    with pytest.raises(Stale, match="2 times"):
        change(TWICE, c("return", "return 1 +", "f"))


def test_members_and_trailing_types_are_found() -> None:
    assert change(CPP, c("call()", "{}", "remap")).count("call()") == 1
    assert change(CPP, c("call()", "0", "other")).endswith("return 0; }\n")


def test_python_functions_end_with_their_indentation() -> None:
    edit = Edit("a.py", "return 1", "return 2", "inner")
    assert change(PYTHON, edit) == PYTHON.replace("return 1", "return 2", 1)
    edit = Edit("a.py", "a + 1", "a + 2", "outer")
    assert "a + 2" in change(PYTHON, edit)
    with pytest.raises(Stale):
        change(PYTHON, Edit("a.py", "return 1", "", "outer"))


def test_several_edits_of_one_file_add_up() -> None:
    edits = (c("return 0;", "return 2;"), c("x > 1", "x > 2"))
    changed = changed_files(edits, lambda name: C)
    assert changed == {"a.c": C.replace("return 0;", "return 2;").replace("x > 1", "x > 2")}


def test_a_file_that_is_gone_is_stale() -> None:
    def read(name: str) -> str:
        raise FileNotFoundError(2, "No such file or directory", name)

    with pytest.raises(Stale, match="a.c"):
        changed_files((c("x", "y"),), read)
