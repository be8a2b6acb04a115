#!/usr/bin/python3
"""Determines which calls a runtime needs under the container's seccomp filter, and writes docs/seccomp-sweep.md.

    filter_sweep.py [--out FILE] RUNTIME ...      as root; some minutes

Each call of tests/kernel/seccomp_sweep.py is denied with EPERM, with ENOSYS and with SIGSYS, by a filter that is loaded early
(noNewPrivileges false) or late (true), for `run`, `create` with `start`, and `exec`.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/kernel"))
import seccomp_sweep as sweep  # noqa: E402

HUGETLB = "/sys/fs/cgroup/hugetlb"
INTRO = """# Calls under the container's filter

A runtime loads the seccomp filter of a config before it executes the program. Whatever it still calls afterwards has to be allowed by the
profile, although the program itself may never call it. A profile recorded from the program alone does not allow it.

The table shows which single call, when it is denied, keeps a container from starting. The program makes no call but `exit_group`.
`early` is a filter without `noNewPrivileges`, which is loaded while the process has privileges; `late` is one with it.
A cell has the commands that fail: R for `run`, S for `create` and `start`, X for `exec`. The last row denies everything but execve and
the program's own calls. Rows without a failure are left out. Made by `tools/filter_sweep.py`; pyrunc's column is held by
`tests/kernel/test_seccomp_sweep.py`.

What pyrunc does between the filter and execve, and how, is described in `runtime/csrc/filter.c`. execve(2) itself is forced by the kernel.
With a filter that notifies (`SCMP_ACT_NOTIFY`), write and read are needed too, as the listener is handed over under it. If execve fails
under a profile that denies write, the reason is lost: the container has ended with status 1.
"""
Found = dict[str | None, dict[tuple[str, str], str]]
LETTERS = {"run": "R", "start": "S", "exec": "X"}


def version(runtime: str) -> str:
    """'runc 1.1.15'."""
    words = subprocess.run([runtime, "--version"], capture_output=True, text=True).stdout.split("\n")[0].split()
    name = pathlib.Path(runtime).name
    return name if name == "pyrunc" else "%s %s" % (name, words[-1])


def fails(made: sweep.Sweep, calls: tuple[str, ...] | None) -> dict[tuple[str, str], str]:
    """{(place, action): letters} for what does not start."""
    return {
        (place, action): "".join(LETTERS[how] for how in sweep.HOWS if made.starts(calls, action, place, how))
        for place in sweep.PLACES
        for action in sweep.ACTIONS
    }


def measure(runtime: str, folder: pathlib.Path, program: pathlib.Path) -> Found:
    """{call: {(place, action): letters}}; None stands for a profile of the program's own calls."""
    made = sweep.Sweep(runtime, folder, program)
    for place in sweep.PLACES:
        for how in sweep.HOWS:
            said = made.starts((), "EPERM", place, how)
            if said:
                raise SystemExit("%s starts no container here: %s" % (runtime, said))
    found: Found = {}
    for call in (*sweep.CALLS, None):
        found[call] = fails(made, None if call is None else (call,))
        print("%s: %s" % (pathlib.Path(runtime).name, call or "everything"), {k: v for k, v in found[call].items() if v} or "", flush=True)
    return found


def page(names: list[str], results: list[Found]) -> str:
    head = ["call"] + ["%s, %s" % (name, place) for name in names for place in sweep.PLACES]
    lines = ["| %s |" % " | ".join(head), "|%s" % ("---|" * len(head))]
    for call in (*sweep.CALLS, None):
        cells = []
        for found in results:
            for place in sweep.PLACES:
                texts = ["%s: %s" % (action, found[call][place, action]) for action in sweep.ACTIONS if found[call][place, action]]
                cells.append("<br>".join(texts))
        if any(cells) or call is None:
            lines.append("| %s |" % " | ".join([call or "all but the program's", *[cell or "–" for cell in cells]]))
    return INTRO + "\n" + "\n".join(lines) + "\n"


def main(*args: str) -> None:
    words = list(args)
    out = ROOT / "docs/seccomp-sweep.md"
    if words[:1] == ["--out"]:
        out = pathlib.Path(words[1])
        del words[:2]
    mounted = not os.path.ismount(HUGETLB) and os.path.isdir("/sys/fs/cgroup/memory") and any("crun" in word for word in words)
    if mounted:
        os.makedirs(HUGETLB, exist_ok=True)
        subprocess.run(["mount", "-t", "cgroup", "-o", "hugetlb", "cgroup", HUGETLB], check=True)
    try:
        with tempfile.TemporaryDirectory() as folder:
            program = pathlib.Path(folder) / "quiet"
            sweep.build(program)
            results = []
            for number, runtime in enumerate(words):
                place = pathlib.Path(folder) / str(number)
                place.mkdir()
                results.append(measure(runtime, place, program))
    finally:
        if mounted:
            subprocess.run(["umount", HUGETLB])  # something else may use it by now
    out.write_text(page([version(runtime) for runtime in words], results))


if __name__ == "__main__":
    main(*sys.argv[1:])
