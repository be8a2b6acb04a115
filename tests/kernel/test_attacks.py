"""Attacks that we found ourselves, in addition to the advisories: each test shows that the attack fails, and that the same setup without it
works. Only the command line is used, so the tests also run on other runtimes (`--runtime`), some of which fail.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

import harness

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

    from harness import Runtime
    from workshop import MakeBundle

USER = {"/process/user": {"uid": 4321, "gid": 4321}}
WAIT = harness.WAIT_FOR_TERM


# ---- the terminal and files of the caller keep their owner


@pytest.fixture
def terminal() -> Iterator[int]:
    master, slave = pty.openpty()
    yield slave
    os.close(master)
    os.close(slave)


def call(runtime: Runtime, *words: object, stream: int) -> None:
    done = subprocess.run(runtime.argv(*words), stdin=stream, stdout=stream, stderr=stream, env=runtime.env, timeout=harness.WATCHDOG)
    assert done.returncode == 0


@pytest.mark.parametrize("how", ["run", "create", "exec"])
def test_the_callers_terminal_is_not_given_away(runtime: Runtime, make_bundle: MakeBundle, terminal: int, how: str) -> None:
    """A user of the host with the container's uid would read what root types."""
    before = os.fstat(terminal)
    if how == "run":
        call(runtime, "run", "--bundle", make_bundle(USER, args=["/bin/true"]), runtime.new_id(), stream=terminal)
    elif how == "create":
        call(runtime, "create", "--bundle", make_bundle(USER, args=WAIT), runtime.new_id(), stream=terminal)
    else:
        call(runtime, "exec", runtime.started(make_bundle(USER, args=WAIT)), "/bin/true", stream=terminal)
    after = os.fstat(terminal)
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)


@pytest.mark.parametrize("how", ["run", "exec"])
def test_the_callers_log_is_not_given_away(runtime: Runtime, make_bundle: MakeBundle, tmp_path: pathlib.Path, how: str) -> None:
    log = tmp_path / "log"
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    words = ["/bin/echo", "written"]
    if how == "run":
        call(runtime, "run", "--bundle", make_bundle(USER, args=words), runtime.new_id(), stream=fd)
    else:
        call(runtime, "exec", runtime.started(make_bundle(USER, args=WAIT)), *words, stream=fd)
    os.close(fd)
    assert log.stat().st_uid == os.getuid() and "written" in log.read_text()


def test_pipes_of_engines_are_the_users(runtime: Runtime, make_bundle: MakeBundle) -> None:
    """Engines need this: a program without the rights of root opens /dev/stdout again."""
    done = subprocess.run(
        runtime.argv("run", "--bundle", make_bundle(USER, args=["/bin/sh", "-c", "echo again >/dev/stdout"]), runtime.new_id()),
        stdin=subprocess.DEVNULL, capture_output=True, env=runtime.env, timeout=harness.WATCHDOG,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"again\n"), done.stderr


# ---- session keyrings


SHOWN = re.compile(r"^([0-9a-f]+) \S+ +\d+ +\S+ ([0-9a-f]{8}) +\d+ +\d+ keyring +(\S+):", re.MULTILINE)


def keyrings(text: str) -> dict[str, tuple[int, int]]:
    """Session keyrings in /proc/keys: {name: (serial, permissions)}."""
    return {m[3]: (int(m[1], 16), int(m[2], 16)) for m in SHOWN.finditer(text) if m[3].startswith("_ses.")}


@pytest.mark.skipif(not os.path.exists("/proc/keys"), reason="the kernel has no keyrings")
def test_a_neighbour_does_not_find_the_keyring(runtime: Runtime, make_bundle: MakeBundle) -> None:
    """Neither by its name nor by searching: another container of the same user can neither see nor read it, and nobody can take the name first."""
    id = runtime.started(make_bundle(args=WAIT))
    seen = keyrings(runtime.ok("exec", id, "/bin/cat", "/proc/keys").out)
    # the control: exec is in the keyring of the container, which other runtimes give that name, or which is visible because exec possesses it
    own = {name: key for name, key in seen.items() if name == "_ses." + id or not key[1] & 0x00010101}
    assert len(own) == 1
    ((name, (_serial, permissions)),) = own.items()
    assert id not in name and not permissions & 0x00171717, "others can see, read or link it"
    assert name not in keyrings(runtime.run(make_bundle(args=["/bin/cat", "/proc/keys"])).out)


@pytest.mark.skipif(not os.path.exists("/proc/keys"), reason="the kernel has no keyrings")
@pytest.mark.parametrize("userns", [False, True])
def test_exec_is_in_the_keyring_of_the_container(runtime: Runtime, make_bundle: MakeBundle, userns: bool) -> None:
    maps = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    changes = {"/linux/namespaces/-": {"type": "user"}, "/linux/uidMappings": maps, "/linux/gidMappings": maps} if userns else {}
    bundle = make_bundle(changes, args=["/bin/sh", "-c", "cat /proc/keys >/keys; exec sleep 1000"])
    os.chmod(bundle.rootfs, 0o777)
    id = runtime.started(bundle)
    first = keyrings(harness.appears(bundle.rootfs / "keys"))
    again = keyrings(runtime.ok("exec", id, "/bin/cat", "/proc/keys").out)
    own = [{name: key for name, key in seen.items() if name == "_ses." + id or not key[1] & 0x00010101} for seen in (first, again)]
    assert own[0] == own[1] and len(own[0]) == 1


# ---- device rules


MKNOD = {"/process/capabilities": {kind: ["CAP_MKNOD"] for kind in ("bounding", "effective", "permitted")}}


