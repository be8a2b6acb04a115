"""runtime.md#runtimeLifecycle, steps 3 to 13: the consequences of a failing hook."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from oci_conformance.case import add, case
from oci_conformance.cases.deletion import cgroup_directories

if TYPE_CHECKING:
    from oci_conformance.case import CaseFunction
    from oci_conformance.container import Container
    from oci_conformance.trial import Trial


CREATE = ("prestart", "createRuntime", "createContainer")


def destroyed(t: Trial, made: Container, requirement: str) -> None:
    """Step 12 and 13: nothing of the container is left, and poststop hooks have run."""
    t.check(not made.exists(), "the container is destroyed: state gives an error", requirement, "an error", made.last)
    t.equal(cgroup_directories(t, made), [], "no cgroup is left", requirement)
    t.has("poststop", t.labels(), "the poststop hooks have run", requirement)


def in_create(kind: str) -> CaseFunction:
    def run(t: Trial) -> None:
        hooks = {kind: [t.hook("first", status=1), t.hook("second")], "poststop": [t.hook("poststop")]}
        made = t.container({"/hooks": hooks}, "say ran")
        fails, continues = "lifecycle.%s.fails" % kind, "lifecycle.%s.continues" % kind
        t.check(made.try_create().refused, "create gives an error", fails, "an error", made.last)
        t.has("first", t.labels(), "the failing hook has run", fails)
        t.lacks("second", t.labels(), "no further %s hook is run" % kind, fails)
        t.equal(made.lines(), [], "the program has not run", fails)
        left = [top for top in cgroup_directories(t, made) if open(os.path.join(top, "cgroup.procs")).read()]
        t.equal(left, [], "no process is left", fails)
        destroyed(t, made, continues)

    run.__doc__ = "A failing %s hook: create gives an error, the container is destroyed, poststop hooks are run." % kind
    return run


for kind in CREATE:
    add("hooks_failing." + kind, in_create(kind), ("lifecycle.%s.fails" % kind, "lifecycle.%s.continues" % kind), "core")


@case("lifecycle.createRuntime.fails", level="core")
def missing_program(t: Trial) -> None:
    """A hook whose program does not exist counts as failed."""
    hook = t.hook("x")
    hook["path"] = "/no/such/hook"
    t.refused({"/hooks": {"createRuntime": [hook]}})


@case("lifecycle.createRuntime.fails", level="core")
def killed(t: Trial) -> None:
    """A hook that is killed by a signal counts as failed."""
    t.refused({"/hooks": {"createRuntime": [t.hook("x", "die 9")]}})


@case("lifecycle.startContainer.fails", "lifecycle.startContainer.continues", level="core")
def startContainer(t: Trial) -> None:
    """A failing startContainer hook: start gives an error, the program is not run, the container is destroyed, poststop hooks are
    run."""
    hooks = {"startContainer": [t.hook("startContainer", inside=True, status=1)], "poststop": [t.hook("poststop")]}
    made = t.created({"/hooks": hooks}, ["write", "/ran", "yes"])
    fails = "lifecycle.startContainer.fails"
    t.check(made.try_start().refused, "start gives an error", fails, "an error", made.last)
    t.check(made.ended(), "the container is stopped", fails)
    t.equal(made.bundle.text("/ran"), None, "the program has not run", fails)
    destroyed(t, made, "lifecycle.startContainer.continues")


@case("lifecycle.poststart.fails", "lifecycle.poststart.continues", level="core")
def poststart(t: Trial) -> None:
    """A failing poststart hook: start gives an error, the program is killed, the container is destroyed, poststop hooks are run."""
    hooks = {"poststart": [t.hook("poststart", status=1)], "poststop": [t.hook("poststop")]}
    made = t.created({"/hooks": hooks}, "wait")
    fails = "lifecycle.poststart.fails"
    t.check(made.try_start().refused, "start gives an error", fails, "an error", made.last)
    t.check(made.ended(5), "the container is stopped", fails)
    destroyed(t, made, "lifecycle.poststart.continues")


@case("lifecycle.poststop.continues", level="core")
def poststop(t: Trial) -> None:
    """A failing poststop hook: the others are run, and delete succeeds."""
    made = t.created({"/hooks": {"poststop": [t.hook("first", status=1), t.hook("second")]}}, "say x")
    made.start()
    t.check(made.ended(), "the program ends")
    t.check(made.try_delete().code == 0, "delete succeeds", (), "exit 0", made.last)
    t.equal(t.labels(), ["first", "second"], "both hooks have run")
    t.check(not made.exists(), "the container is gone", (), "an error", made.last)
