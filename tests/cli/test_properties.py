"""What the program sees of properties that need a separate container: mounts, devices, limits, namespaces and others. As in
test_inside.py, each test only checks effects."""

import os

import pytest

import harness
import hoststate

pytestmark = pytest.mark.kernel


def output(runtime, make_bundle, changes, script, **kw):
    result = runtime.run(make_bundle(changes, args=["/bin/sh", "-c", script], **kw))
    assert result.code == 0, result
    return result.out


def test_root_user_without_capabilities(runtime, make_bundle):
    text = output(runtime, make_bundle, {}, "grep ^Cap /proc/self/status")
    assert {line.split()[1] for line in text.splitlines()} == {"0" * 16}


def test_no_capability_for_a_user_without_ambient(runtime, make_bundle):
    """CVE-2016-8867: uid 1000 with only a bounding set has no capabilities."""
    names = ["CAP_KILL", "CAP_SYS_ADMIN", "CAP_NET_RAW"]
    changes = {
        "/process/user": {"uid": 1000, "gid": 1000},
        "/process/capabilities": {k: names for k in ("bounding", "effective", "permitted")},
    }
    text = output(runtime, make_bundle, changes, "grep -E '^Cap(Inh|Prm|Eff|Amb)' /proc/self/status")
    assert {line.split()[1] for line in text.splitlines()} == {"0" * 16}


def test_umask(runtime, make_bundle):
    changes = {"/process/user": {"uid": 0, "gid": 0, "umask": 0o77}}
    assert output(runtime, make_bundle, changes, "umask; touch /x; stat -c %a /x") == "0077\n600\n"


def test_readonly_root(runtime, make_bundle):
    text = output(runtime, make_bundle, {"/root/readonly": True}, "touch /x || echo refused; touch /dev/shm/x && echo open")
    assert text == "refused\nopen\n"


def test_root_can_be_written(runtime, make_bundle):
    bundle = make_bundle(args=["/bin/sh", "-c", "echo inside > /made"])
    assert runtime.run(bundle).code == 0
    assert (bundle.rootfs / "made").read_text() == "inside\n"


def test_bind_mounts(runtime, make_bundle, tmp_path):
    """A directory, a file, read-only, and below a path that did not exist."""
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir/file").write_text("from outside\n")
    bind = lambda to, source, *o: {"destination": to, "type": "bind", "source": str(tmp_path / source), "options": ["rbind", *o]}  # noqa: E731
    mounts = [
        *harness.BASE["mounts"],
        bind("/new/deep", "dir"),
        bind("/single", "dir/file", "ro"),
        bind("/tmp", "dir", "ro", "nosuid", "nodev", "noexec"),
    ]
    script = (
        "cat /new/deep/file /single; echo x > /new/deep/written; touch /tmp/y || echo refused; echo x > /single || echo refused; "
        "grep ' /tmp ' /proc/self/mountinfo"
    )
    text = output(runtime, make_bundle, {"/mounts": mounts}, script)
    assert text.startswith("from outside\nfrom outside\nrefused\nrefused\n")
    assert "ro,nosuid,nodev,noexec" in text
    assert (tmp_path / "dir/written").read_text() == "x\n"


def test_recursive_read_only(runtime, make_bundle, tmp_path):
    """`rro` reaches the mounts below; `ro` does not."""
    import subprocess

    if runtime.name == "crun":
        pytest.skip("crun 1.21 supports rro in another form")
    (tmp_path / "top").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path / "top"], check=True)
    try:
        (tmp_path / "top/below").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path / "top/below"], check=True)
        bind = lambda to, option: {"destination": to, "type": "bind", "source": str(tmp_path / "top"), "options": ["rbind", option]}  # noqa: E731
        mounts = [*harness.BASE["mounts"], bind("/soft", "ro"), bind("/hard", "rro")]
        script = "touch /soft/x || echo 1; touch /soft/below/x && echo 2; touch /hard/x || echo 3; touch /hard/below/x || echo 4"
        assert output(runtime, make_bundle, {"/mounts": mounts}, script).split() == ["1", "2", "3", "4"]
    finally:
        subprocess.run(["umount", "-R", tmp_path / "top"], check=True)


