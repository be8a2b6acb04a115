"""What the program sees from inside, compared with its config.json: one container that sets everything, and one test for each property.

Each test only checks effects (files in /proc and /sys, system calls of busybox), so it applies to any runtime. If an older runc or crun lacks
a property, the test is skipped with that reason.
"""

import os
import re

import pytest

import harness
import hoststate

pytestmark = pytest.mark.kernel

SECTION = "=====%s"
QUESTIONS = {
    "status": "cat /proc/self/status",
    "id": "id -u; id -g; id -G",
    "env": "env",
    "cwd": "pwd",
    "umask": "umask",
    "hostname": "hostname; cat /proc/sys/kernel/domainname",
    "limits": "cat /proc/self/limits",
    "mounts": "cat /proc/self/mountinfo",
    "fds": "ls -l /proc/1/fd; true",
    "dev": "ls -ln /dev; ls -l /dev/shm /dev/pts",
    "oom": "cat /proc/self/oom_score_adj",
    "ns": "for n in mnt pid net ipc uts cgroup user; do echo $n $(readlink /proc/self/ns/$n); done",
    "cgroup": "cat /proc/self/cgroup",
    "links": "ip link show 2>/dev/null || cat /proc/net/dev",
    "sysctl": "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax",
    "masked": "cat /proc/kcore | wc -c; ls /sys/firmware | wc -l; cat /secret | wc -c; ls /hidden | wc -l",
    "readonly": "touch /fixed/x 2>&1; echo 1 > /proc/sys/kernel/msgmax 2>&1; touch /open/x && echo open",
    "stat": "cat /proc/1/stat",
    "cmdline": "tr '\\0' '|' < /proc/1/cmdline",
    "keys": "cat /proc/keys 2>&1",
    "root": "ls /; ls -l /proc/1/root",
    "pids": "for d in /proc/[0-9]*; do echo ${d#/proc/}; done",
}
CONFIG = {
    "/hostname": "inside",
    "/process/user": {"uid": 1000, "gid": 1001, "additionalGids": [7, 9, 1001]},
    "/process/cwd": "/home/user",
    "/process/env": ["PATH=/bin:/sbin", "A=1", "B=two words", "C=x=y", "D=", "A=2"],
    "/process/capabilities": {
        "bounding": ["CAP_KILL", "CAP_NET_RAW", "CAP_CHOWN"],
        "permitted": ["CAP_KILL", "CAP_NET_RAW"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"],
    },
    "/process/rlimits": [
        {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_STACK", "soft": 1048576, "hard": 2097152},
    ],
    "/process/noNewPrivileges": True,
    "/process/oomScoreAdj": 321,
    "/linux/sysctl": {"net.ipv4.ip_forward": "1", "kernel.msgmax": "77777"},
    "/linux/maskedPaths": ["/proc/kcore", "/sys/firmware", "/secret", "/hidden", "/not/there"],
    "/linux/readonlyPaths": ["/fixed", "/proc/sys", "/not/there"],
    "/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]},
    "/mounts/-": {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
}


class Inside:
    """The answers of the container, by the name of the question."""

    def __init__(self, text, bundle):
        self.bundle = bundle
        self.sections = {}
        for part in text.split("=====")[1:]:
            name, _, body = part.partition("\n")
            self.sections[name] = body

    def __getitem__(self, name):
        return self.sections[name]

    def status(self, key):
        return re.search(r"^%s:\s*(.*)$" % key, self["status"], re.M).group(1).split()

    def mount(self, destination):
        """(options of the mount, type, options of the file system) of the last mount at a path."""
        found = None
        for line in self["mounts"].splitlines():
            left, _, right = line.partition(" - ")
            if left.split()[4] == destination:
                found = (set(left.split()[5].split(",")), right.split()[0], right.split()[2].split(","))
        return found


@pytest.fixture(scope="module")
def inside(runtime_path, workshop, scratch, token, cgroup):
    """Runs a container once that answers all questions. Its program is a shell as pid 1, and its root has the paths that the config names."""
    runtime = harness.Runtime(runtime_path, scratch / "lifecycle", token + "life", cgroup)
    script = "\n".join("echo %s\n{ %s; } 2>&1" % (SECTION % name, command) for name, command in QUESTIONS.items())
    bundle = workshop.bundle(CONFIG, args=["/bin/sh", "/ask", "two words", ""], cgroup=cgroup)
    (bundle.rootfs / "ask").write_text(script)
    (bundle.rootfs / "secret").write_text("secret\n")
    (bundle.rootfs / "hidden").mkdir()
    (bundle.rootfs / "hidden/file").write_text("secret\n")
    for name in ("fixed", "open"):
        (bundle.rootfs / name).mkdir()
        (bundle.rootfs / name).chmod(0o777)
    result = runtime.run(bundle)
    assert result.code == 0, result
    yield Inside(result.out, bundle)
    runtime.clean()


def test_ids(inside):
    assert inside.status("Uid") == ["1000"] * 4
    assert inside.status("Gid") == ["1001"] * 4
    assert sorted(map(int, inside.status("Groups"))) == [7, 9, 1001]


def test_capabilities(inside):
    kill, raw, chown = 1 << 5, 1 << 13, 1 << 0
    sets = {name: int(inside.status(name)[0], 16) for name in ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb")}
    assert sets["CapBnd"] == kill | raw | chown
    assert sets["CapInh"] == sets["CapAmb"] == kill
    assert sets["CapPrm"] == sets["CapEff"] == kill  # execve as an ordinary user keeps the ambient capabilities


def test_no_new_privs_and_seccomp(inside):
    assert inside.status("NoNewPrivs") == ["1"]
    assert inside.status("Seccomp") == ["2"]


def test_environment(inside):
    """It is exactly that of the config, and the last of several variables with the same name counts; HOME is added if absent, as in runc and crun."""
    lines = inside["env"].splitlines()
    found = dict(line.partition("=")[::2] for line in lines)
    for name in ("PWD", "SHLVL", "OLDPWD", "_"):  # set by the shell
        found.pop(name, None)
    home = found.pop("HOME", None)
    assert found == {"PATH": "/bin:/sbin", "A": "2", "B": "two words", "C": "x=y", "D": ""}
    assert home in (None, "/home/user")


def test_cwd_and_umask(inside):
    assert inside["cwd"] == "/home/user\n"
    assert inside["umask"] == "0022\n"


def test_hostname(inside):
    assert inside["hostname"].splitlines()[0] == "inside"


def test_arguments(inside):
    assert inside["cmdline"] == "/bin/sh|/ask|two words||"


def limit(inside, name):
    return re.search(r"^%s\s+(\S+)\s+(\S+)" % name, inside["limits"], re.M).groups()


def test_rlimits(inside):
    assert limit(inside, "Max open files") == ("100", "200")
    assert limit(inside, "Max core file size") == ("0", "0")
    assert limit(inside, "Max stack size") == ("1048576", "2097152")


def test_rlimits_that_are_not_named(inside):
    """They are those of the caller."""
    with open("/proc/self/limits") as file:
        own = re.search(r"^Max locked memory\s+(\S+)\s+(\S+)", file.read(), re.M).groups()
    assert limit(inside, "Max locked memory") == own


def test_oom_score(inside):
    assert inside["oom"] == "321\n"


def test_namespaces(inside):
    found = dict(line.split() for line in inside["ns"].splitlines())
    for name in ("mnt", "pid", "net", "ipc", "uts"):
        assert found[name] != os.readlink("/proc/self/ns/" + name)
    for name in ("cgroup", "user"):
        assert found[name] == os.readlink("/proc/self/ns/" + name)


def test_pid_namespace(inside):
    assert inside["stat"].split()[0] == "1"
    assert "1" in inside["pids"].split() and len(inside["pids"].split()) <= 3


def test_loopback_is_up(inside):
    text = inside["links"]
    assert "lo" in text
    assert "UP" in text.partition("lo")[2] or "ip link" not in text


def test_mounts(inside):
    """The destination, type and options of every entry, in the order of the config."""
    assert inside.mount("/proc")[1] == "proc" and {"nosuid", "noexec", "nodev"} <= inside.mount("/proc")[0]
    options, kind, super_options = inside.mount("/dev")
    assert kind == "tmpfs" and "nosuid" in options and "noatime" not in options and "relatime" not in options
    assert "size=65536k" in super_options and "mode=755" in super_options
    assert inside.mount("/dev/pts")[1] == "devpts" and "gid=5" in inside.mount("/dev/pts")[2]
    assert inside.mount("/dev/shm")[1] == "tmpfs"
    assert inside.mount("/dev/mqueue")[1] == "mqueue"
    assert inside.mount("/sys")[1] == "sysfs" and "ro" in inside.mount("/sys")[0]
    places = [line.split()[4] for line in inside["mounts"].splitlines()]
    wanted = [m["destination"] for m in inside.bundle.config["mounts"]]
    assert [p for p in places if p in wanted] == wanted


def test_no_host_mounts(inside):
    for line in inside["mounts"].splitlines():
        place = line.split()[4]
        assert place == "/" or place.startswith(("/proc", "/dev", "/sys", "/secret", "/hidden", "/fixed")), line


def test_root(inside):
    assert "busybox" not in inside["root"].splitlines()
    assert {"bin", "proc", "secret"} <= set(inside["root"].split())
    assert ".old_root" not in inside["root"] and ".pivot" not in inside["root"]


def test_devices(inside):
    lines = {line.split()[-1]: line for line in inside["dev"].splitlines() if line.startswith("c")}
    for name, numbers in {"null": "1, 3", "zero": "1, 5", "full": "1, 7", "random": "1, 8", "urandom": "1, 9", "tty": "5, 0"}.items():
        line = re.sub(r",\s+", ", ", lines[name])
        assert numbers in line and line.startswith("crw-rw-rw-"), line
    for name, target in {
        "fd": "/proc/self/fd",
        "stdin": "/proc/self/fd/0",
        "stdout": "/proc/self/fd/1",
        "stderr": "/proc/self/fd/2",
        "ptmx": "pts/ptmx",
    }.items():
        assert re.search(r" %s -> /?(dev/)?%s$" % (name, target), inside["dev"], re.M), inside["dev"]


def test_descriptors(inside):
    numbers = [line.split()[8] for line in inside["fds"].splitlines() if "->" in line]
    assert set(numbers) - {"10", "11"} == {"0", "1", "2"}, inside["fds"]  # 10 and 11 belong to the shell


def test_signals(inside):
    assert inside.status("SigIgn") == inside.status("SigBlk") == ["0" * 16]


def test_sysctl(inside):
    assert inside["sysctl"].split() == ["1", "77777"]


def test_masked_paths(inside):
    """A file is empty, a directory shows nothing, and a missing path is not an error."""
    assert re.findall(r"^\d+$", inside["masked"], re.M) == ["0"] * 4, inside["masked"]
    options, kind, _ = inside.mount("/hidden")
    assert kind == "tmpfs" and "ro" in options


def test_readonly_paths(inside):
    lines = inside["readonly"].splitlines()
    assert sum("Read-only" in line for line in lines) == 2 and lines[-1] == "open", lines
    assert "ro" in inside.mount("/fixed")[0]


def test_cgroup(inside):
    """It is at cgroupsPath in each hierarchy."""
    wanted = inside.bundle.config["linux"]["cgroupsPath"]
    places = [line.split(":", 2) for line in inside["cgroup"].splitlines()]
    assert places
    for _, names, place in places:
        assert place == wanted or (names == "" and place in ("/", wanted)) or names.startswith(("misc", "rdma", "hugetlb", "net_", "perf_"))


def test_session_keyring(inside):
    """The container has its own session keyring, of which it is the possessor: 3f in the permissions."""
    if not os.path.exists("/proc/keys"):
        pytest.skip("the kernel has no keyrings")
    assert re.search(r" 3f[0-9a-f]{6} .* keyring +_ses\.", inside["keys"]), inside["keys"]


# ---- properties that need a separate container


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


def test_everything_at_once(pyrunc, make_bundle, no_leaks):
    """The bundle with every property, through its whole life."""
    bundle = make_bundle.example("everything")
    id = pyrunc.create(bundle)
    pyrunc.start(id)
    assert pyrunc.status(id) == "running"
    pyrunc.stopped(id, "TERM")
    pyrunc.delete(id)
    assert (bundle.path / "hooks.log").read_text().split() == ["prestart", "createRuntime", "poststart", "poststop"]
    assert (bundle.rootfs / "hooks.log").read_text().split() == ["createContainer"]  # the working directory of the program is the root


@pytest.mark.parametrize(
    "name",
    [
        "minimal",
        "hello",
        "userns",
        "hooks",
        "seccomp-docker",
        "podman-like",
        "kubernetes-like",
        "webserver-loopback",
        "readonly-hardened",
        "cgroup-limits",
        "joined-namespaces",
        "tmpcopyup",
    ],
)
def test_examples(runtime, make_bundle, name, no_leaks):
    """Each example runs through its whole life."""
    bundle = make_bundle.example(name)
    id = runtime.create(bundle, cwd=bundle.path)
    runtime.start(id, cwd=bundle.path)
    assert runtime.status(id) == "running"
    runtime.ok("delete", "--force", id)
