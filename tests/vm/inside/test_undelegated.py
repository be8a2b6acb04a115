"""uid 1000 in a cgroup that belongs to root: nothing can be created there, so a container runs without cgroups, or fails with the reason."""

import itertools
import os
import subprocess

import pytest

import guest
import harness

HINT = "rootless needs no limits + no cgrouppath when no permission is granted for cgroups"
MAPS = [{"containerID": 0, "hostID": 1000, "size": 1}]
CHANGES = {
    "/root/readonly": True,
    "/linux/namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount", "user", "cgroup")],
    "/linux/uidMappings": MAPS,
    "/linux/gidMappings": MAPS,
    "/linux/cgroupsPath": harness.ABSENT,
}


TMPFS = ("--type", "tmpfs", "--source", "tmpfs", "--destination", "/added", "--options", "tmpcopyup")


@pytest.fixture
def place(scratch):
    """A directory that belongs to the user."""
    made = scratch / "user"
    if not made.exists():
        made.mkdir()
        subprocess.run(["chown", "1000:1000", made], check=True)
    return made


@pytest.fixture
def as_user(runtime, place):
    """as_user(*args) -> Result of the runtime as uid 1000 in a service of the system manager, whose processes may stay."""
    count = itertools.count()

    def call(*args, runtime_dir=place):
        run = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--uid=1000", "--gid=1000", "--property=KillMode=process"]
        run += [
            "--setenv=XDG_RUNTIME_DIR=%s" % runtime_dir,
            "--unit=undelegated-%s-%d" % (runtime.token, next(count)),
            "--working-directory=/",
        ]
        argv = [*run, "--", runtime.path, *map(str, args)]
        with harness.Capture() as out, harness.Capture() as err:
            code = guest.wait_for(argv, out.file, err.file)
            return harness.Result(argv, code, out.text(), err.text())

    yield call
    for id in runtime.ids:
        call("delete", "--force", id)
    runtime.ids.clear()


@pytest.fixture
def make(make_bundle):
    """make(changes, args) -> a rootless bundle that belongs to the user."""

    def bundle(changes=None, args=None):
        made = make_bundle(args=args)
        made.config["mounts"] = [m for m in made.config["mounts"] if m["destination"] not in ("/sys", "/dev/pts")]
        made.patch({**CHANGES, **(changes or {})})
        (made.rootfs / "added").mkdir(exist_ok=True)
        (made.rootfs / "added/file").write_text("copied\n")
        subprocess.run(["chown", "-Rh", "1000:1000", made.path], check=True)
        return made

    return bundle


@pytest.mark.vm_short
def test_without_limits_it_runs(as_user, make, runtime):
    result = as_user("run", "--bundle", make(args=["sh", "-c", "id -u; cat /proc/self/cgroup"]), runtime.new_id())
    assert result.out == "0\n0::/\n", result


@pytest.mark.vm_short("pids")
@pytest.mark.parametrize(
    "changes",
    [
        {"/linux/resources": {"memory": {"limit": 1 << 26}}},
        {"/linux/resources": {"pids": {"limit": 5}}},
        {"/linux/resources": {"unified": {"pids.max": "5"}}},
        {"/linux/cgroupsPath": "/somewhere"},
        {"/linux/cgroupsPath": "beside"},
    ],
    ids=["memory", "pids", "unified", "absolute path", "relative path"],
)
def test_requested_limits_are_refused(as_user, make, runtime, changes):
    result = as_user("run", "--bundle", make(changes), runtime.new_id())
    assert result.code == 1 and HINT in result.said and "delegate" in result.said.lower(), result


def test_life_without_a_cgroup(as_user, make, runtime):
    id = runtime.new_id()
    for command in (["create", "--bundle", make(args=harness.WAIT_FOR_TERM), id], ["start", id]):
        result = as_user(*command)
        assert result.code == 0, result
    assert as_user("exec", id, "echo", "inside").out == "inside\n"
    for command in (["pause"], ["update", "--memory", "64m"]):
        result = as_user(*command, id)
        assert result.code == 1 and "cgroup" in result.said, result
    assert as_user("kill", id, "TERM").code == 0
    assert as_user("delete", "--force", id).code == 0
    assert as_user("state", id).code == 1


def test_systemd_needs_a_bus(as_user, make, runtime):
    result = as_user("--systemd-cgroup", "run", "--bundle", make(), runtime.new_id())
    assert result.code == 1 and "the user's systemd" in result.said, result


@pytest.mark.parametrize("value", ["true", "auto"])
def test_the_global_option(as_user, make, runtime, value):
    assert as_user("--rootless", value, "run", "--bundle", make(), runtime.new_id()).code == 0


def test_strict(as_user, make, runtime):
    """--rootless=false: a missing cgroup is always an error."""
    result = as_user("--rootless", "false", "run", "--bundle", make(), runtime.new_id())
    assert result.code == 1 and "cgroup" in result.said, result


