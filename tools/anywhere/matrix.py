#!/usr/bin/python3
"""`make test-anywhere`: the release files on other kernels and processors, the sources on other distributions; one table at the end.

    matrix.py [--short] [--only WORD] [--suite SUITE] [--step STEP] [--dist DIR]

Kernels of several Debian suites boot with the release file alone in their initrd (boot.py). An aarch64 machine runs the demo, podman and
some of the kernel and command-line tests (machine.py). In roots of several suites `make demo`, the unit tests and the tests of the
command line run from a clone of this tree. build/anywhere has their output. --short: one kernel, one refusal. Everything is kept below
the cache of tools/roots.py; if something is missing, a row says `not run` and the reason. Exit status 1: a row has failed.
"""

from __future__ import annotations

import argparse
import datetime
import os
import pathlib
import re
import shutil
import subprocess
import sys

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
STEPS = {
    "demo": "make demo",
    "unit": "make .stamps/tools && .venv/bin/pytest -q -n 2 tests/unit",
    "cli": "make .stamps/tools && .venv/bin/pytest -q -n 2 tests/cli -m 'not long'",
}
# what runs in the aarch64 machine (machine.py)
PYTEST = ".venv/bin/python -B -m pytest -q -p no:cacheprovider -m 'not long' "
MACHINE = {
    "demo": "/usr/bin/python3 tools/demo.py --runtime .venv/bin/pyrunc",
    "podman": "sh tools/anywhere/podman.sh /src/.venv/bin/pyrunc",
    "kernel tests": PYTEST + " ".join("tests/kernel/test_%s.py" % name for name in ("seccomp", "syscalls", "spawn", "seal", "finish")),
    "cli tests": PYTEST + " ".join("tests/cli/test_%s.py" % name for name in ("state_kill_delete", "lifecycle", "exec", "start_run")),
}
MORE = ["make", "git", "mount", "util-linux"]
SECONDS = 3600
LOGS = PROJECT / "build/anywhere"  # the output of each step
ENTER = r"""
set -e
mount --bind "$1" "$1"
mount -t proc proc "$1/proc"
for dir in sys dev; do mount --rbind "/$dir" "$1/$dir"; done
for dir in run tmp; do mount -t tmpfs tmpfs "$1/$dir"; done
mkdir "$1/run/lock"
cd "$1"
mkdir -p old
busybox pivot_root . old
umount -l /old
cd /src
exec sh -c "$2"
"""
Row = tuple[str, str, str]


def on_kernels(dist: pathlib.Path, rows: tuple[tuple[str, str, str], ...]) -> list[Row]:
    found = []
    for suite, arch, words in rows:
        name = "%s kernel, %s%s" % (suite, arch, ", cgroup v1" if words == "cgroup=1" else "")
        files = sorted(dist.glob("pyrunc-*-linux-" + arch))
        try:
            if not files:
                raise roots.Failed("no release file in %s (make release)" % dist)
            version, checks = boot.boot(files[-1], suite, arch, words)
        except (roots.Failed, OSError) as e:
            found.append((name, "release file", "not run: %s" % str(e).splitlines()[0]))
            continue
        bad = ["%s: %s" % row for row in checks if row[1] != "ok"]
        verdict = "FAILED " + "; ".join(bad) if bad else "refused in one line" if words == "old=1" else "%d checks ok" % len(checks)
        found.append((name, "Linux %s, release file" % version.split()[0], verdict))
        print("%s: %s" % (name, verdict), flush=True)
    return found


def passed(output: str, code: int) -> str:
    """The verdict: pytest's last line, or "ok"."""
    said = re.findall(r"^(?:\d+ \w+, )*\d+ passed.*", output, re.M)
    verdict = said[-1] if said else "ok" if code == 0 else "FAILED: " + (output.strip().splitlines() or ["?"])[-1]
    return verdict if code == 0 or verdict.startswith("FAILED") else "FAILED: " + verdict


