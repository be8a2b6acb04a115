"""checkpoint and restore when something is missing, wrong, or killed midway: there is one error message, and nothing has changed."""

import contextlib
import os
import re
import shutil
import signal
import stat
import subprocess
import sys

import pytest

import harness
import hoststate
from dumping import CRIU, Counter

pytestmark = [pytest.mark.kernel, pytest.mark.slow, pytest.mark.skipif(not CRIU, reason="this machine has no criu")]
PROGRAMS = ["/usr/local/sbin/criu", "/usr/local/bin/criu", "/usr/sbin/criu", "/usr/bin/criu", "/sbin/criu", "/bin/criu"]


@pytest.fixture
def counter(criu, runtime, make_bundle):
    def make(changes=None, **kw):
        return Counter(runtime, make_bundle, changes, **kw)

    return make


def sentence(result):
    """The single line that a failure writes."""
    assert result.code == 1, result
    assert result.err.count("\n") == 1 and "Traceback" not in result.err, result
    return result.err.strip()


def refused(made, *options, **kw):
    """A restore that fails leaves nothing behind; returns its error."""
    traces = hoststate.Traces(made.runtime.token, made.runtime.root)
    said = sentence(made.restore(*options, **kw))
    assert not traces.left(), traces.left()
    assert not hoststate.mounts(str(made.bundle.path)) and not list((made.bundle.path).glob("**/.criu*"))
    log = made.work / "restore.log"
    names = set(re.findall("/tmp/.criu.mntns.[A-Za-z0-9]{6}", log.read_text(errors="replace"))) if log.is_file() else ()
    assert not [name for name in names if os.path.exists(name)]
    return said


# ---- states and ids


def test_a_container_that_was_not_started(runtime, waiting, no_leaks):
    id = runtime.create(waiting)
    result = runtime.call("checkpoint", "--image-path", waiting.path / "images", id)
    assert "Container cannot be checkpointed in created state" in result.err and result.code == 1
    assert runtime.status(id) == "created"
    runtime.start(id)
    runtime.delete(id, "--force")


def test_a_container_that_has_stopped(runtime, waiting, no_leaks):
    id = runtime.started(waiting)
    runtime.stopped(id)
    result = runtime.call("checkpoint", "--image-path", waiting.path / "images", id)
    assert "Container cannot be checkpointed in stopped state" in result.err and result.code == 1
    assert not (waiting.path / "images").exists()
    runtime.delete(id)


def test_no_such_container(runtime, scratch):
    result = runtime.call("checkpoint", "--image-path", scratch / "nowhere", "none")
    assert result.code == 1 and "container does not exist" in result.err
    assert not (scratch / "nowhere").exists()


def test_used_id(counter, no_leaks):
    made = counter().run().dumped("--leave-running")
    result = made.restore()
    assert result.code == 1 and "container with given ID already exists" in result.err
    assert made.runtime.status(made.id) == "running" and made.step() == "1"
    made.runtime.delete(made.id, "--force")


def test_used_cgroup(counter, pyrunc, no_leaks):
    """Another id for the same bundle while the first container is running."""
    made = counter().run().dumped("--leave-running")
    other = made.runtime.new_id()
    said = sentence(made.restore(id=other))
    assert "container's cgroup is not empty" in said and not os.path.exists(os.path.join(made.runtime.root, other))
    assert made.step() == "1"
    made.runtime.delete(made.id, "--force")


# ---- images


@pytest.fixture
def dumped(counter, pyrunc):
    """A counter that was dumped; a test may damage its images."""
    made = counter()
    made.run().dumped()
    return made


def test_no_image_directory(dumped, no_leaks):
    shutil.rmtree(dumped.images)
    assert "cannot open the image directory" in refused(dumped)
    assert not dumped.images.exists()


def test_an_empty_image_directory(dumped, no_leaks):
    shutil.rmtree(dumped.images)
    dumped.images.mkdir()
    assert "holds no complete checkpoint: inventory.img is missing" in refused(dumped)
    assert not list(dumped.images.iterdir())


def test_a_file_in_place_of_images(dumped, no_leaks):
    shutil.rmtree(dumped.images)
    dumped.images.write_text("x")
    assert "not a directory" in refused(dumped)


