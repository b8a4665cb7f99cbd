# SPDX-License-Identifier: GPL-2.0-only
"""No function is as long as CONTRIBUTING.md forbids."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 85
FOLDERS = ("docs", "engine", "kernel", "scripts", "tests")
# What is not code: comments, literals and lines of the preprocessor.
NO_CODE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<![\w'])'(?:\\.|[^'\\\n])+'"""
    r"""|^[ \t]*\#(?:[^\n\\]|\\.)*""",
    re.DOTALL | re.MULTILINE,
)
# What may come between a function's arguments and its body.
FUNCTION = re.compile(
    r"\)\s*(?:(?:const|noexcept|override|final|mutable|&&?)\s*)*(?:->[^;]*|(?<!:):(?!:).*[)}]\s*)?$", re.DOTALL
)
# (first line, number of lines, what it begins with)
Function = tuple[int, int, str]


def code_of(text: str) -> str:
    """The same without what is no code, as long and with the same lines."""
    return NO_CODE.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), text)


def of_c(text: str) -> Iterator[Function]:
    """The functions of C and C++, outermost ones: a lambda counts with the function that it is in."""
    code = code_of(text)
    begin = 0  # of what a brace may belong to
    open_braces: list[tuple[str, int]] = []
    for found in re.finditer(r"[{};]", code):
        at = found.start()
        inside = any(kind == "function" for kind, _ in open_braces)
        if found[0] == "{":
            before = code[begin:at].strip()
            if inside:
                kind = "block"
            elif re.search(r"\b(namespace|class|struct|union|enum|extern)\b", before) and "(" not in before:
                kind = "container"
            else:
                kind = "function" if FUNCTION.search(before) else "values"
            open_braces.append((kind, begin))
            if kind != "values":
                begin = at + 1
        elif found[0] == "}":
            assert open_braces, f"a brace too many in line {code.count(chr(10), 0, at) + 1}"
            kind, start = open_braces.pop()
            if kind == "function":
                start += len(code[start:]) - len(code[start:].lstrip())
                first, last = (code.count("\n", 0, place) + 1 for place in (start, at))
                yield first, last - first + 1, code[start:at].partition("\n")[0].strip()
            # The values that a member gets may be followed by the body of the constructor.
            begin = start if kind == "values" else at + 1
        elif not open_braces or open_braces[-1][0] != "values":
            begin = at + 1
    assert not open_braces, "a brace is missing"


def of_python(text: str) -> Iterator[Function]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            yield node.lineno, node.end_lineno - node.lineno + 1, node.name


def functions(path: Path) -> list[Function]:
    if path.suffix in (".c", ".h", ".cpp", ".hpp"):
        return list(of_c(path.read_text()))
    if path.suffix == ".py" or not path.suffix and path.read_bytes().startswith(b"#!/usr/bin/python3"):
        return list(of_python(path.read_text()))
    return []


def sources() -> list[Path]:
    names = subprocess.run(["git", "ls-files", "-z", *FOLDERS], cwd=ROOT, check=True, capture_output=True, text=True)
    paths = [ROOT / name for name in names.stdout.split("\0") if name]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def test_no_function_is_too_long() -> None:
    all_of_them = {path: functions(path) for path in sources()}
    assert sum(map(len, all_of_them.values())) > 1000
    long = [f"{path.relative_to(ROOT)}:{line}: {count} lines: {name}"
            for path, found in all_of_them.items() for line, count, name in found if count >= LIMIT]
    assert not long


def test_the_limit_is_that_of_the_page() -> None:
    assert f"a function fewer than {LIMIT}." in (ROOT / "CONTRIBUTING.md").read_text()


@pytest.mark.parametrize(("text", "wanted"), [
    ("int f(void)\n{\n\treturn 1;\n}\n", [(1, 4, "int f(void)")]),
    ("// a {\nnamespace {\n\nstruct S {\n  S() : a{1}, b(2) {\n    if (a) {\n    }\n  }\n  int a, b;\n};\n\n}\n",
     [(5, 4, "S() : a{1}, b(2) {")]),
    ("struct x t = { .f = {1} };\nstatic struct y *g(int n)\n{\n\tchar c = '{';\n}\n", [(2, 4, "static struct y *g(int n)")]),
    ("class A : public B {\n  int n{3}, m{4};\n  auto f() const -> R<int> {\n    return h([&] {\n    });\n  }\n};\n",
     [(3, 4, "auto f() const -> R<int> {")]),
    ('#define M(x) \\\n\tif (x) {\nconst Row table[] = {{"}", 1}};\nint main() {}\n', [(4, 1, "int main() {")]),
])
def test_functions_are_found_in_c(text: str, wanted: list[Function]) -> None:
    assert list(of_c(text)) == wanted
