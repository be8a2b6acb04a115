"""A copy of the package that records what it executes, below build/: sources, the plain launcher, and the extension with traced blocks.

Rule: the sources are the same, byte for byte; only the launcher and the extension differ.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from layout import Layout

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PYTHON = "/usr/bin/python3"
# Folders of the tests whose modules import each other by name; the package is that of the copy.
PATHS = "bundles tests tests/cli tests/kernel tests/kernel/advisories tests/contracts tests/unit tests/fuzz"
IMPORT = "            from pyrunc.cli import main\n"
# Tests that examine the launcher itself, count system calls or modules, or replace the extension: these differ in the copy on purpose.
NOT = (
    "tests/cli/test_imports.py tests/cli/test_launcher.py tests/cli/test_isolated.py tests/cli/test_demo.py tests/unit/test_frozen.py"
    " tests/unit/test_man.py tests/unit/test_site.py tests/unit/test_tools.py tests/unit/test_bench.py tests/unit/test_docs.py"
    " tests/unit/test_layers.py tests/cli/test_many.py tests/unit/test_extension.py tests/kernel/advisories/test_advisory_table.py"
).split()


def variable(name: str) -> str:
    """A variable of the Makefile, as make expands it."""
    words = ["make", "-s", "-C", str(ROOT), "--eval", "show-%s:;@echo $(%s)" % (name, name), "show-" + name]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def prepare(folder: Path, record: bool = True, c_source: tuple[str, str] | None = None) -> Layout:
    """Creates the copy in `folder`/runtime. `record`: lines, branches and blocks are recorded in `folder`/map and `folder`/c-map.
    `c_source`: (name in runtime/csrc, text) that replaces a source of the extension."""
    shutil.rmtree(folder, ignore_errors=True)
    runtime = folder / "runtime"
    shutil.copytree(ROOT / "runtime/pyrunc", runtime / "pyrunc", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    (runtime / "bin").mkdir()
    launcher = (ROOT / "runtime/bin/pyrunc").read_text()
    assert IMPORT in launcher
    if record:
        shutil.copy(HERE / "line_recorder.py", folder)
        more = "            sys.path.insert(0, %r); import line_recorder; line_recorder.start(%r, home); del sys.path[0]\n" % (
            str(folder),
            str(folder),
        )
        launcher = launcher.replace(IMPORT, more + IMPORT)
    (runtime / "bin/pyrunc").write_text(launcher)
    (runtime / "bin/pyrunc").chmod(0o755)
    (runtime / "lib").symlink_to(ROOT / ".venv/lib")
    (runtime / "csrc").symlink_to(ROOT / "runtime/csrc")  # for tests that compare the package with the sources of the extension
    layout = Layout(runtime)
    if record:
        layout.write(folder)
    extension(folder, record, c_source)
    subprocess.run([PYTHON, "-m", "compileall", "-q", str(runtime / "pyrunc")], check=False)
    return layout


def extension(folder: Path, record: bool, c_source: tuple[str, str] | None) -> None:
    target = folder / "runtime/pyrunc/linux/_syscalls.abi3.so"
    if not record and c_source is None:
        shutil.copy(ROOT / "runtime/pyrunc/linux/_syscalls.abi3.so", target)
        return
    sources = {name: str(ROOT / name) for name in variable("EXT_SOURCES").split()}
    if c_source:
        changed = folder / c_source[0]
        changed.write_text(c_source[1])
        sources["runtime/csrc/" + c_source[0]] = str(changed)
    flags = [*variable("EXT_CFLAGS").split(), "-I" + str(ROOT / "runtime/csrc"), "-I" + sysconfig.get_path("include")]
    if record:
        flags += ["-fsanitize-coverage=trace-pc", '-DCOVERAGE_MAP="%s"' % (folder / "c-map")]
        sources["trace"] = str(HERE / "trace.c")
    subprocess.run([os.environ.get("CC", "cc"), *flags, *sources.values(), *variable("EXT_LDFLAGS").split(), "-o", str(target)], check=True)


def pytest_argv(folder: Path, *more: str) -> list[str]:
    """Runs pytest with the copy instead of the package and the runtime under test."""
    paths = " ".join(str(path) for path in (folder / "runtime", HERE, folder, *(ROOT / name for name in PATHS.split())))
    argv = [sys.executable, "-m", "pytest", "-q", "-o", "pythonpath=" + paths, "-p", "no:cacheprovider", "--unsupervised"]
    return [*argv, "--runtime", str(folder / "runtime/bin/pyrunc"), *more]


def blocks(folder: Path) -> dict[int, tuple[str, int]]:
    """The traced blocks of the extension: offset of each in the map → (source, line)."""
    shared = str(folder / "runtime/pyrunc/linux/_syscalls.abi3.so")
    text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", shared], capture_output=True, text=True, check=True).stdout
    found, before = [], False
    for line in text.splitlines():
        match = re.match(r"\s*([0-9a-f]+):\s", line)
        if match and before:
            found.append(int(match[1], 16))
        before = "__sanitizer_cov_trace_pc>" in line and "call" in line
    shown = subprocess.run(["addr2line", "-e", shared, *(hex(at - 1) for at in found)], capture_output=True, text=True, check=True).stdout
    places = [line.split(" ")[0].rpartition(":") for line in shown.splitlines()]
    return {
        at: (os.path.basename(path), int(number) if number.isdigit() else 0) for at, (path, _, number) in zip(found, places, strict=True)
    }
