"""checkpoint and restore: namespaces, limits, hooks, keyrings, and the options passed to criu. The rest is in test_checkpoint.py."""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

import harness
from dumping import CRIU, mounts_of
from pyrunc.linux import caps

pytestmark = [pytest.mark.kernel, pytest.mark.slow, pytest.mark.skipif(not CRIU, reason="this machine has no criu")]


def test_no_network(counter, no_leaks):
    """A new network namespace: the loopback device is up, as after create."""
    made = counter().run().again()
    flags = int(made.inside("/bin/cat", "/sys/class/net/lo/flags"), 16)
    assert flags & 1
    assert made.step() == "1"
    made.runtime.delete(made.id, "--force")


@pytest.fixture
def neighbour():
    """A process in new namespaces that a container can join."""
    process = subprocess.Popen(["/usr/bin/unshare", "--net", "--ipc", "--uts", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(b"x")
    process.stdin.flush()
    assert process.stdout.read(1) == b"x"  # it has executed cat, so the namespaces exist
    yield process.pid
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


@pytest.mark.parametrize("kinds", [["network"], ["network", "ipc", "uts"]], ids=len)
def test_joined_namespaces(counter, neighbour, kinds, no_leaks):
    files = {"network": "net", "ipc": "ipc", "uts": "uts"}
    made = counter()
    config = made.bundle.config
    config.pop("hostname", None)
    for item in config["linux"]["namespaces"]:
        if item["type"] in kinds:
            item["path"] = "/proc/%d/ns/%s" % (neighbour, files[item["type"]])
    made.bundle.write(config)
    made.run().again()
    for kind in kinds:
        assert os.readlink("/proc/%d/ns/%s" % (made.pid(), files[kind])) == os.readlink("/proc/%d/ns/%s" % (neighbour, files[kind]))
    assert made.step() == "1"
    made.runtime.delete(made.id, "--force")


def test_namespaces_of_the_host(counter, no_leaks):
    made = counter()
    config = made.bundle.config
    config.pop("hostname", None)
    config["linux"]["namespaces"] = [item for item in config["linux"]["namespaces"] if item["type"] in ("mount", "pid")]
    config["mounts"] = [item for item in config["mounts"] if item["type"] != "sysfs"]
    made.bundle.write(config)
    made.run().again()
    for kind in ("net", "ipc", "uts"):
        assert os.readlink("/proc/%d/ns/%s" % (made.pid(), kind)) == os.readlink("/proc/self/ns/" + kind)
    assert made.step() == "1"
    made.runtime.delete(made.id, "--force")


def test_user_namespace(counter, no_leaks):
    made = counter(
        {
            "/linux/namespaces/-": {"type": "user"},
            "/linux/uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
            "/linux/gidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
        }
    )
    made.run()
    before = mounts_of(made)
    made.again()
    assert mounts_of(made) == before
    assert made.inside("/bin/cat", "/proc/self/uid_map").split() == ["0", "100000", "65536"]
    assert os.stat("/proc/%d" % made.pid()).st_uid == 100000
    assert made.step() == "1"
    made.runtime.delete(made.id, "--force")


def test_limits(counter, no_leaks):
    """The restored container has the limits of the bundle, even one that leaves no room for criu's processes."""
    limits = {"/linux/resources": {"memory": {"limit": 33554432}, "pids": {"limit": 2}, "cpu": {"shares": 512}}}
    made = counter(limits).run().again()
    assert [pathlib.Path(path, "pids.max").read_text() for path in made.cgroups("pids.max")] == ["2\n"]
    v1, v2 = made.cgroups("memory.limit_in_bytes"), made.cgroups("memory.max")
    path = pathlib.Path(v1[0], "memory.limit_in_bytes") if v1 else pathlib.Path(v2[0], "memory.max")
    assert path.read_text() == "33554432\n"
    made.runtime.delete(made.id, "--force")


def hook(path, name):
    """[the hook]: writes its standard input, and the network devices of the namespace given there, into `path`."""
    script = 'cat > {p}/{n}.json; pid=$(sed "s/.*\\"pid\\": *//; s/[^0-9].*//" {p}/{n}.json); readlink /proc/$pid/ns/net > {p}/{n}.net'
    return [{"path": "/bin/sh", "args": ["sh", "-c", script.format(p=path, n=name)], "env": ["PATH=/usr/bin:/bin"]}]


def test_hooks(counter, no_leaks):
    """checkpoint runs poststop; restore runs prestart and createRuntime, which can see the new namespaces."""
    made = counter()
    where = made.bundle.path / "hooks"
    where.mkdir()
    made.bundle.patch({"/hooks": {name: hook(where, name) for name in ("prestart", "createRuntime", "poststop")}})
    made.run()
    for path in where.iterdir():
        path.unlink()
    made.dumped()
    assert sorted(p.stem for p in where.glob("*.json")) == ["poststop"]
    made.restored()
    for name in ("prestart", "createRuntime"):
        state = json.loads((where / (name + ".json")).read_text())
        assert (state["id"], state["pid"]) == (made.id, made.pid())
        assert (where / (name + ".net")).read_text().strip() == os.readlink("/proc/%d/ns/net" % made.pid())
    made.runtime.delete(made.id, "--force")


def test_keyring(counter, pyrunc, no_leaks):
    """The container has its own session keyring again, not the one of the restoring process. exec joins it by name: if no process of the
    container had it, each exec would get a new one."""
    made = counter().run().again()
    name = " %s: " % harness.saved_state(pyrunc, made.id)["keyring"]
    serials = [[line.split()[0] for line in made.inside("/bin/cat", "/proc/keys").splitlines() if name in line] for _ in range(2)]
    assert serials[0] == serials[1] and len(serials[0]) == 1
    made.runtime.delete(made.id, "--force")


ECHO = (
    "mkfifo /dev/shm/i /dev/shm/o; nc -l -p 5000 -e /bin/cat & until grep -q :1388 /proc/net/tcp*; do :; done; "
    "nc 127.0.0.1 5000 </dev/shm/i >/dev/shm/o & exec 3>/dev/shm/i 4</dev/shm/o; "
)


@pytest.mark.parametrize("lock", ["skip", "iptables"])
def test_tcp_connection(counter, lock, no_leaks):
    """An open connection inside is saved only on request, and then continues: each step is sent through it and returned."""
    if lock == "iptables" and not shutil.which("iptables-restore", path="/usr/sbin:/sbin"):
        pytest.skip("this machine has no iptables")
    # not `read`, which in busybox 1.38 never returns in the handler of a signal
    made = counter(say="$(echo $n >&3; head -n 1 <&4)", before=ECHO)
    if not made.runtime.is_pyrunc:
        pytest.skip("runc does not support --network-lock")
    made.run()
    assert made.step() == "1"
    result = made.checkpoint("--leave-running", "--network-lock", lock)
    assert result.code == 1 and "tcp-established" in result.err, result
    assert made.step() == "2"
    result = made.checkpoint("--tcp-established", "--network-lock", lock)
    if "Can't get 1:16 opt" in result.err:
        made.runtime.delete(made.id, "--force")
        pytest.skip("the criu of this machine does not support its kernel: TCP sockets have had no SO_PASSCRED since Linux 6.16")
    assert result.code == 0, result
    made.restored("--tcp-established", "--network-lock", lock)
    assert made.step() == "3"
    made.runtime.delete(made.id, "--force")


# ---- options passed to criu


def test_lazy_pages(counter, pyrunc, no_leaks):
    """Memory is fetched from the checkpoint, which still runs; --status-fd reports when that can begin."""
    if subprocess.run([CRIU, "check", "--feature", "uffd-noncoop"], capture_output=True).returncode:
        pytest.skip("this kernel has no userfaultfd for criu")
    if not caps.effective() >> caps.SYS_RESOURCE & 1:
        pytest.skip("this machine gives no CAP_SYS_RESOURCE, which criu needs for pipes of that size")
    made = counter().run()
    assert made.step() == "1"
    words = ["--lazy-pages", "--page-server", "127.0.0.1:27277", "--status-fd"]
    dump, _said = with_status_fd(made.runtime.argv("checkpoint", "--image-path", made.images, "--work-path", made.work, *words), [made.id])
    lazy = [CRIU, "lazy-pages", "--page-server", "--address", "127.0.0.1", "--port", "27277", "-D", made.images, "-W", made.work]
    daemon, _said = with_status_fd([*lazy, "--status-fd"], [])
    old, made.id = made.id, made.runtime.new_id()
    made.bundle.patch({"/linux/cgroupsPath": made.bundle.config["linux"]["cgroupsPath"] + "-lazy"})
    made.restored("--lazy-pages")
    assert made.step() == "2"
    assert daemon.wait(harness.WATCHDOG) == 0 and dump.wait(harness.WATCHDOG) == 0
    assert not os.path.exists(os.path.join(made.runtime.root, old))
    made.runtime.delete(made.id, "--force")


def with_status_fd(words, more):
    """(process, its output), once it has written its NUL byte to the descriptor with the given number."""
    reader, writer = os.pipe()
    said = harness.Capture()
    argv = [*words, str(writer), *more]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said.file, stderr=said.file, pass_fds=[writer])
    os.close(writer)
    assert os.read(reader, 10) == b"\0", said.text()
    assert os.read(reader, 10) == b"", "the descriptor is closed afterwards"
    os.close(reader)
    return process, said


def test_status_fd(counter, pyrunc, no_leaks):
    """Nobody fetches the pages here: CRIU is ended, and the container is unchanged."""
    if subprocess.run([CRIU, "check", "--feature", "uffd-noncoop"], capture_output=True).returncode:
        pytest.skip("this kernel has no userfaultfd for criu")
    made = counter().run()
    words = ["--lazy-pages", "--page-server", "127.0.0.1:27276", "--status-fd"]
    dump, said = with_status_fd(made.runtime.argv("checkpoint", "--image-path", made.images, "--work-path", made.work, *words), [made.id])
    dump.terminate()
    assert dump.wait(harness.WATCHDOG) == 128 + 15
    assert said.text() == "checkpoint failed: interrupted by signal 15\n"
    assert made.runtime.status(made.id) == "running"
    assert made.step() == "1"
    made.runtime.delete(made.id, "--force")


def test_configuration_file(counter, pyrunc, no_leaks):
    """org.criu.config names a file on the host: it is only used if annotations may name paths."""
    made = counter()
    settings = made.bundle.path / "criu.conf"
    settings.write_text("log-file=other.log\n")
    made.bundle.patch({"/annotations": {"org.criu.config": str(settings)}})
    made.run().dumped()
    assert (made.work / "dump.log").exists() and not (made.work / "other.log").exists()
    (made.steps / "ready").unlink()
    made.run(globals=["--allow-annotation-paths"])
    (made.work / "dump.log").unlink()
    made.dumped()
    assert (made.work / "other.log").exists() and not (made.work / "dump.log").exists()


def test_images_of_runc(counter, pyrunc, scratch, no_leaks):
    """The two runtimes can restore each other's images: a container moves from one to the other and back."""
    runc = shutil.which("runc", path="/usr/sbin:/usr/bin")
    if not runc:
        pytest.skip("this machine has no runc")
    made = counter({"/linux/maskedPaths": ["/proc/timer_list", "/sys/firmware"]})
    ours = made.runtime
    theirs = harness.Runtime(runc, scratch / "runc-root", ours.token, ours.cgroup)
    made.run()
    assert made.step() == "1"
    for count, runtime in ((2, theirs), (3, ours)):
        made.dumped()
        made.runtime = runtime
        made.restore()
        assert made.runtime.status(made.id) == "running", made.log("restore.log")
        assert made.step() == str(count)
    made.runtime.delete(made.id, "--force")


@pytest.mark.parametrize("mode", ["soft", "full", "strict", "ignore"])
def test_cgroup_modes(counter, runtime, mode, no_leaks):
    made = counter().run()
    words = ["--manage-cgroups-mode", mode, "--empty-ns", "network", "--file-locks", "--ext-unix-sk"]
    made.again(*words)
    assert made.step() == "1"
    made.runtime.delete(made.id, "--force")


def test_without_cgroups(counter, pyrunc, no_leaks):
    """--cgroup-manager=disabled: neither side touches a cgroup of the host."""
    made = counter()
    made.bundle.patch({"/linux/cgroupsPath": harness.ABSENT})
    made.run(globals=["--cgroup-manager=disabled"])
    made.dumped()
    assert not (made.images / "cgroup.img").exists()
    made.restored(globals=["--cgroup-manager=disabled"])
    assert made.step() == "1"
    made.runtime.delete(made.id, "--force")


def test_full_mode_does_not_loosen_limits(counter, pyrunc, no_leaks):
    """CRIU writes the saved values of a cgroup, but the limits of the config still apply."""
    made = counter({"/linux/resources": {"pids": {"limit": 9}}}).run()
    made.runtime.ok("update", "--pids-limit", "77", made.id)
    made.again("--manage-cgroups-mode", "full")
    (path,) = made.cgroups("pids.max")
    with open(path + "/pids.max") as file:
        assert file.read() == "9\n"
    made.runtime.delete(made.id, "--force")
