# SPDX-License-Identifier: GPL-2.0-only
"""Reads the modules' sources with the kernel's own tools: checkpatch, kernel-doc, sparse.

And their object files, for circles of calls between source files.
"""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from dmabuf_common.verdict import EXIT_FAIL

from . import build, chroot, circles, config, guest_kernel, linux_source
from .progress import say, step
from .root import Root

TOOLS = "/share"
SOURCES = ("kernel", "kernel/testexp", "kernel/testmod")

# Messages of checkpatch that are not followed, each with the reason. As few and as narrow as can be.
ALLOWED: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"^kernel/trace\.h:\d+: CHECK:(OPEN_ENDED_LINE|PARENTHESIS_ALIGNMENT): "),
        "TRACE_EVENT() is laid out as in all of the kernel's trace headers",
    ),
    (
        re.compile(r"^kernel/uapi/\S+: CHECK:CAMELCASE: Avoid CamelCase: <_Static_assert>$"),
        "a keyword of C, and user space may not have static_assert()",
    ),
)

# sparse as Debian 13 has it does not know the first and cannot evaluate the second of what the
# kernel's headers use; both replacements mean the same to it.
CHECKER = "sparse -D__typeof_unqual__=__typeof__ '-D__builtin_strlen(s)=(sizeof(s)-1)'"

# checkpatch knows headers of the user-space interface by where they are in the kernel's tree, and
# writes a file where it is run.
CHECKPATCH_SCRIPT = """\
mkdir -p /tmp/tree/include
cd /tmp/tree
cp -r /src/kernel .
mv kernel/uapi include/uapi
perl "$1/scripts/checkpatch.pl" --no-tree --root=/tmp/tree --strict --terse --show-types --no-summary \
	--file kernel/*.[ch] kernel/testexp/*.[ch] kernel/testmod/*.c include/uapi/linux/*.h |
	sed s:^include/uapi/:kernel/uapi/:
"""

BUILD_SCRIPT = """\
set -e
mkdir -p /tmp/lint
make -C "/src/$1" KDIR="/usr/lib/modules/$2/build" BUILD=/tmp/lint C=2 CHECK="$3" 2>&1
"""


def files(base: Path) -> list[str]:
    """The modules' sources, relative to the checkout."""
    found = [
        path
        for folder in SOURCES
        for pattern in ("*.c", "*.h")
        for path in sorted((base / folder).glob(pattern))
    ]
    headers = sorted((base / "kernel/uapi/linux").glob("*.h"))
    return [str(path.relative_to(base)) for path in (*found, *headers)]


def messages(output: str, prefix: str) -> list[str]:
    """The compiler's and sparse's messages about files below `prefix` in a build's output, once each."""
    pattern = re.compile(rf"^{re.escape(prefix)}\S*?:\d+(:\d+)?: .*|^\S+\.[ch]:\d+(:\d+)?: .*")
    own = re.compile(r"^(/usr/|\.\./|\./|include/|arch/)")
    found = (line for line in output.splitlines() if pattern.match(line) and not own.match(line))
    return list(dict.fromkeys(line.removeprefix(prefix) for line in found))


def refused(lines: Iterable[str]) -> list[str]:
    """Messages of checkpatch without those that are ALLOWED."""
    return [line for line in lines if not any(known.search(line) for known, _ in ALLOWED)]


def checkpatch(root: Root, base: Path, tools: Path) -> list[str]:
    """What checkpatch says, and that it could not be run if so."""
    argv = ["sh", "-c", CHECKPATCH_SCRIPT, "sh", TOOLS]
    return refused(_run(root, base, tools, argv, "checkpatch"))


def kernel_doc(root: Root, base: Path, tools: Path) -> list[str]:
    """What kernel-doc says of the comments, and that it could not be run if so."""
    argv = ["python3", "-B", f"{TOOLS}/scripts/kernel-doc", "-none", "-Wall", "-Werror"]
    return _run(root, base, tools, [*argv, *files(base)], "kernel-doc")


