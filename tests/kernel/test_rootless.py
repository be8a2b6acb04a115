"""Rootless on this machine: an ordinary uid in the initial user namespace, set by setpriv(1), with whatever cgroups the machine has.

The uid has no account. A private mount namespace with other /etc/passwd and /etc/subuid files provides one, with subordinate ids; the host
is not changed. All tests run the complete binary as that user.
"""

import os
import shutil
import stat
import subprocess

import pytest

import harness
from harness import ABSENT
from pyrunc.cgroup import hierarchies
from rootless_user import IDS, SUBORDINATE, UID, mapped

NO_RIGHTS = "rootless needs no limits + no cgrouppath when no permission is granted for cgroups"
NO_CGROUP = "cannot set limits: container could not join or create cgroup"  # v1, where the user may own one hierarchy but not another

pytestmark = pytest.mark.kernel


# ---- life


def test_what_spec_writes_runs(rootless, make):
    result = rootless.run(make(args=["sh", "-c", "id -u; cat /proc/self/uid_map /proc/self/setgroups; hostname"]))
    assert result.out.split() == ["0", "0", str(UID), "1", "deny", "pyrunc"] and result.err == "", result


def test_the_profile_of_spec_runs(rootless, make):
    made = make(args=["sh", "-c", "id -u; grep Seccomp: /proc/self/status; cat /proc/self/uid_map"], words=("--profile", "rootless"))
    result = rootless.run(made)
    assert result.out.split() == ["0", "Seccomp:", "2", "0", str(UID), "1"] and result.err == "", result


def test_life(rootless, make):
    id = rootless.create(make(args=harness.WAIT_FOR_TERM))
    state = rootless.state(id)
    assert state["status"] == "created" and os.stat("/proc/%d" % state["pid"]).st_uid == UID
    rootless.start(id)
    assert rootless.status(id) == "running"
    assert rootless.ok("exec", id, "sh", "-c", "id -u; echo $$ > /dev/null").out == "0\n"
    assert rootless.call("exec", id, "sh", "-c", "exit 9").code == 9
    assert "sleep" in rootless.ok("ps", id).out
    rootless.stopped(id, "TERM")
    rootless.delete(id)
    assert rootless.call("state", id).code == 1


def test_a_running_container_is_deleted_by_force(rootless, make):
    id = rootless.started(make(args=harness.WAIT_FOR_TERM))
    assert rootless.call("delete", id).code == 1
    rootless.delete(id, "--force")


def test_the_default_state_root(rootless, make, home):
    """Below XDG_RUNTIME_DIR, with the sticky bit: otherwise systemd-tmpfiles would remove it."""
    id = rootless.new_id()
    argv = [*IDS, rootless.path]
    subprocess.run(
        [*argv, "create", "--bundle", make(), id], env=rootless.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True
    )
    info = os.stat(home / "pyrunc")
    assert stat.S_IMODE(info.st_mode) == 0o1700 and info.st_uid == UID
    assert stat.S_IMODE(os.stat(home / "pyrunc" / id).st_mode) == 0o700
    subprocess.run([*argv, "delete", "--force", id], env=rootless.env, check=True)
    without = subprocess.run([*argv, "state", id], env={"PATH": "/usr/bin"}, capture_output=True, text=True, check=False)
    assert without.returncode == 1 and "XDG_RUNTIME_DIR is not set" in without.stderr


