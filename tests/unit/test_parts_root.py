"""parts/root: plans for /root and rootfsPropagation."""

import errno
import os

import pytest

from fakes.hand import Ctx, namespaces
from pyrunc.errors import Refusal
from pyrunc.parts import root

HERE = "/linux/rootfsPropagation"


def plan(tmp_path, node=None, propagation=None, spaces=("mount",), join=None, options=None):
    ctx = Ctx({"namespaces": namespaces(*spaces, join=join)}, options)
    ctx.bundle = str(tmp_path)
    return root.plan({"/root": {"path": "rootfs"} if node is None else node, HERE: propagation}, ctx), ctx


def refused(*args, **more):
    with pytest.raises(Refusal) as caught:
        plan(*args, **more)
    return caught.value


@pytest.fixture
def bundle(tmp_path):
    (tmp_path / "rootfs").mkdir()
    return tmp_path


def test_the_usual(bundle):
    entry, ctx = plan(bundle)
    assert entry == {
        "path": str(bundle / "rootfs"), "readonly": False, "propagation": None, "pivot": True, "mount_ns": True, "own_ns": True,
    }  # fmt: skip
    assert ctx.warnings == []


@pytest.mark.parametrize("path", ["rootfs/", "./rootfs", "rootfs/../rootfs", "{}/rootfs", "link", "links/link"])
def test_the_real_path_is_kept(bundle, path):
    (bundle / "link").symlink_to("rootfs")
    (bundle / "links").symlink_to(bundle)
    entry, _ = plan(bundle, {"path": path.format(bundle)})
    assert entry["path"] == str(bundle / "rootfs")


def test_the_hosts_root(bundle):
    assert plan(bundle, {"path": "/"})[0]["path"] == "/"


def test_no_root(bundle):
    e = refused(bundle, {})
    assert e.words == "root must be specified" and e.pointer == "/root"


@pytest.mark.parametrize("path", ["", None, "nothing", "file", "fifo", "loop", "a\0b"])
def test_bad_paths(bundle, path):
    import os

    (bundle / "file").write_text("")
    os.mkfifo(bundle / "fifo")
    (bundle / "loop").symlink_to("loop")
    assert refused(bundle, {"path": path, "readonly": False}).pointer == "/root/path"


@pytest.mark.parametrize("word", ["shared", "slave", "private", "unbindable", "rshared", "rslave", "rprivate", "runbindable"])
def test_propagation(bundle, word):
    assert plan(bundle, propagation=word)[0]["propagation"] == word


@pytest.mark.parametrize("word", ["bogus", "SHARED", "rrprivate"])
def test_unknown_propagation(bundle, word):
    e = refused(bundle, propagation=word)
    assert e.words == "rootfsPropagation=%s is not supported" % word and e.pointer == HERE


def test_no_pivot(bundle):
    assert plan(bundle, options={"no_pivot": True})[0]["pivot"] is False
    for word in ("private", "rprivate"):
        assert "not safe with no_pivot_root" in refused(bundle, propagation=word, options={"no_pivot": True}).words


def test_without_a_mount_namespace(bundle):
    entry, ctx = plan(bundle, spaces=())
    assert ctx.warnings and ctx.warnings[0][0] == "/linux/namespaces"
    assert entry["mount_ns"] is False and entry["own_ns"] is False and entry["pivot"] is False
    assert plan(bundle, {"path": "rootfs", "readonly": True}, spaces=())[0]["readonly"]
    assert refused(bundle, {"path": "rootfs", "readonly": True}, spaces=("user",)).pointer == "/root/readonly"
    assert refused(bundle, propagation="shared", spaces=()).pointer == HERE


def test_a_joined_mount_namespace(bundle):
    entry, ctx = plan(bundle, {"path": "rootfs", "readonly": True}, spaces=(), join={"mount": "/x"})
    assert entry["mount_ns"] and not entry["own_ns"] and not entry["pivot"] and entry["readonly"]
    assert ctx.warnings and ctx.warnings[0][0] == "/linux/namespaces"


@pytest.mark.parametrize(
    ("number", "is_slave", "fails"), [(errno.EPERM, True, False), (errno.EPERM, False, True), (errno.EINVAL, True, True)]
)
def test_a_parent_that_can_not_be_made_private(monkeypatch, tmp_path, number, is_slave, fails):
    """Kernels before 6.17, in a user namespace: a slave mount is enough, because the host does not see its mounts. No other error is ignored."""
    asked = []

    def refuses(fd, flags):
        asked.append(flags)
        raise OSError(number, "no")

    monkeypatch.setattr(root.mount, "propagate", refuses)
    place = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        if fails:
            with pytest.raises(OSError, match="no"):
                root._part_from_parent(place, None, is_slave)
        else:
            root._part_from_parent(place, None, is_slave)
    finally:
        os.close(place)
    assert len(asked) == 1