IMAGES = ["inventory.img", "core-1.img", "pages-1.img", "pagemap-1.img", "pstree.img", "files.img", "cgroup.img", "descriptors.json"]


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("size", [0, 7])
def test_a_truncated_image(dumped, name, size, no_leaks):
    os.truncate(dumped.images / name, size)
    said = refused(dumped)
    if name == "descriptors.json":
        assert "the image directory is damaged: descriptors.json" in said
    elif (name, size) == ("inventory.img", 0):
        assert "inventory.img is empty" in said
    elif name == "pages-1.img":
        assert "pages-1.img is cut off: it has %d bytes" % size in said
    elif name == "pagemap-1.img":
        assert "pagemap-1.img is damaged" in said
    else:
        assert said.startswith("restore failed: criu failed: ") and said.endswith("log file: %s/restore.log" % dumped.work)


@pytest.mark.parametrize("text", ["null", "{}", "[1, 2, 3]", '["a", "b", "c", "d"]', "[", '["pipe:[1]", "file[0:0]", "x\\u0000"]'])
def test_descriptors_of_another_container(dumped, text, no_leaks):
    (dumped.images / "descriptors.json").write_text(text)
    result = dumped.restore()
    if result.code:
        assert "descriptors.json" in sentence(result) and not dumped.known()
    else:  # names that no image mentions are harmless
        dumped.runtime.delete(dumped.id, "--force")


def test_images_of_another_container(dumped, counter, no_leaks):
    """The config lacks a mount that the images have: this is refused, and nothing is mounted from where the images say."""
    outside = dumped.bundle.path / "outside"
    outside.mkdir()
    other = counter({"/mounts/-": {"destination": "/more", "type": "bind", "source": str(outside), "options": ["rbind"]}})
    other.run().dumped()
    dumped.images = other.images
    assert "criu failed" in refused(dumped)


def test_a_missing_source(dumped, no_leaks):
    shutil.rmtree(dumped.steps)
    assert "bind mount source stat" in refused(dumped)


def test_a_missing_program(dumped, no_leaks):
    """The container image has changed in the meantime."""
    os.unlink(dumped.bundle.rootfs / "bin/busybox")
    assert "criu failed" in refused(dumped)


def test_links_in_the_image_directory(counter, pyrunc, no_leaks):
    """A link that someone put in place of an earlier file is replaced, and its target is not changed."""
    made = counter()
    made.images.mkdir()
    victim = made.bundle.path / "victim"
    victim.write_text("untouched")
    (made.images / "descriptors.json").symlink_to(victim)
    made.run().again()
    assert victim.read_text() == "untouched"
    assert stat.S_IMODE((made.images / "descriptors.json").lstat().st_mode) == 0o600
    made.runtime.delete(made.id, "--force")


def test_who_may_read_the_images(counter, pyrunc, no_leaks):
    """Memory may contain secrets: only root can access the directory and the files."""
    made = counter().run().dumped()
    assert stat.S_IMODE(made.images.stat().st_mode) == 0o700
    assert not [p.name for p in made.images.iterdir() if p.stat().st_mode & 0o077]


# ---- criu is missing, fake, or killed


def without_criu(argv, **kw):
    """In a mount namespace in which no criu can be executed."""
    hide = "; ".join("[ ! -e %s ] || mount --bind /dev/null %s" % (path, path) for path in PROGRAMS)
    return subprocess.run(["unshare", "--mount", "sh", "-c", hide + '; exec "$@"', "sh", *argv], capture_output=True, text=True, **kw)


def test_no_criu(counter, pyrunc, no_leaks):
    made = counter().run()
    result = without_criu(made.runtime.argv("checkpoint", "--help"))
    assert result.returncode == 1 and "no criu on this host" in result.stderr
    result = without_criu(made.runtime.argv("checkpoint", "--image-path", made.images, made.id))
    assert result.returncode == 1 and "no criu on this host" in result.stderr
    assert not made.images.exists() and made.step() == "1"
    made.dumped()
    result = without_criu(made.runtime.argv("restore", "--bundle", made.bundle, "--image-path", made.images, "-d", made.id))
    assert result.returncode == 1 and "no criu on this host" in result.stderr and not made.known()


