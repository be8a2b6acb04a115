#!/usr/bin/env python3
"""Runs mypy on the whole tree, and limits the share of imprecise types.

    tools/check_types.py              all runs
    tools/check_types.py RUN...       only these
    tools/check_types.py --write rewrites the bounds in tools/check_types.txt

A run of mypy only supports one module of each name, and the tests have several conftest.py, so there is a run for each folder. Settings are
in pyproject.toml. mypy counts the expressions whose type it does not know (Any): their share in each run is printed, and a share above the
bound in tools/check_types.txt is an error. If it falls, --write lowers the bound.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TREE = Path(__file__).resolve().parent.parent
BOUNDS = Path(__file__).with_suffix(".txt")
MARGIN = 0.2  # percent: a bound is not raised for every line that is added
HELPERS = "tests tests/cli tests/kernel tests/kernel/advisories tests/contracts tests/unit tests/vm/inside tests/fuzz tests/conformance"
# For the tests: bodies are checked whether or not the function has annotations. Test functions need none; ruff's ANN rules ask for
# those of the helpers. They run with the machine's interpreter. If a test gets None instead of a value, it fails anyway; fakes and
# deliberately wrong documents are passed where the package expects real ones.
LOOSE = (
    "--allow-untyped-defs --allow-incomplete-defs --allow-untyped-calls --allow-untyped-decorators --allow-any-generics --allow-subclassing-any"
    " --python-version 3.13 --no-strict-optional --disable-error-code=func-returns-value --disable-error-code=var-annotated"
    " --disable-error-code=arg-type --disable-error-code=list-item --disable-error-code=typeddict-item --disable-error-code=misc --no-warn-return-any --no-warn-unused-ignores --no-strict-equality --implicit-reexport"
).split()
# name: (folders that imports are found in, besides those of pyproject.toml; files)
RUNS: dict[str, tuple[str, str]] = {
    "runtime": ("", "runtime/pyrunc"),
    "conformance": ("conformance", "conformance/oci_conformance conformance/__main__.py"),
    "tools": (". tools tools/vmlab specs", "conformance/bench bundles/*.py tools/*.py tools/vmlab/*.py specs/*.py runtime/csrc/*.py"),
    "tools/coverage": ("tools/coverage", "tools/coverage/*.py"),
    **{folder: (folder + " " + HELPERS + " conformance tools tools/vmlab specs", folder + "/*.py") for folder in HELPERS.split()},
    "tests/fakes": (HELPERS, "tests/fakes/*.py"),
    "tests/vm": (HELPERS + " tools/vmlab", "tests/vm/*.py"),
}


def check(name: str) -> tuple[str, float | None]:
    """(mypy's errors, "" for none; the share of imprecise expressions in percent)."""
    bases, patterns = RUNS[name]
    files = sorted({str(path.relative_to(TREE)) for pattern in patterns.split() for path in TREE.glob(pattern)})
    cache = ".mypy_cache/" + name.replace("/", "-")
    with tempfile.TemporaryDirectory() as report:
        argv = [sys.executable, "-m", "mypy", "--cache-dir", cache, "--any-exprs-report", report, "--no-error-summary"]
        argv += ["--python-version=3.13"] if name == "tools/coverage" else []  # sys.monitoring
        argv += [*(LOOSE if name.startswith("tests") else ()), *files]
        environment = {**os.environ, "MYPYPATH": ":".join(dict.fromkeys(bases.split()))}
        done = subprocess.run(argv, cwd=TREE, env=environment, capture_output=True, text=True)
        total = re.search(r"^\s*Total\s+(\d+)\s+(\d+)", read(Path(report, "any-exprs.txt")), re.M)
    share = 100 * int(total[1]) / int(total[2]) if total and int(total[2]) else None
    return (done.stdout + done.stderr if done.returncode else ""), share


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def bounds() -> dict[str, float]:
    lines = [line.split() for line in read(BOUNDS).splitlines() if line and not line.startswith("#")]
    return {name: float(share) for name, share in lines}


def write(shares: dict[str, float]) -> None:
    head = (
        "# The share of expressions of unknown type (mypy --any-exprs-report) that no run of tools/check_types.py may exceed, in percent.\n"
    )
    BOUNDS.write_text(head + "".join("%-24s %.1f\n" % (name, share) for name, share in shares.items()))


def main(argv: list[str]) -> int:
    names = [name for name in argv if name != "--write"] or list(RUNS)
    held, shares, bad = bounds(), {}, 0
    for name in names:
        errors, share = check(name)
        if errors:
            print(errors, end="")
            bad = 1
        if share is None:
            print("types: mypy reports no share for %s" % name)
            bad = 1
            continue
        shares[name] = share
        if "--write" not in argv and share > held.get(name, 0) + MARGIN:
            print("types: %.1f %% of the expressions of %s have no known type; the bound is %.1f %%" % (share, name, held.get(name, 0)))
            bad = 1
    if "--write" in argv:
        write({**held, **shares})
    print("types: expressions of unknown type: " + ", ".join("%s %.1f %%" % item for item in shares.items()))
    return bad


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
