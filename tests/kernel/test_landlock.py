"""The annotation org.pyrunc.landlock, seen from inside: what is denied and allowed, for run and exec, with and without noNewPrivileges, and
errors if the kernel refuses."""

import json
import os
import socket
import stat
import threading

import pytest

import harness
from pyrunc.linux import probe

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(probe.landlock() < 1, reason="this kernel has no Landlock, or it is not enabled"),
]

KEY = "/annotations/org.pyrunc.landlock"
EXECUTE, WRITE, READ, READ_DIR, MAKE_REG = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 8
HANDLED = EXECUTE | WRITE | READ | READ_DIR | MAKE_REG
PROGRAMS = {"allowedAccess": EXECUTE | READ | READ_DIR, "paths": ["/bin", "/proc", "/dev/null"]}


def annotation(paths=(), ports=(), **ruleset):
    rules = {"pathBeneath": [PROGRAMS, *paths], "netPort": list(ports)}
    return {KEY: json.dumps({"ruleset": ruleset or {"handledAccessFs": HANDLED}, "rules": rules})}


SCRIPT = """
cat /data/allowed; cat /data/denied; echo x >/data/allowed; echo x >/rw/new; cat /rw/new; ls /rw; ls /data; grep NoNewPrivs /proc/self/status
"""
SEEN = ["yes", "x", "new"]


@pytest.fixture
def data(make_bundle):
    def make(changes, args=None):
        bundle = make_bundle(changes, args=args or ["/bin/sh", "-c", SCRIPT])
        (bundle.rootfs / "data").mkdir()
        for name in ("allowed", "denied"):
            (bundle.rootfs / "data" / name).write_text("yes\n" if name == "allowed" else "no\n")
        (bundle.rootfs / "rw").mkdir()
        (bundle.rootfs / "rw").chmod(0o777)
        return bundle

    return make


RULES = [
    {"allowedAccess": READ, "paths": ["/data/allowed"]},
    {"allowedAccess": READ | READ_DIR | WRITE | MAKE_REG, "paths": ["/rw"]},
]


@pytest.mark.parametrize("nnp", [False, True], ids=["", "noNewPrivileges"])
@pytest.mark.parametrize("uid", [0, 1000])
def test_files(pyrunc, data, no_leaks, nnp, uid):
    user = {"/process/user": {"uid": uid, "gid": uid}, "/process/noNewPrivileges": nnp}
    result = pyrunc.run(data({**annotation(RULES), **user}))
    lines = result.out.split()
    assert lines[:3] == SEEN and lines[3:] == ["NoNewPrivs:", str(int(nnp))], result
    assert result.err.count("Permission denied") == 3, result  # the other file, writing to the first one, the list of /data


def test_exec_is_restricted_too(pyrunc, data, no_leaks):
    live = pyrunc.started(data(annotation(RULES), harness.WAIT_FOR_TERM))
    result = pyrunc.call("exec", live, "/bin/sh", "-c", SCRIPT)
    assert result.out.split()[:3] == SEEN and result.err.count("Permission denied") == 3, result
    result = pyrunc.call("exec", "--user", "1000:1000", "--no-new-privs", live, "/bin/cat", "/data/denied")
    assert (result.code, result.out) == (1, ""), result
    pyrunc.delete(live, "--force")


def test_with_a_filter_that_forbids_landlock(pyrunc, data, no_leaks):
    """Landlock is in force before the filter is."""
    seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["landlock_restrict_self"], "action": "SCMP_ACT_ERRNO"}]}
    for nnp in (False, True):
        result = pyrunc.run(data({**annotation(RULES), "/linux/seccomp": seccomp, "/process/noNewPrivileges": nnp}))
        assert result.out.split()[:3] == SEEN, result


def test_a_program_that_may_not_be_executed(pyrunc, data, no_leaks):
    rules = {"ruleset": {"handledAccessFs": EXECUTE}, "rules": {}}
    bundle = data({KEY: json.dumps(rules)}, ["/bin/true"])
    id = pyrunc.create(bundle)
    result = pyrunc.call("start", id)
    assert result.code == 1 and "permission denied" in result.err, result
    pyrunc.ok("delete", "--force", id)


def test_descriptors_of_the_ruleset_stay_outside(pyrunc, data, no_leaks):
    id = pyrunc.create(data(annotation(RULES), harness.WAIT_FOR_TERM))
    folder = "/proc/%d/fd" % pyrunc.state(id)["pid"]
    assert not [name for name in os.listdir(folder) if "landlock" in os.readlink("%s/%s" % (folder, name))]
    pyrunc.start(id)
    assert "landlock" not in pyrunc.ok("exec", id, "/bin/ls", "-l", "/proc/self/fd").out
    pyrunc.delete(id, "--force")


