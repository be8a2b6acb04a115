#!/usr/bin/python3
"""`make security-report`: the test results for this runtime and others, as a table in SECURITY.md and as JSON.

    security_report.py                         everything that is installed, written to docs/security-report.json and SECURITY.md
    security_report.py --only faults one section; earlier measurements of the others are kept
    security_report.py --only advisories --runtime /usr/sbin/runc

Rule: every figure is counted by a run of the tests. A section says how much was tried, never only that nothing was found.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shapes import Json

    Outcome = tuple[str, str, str, dict[str, str]]  # name, passed | failed | skipped, reason or "", properties


ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "tests/kernel/advisories"))
import harness  # noqa: E402
from advisory_table import ADVISORIES, numbers_in  # noqa: E402
from workshop import Workshop  # noqa: E402

PYTEST = ROOT / ".venv/bin/pytest"
OURS = ROOT / ".venv/bin/pyrunc"
JSON, PAGE = ROOT / "docs/security-report.json", ROOT / "SECURITY.md"
BEGIN, END = "<!-- made by `make security-report` -->\n", "<!-- end -->\n"
ORDER = ["pyrunc", "pyrunc-static", "runc", "crun"]
SPENT = ROOT / "tests/fuzz/spent.json"
SECTIONS = ("advisories", "faults", "fuzz", "init")


def tests(paths: Sequence[str], *options: str) -> list[Outcome]:
    """Runs pytest → [(test's name, passed | failed | skipped, reason or "", {property: value})]."""
    with tempfile.NamedTemporaryFile(suffix=".xml") as file:
        argv = [
            PYTEST,
            *paths,
            "-q",
            "--tb=short",
            "-p",
            "no:cacheprovider",
            "-o",
            "junit_family=xunit1",
            "--junit-xml",
            file.name,
            *options,
        ]
        done = subprocess.run([str(word) for word in argv], cwd=ROOT, stdout=sys.stderr)
        if done.returncode not in (0, 1):
            raise SystemExit("security_report: pytest ended with status %d" % done.returncode)
        found: dict[tuple[str, str], Outcome] = {}
        for case in xml.etree.ElementTree.parse(file.name).iter("testcase"):
            outcome, reason = "passed", ""
            for kind, name in (("skipped", "skipped"), ("failure", "failed"), ("error", "failed")):
                for node in case.findall(kind):
                    outcome, reason = name, (node.get("message") or "").splitlines()[0][:300] if node.get("message") else ""
            properties = {node.get("name", ""): node.get("value", "") for node in case.iter("property")}
            key = (case.get("classname", ""), case.get("name", ""))
            if key not in found or found[key][1] != "failed":  # a teardown error is a second testcase
                found[key] = (key[1], outcome, reason, properties)
        return list(found.values())


def version(path: str) -> str:
    words = subprocess.run([path, "--version"], capture_output=True, text=True).stdout.split("\n")[0].split()
    return words[-1].removeprefix("version ") if words else "?"


FOLDER = "tests/kernel/advisories"


def advisories(path: str, files: Sequence[str] | None) -> Json:
    """{"version", "cases": {file::test: [passed | failed | skipped, reason]}}, to be added to those of other files."""
    cases = {}
    for file in files or sorted(one.name for one in (ROOT / FOLDER).glob("test_*.py") if one.name != "test_advisory_table.py"):
        for name, outcome, reason, _ in tests(["%s/%s" % (FOLDER, file)], "--runtime", path):
            cases["%s::%s" % (file, name)] = [outcome, reason if outcome == "skipped" else ""]
        keep({"advisories": {os.path.basename(path): {"version": version(path), "cases": cases}}})
    return {"version": version(path), "cases": cases}


def judged(measured: Json) -> Json:
    """The cases of one runtime → {"total", "passed": rows, "failed": {row: number of cases}, "absent": {row}, "tests": cases that ran}."""
    failed, absent = {}, set()
    for numbers, _, _ in ADVISORIES:
        outcomes = [case[0] for name, case in measured["cases"].items() if set(numbers_in(name)) & set(numbers)]
        if "failed" in outcomes:
            failed[numbers[0]] = outcomes.count("failed")
        elif "passed" not in outcomes:
            absent.add(numbers[0])
    total = len(ADVISORIES) - len(absent)
    ran = sum(1 for outcome, _ in measured["cases"].values() if outcome != "skipped")
    return {"total": total, "passed": total - len(failed), "failed": failed, "absent": absent, "tests": ran}


def counted(name: str, path: str, every: bool, match: str | None) -> Json:
    """{"cases": {test: [passed | failed | skipped, number]}}: how many cases each test ran, from its property `name`."""
    results = tests([path], *(() if every else ("-m", "not long")), *(("-k", match) if match else ()))
    return {"cases": {case: [outcome, int(properties.get(name, 0))] for case, outcome, _, properties in results}}


def faults(every: bool, match: str | None) -> Json:
    """The points where the runtime is killed or one of its calls fails: the first, a middle and the last one, or all (--every)."""
    return counted("points", "tests/cli/test_faults.py", every, match)


def fuzz(every: bool, match: str | None) -> Json:
    return counted("examples", "tests/fuzz", every, match)


def look_at_init(path: str) -> Json:
    """The state of a waiting container: the init of a plain bundle, seen from the host."""
    with tempfile.TemporaryDirectory(prefix="sr", dir="/tmp") as name:
        workshop = Workshop(name)
        runtime = harness.Runtime(path, pathlib.Path(name) / "state", "securityreport", "/securityreport")
        bundle = workshop.bundle(args=harness.WAIT_FOR_TERM, cgroup="/securityreport")
        trace, pid_file = pathlib.Path(name) / "trace", pathlib.Path(name) / "pid"
        strace = shutil.which("strace")
        id = runtime.new_id()
        argv = [strace, "-D", "-f", "-qq", "-e", "signal=none", "-o", str(trace)] if strace else []
        argv += runtime.argv("create", "--bundle", bundle, "--pid-file", pid_file, id)
        null = subprocess.DEVNULL
        env = {**runtime.env, "HOSTSECRET": "1"}
        if subprocess.Popen(argv, stdin=null, stdout=null, stderr=null, env=env).wait(harness.WATCHDOG):
            raise SystemExit("security_report: %s could not create a container" % path)
        try:
            pid = int(pid_file.read_text())
            return described(pid, trace.read_text() if strace else "")
        finally:
            runtime.call("delete", "--force", id)


def described(pid: int, trace: str) -> dict[str, Json]:
    folder = pathlib.Path("/proc/%d" % pid)
    status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
    maps = {line.split()[5] for line in (folder / "maps").read_text().splitlines() if len(line.split()) > 5 and "/" in line}
    links = {name: os.readlink(folder / "fd" / name) for name in os.listdir(folder / "fd")}
    calls = [m[2] for m in re.finditer(r"^(\d+) +(\w+)\(", trace, re.M) if int(m[1]) == pid]
    return {
        "system calls": len(calls),
        "different ones": len(set(calls)),
        "all calls of create": len(re.findall(r"^\d+ +\w+\(", trace, re.M)),
        "descriptors": sorted(kind_of(target) for target in links.values()),
        "threads": int(status["Threads"]),
        "resident KiB": int(status["VmRSS"].split()[0]),
        "executable": kind_of(os.readlink(folder / "exe")),
        "files of the host mapped": len([path for path in maps if os.path.exists(path) and not path.startswith("/memfd:")]),
        "bytes of environment": len((folder / "environ").read_bytes()),
    }


def kind_of(target: str) -> str:
    """A descriptor's target, without what varies between runs."""
    return re.sub(r":?\[\d+\]|\d{3,}|/tmp/\S*/", "", target) or target


def runtimes(wanted: Sequence[str] | None) -> dict[str, str]:
    paths = wanted or [str(OURS), *filter(None, (shutil.which(name, path="/usr/sbin:/usr/bin") for name in ("runc", "crun")))]
    return {os.path.basename(path): str(path) for path in paths}


def keep(new: Json) -> None:
    """Adds figures to the JSON, under a lock: another run may write at the same time."""
    with open(JSON, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        found = json.loads(file.read() or "{}")
        for section, figures in new.items():
            if section not in ("advisories", "init"):
                cases = {**found.get(section, {}).get("cases", {}), **figures.get("cases", {})}
                found[section] = {**figures, "cases": cases} if cases else figures
                continue
            for name, one in figures.items():
                old = found.setdefault(section, {}).get(name, {})
                again = {case.partition("::")[0] for case in one.get("cases", ())}
                found[section][name] = (
                    {
                        **one,
                        "cases": {**{k: v for k, v in old.get("cases", {}).items() if k.partition("::")[0] not in again}, **one["cases"]},
                    }
                    if section == "advisories"
                    else one
                )
        file.truncate(0)
        file.write(json.dumps(found, indent=1, sort_keys=True) + "\n")


def measure(asked: argparse.Namespace) -> None:
    kernel = "Linux " + ".".join(os.uname().release.split(".")[:2])
    keep({"machine": {"kernel": kernel, "cgroups": "version 1" if os.path.isdir("/sys/fs/cgroup/memory") else "version 2"}})
    for section in asked.only or SECTIONS:
        if section in ("advisories", "init"):
            for name, path in runtimes(asked.runtime).items():
                keep({section: {name: advisories(path, asked.file) if section == "advisories" else look_at_init(path)}})
        else:
            keep({section: {"faults": faults, "fuzz": fuzz}[section](asked.every, asked.match)})


# ---- the page


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    return (
        "\n".join(["| %s |" % " | ".join(head), "|%s" % ("---|" * len(head)), *("| %s |" % " | ".join(map(str, row)) for row in rows)])
        + "\n"
    )


def place(name: str) -> int:
    return ORDER.index(name) if name in ORDER else len(ORDER)


def verdict(measured: Json, row: str) -> str:
    if row in measured["failed"]:
        return "**fails** (%d)" % measured["failed"][row]
    return "–" if row in measured["absent"] else "passes"


def guided(spent: Json) -> str:
    """What `make fuzz ARGS=--save` has recorded: {target: {"seconds": processor time, "inputs": number}}."""
    least, most = min(one["seconds"] for one in spent.values()) // 60, max(one["seconds"] for one in spent.values()) // 60
    words = "`make fuzz`, guided by coverage, has tried %d inputs for %d targets, with %s minutes of processor time for each. No input that is\n"
    words += "known crashes or hangs a target; those that did are in tests/fuzz/corpus, which every test run replays.\n"
    return words % (sum(one["inputs"] for one in spent.values()), len(spent), least if least == most else "%d to %d" % (least, most))


def page(found: Json) -> str:
    machine = found["machine"]
    parts = ["Measured on %s with cgroup %s.\n" % (machine["kernel"], machine["cgroups"])]
    measured = {name: judged(one) for name, one in found.get("advisories", {}).items()}
    measured = {name: measured[name] for name in sorted(measured, key=place)}
    if measured:
        names = list(measured)
        head = ["", *("%s %s" % (name, found["advisories"][name]["version"]) for name in names)]
        parts.append(table(head, [["advisories passed", *("%d of %d" % (measured[n]["passed"], measured[n]["total"]) for n in names)],
                                  ["test cases", *(measured[n]["tests"] for n in names)]]))  # fmt: skip
    figures = []
    for section, words in (
        ("faults", "points where the runtime is killed or a call fails"),
        ("fuzz", "configs and documents that were made up"),
    ):
        if section in found:
            cases = found[section]["cases"].values()
            figures.append([words, sum(number for _, number in cases), sum(1 for outcome, _ in cases if outcome == "failed")])
    if figures:
        parts.append(table(["", "tried", "with leaks, crashes or hangs"], figures))
    if SPENT.exists():
        parts.append(guided(json.loads(SPENT.read_text())))
    if found.get("init"):
        names = sorted(found["init"], key=place)
        keys = [
            "system calls",
            "different ones",
            "all calls of create",
            "threads",
            "resident KiB",
            "files of the host mapped",
            "bytes of environment",
        ]
        rows = [[key, *(found["init"][n][key] for n in names)] for key in keys]
        rows.append(["executable", *("`%s`" % found["init"][n]["executable"] for n in names)])
        rows.append(
            [
                "descriptors",
                *("%d: `%s`" % (len(found["init"][n]["descriptors"]), " ".join(found["init"][n]["descriptors"])) for n in names),
            ]
        )
        parts.append("What the init of a created container has done, and waits with:\n")
        parts.append(table(["", *names], rows))
    if measured:
        parts.append("Advisory by advisory (the number of failing cases in brackets; – where this machine or runtime can't show it):\n")
        rows = [[", ".join(row), where, what, *(verdict(measured[n], row[0]) for n in measured)] for row, where, what in ADVISORIES]
        parts.append(table(["numbers", "found in", "mechanism", *measured], rows))
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--only", action="append", choices=SECTIONS, help="measure this section; may be given several times")
    parser.add_argument("--runtime", action="append", type=os.path.abspath, help="for advisories and init: this binary instead of all")
    parser.add_argument("--file", action="append", help="advisories: the tests of this file instead of all, like test_dev.py")
    parser.add_argument("--every", action="store_true", help="faults and fuzz: the long runs, too")
    parser.add_argument("--match", help="faults and fuzz: the tests that pytest's -k chooses")
    parser.add_argument("--render", action="store_true", help="measure nothing, write SECURITY.md from the JSON")
    asked = parser.parse_args()
    if not asked.render:
        measure(asked)
    found = json.loads(JSON.read_text())
    text = PAGE.read_text()
    head, _, rest = text.partition(BEGIN)
    PAGE.write_text(head + BEGIN + "\n" + page(found) + "\n" + END + rest.partition(END)[2])
    print("%s and %s are written" % (JSON.relative_to(ROOT), PAGE.relative_to(ROOT)))


if __name__ == "__main__":
    main()
