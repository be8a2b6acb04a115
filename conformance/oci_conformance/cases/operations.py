"""runtime.md#runtimeCreate, #runtimeStart, #runtimeKill: the operations, and what they refuse."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oci_conformance import system
from oci_conformance.bundle import ABSENT
from oci_conformance.case import case
from oci_conformance.cases.deletion import cgroup_directories

if TYPE_CHECKING:
    from collections.abc import Iterator

    from oci_conformance.container import Container
    from oci_conformance.runtime import Call
    from oci_conformance.shapes import Changes, Json
    from oci_conformance.trial import Trial


def same_as_before(t: Trial, made: Container, before: dict[str, Json], what: str, *requirements: str) -> None:
    """Checks that status and pid of the container are unchanged."""
    state = made.try_state()
    seen = {key: state.get(key) for key in ("status", "pid")}
    t.equal(seen, {key: before.get(key) for key in ("status", "pid")}, what + " changes nothing", *requirements)


@case("op.create.no-arguments", level="core")
def create_without_arguments(t: Trial) -> None:
    """create without an id, and without anything, gives an error."""
    done = t.call("create")
    t.check(done.refused, "create gives an error", (), "an error", done)
    done = t.call("create", "--bundle", t.bundle().path)
    t.check(done.refused, "create with a bundle alone gives an error", (), "an error", done)


@case("bundle.config", level="core")
def create_without_config(t: Trial) -> None:
    """create of a bundle without config.json gives an error."""
    made = t.container()
    os.remove(os.path.join(made.bundle.path, "config.json"))
    t.refuses(made, (), "create", "create gives an error")


@case("op.create.id-taken", "errors.no-effect", level="core")
def create_with_taken_id(t: Trial) -> None:
    """A second container with the same id gives an error; the first one is not affected."""
    first = t.created()
    before = first.state()
    second = t.container()
    second.id = first.id
    t.check(second.try_create().refused, "create gives an error", "op.create.id-taken", "an error", second.last)
    second.deleted = True
    t.equal(first.try_state(), before, "the first container is untouched")
    first.start()
    t.check(first.ended(), "the first container can still be started")


def invalid_ids(t: Trial) -> Iterator[tuple[str, Call, str]]:
    above = os.path.join(t.directory, "deep/er/state")
    os.makedirs(above)
    for id in ("", "a/b", "../x", ".", ".."):
        made = t.container()
        made.id = id
        done = t.call("create", "--bundle", made.bundle.path, id, root=above)
        made.deleted = True
        yield id, done, above


@case("op.create.id-invalid", level="core")
def create_with_invalid_id(t: Trial) -> None:
    """Invalid ids give an error, and no container is created."""
    for id, done, above in invalid_ids(t):
        t.check(done.refused, "create with the id %r gives an error" % id, (), "an error", done)
        outside = sorted(set(os.listdir(os.path.join(t.directory, "deep"))) - {"er"})
        t.equal(outside, [], "create with the id %r makes nothing outside of the state directory" % id)
        left = [name for name in os.listdir(above) if not name.startswith((".", "@"))]
        t.equal(left, [], "create with the id %r leaves nothing" % id)


@case("op.create.makes", "op.create.args-later", "lifecycle.not-run", "op.start.runs", "lifecycle.program", level="core")
def program_waits_for_start(t: Trial) -> None:
    """start runs the program, create does not."""
    made = t.created(None, ["write", "/ran", "yes"])
    t.equal(made.bundle.text("/ran"), None, "nothing has run after create", "op.create.args-later", "lifecycle.not-run")
    t.equal(made.status, "created", "there is a container", "op.create.makes")
    made.start()
    made.finish()
    t.equal(made.bundle.text("/ran"), "yes", "the program has run after start", "op.start.runs", "lifecycle.program")


@case("op.create.applies", "lifecycle.environment", level="core")
def applied_by_create(t: Trial) -> None:
    """Mounts, host name and devices exist before start."""
    made = t.created({"/hostname": "made-by-create", "/mounts/-": {"destination": "/mnt/new", "type": "tmpfs", "source": "tmpfs"}})
    t.need(made.pidfd is not None, "state has the pid of a living process", None, made.reported_pid)
    with open("/proc/%d/mountinfo" % made.pid) as file:
        points = [line.split()[4] for line in file]
    t.has("/mnt/new", points, "the mount is there")
    t.has("/proc", points, "/proc is there")
    root = "/proc/%d/root" % made.pid
    t.check(os.path.exists(root + "/dev/null"), "/dev/null is there")


@case("op.create.cannot-apply", "lifecycle.environment-error", "mounts.cannot", level="core")
def create_that_cannot(t: Trial) -> None:
    """A configuration that cannot be applied gives an error, and no container is created."""
    wrong: dict[str, Json] = {"destination": "/mnt/x", "type": "no-such-filesystem", "source": "x"}
    t.refused({"/mounts/-": wrong}, "op.create.cannot-apply", "lifecycle.environment-error", "mounts.cannot")
    wrong = {"destination": "/mnt/x", "type": "none", "source": "/no/such/source", "options": ["bind"]}
    t.refused({"/mounts/-": wrong}, "op.create.cannot-apply", "lifecycle.environment-error", "mounts.cannot")


def leaves_nothing(t: Trial, changes: Changes) -> Container:
    before = system.read("/proc/self/mountinfo")
    made = t.container({"/linux/resources/pids/limit": 100, **changes})
    done = made.try_create()
    words = "after a failing create (%s) " % ", ".join(changes)
    t.need(done.refused, "create gives an error", "an error", done)
    t.equal(cgroup_directories(t, made), [], words + "no cgroup is left")
    t.equal(system.read("/proc/self/mountinfo"), before, words + "no mount is left")
    t.equal(os.path.exists(os.path.join(t.root, made.id)), False, words + "no state is left")
    t.check(not made.exists(), words + "state gives an error", (), "an error", made.last)
    return made


@case("errors.no-effect", level="core")
def failed_create_leaves_nothing(t: Trial) -> None:
    """A create that fails late leaves no cgroup, no process, no mount, and the id free."""
    made = leaves_nothing(t, {"/linux/sysctl": {"kernel.no_such_parameter_here": "1"}})
    again = t.container(None, "say again")
    again.id = made.id
    again.create()
    again.start()
    again.finish()


@case("errors.no-effect", level="core")
def failed_mount_leaves_nothing(t: Trial) -> None:
    """The same for a mount that cannot be made."""
    leaves_nothing(t, {"/mounts/-": {"destination": "/mnt", "type": "none", "source": "/no/such/source", "options": ["bind"]}})


@case("errors.no-effect", level="core")
def failed_limit_leaves_nothing(t: Trial) -> None:
    """The same for a limit that the kernel refuses."""
    leaves_nothing(t, {"/linux/resources/cpu": {"quota": 10, "period": 80000}})


@case("errors.no-effect", level="core")
def failed_hook_leaves_nothing(t: Trial) -> None:
    """The same for a hook that fails."""
    leaves_nothing(t, {"/hooks": {"createRuntime": [t.hook("x", status=3)]}})


@case("op.start.no-id", level="core")
def start_without_id(t: Trial) -> None:
    """start without an id gives an error."""
    done = t.call("start")
    t.check(done.refused, "start gives an error", (), "an error", done)


@case("op.start.not-created", level="core")
def start_of_others(t: Trial) -> None:
    """start of an unknown, a running and a stopped container gives an error and changes nothing."""
    done = t.call("start", t.new_id())
    t.check(done.refused, "start of an unknown container gives an error", (), "an error", done)
    made = t.running()
    before = made.state()
    t.check(made.try_start().refused, "start of a running container gives an error", (), "an error", made.last)
    same_as_before(t, made, before, "start of a running container")
    made.kill("TERM")
    t.need(made.ended(), "the container ends")
    before = made.state()
    t.check(made.try_start().refused, "start of a stopped container gives an error", (), "an error", made.last)
    same_as_before(t, made, before, "start of a stopped container")
    t.equal(len([line for line in made.lines() if line["op"] == "wait"]), 1, "the program has run once")


@case("op.start.no-process", level="core")
def start_without_process(t: Trial) -> None:
    """A configuration without a process gives an error, at the latest when it is started."""
    t.refused({"/process": ABSENT}, at="start")


@case("op.kill.no-id", level="core")
def kill_without_id(t: Trial) -> None:
    """kill without an id gives an error."""
    done = t.call("kill")
    t.check(done.refused, "kill gives an error", (), "an error", done)


@case("op.kill.not-running", level="core")
def kill_of_others(t: Trial) -> None:
    """kill of an unknown and of a stopped container gives an error and changes nothing."""
    done = t.call("kill", t.new_id(), "TERM")
    t.check(done.refused, "kill of an unknown container gives an error", (), "an error", done)
    made = t.running()
    made.kill("TERM")
    t.need(made.ended(), "the container ends")
    before = made.state()
    t.check(made.try_kill("KILL").refused, "kill of a stopped container gives an error", (), "an error", made.last)
    same_as_before(t, made, before, "kill of a stopped container")


@case("op.kill.sends", level="core")
def kill_running(t: Trial) -> None:
    """kill sends the given signal, by name or number, and no other."""
    made = t.running()
    for name, number in (("USR1", 10), ("SIGUSR2", 12), ("1", 1), ("WINCH", 28)):
        made.kill(name)
        t.equal(made.line("signal").get("signal"), number, "the signal %s arrives" % name)
        made.text = made.text.replace('"signal"', '"seen"')
    made.kill("TERM")
    t.check(made.ended(), "TERM arrives")
    seen = [line.get("signal") for line in made.lines() if line["op"] == "signal"]
    t.equal(seen, [15], "nothing else arrives")


@case("op.kill.sends", level="core")
def kill_created(t: Trial) -> None:
    """kill reaches a created container: KILL stops it."""
    made = t.created()
    t.check(made.try_kill("KILL").code == 0, "kill succeeds", (), "exit 0", made.last)
    t.check(made.ended(), "the container ends")
    t.equal(made.status, "stopped", "status")


@case("op.kill.sends", level="core")
def kill_unknown_signal(t: Trial) -> None:
    """A signal that does not exist gives an error and kills nothing."""
    made = t.running()
    t.check(made.try_kill("NOSUCH").refused, "kill gives an error", (), "an error", made.last)
    t.equal(made.status, "running", "status")
