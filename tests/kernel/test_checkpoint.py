"""checkpoint and restore: what lived in the container's memory goes on, and everything around it is there again.

Needs criu. The tests of this file hold for any runtime that has the two commands; what goes wrong is in test_checkpoint_faults.py.
"""

import json
import os
import pathlib
import pty
import select
import shutil
import subprocess

import pytest
from pyrunc.linux import caps

import harness
from dumping import CRIU, Counter, Listener

pytestmark = [pytest.mark.kernel, pytest.mark.slow, pytest.mark.skipif(not CRIU, reason="this machine has no criu")]


@pytest.fixture
def counter(runtime, make_bundle):
    def make(changes=None, **kw):
        return Counter(runtime, make_bundle, changes, **kw)

    return make


def gone(made):
    """Nothing of the container is left on the host."""
    found = {"cgroups": harness.cgroups(made.bundle.config["linux"]["cgroupsPath"].strip("/")), "mounts": harness.mounts(str(made.bundle.rootfs))}
    found["processes"] = harness.processes(made.bundle.config["linux"]["cgroupsPath"].strip("/"))
    return not any(found.values()), found


def test_a_counter_goes_on(counter, no_leaks):
    """Out of the machine and back, twice: the count is in memory only."""
    made = counter().run()
    assert made.step() == "1"
    for expected in ("2", "3"):
        made.dumped()
        assert not made.known()
        assert gone(made)[0], gone(made)[1]
        made.restored()
        state = made.runtime.state(made.id)
        assert state["status"] == "running" and state["pid"] > 1 and state["bundle"] == str(made.bundle)
        assert made.step() == expected
    made.runtime.ok("kill", made.id, "TERM")
    made.runtime.stopped(made.id, None)
    assert made.runtime.status(made.id) == "stopped"
    made.runtime.delete(made.id)


def test_the_default_image_path(counter, no_leaks):
    """./checkpoint, where the command is given."""
    made = counter().run()
    made.runtime.ok("checkpoint", made.id, cwd=made.bundle.path)
    assert (made.bundle.path / "checkpoint/inventory.img").exists()
    made.runtime.ok("restore", "--detach", "--bundle", made.bundle, made.id, cwd=made.bundle.path)
    assert made.step() == "1"
    made.runtime.delete(made.id, "--force")


def test_leave_running(counter, no_leaks):
    made = counter().run()
    pid = made.pid()
    made.dumped("--leave-running")
    assert made.pid() == pid and made.runtime.status(made.id) == "running"
    assert made.step() == "1"
    made.runtime.delete(made.id, "--force")
    made.count = 0
    made.restored()
    (made.steps / "1").unlink()
    assert made.step() == "1"  # as it was at the time of the checkpoint
    made.runtime.delete(made.id, "--force")


def test_a_paused_container_stays_paused(counter, no_leaks):
    """As ctr does it: pause, checkpoint, resume."""
    made = counter().run()
    made.runtime.ok("pause", made.id)
    made.dumped("--leave-running")
    assert made.runtime.status(made.id) == "paused"
    made.runtime.ok("resume", made.id)
    assert made.step() == "1"
    made.runtime.delete(made.id, "--force")


def test_exec_and_update_in_a_restored_container(counter, no_leaks):
    made = counter().run().again()
    assert made.inside("/bin/echo", "in").strip() == "in"
    assert made.inside("/bin/sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline").startswith("/bin/sh -c")
    made.runtime.ok("update", "--memory", "64m", made.id)
    made.runtime.ok("pause", made.id)
    assert made.runtime.status(made.id) == "paused"
    made.runtime.ok("resume", made.id)
    made.runtime.delete(made.id, "--force")


