#!/usr/bin/python3
"""`make test-anywhere`: the release files on other kernels and processors, the sources on other distributions; one table at the end.

    matrix.py [--short] [--only WORD] [--suite SUITE] [--step STEP] [--dist DIR]

Kernels of several Debian suites boot with the release file alone in their initrd (boot.py). An aarch64 machine runs the demo, podman and
most kernel and command-line tests (machine.py). In roots of several suites `make demo`, `make test` and the suite's other compilers run from a
clone of this tree. build/anywhere has their output. --short: one kernel, one refusal. Everything is kept below the cache of tools/roots.py; if
something is missing, a row says `not run` and the reason.

All of it takes hours, although the emulated machines run beside the roots. So each row is kept as soon as it is known: the table at the end of
a run of some parts also has those of earlier runs that were not repeated, each with its date and commit. Exit status 1: a row of this run
has failed.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))
import boot  # noqa: E402
import machine  # noqa: E402
import roots  # noqa: E402

PROJECT = HERE.parent.parent
# suite, processor, words for the kernel
KERNELS = (
    ("trixie", "x86_64", ""),
    ("bullseye", "x86_64", "old=1"),
    ("bookworm", "x86_64", ""),
    ("trixie", "x86_64", "cgroup=1"),
    ("testing", "x86_64", ""),
    ("trixie", "aarch64", ""),
)
SHORT = 2  # the first rows
SUITES = ("bookworm", "trixie", "testing")
COMPILERS = {"bookworm": ["clang"], "trixie": ["gcc-12", "gcc-13", "clang"], "testing": ["gcc-13", "gcc-14", "gcc-15", "clang"]}
STEPS = {
    "demo": "make demo",
    "test": "sh .ci/run",  # make test; what fails is run again, up to twice, and counted: daemons on a busy machine
    "compilers": "make .stamps/tools && sh tools/anywhere/compilers.sh %(compilers)s",
}
# In the roots, besides what `make demo` needs: make and git, and what the tests of releases and packages need. `make test` installs the rest.
MORE = """make git rpm makepkg pacman-package-manager libarchive-tools fakeroot gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user
mmdebstrap zstd""".split()
# what runs in the aarch64 machine (machine.py)
MACHINE = {
    "demo": "/usr/bin/python3 tools/demo.py --runtime .venv/bin/pyrunc",
    "podman": "sh tools/anywhere/podman.sh /src/.venv/bin/pyrunc",
}
# All kernel tests but those that need criu or a compiler, or take too long there, and what the command line is mostly used for.
KERNEL_NOT_THERE = "checkpoint checkpoint_around checkpoint_faults checkpoint_killed checkpoint_shared seccomp_sweep unwind".split()
CLI_THERE = """alone annotations console diff errors_explained exec explain formats globals habits handed hooks_command hostile identity_map
inside isolated lifecycle list_ps many memory mounts_command notices parsing pause_spec_features plan properties races read_only_cgroups
regex relay rough signals start_run state_kill_delete trace validate_as wait_top_gc watching wrong_file""".split()
MACHINE_FILES = [
    *("tests/cli/test_%s.py" % name for name in CLI_THERE),
    *(
        str(path.relative_to(PROJECT))
        for path in sorted((PROJECT / "tests/kernel").glob("test_*.py"))
        if path.stem.removeprefix("test_") not in KERNEL_NOT_THERE
    ),
]
# one run for all files: an emulated processor takes minutes for the imports
MACHINE_TESTS = ".venv/bin/python -B -m pytest -v --no-header --color=no --tb=short -rfE -p no:cacheprovider -m 'not long' -n 2"
SECONDS = 7200  # for a step; an emulated processor or a busy machine takes long
LOGS = PROJECT / "build/anywhere"  # the output of each step
ENTER = r"""
set -e
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
for dir in sys dev; do mount --rbind "/$dir" "$1/$dir"; done
for dir in run tmp; do mount -t tmpfs tmpfs "$1/$dir"; done
mkdir "$1/run/lock"
mount --bind /run/lock "$1/run/lock" # the tests' locks are for the whole machine
cd "$1"
mkdir -p old
busybox pivot_root . old
umount -l /old
rmdir /old
cd /src
exec sh -c "$2"
"""
ROWS = LOGS / "rows.json"  # [[where, what, result, date, commit]]


class Rows:
    """The table: (where, what) and the result of each, with date and commit. Threads may add to it."""

    def __init__(self, about: list[str], earlier: bool) -> None:
        """about: date and commit of this run. earlier: keep the rows of earlier runs."""
        self.about = about
        self.lock = threading.Lock()
        self.has_failed = False  # a row of this run
        self.rows: dict[tuple[str, str], list[str]] = {}
        if earlier and ROWS.exists():
            self.rows = {(row[0], row[1]): row for row in json.loads(ROWS.read_text())}

    def add(self, where: str, what: str, result: str) -> None:
        """Prints it and writes all, in the order in which (where, what) first came."""
        with self.lock:
            self.rows[where, what] = [where, what, result, *self.about]
            self.has_failed |= "FAILED" in result
            LOGS.mkdir(parents=True, exist_ok=True)
            ROWS.write_text(json.dumps(list(self.rows.values()), indent=1) + "\n")
            print("%s, %s: %s" % (where, what, result), flush=True)

    def table(self) -> str:
        rows = ("| %s |" % " | ".join(row) for row in self.rows.values())
        return "\n".join(["| where | what | result | date | commit |", "|---|---|---|---|---|", *rows])


def on_kernels(rows: Rows, dist: pathlib.Path, kernels: tuple[tuple[str, str, str], ...]) -> None:
    for suite, arch, words in kernels:
        name = "%s kernel, %s%s" % (suite, arch, ", cgroup v1" if words == "cgroup=1" else "")
        files = sorted(dist.glob("pyrunc-*-linux-" + arch))
        try:
            if not files:
                raise roots.Failed("no release file in %s (make release)" % dist)
            version, checks = boot.boot(files[-1], suite, arch, words)
        except (roots.Failed, OSError) as e:
            rows.add(name, "release file", "not run: %s" % str(e).splitlines()[0])
            continue
        bad = ["%s: %s" % row for row in checks if row[1] != "ok"]
        verdict = "FAILED " + "; ".join(bad) if bad else "refused in one line" if words == "old=1" else "%d checks ok" % len(checks)
        rows.add(name, "Linux %s, release file" % version.split()[0], verdict)


def passed(output: str, code: int) -> str:
    """The verdict: pytest's last line, or "ok". After a failure without a failed test, the last line of the output, too."""
    said = re.findall(r"^=* ?((?:\d+ [a-z]+(?:, )?)+ in \d[^=\n]*)", output, re.M)
    verdict = said[-1].strip() if said else ""
    if code == 0:
        return verdict or "ok"
    lines = [line for line in output.splitlines() if line.strip()]
    last = next((line for line in reversed(lines) if not line.startswith("make")), (lines or ["?"])[-1])
    if not verdict:
        return "FAILED: " + last
    return "FAILED: " + verdict + ("" if re.search(r"\d+ (failed|error)", verdict) or verdict in last else "; " + last)