def test_tmpcopyup(runtime, make_bundle):
    mounts = [*harness.BASE["mounts"], {"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "nodev"]}]
    bundle = make_bundle(
        {"/mounts": mounts}, args=["/bin/sh", "-c", "head -c 4 /etc/passwd; echo x > /etc/passwd; grep -c ' /etc ' /proc/self/mountinfo"]
    )
    before = (bundle.rootfs / "etc/passwd").read_text()
    assert runtime.run(bundle).out == "root1\n"
    assert (bundle.rootfs / "etc/passwd").read_text() == before


def test_mounts_do_not_reach_the_host(runtime, make_bundle):
    before = open("/proc/self/mountinfo").read().splitlines()
    mounts = [*harness.BASE["mounts"], {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}]
    bundle = make_bundle({"/mounts": mounts}, args=harness.WAIT_FOR_TERM)
    id = runtime.started(bundle)
    assert not [line for line in open("/proc/self/mountinfo").read().splitlines() if str(bundle.path) in line]
    runtime.ok("delete", "--force", id)
    assert not [line for line in set(open("/proc/self/mountinfo").read().splitlines()) - set(before) if str(bundle.path) in line]


def test_devices_of_the_config(runtime, make_bundle):
    devices = [
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 4},
        {"path": "/dev/sub/dir/null2", "type": "c", "major": 1, "minor": 3},
        {"path": "/dev/pipe", "type": "p"},
    ]
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "rw"}]
    script = "stat -c '%F %a %u %g %t %T' /dev/mine /dev/sub/dir/null2 /dev/pipe; head -c 2 /dev/mine | wc -c"
    capabilities = {k: ["CAP_DAC_OVERRIDE"] for k in ("bounding", "effective", "permitted")}
    changes = {"/linux/devices": devices, "/linux/resources": {"devices": rules}, "/process/capabilities": capabilities}
    text = output(runtime, make_bundle, changes, script)
    first, second, third, count = text.splitlines()
    assert first == "character special file 640 3 4 1 5"
    assert second.startswith("character special file") and second.endswith("1 3")
    assert third.startswith("fifo") and count == "2"


def test_device_rules_deny_by_default(runtime, make_bundle):
    """Without rules, or with an empty list, only the usual nodes are allowed."""
    names = ["CAP_MKNOD"]
    capabilities = {k: names for k in ("bounding", "effective", "permitted")}
    script = "mknod /m c 1 1 && head -c 1 /m || echo refused; head -c 1 /dev/zero | wc -c; echo x > /dev/null && echo fine"
    for resources in ({}, {"devices": []}, {"devices": [{"allow": False, "access": "rwm"}]}):
        text = output(runtime, make_bundle, {"/process/capabilities": capabilities, "/linux/resources": resources}, script)
        assert text.split() == ["refused", "1", "fine"], resources


def test_limits_of_the_cgroup(runtime, make_bundle):
    resources = {"memory": {"limit": 67108864}, "pids": {"limit": 17}, "cpu": {"shares": 512, "quota": 50000, "period": 100000}}
    bundle = make_bundle({"/linux/resources": resources}, args=harness.WAIT_FOR_TERM)
    runtime.started(bundle)
    path = bundle.config["linux"]["cgroupsPath"]
    found = {}
    for top in ("memory", "pids", "cpu", "", "unified"):
        folder = hoststate.CGROUP / top / path.lstrip("/")
        for name in ("memory.limit_in_bytes", "memory.max", "pids.max", "cpu.shares", "cpu.cfs_quota_us", "cpu.max"):
            if (folder / name).exists():
                found[name] = (folder / name).read_text().strip()
    assert found.get("memory.limit_in_bytes", found.get("memory.max")) == "67108864"
    assert found["pids.max"] == "17"
    assert found.get("cpu.shares", "512") == "512" and found.get("cpu.cfs_quota_us", "50000") == "50000"


