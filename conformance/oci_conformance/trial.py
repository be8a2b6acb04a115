"""The argument of a case: bundles, containers, and checks whose outcome is recorded together with what was expected and seen.

Rule: a failed check does not end a case, so that one container can answer several questions; Stop is raised if further checks
make no sense.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from oci_conformance import bundle as bundles
from oci_conformance import probe
from oci_conformance.bundle import ABSENT
from oci_conformance.case import Skip, Stop
from oci_conformance.container import Container

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn, Unpack

    from oci_conformance.bundle import Bundle
    from oci_conformance.case import Case
    from oci_conformance.machine import Machine
    from oci_conformance.probe import Tools
    from oci_conformance.runtime import Call, Runtime
    from oci_conformance.shapes import BundleOptions, CallOptions, Changes, Check, Config, Json, Note, Operation


class Trial:
    def __init__(self, case: Case, runtime: Runtime, machine: Machine, tools: Tools, directory: str, token: str) -> None:
        self.case = case
        self.runtime = runtime
        self.machine = machine
        self.tools = tools
        self.directory = directory
        self.root = os.path.join(directory, "state")
        self.token = token
        self.calls: list[Call] = []
        self.checks: list[Check] = []
        self.containers: list[Container] = []
        self.config: Config | str | None = None  # of the last bundle, as evidence
        self.count = 0

    # ---- the runtime

    def call(self, *arguments: str, **kw: Unpack[CallOptions]) -> Call:
        kw.setdefault("root", self.root)
        kw["mark"] = self.token
        done = self.runtime.call(*arguments, **kw)
        self.calls.append(done)
        return done

    def new_id(self) -> str:
        self.count += 1
        return "%s-%d" % (self.token, self.count)

    def configuration(
        self, changes: Changes | None = None, *operations: Operation, args: Sequence[str] | None = None, config: Config | None = None
    ) -> Config:
        """A configuration whose program is the probe with these operations (or `args`), in a separate cgroup."""
        changes = dict(changes or {})
        if "/linux/cgroupsPath" not in changes and changes.get("/linux") is not ABSENT:
            changes = {"/linux/cgroupsPath": "/%s-%d" % (self.token, self.count + 1), **changes}
        if "/process/args" not in changes and changes.get("/process") is not ABSENT:
            changes = {"/process/args": args or probe.argv(operations), **changes}
        return bundles.patch(config or bundles.base(), changes)

    def bundle(self, changes: Changes | None = None, *operations: Operation, **kw: Unpack[BundleOptions]) -> Bundle:
        """A new bundle."""
        raw = kw.get("raw")
        path = os.path.join(self.directory, "b%d" % (self.count + 1))
        made = self.configuration(changes, *operations, args=kw.get("args"), config=kw.get("config"))
        self.config = made if raw is None else raw.decode("utf-8", "replace")
        return bundles.Bundle(path, made, self.tools, raw, kw.get("owner", 0))

    def container(self, changes: Changes | None = None, *operations: Operation, **kw: Unpack[BundleOptions]) -> Container:
        """A container that has not been created yet, with its own bundle."""
        made = Container(self, self.bundle(changes, *operations, **kw), self.new_id())
        self.containers.append(made)
        return made

    def created(self, changes: Changes | None = None, *operations: Operation, **kw: Unpack[BundleOptions]) -> Container:
        made = self.container(changes, *operations, **kw)
        made.create()
        return made

    def running(self, changes: Changes | None = None, *operations: Operation, **kw: Unpack[BundleOptions]) -> Container:
        """A started container; its program waits for signals unless other operations are given."""
        made = self.created(changes, *(operations or ("wait",)), **kw)
        made.start()
        if not operations:
            made.line("wait")
        return made

    def observe(self, changes: Changes | None = None, *operations: Operation, **kw: Unpack[BundleOptions]) -> Json:
        """The whole life of a container. Returns what its operations saw: a dict, or a list if there were several."""
        made = self.created(changes, *(operations or ("self",)), **kw)
        made.start()
        seen = made.finish()
        wanted = len(operations or ("self",))
        if len(seen) < wanted:
            raise Stop("the program printed %d of %d lines" % (len(seen), wanted), None, seen or made.create_call.err[-1000:])
        return seen[0] if wanted == 1 else seen

    def refused(
        self, changes: Changes | None, *requirements: str, at: str = "create", what: str | None = None, **kw: Unpack[BundleOptions]
    ) -> Container:
        """create must exit with an error and leave no container behind. `at="start"`: start must, at the latest. Returns the container."""
        made = self.container(changes, "say ran", **kw)
        return self.refuses(made, requirements, at, what or "create gives an error")

    def refuses(self, made: Container, requirements: Sequence[str], at: str, what: str) -> Container:
        done = made.try_create()
        if at == "start" and done.code == 0:
            self.check(made.try_start().refused, "start gives an error", requirements, "an error", made.last.how)
            return made
        self.check(done.refused, what, requirements, "an error", done.how)
        if done.refused:
            self.check(not made.exists(), "no container is made", requirements, "state gives an error", made.last)
        return made

    # ---- hooks

    def hook(
        self, label: str, *operations: Operation, inside: bool = False, status: int = 0, sleep: int = 0, **more: object
    ) -> dict[str, Json]:
        """A hook that records its input and what it sees. `inside`: its path and its notes are inside the container."""
        notes = "/hooks" if inside else os.path.join(self.directory, "hooks")
        words = [["to", notes, label], *(["sleep %d" % sleep] if sleep else []), *operations, "exit %d" % status]
        path = "/bin/probe" if inside else self.tools.probe
        return {"path": path, "args": probe.argv(words, "probe"), "env": [], **more}

    def notes(self, container: Container | None = None) -> list[Note]:
        """What hooks have recorded so far: [{"label", "stdin", "seen": [...]}]. With a container: the hooks inside."""
        path = container.bundle.inside("/hooks") if container else os.path.join(self.directory, "hooks")
        try:
            with open(path, encoding="utf-8") as file:
                lines = probe.parse(file.read())
        except OSError:
            return []
        found: list[Note] = []
        for line in lines:
            if line["op"] == "to":
                found.append({"label": line.get("label", ""), "stdin": line.get("stdin", ""), "seen": []})
            elif found:
                found[-1]["seen"].append(line)
        return found

    def labels(self, container: Container | None = None) -> list[str]:
        return [note["label"] for note in self.notes(container)]

    # ---- checks

    def check(self, ok: object, what: str, requirements: str | Sequence[str] = (), expected: object = None, seen: object = None) -> bool:
        """Records an outcome. `requirements`: those of the case's requirements that it refers to; all if empty. Returns whether it
        passed."""
        names = (requirements,) if isinstance(requirements, str) else tuple(requirements)
        self.checks.append(
            {"ok": bool(ok), "what": what, "requirements": names, "expected": shown(expected), "seen": None if ok else shown(seen)}
        )
        return bool(ok)

    def equal(self, seen: object, expected: object, what: str, *requirements: str) -> bool:
        return self.check(seen == expected, what, requirements, expected, seen)

    def has(self, part: object, whole: Json, what: str, *requirements: str) -> bool:
        return self.check(part in (whole or ()), what, requirements, "has %r" % (part,), whole)

    def lacks(self, part: object, whole: Json, what: str, *requirements: str) -> bool:
        return self.check(part not in (whole or ()), what, requirements, "has no %r" % (part,), whole)

    def need(self, ok: object, what: str, expected: object = None, seen: object = None) -> None:
        if not ok:
            raise Stop(what, expected, seen)

    def skip(self, why: str) -> NoReturn:
        raise Skip(why)

    def clean(self) -> None:
        """Deletes what the case has left behind; the final sweep handles failures."""
        for container in self.containers:
            container.discard()


def shown(value: object) -> Json:
    """A value as evidence: plain data, of bounded size."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if hasattr(value, "as_dict"):
        value = value.as_dict()
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    if len(text) > 3000:
        return text[:3000] + "…"
    return value if not isinstance(value, (set, tuple, bytes)) else json.loads(json.dumps(value, default=sorted))
