"""What a failure says in full, and that it leaves nothing open or mounted. `make mutants` showed that nothing else noticed (docs/testing.md)."""

import errno
import importlib
import os
import signal

import pytest

from fakes.hand import Ctx, Run, failing, namespaces, open_files
from pyrunc.cgroup import hierarchies
from pyrunc.errors import CallError, Refusal, StepFailure
from pyrunc.linux import constants as c
from pyrunc.linux import mount, ns, spawn
from pyrunc.parts import devices, mounts, paths
from pyrunc.parts.criu import paths as criu_paths
from pyrunc.parts.mounts import bind, cgroupfs
from pyrunc.parts.resources import limits

PAGE = importlib.import_module("pyrunc.parts.mounts.plan").PAGE  # the package has a function of that name


# ---- mounts


@pytest.mark.parametrize(
    ("has", "asked", "words"),
    [
        (c.MS_RELATIME, c.MS_NOATIME, "the mount has relatime, asked for is noatime"),
        (c.MS_NOATIME | c.MS_NODEV, c.MS_STRICTATIME | c.MS_RDONLY, "the mount has noatime, asked for is strictatime"),
        (c.MS_NOATIME, c.MS_NOATIME, None),
        (c.MS_NOATIME, c.MS_RDONLY, None),
    ],
)
def test_locked_access_times_are_named(monkeypatch, has, asked, words):
    """The kernel refuses the first attempt; the second one asks only for what is not locked."""
    asking = []

    def setattr_(_tree, attr_set, attr_clr=0, **_more):
        asking.append((attr_set, attr_clr))
        if len(asking) == 1:
            raise OSError(errno.EPERM, "locked")

    statfs = {c.MS_NOATIME: 0x400, c.MS_RELATIME: 0x1000, c.MS_NODEV: 0x4}  # ST_NOATIME, ST_RELATIME, ST_NODEV
    monkeypatch.setattr(mount, "setattr", setattr_)
    monkeypatch.setattr(mount, "flags_of", lambda _tree: sum(bit for flag, bit in statfs.items() if has & flag))
    item = {"flags": asked, "clear": 0, "source": "/vol", "rec_set": 0, "rec_clr": 0, "kind": "bind", "explicit": True}
    if words is None:
        bind.set_flags(3, item)
        assert len(asking) == 2 and asking[1][1] & c.MOUNT_ATTR__ATIME == 0, "the access times are left alone"
    else:
        with pytest.raises(StepFailure) as caught:
            bind.set_flags(3, item)
        assert caught.value.reason == "locked-atime" and caught.value.words.endswith(words)


def test_how_long_the_options_of_a_mount_are():
    """What the kernel copies ends with a NUL, which is not counted."""
    words = ["a=" + "x" * 100, "b=" + "x" * PAGE]
    with pytest.raises(Refusal) as caught:
        mounts.plan(
            {"/mounts": [{"destination": "/t", "type": "9p", "source": "x", "options": words}]}, Ctx({"namespaces": namespaces("mount")})
        )
    assert "%d bytes of options" % len(",".join(words)) in caught.value.words
    assert caught.value.words.endswith("the kernel takes %d" % (PAGE - 1)) and caught.value.pointer == "/mounts/0/options/1"


# ---- resources


@pytest.mark.parametrize("size", ["2M", "2mB", "2KiB", "2TB", "MB", "B", "", "0MB", "02MB", "²MB", "٢MB", "-2MB", "1.5MB", "1234567890KB"])  # noqa: RUF001
def test_what_is_no_size_of_a_huge_page(monkeypatch, size):
    """The size becomes part of a file name: it is refused for its form, whatever exists below /sys."""
    monkeypatch.setattr(hierarchies, "exists", lambda _path: True)
    with pytest.raises(Refusal, match="not a page size") as caught:
        limits._hugetlb({"hugepageLimits": [{"pageSize": "123456789KB", "limit": 1}, {"pageSize": size, "limit": 1}]}, 2, Ctx())
    assert caught.value.pointer == "/linux/resources/hugepageLimits/1/pageSize"


# ---- namespaces


@pytest.mark.parametrize(("joined", "given"), [(("user",), -1), (("pid",), -1), (("user", "cgroup"), 77), (("cgroup", "pid"), 77)])
def test_who_is_cloned_into_the_cgroup(monkeypatch, joined, given):
    """With a foreign cgroup namespace it is the intermediate process: inside of it the kernel may refuse (nsdelegate)."""
    calls = []

    def clone3(*words):
        calls.append(words)
        raise CallError(errno.EAGAIN, "refused", call="clone3")

    monkeypatch.setattr(ns._syscalls, "clone3", clone3)
    before = open_files()
    with pytest.raises(CallError) as caught:
        ns.clone_init(dict.fromkeys(joined, 99), 0, cgroup_fd=77)
    assert caught.value.call == "clone3"
    assert calls == [(0, signal.SIGCHLD, given, False)] and open_files() == before


# ---- devices


