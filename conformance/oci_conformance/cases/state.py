"""runtime.md#runtimeState, #runtimeQueryState: the output of state in each stage."""

import json

from oci_conformance.case import case
from oci_conformance.container import STATUSES, Container
from oci_conformance.shapes import Json
from oci_conformance.trial import Trial

REQUIRED = {"ociVersion": str, "id": str, "status": str, "bundle": str}


def conforms(state: dict[str, Json]) -> list[str]:
    """The rules of schema/state-schema.json that `state` violates, as sentences."""
    if not isinstance(state, dict):
        return ["the state is not an object"]
    broken = ["%s is missing" % name for name in REQUIRED if name not in state]
    broken += ["%s is not a string" % name for name, kind in REQUIRED.items() if name in state and not isinstance(state[name], kind)]
    pid = state.get("pid", 0)
    if type(pid) is not int or pid < 0:
        broken.append("pid is not a number from 0 on")
    annotations = state.get("annotations", {})
    if not isinstance(annotations, dict):
        broken.append("annotations is not an object")
    elif not all(isinstance(value, str) for value in annotations.values()):
        broken.append("an annotation is not a string")
    return broken


def check_document(t: Trial, made: Container, status: str) -> dict[str, Json]:
    state = made.state()
    t.equal(conforms(state), [], "the state of a %s container is valid" % status, "state.schema")
    t.equal(state.get("id"), made.id, "id", "state.id")
    t.equal(state.get("bundle"), made.bundle.path, "bundle", "state.bundle")
    t.equal(state.get("status"), status, "status", "state.status", "state.status." + status)
    t.check(str(state.get("status")) in STATUSES, "status is one of those defined", "state.status.own", STATUSES, state.get("status"))
    t.check(str(state.get("ociVersion", "")).startswith("1."), "ociVersion", "state.oci-version", "1.x.y", state.get("ociVersion"))
    return state


@case(
    *("state.oci-version state.id state.status state.status.created state.status.running state.status.stopped state.status.own").split(),
    *("state.pid state.bundle state.schema op.state.returns scope.same-caller operations.all").split(),
    level="core",
)
def stages(t: Trial) -> None:
    """The state in each stage: created, running, stopped."""
    made = t.created(None, "wait")
    state = check_document(t, made, "created")
    pid = state.get("pid")
    t.check(made.pidfd is not None, "pid is that of a living process", "state.pid", "a living process", pid)
    made.start()
    seen = made.line("wait")
    state = check_document(t, made, "running")
    t.equal(state.get("pid"), pid, "the pid is the same while running", "state.pid")
    t.equal(seen.get("ready"), 1, "the process of that pid is the container's init", "state.pid")
    made.kill("TERM")
    t.check(made.ended(), "the process of that pid ends when the program ends", "state.pid")
    check_document(t, made, "stopped")
    made.delete()
    t.check(True, "every operation could be used", ("op.state.returns", "scope.same-caller", "operations.all"))


@case("state.annotations", level="core")
def annotations(t: Trial) -> None:
    """The annotations of the configuration are in the state."""
    wanted = {"com.example.one": "1", "com.example.empty": ""}
    made = t.created({"/annotations": wanted})
    t.equal(made.state().get("annotations"), wanted, "annotations")


@case("state.annotations", level="core")
def no_annotations(t: Trial) -> None:
    """Without annotations the property is absent or empty."""
    made = t.created()
    t.check(made.state().get("annotations") in (None, {}), "annotations", (), "absent or {}", made.state().get("annotations"))


@case("op.state.no-id", level="core")
def without_id(t: Trial) -> None:
    """state without an id gives an error."""
    done = t.call("state")
    t.check(done.refused, "state gives an error", (), "an error", done)


@case("op.state.unknown", level="core")
def unknown(t: Trial) -> None:
    """state of a container that does not exist gives an error."""
    done = t.call("state", t.new_id())
    t.check(done.refused, "state gives an error", (), "an error", done)


@case("state.bundle", level="core")
def relative_bundle(t: Trial) -> None:
    """The bundle in the state is absolute, even if the caller gave a relative path."""
    made = t.container()
    path = made.bundle.path
    made.bundle.path = path.rpartition("/")[2]
    made.expect(made.try_create(cwd=t.directory), "create with a relative bundle")
    t.equal(made.state().get("bundle"), path, "bundle")


@case("state.pid", "state.status.stopped", level="core")
def killed_while_created(t: Trial) -> None:
    """A created container whose process is killed from outside is stopped, and its state can still be read."""
    import os
    import signal

    made = t.created()
    t.need(made.pidfd is not None, "state has the pid of a living process", None, made.reported_pid)
    os.kill(made.pid, signal.SIGKILL)
    t.check(made.ended(), "the process of the pid ends", "state.pid")
    t.equal(made.status, "stopped", "status", "state.status.stopped")


@case("op.state.returns", level="core")
def parallel_containers(t: Trial) -> None:
    """Two containers have separate states."""
    first, second = t.created(), t.created()
    states = [first.state(), second.state()]
    t.check(states[0]["pid"] != states[1]["pid"], "the pids differ", (), "two pids", states)
    t.equal([state["id"] for state in states], [first.id, second.id], "ids")
    t.check(json.dumps(states[0]) != json.dumps(states[1]), "the documents differ")