def test_the_state_of_another_user(rootless, runtime, make, scratch):
    """Nothing is created in a directory of root."""
    folder = scratch / "of-root"
    folder.mkdir(mode=0o755)
    argv = [*IDS, runtime.path, "--root", folder / "state", "create", "--bundle", make(), rootless.new_id()]
    result = subprocess.run(argv, env=rootless.env, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and "cannot make the state root" in result.stderr, result


# ---- ids


def test_subordinate_ids(subordinate, make):
    caps = {"/process/capabilities/%s" % kind: ["CAP_CHOWN"] for kind in ("bounding", "effective", "permitted")}
    script = "touch /made; chown 5:7 /made; stat -c %u:%g /made; cat /proc/self/uid_map; cat /proc/self/setgroups"
    bundle = make({**mapped(), **caps, "/root/readonly": False}, ["sh", "-c", script])
    result = subordinate.run(bundle)
    assert result.out.split() == ["5:7", "0", str(UID), "1", "1", str(SUBORDINATE), "65536", "allow"], result
    info = os.stat(bundle.rootfs / "made")
    assert (info.st_uid, info.st_gid) == (SUBORDINATE + 4, SUBORDINATE + 6)


def test_another_user_inside(subordinate, make):
    id = subordinate.started(make({**mapped(), "/process/user": {"uid": 33, "gid": 44}}, harness.WAIT_FOR_TERM))
    assert os.stat("/proc/%d" % subordinate.state(id)["pid"]).st_uid == SUBORDINATE + 32
    assert subordinate.ok("exec", id, "sh", "-c", "id -u; id -g").out == "33\n44\n"
    assert subordinate.ok("exec", "--user", "0:0", id, "id", "-u").out == "0\n"
    subordinate.delete(id, "--force")


def test_ids_that_do_not_belong_to_the_user(rootless, make):
    if shutil.which("newuidmap") is None:
        pytest.skip("not installed: uidmap")
    result = rootless.run(make(mapped()))
    assert result.code == 1 and "/newuidmap" in result.said and "does /etc/subuid give this user these ids?" in result.said, result


def test_without_the_programs(rootless, make, home):
    """Without newuidmap only the caller's own id can be mapped, and the error says what is missing."""
    hide = 'mount --bind /dev/null "$0" && exec "$@"'
    tool = shutil.which("newuidmap", path="/usr/bin:/bin") or pytest.skip("not installed: uidmap")
    rootless.prefix = ["unshare", "--mount", "--", "sh", "-c", hide, tool, *IDS]
    result = rootless.run(make(mapped()))
    assert result.code == 1 and "need newuidmap" in result.said and "install the package uidmap" in result.said, result
    assert rootless.run(make(args=["id", "-u"])).out == "0\n"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"/process/user": {"uid": 5, "gid": 0}}, "cannot setuid to unmapped uid 5"),
        ({"/process/user": {"uid": 0, "gid": 6}}, "cannot setgid to unmapped gid 6"),
        ({"/process/user/additionalGids": [0]}, "cannot set any additional groups in a rootless container"),
        ({"/linux/uidMappings/0/hostID": 0}, "uid_map"),
        ({"/linux/netDevices": {"lo": {}}, "/linux/namespaces/-": {"type": "network"}}, "network devices are not supported for rootless"),
    ],
    ids=["uid", "gid", "groups", "root's id", "devices of the network"],
)
def test_operations_that_a_user_may_not_do(rootless, make, changes, words):
    result = rootless.run(make(changes))
    assert result.code == 1 and (words in result.said or "newuidmap" in result.said and words == "uid_map"), result


def test_without_a_user_namespace(rootless, make):
    kinds = [{"type": t} for t in ("pid", "ipc", "uts", "mount")]
    result = rootless.run(make({"/linux/namespaces": kinds, "/linux/uidMappings": ABSENT, "/linux/gidMappings": ABSENT}))
    assert result.code == 1 and "rootless container requires user namespaces" in result.said, result


def test_a_lower_oom_score_is_refused(rootless, make):
    result = rootless.run(make({"/process/oomScoreAdj": -900}))
    assert result.code == 1 and "/process/oomScoreAdj" in result.said, result


# ---- mounts and devices


def test_mounts(rootless, make, home):
    (home / "in").write_text("from outside\n")
    bind = {"destination": "/data", "type": "bind", "source": str(home), "options": ["bind", "ro"]}
    script = "cat /data/in; touch /data/x; grep -c ' /proc ' /proc/mounts; echo x >/dev/shm/y; cat /dev/shm/y; touch /z"
    result = rootless.run(make({"/mounts/-": bind}, ["sh", "-c", script]))
    assert result.out.splitlines() == ["from outside", "1", "x"] and result.err.count("Read-only file system") == 2, result


def test_a_source_that_root_alone_may_enter(rootless, make, scratch):
    closed = scratch / "closed"
    closed.mkdir(mode=0o700, exist_ok=True)
    (closed / "in").mkdir(exist_ok=True)
    bind = {"destination": "/data", "type": "bind", "source": str(closed / "in"), "options": ["bind"]}
    result = rootless.run(make({"/mounts/-": bind}))
    assert result.code == 1 and str(closed / "in") in result.said and "EACCES" in result.said, result


def test_a_new_network_namespace(rootless, make):
    bundle = make({"/linux/namespaces/-": {"type": "network"}}, ["sh", "-c", "ls /sys/class/net; cat /sys/class/net/lo/operstate"])
    for mount in bundle.config["mounts"]:
        if mount["destination"] == "/sys":
            mount.update(type="sysfs", source="sysfs", options=["nosuid", "noexec", "nodev", "ro"])
    assert rootless.run(bundle.write()).out == "lo\nunknown\n"


def test_usual_devices_are_bound(rootless, make):
    script = "echo x >/dev/null && head -c 2 /dev/zero | wc -c; for d in full random urandom tty; do stat -c %t:%T /dev/$d; done"
    result = rootless.run(make(args=["sh", "-c", script + "; grep -c -e ' /dev/null ' -e ' /dev/zero ' /proc/mounts"]))
    assert result.out.split() == ["2", "1:7", "1:8", "1:9", "5:0", "2"], result