@pytest.mark.kernel
def test_a_device_that_cannot_be_lent_stays_with_nobody(tmp_path, monkeypatch):
    """The host makes a node for init in a user namespace; if its mount can't be changed, it is closed again."""
    trees = []

    def clone(*_words, **_more):
        trees.append(os.open("/dev/null", os.O_PATH))
        return trees[-1]

    node = {"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "mode": 0o666, "uid": 0, "gid": 0, "pointer": "/linux/devices/0"}
    monkeypatch.setattr(mount, "clone", clone)
    monkeypatch.setattr(mount, "setattr", failing(errno.EINVAL))
    monkeypatch.setattr("pyrunc.linux.fs.mknod", lambda name, _kind, _number, dir_fd: os.close(os.open(name, os.O_CREAT, dir_fd=dir_fd)))
    folder = os.open(tmp_path, os.O_RDONLY)
    before = open_files()
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        devices.host_answer({"nodes": [node]}, Run(dir_fd=folder), {"path": "/dev/x"})
    assert trees and open_files() == before
    os.close(folder)


# ---- what is there already, and older kernels


@pytest.mark.parametrize(("there", "number"), [(None, None), ("/target", None), ("/other", errno.EEXIST), ("", errno.EINVAL)])
def test_a_link_that_is_copied_into_the_root(tmp_path, there, number):
    """crun's copy-symlink: the same link may be there already, from an earlier run; a file or another link is an error and stays."""
    (tmp_path / "root").mkdir()
    (tmp_path / "source").symlink_to("/target")
    copy = tmp_path / "root/copy"
    if there:
        copy.symlink_to(there)
    elif there is not None:
        copy.write_text("")
    run = Run(root_fd=os.open(tmp_path / "root", os.O_PATH))
    before = open_files()
    item = {"source": str(tmp_path / "source"), "destination": "/copy"}
    if number is None:
        assert bind._copy_link(item, run) is True and os.readlink(copy) == "/target"
    else:
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            bind._copy_link(item, run)
        assert caught.value.errno == number and (os.readlink(copy) == there if there else copy.read_text() == "")
    assert bind._copy_link({"source": str(tmp_path), "destination": "/copy"}, run) is False, "no link: it is mounted"
    assert open_files() == before
    os.close(run.root_fd)


@pytest.mark.parametrize("number", [None, errno.EINVAL, errno.ENOSPC, errno.EPERM])
def test_the_cover_of_a_masked_directory(monkeypatch, number):
    """Where the kernel refuses a tmpfs with one inode, it gets two; any other error is one."""
    asked = []

    def new(kind, _source, flags, _attributes, words):
        asked.append(words)
        if number is not None and len(asked) == 1:
            raise OSError(number, os.strerror(number))
        return 77

    monkeypatch.setattr(mount, "new", new)
    if number == errno.EPERM:
        with pytest.raises(PermissionError):
            paths._directory_cover({"dir": None}, None)
    else:
        assert paths._directory_cover({"dir": None}, "u:r:t:s0") == 77
    label = ['context="u:r:t:s0"'] if number != errno.EPERM else []
    first, second = (["nr_blocks=1", "nr_inodes=%d" % inodes, *label] for inodes in (1, 2))
    assert asked == ([first, second] if number in (errno.EINVAL, errno.ENOSPC) else [first])


@pytest.mark.parametrize("cgroupns", [True, False])
@pytest.mark.parametrize("verified", [True, False])
def test_a_cgroup_mount_is_finished_like_any_other(monkeypatch, cgroupns, verified):
    """On cgroup version 2, too, it gets the propagation of the config after it is attached, and it is verified."""
    steps = []

    def opened(*_words):
        return os.open("/", os.O_PATH)

    def verify(_item, _run, _fd):
        steps.append("verify")
        if not verified:
            raise OSError(errno.ESTALE, "another mount")

    monkeypatch.setattr(cgroupfs.mountpoint, "find_dir", lambda _item, _run: (opened(), None))
    monkeypatch.setattr(cgroupfs.mountpoint, "check_proc", lambda *_words: None)
    monkeypatch.setattr(cgroupfs.mountpoint, "verify", verify)
    monkeypatch.setattr(cgroupfs, "_cgroup2", opened)
    monkeypatch.setattr(cgroupfs, "_bound", opened)
    monkeypatch.setattr(mount, "attach", lambda _top, _target: steps.append("attach"))
    monkeypatch.setattr(mount, "propagate", lambda _fd, flag: steps.append(flag))
    before = open_files()
    words = {"propagation": [c.MS_PRIVATE, c.MS_SLAVE | c.MS_REC]}, {"cgroupns": cgroupns}, Run(), {}
    if verified:
        cgroupfs._unified(*words)
    else:
        with pytest.raises(OSError, match="another mount"):
            cgroupfs._unified(*words)
    assert steps == [*([] if cgroupns else ["attach"]), c.MS_PRIVATE, c.MS_SLAVE | c.MS_REC, "verify"]
    assert open_files() == before


@pytest.mark.parametrize("device", [(1, 3), (1, 5), None])
def test_what_a_restored_mask_is_made_of(monkeypatch, device):
    """Masked files of a restored container are covered by the host's null device, or not at all."""
    covered = []
    monkeypatch.setattr(mount, "clone", lambda *_words, **_more: os.open("/dev/null", os.O_PATH))
    monkeypatch.setattr(mount, "setattr", lambda tree, *_words: covered.append(tree))
    monkeypatch.setattr(criu_paths.fs, "char_device", lambda _st: device)
    before = open_files()
    source = {"source": "/dev/null", "pointer": "/linux/maskedPaths"}
    if device == (1, 3):
        tree = criu_paths.clone(source, Run())
        assert covered == [tree]
        os.close(tree)
    else:
        with pytest.raises(StepFailure) as caught:
            criu_paths.clone(source, Run())
        assert (caught.value.reason, caught.value.pointer) == ("bad-null-device", "/linux/maskedPaths") and covered == []
    assert open_files() == before


@pytest.mark.parametrize("program", ["cat", "true"])
def test_a_helper_that_answers_before_it_has_read_everything(program):
    """Neither side waits for the other when both pipes are full; a helper that reads nothing is none the worse for it."""
    before = open_files()
    ended = spawn.run("/bin/" + program, [program], [], b"x" * 400_000)
    assert (ended.why, ended.code) == ("exit", 0) and set(ended.out) <= set(b"x") and bool(ended.out) == (program == "cat")
    assert open_files() == before
