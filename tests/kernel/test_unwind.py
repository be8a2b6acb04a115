"""A failure or the death of the runtime at any row of the timetable leaves nothing behind, and the id can be used again.

The command runs in a child interpreter in which the call of one verb is replaced with a kernel error or SIGKILL.
"""

import json
import os
import socket
import subprocess
import sys

import pytest

import harness
from pyrunc.engine import order

pytestmark = pytest.mark.kernel

CHILD = """
import os, sys
sys.path[:0] = [sys.argv[1]]
from pyrunc import cli, seal
from pyrunc.errors import CallError
seal.ensure = lambda argv: None
from pyrunc.engine import steps
part, verb, act = sys.argv[2].split(":")
real = steps.call
def call(p, v, side, entry, run, *extra):
    if (p, v) == (part, verb) and act == "before":
        raise steps.StepFailure.from_oserror(fault(), p + "." + v, side, steps.FIRST_KEY.get(p))
    if (p, v) == (part, verb) and act == "kill":
        os.kill(os.getpid(), 9)
    answer = real(p, v, side, entry, run, *extra)
    if (p, v) == (part, verb) and act == "after":
        raise steps.StepFailure.from_oserror(fault(), p + "." + v, side, steps.FIRST_KEY.get(p))
    if (p, v) == (part, verb) and act == "killafter":
        os.kill(os.getpid(), 9)
    return answer
def fault():
    return CallError(5, os.strerror(5), None, "injected")
steps.call = call
os._exit(cli.main(sys.argv[3:]))
"""

