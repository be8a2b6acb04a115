"""exec into a container with a user namespace whose init has moved to another one, which it has created and whose maps it has written."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
from collections.abc import Iterator

import pytest

import harness
from rootless_user import UID, mapped
from test_joined_pids import MAPS
from test_joining import until, until_executed
from workshop import MakeBundle

pytestmark = pytest.mark.kernel

STAYS, MOVES = ["/bin/sleep", "1000"], ["/bin/unshare", "-U", "-r", "/bin/sleep", "1000"]  # -r: as root there, after "deny" in setgroups
GROUPS = ["--groups", "%d,42" % UID]
SPACE = {"/linux/namespaces/-": {"type": "user"}, "/linux/uidMappings": MAPS, "/linux/gidMappings": MAPS}
BARE = {"/linux/maskedPaths": [], "/linux/readonlyPaths": [], "/process/user": {"uid": 1000, "gid": 1000}}


def moved(runtime: harness.Runtime, bundle: harness.Bundle) -> tuple[str, bool]:
    """(id of a started container, whether its init is in a namespace where setgroups is denied)."""
    id = runtime.started(bundle)
    pid = runtime.state(id)["pid"]
    until_executed(pid, "sleep")
    return id, pathlib.Path("/proc/%d/setgroups" % pid).read_text() == "deny\n"


def status_of(pid: int, field: str) -> list[str]:
    lines = pathlib.Path("/proc/%d/status" % pid).read_text().splitlines()
    return next(line.split()[1:] for line in lines if line.startswith(field + ":"))


def comm_of(pid: str) -> str:
    try:
        return pathlib.Path("/proc/%s/comm" % pid).read_text()
    except OSError:
        return ""  # the process that joins ends when it has left a child


def groups_of(command: list[str], env: dict[str, str]) -> list[str]:
    """The groups of the program that a command executes in a container, which is ended then."""
    with subprocess.Popen(command, env=env) as process:

        def program() -> list[str]:
            children = pathlib.Path("/proc/%d/task/%d/children" % (process.pid, process.pid)).read_text().split()
            return [pid for pid in children if comm_of(pid) == "sleep\n"]

        try:
            return status_of(int(until(program, "the program")[0]), "Groups")
        finally:
            process.terminate()  # which is forwarded


@pytest.mark.parametrize("args", [STAYS, MOVES], ids=["stays", "moves"])
@pytest.mark.parametrize("more", [[], [5, 7]], ids=["no groups", "groups"])
def test_the_groups_are_those_of_the_config(pyrunc, make_bundle, args, more):
    """Not the caller's: a denied setgroups(2) is for users who may not drop a group, and init does not decide about it."""
    user = {"uid": 1000, "gid": 1000, "additionalGids": more}
    id, denied = moved(pyrunc, make_bundle({**SPACE, **BARE, "/process/user": user}, args=args))
    assert denied == (args is MOVES)
    command = ["setpriv", *GROUPS, "--", *pyrunc.argv("exec", id, *STAYS)]
    assert groups_of(command, pyrunc.env) == ["%d" % (300000 + group) for group in more]


@pytest.mark.parametrize("args", [STAYS, ["/bin/sh", "-c", "sleep 1000 & exec %s" % " ".join(MOVES)]], ids=["stays", "moves"])
def test_the_owner_of_a_pipe_is_the_user_of_the_config(pyrunc, make_bundle, args):
    id, _denied = moved(pyrunc, make_bundle({**SPACE, **BARE}, args=args))
    reader, writer = os.pipe()
    subprocess.run(
        pyrunc.argv("exec", "--user", "0:0", id, "/bin/true"), env=pyrunc.env, stdout=writer, check=True, timeout=harness.WATCHDOG
    )
    assert os.fstat(reader).st_uid == 300000
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("args", [STAYS, MOVES], ids=["stays", "moves"])
def test_the_groups_of_an_ordinary_user(subordinate, make, args):
    """Who may drop groups, with subordinate ids, keeps none."""
    id, denied = moved(subordinate, make({**mapped(), "/process/user": {"uid": 1000, "gid": 1000}}, args))
    assert denied == (args is MOVES)
    subordinate.prefix = [GROUPS[0] + "=" + GROUPS[1] if word == "--clear-groups" else word for word in subordinate.prefix]
    assert groups_of(subordinate.argv("exec", id, *STAYS), subordinate.env) == []