def test_foreground(counter, no_leaks):
    """Without --detach the program is waited for, its status is ours, and the container is deleted."""
    made = counter().run().dumped()
    process = subprocess.Popen(
        made.runtime.argv("restore", "--bundle", made.bundle, "--image-path", made.images, "--pid-file", made.bundle.path / "pid", made.id),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=made.runtime.env,
    )  # fmt: skip
    pid = int(harness.appears(str(made.bundle.path / "pid")))
    assert made.pid() == pid
    process.terminate()
    assert process.wait(harness.WATCHDOG) == 7
    assert not made.known()


def test_pid_file_and_one_dash(counter, no_leaks):
    """containerd's order of words, with its `-no-subreaper`."""
    made = counter().run().dumped()
    pid_file = made.bundle.path / "pid"
    words = ["restore", "--image-path", made.images, "--work-path", made.work, "--detach", "--pid-file", pid_file, "-no-subreaper", "--bundle"]
    made.runtime.ok(*words, made.bundle, made.id)
    assert pid_file.read_text() == str(made.pid())
    made.runtime.delete(made.id, "--force")


# ---- standard streams and terminals


def test_pipes_are_connected_anew(counter, no_leaks):
    made = counter(say="$n; echo $n", before="echo first; ")
    first = harness.Capture()
    reader, writer = os.pipe()
    made.id = made.runtime.new_id()
    subprocess.run(made.runtime.argv("run", "-d", "--bundle", made.bundle, made.id), stdin=0, stdout=writer, stderr=first.file, check=True)
    harness.appears(str(made.steps / "ready"))
    os.close(writer)
    assert os.read(reader, 99) == b"first\n"
    made.dumped()
    again, writer = os.pipe()
    argv = made.runtime.argv("restore", "-d", "--bundle", made.bundle, "--image-path", made.images, made.id)
    subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.DEVNULL, check=True)
    os.close(writer)
    made.step()
    assert os.read(again, 99) == b"1\n"
    assert os.read(reader, 99) == b""  # nobody holds the old one any more
    made.runtime.delete(made.id, "--force")
    os.close(reader)
    os.close(again)
    first.file.close()


def test_a_file_outside_goes_on(counter, pyrunc, no_leaks):
    """`run --detach >> log`: the file lies in no mount of the container. It is connected again if it is as it was left."""
    made = counter(say="$n; echo $n")
    path = made.bundle.path / "log"
    made.id, null = made.runtime.new_id(), subprocess.DEVNULL
    with open(path, "a") as log:
        subprocess.run(made.runtime.argv("run", "-d", "--bundle", made.bundle, made.id), stdin=null, stdout=log, stderr=null, check=True)
    harness.appears(str(made.steps / "ready"))
    made.step()
    made.dumped()
    with open(path, "a") as log:
        argv = made.runtime.argv("restore", "-d", "--bundle", made.bundle, "--image-path", made.images, made.id)
        subprocess.run(argv, stdin=null, stdout=log, stderr=null, check=True)
    made.step()
    made.runtime.delete(made.id, "--force")
    assert path.read_text() == "1\n2\n"


def until(fd, text):
    data = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while text not in data:
        assert poll.poll(harness.WATCHDOG * 1000), data
        data += os.read(fd, 4096)
    return data


@pytest.fixture
def listener(scratch):
    made = Listener(scratch / "dumped-console.sock")
    yield made
    made.close()


def test_terminal(runtime, make_bundle, listener, no_leaks):
    """The master leaves by the console socket again, and is that of the restored terminal."""
    script = "while read word; do n=$((n+1)); echo got $n $word; done"
    made = make_bundle({"/process/terminal": True}, args=["/bin/sh", "-c", script])
    id = runtime.new_id()
    runtime.ok("run", "--detach", "--bundle", made, "--console-socket", listener.path, id)
    master = listener.receive()
    os.write(master, b"one\n")
    until(master, b"got 1 one")
    runtime.ok("checkpoint", "--image-path", made.path / "images", id)
    os.close(master)
    runtime.ok("restore", "--detach", "--bundle", made, "--image-path", made.path / "images", "--console-socket", listener.path, id)
    master = listener.receive()
    os.write(master, b"two\n")
    until(master, b"got 2 two")
    assert os.readlink("/proc/%d/fd/0" % runtime.state(id)["pid"]) == "/dev/pts/0"
    os.close(master)
    runtime.delete(id, "--force")