def test_only_the_host_s_criu_is_executed(counter, pyrunc, no_leaks):
    """The class of CVE-2026-84042: programs in the caller's PATH, the bundle, the working directory or the image are ignored."""
    made = counter()
    marker = made.bundle.path / "executed"
    for folder in (made.bundle.path, made.bundle.rootfs / "bin", made.bundle.rootfs / "sbin", made.bundle.rootfs / "usr/sbin"):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("criu", "tar", "ip", "iptables", "sh" if folder == made.bundle.path else "nft"):
            path = folder / name
            if not path.exists():
                path.write_text("#!/bin/sh\ntouch %s\nexit 1\n" % marker)
                path.chmod(0o755)
    made.run()
    env = {"PATH": ".:%s" % made.bundle.path}
    made.dumped(env=env, cwd=made.bundle.path)
    made.restored(env=env, cwd=made.bundle.path)
    assert not marker.exists() and made.step() == "1"
    made.runtime.delete(made.id, "--force")


def settings(made, moment, act):
    """CRIU runs this script for its notifications, so that a test can act at a certain moment."""
    script = made.bundle.path / "script.sh"
    script.write_text('#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != %s ] || %s\n' % (moment, act))
    script.chmod(0o755)
    path = made.bundle.path / "criu.conf"
    path.write_text("action-script %s\n" % script)
    made.bundle.patch({"/annotations": {"org.criu.config": str(path)}})


KILL = "kill -9 $PPID"


@pytest.mark.parametrize("moment", ["pre-dump", "network-lock", "post-dump"])
@pytest.mark.parametrize("act", [KILL, "exit 1"], ids=["killed", "fails"])
def test_criu_ends_during_a_dump(counter, pyrunc, moment, act, no_leaks):
    """The container is neither stopped nor left frozen, and continues counting."""
    made = counter()
    settings(made, moment, act)
    made.run(globals=["--allow-annotation-paths"])
    assert made.step() == "1"
    said = sentence(made.checkpoint())
    assert "it was killed by signal 9" in said if act == KILL else "criu failed" in said
    assert said.endswith("log file: %s/dump.log" % made.work)
    assert made.runtime.status(made.id) == "running"
    assert made.step() == "2"
    loopback(made.pid())
    made.runtime.delete(made.id, "--force")


TO_ITSELF = (
    "import socket; a = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); a.bind(('127.0.0.1', 0)); a.settimeout(10); "
    "a.sendto(b'x', a.getsockname()); a.recv(1)"
)


def loopback(pid):
    """A packet gets through in the network namespace of the process, so criu's lock has been removed."""
    words = ["nsenter", "--target", str(pid), "--net", sys.executable, "-I", "-c", TO_ITSELF]
    done = subprocess.run(words, capture_output=True, text=True, timeout=harness.WATCHDOG)
    assert done.returncode == 0, done.stderr


def cut_off(pid):
    words = ["nsenter", "--target", str(pid), "--net", sys.executable, "-I", "-c", TO_ITSELF.replace("10)", "1)")]
    return subprocess.run(words, capture_output=True, timeout=harness.WATCHDOG).returncode != 0


@pytest.fixture
def killed(counter, pyrunc):
    """killed(made): SIGKILL ends its checkpoint in the middle of the dump, and CRIU with it; the container's network stays locked."""

    def kill(made, *options):
        reached = harness.fifo(str(made.bundle.path / "reached"))
        settings(made, "post-dump", "{ echo here > %s; while :; do sleep 1; done; }" % reached)
        made.run(globals=["--allow-annotation-paths"])
        assert made.step() == "1"
        null = subprocess.DEVNULL
        words = ["checkpoint", "--image-path", made.images, *options, made.id]
        process = subprocess.Popen(made.runtime.argv(*words), stdin=null, stdout=null, stderr=null)
        assert harness.lines_of(reached) == ["here"]
        script = [int(pid) for pid, text in hoststate.processes(str(made.bundle.path)).items() if "script.sh" in text]
        process.kill()
        process.wait(harness.WATCHDOG)
        for pid in script:
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(made.images)
        assert cut_off(made.pid())
        (made.bundle.path / "criu.conf").write_text("")
        return made

    return kill


