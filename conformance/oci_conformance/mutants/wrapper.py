"""A deliberately broken runtime: takes the command line of a runtime, changes one thing, and lets the real runtime do the rest.

Rule: it knows nothing of the suite, and the suite nothing of it: what a mutant breaks must be seen from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from oci_conformance.mutants.table import Change
    from oci_conformance.shapes import Config, Json


VALUED = ("--root", "--log", "--log-format", "--bundle", "-b", "--console-socket", "--pid-file")


class Invocation:
    """One call of the runtime."""

    def __init__(self, real: str, argv: list[str]) -> None:
        self.real = real
        self.argv = argv
        self.root = self.option("--root")
        self.words = self.plain()
        self.command = self.words[0] if self.words else ""
        self.id = self.words[1] if len(self.words) > 1 else None
        self.bundle = os.path.abspath(self.option("--bundle") or ".")

    def option(self, name: str) -> str | None:
        return self.argv[self.argv.index(name) + 1] if name in self.argv[:-1] else None

    def plain(self) -> list[str]:
        """The arguments that are not options."""
        found, skip = [], False
        for word in self.argv:
            if skip:
                skip = False
            elif word in VALUED:
                skip = True
            elif not word.startswith("-"):
                found.append(word)
        return found

    def go_on(self, *more: str, argv: list[str] | None = None, fds: Sequence[int] = ()) -> int:
        """Calls the real runtime with our streams. Returns its exit status."""
        return subprocess.run([self.real, *(self.argv if argv is None else argv), *more], pass_fds=fds).returncode

    def ask(self, *arguments: str | None, stdin: int | None = None) -> tuple[int, bytes]:
        """Calls the real runtime and returns (exit status, output)."""
        done = subprocess.run(
            [self.real, *(["--root", self.root] if self.root else []), *filter(None, arguments)], capture_output=True, stdin=stdin
        )
        return done.returncode, done.stdout

    def state(self) -> dict[str, Json] | None:
        code, out = self.ask("state", self.id)
        return json.loads(out) if code == 0 else None

    # ---- config.json of the bundle, changed during one call

    def config(self) -> Config | None:
        try:
            with open(os.path.join(self.bundle, "config.json"), "rb") as file:
                found: Config = json.load(file)
                return found
        except (OSError, ValueError):
            return None

    def with_config(self, change: Change) -> int:
        """create with a changed config.json. `change` changes it in place, or returns another one."""
        path = os.path.join(self.bundle, "config.json")
        config = self.config()
        if config is None:
            return self.go_on()
        with open(path, "rb") as file:
            before = file.read()
        changed = change(config, self)
        with open(path, "w") as file:
            json.dump(config if changed is None else changed, file)
        try:
            return self.go_on()
        finally:
            with open(path, "wb") as file:
                file.write(before)

    def cgroup_directories(self) -> list[str]:
        """The actual or possible directories of the container's cgroups, in every mounted hierarchy."""
        path = ((self.config() or {}).get("linux") or {}).get("cgroupsPath")
        tops = [line.split()[4] for line in open("/proc/self/mountinfo") if " - cgroup" in line]
        return [top + path for top in tops] if path and path.startswith("/") else []


def main(name: str, real: str, argv: list[str]) -> NoReturn:
    """Runs a mutant of the table; never returns. A faulty mutant reports that in a file next to its program."""
    import traceback

    from oci_conformance.mutants import controls, load

    try:
        known = {**load(), **{control.name: control for control in controls().values()}}
        code = known[name].run(Invocation(real, argv))
    except Exception:
        with open(sys.argv[0] + FAULT, "a") as file:
            traceback.print_exc(file=file)
        code = 99
    sys.exit(code)


FAULT = ".fault"
SCRIPT = """#!%s -I
import sys
sys.path.insert(0, %r)
from oci_conformance.mutants.wrapper import main
main(%r, %r, sys.argv[1:])
"""


def script(path: str, name: str, real: str) -> None:
    """Writes a program that is the mutant."""
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    with open(path, "w") as file:
        file.write(SCRIPT % (os.path.realpath(sys.executable), package, name, real))
    os.chmod(path, 0o755)