@pytest.fixture(params=["allow", "deny"])
def foreign(request: pytest.FixtureRequest) -> Iterator[dict[str, harness.Json]]:
    """Changes for a container in a user namespace that somebody else has made, where setgroups(2) is allowed or denied."""
    with subprocess.Popen(["unshare", "--user", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        folder = pathlib.Path("/proc/%d" % process.pid)
        for name, text in (("setgroups", request.param), ("uid_map", "0 300000 65536"), ("gid_map", "0 300000 65536")):
            (folder / name).write_text(text)
        yield {
            "/linux/namespaces/-": {"type": "user", "path": str(folder / "ns/user")},
            "/linux/maskedPaths": [],
            "/linux/readonlyPaths": [],
        }
        process.kill()


def test_the_groups_in_a_joined_namespace(pyrunc, make_bundle, foreign):
    """Those of root, which may give them up before it joins, are not kept because it may not do so afterwards."""
    bundle, id = make_bundle(foreign, args=STAYS), pyrunc.new_id()
    with open(os.devnull, "r+") as null:
        argv = ["setpriv", *GROUPS, "--", *pyrunc.argv("create", "--bundle", bundle, id)]
        subprocess.run(argv, env=pyrunc.env, stdin=null, stdout=null, check=True, timeout=harness.WATCHDOG)
    pid = pyrunc.state(id)["pid"]
    assert (status_of(pid, "Groups"), status_of(pid, "Uid")) == ([], ["300000"] * 4)
    pyrunc.start(id)
    assert groups_of(["setpriv", *GROUPS, "--", *pyrunc.argv("exec", id, *STAYS)], pyrunc.env) == []


# ---- the root


def with_accounts(make_bundle: MakeBundle, script: str) -> harness.Bundle:
    """A container of an ordinary user, whose image has another passwd in a directory of that user, where everybody is root."""
    bundle = make_bundle({"/process/user": {"uid": 1000, "gid": 1000}}, args=["/bin/sh", "-c", script])
    (bundle.rootfs / "etc").mkdir(exist_ok=True)
    (bundle.rootfs / "etc/passwd").write_text("app:x:1234:1234::/app:/bin/sh\n")
    fake = bundle.rootfs / "fake"
    shutil.copytree(bundle.rootfs / "bin", fake / "bin", symlinks=True)
    (fake / "etc").mkdir()
    (fake / "etc/passwd").write_text("app:x:0:0::/evil:/bin/sh\nroot:x:1234:1234::/evil:/bin/sh\n")
    return bundle


@pytest.mark.parametrize(
    "script", ["exec sleep 1000", "exec unshare -U -r chroot /fake sleep 1000", "sleep 1000 & exec unshare -U -r -m chroot /fake sleep 1000"],
    ids=["stays", "chroot", "mounts"],
)  # fmt: skip
def test_users_are_those_of_the_image(pyrunc, make_bundle, script):
    """A process of an ordinary user that has created a user namespace may call chroot(2) in it."""
    id = pyrunc.started(with_accounts(make_bundle, script))
    until_executed(pyrunc.state(id)["pid"], "sleep")
    assert pyrunc.ok("exec", "--user", "app", id, "/bin/sh", "-c", "id -u; echo $HOME").out.split() == ["1234", "/app"]


@pytest.mark.parametrize("options", [["--no-pivot"], []], ids=["no pivot", "pivot"])
def test_users_in_a_root_with_and_without_pivot(pyrunc, make_bundle, options):
    id = pyrunc.new_id()
    pyrunc.ok("create", *options, "--bundle", with_accounts(make_bundle, "exec sleep 1000"), id)
    pyrunc.start(id)
    assert pyrunc.ok("exec", "--tty", "--user", "app", id, "/bin/sh", "-c", "id -u; echo $HOME").out.split() == ["1234", "/app"]


PTS = "mount -t devpts -o newinstance,mode=0666,ptmxmode=0666 devpts /dev/pts"


@pytest.mark.parametrize(
    "script", ["exec sleep 1000", "sleep 1000 & exec unshare -U -r -m sh -c '%s && exec sleep 1000'" % PTS], ids=["stays", "moves"]
)
def test_the_terminal_is_the_container_s(pyrunc, make_bundle, script):
    """Not one in a devpts of an ordinary user, which may open it there."""
    id = pyrunc.started(make_bundle({"/process/user": {"uid": 1000, "gid": 1000}}, args=["/bin/sh", "-c", script]))
    until_executed(pyrunc.state(id)["pid"], "sleep")
    assert pyrunc.ok("exec", "--tty", "--user", "0:0", id, "/bin/sh", "-c", 'test -c "$(tty)" && echo here').out.split() == ["here"]
