"""mounts add, remove and list: mounts of a running container, as seen from inside, and not visible on the host."""

import json
import os
import pathlib

import pytest

import harness
import hoststate

COPIED = 8 << 20
pytestmark = pytest.mark.kernel
SLEEP = ["/bin/sleep", "1000"]
MAP = [{"containerID": 0, "hostID": 100000, "size": 65536}]
USERNS = [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "user")]


@pytest.fixture
def source(scratch, token):
    """A directory on the host outside of all bundles, with a file."""
    path = scratch / ("%s-src%d" % (token, len(os.listdir(scratch))))
    path.mkdir()
    path.chmod(0o755)
    (path / "file").write_text("from the host\n")
    return path


@pytest.fixture
def running(pyrunc, make_bundle, no_leaks):
    """(id, bundle) of a container that sleeps."""
    bundle = make_bundle(args=SLEEP)
    yield pyrunc.started(bundle), bundle
    pyrunc.clean()


def add(pyrunc, id, **words):
    options = [x for name, value in words.items() for x in ("--" + name, value)]
    return pyrunc.call("mounts", "add", *options, id)


def inside(pyrunc, id, script, *options):
    return pyrunc.call("exec", *options, id, "/bin/sh", "-c", script)


def live(pyrunc, id):
    return [m for m in json.loads(pyrunc.ok("mounts", "list", "--format", "json", id).out) if m["origin"] == "live"]


def points(pyrunc, id):
    """{mount point: options} in the container, for the topmost mount at each point."""
    text = inside(pyrunc, id, "cat /proc/self/mountinfo").out
    return {line.split()[4]: line.split()[5] for line in text.splitlines()}


def test_bind(pyrunc, running, source):
    id, _bundle = running
    assert (result := add(pyrunc, id, source=source, destination="/mnt/deep/er")).code == 0, result
    assert (result.out, result.err) == ("", "")
    assert inside(pyrunc, id, "cat /mnt/deep/er/file; echo back > /mnt/deep/er/new").out == "from the host\n"
    assert (source / "new").read_text() == "back\n"
    assert hoststate.mounts("/mnt/deep/er") == set(), "the host sees the mount"
    (one,) = live(pyrunc, id)
    assert one["destination"] == "/mnt/deep/er" and one["source"] == str(source) and one["present"]
    pyrunc.ok("mounts", "remove", id, "/mnt/deep/er")
    assert "/mnt/deep/er" not in points(pyrunc, id) and live(pyrunc, id) == []
    assert (source / "file").exists()


def test_bind_of_a_file_read_only(pyrunc, running, source):
    id, _bundle = running
    assert add(pyrunc, id, source=source / "file", destination="/etc/added", options="ro,nosuid").code == 0
    assert {"ro", "nosuid"} <= set(points(pyrunc, id)["/etc/added"].split(","))
    result = inside(pyrunc, id, "cat /etc/added; echo x > /etc/added")
    assert result.code != 0 and result.out == "from the host\n"


def test_relative_source_starts_at_the_working_directory(pyrunc, running, source):
    id, _bundle = running
    pyrunc.ok("mounts", "add", "--source", "./file", "--destination", "/f", id, cwd=source)
    assert inside(pyrunc, id, "cat /f").out == "from the host\n"


def test_tmpfs(pyrunc, running):
    """It gets the mode of the directory that it covers, and its own options."""
    id, _bundle = running
    inside(pyrunc, id, "mkdir -p /t; chmod 1750 /t; touch /t/covered")
    assert add(pyrunc, id, type="tmpfs", source="tmpfs", destination="/t", options="size=64k,noexec").code == 0
    assert inside(pyrunc, id, "stat -c %a /t; ls /t").out == "1750\n"
    assert inside(pyrunc, id, "head -c 200000 /dev/zero > /t/full").code != 0
    assert "noexec" in points(pyrunc, id)["/t"]


def test_tmpfs_with_a_copy_of_the_covered_directory(pyrunc, running):
    id, _bundle = running
    inside(pyrunc, id, "mkdir -p /t/sub; echo 1 > /t/sub/a; chmod 700 /t")
    assert add(pyrunc, id, type="tmpfs", source="tmpfs", destination="/t", options="tmpcopyup,ro").code == 0
    assert inside(pyrunc, id, "stat -c %a /t; cat /t/sub/a").out == "700\n1\n"
    assert "ro" in points(pyrunc, id)["/t"].split(",")


