"""What the program sees from inside, compared with its config.json: one container that sets everything, and one test for each property.

Each test only checks effects (files in /proc and /sys, system calls of busybox), so it applies to any runtime. If an older runc or crun lacks
a property, the test is skipped with that reason.
"""

import os
import re

import pytest

import harness

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