def test_a_denied_device_is_not_made(runtime: Runtime, make_bundle: MakeBundle) -> None:
    """The rules that every container gets, including mknod for any device, do not undo a denial in the config."""
    denied = {"allow": False, "type": "c", "major": 10, "minor": 200, "access": "rwm"}
    rules = [{"allow": True, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"}, denied]
    script = "for n in 229 200; do mknod /dev/shm/$n c 10 $n && echo made $n; done; : </dev/null && echo null"
    bundle = make_bundle({**MKNOD, "/linux/resources/devices": rules}, args=["/bin/sh", "-c", script])
    assert runtime.call("run", "--bundle", bundle, runtime.new_id()).out == "made 229\nnull\n"


def test_a_denied_device_is_not_opened(runtime: Runtime, make_bundle: MakeBundle) -> None:
    """Even after "deny all": /dev/zero is one of the devices that every container has, unless the config denies it."""
    script = "head -c 1 /dev/zero >/dev/null && echo zero; head -c 1 /dev/urandom >/dev/null && echo urandom"
    denied = {"allow": False, "type": "c", "major": 1, "minor": 5, "access": "rwm"}
    shown = {}
    for name, rules in (("harmless", [{"allow": False, "access": "rwm"}]), ("denied", [{"allow": False, "access": "rwm"}, denied])):
        bundle = make_bundle({"/linux/resources/devices": rules}, args=["/bin/sh", "-c", script])
        shown[name] = runtime.call("run", "--bundle", bundle, runtime.new_id()).out
    assert shown == {"harmless": "zero\nurandom\n", "denied": "urandom\n"}


# ---- device nodes stay in the container


NODE = {"type": "c", "major": 1, "minor": 5, "fileMode": 0o666}
SHAPES = ["link", "link to a link", "folder", "missing folder"]


def lead_out(bundle: harness.Bundle, outside: pathlib.Path, shape: str) -> str:
    """Creates a path to the directory of the host that is bound to /data; -> the path of a device that would end up there."""
    outside.mkdir()
    bundle.patch({"/mounts/-": {"destination": "/data", "type": "bind", "source": str(outside), "options": ["rbind"]}})
    if shape == "link":
        (bundle.rootfs / "way").symlink_to("/data")
        return "/way/node"
    if shape == "link to a link":
        (bundle.rootfs / "one").symlink_to("two")
        (bundle.rootfs / "two").symlink_to("data")
        return "/one/node"
    return "/data/node" if shape == "folder" else "/data/a/b/node"


@pytest.mark.parametrize("userns", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_device_is_not_made_on_the_host(
    runtime: Runtime, make_bundle: MakeBundle, tmp_path: pathlib.Path, shape: str, userns: bool
) -> None:
    maps = [{"containerID": 0, "hostID": 0, "size": 65536}]
    changes = {"/linux/namespaces/-": {"type": "user"}, "/linux/uidMappings": maps, "/linux/gidMappings": maps} if userns else {}
    good = make_bundle({**changes, "/linux/devices": [{**NODE, "path": "/dev/zero"}]}, args=["/bin/true"])
    assert runtime.call("run", "--bundle", good, runtime.new_id()).code == 0
    bundle = make_bundle(changes, args=["/bin/true"])
    path = lead_out(bundle, tmp_path / "outside", shape)
    bundle.patch({"/linux/devices": [{**NODE, "path": path}]})
    runtime.call("run", "--bundle", bundle, runtime.new_id())
    assert os.listdir(tmp_path / "outside") == []


def test_a_device_is_made_in_the_root_and_below_dev(runtime: Runtime, make_bundle: MakeBundle) -> None:
    paths = ["/top", "/opt/new/folder/node", "/dev/one", "/dev/net/two", "/dev/shm/three"]
    bundle = make_bundle({"/linux/devices": [{**NODE, "path": path} for path in paths]}, args=["/bin/sh", "-c", "ls -l " + " ".join(paths)])
    assert len([line for line in runtime.run(bundle).out.splitlines() if "1,   5" in line or "1, 5" in line]) == len(paths)


def test_a_dev_that_is_the_hosts_is_left_alone(runtime: Runtime, make_bundle: MakeBundle, tmp_path: pathlib.Path) -> None:
    """/dev leads to a directory of the host: after the tmpfs of the config, a later bind mount covers it through a link."""
    outside = tmp_path / "outside"
    outside.mkdir()
    bundle = make_bundle(args=["/bin/true"])
    assert runtime.call("run", "--bundle", bundle, runtime.new_id()).code == 0
    (bundle.rootfs / "way").symlink_to("/dev")
    bundle.patch({"/mounts/-": {"destination": "/way", "type": "bind", "source": str(outside), "options": ["rbind"]}})
    runtime.call("run", "--bundle", bundle, runtime.new_id())
    assert os.listdir(outside) == []


@pytest.mark.parametrize("shape", SHAPES)
def test_a_device_is_not_added_on_the_host(pyrunc: Runtime, make_bundle: MakeBundle, tmp_path: pathlib.Path, shape: str) -> None:
    bundle = make_bundle(args=WAIT)
    path = lead_out(bundle, tmp_path / "outside", shape)
    id = pyrunc.started(bundle)
    pyrunc.ok("update", "--device-add", "c 1:5 rwm /dev/added", id)
    assert pyrunc.ok("exec", id, "/bin/ls", "/dev/added").out == "/dev/added\n"
    result = pyrunc.call("update", "--device-add", "c 1:5 rwm " + path, id)
    assert result.code != 0 and os.listdir(tmp_path / "outside") == [], result