def test_a_checkpoint_that_is_killed(killed, counter, no_leaks):
    """No process was left to remove the lock: `resume` does it, once."""
    made = killed(counter())
    assert made.runtime.status(made.id) == "running"
    made.runtime.ok("resume", made.id)
    assert not cut_off(made.pid()) and made.step() == "2"
    assert made.runtime.call("resume", made.id).code == 1
    made.again()
    assert made.step() == "3"
    made.runtime.delete(made.id, "--force")


def test_a_checkpoint_after_one_that_was_killed(killed, counter, no_leaks):
    made = killed(counter())
    made.dumped("--leave-running")
    assert not cut_off(made.pid()) and made.step() == "2"
    made.runtime.delete(made.id, "--force")


@pytest.mark.parametrize("stopped", [False, True], ids=["alive", "stopped"])
def test_a_pod_s_network_after_a_killed_checkpoint(killed, counter, stopped, no_leaks):
    """The network namespace belongs to others and remains: delete removes the lock, whether the container still runs or not."""
    sandbox = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up; echo; exec sleep 1000"], stdout=subprocess.PIPE)
    try:
        assert sandbox.stdout.readline() == b"\n"
        made = counter({"/linux/namespaces/1": {"type": "network", "path": "/proc/%d/ns/net" % sandbox.pid}})
        killed(made)
        assert cut_off(sandbox.pid)
        if stopped:
            made.runtime.stopped(made.id)
            assert cut_off(sandbox.pid)
            made.runtime.delete(made.id)
        else:
            made.runtime.delete(made.id, "--force")
        assert not cut_off(sandbox.pid)
    finally:
        sandbox.kill()
        sandbox.wait()
        sandbox.stdout.close()


MOMENTS = ["pre-restore", "setup-namespaces", "post-setup-namespaces", "post-restore", "pre-resume"]


@pytest.mark.parametrize(("moment", "act"), [(m, act) for act in (KILL, "exit 1") for m in MOMENTS][:-1])  # CRIU ignores the last one
def test_criu_ends_during_a_restore(counter, pyrunc, moment, act, no_leaks):
    """Nothing is left, and the images can be used again."""
    made = counter()
    made.run().dumped()
    settings(made, moment, act)
    said = refused(made, globals=["--allow-annotation-paths"])
    assert "it was killed by signal 9" in said if act == KILL else "criu failed" in said
    made.restored()
    assert made.step() == "1"
    made.runtime.delete(made.id, "--force")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_restore_that_is_killed(counter, pyrunc, number, no_leaks):
    """TERM: everything is undone before the command exits. KILL: criu is killed too, and `delete --force` removes what is left."""
    made = counter()
    made.run().dumped()
    before = left_by_criu()
    reached = harness.fifo(str(made.bundle.path / "reached"))
    settings(made, "post-restore", "{ echo here > %s; while :; do sleep 1; done; }" % reached)
    words = ["--allow-annotation-paths", "restore", "-d", "--bundle", made.bundle, "--image-path", made.images]
    null = subprocess.DEVNULL
    process = subprocess.Popen(made.runtime.argv(*words, made.id), stdin=null, stdout=null, stderr=null)
    assert harness.lines_of(reached) == ["here"]
    script = [int(pid) for pid, text in hoststate.processes(str(made.bundle.path)).items() if "script.sh" in text]
    process.send_signal(number)
    process.wait(harness.WATCHDOG)
    for pid in script:  # a child of criu, now orphaned; it is in the container's cgroup, so it may have been killed with the rest
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if number == signal.SIGTERM:
        assert process.returncode == 128 + number and not made.known()
    else:
        made.runtime.ok("delete", "--force", made.id)
    assert set(left_by_criu()) <= set(before)  # other runs may do the same at this time


def left_by_criu():
    """Mount points of criu in /tmp, which it does not remove if it is killed."""
    return sorted(name for name in os.listdir("/tmp") if name.startswith(".criu"))


