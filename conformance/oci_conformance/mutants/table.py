"""The mutants: what each breaks, and the cases that must notice.

Rule: one mutant breaks one thing, in a way that a careless change could."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from oci_conformance.mutants.wrapper import Invocation
    from oci_conformance.shapes import Config, Json

    Run = Callable[[Invocation], int]  # → exit status
    # Changes a document in place (what it returns then is None), or returns another
    Change = Callable[[dict[str, Json], Invocation], Json]


MUTANTS: dict[str, Mutant] = {}


class Mutant:
    """`way`: the key in CONTROLS of a wrapper of the same kind that changes nothing."""

    def __init__(self, name: str, cases: str, run: Run, way: str = "plain") -> None:
        self.name = name
        self.cases = cases.split()
        self.run = run
        self.way = way


def mutant(name: str, cases: str, way: str = "plain") -> Callable[[Run], Run]:
    """Registers a function(invocation) → exit status as a mutant."""

    def register(function: Run) -> Run:
        if name in MUTANTS:
            raise ValueError("there are two mutants %s" % name)
        MUTANTS[name] = Mutant(name, cases, function, way)
        return function

    return register


def with_config(change: Change) -> Run:
    return lambda call: call.with_config(change) if call.command == "create" else call.go_on()


def with_state(change: Change) -> Run:
    def run(call: Invocation) -> int:
        if call.command != "state" or call.id is None:
            return call.go_on()
        code, out = call.ask("state", call.id)
        if code == 0:
            state: dict[str, Json] = json.loads(out)
            changed = change(state, call)
            print(json.dumps(state if changed is None else changed))
        return code

    return run


def unchanged(document: Json, call: Invocation) -> None:
    return None


CONTROLS = {
    "plain": Mutant("unchanged-plain", "", lambda call: call.go_on()),
    "config": Mutant("unchanged-config", "", with_config(unchanged), "config"),
    "state": Mutant("unchanged-state", "", with_state(unchanged), "state"),
}


def on_config(name: str, cases: str, change: Change) -> None:
    """A mutant that reads the configuration wrongly."""
    mutant(name, cases, "config")(with_config(change))


def on_state(name: str, cases: str, change: Change) -> None:
    """A mutant that reports the state wrongly. `change` changes it in place, or returns another one."""
    mutant(name, cases, "state")(with_state(change))


def node(config: Json, *keys: str) -> Config:
    """The object at a path, or a separate empty one."""
    for key in keys:
        config = config.get(key) if isinstance(config, dict) else None
    return config if isinstance(config, dict) else {}


def drop(*keys: str) -> Change:
    return lambda config, call: node(config, *keys[:-1]).pop(keys[-1], None) and None


def put(value: Json, *keys: str) -> Change:
    def change(config: Config, call: Invocation) -> None:
        node(config, *keys[:-1])[keys[-1]] = value

    return change


def per(items: Callable[[dict[str, Json]], Json], *keys: str) -> Change:
    """A change of each entry of a list."""

    def change(config: Config, call: Invocation) -> None:
        for entry in node(config, *keys[:-1]).get(keys[-1]) or ():
            items(entry)

    return change


# ---------------------------------------------------------------------------------------------------- the state


def without(field: str) -> Change:
    return lambda state, call: state.pop(field) and None


for field in ("ociVersion", "id", "status", "bundle"):
    on_state("state-without-" + field, "state.stages", without(field))
on_state("state-without-pid", "state.stages", lambda state, call: state.pop("pid", None) and None)
on_state("state-of-someone-else", "state.stages", lambda state, call: state.update(pid=os.getppid()))
on_state("state-always-running", "state.stages", lambda state, call: state.update(status="running"))
on_state(
    "state-invented-status",
    "state.stages",
    lambda state, call: state.update(status="ready" if state["status"] == "created" else state["status"]),
)
on_state("state-other-id", "state.stages", lambda state, call: state.update(id="x" + state["id"]))
on_state("state-bundle-by-name", "state.stages", lambda state, call: state.update(bundle=os.path.basename(state["bundle"])))
on_state("state-pid-as-text", "state.stages", lambda state, call: state.update(pid=str(state.get("pid"))))
on_state("state-without-annotations", "state.annotations", lambda state, call: state.pop("annotations", None) and None)
on_state(
    "state-empty-annotations-lost",
    "state.annotations",
    lambda state, call: state.update(annotations={k: v for k, v in (state.get("annotations") or {}).items() if v}),
)
on_state("state-as-list", "state.stages", lambda state, call: [state])


@mutant("state-of-anybody", "state.unknown operations.failed_create_leaves_nothing")
def state_of_anybody(call: Invocation) -> int:
    code = call.go_on()
    return 0 if call.command == "state" and call.id else code


@mutant("state-with-a-greeting", "state.stages")
def state_with_a_greeting(call: Invocation) -> int:
    if call.command == "state":
        print("here you are:", flush=True)
    return call.go_on()


# ---------------------------------------------------------------------------------------------------- the operations


@mutant(
    "no-id-no-error",
    "state.without_id operations.start_without_id operations.kill_without_id deletion.without_id operations.create_without_arguments",
)
def no_id_no_error(call: Invocation) -> int:
    code = call.go_on()
    return 0 if call.command in ("state", "start", "kill", "delete", "create") and call.id is None else code


def never_failing(command: str) -> Run:
    return lambda call: call.go_on() * (call.command != command)


def doing_nothing(command: str) -> Run:
    return lambda call: 0 if call.command == command and call.id else call.go_on()


for command, cases in (
    ("create", "operations.create_that_cannot operations.create_with_taken_id"),
    ("start", "operations.start_of_others"),
    ("kill", "operations.kill_of_others"),
    ("delete", "deletion.unknown"),
):
    mutant(command + "-never-fails", cases)(never_failing(command))
for command, cases in (
    ("start", "operations.program_waits_for_start"),
    ("kill", "operations.kill_running"),
    ("delete", "deletion.removes"),
):
    mutant(command + "-does-nothing", cases)(doing_nothing(command))


@mutant("create-starts", "operations.program_waits_for_start state.stages")
def create_starts(call: Invocation) -> int:
    code = call.go_on()
    if call.command == "create" and code == 0:
        call.ask("start", call.id)
    return code


@mutant("create-crashes-on-errors", "root.missing operations.create_that_cannot")
def create_crashes(call: Invocation) -> int:
    code = call.go_on()
    if call.command == "create" and code:
        os.kill(os.getpid(), signal.SIGSEGV)
    return code


@mutant("create-hangs", "operations.applied_by_create")
def create_hangs(call: Invocation) -> int:
    if call.command == "create":
        time.sleep(1000)
    return call.go_on()


@mutant("kill-hangs", "operations.kill_running")
def kill_hangs(call: Invocation) -> int:
    if call.command == "kill":
        time.sleep(1000)
    return call.go_on()


@mutant("failed-create-leaves-cgroup", "operations.failed_create_leaves_nothing")
def leaves_cgroup(call: Invocation) -> int:
    code = call.go_on()
    if call.command == "create" and code:
        for path in call.cgroup_directories():
            os.makedirs(path, exist_ok=True)
    return code


@mutant("failed-create-leaves-state", "operations.failed_create_leaves_nothing")
def leaves_state(call: Invocation) -> int:
    code = call.go_on()
    if call.command == "create" and code:
        os.makedirs(os.path.join(call.root or "", call.id or ""), exist_ok=True)
    return code


@mutant("failed-create-leaves-mount", "operations.failed_mount_leaves_nothing")
def leaves_mount(call: Invocation) -> int:
    code = call.go_on()
    if call.command == "create" and code:
        subprocess.run(["mount", "-t", "tmpfs", "left", os.path.join(call.bundle, "rootfs/mnt")], check=False)
    return code


@mutant("taken-id-replaces", "operations.create_with_taken_id")
def taken_id_replaces(call: Invocation) -> int:
    if call.command == "create" and call.id:
        call.ask("delete", "--force", call.id)
    return call.go_on()


@mutant("kill-always-terminates", "operations.kill_running")
def kill_terminates(call: Invocation) -> int:
    if call.command == "kill" and len(call.words) > 2:
        return call.go_on(argv=[word if word != call.words[2] else "TERM" for word in call.argv])
    return call.go_on()


@mutant("kill-sends-twice", "operations.kill_running")
def kill_twice(call: Invocation) -> int:
    code = call.go_on()
    if call.command == "kill" and code == 0 and "TERM" not in call.argv and "KILL" not in call.argv:
        call.ask("kill", call.id, "USR2")
    return code


@mutant("delete-forces", "deletion.running")
def delete_forces(call: Invocation) -> int:
    if call.command == "delete" and call.id:
        call.ask("delete", "--force", call.id)
        return 0
    return call.go_on()


@mutant("delete-leaves-cgroup", "deletion.removes")
def delete_leaves_cgroup(call: Invocation) -> int:
    state = call.state() if call.command == "delete" and call.id else None
    code = call.go_on()
    if state:
        call.bundle = state["bundle"]
        for path in call.cgroup_directories():
            os.makedirs(path, exist_ok=True)
    return code


@mutant("delete-removes-root", "deletion.leaves")
def delete_removes_root(call: Invocation) -> int:
    state = call.state() if call.command == "delete" and call.id else None
    code = call.go_on()
    if state:
        shutil.rmtree(os.path.join(state["bundle"], "rootfs", "bin"), ignore_errors=True)
    return code


@mutant("delete-empties-sources", "deletion.leaves")
def delete_empties_sources(call: Invocation) -> int:
    state = call.state() if call.command == "delete" and call.id else None
    code = call.go_on()
    call.bundle = state["bundle"] if state else call.bundle
    for mount in (call.config() or {}).get("mounts") or () if state else ():
        if {"bind", "rbind"} & set(mount.get("options") or ()):
            shutil.rmtree(os.path.join(mount["source"], "below"), ignore_errors=True)
    return code


@mutant("start-reads-config-again", "lifecycle.changed_config")
def reads_again(call: Invocation) -> int:
    if call.command == "start" and call.id:
        bundle = (call.state() or {})["bundle"]
        call.ask("delete", "--force", call.id)
        call.ask("create", "--bundle", bundle, call.id)
    return call.go_on()


@mutant("descriptor-leaks", "process.descriptors")
def descriptor_leaks(call: Invocation) -> int:
    if call.command != "create":
        return call.go_on()
    fd = os.open("/etc/hostname", os.O_RDONLY)
    os.dup2(fd, 3)
    at = call.argv.index("create")
    return call.go_on(argv=[*call.argv[: at + 1], "--preserve-fds", "1", *call.argv[at + 1 :]], fds=(3,))


def after_create(name: str, cases: str, change: Callable[[str], None]) -> None:
    """A mutant that damages the created container: change(path of its root on the host)."""

    def run(call: Invocation) -> int:
        code = call.go_on()
        if call.command == "create" and code == 0:
            change("/proc/%d/root" % (call.state() or {})["pid"])
        return code

    mutant(name, cases)(run)


def unlink(path: str) -> Callable[[str], None]:
    def change(root: str) -> None:
        try:
            os.unlink(root + path)
        except OSError:
            subprocess.run(["umount", "-l", root + path], check=False, stderr=subprocess.DEVNULL)

    return change


for device in ("null", "full", "tty"):
    after_create("no-dev-" + device, "devices.defaults", unlink("/dev/" + device))
after_create("no-dev-ptmx", "devices.defaults", unlink("/dev/ptmx"))
after_create("dev-zero-private", "devices.defaults devices.defaults_work", lambda root: os.chmod(root + "/dev/zero", 0o600))
for link in ("fd", "stdin", "stdout", "stderr"):
    after_create("no-link-" + link, "process.symlinks", unlink("/dev/" + link))