def test_terminal_in_the_foreground(runtime, make_bundle, listener, no_leaks):
    """Without --detach we relay: our own terminal is the container's."""
    made = make_bundle({"/process/terminal": True}, args=["/bin/sh", "-c", "while read word; do n=$((n+1)); echo got $n $word; done; exit 3"])
    id = runtime.new_id()
    runtime.ok("run", "--detach", "--bundle", made, "--console-socket", listener.path, id)
    master = listener.receive()
    os.write(master, b"one\n")
    until(master, b"got 1 one")
    runtime.ok("checkpoint", "--image-path", made.path / "images", id)
    os.close(master)
    ours, theirs = pty.openpty()
    argv = runtime.argv("restore", "--bundle", made, "--image-path", made.path / "images", "--pid-file", made.path / "pid", id)
    process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    harness.appears(str(made.path / "pid"))
    os.write(ours, b"two\n")
    until(ours, b"got 2 two")
    os.write(ours, b"\x04")
    assert process.wait(harness.WATCHDOG) == 3
    os.close(ours)


def test_shell_job(counter, no_leaks):
    """The container's streams are the terminal of a shell that is not in it: CRIU takes that from whoever restores."""
    made = counter()
    made.id = made.runtime.new_id()

    def on_terminal(*words):
        ours, theirs = pty.openpty()
        # setsid -c: the terminal becomes the controlling one, as it is for a shell
        argv = ["/usr/bin/setsid", "--ctty", "--wait", *made.runtime.argv(*words)]
        done = subprocess.run(argv, stdin=theirs, stdout=theirs, stderr=theirs, timeout=harness.WATCHDOG)
        os.close(theirs)
        return ours, done.returncode

    before, code = on_terminal("run", "-d", "--bundle", made.bundle, made.id)
    assert code == 0, os.read(before, 4096)
    harness.appears(str(made.steps / "ready"))
    assert made.step() == "1"
    assert made.checkpoint("--leave-running").code == 1  # not without being told
    made.dumped("--shell-job")
    after, code = on_terminal("restore", "-d", "--bundle", made.bundle, "--image-path", made.images, "--shell-job", made.id)
    assert code == 0, os.read(after, 4096)
    assert made.step() == "2"
    made.runtime.delete(made.id, "--force")
    os.close(before)
    os.close(after)


# ---- mounts


def test_bind_mounts(counter, scratch, no_leaks):
    """Directories, files, a destination behind a link of the image, flags; what was in the container's own tmpfs comes with it."""
    made = counter()
    outside = made.bundle.path / "outside"
    (outside / "dir").mkdir(parents=True)
    (outside / "file").write_text("one file\n")
    (outside / "dir/x").write_text("in a directory\n")
    (made.bundle.rootfs / "run/real").mkdir(parents=True)
    (made.bundle.rootfs / "var/linked").parent.mkdir(exist_ok=True)
    (made.bundle.rootfs / "var/linked").symlink_to("/run/real")
    config = made.bundle.config
    config["mounts"] += [
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]},
        {"destination": "/tmp/below", "type": "bind", "source": str(outside / "dir"), "options": ["rbind", "ro"]},
        {"destination": "/etc/given", "type": "bind", "source": str(outside / "file"), "options": ["bind", "ro"]},
        {"destination": "/var/linked", "type": "bind", "source": str(outside / "dir"), "options": ["rbind"]},
    ]
    made.bundle.write(config)
    made.run()
    made.inside("/bin/sh", "-c", "echo mine > /tmp/own")
    before = mounts_of(made)
    made.again()
    assert mounts_of(made) == before
    assert made.inside("/bin/cat", "/tmp/own", "/etc/given", "/tmp/below/x", "/run/real/x").splitlines() == [
        "mine", "one file", "in a directory", "in a directory",
    ]  # fmt: skip
    (outside / "dir/later").write_text("later\n")
    assert made.inside("/bin/cat", "/var/linked/later") == "later\n"
    assert made.runtime.call("exec", made.id, "/bin/touch", "/tmp/below/y").code != 0
    made.runtime.delete(made.id, "--force")


