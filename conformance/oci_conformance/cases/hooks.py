"""config.md#configHooks and below: when and where hooks are run, and what they get."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from oci_conformance.case import add, case
from oci_conformance.cases.state import conforms
from oci_conformance.probe import parse

if TYPE_CHECKING:
    from oci_conformance.case import CaseFunction
    from oci_conformance.container import Container
    from oci_conformance.shapes import Json, Note, Operation
    from oci_conformance.trial import Trial


CREATE = ("prestart", "createRuntime", "createContainer")
ALL = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def hooks_of_all(t: Trial, *operations: Operation) -> dict[str, Json]:
    return {kind: [t.hook(kind, *operations, inside=kind == "startContainer")] for kind in ALL}


def note_of(t: Trial, kind: str, made: Container) -> Note:
    """What the hook of a kind has recorded; Stop if it has not run."""
    notes = [note for note in t.notes(made if kind == "startContainer" else None) if note["label"] == kind]
    t.need(notes, "the %s hook has run" % kind, "a note", t.labels() + t.labels(made))
    return notes[-1]


@case(
    *("lifecycle." + kind for kind in ALL),
    *("hooks.prestart.when hooks.createRuntime.when hooks.createContainer.when hooks.startContainer.when hooks.poststart.when").split(),
    *("hooks.poststop.when hooks.prestart.before hooks.createContainer.after").split(),
    level="core",
)
def sequence(t: Trial) -> None:
    """Each hook is run by its operation, in the order of the lifecycle."""
    hooks = hooks_of_all(t)
    made = t.container({"/hooks": hooks}, "read /hooks", "wait")
    t.equal(t.labels(), [], "no hook runs before create")
    made.create()
    seen = t.labels()
    for kind in CREATE:
        t.has(kind, seen, "%s has run when create returns" % kind, "lifecycle." + kind, "hooks.%s.when" % kind)
    order = [kind for kind in seen if kind in CREATE]
    t.equal(order[:2], ["prestart", "createRuntime"], "prestart comes before createRuntime", "hooks.prestart.before")
    t.equal(order[-1:], ["createContainer"], "createContainer comes last", "hooks.createContainer.after")
    t.equal(t.labels(made), [], "no startContainer hook before start", "hooks.startContainer.when")
    t.lacks("poststart", seen, "no poststart hook before start", "hooks.poststart.when")
    made.start()
    t.has("poststart", t.labels(), "poststart has run when start returns", "lifecycle.poststart", "hooks.poststart.when")
    program = made.line("read")
    ran = [line.get("label") for line in parse(program.get("text") or "")]
    t.check(
        "startContainer" in ran,
        "startContainer has run before the program",
        ("lifecycle.startContainer", "hooks.startContainer.when"),
        "its note",
        program,
    )
    t.lacks("poststop", t.labels(), "no poststop hook before delete", "hooks.poststop.when")
    made.line("wait")
    made.kill("TERM")
    t.check(made.ended(), "the program ends")
    t.lacks("poststop", t.labels(), "no poststop hook before delete", "hooks.poststop.when")
    made.delete()
    t.has("poststop", t.labels(), "poststop has run when delete returns", "lifecycle.poststop", "hooks.poststop.when")
    seen = t.labels() + t.labels(made)
    t.equal(sorted(seen), sorted(ALL), "each hook has run once", *("lifecycle." + kind for kind in ALL))


@case("hooks.poststart.when", level="core")
def poststart_after_program(t: Trial) -> None:
    """When the poststart hook runs, the program has been executed."""
    made = t.created({"/hooks": {"poststart": [t.hook("poststart", "sleep 300", "peek cmdline")]}}, "say started", "wait")
    made.start()
    t.has("poststart", t.labels(), "the hook has run when start returns")
    seen = t.notes()[-1]["seen"]
    command = next((line.get("text", "") for line in seen if line["op"] == "peek"), "")
    t.check("started" in command.split("\0"), "the container process has executed the program", (), "the program's command line", command)


@case("hooks.poststop.when", level="core")
def poststop_after_deletion(t: Trial) -> None:
    """When the poststop hook runs, the container's cgroups and process no longer exist."""
    made = t.container(None, "say x")
    operations = [["stat", top + "/" + made.id] for top in t.machine.cgroups()]
    made.bundle.config["hooks"] = {"poststop": [t.hook("poststop", "peek stat", *operations)]}
    made.bundle.write()
    made.create()
    there = [line[1] for line in operations if os.path.isdir(line[1])]
    made.start()
    made.finish()
    note = note_of(t, "poststop", made)
    left = [line["path"] for line in note["seen"] if line["op"] == "stat" and line["path"] in there and line["errno"] == 0]
    t.equal(left, [], "no cgroup is left when the hook runs")


