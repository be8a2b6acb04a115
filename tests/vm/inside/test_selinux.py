"""process.selinuxLabel and linux.mountLabel under SELinux, enforcing, with the policy of selinux_policy.py; and podman with --security-opt label=."""

import json
import os
import pathlib
import re
import subprocess

import pytest

import guest
import harness
from guest import IMAGE, Podman

pytestmark = pytest.mark.vm_selinux

MAPS = [{"containerID": 0, "hostID": 300000, "size": 65536}]
DOMAIN, FILE = "system_u:system_r:container_t:", "system_u:object_r:container_file_t:"
LABEL, MOUNT = DOMAIN + "s0:c1,c2", FILE + "s0:c1,c2"
OURS = "system_u:system_r:kernel_t:s0-s0:c0.c1023"
XATTR = "security.selinux"
KINDS = ("pid", "network", "ipc", "uts", "mount")


def label_of(path):
    return os.getxattr(path, XATTR, follow_symlinks=False).rstrip(b"\0").decode()


def give(tree, label):
    """Labels a tree like engines label images and volumes."""
    for top, folders, files in os.walk(tree):
        for name in [*folders, *files, ""]:
            os.setxattr(os.path.join(top, name).rstrip("/"), XATTR, label.encode(), follow_symlinks=False)


def said_by_kernel(word):
    """Lines about SELinux in the kernel log that contain a word."""
    return [
        line for line in subprocess.run(["dmesg"], capture_output=True, text=True).stdout.splitlines() if "avc:" in line and word in line
    ]


def call(runtime, *words):
    """The streams are pipes: the program may not write to files of the runtime, and SELinux would replace such descriptors."""
    argv = runtime.argv(*words)
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=runtime.env, timeout=2 * harness.WATCHDOG)
    return harness.Result(argv, done.returncode, done.stdout.replace("\0", ""), done.stderr)


def comm(pid):
    return pathlib.Path("/proc/%d/comm" % pid).read_text().strip()


def ran(runtime, bundle):
    return call(runtime, "run", "--bundle", bundle, runtime.new_id())


@pytest.fixture
def labelled(make_bundle):
    """labelled(changes, args) -> a bundle whose image has the container's label, except for /etc/secret and /etc/other."""

    def make(changes=None, label=MOUNT, **kw):
        bundle = make_bundle({"/process/selinuxLabel": LABEL, "/linux/mountLabel": MOUNT, **(changes or {})}, **kw)
        for name in ("secret", "other"):
            (bundle.rootfs / "etc" / name).write_text(name + "\n")
        give(bundle.rootfs, label)
        os.setxattr(bundle.rootfs / "etc/secret", XATTR, b"system_u:object_r:base_file_t:s0")
        os.setxattr(bundle.rootfs / "etc/other", XATTR, (FILE + "s0:c3,c4").encode())
        return bundle

    return make


def test_the_guest_enforces():
    assert guest.read("/sys/fs/selinux/enforce") == "1"
    assert guest.read("/proc/self/attr/current").rstrip("\0") == OURS


READS = "cat /proc/self/attr/current; echo; for f in hosts secret other; do cat /etc/$f >/dev/null && echo $f; done"


def test_process_label(runtime, labelled, no_leaks):
    """The program has the label, and cannot access files of another type or of other categories."""
    result = ran(runtime, labelled(args=["/bin/sh", "-c", READS]))
    lines = result.out.split()
    assert lines == [LABEL, "hosts"] and result.err.count("Permission denied") == 2, result


def test_without_a_label(runtime, labelled, no_leaks):
    """The same image without a label: the program is in the domain of the runtime and can read everything."""
    bundle = labelled({"/process/selinuxLabel": harness.ABSENT}, args=["/bin/sh", "-c", READS])
    lines = ran(runtime, bundle).out.split()
    assert lines == [OURS, "hosts", "secret", "other"]


@pytest.mark.parametrize("nnp", [False, True], ids=["", "noNewPrivileges"])
def test_with_a_filter(runtime, labelled, no_leaks, nnp):
    """The order of label, capabilities, no_new_privs and filter."""
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["swapon"], "action": "SCMP_ACT_ERRNO"}]}
    changes = {"/process/noNewPrivileges": nnp, "/linux/seccomp": profile, "/process/user": {"uid": 1000, "gid": 1000}}
    result = ran(runtime, labelled(changes, args=["/bin/sh", "-c", READS]))
    assert result.out.split() == [LABEL, "hosts"], result


def test_exec(runtime, labelled, no_leaks):
    """exec uses the label of the container, that of --process-label, or that in its process.json."""
    bundle = labelled(args=harness.WAIT_FOR_TERM)
    id = runtime.started(bundle)
    result = call(runtime, "exec", id, "/bin/sh", "-c", READS)
    assert result.out.split() == [LABEL, "hosts"], result
    other = DOMAIN + "s0:c1.c4"
    result = call(runtime, "exec", "--process-label", other, id, "/bin/sh", "-c", READS)
    assert result.out.split() == [other, "hosts", "other"], result
    process = {**bundle.config["process"], "selinuxLabel": OURS, "args": ["/bin/sh", "-c", READS]}
    (bundle.path / "process.json").write_text(json.dumps(process))
    result = call(runtime, "exec", "--process", bundle.path / "process.json", id)
    assert result.out.split() == [OURS, "hosts", "secret", "other"], result
    runtime.delete(id, "--force")