def test_user_namespace(runtime, make_bundle):
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    namespaces = [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "user")]
    changes = {"/linux/namespaces": namespaces, "/linux/uidMappings": mapping, "/linux/gidMappings": mapping}
    bundle = make_bundle(
        changes,
        args=[
            "/bin/sh",
            "-c",
            "cat /proc/self/uid_map /proc/self/gid_map; id -u; echo x > /dev/null && ls -ln /dev/null; cat /proc/self/setgroups",
        ],
    )
    bundle.rootfs.parent.chmod(0o755)
    result = runtime.run(bundle)
    assert result.code == 0, result
    words = result.out.split()
    assert words[:6] == ["0", "100000", "65536"] * 2 and words[6] == "0"
    assert "1,3" in result.out.replace(" ", "")


def test_message_queues_belong_to_the_containers_root(runtime, make_bundle):
    """The creator of the ipc namespace owns their file system; if that was created outside of the user namespace, the owner is nobody."""
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    changes = {
        "/linux/namespaces": [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "user")],
        "/linux/uidMappings": mapping,
        "/linux/gidMappings": mapping,
        "/mounts/-": {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
    }
    bundle = make_bundle(changes, args=["/bin/stat", "-c", "%a %u", "/dev/mqueue"])
    bundle.rootfs.parent.chmod(0o755)
    assert runtime.run(bundle).out == "1777 0\n"


def test_joined_namespaces(runtime, make_bundle, waiting):
    """A second container in the network, ipc and uts namespaces of the first one, as in a pod."""
    first = runtime.started(waiting)
    pid = runtime.state(first)["pid"]
    names = {"network": "net", "ipc": "ipc", "uts": "uts"}
    namespaces = [{"type": "pid"}, {"type": "mount"}] + [{"type": k, "path": "/proc/%d/ns/%s" % (pid, v)} for k, v in names.items()]
    changes = {"/linux/namespaces": namespaces, "/hostname": harness.ABSENT}
    text = output(runtime, make_bundle, changes, "for n in net ipc uts pid mnt; do readlink /proc/self/ns/$n; done; hostname")
    lines = text.split()
    for name, link in zip(("net", "ipc", "uts"), lines, strict=False):
        assert link == os.readlink("/proc/%d/ns/%s" % (pid, name))
    assert lines[3] != os.readlink("/proc/%d/ns/pid" % pid) and lines[5] == "tested"


def test_joined_pid_namespace(runtime, make_bundle, waiting):
    first = runtime.started(waiting)
    pid = runtime.state(first)["pid"]
    namespaces = [
        {"type": "mount"},
        {"type": "uts"},
        {"type": "ipc"},
        {"type": "network"},
        {"type": "pid", "path": "/proc/%d/ns/pid" % pid},
    ]
    text = output(runtime, make_bundle, {"/linux/namespaces": namespaces}, "tr '\\0' ' ' < /proc/1/cmdline; echo; echo $$")
    first_line, own = text.splitlines()
    assert "sleep 1000" in first_line and own != "1"


def test_cgroup_namespace(runtime, make_bundle):
    """It is created when the process is in its final cgroup, so inside, the path is /."""
    namespaces = [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "cgroup")]
    text = output(runtime, make_bundle, {"/linux/namespaces": namespaces}, "cat /proc/self/cgroup")
    assert {line.split(":", 2)[2] for line in text.splitlines()} == {"/"}