def test_files_copied_into_a_tmpfs_are_charged_to_the_container(pyrunc, running):
    """And not to the caller: otherwise a container could use memory beyond its limit."""
    id, bundle = running
    (bundle.rootfs / "big").mkdir()
    (bundle.rootfs / "big" / "file").write_bytes(os.urandom(COPIED))

    def charged():
        paths = harness.saved_state(pyrunc, id)["cgroup_paths"]
        name = "memory/memory.usage_in_bytes" if "memory" in paths else "unified/memory.current"
        kind, _, file = name.partition("/")
        return int((pathlib.Path(paths[kind]) / file).read_text())

    before = charged()
    assert add(pyrunc, id, type="tmpfs", source="tmpfs", destination="/big", options="tmpcopyup").code == 0
    assert before < COPIED // 2  # not compared with the value afterwards: memory charged before may be reclaimed in the meantime
    assert charged() >= COPIED


@pytest.mark.parametrize("form", ["object", "list", "stdin"])
def test_from_a_file(pyrunc, running, source, tmp_path, form):
    """Two mounts at once, the second inside the first."""
    id, _bundle = running
    listed = [
        {"destination": "/a", "type": "tmpfs", "source": "tmpfs", "options": ["mode=711"]},
        {"destination": "/a/b", "source": str(source), "options": ["bind", "ro"]},
    ]
    text = json.dumps(listed if form != "object" else {"mounts": listed})
    (tmp_path / "m.json").write_text(text)
    if form == "stdin":
        pyrunc.ok("mounts", "add", "--file", "-", id, text=text)
    else:
        pyrunc.ok("mounts", "add", "--file", tmp_path / "m.json", id)
    assert inside(pyrunc, id, "stat -c %a /a; cat /a/b/file").out == "711\nfrom the host\n"
    assert [m["destination"] for m in live(pyrunc, id)] == ["/a", "/a/b"]
    pyrunc.ok("mounts", "remove", "--file", tmp_path / "m.json", id)
    assert live(pyrunc, id) == [] and "/a" not in points(pyrunc, id)


def test_all_or_none(pyrunc, running, source):
    """Mounts that were attached before the failing one are unmounted again."""
    id, bundle = running
    (bundle.rootfs / "file").write_text("")
    listed = [
        {"destination": "/a", "source": str(source), "options": ["bind"]},
        {"destination": "/file/x", "type": "tmpfs", "source": "tmpfs"},
    ]
    result = pyrunc.call("mounts", "add", "--file", "-", id, text=json.dumps(listed))
    assert result.code == 1 and result.err.count("\n") == 1
    assert "(/mounts/1/destination: mounts.live_attach" in result.err
    assert "/a" not in points(pyrunc, id) and live(pyrunc, id) == []


REFUSED = (
    ({"destination": "/", "source": "/tmp", "options": ["bind"]}, "/mounts/0/destination"),
    ({"destination": "/proc/sys", "source": "/tmp", "options": ["bind"]}, "/mounts/0/destination"),
    ({"destination": "/x", "type": "proc", "source": "proc"}, "/mounts/0/type"),
    ({"destination": "/x", "type": "cgroup2", "source": "cgroup2"}, "/mounts/0/type"),
    ({"destination": "/x", "type": "mqueue", "source": "mqueue"}, "/mounts/0/type"),
    ({"destination": "/dev", "options": ["remount", "ro"]}, "/mounts/0/options"),
    ({"destination": "/x", "source": "/tmp", "options": ["bind", "copy-symlink"]}, "/mounts/0/options"),
    ({"destination": "/x", "type": "tmpfs", "source": "x", "options": ["silent"]}, "/mounts/0/options"),
    ({"destination": "/x", "source": "/tmp", "options": ["bind", "size=1"]}, "/mounts/0/options/1"),
    ({"destination": "/x", "source": "/no/such", "options": ["bind"]}, "/mounts/0/source"),
    ({"destination": "/x", "type": "nofs", "source": "x"}, "/mounts/0/type"),
    ({"destination": "/x", "type": "tmpfs", "source": "x", "options": ["nosuid", "size=banana"]}, "/mounts/0/options/1"),
    ({"source": "/tmp"}, "/mounts/0/destination"),
    ({"destination": 7}, "/mounts/0/destination"),
)


@pytest.mark.parametrize(("mount", "pointer"), REFUSED, ids=lambda x: x if isinstance(x, str) else "")
def test_refusals(pyrunc, running, mount, pointer):
    id, _bundle = running
    before = points(pyrunc, id)
    result = pyrunc.call("mounts", "add", "--file", "-", id, text=json.dumps([mount]))
    assert result.code == 1 and "(" + pointer in result.err, result
    assert result.err.count("\n") == 1
    assert points(pyrunc, id) == before and live(pyrunc, id) == []


