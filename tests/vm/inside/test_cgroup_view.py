"""The container's view of cgroup v2: namespace and mount, as with runc; the cgroups that it may change; the cgroup of exec."""

import os

import pytest

import guest
import harness
from guest import read

KINDS = ("pid", "network", "ipc", "uts", "mount")
SCRIPT = "cat /proc/self/cgroup; grep ' /sys/fs/cgroup ' /proc/self/mountinfo; ls /sys/fs/cgroup | sort | tr '\\n' ' '"


def mounted(*options):
    return {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", *options]}


def view(changes=(), cgroup=True, options=("relatime", "ro")):
    kinds = [{"type": t} for t in KINDS + (("cgroup",) if cgroup else ())]
    return {"/linux/namespaces": kinds, "/mounts/-": mounted(*options), **dict(changes)}


def seen(result, id):
    """(own cgroup, mount as (root, point, options, type), files) without values that contain the container's name."""
    assert result.code == 0, result
    own, mount, files = result.out.replace(id, "ID").split("\n", 2)
    fields = mount.split()
    kind = fields[fields.index("-") + 1]
    return own, (fields[3], fields[4], fields[5], kind), files


@pytest.mark.vm_short("ro-own namespace")
@pytest.mark.parametrize("namespace", [True, False], ids=["own namespace", "host's namespace"])
@pytest.mark.parametrize("options", [("relatime", "ro"), ("rw",), ("ro", "rprivate")], ids=["ro", "rw", "private"])
def test_as_under_runc(runtime, runc, make_bundle, driver, namespace, options):
    changes = {**view(cgroup=namespace, options=options), "/linux/cgroupsPath": driver.path()}
    bundle = make_bundle(changes, args=["/bin/sh", "-c", SCRIPT])
    place = changes["/linux/cgroupsPath"].rpartition(":")[2]
    ours = seen(runtime.run(bundle, globals=driver.globals), place)
    theirs = seen(runc.run(bundle, globals=driver.globals), place)
    assert ours == theirs


@pytest.mark.parametrize("kind", ["cgroup", "cgroup2"])
def test_both_names_of_the_mount(ran, kind):
    result = ran({**view(), "/mounts/5/type": kind}, ["/bin/sh", "-c", SCRIPT])
    assert result.code == 0 and result.out.startswith("0::/\n") and " - cgroup2 " in result.out, result


def test_own_namespace_begins_at_the_container(started, runtime):
    id, _pid, group = started(view())
    assert runtime.ok("exec", id, "cat", "/proc/self/cgroup").out == "0::/\n"
    assert runtime.ok("exec", id, "cat", "/sys/fs/cgroup/cgroup.procs").out.split()[0] == "1"
    assert runtime.ok("exec", id, "sh", "-c", "echo 1 > /sys/fs/cgroup/cgroup.freeze || echo refused").out == "refused\n"


# ---- delegation


@pytest.mark.vm_short("cgroupfs")
def test_a_writable_mount_gives_the_cgroup_away(started, runtime):
    id, _pid, group = started(view({"/process/user": {"uid": 1234, "gid": 1234}}, options=("rw",)))
    listed = read("/sys/kernel/cgroup/delegate").split()
    owners = {name: os.stat(group / name).st_uid for name in os.listdir(group) if (group / name).is_file()}
    assert os.stat(group).st_uid == 1234
    assert {name for name, uid in owners.items() if uid == 1234} == set(listed) & set(owners)
    assert "cgroup.procs" in listed and owners["memory.max"] == 0
    script = "mkdir /sys/fs/cgroup/mine && echo $$ > /sys/fs/cgroup/mine/cgroup.procs && cat /proc/self/cgroup"
    result = runtime.call("exec", id, "sh", "-c", script)
    assert result.out == "0::/mine\n", result
    assert runtime.call("exec", id, "sh", "-c", "echo 5 > /sys/fs/cgroup/pids.max").code != 0


@pytest.mark.parametrize(("namespace", "options"), [(True, ("ro",)), (False, ("rw",))], ids=["read-only", "no namespace"])
def test_else_it_stays_roots(started, namespace, options):
    _id, _pid, group = started(view({"/process/user": {"uid": 1234, "gid": 1234}}, namespace, options))
    assert os.stat(group).st_uid == 0 and os.stat(group / "cgroup.procs").st_uid == 0


@pytest.mark.vm_short("systemd")
def test_roots_of_user_namespaces_get_theirs(started, runtime):
    changes = view(options=("rw",))
    changes["/linux/namespaces"] = [*changes["/linux/namespaces"], {"type": "user"}]
    changes["/linux/uidMappings"] = changes["/linux/gidMappings"] = [{"containerID": 0, "hostID": 300000, "size": 65536}]
    id, _pid, group = started(changes)
    assert os.stat(group).st_uid == 300000 and os.stat(group / "cgroup.procs").st_uid == 300000
    script = "cd /sys/fs/cgroup; mkdir leaf; for p in $(cat cgroup.procs); do echo $p > leaf/cgroup.procs; done 2>/dev/null;"
    script += " echo +pids > cgroup.subtree_control; cat cgroup.subtree_control"
    result = runtime.call("exec", id, "sh", "-c", script)
    assert "pids" in result.out, result
    # by now, init and its children are in a cgroup below the container's, and so is exec
    assert runtime.ok("exec", id, "cat", "/proc/self/cgroup").out == "0::/leaf\n"


# ---- exec


@pytest.mark.vm_short("cgroupfs")
def test_exec_is_born_in_the_containers_cgroup(started, runtime):
    id, pid, group = started({"/linux/resources": {"pids": {"limit": 20}}})
    outside = runtime.ok("exec", id, "cat", "/proc/self/cgroup").out.strip().rpartition("::")[2]
    assert outside == "/" + str(group.relative_to(guest.CGROUP))


def test_exec_counts_for_the_limits(started, runtime):
    id, _pid, _group = started({"/linux/resources": {"pids": {"limit": 5}}})
    result = runtime.call("exec", id, "sh", "-c", "for i in 1 2 3 4 5 6; do sleep 1000 & done")
    assert "can't fork" in result.err, result


def test_exec_below(started, runtime):
    id, _pid, group = started()
    (group / "below").mkdir()
    assert runtime.ok("exec", "--cgroup", "below", id, "cat", "/proc/self/cgroup").out.strip().endswith(group.name + "/below")
    result = runtime.call("exec", "--cgroup", "../..", id, "true")
    assert result.code == 255 and "cgroup" in result.said
    (group / "below").rmdir()


def test_exec_where_init_has_moved(started, runtime):
    """A cgroup whose children have controllers must not contain processes, so systemd in a container moves itself."""
    id, pid, group = started()
    (group / "leaf").mkdir()
    (group / "leaf/cgroup.procs").write_text("%d" % pid)
    for process in read(group / "cgroup.procs").split():
        (group / "leaf/cgroup.procs").write_text(process)
    (group / "cgroup.subtree_control").write_text("+pids")
    assert runtime.ok("exec", id, "cat", "/proc/self/cgroup").out.strip().endswith(group.name + "/leaf")


# ---- paths of the cgroupfs driver


def test_relative_paths_are_next_to_us(runtime, make_bundle, token, no_leaks):
    own = guest.cgroup_of(os.getpid())
    for path, place in ((token + "-r", own.parent / (token + "-r")), (token + "-x/y", own.parent / (token + "-x/y"))):
        id = runtime.create(make_bundle({"/linux/cgroupsPath": path}))
        assert guest.cgroup_of(runtime.state(id)["pid"]) == place
        runtime.delete(id, "--force")
        assert not place.exists()


def test_without_a_path_it_is_next_to_us(runtime, make_bundle, no_leaks):
    bundle = make_bundle()
    bundle.patch({"/linux/cgroupsPath": harness.ABSENT})
    id = runtime.create(bundle)
    assert guest.cgroup_of(runtime.state(id)["pid"]) == guest.cgroup_of(os.getpid()).parent / id
    runtime.delete(id, "--force")


def test_a_cgroup_that_is_in_use(runtime, make_bundle, driver, no_leaks):
    path = driver.path()
    id = runtime.create(make_bundle({"/linux/cgroupsPath": path}), globals=driver.globals)
    result = runtime.call("create", "--bundle", make_bundle({"/linux/cgroupsPath": path}), runtime.new_id(), globals=driver.globals)
    assert result.code == 1 and "container's cgroup is not empty" in result.said, result
    assert runtime.status(id) == "created"
    runtime.delete(id, "--force")


def test_no_cgroup_at_all(runtime, make_bundle, no_leaks):
    result = runtime.run(make_bundle(args=["/bin/cat", "/proc/self/cgroup"]), globals=("--cgroup-manager", "disabled"))
    assert result.out.strip() == "0::/" + str(guest.cgroup_of(os.getpid()).relative_to(guest.CGROUP)), result