EVERYTHING = {
    "/process/oomScoreAdj": 100,
    "/process/rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}],
    "/process/scheduler": {"policy": "SCHED_BATCH"},
    "/process/capabilities": {"bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]},
    "/process/noNewPrivileges": True,
    "/linux/personality": {"domain": "LINUX"},
    "/linux/resources": {"pids": {"limit": 100}},
    "/linux/maskedPaths": ["/proc/kcore"],
    "/linux/readonlyPaths": ["/proc/sys"],
    "/linux/sysctl": {"net.ipv4.ip_forward": "0"},
    "/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]},
    "/hooks": {"createRuntime": [{"path": "/bin/true"}], "createContainer": [{"path": "/bin/true"}]},
}


DEVICE = "w%xa" % os.getpid()  # a name that only this run uses; PEER is the other end
PEER = DEVICE[:-1] + "b"
# Changes to the config that a part needs to have something to do. `terminal`, `notify` and `netdevs` need more, see below.
MORE = {
    "clocks": {"/linux/namespaces/-": {"type": "time"}, "/linux/timeOffsets": {"boottime": {"secs": 100, "nanosecs": 0}}},
    "idmaps": {
        "/linux/namespaces/-": {"type": "user"},
        "/linux/uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
        "/linux/gidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
    },
    "mempolicy": {"/linux/memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0"}},
    "landlock": {
        "/annotations": {
            "org.pyrunc.landlock": '{"ruleset": {"handledAccessFs": 9}, "rules": {"pathBeneath": [{"allowedAccess": 9, "paths": ["/bin"]}]}}'
        }
    },
    "terminal": {"/process/terminal": True},
    "netdevs": {"/linux/netDevices": {DEVICE: {}}},
    "labels": {"/process/apparmorProfile": "unconfined"},
    "rdt": {"/linux/intelRdt": {"closID": DEVICE}},
    "host_mounts": {"/linux/namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}]},
}
# A verb that sends the listener of a filter can only fail if there is one.
NOTIFIES = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_NOTIFY"}]}


# Steps after op_clone only happen in a joined pid namespace.
CLONED = {(part, verb) for phase, part, verb, _ in order.CREATE if phase == "cloned"}


def rows_of(phases=None):
    """(part, verb) of the rows that have a verb."""
    return [(part, verb) for phase, part, verb, _ in order.CREATE if part != "engine" and (phases is None or phase in phases)]


def device():
    """Creates the device; a virtual device disappears with the namespace that it was moved to."""
    if not os.path.exists("/sys/class/net/" + DEVICE):
        # its namespace may still be going away: then the peer still exists, and removing it removes the device
        subprocess.run(["ip", "link", "del", PEER], stderr=subprocess.DEVNULL, check=False)
        subprocess.run(["ip", "link", "add", DEVICE, "type", "veth", "peer", "name", PEER], check=True)


@pytest.fixture
def surroundings(tmp_path, monkeypatch):
    """prepare(part, verb) -> (changes, options); also sets up what the part needs on the host."""
    opened, held = [], []

    def listening(name):
        path = str(tmp_path / name)
        opened.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if name == "notify" else socket.SOCK_STREAM))
        opened[-1].bind(path)
        if name != "notify":
            opened[-1].listen(8)
        return path

    def prepare(part, verb):
        changes, options = dict(MORE.get(part, {})), []  # type: ignore[call-overload]
        if part == "labels" and not os.path.exists("/sys/module/apparmor/parameters/enabled"):
            pytest.skip("this kernel has no AppArmor")
        if part == "rdt" and not os.path.ismount("/sys/fs/resctrl"):
            pytest.skip("this machine has no resctrl")
        if part == "netdevs":
            device()
        if part == "terminal":
            options = ["--console-socket", listening("console")]
        if part == "notify":
            monkeypatch.setenv("NOTIFY_SOCKET", listening("notify"))
        if (part, verb) in (("seccomp", "host_deliver"), ("seccomp", "op_notify")):
            changes["/linux/seccomp"] = {**NOTIFIES, "listenerPath": listening("listener")}
        if (part, verb) in CLONED:
            holder = subprocess.Popen(
                ["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE
            )
            opened.append(holder.stdout)
            held.append(holder)
            assert holder.stdout is not None and holder.stdout.readline()
            changes["/linux/namespaces/0"] = {"type": "pid", "path": "/proc/%d/ns/pid_for_children" % holder.pid}
        return changes, options

    yield prepare
    for holder in held:
        holder.kill()
        holder.wait()
    for one in opened:
        one.close()
    subprocess.run(["ip", "link", "del", DEVICE], stderr=subprocess.DEVNULL, check=False)


def attempt(runtime, bundle, id, fault, *options):
    argv = [
        sys.executable,
        "-I",
        "-c",
        CHILD,
        str(harness.ROOT / "runtime"),
        fault,
        "--root",
        runtime.root,
        "create",
        "--bundle",
        str(bundle),
        *options,
        id,
    ]
    return subprocess.run(argv, capture_output=True, text=True, timeout=harness.WATCHDOG, stdin=subprocess.DEVNULL, check=False)


@pytest.mark.parametrize("act", ["before", "after"])
@pytest.mark.parametrize(("part", "verb"), rows_of(), ids=lambda x: x)
def test_an_error_is_undone_and_named(pyrunc, no_leaks, make_bundle, surroundings, part, verb, act):
    changes, options = surroundings(part, verb)
    bundle = make_bundle({**EVERYTHING, **changes})
    id = pyrunc.new_id()
    seen = attempt(pyrunc, bundle, id, f"{part}:{verb}:{act}", *options)
    assert seen.returncode == 1, seen
    assert seen.stderr.count("\n") == 1 and "Traceback" not in seen.stderr, seen.stderr
    assert f"{part}.{verb}" in seen.stderr and "injected: EIO" in seen.stderr, seen.stderr
    assert no_leaks.left() == {}
    assert pyrunc.call("state", id).code == 1
    if part == "netdevs":
        device()
    pyrunc.create(bundle, id, *options)
    pyrunc.ok("delete", "--force", id)


HOST = ("prepare", "placed", "hooks", "limits", "cloned", "listener")


@pytest.mark.parametrize("act", ["kill", "killafter"])
@pytest.mark.parametrize(
    ("part", "verb"),
    rows_of(HOST),
    ids=lambda x: x,
)
def test_a_killed_create_is_cleaned_by_delete(pyrunc, no_leaks, make_bundle, surroundings, part, verb, act):
    changes, options = surroundings(part, verb)
    bundle = make_bundle({**EVERYTHING, **changes})
    id = pyrunc.new_id()
    seen = attempt(pyrunc, bundle, id, f"{part}:{verb}:{act}", *options)
    assert seen.returncode == -9, seen
    pyrunc.ok("delete", "--force", id)
    assert no_leaks.left() == {}
    if part == "netdevs":
        device()
    pyrunc.create(bundle, id, *options)
    assert json.loads(pyrunc.ok("state", id).out)["status"] == "created"
    pyrunc.ok("delete", "--force", id)
    assert not os.path.exists(os.path.join(pyrunc.root, id))


FAILING = """
import os, sys
sys.path[:0] = [sys.argv[1]]
from pyrunc import cli, seal
seal.ensure = lambda argv: None
from pyrunc.engine import order, steps
wanted, position = sys.argv[2].split(":")
real = steps.operations
def operations(table, phase, *rest):
    ops = real(table, phase, *rest)
    if table is getattr(order, wanted) and phase == "tail":
        ops[int(position)] = ("SETNS", 123456, 0)
    return ops
steps.operations = operations
os._exit(cli.main(sys.argv[3:]))
"""


def tail_of(table, *without):
    """(position, "part.verb") of the operations that C carries out, except the last one, which must be EXEC, and some others."""
    names = ["%s.%s" % row[1:3] for row in table if row[0] == "tail"]
    return [(position, name) for position, name in enumerate(names[:-1]) if name not in without]


def failing(runtime, table, position, *argv):
    command = [
        sys.executable,
        "-I",
        "-c",
        FAILING,
        str(harness.ROOT / "runtime"),
        "%s:%d" % (table, position),
        "--root",
        runtime.root,
        *argv,
    ]
    with harness.Capture() as err:  # not a pipe: a created container would keep it open
        done = subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=err.file, timeout=harness.WATCHDOG, stdin=subprocess.DEVNULL, check=False
        )
        return done.returncode, err.text()