def test_path_that_leads_out(pyrunc, running, source, tmp_path):
    """Links in the image are only followed inside the container."""
    id, bundle = running
    outside = source / "outside"
    outside.mkdir()
    (bundle.rootfs / "out").symlink_to(outside)
    before = hoststate.snapshot(outside)
    assert add(pyrunc, id, source=source / "file", destination="/out/placed").code == 0
    assert hoststate.snapshot(outside) == before
    assert (bundle.rootfs / str(outside)[1:] / "placed").exists()


def test_user_namespace(pyrunc, make_bundle, source, no_leaks):
    """A new tmpfs belongs to the container's root user, and so do created directories and id-mapped sources."""
    if not hoststate.has_id_maps(source):
        pytest.skip("the file system of TMPDIR has no id-mapped mounts")
    bundle = make_bundle({"/linux/namespaces": USERNS, "/linux/uidMappings": MAP, "/linux/gidMappings": MAP}, args=SLEEP)
    bundle.rootfs.parent.chmod(0o755)
    os.chown(bundle.rootfs, 100000, 100000)
    id = pyrunc.started(bundle)
    assert (result := add(pyrunc, id, type="tmpfs", source="tmpfs", destination="/made/t")).code == 0, result
    assert add(pyrunc, id, source=source, destination="/made/plain").code == 0
    assert (result := add(pyrunc, id, source=source, destination="/made/mapped", options="rbind,idmap")).code == 0, result
    out = inside(pyrunc, id, "cd /made; stat -c '%n %u' . t plain/file mapped/file; echo 1 > t/x; echo 2 > mapped/new; cat t/x").out
    assert out.split() == [".", "0", "t", "0", "plain/file", "65534", "mapped/file", "0", "1"]
    assert (source / "new").stat().st_uid == 0
    pyrunc.ok("mounts", "remove", id, "/made/t", "/made/mapped")
    assert [m["destination"] for m in live(pyrunc, id)] == ["/made/plain"]
    pyrunc.delete(id, "--force")


def test_the_latest_of_two_is_removed_first(pyrunc, running, source):
    id, _bundle = running
    for _ in range(2):
        assert add(pyrunc, id, source=source, destination="/a").code == 0
    pyrunc.ok("mounts", "remove", id, "/a/")
    assert "/a" in points(pyrunc, id)
    pyrunc.ok("mounts", "remove", id, "/a")
    assert "/a" not in points(pyrunc, id)


def test_remove_includes_mounts_below(pyrunc, running, source):
    id, _bundle = running
    add(pyrunc, id, type="tmpfs", source="tmpfs", destination="/a")
    add(pyrunc, id, source=source, destination="/a/b")
    pyrunc.ok("mounts", "remove", id, "/a")
    assert live(pyrunc, id) == []


@pytest.mark.parametrize("destination", ["/dev", "/never"])
def test_remove_a_mount_that_was_not_added(pyrunc, running, destination):
    id, _bundle = running
    before = points(pyrunc, id)
    result = pyrunc.call("mounts", "remove", id, destination)
    assert result.code == 1 and destination in result.err and result.err.count("\n") == 1
    assert points(pyrunc, id) == before


def test_remove_a_file_without_mounts(pyrunc, running, tmp_path):
    id, _bundle = running
    (tmp_path / "none.json").write_text('{"mounts": []}')
    for words in (("--file", tmp_path / "none.json", id), (id, tmp_path / "none.json")):
        result = pyrunc.call("mounts", "remove", *words)
        assert result.code == 1 and "nothing to unmount" in result.err, result


def test_remove_a_mount_that_the_container_has_covered(pyrunc, running, source):
    """Only the mount that was added is unmounted; a container with CAP_SYS_ADMIN may have mounted something on it."""
    id, _bundle = running
    add(pyrunc, id, source=source, destination="/a")
    admin = ("--cap", "CAP_SYS_ADMIN")
    assert inside(pyrunc, id, "mount -t tmpfs cover /a", *admin).code == 0
    result = pyrunc.call("mounts", "remove", id, "/a")
    assert result.code == 1 and "covers /a" in result.err
    assert len(live(pyrunc, id)) == 1
    assert inside(pyrunc, id, "umount /a && umount /a", *admin).code == 0
    assert [m["present"] for m in live(pyrunc, id)] == [False]
    pyrunc.ok("mounts", "remove", id, "/a")
    assert live(pyrunc, id) == []


def test_created_and_paused(pyrunc, make_bundle, source, no_leaks):
    bundle = make_bundle(args=["/bin/sh", "-c", "cat /a/file > /seen; cat /a/file"])
    id = pyrunc.create(bundle)
    assert add(pyrunc, id, source=source, destination="/a").code == 0
    pyrunc.start(id)
    pyrunc.stopped(id, None)
    assert (bundle.rootfs / "seen").read_text() == "from the host\n"
    pyrunc.delete(id)
    id = pyrunc.started(make_bundle(args=SLEEP))
    pyrunc.ok("pause", id)
    assert add(pyrunc, id, source=source, destination="/a").code == 0
    pyrunc.delete(id, "--force")


