"""checkpoint and restore when something is missing or wrong: there is one error message, and nothing has changed."""

import os
import re
import shutil
import stat
import subprocess

import pytest

import hoststate
from dumping import CRIU

pytestmark = [pytest.mark.kernel, pytest.mark.slow, pytest.mark.skipif(not CRIU, reason="this machine has no criu")]


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
    os.unlink(os.path.realpath(dumped.bundle.rootfs / "bin/sh"))
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
