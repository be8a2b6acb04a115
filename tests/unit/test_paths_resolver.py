"""linux/paths: the resolver of paths inside a root. Any user can run this: openat2(2) needs no privileges."""

import errno
import os

import pytest

import hoststate
from pyrunc.linux import fs, paths


@pytest.fixture
def root(tmp_path):
    """(fd of a root, its path); next to it is a directory that nothing may reach or change."""
    made = tmp_path / "root"
    made.mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/victim").write_text("")
    fd = os.open(made, os.O_PATH | os.O_DIRECTORY)
    yield fd, made
    os.close(fd)
    assert sorted(os.listdir(tmp_path)) == ["out", "root"] and os.listdir(tmp_path / "out") == ["victim"]


@pytest.fixture(autouse=True)
def no_descriptor_is_left():
    before = len(hoststate.descriptors())
    yield
    assert len(os.listdir("/proc/self/fd")) <= before + 1  # the fixture `root` closes its descriptor later


def where(fd, root):
    """The path of an fd relative to the root; closes it."""
    path = os.readlink("/proc/self/fd/%d" % fd)
    os.close(fd)
    return "/" + os.path.relpath(path, root) if path != str(root) else "/"


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("/", "/"),
        ("", "/"),
        ("a", "/a"),
        ("/a//b/./c/", "/a/b/c"),
        ("/a/../b", "/b"),
        ("/../../x", "/x"),
        ("a/b/../../..", "/"),
        ("/..a/...", "/..a/..."),
    ],
)
def test_clean(path, clean):
    assert paths.clean(path) == clean


def test_resolve(root):
    fd, top = root
    (top / "a/b").mkdir(parents=True)
    (top / "abs").symlink_to("/a")
    (top / "up").symlink_to("../../../a/b")
    for path, found in (("/a/b", "/a/b"), ("a", "/a"), ("/abs/b", "/a/b"), ("/up", "/a/b"), ("/../../a", "/a"), ("/", "/")):
        assert where(paths.resolve(fd, path), top) == found
    with pytest.raises(FileNotFoundError) as caught:
        paths.resolve(fd, "/a/none")
    assert caught.value.call == "openat2" and caught.value.filename == "/a/none"  # type: ignore[attr-defined]


def test_resolve_plain_follows_no_links(root):
    fd, top = root
    (top / "a/b").mkdir(parents=True)
    (top / "link").symlink_to("a")
    assert where(paths.resolve(fd, "/a/b", plain=True), top) == "/a/b"
    for path in ("/link", "/link/b"):
        with pytest.raises(OSError) as caught:
            paths.resolve(fd, path, plain=True)
        assert caught.value.errno == errno.ELOOP


def test_resolve_gives_up_after_a_number_of_tries(root, monkeypatch):
    calls = []

    class Syscalls:
        @staticmethod
        def openat2(*_args):
            calls.append(1)
            raise fs.failure(errno.EAGAIN, "openat2")

    monkeypatch.setattr(paths, "_syscalls", Syscalls)
    with pytest.raises(BlockingIOError):
        paths.resolve(root[0], "/a")
    assert len(calls) == paths.RETRIES + 1


def test_make_dir(root):
    fd, top = root
    old = os.umask(0o077)
    try:
        assert where(paths.make_dir(fd, "/a/b/c"), top) == "/a/b/c"
        assert where(paths.make_dir(fd, "/m/n", 0o711), top) == "/m/n"
    finally:
        assert os.umask(old) == 0o077, "the umask is restored"
    assert [(top / p).stat().st_mode & 0o7777 for p in ("a", "a/b", "m/n")] == [0o755, 0o755, 0o711]
    assert where(paths.make_dir(fd, "/a/b"), top) == "/a/b"
    assert where(paths.make_dir(fd, "/"), top) == "/"


def test_make_file(root):
    fd, top = root
    assert where(paths.make_file(fd, "/d/e/f"), top) == "/d/e/f"
    assert (top / "d/e/f").stat().st_mode & 0o7777 == 0o644 and (top / "d/e").stat().st_mode & 0o7777 == 0o755
    (top / "there").write_text("kept")
    assert where(paths.make_file(fd, "/there"), top) == "/there" and (top / "there").read_text() == "kept"
    os.mkfifo(top / "fifo")
    assert where(paths.make_file(fd, "/fifo"), top) == "/fifo", "opening it would block"