def test_stopped(pyrunc, running, source):
    id, _bundle = running
    add(pyrunc, id, source=source, destination="/a")
    pyrunc.stopped(id)
    for words in (["add", "--source", source, "--destination", "/b", id], ["remove", id, "/a"]):
        result = pyrunc.call("mounts", *words)
        assert result.code == 1 and "container not running" in result.err
    assert [m["present"] for m in live(pyrunc, id)] == [False]


def test_table(pyrunc, running, source):
    id, _bundle = running
    add(pyrunc, id, source=source, destination="/a", options="ro,bind")
    lines = [line.split() for line in pyrunc.ok("mounts", "list", id).out.splitlines()]
    assert lines[0] == ["DESTINATION", "TYPE", "SOURCE", "ORIGIN", "OPTIONS"]
    assert ["/proc", "proc", "proc", "config", "nosuid,noexec,nodev"] in lines
    assert lines[-1] == ["/a", "bind", str(source), "live", "ro,bind"]


def test_host_mount_namespace(pyrunc, make_bundle, source):
    """Without a separate mount namespace, every mount would appear on the host."""
    names = [{"type": "pid"}]
    changes = {"/linux/namespaces": names, "/mounts": harness.ABSENT, "/hostname": harness.ABSENT}
    bundle = make_bundle(changes, args=SLEEP)
    if os.statvfs(bundle.rootfs).f_flag & os.ST_NODEV:
        pytest.skip("the bundles on this machine are on a file system without devices")
    id = pyrunc.started(bundle)
    before = hoststate.mounts(str(bundle.path))
    assert add(pyrunc, id, source=source, destination="/a").code == 1
    assert hoststate.mounts(str(bundle.path)) == before


@pytest.mark.parametrize(
    "words", [["add"], ["add", "ID"], ["move", "ID"], ["list", "ID", "more"], ["remove", "ID"], ["add", "--source", "/x", "ID"]]
)
def test_usage(pyrunc, words):
    result = pyrunc.call("mounts", *words)
    assert result.code == 1 and result.err.count("\n") == 1


def test_unknown_container(pyrunc):
    assert "container does not exist" in pyrunc.call("mounts", "list", "none").err


def exchange(one, two, count):
    """Exchanges two names again and again in a separate process (the escape of CVE-2021-30465)."""
    import ctypes

    pid = os.fork()
    if pid == 0:
        libc = ctypes.CDLL(None)
        for _ in range(count):
            libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(two), 2)
        os._exit(0)
    return pid


@pytest.mark.slow
def test_names_that_are_exchanged_at_the_same_time(pyrunc, running, source):
    """Each time, the mount is inside the root of the container, or there is no mount; nothing is created or mounted outside."""
    id, bundle = running
    outside = source / "outside"
    (outside / "place").mkdir(parents=True)
    (bundle.rootfs / "way/place").mkdir(parents=True)
    (bundle.rootfs / "other").symlink_to(outside)
    before, table = hoststate.snapshot(outside), hoststate.mounts(str(outside))
    codes = []
    for _ in range(12):
        pid = exchange(bundle.rootfs / "way", bundle.rootfs / "other", 400_000)
        try:
            codes.append(add(pyrunc, id, source=source / "file", destination="/way/place/deep/file").code)
            codes.append(add(pyrunc, id, type="tmpfs", source="tmpfs", destination="/way/place").code)
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        assert hoststate.snapshot(outside) == before and hoststate.mounts(str(outside)) == table
        listed = live(pyrunc, id)
        assert len(listed) <= sum(code == 0 for code in codes)
    assert set(codes) <= {0, 1}


def test_remove_accepts_a_file_too(pyrunc, running, source, tmp_path):
    """crun's form `mounts remove ID FILE`, as for add; a destination of that name takes precedence."""
    id, _bundle = running
    file = tmp_path / "mounts.json"
    file.write_text(json.dumps({"mounts": [{"destination": "/a", "type": "bind", "source": str(source), "options": ["bind"]}]}))
    pyrunc.ok("mounts", "add", id, file)
    assert len(live(pyrunc, id)) == 1
    pyrunc.ok("mounts", "remove", id, file)
    assert live(pyrunc, id) == []
    add(pyrunc, id, source=source, destination=str(file))
    pyrunc.ok("mounts", "remove", id, file)
    assert live(pyrunc, id) == []
