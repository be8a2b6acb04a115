#!/usr/bin/python3
"""Writes runtime/csrc/hot.txt: the functions that commands execute, in groups of those that run in the same processes.

    tools/hot_code.py                as root: runs the life of a few containers, some ten seconds

Python 3.13 writes to its code while it executes it: each branch leaves its history there. So each page of code that a command touches is
copied, on both sides of the clone of init. The compiled launcher therefore lays the functions of this list side by side (csrc/freeze.py). The
list decides about speed alone: a function that is missing works, and when many are gone a test fails (tests/unit/test_frozen.py).

Rule: the plain package is executed, each command in a process of its own, and the interpreter itself says what was called.
"""

from __future__ import annotations

import json
import os
import pathlib
import posix
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType

    Replaced = Any  # a module of the runtime: its functions are replaced by some that take any arguments, which their types forbid

ROOT = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "runtime/pyrunc"
LIST = ROOT / "runtime/csrc/hot.txt"
BUNDLES = ("hello", "podman-like", "seccomp-docker", "kubernetes-like")
# Where a function runs. Its group is the set of those, and groups that have most in common follow each other.
PLACES = ("before the clone", "host", "init", "exec", "others")
MONITORING: Any = getattr(sys, "monitoring", None)  # Python 3.12; mypy checks for 3.11, which has none
SECONDS = 60  # of a command
ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
HEAD = """\
# Written by tools/hot_code.py: functions that commands execute, side by side in the compiled launcher (freeze.py). Before the clone of init,
# on the host side after it, in init, in exec, in other commands.
"""


class Recorder:
    """Which functions of the package are called, and where."""

    def __init__(self, out: str, place: str) -> None:
        self.fd = posix.open(out, posix.O_WRONLY | posix.O_APPEND | posix.O_CLOEXEC)  # init cannot open it any more
        self.place = place
        self.seen: set[tuple[str, CodeType]] = set()

    def start(self) -> None:
        MONITORING.use_tool_id(0, "hot_code")
        MONITORING.register_callback(0, MONITORING.events.PY_START, self.called)
        MONITORING.set_events(0, MONITORING.events.PY_START)

    def called(self, code: CodeType, _offset: int) -> object:
        self.seen.add((self.place, code))
        return None

    def write(self) -> None:
        """Adds to the file of this command what was seen in this process."""
        MONITORING.set_events(0, 0)
        lines = [json.dumps([place, *where]) for place, code in self.seen if (where := module_of(code)) is not None]
        posix.write(self.fd, "".join(line + "\n" for line in lines).encode())


def module_of(code: CodeType) -> tuple[str, str] | None:
    path = pathlib.Path(code.co_filename)
    if not path.is_relative_to(PACKAGE):
        return None
    name = ".".join(("pyrunc", *path.relative_to(PACKAGE).with_suffix("").parts))
    return name.removesuffix(".__init__"), code.co_qualname


def command(out: str, words: list[str]) -> None:
    """One command in this process, recorded. Never returns."""
    sys.path.insert(0, str(PACKAGE.parent))
    sys.argv[0] = str(ROOT / ".venv/bin/pyrunc")  # the helper process runs beside it
    from pyrunc import cli, seal
    from pyrunc.engine import host, init  # noqa: F401  # what they import is not what they execute
    from pyrunc.linux import _syscalls
    from pyrunc.parts import namespaces

    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if not name.startswith(("api", "helper.")) and not name.endswith("__init__"):
            try:
                __import__("pyrunc." + name)
            except ImportError:
                continue
    is_create = words[2] in ("create", "run")
    recorder = Recorder(out, PLACES[0] if is_create else "exec" if words[2] == "exec" else "others")
    clones: Replaced = namespaces
    extension: Replaced = _syscalls
    sealing: Replaced = seal
    real_clone, real_finish = clones.clone, extension.finish

    def clone(*args: object) -> tuple[int, int]:
        pid, fd = real_clone(*args)
        recorder.place = "init" if pid == 0 else "host"
        return pid, fd

    def finish(*args: object) -> None:
        recorder.write()
        real_finish(*args)

    clones.clone = clone
    extension.finish = finish
    sealing.ensure = lambda *_args, **_words: None
    recorder.start()
    code = cli.main(words)
    recorder.write()
    posix._exit(code)


def life(name: str, folder: str) -> list[list[str]]:
    """What was seen in the life of a container of one bundle: [[place, module, function]]."""
    sys.path.insert(0, str(ROOT / "bundles"))
    import make_rootfs

    bundle = os.path.join(folder, name)
    make_rootfs.make_bundle(name, bundle)
    path = pathlib.Path(bundle, "config.json")
    config = json.loads(path.read_text())
    config["process"]["terminal"] = False
    found: list[list[str]] = []
    id = "hot-%d" % os.getpid()
    root = os.path.join(folder, "state")
    lives = (
        (
            ["sleep", "1000"],
            (
                ["create", "-b", bundle, id],
                ["start", id],
                ["state", id],
                ["exec", id, "true"],
                ["kill", id, "KILL"],
                ["delete", "--force", id],
            ),
        ),
        (["true"], (["run", "-b", bundle, id],)),
    )
    for args, commands in lives:
        config["process"]["args"] = args
        path.write_text(json.dumps(config))
        for words in commands:
            out = os.path.join(folder, "seen")
            pathlib.Path(out).write_text("")
            argv = ["/usr/bin/python3", "-I", "-S", str(ROOT / "tools/hot_code.py"), "--command", out, "--root", root, *words]
            with open(os.path.join(folder, "errors"), "w") as errors:  # no pipe: the container keeps its end
                done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, env=ENV, timeout=SECONDS)
            if done.returncode:
                text = pathlib.Path(folder, "errors").read_text().strip()
                print("%s: %s: %s" % (name, words[0], text[-300:]), file=sys.stderr)
            found += [json.loads(line) for line in pathlib.Path(out).read_text().splitlines()]
    return found


def groups(found: Iterable[list[str]]) -> dict[tuple[str, ...], list[str]]:
    """{places: ["module function"]}, sorted: what every command executes comes first."""
    places: dict[str, set[str]] = {}
    for place, module, function in found:
        places.setdefault("%s %s" % (module, function), set()).add(place)
    grouped: dict[tuple[str, ...], list[str]] = {}
    for function in sorted(places):
        grouped.setdefault(tuple(place for place in PLACES if place in places[function]), []).append(function)
    # as binary numbers, the places in the order of PLACES
    order = sorted(grouped, key=lambda group: [place not in group for place in PLACES])
    return {group: grouped[group] for group in order}


def main() -> None:
    if sys.argv[1:2] == ["--command"]:
        command(sys.argv[2], sys.argv[3:])
    with tempfile.TemporaryDirectory(prefix="hot-") as folder:
        found = [seen for name in BUNDLES for seen in life(name, folder)]
    grouped = groups(found)
    parts = ["\n[%s]\n%s\n" % (", ".join(group), "\n".join(functions)) for group, functions in grouped.items()]
    LIST.write_text(HEAD + "".join(parts))
    print("%s: %d functions in %d groups" % (LIST.relative_to(ROOT), sum(map(len, grouped.values())), len(grouped)))


if __name__ == "__main__":
    main()