def test_further_devices_are_bound(rootless, make):
    kmsg = {"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}
    result = rootless.run(make({"/linux/devices": [kmsg]}, ["stat", "-c", "%t:%T", "/dev/kmsg"]))
    assert result.out == "1:b\n", result
    result = rootless.run(make({"/linux/devices": [{**kmsg, "path": "/dev/nothing"}]}))
    assert result.code == 1 and "/dev/nothing" in result.said, result


def test_a_rootfs_of_another_user(rootless, make):
    """Files of root appear as those of nobody and are readable; the kernel refuses to write to them."""
    bundle = make({"/root/readonly": False}, ["sh", "-c", "stat -c %u /bin/busybox; touch /etc/x"])
    subprocess.run(["chown", "-R", "-h", "0:0", bundle.rootfs], check=True)
    result = rootless.run(bundle)
    assert result.out == "65534\n" and "Permission denied" in result.err, result


def test_hooks_are_the_users(rootless, make, home):
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "id -u >> %s/told" % home]}
    result = rootless.run(make({"/hooks": {"createRuntime": [hook], "poststop": [hook]}}))
    assert result.code == 0 and (home / "told").read_text().split() == [str(UID)] * 2, result


def test_a_filter(rootless, make):
    rules = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}
    for nnp in (True, False):
        bundle = make({"/linux/seccomp": rules, "/process/noNewPrivileges": nnp}, ["sh", "-c", "mkdir /tmp/x"])
        assert "Function not implemented" in rootless.run(bundle).err


# ---- cgroups: none of them belongs to the user


@pytest.mark.parametrize(
    "changes",
    [
        {"/linux/resources": {"memory": {"limit": 1 << 26}}},
        {"/linux/resources": {"pids": {"limit": 5}}},
        {"/linux/cgroupsPath": "/somewhere"},
        {"/linux/cgroupsPath": "below"},
    ],
    ids=["memory", "pids", "absolute path", "relative path"],
)
def test_limits_that_are_impossible(rootless, make, changes):
    result = rootless.run(make(changes))
    assert result.code == 1 and (NO_RIGHTS in result.said or NO_CGROUP in result.said) and "delegated" in result.said, result


def test_without_limits_there_is_no_cgroup(rootless, make):
    id = rootless.started(make(args=harness.WAIT_FOR_TERM))
    with open("/proc/%d/cgroup" % rootless.state(id)["pid"]) as one, open("/proc/self/cgroup") as other:
        assert one.read() == other.read()
    for command in (["pause"], ["update", "--memory", "64m"]):
        result = rootless.call(*command, id)
        assert result.code == 1 and "cgroup" in result.said, result
    rootless.delete(id, "--force")


def test_device_rules_are_beyond_us(rootless, make):
    """Callers always send `deny all`; the devices are bound from the host one by one anyway."""
    assert rootless.run(make({"/linux/resources": {"devices": [{"allow": False, "access": "rwm"}]}})).code == 0


def test_delegated_by_hand(rootless, make, token):
    """A cgroup that was delegated to the user, with only the pids controller on v1, can have limits."""
    layout = hierarchies.layout()
    if "pids" not in layout.mounts:
        pytest.skip("this machine's pids controller is not one of cgroup v1")
    top = "%s/%s-user" % (layout.mounts["pids"][0], token)
    os.mkdir(top)
    try:
        os.chown(top, UID, UID)
        result = rootless.run(make({"/linux/cgroupsPath": "/%s-user/a" % token, "/linux/resources": {"pids": {"limit": 5}}}))
        assert result.code == 0 or NO_RIGHTS in result.said, result
    finally:
        os.rmdir(top)


def test_as_strict_as_root(rootless, make):
    """--rootless=false: a missing cgroup is always an error."""
    result = rootless.run(make(), globals=("--rootless", "false"))
    assert result.code == 1 and "cgroup" in result.said, result


@pytest.mark.parametrize(("options", "ours"), [([], False), (["--pid", "--fork", "--mount-proc"], True)], ids=["the host's", "our own"])
def test_which_systemd_is_used(options, ours):
    """root in podman's user namespace uses the systemd of the user; root in a system container uses the one that is its pid 1."""
    code = "from pyrunc.cgroup import hierarchies; print(hierarchies.pid_1_is_in_our_userns())"
    argv = ["unshare", "--user", "--map-root-user", *options, "/usr/bin/python3", "-c", code]
    done = subprocess.run(argv, env={"PYTHONPATH": str(harness.ROOT / "runtime")}, capture_output=True, text=True, check=True)
    assert done.stdout == "%s\n" % ours