def _run(root: Root, base: Path, tools: Path, argv: list[str], name: str) -> list[str]:
    binds = [chroot.Bind(base, config.GUEST_SOURCE), chroot.Bind(tools, TOOLS)]
    result = chroot.run(root.path, argv, binds=binds, cwd=config.GUEST_SOURCE)
    lines = [line for line in result.stdout.splitlines() if line.strip()]
    if result.returncode != 0 and not lines:
        lines = [f"{name} failed with status {result.returncode}"]
    return lines


def sparse(root: Root, base: Path, tools: Path, release: str, scratch: Path) -> list[str]:
    """What sparse says of the modules, built for a stock kernel.

    Debian's headers lack the script by which kbuild tells whether sparse works, so a copy of kbuild's
    scripts that has it is shown in their place.
    """
    place = f"/usr/lib/linux-kbuild-{release.removesuffix('-amd64')}/scripts"
    merged = scratch / f"scripts-{release}"
    shutil.rmtree(merged, ignore_errors=True)
    shutil.copytree(root.path / place.lstrip("/"), merged, symlinks=True)
    shutil.copy2(tools / "scripts/checker-valid.sh", merged / "checker-valid.sh")
    binds = [chroot.Bind(base, config.GUEST_SOURCE), chroot.Bind(merged, place)]
    found = []
    for source in SOURCES:
        argv = ["sh", "-c", BUILD_SCRIPT, "sh", source, release, CHECKER]
        result = chroot.run(root.path, argv, binds=binds)
        checked = len(re.findall(r"^  CHECK\s", result.stdout, re.MULTILINE))
        expected = len(list((base / source).glob("*.c")))
        lines = messages(result.stdout, "/tmp/lint/")
        if result.returncode != 0 or checked < expected:
            lines += result.stdout.splitlines()[-10:]
            lines.append(f"sparse read {checked} of {expected} files; status {result.returncode}")
        found += [f"sparse, {source}, {release}: {line}" for line in lines]
    shutil.rmtree(merged)
    return found


def call_circles(root: Root, base: Path, release: str) -> list[str]:
    """Circles of calls between the source files of each module, as the lab built it for a kernel."""
    products = (
        build.module_path(release),
        build.exporter_path(release),
        build.hurt_path(release),
    )
    found = []
    for source, product in zip(SOURCES, products, strict=True):
        folder = (base / product).parent
        # Object files of sources that are gone stay in the folder.
        objects = [f"{folder}/{path.stem}.o" for path in sorted((base / source).glob("*.c"))]
        inside = [f"{config.GUEST_SOURCE}/{Path(name).relative_to(base)}" for name in objects]
        output = chroot.check(
            root.path,
            ["nm", "--print-file-name", "--extern-only", *inside],
            f"reading the symbols of {source}",
            binds=[chroot.Bind(base, config.GUEST_SOURCE)],
        )
        graph = circles.calls(output.splitlines())
        found += [
            f"circle of calls, {source}, {release}: {circles.describe(graph, circle)}"
            for circle in circles.circles(graph)
        ]
    return found


def run(root: Root, everything: bool) -> int:
    """Prints every message of every tool on stdout; 0 when there is none, 1 otherwise.

    sparse and the circles are looked for as on the newest kernel; with `everything`, on each that set-up brings.
    """
    base = build.checkout()
    tools = linux_source.scripts()
    scratch = base / "build/lint"
    scratch.mkdir(parents=True, exist_ok=True)
    found = []
    with step("checkpatch and kernel-doc"):
        found += [f"checkpatch: {line}" for line in checkpatch(root, base, tools)]
        found += [f"kernel-doc: {line}" for line in kernel_doc(root, base, tools)]
    # The compiler's warnings for each kernel come with the lab's builds (build.py).
    for series in config.SETUP_KERNELS if everything else config.SETUP_KERNELS[:1]:
        release = root.release(series.name)
        with step(f"sparse for {release}"):
            found += sparse(root, base, tools, release, scratch)
        build.build(root, [guest_kernel.stock(root, series.name)], engine=False)
        found += call_circles(root, base, release)
    for line in found:
        print(line)
    say(f"{len(found)} messages about {len(files(base))} files")
    return EXIT_FAIL if found else 0