@case("hooks.order", level="core")
def order(t: Trial) -> None:
    """The hooks of each list are run in order."""
    lists = {kind: [t.hook(kind + str(n), inside=kind == "startContainer") for n in (1, 2, 3)] for kind in ALL}
    made = t.created({"/hooks": lists}, "say x")
    made.start()
    made.finish()
    seen = t.labels() + t.labels(made)
    for kind in ALL:
        t.equal([label for label in seen if label.startswith(kind)], [kind + "1", kind + "2", kind + "3"], "order of %s" % kind)


@case("hooks.state", "state.pid.runtime-hook", "state.pid.container-hook", "state.schema", level="core")
def state_on_input(t: Trial) -> None:
    """Every hook gets the state on its standard input: valid, of this container, with the pid in its pid namespace."""
    made = t.created({"/hooks": hooks_of_all(t), "/annotations": {"com.example.hook": "yes"}}, "say x")
    pid = made.pid
    made.start()
    made.finish()
    for kind in ALL:
        note = note_of(t, kind, made)
        try:
            state = json.loads(note["stdin"])
        except ValueError:
            t.check(False, "%s: the input is JSON" % kind, "hooks.state", "a state", note["stdin"])
            continue
        t.equal(conforms(state), [], "%s: the state is valid" % kind, "hooks.state", "state.schema")
        for key, value in (("id", made.id), ("bundle", made.bundle.path)):
            t.equal(state.get(key), value, "%s: %s" % (kind, key), "hooks.state")
        t.equal(state.get("annotations"), {"com.example.hook": "yes"}, "%s: annotations" % kind, "hooks.state")
        if kind in ("createContainer", "startContainer"):
            t.equal(state.get("pid"), 1, "%s: pid" % kind, "state.pid.container-hook")
        elif kind != "poststop":
            t.equal(state.get("pid"), pid, "%s: pid" % kind, "state.pid.runtime-hook")


def where(kind: str) -> CaseFunction:
    inside = kind in ("createContainer", "startContainer")

    def run(t: Trial) -> None:
        operations = ("self",) if kind != "poststart" else ("self", "sleep 100")
        made = t.created({"/hooks": {kind: [t.hook(kind, *operations, inside=kind == "startContainer")]}}, "wait")
        t.need(made.pidfd is not None, "state has the pid of a living process", None, made.reported_pid)
        wanted = {name: os.readlink("/proc/%s/ns/%s" % (made.pid if inside else "self", name)) for name in ("mnt", "uts", "ipc", "pid")}
        made.start()
        made.line("wait")
        made.kill("TERM")
        made.finish()
        note = note_of(t, kind, made)
        spaces: Json = next((line.get("ns", {}) for line in note["seen"] if line["op"] == "self"), {})
        seen = {name: spaces.get(name) for name in wanted}
        t.equal(seen, wanted, "namespaces of the %s hook" % kind, "hooks.%s.where" % kind)
        t.check(True, "its path was found", "hooks.%s.path" % kind)

    run.__doc__ = "%s hooks run in the namespaces of the %s, and their path is one of %s." % (
        kind,
        "container" if inside else "runtime",
        "the container" if kind == "startContainer" else "the host",
    )
    return run


for kind in ALL:
    add("hooks.where_" + kind, where(kind), ("hooks.%s.where" % kind, "hooks.%s.path" % kind), "core")