def test_seccomp_rules(runtime, make_bundle):
    """All arguments of a rule must match (CVE-2017-18367); the errno is the requested one; unknown names are skipped."""
    rules = [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
        {"names": ["no_such_system_call"], "action": "SCMP_ACT_ERRNO"},
        {
            "names": ["kill"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 1,
            "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 0, "op": "SCMP_CMP_EQ"}],
        },
    ]
    changes = {"/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules}}
    text = output(runtime, make_bundle, changes, "mkdir /x 2>&1; kill -0 1 2>&1; kill -CONT 1 && echo sent; true")
    lines = text.splitlines()
    assert "No space left" in lines[0]
    assert "not permitted" in lines[1]
    assert lines[2] == "sent"


def test_cwd_is_made(runtime, make_bundle):
    assert output(runtime, make_bundle, {"/process/cwd": "/no/such/place"}, "pwd; stat -c '%a %u' .") == "/no/such/place\n755 0\n"


def test_cwd_of_the_user(runtime, make_bundle):
    bundle = make_bundle({"/process/cwd": "/private", "/process/user": {"uid": 1000, "gid": 1000}}, args=["/bin/sh", "-c", "pwd"])
    (bundle.rootfs / "private").mkdir(mode=0o700)
    os.chown(bundle.rootfs / "private", 1000, 1000)
    assert runtime.run(bundle).out == "/private\n"


def test_path_of_the_container(runtime, make_bundle):
    """The program is searched in the container's PATH, inside the container's root."""
    bundle = make_bundle({"/process/env": ["PATH=/opt/own:/bin"]}, args=["own-program"])
    (bundle.rootfs / "opt/own").mkdir(parents=True)
    (bundle.rootfs / "opt/own/own-program").write_text("#!/bin/sh\necho own\n")
    (bundle.rootfs / "opt/own/own-program").chmod(0o755)
    assert runtime.run(bundle).out == "own\n"


def test_limits_only_affect_the_program(pyrunc, make_bundle):
    """RLIMIT_NOFILE 3, FSIZE 0 and NPROC 1 apply to the program and do not affect our setup (they do affect that of runc and crun)."""
    for kind, value in (("RLIMIT_NOFILE", 3), ("RLIMIT_FSIZE", 0), ("RLIMIT_NPROC", 1)):
        changes = {"/process/rlimits": [{"type": kind, "soft": value, "hard": value}]}
        result = pyrunc.run(make_bundle(changes, args=["/bin/true"]))
        assert result.code == 0, result


def test_domainname(pyrunc, make_bundle):
    assert output(pyrunc, make_bundle, {"/domainname": "example.org"}, "cat /proc/sys/kernel/domainname") == "example.org\n"


def test_scheduler(pyrunc, make_bundle):
    """Fields 41 and 19 in stat: policy and nice."""
    changes = {"/process/scheduler": {"policy": "SCHED_BATCH", "nice": 7}}
    fields = output(pyrunc, make_bundle, changes, "cat /proc/1/stat").rpartition(")")[2].split()
    assert (fields[38], fields[16]) == ("3", "7")


def test_io_priority(pyrunc, make_bundle):
    changes = {"/process/ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6}}
    assert output(pyrunc, make_bundle, changes, "ionice -p 1").strip() in ("best-effort: prio 6", "best-effort: prio 6 ")


def test_personality(pyrunc, make_bundle):
    text = output(pyrunc, make_bundle, {"/linux/personality": {"domain": "LINUX32"}}, "uname -m")
    assert text.strip() in ("i686", "i586", "i386", "armv8l")


def test_time_namespace(pyrunc, make_bundle):
    namespaces = [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "time")]
    changes = {"/linux/namespaces": namespaces, "/linux/timeOffsets": {"boottime": {"secs": 1_000_000, "nanosecs": 0}}}
    seconds = float(output(pyrunc, make_bundle, changes, "cat /proc/uptime").split()[0])
    with open("/proc/uptime") as file:
        assert 1_000_000 - 60 < seconds - float(file.read().split()[0]) < 1_000_000 + 60


def test_memory_policy(pyrunc, make_bundle):
    changes = {"/linux/memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0"}}
    assert "bind:0" in output(pyrunc, make_bundle, changes, "cat /proc/self/numa_maps")


def test_annotations_change_nothing(runtime, make_bundle, tmp_path):
    output_file = tmp_path / "stdout"
    notes = {"org.example.command": "/bin/false", "run.oci.hooks.stdout": str(output_file), "io.podman.annotations.privileged": "TRUE"}
    assert output(runtime, make_bundle, {"/annotations": notes}, "echo fine") == "fine\n"
    assert not output_file.exists()
