"""The bench: python3 -m conformance.bench [options]

    --runtime [LABEL=]PATH   a runtime; may be given several times (default: pyrunc from this tree, runc and crun if they are installed)
    --part NAME              what to measure; may be given several times (default: life, memory and floor; `all`: everything but `steps`)
    --bundle NAME            for `life`: a bundle of bundles/ (default: hello and seccomp-docker); its program is replaced
    --rounds N               interleaved rounds (default 30)
    --containers N           for `scale`: up to how many (default 1000)
    --mounts N               for `configs`: up to how many (default 2000)
    --json FILE              all figures, `-` for standard output
    --html FILE              the tables and plots as one page
    --add FILE               figures from an earlier run, for parts that are not measured now
    --load FILE              the output of `make load ARGS='--json FILE'`: a thousand containers, in groups of a hundred
    --engines FILE           the output of `make bench-engines ARGS='--json FILE'`: podman, docker and ctr with each runtime
    --no-pin                 do not stay on one processor
    --list                   the parts, and the steps of a life

Rule: it measures and reports; it never judges. Every round runs every runtime once, and each round begins with a different one, so that
disturbances affect all of them equally. Compare ratios, not milliseconds.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from typing import TYPE_CHECKING

from conformance.bench import engines, floor, limits, load, machine, measure, parallel, profile, report, scale, steps

if TYPE_CHECKING:
    from typing import NoReturn

    from conformance.bench.shapes import Document, Json, Runtimes


ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEFAULTS = (("pyrunc", os.path.join(ROOT, ".venv/bin/pyrunc")), ("runc", "runc"), ("crun", "crun"))
PARTS = {
    "life": "create, start, state, exec, kill, delete and run; memory of a waiting and of a running container",
    "floor": "what the kernel needs for the same: a C program (floor.c), a plain process, a plain interpreter",
    "profile": "system calls of each command, instructions where they can be counted",
    "steps": "instructions of each command, one by one: takes minutes; some commands of runc take more than ten",
    "resources": "what memory, cpu and pids limits add to create, and the smallest memory limit with which `true` runs",
    "scale": "create, state and list while there are 1, 10, 100, 300, 1,000 containers",
    "stats": "statistics of 200 running containers",
    "configs": "create and delete with up to 2,000 mounts, and with 1 MiB of annotations",
    "parallel": "`run` of `true`, 1, 2, 4 and 8 at once on all processors: containers per second",
}
USUAL = ("life", "floor")
SLOW = ("steps",)  # not part of `all`
STATS_OF = 200
PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"


def options(argv: list[str]) -> Document:
    found: Document = {"runtimes": [], "bundles": [], "parts": [], "rounds": 30, "containers": 1000, "mounts": 2000}
    found.update(json=None, html=None, add=None, load=None, engines=None, pin=True)
    while argv:
        word, _, value = argv.pop(0).partition("=")
        if word == "--no-pin":
            found["pin"] = False
            continue
        if word == "--list":
            print("\n".join("%-10s %s" % row for row in (*PARTS.items(), *measure.STEPS)))
            raise SystemExit(0)
        if word.lstrip("-") not in (
            "runtime",
            "bundle",
            "part",
            "rounds",
            "containers",
            "mounts",
            "json",
            "html",
            "add",
            "load",
            "engines",
        ) or not (value or argv):
            raise SystemExit("bench: %s\n\n%s" % (word, __doc__))
        value = value or argv.pop(0)
        if word == "--runtime":
            label, sign, path = value.rpartition("=")
            found["runtimes"].append((label if sign else os.path.basename(path), path))
        elif word == "--bundle":
            found["bundles"].append(value)
        elif word == "--part":
            if value not in (*PARTS, "all"):
                raise SystemExit("bench: no part %r; there are: %s, all" % (value, ", ".join(PARTS)))
            found["parts"] += [part for part in PARTS if part not in SLOW] if value == "all" else [value]
        elif word in ("--rounds", "--containers", "--mounts"):
            if not value.isdigit():
                raise SystemExit("bench: %s takes a number" % word)
            found[word[2:]] = max(1, int(value))
        else:
            found[word[2:]] = value
    return found


def earlier(path: str | None) -> Json:
    """Figures from an earlier run, for parts that are not measured now."""
    if not path:
        return {}
    try:
        with open(path) as file:
            return json.load(file)
    except (OSError, ValueError) as e:
        raise SystemExit("bench: --add %s: %s" % (path, e)) from None


def from_tools(opts: Document) -> Document:
    """{"load": the measurements of tools/load.py, "engines": those of tools/bench_engines.py}, for the options that are given."""
    found: Document = {}
    for option, read in (("load", load.read), ("engines", engines.read)):
        try:
            if opts[option]:
                found[option] = read(opts[option])
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise SystemExit("bench: --%s %s: %s" % (option, opts[option], e)) from None
    return found


def runtimes(asked: Runtimes) -> list[tuple[str, str]]:
    """[(label, absolute path)]; a default one that is not installed is left out with a message, a requested one is an error."""
    chosen = []
    for label, path in asked or DEFAULTS:
        real = shutil.which(path, path=PATH) if "/" not in path else (path if os.path.exists(path) else None)
        if real:
            chosen.append((label, os.path.abspath(real)))
        elif asked:
            raise SystemExit("bench: no runtime at %s" % path)
        else:
            print("%s is not installed, left out" % label, file=sys.stderr)
    return chosen


def merged(old: Json, new: Json) -> Json:
    """The new measurements, and those of an earlier run for other parts and other runtimes."""
    if not isinstance(old, dict) or not isinstance(new, dict) or "median" in new:
        return new
    kept = {key: value for key, value in old.items() if key not in new and key != "failed"}  # failures are not taken over
    return {**kept, **{key: merged(old[key], value) if key in old else value for key, value in new.items()}}


def main(argv: list[str]) -> int:
    opts = options(argv)
    if os.geteuid():
        raise SystemExit("bench: root is required")
    signal.signal(signal.SIGTERM, told_to_end)
    chosen = runtimes(opts["runtimes"])
    if not chosen:
        raise SystemExit("bench: no runtime to measure")
    before, figures = earlier(opts["add"]), from_tools(opts)
    parts = opts["parts"] or USUAL
    with machine.hugetlb(), machine.pinned(opts["pin"]) as core:
        figures.update(machine=machine.about(core), rounds=opts["rounds"])
        figures["runtimes"] = {}
        for label, path in chosen:
            shown = os.path.relpath(path, ROOT) if path.startswith(ROOT + "/") else path
            figures["runtimes"][label] = {"path": shown, "version": machine.version(path)}
        if "floor" in parts:
            figures["floor"] = floor.floor(opts["rounds"])
        if "life" in parts:
            figures["bundles"] = {}
            for name in opts["bundles"] or ["hello", "seccomp-docker"]:
                figures["bundles"][name] = measure.bundle(name, chosen, opts["rounds"], say)
        if "profile" in parts:
            figures["profile"] = profile.profile(chosen, say)
        if "steps" in parts:
            figures["steps"] = steps.steps(chosen, say)
        if "resources" in parts:
            figures["resources"] = limits.resources(chosen, opts["rounds"], say)
            figures["smallest"] = limits.smallest_memory(chosen, say)
        if "scale" in parts:
            figures["scale"] = scale.containers(chosen, opts["containers"], say)
        if "stats" in parts:
            figures["stats"] = scale.stats(chosen, STATS_OF, say)
        if "configs" in parts:
            figures["configs"] = scale.configs(chosen, opts["mounts"], say)
    if "parallel" in parts:
        with machine.hugetlb():  # on all processors
            figures["parallel"] = parallel.parallel(chosen, opts["rounds"], say)
    figures = merged(before, figures)
    if opts["json"] == "-":
        print(json.dumps(figures, indent=1))
        return 0
    print(report.text(figures))
    for key, make in (("json", lambda f: json.dumps(f, indent=1) + "\n"), ("html", report.html)):
        if opts[key]:
            with open(opts[key], "w") as file:
                file.write(make(figures))
    return 0


def told_to_end(*_: object) -> NoReturn:
    """Starts deleting everything, without further interruption: timeout(1) sends its signal twice."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit("bench: terminated")


def say(line: str) -> None:
    """Progress, on a terminal only."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K" + line)
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
