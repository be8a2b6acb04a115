"""Attacks on an ordinary user's runtime: the programs and files that it finds, its state, and its containers' view of it."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

import harness
import hoststate
from rootless_user import IDS, UID, mapped

pytestmark = pytest.mark.kernel
MARKER = "from the caller only"


def one_line(result):
    assert result.code not in (0, None) and len(result.err.splitlines()) == 1, result
    assert "Traceback" not in result.err and "internal error" not in result.err, result
    return result


def executable(path, text):
    path.write_text("#!/bin/sh\n%s\n" % text)
    path.chmod(0o755)
    return path


# ---- programs and files of the host


def test_newuidmap_is_not_looked_up_in_the_path(subordinate, make, home):
    folder = home / "evil"
    folder.mkdir()
    for name in ("newuidmap", "newgidmap"):
        executable(folder / name, "touch %s/ran" % home)
    subordinate.env = {**subordinate.env, "PATH": "%s:%s" % (folder, os.environ["PATH"])}
    found = subprocess.run(["sh", "-c", "command -v newuidmap"], env=subordinate.env, capture_output=True, text=True).stdout
    assert found == "%s/newuidmap\n" % folder
    assert subordinate.run(make(mapped(), ["id", "-u"])).out == "0\n"
    assert not (home / "ran").exists()


def test_a_newuidmap_of_the_user_is_not_used(rootless, make, home):
    """Where root's program is missing, one of another owner in a folder of the list does not take its place."""
    if not os.path.isdir("/usr/local/bin"):
        pytest.skip("no /usr/local/bin")
    tools = home / "local"
    tools.mkdir()
    made = executable(tools / "newuidmap", "touch %s/ran" % home)
    os.chown(made, UID, UID)
    hide = 'for f in /usr/bin/newuidmap /bin/newuidmap; do [ ! -e $f ] || mount --bind /dev/null $f; done; mount --bind "$0" /usr/local/bin; exec "$@"'
    rootless.prefix = ["unshare", "--mount", "--", "sh", "-c", hide, str(tools), *IDS]
    assert "need newuidmap" in one_line(rootless.run(make(mapped()))).err
    assert not (home / "ran").exists()
    os.chown(made, 0, 0)  # the positive control: as root's it is executed
    assert rootless.run(make(mapped())).code == 1


SUBIDS = {
    "garbage": "lent:x:y\n:::\n" + "lent:%d:1\n" % (1 << 70),
    "root's ids": "lent:0:65536\n",
    "overflow": "lent:4294967290:65536\n",
    "long": "lent:700000:65536\n" + "#" * 100000 + "\n",
}


@pytest.mark.parametrize("text", SUBIDS.values(), ids=SUBIDS)
def test_odd_subordinate_ids(subordinate, make, home, text):
    """newuidmap judges them; the map is compared afterwards, and a failure is one line."""
    for name in ("subuid", "subgid"):
        (home / name).write_text(text)
    result = subordinate.run(make(mapped(), ["cat", "/proc/self/uid_map"]))
    if result.code:
        assert "newuidmap" in one_line(result).err
    else:
        assert result.out.split() == ["0", str(UID), "1", "1", "700000", "65536"], result


@pytest.mark.slow
@pytest.mark.bound(180)
def test_subordinate_ids_that_never_end(subordinate, make, home):
    """newuidmap waits for ever: it is ended, and so is the create."""
    for name in ("subuid", "subgid"):
        (home / name).unlink()
        os.mkfifo(home / name)
        (home / name).chmod(0o644)
    try:
        assert "newuidmap" in one_line(subordinate.run(make(mapped()))).err
    finally:
        for name in ("subuid", "subgid"):
            (home / name).unlink()


# ---- the state