def test_rules_apply_to_what_is_mounted(pyrunc, data, scratch, no_leaks):
    """A rule for a mount point applies to the file system that is mounted there."""
    (scratch / "volume").mkdir(exist_ok=True)
    (scratch / "volume/file").write_text("volume\n")
    mount = {"destination": "/data", "type": "bind", "source": str(scratch / "volume"), "options": ["bind"]}
    rule = {"allowedAccess": READ | READ_DIR, "paths": ["/data"]}
    result = pyrunc.run(data({**annotation([rule]), "/mounts/-": mount}, ["/bin/cat", "/data/file"]))
    assert (result.code, result.out) == (0, "volume\n"), result


@pytest.mark.parametrize("kind", ["missing", "link", "parent"])
def test_paths_that_do_not_exist(pyrunc, data, no_leaks, kind):
    """A link in the image would redirect the rule."""
    bundle = data(annotation([{"allowedAccess": READ, "paths": ["/place/below" if kind == "parent" else "/place"]}]))
    if kind != "missing":
        (bundle.rootfs / "place").symlink_to("/data")
        (bundle.rootfs / "data/below").write_text("")
    result = pyrunc.run(bundle)
    assert result.code == 1 and KEY + "/rules/pathBeneath/1/paths/0" in result.err and len(result.err.splitlines()) == 1, result


def test_a_user_namespace(pyrunc, data, no_leaks):
    maps = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    userns = {"/linux/namespaces/-": {"type": "user"}, "/linux/uidMappings": maps, "/linux/gidMappings": maps}
    bundle = data({**annotation(RULES), **userns})
    for path in (bundle.rootfs, *bundle.rootfs.iterdir()):
        os.chown(path, 100000, 100000)
    result = pyrunc.run(bundle)
    assert result.out.split()[:3] == SEEN, result


@pytest.mark.skipif(probe.landlock() < 4, reason="this kernel's Landlock has no rules for the network (version 4)")
def test_ports(pyrunc, data, no_leaks):
    """The container uses the network of the host here: there are two servers, and one of them is allowed."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    ports = [server.getsockname()[1] for server in servers]

    def serve(server):
        try:
            server.accept()[0].sendall(b"served\n")
        except OSError:
            pass  # closed at the end of the test

    for server in servers:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
    allowed = [{"allowedAccess": 1 << 1, "ports": [ports[0]]}]
    script = "for p in %d %d; do nc 127.0.0.1 $p </dev/null || echo refused $?; done" % tuple(ports)
    changes = annotation(ports=allowed, handledAccessFs=HANDLED, handledAccessNet=1 << 1)
    result = pyrunc.run(
        data({**changes, "/linux/namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount")]}, ["/bin/sh", "-c", script])
    )
    for server in servers:
        server.close()
    assert result.out.splitlines()[0] == "served" and result.out.count("served") == 1 and "refused 1" in result.out, result


@pytest.mark.skipif(probe.landlock() < 6, reason="this kernel's Landlock has no scopes (version 6)")
def test_scopes(pyrunc, data, no_leaks):
    """A container in the pid namespace of the host can't signal processes outside of its domain."""
    namespaces = {"/linux/namespaces": [{"type": t} for t in ("network", "ipc", "uts", "mount")]}
    bundle = data(
        {**annotation(handledAccessFs=HANDLED, scoped=2), **namespaces},
        ["/bin/sh", "-c", "kill -0 %d; kill -0 $$ && echo own" % os.getpid()],
    )
    result = pyrunc.run(bundle)
    assert result.out == "own\n" and "not permitted" in result.err, result


def test_start_container_hooks_are_restricted_too(pyrunc, data, no_leaks):
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "cat /data/denied >/rw/denied; cat /data/allowed >/rw/allowed; true"]}
    bundle = data({**annotation(RULES), "/hooks": {"startContainer": [hook]}, "/process/noNewPrivileges": True}, ["/bin/true"])
    result = pyrunc.run(bundle)
    assert result.code == 0, result
    assert (bundle.rootfs / "rw/allowed").read_text() == "yes\n" and (bundle.rootfs / "rw/denied").read_text() == ""
    assert stat.S_ISREG((bundle.rootfs / "rw/denied").stat().st_mode)


def test_a_checkpoint_is_refused(pyrunc, data, tmp_path, no_leaks):
    live = pyrunc.started(data(annotation(RULES), harness.WAIT_FOR_TERM))
    result = pyrunc.call("checkpoint", "--image-path", tmp_path / "image", live)
    assert result.code == 1 and KEY in result.err and "does not restore Landlock" in result.err, result
    assert pyrunc.status(live) == "running"
    pyrunc.delete(live, "--force")