def mounts_of(made):
    """[(mount point, options)] as the container sees them. When access times are kept depends on whose /dev/null covers a file."""
    lines = pathlib.Path("/proc/%d/mountinfo" % made.pid()).read_text().splitlines()
    return sorted((line.split(" ")[4], sorted(set(line.split(" ")[5].split(",")) - {"relatime"})) for line in lines)


def test_what_an_rbind_brings_along(counter, pyrunc, no_leaks):
    made = counter()
    outside = made.bundle.path / "outside"
    (outside / "sub").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", outside / "sub"], check=True)
    try:
        (outside / "sub/x").write_text("below\n")
        made.bundle.patch({"/mounts/-": {"destination": "/all", "type": "bind", "source": str(outside), "options": ["rbind", "rslave"]}})
        made.run().again()
        assert made.inside("/bin/cat", "/all/sub/x") == "below\n"
        (outside / "sub/y").write_text("the host's\n")
        assert made.inside("/bin/cat", "/all/sub/y") == "the host's\n"
        made.runtime.delete(made.id, "--force")
    finally:
        subprocess.run(["umount", "-l", outside / "sub"], check=True)


def test_a_root_that_was_never_used(counter, no_leaks):
    """Restored on another copy of the image: mount points are made as create makes them."""
    made = counter()
    outside = made.bundle.path / "outside"
    (outside / "inner").mkdir(parents=True)
    config = made.bundle.config
    config["mounts"] += [
        {"destination": "/made/here", "type": "bind", "source": str(outside), "options": ["rbind"]},
        {"destination": "/made/here/inner/file", "type": "bind", "source": "/etc/hostname", "options": ["rbind"]},
        {"destination": "/cache", "type": "tmpfs", "source": "tmpfs"},
    ]
    made.bundle.write(config)
    made.run().dumped()
    for path in ("made/here", "made", "cache", "steps"):
        os.rmdir(made.bundle.rootfs / path)
    made.restored()
    assert made.inside("/bin/cat", "/made/here/inner/file") == pathlib.Path("/etc/hostname").read_text()
    assert made.step() == "1"
    made.runtime.delete(made.id, "--force")


MASKS = {
    "/linux/maskedPaths": ["/proc/kcore", "/sys/firmware", "/proc/timer_list", "/secret", "/hidden"],
    "/linux/readonlyPaths": ["/proc/sys", "/fixed"],
    "/root/readonly": True,
}


def test_masked_and_readonly_paths(counter, no_leaks):
    made = counter(MASKS)
    for name in ("hidden", "fixed"):
        (made.bundle.rootfs / name).mkdir()
    (made.bundle.rootfs / "hidden/x").write_text("x")
    (made.bundle.rootfs / "secret").write_text("secret")
    made.run()
    before = mounts_of(made)
    made.again()
    assert mounts_of(made) == before
    assert made.inside("/bin/cat", "/secret", "/proc/timer_list") == ""
    assert made.inside("/bin/ls", "/hidden", "/sys/firmware").split() == ["/hidden:", "/sys/firmware:"]
    for path in ("/fixed/x", "/x"):
        assert made.runtime.call("exec", made.id, "/bin/touch", path).code != 0
    made.runtime.delete(made.id, "--force")