def test_a_runtime_directory_that_others_prepared(rootless, make, scratch, home):
    """A state root must be the caller's, and only the caller may write to it, also if it is reached through a link."""
    bundle, id = make(), rootless.new_id()
    xdg = scratch / "xdg"
    xdg.mkdir()
    xdg.chmod(0o777)

    def create(*words):
        rootless.env = {**rootless.env, "XDG_RUNTIME_DIR": str(xdg)}
        argv = [*rootless.prefix, rootless.path, *words, "--bundle", str(bundle), id]
        with harness.Capture() as out, harness.Capture() as err:  # files, because the container keeps its streams open
            done = subprocess.run(
                argv, env=rootless.env, stdin=subprocess.DEVNULL, stdout=out.file, stderr=err.file, timeout=harness.WATCHDOG
            )
            return harness.Result(argv, done.returncode, out.text(), err.text())

    roots = scratch / "roots"
    for name, owner, mode in (
        ("root's", 0, 0o700),
        ("everyone's", UID, 0o777),
        ("the group's", UID, 0o770),
        ("open to root only", 0, 0o755),
    ):
        path = roots / name
        path.mkdir(parents=True)
        os.chown(path, owner, owner)
        path.chmod(mode)
        (xdg / "pyrunc").symlink_to(path)
        one_line(create("create"))
        assert not os.listdir(path), name
        (xdg / "pyrunc").unlink()
    (xdg / "pyrunc").symlink_to(scratch / "nowhere")
    one_line(create("create"))
    (xdg / "pyrunc").unlink()
    (xdg / "pyrunc").mkdir()
    os.chown(xdg / "pyrunc", UID, UID)
    (xdg / "pyrunc").chmod(0o700)
    assert create("create").code == 0, "the positive control"
    argv = [*rootless.prefix, rootless.path, "delete", "--force", id]
    assert subprocess.run(argv, env=rootless.env).returncode == 0


@pytest.mark.parametrize("kind", ["link to a directory", "link to a state", "fifo", "other owner's plan"])
def test_a_state_with_links(rootless, runtime, make, scratch, home, kind):
    """Commands do not follow links in the state root, wait for nothing there, and remove only what is in it."""
    id = rootless.create(make(args=harness.WAIT_FOR_TERM))
    folder = pathlib.Path(rootless.root) / id
    victim = home / ("victim-" + kind.replace(" ", "-"))
    victim.mkdir()
    (victim / "kept").write_text("kept")
    aside = folder.with_name(id + "-aside")
    if kind == "link to a directory":
        folder.rename(aside)
        folder.symlink_to(victim)
    elif kind == "link to a state":
        (folder / "state.json").rename(victim / "state.json")
        (folder / "state.json").symlink_to(victim / "state.json")
    elif kind == "fifo":
        (folder / "state.json").rename(victim / "state.json")
        os.mkfifo(folder / "state.json")
        os.chown(folder / "state.json", UID, UID)
    else:
        (folder / "plan.json").rename(victim / "plan.json")
        (folder / "plan.json").symlink_to("/etc/shadow")
    for words in (["state", id], ["exec", id, "true"], ["kill", id], ["delete", id], ["list"]):
        result = rootless.call(*words)
        assert "Traceback" not in result.err and "internal error" not in result.err, result
        assert "root:" not in result.said
    assert (victim / "kept").read_text() == "kept"
    if kind == "link to a directory":
        assert rootless.call("delete", "--force", id).code in (0, 1) and folder.is_symlink()
        folder.unlink()
        aside.rename(folder)
    elif kind != "other owner's plan":
        (folder / "state.json").unlink(missing_ok=True)
        (victim / "state.json").rename(folder / "state.json")
    elif folder.exists():
        (folder / "plan.json").unlink()
        (victim / "plan.json").rename(folder / "plan.json")
    assert rootless.call("delete", "--force", id).code == 0 and (victim / "kept").exists()


# ---- ids


def test_groups_that_must_not_be_dropped(rootless, make):
    """A group can take rights away, so without subordinate ids setgroups stays denied, and the annotation that keeps groups adds none."""
    rootless.prefix = ["setpriv", "--reuid=%d" % UID, "--regid=%d" % UID, "--groups=%d,4322" % UID, "--"]
    script = "cat /proc/self/setgroups; grep Groups /proc/self/status"
    for given in ({}, {"run.oci.keep_original_groups": "1"}):
        result = rootless.run(make({"/annotations": given}, ["sh", "-c", script]))
        words = result.out.split()
        assert words[0] == "deny" and set(words[2:]) <= {"0", "65534"}, result


