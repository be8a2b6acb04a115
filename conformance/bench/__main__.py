"""The bench: python3 -m conformance.bench [options]

    --runtime [LABEL=]PATH   a runtime; may be given several times (default: pyrunc of this tree, runc and crun where they are)
    --bundle NAME            a bundle of bundles/ (default: hello and seccomp-docker); its program is replaced
    --rounds N               interleaved rounds (default 30)
    --json FILE              all figures, `-` for standard output
    --html FILE              the tables as one page
    --no-pin                 do not stay on one processor
    --list                   the steps that are measured

Its one rule: it measures and says; it never judges. Every round runs every runtime once, each round begins with another one, so
that whatever disturbs the machine disturbs all of them alike. Compare ratios, not milliseconds.
"""

import json
import os
import shutil
import sys

from conformance.bench import machine, measure, report

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DEFAULTS = (("pyrunc", os.path.join(ROOT, ".venv/bin/pyrunc")), ("runc", "runc"), ("crun", "crun"))
PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"


def options(argv):
    found = {"runtimes": [], "bundles": [], "rounds": 30, "json": None, "html": None, "pin": True}
    while argv:
        word, _, value = argv.pop(0).partition("=")
        if word == "--no-pin":
            found["pin"] = False
            continue
        if word == "--list":
            print("\n".join("%-10s %s" % row for row in measure.STEPS))
            raise SystemExit(0)
        if word not in ("--runtime", "--bundle", "--rounds", "--json", "--html") or not (value or argv):
            raise SystemExit("bench: %s\n\n%s" % (word, __doc__))
        value = value or argv.pop(0)
        if word == "--runtime":
            label, sign, path = value.rpartition("=")
            found["runtimes"].append((label if sign else os.path.basename(path), path))
        elif word == "--bundle":
            found["bundles"].append(value)
        elif word == "--rounds":
            found["rounds"] = max(1, int(value))
        else:
            found[word[2:]] = value
    return found


def runtimes(asked):
    """[(label, absolute path)]; a default one that is not here is left out with a word, an asked one is an error."""
    chosen = []
    for label, path in asked or DEFAULTS:
        real = shutil.which(path, path=PATH) if "/" not in path else (path if os.path.exists(path) else None)
        if real:
            chosen.append((label, os.path.abspath(real)))
        elif asked:
            raise SystemExit("bench: no runtime at %s" % path)
        else:
            print("%s is not on this machine, left out" % label, file=sys.stderr)
    return chosen


def main(argv):
    opts = options(argv)
    if os.geteuid():
        raise SystemExit("bench: needs root")
    chosen = runtimes(opts["runtimes"])
    if not chosen:
        raise SystemExit("bench: no runtime to measure")
    with machine.hugetlb(), machine.pinned(opts["pin"]) as core:
        figures = {"machine": machine.about(core), "rounds": opts["rounds"], "runtimes": {}, "bundles": {}}
        for label, path in chosen:
            figures["runtimes"][label] = {"path": path, "version": machine.version(path)}
        figures["floor"] = measure.floor(opts["rounds"])
        for name in opts["bundles"] or ["hello", "seccomp-docker"]:
            figures["bundles"][name] = measure.bundle(name, chosen, opts["rounds"], say)
    if opts["json"] == "-":
        print(json.dumps(figures, indent=1))
        return 0
    print(report.text(figures))
    for key, make in (("json", lambda f: json.dumps(f, indent=1) + "\n"), ("html", report.html)):
        if opts[key]:
            with open(opts[key], "w") as file:
                file.write(make(figures))
    return 0


def say(line):
    """Progress, on a terminal only."""
    if sys.stderr.isatty():
        sys.stderr.write("\r\033[K" + line)
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