# init replaces op_forget at the very end, and it cannot fail
@pytest.mark.parametrize(("position", "name"), tail_of(order.CREATE, "engine.op_forget"), ids=lambda x: x if isinstance(x, str) else "")
def test_the_row_whose_operation_fails_is_named(pyrunc, no_leaks, make_bundle, position, name):
    id = pyrunc.new_id()
    code, error = failing(pyrunc, "CREATE", position, "create", "--bundle", str(make_bundle()), id)
    if position > [row[1] for row in tail_of(order.CREATE)].index("engine.op_ready"):
        assert code == 0, error
        if name == "engine.op_wait":
            pyrunc.stopped(id, None)
        error = pyrunc.call("start", id).err
        assert "cannot start a container that has stopped" in error if name == "engine.op_wait" else f"{name}, setns: EBADF" in error, error
        pyrunc.ok("delete", "--force", id)
    else:
        assert code == 1 and f"{name}, setns: EBADF" in error, error
    assert no_leaks.left() == {}


# Without these two, spawn() refuses the list. Of op_sync only the end of the host process can be a failure; op_clone is tested below.
@pytest.mark.parametrize(
    ("position", "name"), tail_of(order.EXEC, "engine.op_sync", "engine.op_clone"), ids=lambda x: x if isinstance(x, str) else ""
)
def test_the_row_of_exec_whose_operation_fails_is_named(pyrunc, make_bundle, position, name):
    id = pyrunc.started(make_bundle(args=["/bin/sleep", "1000"]))
    code, error = failing(pyrunc, "EXEC", position, "exec", id, "/bin/true")
    assert code == 255 and f"{name}, setns: EBADF" in error, error


def test_an_exec_that_fails_at_op_clone_names_the_limit(pyrunc, make_bundle):
    """The process that joins fits into the cgroup, and the program does not."""
    for limit, code in ((2, 255), (3, 0)):
        id = pyrunc.started(make_bundle({"/linux/resources/pids": {"limit": limit}}, args=["/bin/sleep", "1000"]))
        result = pyrunc.call("exec", id, "/bin/true")
        assert result.code == code and ("/linux/resources/pids/limit" in result.err) == bool(code), result