@case("hooks.createRuntime.when", "hooks.prestart.when", level="core")
def before_pivot(t: Trial) -> None:
    """When prestart and createRuntime hooks run, the mounts exist below the bundle: the root has not been changed yet."""
    lists = {kind: [t.hook(kind, "peek mountinfo")] for kind in ("prestart", "createRuntime")}
    made = t.created({"/hooks": lists, "/mounts/-": {"destination": "/mnt/x", "type": "tmpfs", "source": "tmpfs"}}, "say x")
    for kind in lists:
        note = note_of(t, kind, made)
        text = next((line.get("text", "") for line in note["seen"] if line["op"] == "peek"), "")
        points = [line.split()[4] for line in text.splitlines()]
        t.has(made.bundle.rootfs + "/mnt/x", points, "%s: mounts below the bundle" % kind, "hooks.%s.when" % kind)


@case("hooks.createContainer.when", level="core")
def container_before_pivot(t: Trial) -> None:
    """When createContainer hooks run, the mounts exist, and what hooks mount below the root is visible to the program."""
    made = t.container(None, "stat /mnt/hook")
    target = made.bundle.inside("/mnt")
    hook = t.hook("createContainer", ["stat", made.bundle.inside("/dev/null")], ["mount", "tmpfs", target, "tmpfs", "0", "mode=700"])
    hook["args"][-3:-2] = ["+", "mkdir", target + "/hook", "+"]
    made.bundle.config["hooks"] = {"createContainer": [hook]}
    made.bundle.write()
    made.create()
    made.start()
    seen = made.finish()
    note = note_of(t, "createContainer", made)
    t.equal([line.get("errno") for line in note["seen"] if line["op"] in ("stat", "mount", "mkdir")], [0, 0, 0], "what the hook did")
    t.equal(seen[-1].get("type"), "dir", "the program sees the hook's mount")


@case("hooks.args", "hooks.env", needs="probe", level="core")
def args_and_env(t: Trial) -> None:
    """A hook gets its args and its env."""
    made = t.container(None, "say x")
    hooks = {}
    for kind in ALL:
        hook = t.hook(kind, "self", inside=kind == "startContainer", env=["ONE=1", "TWO=a b"])
        hook["args"][0] = "name-of-" + kind
        hooks[kind] = [hook]
    made.bundle.config["hooks"] = hooks
    made.bundle.write()
    made.create()
    made.start()
    made.finish()
    for kind in ALL:
        note = note_of(t, kind, made)
        seen = next((line for line in note["seen"] if line["op"] == "self"), {})
        t.equal(seen.get("args"), hooks[kind][0]["args"], "%s: args" % kind, "hooks.args")
        env = [entry for entry in seen.get("env", []) if not entry.startswith(("HOME=",))]
        t.equal(sorted(env), ["ONE=1", "TWO=a b"], "%s: env" % kind, "hooks.env")


@case("hooks.timeout", "lifecycle.createRuntime.fails", needs="probe", level="core")
def timeout(t: Trial) -> None:
    """A hook that exceeds its timeout is killed, and create gives an error long before the hook would have finished."""
    from oci_conformance.system import Clock

    made = t.container({"/hooks": {"createRuntime": [t.hook("slow", sleep=15000, timeout=1)]}})
    clock = Clock(60)
    t.check(made.try_create().refused, "create gives an error", (), "an error", made.last)
    t.check(60 - clock.left < 10, "create returns soon after the timeout", "hooks.timeout", "about 1 s", round(60 - clock.left, 1))


@case("hooks.timeout", level="core")
def timeout_kept(t: Trial) -> None:
    """A hook that is faster than its timeout succeeds."""
    made = t.created({"/hooks": {"createRuntime": [t.hook("quick", sleep=100, timeout=20)]}})
    t.equal(t.labels(), ["quick"], "the hook has run")
    t.equal(made.status, "created", "status")


@case("hooks.timeout.positive", level="core")
def timeout_not_positive(t: Trial) -> None:
    """A timeout of zero or less gives an error."""
    for seconds in (0, -1):
        t.refused({"/hooks": {"poststop": [t.hook("x", timeout=seconds)]}}, what="a timeout of %d gives an error" % seconds)


@case("hooks.path.absolute", "hooks.path.required", level="core")
def invalid_path(t: Trial) -> None:
    """A hook whose path is missing or not absolute gives an error."""
    hook = t.hook("x")
    hook["path"] = "probe"
    t.refused({"/hooks": {"createRuntime": [hook]}}, "hooks.path.absolute")
    hook = t.hook("x")
    del hook["path"]
    t.refused({"/hooks": {"createRuntime": [hook]}}, "hooks.path.required")