# ---- from outside of the delegated cgroups, for example from a login session


def test_into_the_users_systemd(as_user, make, runtime, place, token):
    """Its manager moves processes that the runtime cannot move: init and processes of exec."""
    id = runtime.new_id()
    there = {"runtime_dir": "/run/user/1000"}
    state = ("--root", place / "state")
    changes = {"/linux/cgroupsPath": "user.slice:vm:%s" % token, "/linux/resources": {"pids": {"limit": 20}}}
    bundle = make(changes, harness.WAIT_FOR_TERM)
    try:
        for command in (["--systemd-cgroup", "create", "--bundle", bundle, id], ["start", id]):
            result = as_user(*state, *command, **there)
            assert result.code == 0, result
        group = guest.CGROUP / "user.slice/user-1000.slice/user@1000.service/user.slice" / ("vm-%s.scope" % token)
        assert guest.read(group / "pids.max") == "20" and len(guest.read(group / "cgroup.procs").split()) >= 2
        assert as_user(*state, "exec", id, "cat", "/proc/self/cgroup", **there).out == "0::/\n"
        result = as_user(*state, "mounts", "add", *TMPFS, id, **there)
        assert result.code == 0, result
        assert as_user(*state, "exec", id, "cat", "/added/file", **there).out == "copied\n"
    finally:
        assert as_user(*state, "delete", "--force", id, **there).code == 0
    assert not group.exists()


@pytest.fixture
def lent(token):
    """A cgroup that root has delegated to the user, and a command prefix that runs commands as the user in it."""
    top = guest.CGROUP / ("%s-lent" % token)
    inner = top / "inner"
    inner.mkdir(parents=True)
    (top / "cgroup.subtree_control").write_text("+pids")
    for path in (top, top / "cgroup.procs", top / "cgroup.subtree_control", inner, inner / "cgroup.procs"):
        os.chown(path, 1000, 1000)
    enter = 'echo $$ > %s/cgroup.procs; exec setpriv --reuid=1000 --regid=1000 --clear-groups -- "$@"' % inner
    yield top, ["sh", "-c", enter, "sh"]
    guest.until(lambda: not guest.read(inner / "cgroup.procs"), "being empty")
    inner.rmdir()
    top.rmdir()


@pytest.mark.parametrize("limited", [False, True])
def test_exec_from_outside(as_user, make, runtime, place, lent, limited):
    """Without limits the process stays outside, as with runc; with limits that would bypass them."""
    top, inside = lent
    id = runtime.new_id()
    changes = {"/linux/cgroupsPath": "/%s/c" % top.name, **({"/linux/resources": {"pids": {"limit": 20}}} if limited else {})}
    bundle = make(changes, harness.WAIT_FOR_TERM)
    runtime.env = {"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(place)}
    for command in (["create", "--bundle", str(bundle), id], ["start", id]):
        guest.told(*inside, runtime.path, *command, env=runtime.env)
    assert guest.told(*inside, runtime.path, "exec", id, "cat", "/proc/self/cgroup", env=runtime.env) == "0::/"
    result = as_user("exec", id, "cat", "/proc/self/cgroup")
    if limited:
        assert result.code == 255 and "cannot enter the container's cgroup from here" in result.said, result
    else:
        assert result.code == 0 and result.out.startswith("0::/../"), result
    result = as_user("mounts", "add", *TMPFS, id)
    if limited:
        assert result.code == 1 and "cannot enter the container's cgroup from here" in result.said, result
    else:
        assert result.code == 0 and as_user("exec", id, "cat", "/added/file").out == "copied\n", result
    assert as_user("delete", "--force", id).code == 0
    assert not (top / "c").exists()


def test_a_manager_that_has_gone(as_user, make, runtime, place, token):
    """The systemd of the user and its scopes end with the last session, so delete has nothing to remove there."""
    id = runtime.new_id()
    state = ("--root", place / "state")
    bundle = make({"/linux/cgroupsPath": "user.slice:vm:%s" % token}, ["true"])
    for command in (["--systemd-cgroup", "create", "--bundle", bundle, id], ["start", id]):
        result = as_user(*state, *command, runtime_dir="/run/user/1000")
        assert result.code == 0, result
    group = guest.CGROUP / "user.slice/user-1000.slice/user@1000.service/user.slice" / ("vm-%s.scope" % token)
    guest.until(lambda: not group.exists(), "the scope's end")
    hide = ["unshare", "--mount", "--", "sh", "-c", 'mount -t tmpfs none /run/user && exec "$@"', "sh", "setpriv", "--reuid=1000"]
    guest.told(*hide, "--regid=1000", "--clear-groups", "--", runtime.path, *state, "delete", id)
    guest.systemctl("--user", "--machine=user@.host", "reset-failed", check=False)