def test_a_root_of_unmapped_owners(rootless, make):
    """Nothing can be made in such a root: one line says so, and nothing of it has changed."""
    bundle = make({"/mounts/-": {"destination": "/new/place", "type": "tmpfs", "source": "tmpfs"}})
    for top, folders, files in os.walk(bundle.rootfs):
        for name in (".", *folders, *files):
            os.chown(os.path.join(top, name), 987654, 987654, follow_symlinks=False)
    before = hoststate.snapshot(bundle.rootfs)
    assert "/new" in one_line(rootless.run(bundle)).err
    assert hoststate.snapshot(bundle.rootfs) == before
    (bundle.rootfs / "new/place").mkdir(parents=True)
    assert rootless.run(bundle).code == 0, "the positive control: nothing has to be made"


@pytest.mark.parametrize("depth", [1, 3])
def test_in_nested_user_namespaces(rootless, make, depth):
    """The caller's root is an ordinary user outside: it gets its one id, and no other."""
    rootless.prefix = [*IDS, *(["unshare", "--user", "--map-root-user", "--"] * depth)]
    rootless.env = {**rootless.env, "USER": "lent"}
    bundle = make(
        {"/linux/uidMappings/0/hostID": 0, "/linux/gidMappings/0/hostID": 0}, ["cat", "/proc/self/uid_map", "/proc/self/setgroups"]
    )
    result = rootless.run(bundle)
    if result.code == 0:
        assert result.out.split() == ["0", "0", "1", "deny"], result
    else:
        one_line(result)
    foreign = [{"containerID": 0, "hostID": 0, "size": 1}, {"containerID": 1, "hostID": 1, "size": 10}]
    bundle.patch({"/linux/uidMappings": foreign})
    one_line(rootless.run(bundle))


# ---- exec into a hostile init

# Runs with all capabilities of the container's user namespace, which is more than its init has.
LOOK = r"""
import os, sys, time
init, marker = sys.argv[1], sys.argv[2].encode()
top, seen = "/proc/%s/root/proc" % init, set()
print("ready", flush=True)
while os.getppid() != 1 and os.path.exists("/proc/" + init):
    for name in os.listdir(top):
        if not name.isdigit() or name == "1":
            continue
        here = top + "/" + name
        try:
            with open(here + "/environ", "rb") as file:
                found = file.read()
            seen.add("environment" if marker in found else "program")
        except OSError:
            pass
        try:
            for fd in os.listdir(here + "/fd"):
                link = os.readlink(here + "/fd/" + fd)
                if fd not in "012" and link.startswith("/"):
                    seen.add("descriptor " + link)
        except OSError:
            pass
        try:
            exe = os.readlink(here + "/exe")
            if "pyrunc" in exe or "memfd" in exe:
                open(here + "/mem", "rb").close()
                seen.add("memory of " + exe)
        except OSError:
            pass
    if os.path.exists(sys.argv[3]):
        break
print("\n".join(sorted(seen)), flush=True)
"""


@pytest.mark.slow
def test_what_a_hostile_container_sees_of_an_exec(subordinate, make, home):
    changes = {
        **mapped(),
        "/process/capabilities": {kind: ["CAP_SYS_PTRACE", "CAP_KILL"] for kind in ("bounding", "effective", "permitted")},
    }
    id = subordinate.started(make(changes, ["sleep", "1000"]))
    pid, stop = subordinate.state(id)["pid"], home / "stop"
    argv = ["nsenter", "--user", "--target", str(pid), "--", sys.executable, "-c", LOOK, str(pid), MARKER, str(stop)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as looking:
        assert looking.stdout is not None and looking.stdout.readline() == "ready\n"
        try:
            for _ in range(20):
                subordinate.ok("exec", id, "sleep", "0.02", env={**subordinate.env, "SECRET": MARKER})
        finally:
            stop.touch()
        seen = set(looking.stdout.read().split("\n")) - {""}
    stop.unlink()
    assert seen == {"program"}, seen