def checked(output: str) -> str:
    """What the lines that begin with CHECK say, or nothing."""
    rows = re.findall(r"^CHECK (.*?) (ok|FAILED)(.*)", output, re.M)
    bad = [name + more for name, word, more in rows if word == "FAILED"]
    good = ", ".join(name + more for name, word, more in rows if more) or "%d checks ok" % len(rows)
    return "" if not rows else "FAILED: " + ", ".join(bad) if bad else good


def of_files(output: str, files: list[str]) -> dict[str, str]:
    """{file: verdict} from pytest's -v lines, with or without xdist."""
    found = {}
    for file in files:
        words = re.findall(r"^\[gw\d+\] \[ *\d+%%\] ([A-Z]+) %s::" % re.escape(file), output, re.M)
        counts = ", ".join(
            "%d %s" % (words.count(word), word.lower()) for word in ("FAILED", "ERROR", "PASSED", "SKIPPED") if word in words
        )
        found[file] = "FAILED: " * ("FAILED" in words or "ERROR" in words) + counts if words else "not run: no time was left"
    return found


def on_machine(rows: Rows, dist: pathlib.Path, seconds: int) -> None:
    name = "Debian %s, %s" % (machine.SUITE, machine.ARCH)
    files = sorted(dist.glob("pyrunc-*-linux-" + machine.ARCH))
    log = LOGS / (machine.ARCH + ".log")
    LOGS.mkdir(parents=True, exist_ok=True)
    steps = {**MACHINE, "tests": " ".join([MACHINE_TESTS, *MACHINE_FILES])}
    try:
        if not files:
            raise roots.Failed("no release file in %s (make release)" % dist)
        with open(log, "w") as file:
            machine.run(files[-1], "\n".join('echo "STEP %s"; %s; echo "STATUS $?"' % row for row in steps.items()), seconds, file)
    except (roots.Failed, OSError, subprocess.CalledProcessError) as e:
        rows.add(name, "release file", "not run: %s" % str(e).splitlines()[0])
        return
    output = log.read_text(errors="replace")
    for step in steps:
        said, status, code = output.partition("STEP %s\n" % step)[2].partition("STEP ")[0].partition("STATUS ")
        verdict = (checked(said) or passed(said, int(code.split()[0]))) if status else "FAILED: not finished after %d s" % seconds
        rows.add(name, step, verdict)
    for file, verdict in of_files(output, MACHINE_FILES).items():
        rows.add(name, file, verdict)