def test_mount_label(runtime, labelled, no_leaks):
    """New file systems get it; procfs and sysfs accept none; bind mounts keep their own."""
    queue = {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"}
    id = runtime.started(labelled({"/mounts/-": queue}, args=harness.WAIT_FOR_TERM))
    root = pathlib.Path("/proc/%d/root" % runtime.state(id)["pid"])
    assert {name: label_of(root / name) for name in ("dev", "dev/shm", "dev/pts", "dev/mqueue")} == dict.fromkeys(
        ("dev", "dev/shm", "dev/pts", "dev/mqueue"), MOUNT
    )
    assert label_of(root / "proc") == "system_u:object_r:base_file_t:s0"
    assert call(runtime, "exec", id, "/bin/sh", "-c", "echo x >/dev/shm/x && cat /dev/shm/x").out == "x\n"
    runtime.delete(id, "--force")


def test_without_a_mount_label(runtime, labelled, no_leaks):
    """The program may not use files with another label."""
    id = runtime.started(labelled({"/linux/mountLabel": harness.ABSENT}, args=harness.WAIT_FOR_TERM))
    root = pathlib.Path("/proc/%d/root" % runtime.state(id)["pid"])
    assert label_of(root / "dev/shm") == "system_u:object_r:base_file_t:s0"
    assert "Permission denied" in call(runtime, "exec", id, "/bin/sh", "-c", "echo x >/dev/shm/x").err
    runtime.delete(id, "--force")


def test_mount_label_by_another_option(runtime, labelled, no_leaks):
    """rootcontext= only labels the root of the file system."""
    id = runtime.started(labelled({"/annotations": {"run.oci.mount_context_type": "rootcontext"}}, args=harness.WAIT_FOR_TERM))
    shm = pathlib.Path("/proc/%d/root/dev/shm" % runtime.state(id)["pid"])
    assert label_of(shm) == MOUNT
    runtime.delete(id, "--force")


def test_live_mount(pyrunc, labelled, tmp_path, no_leaks):
    """A file system that is added later also gets the mount label of the container."""
    id = pyrunc.started(labelled(args=harness.WAIT_FOR_TERM))
    pyrunc.ok("mounts", "add", "--type", "tmpfs", "--source", "tmpfs", "--destination", "/mnt", id)
    assert label_of("/proc/%d/root/mnt" % pyrunc.state(id)["pid"]) == MOUNT
    assert call(pyrunc, "exec", id, "/bin/sh", "-c", "echo x >/mnt/x && cat /mnt/x").out == "x\n"
    pyrunc.delete(id, "--force")


def test_keyring(runtime, labelled, no_leaks):
    """The session keyring is created with the label of the program: the policy reports each key that is created with it."""
    before = len(said_by_kernel("tclass=key"))
    assert ran(runtime, labelled()).code == 0
    lines = said_by_kernel("tclass=key")[before:]
    assert lines and all("granted" in line and "tcontext=" + LABEL in line for line in lines), lines
    before += len(lines)
    assert ran(runtime, labelled({"/process/selinuxLabel": harness.ABSENT})).code == 0
    assert said_by_kernel("tclass=key")[before:] == []


def test_sockets_of_the_program(runtime, labelled, no_leaks):
    """They get its label automatically."""
    id = runtime.started(labelled(args=harness.WAIT_FOR_TERM))
    argv = runtime.argv("exec", id, "/bin/nc", "-l", "-p", "4321")
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=runtime.env) as command:

        def sockets():
            found = []
            for pid in json.loads(call(runtime, "ps", "--format", "json", id).out):
                folder = "/proc/%d/fd" % pid
                found += [os.path.join(folder, name) for name in os.listdir(folder) if comm(pid) == "nc"]
            return [path for path in found if os.readlink(path).startswith("socket:")]

        guest.until(lambda: command.poll() is not None or sockets(), "nc listens")
        assert command.poll() is None, command.stderr.read()
        assert {os.getxattr(path, XATTR).rstrip(b"\0").decode() for path in sockets()} == {LABEL}
        runtime.delete(id, "--force")


def test_a_label_that_the_policy_does_not_know(runtime, labelled, no_leaks):
    result = ran(runtime, labelled({"/process/selinuxLabel": "system_u:system_r:no_such_t:s0"}))
    assert result.code == 1 and "no_such_t" in result.said and "selinux" in result.said.lower(), result


def test_a_mount_label_that_the_policy_does_not_know(runtime, labelled, no_leaks):
    result = ran(runtime, labelled({"/linux/mountLabel": "system_u:object_r:no_such_t:s0"}))
    assert result.code == 1 and "/dev" in result.said, result


def test_a_domain_that_may_not_be_entered(runtime, labelled, no_leaks):
    """The program does not run without its label: execve fails."""
    result = ran(runtime, labelled({"/process/selinuxLabel": "system_u:system_r:forbidden_t:s0"}))
    assert result.code != 0 and "ermission denied" in result.said, result