def on_machine(dist: pathlib.Path) -> list[Row]:
    name = "Debian %s, %s" % (machine.SUITE, machine.ARCH)
    files = sorted(dist.glob("pyrunc-*-linux-" + machine.ARCH))
    log = LOGS / (machine.ARCH + ".log")
    LOGS.mkdir(parents=True, exist_ok=True)
    command = "\n".join('echo "STEP %s"; %s; echo "STATUS $?"' % row for row in MACHINE.items())
    try:
        if not files:
            raise roots.Failed("no release file in %s (make release)" % dist)
        with open(log, "w") as file:
            machine.run(files[-1], command, SECONDS, file)
    except (roots.Failed, OSError, subprocess.CalledProcessError) as e:
        return [(name, "release file", "not run: %s" % str(e).splitlines()[0])]
    output = log.read_text(errors="replace")
    found = []
    for step in MACHINE:
        part = output.partition("STEP %s\n" % step)[2].partition("STEP ")[0]
        said, status, code = part.partition("STATUS ")
        verdict = passed(said, int(code.split()[0])) if status else "FAILED: the machine did not come that far"
        bad = re.findall("^CHECK (.*) FAILED.*", said, re.M)
        found.append((name, step, "FAILED: " + ", ".join(bad) if bad else verdict))
        print("%s, %s: %s" % found[-1], flush=True)
    return found


def on_suites(suites: list[str], steps: list[str]) -> list[Row]:
    found = []
    for suite in suites:
        packages = [line.split()[1] for line in (PROJECT / "tools/apt-packages.txt").read_text().splitlines() if line.startswith("demo ")]
        try:
            root = roots.made("root-" + suite, suite, packages + MORE, "minbase")
            source = root / "src"
            shutil.rmtree(source, ignore_errors=True)
            subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(source)], check=True)
            for name in ("/etc/resolv.conf", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt"):
                if os.path.exists(name):
                    shutil.copyfile(name, str(root) + name)
        except (roots.Failed, OSError, subprocess.CalledProcessError) as e:
            found.append(("Debian " + suite, "sources", "not run: %s" % str(e).splitlines()[0]))
            continue
        for step in steps:
            command = STEPS[step]
            argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, "sh", str(root), command]
            env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
            log = LOGS / ("%s-%s.log" % (suite, step))
            LOGS.mkdir(parents=True, exist_ok=True)
            with open(log, "w") as file:
                done = subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=SECONDS)
            found.append(("Debian " + suite, step, passed(log.read_text(errors="replace"), done.returncode)))
            print("%s, %s: %s" % found[-1], flush=True)
    return found


def table(rows: list[Row]) -> str:
    lines = ["%s, %s" % (datetime.date.today(), os.uname().machine), "", "| where | what | result |", "|---|---|---|"]
    return "\n".join(lines + ["| %s | %s | %s |" % row for row in rows])


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="tests on other kernels, processors and distributions")
    parser.add_argument("--short", action="store_true", help="one kernel and one that is too old")
    parser.add_argument("--only", choices=("kernels", "machine", "suites"))
    parser.add_argument("--suite", action="append", choices=SUITES, help="only this suite's root (all)")
    parser.add_argument("--step", action="append", choices=sorted(STEPS), help="only this step in the roots (all)")
    parser.add_argument("--dist", type=pathlib.Path, default=PROJECT / "dist")
    options = parser.parse_args(argv)
    rows: list[Row] = []
    if options.only in (None, "kernels"):
        rows += on_kernels(options.dist, KERNELS[:SHORT] if options.short else KERNELS)
    if options.only in (None, "machine") and not options.short:
        rows += on_machine(options.dist)
    if options.only in (None, "suites") and not options.short:
        rows += on_suites(options.suite or list(SUITES), options.step or list(STEPS))
    print(table(rows))
    return int(any("FAILED" in row[2] for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