def root_of(suite: str) -> pathlib.Path:
    """The root of a suite, with a fresh clone of this tree in /src."""
    packages = [line.split()[1] for line in (PROJECT / "tools/apt-packages.txt").read_text().splitlines() if line.startswith("demo ")]
    root = roots.made("root-" + suite, suite, packages + MORE + COMPILERS[suite], "minbase")
    (root / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")  # apt-get starts no daemons
    (root / "usr/sbin/policy-rc.d").chmod(0o755)
    source = root / "src"
    shutil.rmtree(source, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(source)], check=True)
    for name in ("/etc/resolv.conf", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt"):
        if os.path.exists(name):
            shutil.copyfile(name, str(root) + name)
    return root


def inside(root: pathlib.Path, command: str, log: pathlib.Path) -> str:
    """The verdict about a command in the root."""
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, "sh", str(root), command]
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
    LOGS.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as file:
        child = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
        try:
            code = child.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGTERM)  # pytest removes what it has made
            child.wait()
            return "FAILED: not finished after %d s" % SECONDS
    output = log.read_text(errors="replace")
    return checked(output) or passed(output, code)


def on_suites(rows: Rows, suites: list[str], steps: list[str]) -> None:
    for suite in suites:
        try:
            root = root_of(suite)
        except (roots.Failed, OSError, subprocess.SubprocessError) as e:
            rows.add("Debian " + suite, "sources", "not run: %s" % str(e).splitlines()[0])
            continue
        for step in steps:
            command = STEPS[step] % {"compilers": " ".join(COMPILERS[suite])}
            rows.add("Debian " + suite, step, inside(root, command, LOGS / ("%s-%s.log" % (suite, step))))


def now() -> list[str]:
    """The date and the commit of this tree."""
    done = subprocess.run(["git", "-C", str(PROJECT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return [str(datetime.date.today()), done.stdout.strip()]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="tests on other kernels, processors and distributions")
    parser.add_argument("--short", action="store_true", help="one kernel and one that is too old")
    parser.add_argument("--only", choices=("kernels", "machine", "suites"))
    parser.add_argument("--suite", action="append", choices=SUITES, help="only this suite's root (all)")
    parser.add_argument("--step", action="append", choices=sorted(STEPS), help="only this step in the roots (all)")
    parser.add_argument("--dist", type=pathlib.Path, default=PROJECT / "dist")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="how long the aarch64 machine may run (%(default)s)")
    options = parser.parse_args(argv)
    is_all = not (options.short or options.only or options.suite or options.step)
    rows = Rows(now(), earlier=not is_all)

    def emulated() -> None:
        if options.only in (None, "kernels"):
            on_kernels(rows, options.dist, KERNELS[:SHORT] if options.short else KERNELS)
        if options.only in (None, "machine") and not options.short:
            on_machine(rows, options.dist, options.seconds)

    with concurrent.futures.ThreadPoolExecutor(1) as beside:
        machines = beside.submit(emulated)
        if options.only in (None, "suites") and not options.short:
            on_suites(rows, options.suite or list(SUITES), options.step or list(STEPS))
        machines.result()
    print(rows.table())
    return int(rows.has_failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