def test_an_image_that_the_domain_may_not_execute(runtime, labelled, no_leaks):
    result = ran(runtime, labelled(label="system_u:object_r:base_file_t:s0"))
    assert result.code != 0 and "ermission denied" in result.said, result


def test_in_a_user_namespace(runtime, labelled, no_leaks):
    changes = {
        "/linux/namespaces": [{"type": kind} for kind in (*KINDS, "user")], "/linux/uidMappings": MAPS, "/linux/gidMappings": MAPS,
    }  # fmt: skip
    result = ran(runtime, labelled(changes, args=["/bin/sh", "-c", READS]))
    assert result.out.split()[:2] == [LABEL, "hosts"], result


def test_in_a_shared_pid_namespace(pyrunc, labelled, no_leaks):
    """The second process of create gets the label for the execve of the first one."""
    first = pyrunc.started(labelled(args=harness.WAIT_FOR_TERM))
    spaces = [{"type": "pid", "path": "/proc/%d/ns/pid" % pyrunc.state(first)["pid"]}, *({"type": kind} for kind in KINDS if kind != "pid")]
    result = ran(pyrunc, labelled({"/linux/namespaces": spaces}, args=["/bin/sh", "-c", READS]))
    assert result.out.split() == [LABEL, "hosts"], result
    pyrunc.delete(first, "--force")


def test_features_and_diff(pyrunc, labelled, no_leaks):
    assert json.loads(pyrunc.ok("features").out)["linux"]["selinux"] == {"enabled": True}
    id = pyrunc.started(labelled(args=harness.WAIT_FOR_TERM))
    rows = json.loads(pyrunc.call("diff", "--format", "json", id).out)["differences"]
    assert [row for row in rows if row["area"] == "labels"] == []
    pyrunc.delete(id, "--force")


def test_an_apparmor_profile_is_refused(runtime, labelled, no_leaks):
    result = ran(runtime, labelled({"/process/apparmorProfile": "anything", "/process/selinuxLabel": harness.ABSENT}))
    assert result.code == 1 and "apparmor" in result.said.lower(), result


# ---- podman


CONTEXTS = 'process = "%s"\ncontent = "%s"\nfile = "%s"\nro_file="%s"\n' % (DOMAIN + "s0", FILE + "s0", FILE + "s0", FILE + "s0")


@pytest.fixture(scope="session")
def labels_of_podman():
    """The file from which podman takes its labels."""
    folder = pathlib.Path("/etc/selinux/lab/contexts")
    folder.mkdir(parents=True, exist_ok=True)
    pathlib.Path("/etc/selinux/config").write_text("SELINUX=enforcing\nSELINUXTYPE=lab\n")
    (folder / "lxc_contexts").write_text(CONTEXTS)


@pytest.fixture
def podman(runtime, labels_of_podman):
    made = Podman(runtime, "systemd")
    yield made
    made.clean()


CURRENT = ("cat", "/proc/self/attr/current")


def test_podman_gives_each_container_a_label(podman):
    found = {podman.once(command=CURRENT).out.strip("\0\n") for _ in range(2)}
    assert len(found) == 2 and all(re.fullmatch(re.escape(DOMAIN) + r"s0:c\d+,c\d+", one) for one in found), found


@pytest.mark.parametrize(
    ("option", "expected"),
    [("level:s0:c7,c9", DOMAIN + "s0:c7,c9"), ("type:container_t", None), ("disable", OURS)],
)
def test_podman_with_an_option(podman, option, expected):
    result = podman.once("--security-opt", "label=" + option, command=CURRENT)
    found = result.out.strip("\0\n")
    assert found == expected if expected else found.startswith(DOMAIN), result


def test_podman_keeps_volumes_apart(podman, tmp_path):
    """A volume with :Z is accessible to one container, with :z to all, and without either to none."""
    (tmp_path / "file").write_text("hello\n")
    read = ("cat", "/v/file")
    assert "Permission denied" in podman.once("-v", "%s:/v" % tmp_path, command=read).err
    assert podman.once("-v", "%s:/v:z" % tmp_path, command=read).out == "hello\n"
    id, _pid, _group = podman.up("-v", "%s:/v:Z" % tmp_path)
    assert podman.ok("exec", id, *read).out == "hello\n"
    assert (
        podman.ok("exec", id, *CURRENT).out.strip("\0\n").partition("container_t:")[2]
        == label_of(tmp_path).partition("container_file_t:")[2]
    )
    assert "Permission denied" in podman.once("-v", "%s:/v" % tmp_path, command=read).err


def test_podman_with_an_unknown_type(podman):
    result = podman.once("--security-opt", "label=type:no_such_t")
    assert result.code == 126 and "security attribute" in result.err, result


def test_podman_image(podman):
    assert podman.once("--read-only", "--tmpfs=/scratch", command=["sh", "-c", "echo x >/scratch/x && cat /scratch/x"]).out == "x\n"
    assert podman.once(command=["sh", "-c", "echo x >/x && cat /x"]).out == "x\n"
    assert IMAGE