def test_a_failing_hook(counter, pyrunc, no_leaks):
    made = counter()
    made.run().dumped()
    made.bundle.patch({"/hooks": {"createRuntime": [{"path": "/bin/false"}]}})
    assert "error running createRuntime hook #0: exit status 1" in refused(made)


# ---- the command line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--manage-cgroups-mode", "hard"], "Invalid manage-cgroups-mode value"),
        (["--empty-ns", "pid"], 'namespace "pid" is not supported'),
        (["--network-lock", "ipchains"], "invalid network-lock value"),
        (["--page-server", "1234"], "Use --page-server ADDRESS:PORT to specify page server"),
        (["--page-server", ":1234"], "Use --page-server ADDRESS:PORT to specify page server"),
        (["--page-server", "::1:1234"], "Use --page-server ADDRESS:PORT to specify page server"),
        (["--page-server", "localhost:x"], "Invalid port number"),
        (["--page-server", "localhost:70000"], "Invalid port number"),
        (["--status-fd", "7"], "invalid --status-fd argument 7: bad file descriptor"),
        (["--status-fd", "x"], "want a number"),
        (["--parent-path", "/absolute"], "--parent-path must be relative"),
        (["--parent-path", "../nothing"], "invalid --parent-path: stat ../nothing: no such file or directory"),
    ],
)
def test_invalid_options(counter, pyrunc, words, said):
    made = counter().run()
    assert said in sentence(made.checkpoint(*words))
    assert made.step() == "1"
    made.runtime.delete(made.id, "--force")


def test_a_status_fd_for_reading(counter, pyrunc):
    made = counter().run()
    with open("/dev/null") as file:
        fd = file.fileno()
        result = made.checkpoint("--status-fd", str(fd), pass_fds=[fd])
    assert "not writable" in sentence(result)
    made.runtime.delete(made.id, "--force")


def test_lsm_profile_without_a_type(dumped):
    assert "invalid --lsm-profile name" in refused(dumped, "--lsm-profile", "name")


def test_strict_mode_needs_new_cgroups(counter, pyrunc, no_leaks):
    made = counter().run().dumped()
    top = "/sys/fs/cgroup/pids" if os.path.isdir("/sys/fs/cgroup/pids") else "/sys/fs/cgroup"
    path = top + made.bundle.config["linux"]["cgroupsPath"]
    os.mkdir(path)
    try:
        said = sentence(made.restore("--manage-cgroups-mode", "strict"))
    finally:
        os.rmdir(path)
    assert "the cgroup %s is there already" % path in said and not made.known()


def test_pre_dump(counter, pyrunc, no_leaks):
    """Memory is dumped ahead of time, twice, then the rest. If the kernel does not track changes, it is refused without any effect."""
    made = counter().run()
    made.images = made.bundle.path / "one"
    if subprocess.run([CRIU, "check", "--feature", "mem_dirty_track"], capture_output=True).returncode:
        assert "criu is missing features: [MemTrack]" in sentence(made.checkpoint("--pre-dump"))
        assert not made.images.exists() and made.step() == "1"
        made.runtime.delete(made.id, "--force")
        return
    made.dumped("--pre-dump")
    assert made.step() == "1"
    made.images = made.bundle.path / "two"
    made.dumped("--pre-dump", "--parent-path", "../one")
    assert made.step() == "2" and made.runtime.status(made.id) == "running"
    made.images = made.bundle.path / "three"
    made.dumped("--parent-path", "../two", "--auto-dedup").restored()
    assert made.step() == "3"
    made.runtime.delete(made.id, "--force")


def test_mounts_that_were_added(counter, pyrunc, no_leaks):
    """Mounts of `mounts add` are not in the config of the bundle, so a restore would not know about them."""
    made = counter().run()
    made.runtime.ok("mounts", "add", "--source", made.bundle.path, "--destination", "/added", "--options", "bind", made.id)
    assert "/added was mounted after create" in sentence(made.checkpoint())
    made.runtime.ok("mounts", "remove", made.id, "/added")
    made.again()
    assert made.step() == "1"
    made.runtime.delete(made.id, "--force")