@pytest.mark.parametrize("own", [False, True], ids=["of the host", "own namespace"])
def test_cgroup_mount(counter, own, no_leaks):
    made = counter({"/mounts/-": {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"]}})
    if own:
        made.bundle.patch({"/linux/namespaces/-": {"type": "cgroup"}})
    made.run()
    before, seen = mounts_of(made), made.inside("/bin/ls", "/sys/fs/cgroup")
    made.again()
    assert mounts_of(made) == before
    assert made.inside("/bin/ls", "/sys/fs/cgroup") == seen
    assert made.step() == "1"
    made.runtime.delete(made.id, "--force")


# ---- namespaces, limits, hooks, keyrings


def test_no_network(counter, no_leaks):
    """A network namespace of its own: its loopback is up, as after create."""
    made = counter().run().again()
    flags = int(made.inside("/bin/cat", "/sys/class/net/lo/flags"), 16)
    assert flags & 1
    assert made.step() == "1"
    made.runtime.delete(made.id, "--force")


@pytest.fixture
def neighbour():
    """A process in new namespaces that a container can be made to join."""
    process = subprocess.Popen(["/usr/bin/unshare", "--net", "--ipc", "--uts", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdin.write(b"x")
    process.stdin.flush()
    assert process.stdout.read(1) == b"x"  # it has executed cat: the namespaces are there
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
    """The bundle's limits are on the restored container, also one that leaves no room for criu's own processes."""
    limits = {"/linux/resources": {"memory": {"limit": 33554432}, "pids": {"limit": 2}, "cpu": {"shares": 512}}}
    made = counter(limits).run().again()
    pids = [p for p in harness.cgroups(made.bundle.config["linux"]["cgroupsPath"].strip("/")) if os.path.exists(p + "/pids.max")]
    memory = [p for p in harness.cgroups(made.bundle.config["linux"]["cgroupsPath"].strip("/")) if "/memory" in p or os.path.exists(p + "/memory.max")]
    assert pathlib.Path(pids[0], "pids.max").read_text() == "2\n"
    name = "memory.max" if os.path.exists(memory[0] + "/memory.max") else "memory.limit_in_bytes"
    assert pathlib.Path(memory[0], name).read_text() == "33554432\n"
    made.runtime.delete(made.id, "--force")


def hook(path, name):
    """[the hook]: writes its standard input, and the links of the network namespace that it was told of, into `path`."""
    script = 'cat > {p}/{n}.json; pid=$(sed "s/.*\\"pid\\": *//; s/[^0-9].*//" {p}/{n}.json); readlink /proc/$pid/ns/net > {p}/{n}.net'
    return [{"path": "/bin/sh", "args": ["sh", "-c", script.format(p=path, n=name)], "env": ["PATH=/usr/bin:/bin"]}]


def test_hooks(counter, no_leaks):
    """checkpoint runs poststop, restore prestart and createRuntime, with the new namespaces to be seen."""
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
    """The container has a session keyring of its own again, and not that of who restores."""
    made = counter().run().again()
    names = [line.split()[-2].rstrip(":") for line in made.inside("/bin/cat", "/proc/keys").splitlines() if " keyring " in line]
    assert "_ses." + made.id in names
    made.runtime.delete(made.id, "--force")


# ---- what criu is told


def test_lazy_pages(counter, pyrunc, no_leaks):
    """Memory is fetched from the checkpoint that still runs; --status-fd says when that can begin."""
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
    """(process, what it said), once it has written its NUL byte to the descriptor whose number it gets."""
    reader, writer = os.pipe()
    said = harness.Capture()
    argv = [*words, str(writer), *more]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said.file, stderr=said.file, pass_fds=[writer])
    os.close(writer)
    assert os.read(reader, 10) == b"\0", said.text()
    assert os.read(reader, 10) == b"", "it is closed afterwards"
    os.close(reader)
    return process, said


def test_status_fd(counter, pyrunc, no_leaks):
    """As far as it goes without anybody who fetches the pages: CRIU is ended, and the container is as it was."""
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
    """org.criu.config names a file of the host: followed only where annotations may do that."""
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
    """The two know each other's images: a container moves from one runtime to the other and back."""
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