@pytest.mark.parametrize(
    ("links", "path", "found"),
    [
        ({"etc": "/gone"}, "/etc/x", "/gone/x"),
        ({"etc": "gone/deeper"}, "/etc/x", "/gone/deeper/x"),
        ({"var": "run", "run": "/really"}, "/var/x", "/really/x"),
        ({"up": "../../../up2"}, "/up/x", "/up2/x"),
        ({"w": "a/../b/./c"}, "/w/x", "/b/c/x"),
        ({"out": "../out"}, "/out/new/x", None),
        ({"p": "/proc/self/cwd"}, "/p/x", "/proc/self/cwd/x"),
    ],
)
def test_dangling_links_are_filled_inside(root, links, path, found):
    fd, top = root
    for name, target in links.items():
        (top / name).symlink_to(target)
    if found is None:  # ../out is /out, the link itself
        with pytest.raises(OSError) as caught:
            paths.make_dir(fd, path)
        assert caught.value.errno == errno.ELOOP
        return
    assert where(paths.make_dir(fd, path), top) == found
    assert where(paths.make_file(fd, path + "f"), top) == found + "f"


def test_the_last_component_may_be_a_dangling_link(root):
    fd, top = root
    (top / "resolv.conf").symlink_to("../run/resolved/stub.conf")
    assert where(paths.make_file(fd, "/resolv.conf"), top) == "/run/resolved/stub.conf"


def test_link_loops(root):
    fd, top = root
    (top / "a").symlink_to("b")
    (top / "b").symlink_to("a")
    for make in (paths.make_dir, paths.make_file):
        with pytest.raises(OSError) as caught:
            make(fd, "/a/x")
        assert caught.value.errno == errno.ELOOP


def test_plain_making(root):
    fd, top = root
    (top / "link").symlink_to("gone")
    with pytest.raises(OSError) as caught:
        paths.make_dir(fd, "/link/x", plain=True)
    assert caught.value.errno == errno.ELOOP and os.listdir(top) == ["link"]
    assert where(paths.make_dir(fd, "/p/q", plain=True), top) == "/p/q"


def test_files_in_the_way(root):
    fd, top = root
    (top / "f").write_text("")
    for path in ("/f", "/f/x", "/f/x/y"):
        with pytest.raises(NotADirectoryError) as caught:
            paths.make_dir(fd, path)
        assert caught.value.filename == path and caught.value.call  # type: ignore[attr-defined]
    with pytest.raises(NotADirectoryError):
        paths.make_file(fd, "/f/x")


def test_parent(root):
    fd, top = root
    folder, name = paths.parent(fd, "/dev/sub/node")
    assert name == "node" and where(folder, top) == "/dev/sub"
    folder, name = paths.parent(fd, "/node")
    assert name == "node" and where(folder, top) == "/"


def test_verify(root):
    fd, top = root
    (top / "a").mkdir()
    paths.verify(fd, "/a", fd)
    other = os.open("/proc", os.O_PATH)
    with pytest.raises(OSError) as caught:
        paths.verify(fd, "/a", other)
    assert caught.value.errno == errno.ESTALE and caught.value.filename == "/a"
    os.close(other)


def test_mount_roots():
    fd = os.open("/proc", os.O_PATH)
    assert paths.is_mount_root(fd)
    os.close(fd)
    fd = os.open("/proc/sys", os.O_PATH)
    assert not paths.is_mount_root(fd)
    os.close(fd)


def test_a_name_that_appears_meanwhile(root, monkeypatch):
    """EEXIST on creation: another process was faster, and its file is checked like any other file."""
    fd, top = root
    real = fs.mkdir

    def slow(name, mode, dir_fd=None):
        os.symlink("other", name, dir_fd=dir_fd) if name == "a" else None
        real(name, mode, dir_fd=dir_fd)

    monkeypatch.setattr(fs, "mkdir", slow)
    assert where(paths.make_dir(fd, "/a/b"), top) == "/other/b"


def test_a_name_that_is_removed_again_and_again(root, monkeypatch):
    """Someone who keeps removing what we create must not keep us in a loop forever."""
    fd, _top = root
    real = fs.mkdir

    def gone(name, mode, dir_fd=None):
        real(name, mode, dir_fd=dir_fd)
        os.rmdir(name, dir_fd=dir_fd)

    monkeypatch.setattr(fs, "mkdir", gone)
    with pytest.raises(FileNotFoundError):
        paths.make_dir(fd, "/a/b")
