"""checkpoint and restore: the container's processes continue with their memory, and their environment is restored.

Needs criu. The tests in this file apply to any runtime that has the two commands; failures are tested in test_checkpoint_faults.py
and test_checkpoint_killed.py.
"""

import os
import pathlib
import pty
import select
import subprocess

import pytest

import harness
import hoststate
from dumping import CRIU, Listener, mounts_of

pytestmark = [pytest.mark.kernel, pytest.mark.slow, pytest.mark.skipif(not CRIU, reason="this machine has no criu")]


def gone(made):
    """Whether nothing of the container is left on the host."""
    name = made.bundle.config["linux"]["cgroupsPath"].strip("/")
    found = {"cgroups": made.cgroups(), "mounts": hoststate.mounts(str(made.bundle.rootfs)), "processes": hoststate.processes(name)}
    return not any(found.values()), found


def test_a_counter_continues(counter, no_leaks):
    """To files and back, twice: the count is only in memory."""
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
    """./checkpoint, relative to the working directory of the command."""
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
    assert made.step() == "1"  # the count at the time of the checkpoint
    made.runtime.delete(made.id, "--force")


def test_a_paused_container_stays_paused(counter, no_leaks):
    """The order that ctr uses: pause, checkpoint, resume."""
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


def test_cve_2026_94603_the_bundle_counts_and_not_the_images(counter, pyrunc, no_leaks):
    """The state of the processes comes from the images; limits and annotations come from the bundle that is restored."""
    made = counter({"/annotations": {"who": "the images"}, "/linux/resources/memory": {"limit": 96 << 20}}).run()
    file = "memory.limit_in_bytes" if made.cgroups("memory.limit_in_bytes") else "memory.max"
    made.dumped()
    made.bundle.patch({"/annotations": {"who": "the bundle"}, "/linux/resources/memory": {"limit": 64 << 20}})
    made.restored()
    assert made.runtime.state(made.id)["annotations"] == {"who": "the bundle"}
    (cgroup,) = made.cgroups(file)
    assert int(pathlib.Path(cgroup, file).read_text()) == 64 << 20
    assert made.step() == "1"
    made.runtime.delete(made.id, "--force")


def test_foreground(counter, no_leaks):
    """Without --detach, restore waits for the program, exits with its status, and deletes the container."""
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
    """The order of arguments that containerd uses, with its `-no-subreaper`."""
    made = counter().run().dumped()
    pid_file = made.bundle.path / "pid"
    words = ["--image-path", made.images, "--work-path", made.work, "--detach", "--pid-file", pid_file, "-no-subreaper", "--bundle"]
    made.runtime.ok("restore", *words, made.bundle, made.id)
    assert pid_file.read_text() == str(made.pid())
    made.runtime.delete(made.id, "--force")


# ---- standard streams and terminals


def test_pipes_are_reconnected(counter, no_leaks):
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
    assert os.read(reader, 99) == b""  # no process holds the old pipe any longer
    made.runtime.delete(made.id, "--force")
    os.close(reader)
    os.close(again)
    first.file.close()


def test_a_file_outside_is_reopened(counter, pyrunc, no_leaks):
    """`run --detach >> log`: the file is not in a mount of the container. It is reopened if it is unchanged."""
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


def test_terminal(criu, runtime, make_bundle, listener, no_leaks):
    """The master is sent to the console socket again, and it belongs to the restored terminal."""
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


def test_terminal_in_the_foreground(criu, runtime, make_bundle, listener, no_leaks):
    """Without --detach, restore relays its own terminal to the container's."""
    script = "while read word; do n=$((n+1)); echo got $n $word; done; exit 3"
    made = make_bundle({"/process/terminal": True}, args=["/bin/sh", "-c", script])
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
    """The streams of the container are the terminal of a shell outside: CRIU uses the terminal of the restoring process."""
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
    assert made.checkpoint("--leave-running").code == 1  # refused without --shell-job
    made.dumped("--shell-job")
    after, code = on_terminal("restore", "-d", "--bundle", made.bundle, "--image-path", made.images, "--shell-job", made.id)
    assert code == 0, os.read(after, 4096)
    assert made.step() == "2"
    made.runtime.delete(made.id, "--force")
    os.close(before)
    os.close(after)


# ---- mounts


def test_bind_mounts(counter, scratch, no_leaks):
    """Directories, files, a destination behind a link in the image, flags; the content of the container's tmpfs is restored too."""
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


def test_mounts_that_come_with_an_rbind(counter, pyrunc, no_leaks):
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


def test_an_id_mapped_mount(counter, pyrunc, no_leaks):
    """CRIU does not support them, but the restored mount still has its map."""
    made = counter()
    if not hoststate.has_id_maps(made.bundle.path):
        pytest.skip("the file system of TMPDIR has no id-mapped mounts")
    outside = made.bundle.path / "outside"
    outside.mkdir()
    (outside / "x").write_text("x")
    os.chown(outside / "x", 1000, 1000)
    maps = [{"containerID": 1000, "hostID": 5000, "size": 10}]
    mount = {
        "destination": "/mapped",
        "type": "bind",
        "source": str(outside),
        "options": ["bind", "ro"],
        "uidMappings": maps,
        "gidMappings": maps,
    }
    made.bundle.patch({"/mounts/-": mount})
    made.run().again()
    assert made.inside("/bin/stat", "-c", "%u %g", "/mapped/x") == "5000 5000\n"
    assert made.runtime.call("exec", made.id, "/bin/touch", "/mapped/y").code != 0
    made.runtime.delete(made.id, "--force")


def test_a_root_that_was_never_used(counter, no_leaks):
    """Restored with another copy of the image: mount points are created as create does it."""
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
    wanted = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"]}
    made = counter({"/mounts/-": wanted})
    if own:
        made.bundle.patch({"/linux/namespaces/-": {"type": "cgroup"}})
    made.run()
    before, seen = mounts_of(made), made.inside("/bin/ls", "/sys/fs/cgroup")
    made.again()
    assert mounts_of(made) == before
    assert made.inside("/bin/ls", "/sys/fs/cgroup") == seen
    assert made.step() == "1"
    made.runtime.delete(made.id, "--force")
