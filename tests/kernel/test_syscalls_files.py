"""The system calls of the extension for mounts and files: each is called once successfully and once with a failure."""

import errno
import os
import struct

import pytest

import kernel_constants
from pyrunc.linux import _syscalls, constants
from tail import returns
from test_syscalls import fails_with

pytestmark = pytest.mark.kernel


def inside(look, flags=constants.CLONE_NEWNS, prepare=None):
    """Returns the result of look() in a child with a new mount namespace."""

    def apart():
        if flags & constants.CLONE_NEWNS:
            _syscalls.mount(None, "/", None, constants.MS_REC | constants.MS_PRIVATE, None)
        if prepare:
            prepare()

    return returns((), look, flags=flags, prepare=apart)


# --- mounts


def test_a_file_system_by_descriptors(tmp_path):
    def look():
        context = _syscalls.fsopen("tmpfs", constants.FSOPEN_CLOEXEC)
        _syscalls.fsconfig(context, constants.FSCONFIG_SET_STRING, "size", "64k", 0)
        _syscalls.fsconfig(context, constants.FSCONFIG_CMD_CREATE, None, None, 0)
        fd = _syscalls.fsmount(context, constants.FSMOUNT_CLOEXEC, constants.MOUNT_ATTR_NOSUID)
        _syscalls.move_mount(fd, "", constants.AT_FDCWD, str(tmp_path), constants.MOVE_MOUNT_F_EMPTY_PATH)
        answer = [os.get_inheritable(fd), os.get_inheritable(context), _syscalls.fstatfs(fd)]
        (tmp_path / "file").write_text("x" * 100)
        root = _syscalls.statx(constants.AT_FDCWD, str(tmp_path), 0, kernel_constants.STATX_BASIC_STATS | kernel_constants.STATX_MNT_ID)
        file = _syscalls.statx(
            constants.AT_FDCWD, str(tmp_path / "file"), 0, kernel_constants.STATX_BASIC_STATS | kernel_constants.STATX_MNT_ID
        )
        copy = _syscalls.open_tree(constants.AT_FDCWD, str(tmp_path), constants.OPEN_TREE_CLONE | constants.OPEN_TREE_CLOEXEC)
        _syscalls.mount_setattr(copy, "", constants.AT_EMPTY_PATH, constants.MOUNT_ATTR_RDONLY, 0, 0, -1)
        answer += [_syscalls.fstatfs(copy)[1] & constants.ST_RDONLY, _syscalls.statfs(str(tmp_path))[1] & constants.ST_RDONLY]
        picked = _syscalls.fspick(constants.AT_FDCWD, str(tmp_path), constants.FSPICK_CLOEXEC)
        _syscalls.fsconfig(picked, constants.FSCONFIG_SET_FLAG, "ro", None, 0)
        _syscalls.fsconfig(picked, constants.FSCONFIG_CMD_RECONFIGURE, None, None, 0)
        answer += [_syscalls.statfs(str(tmp_path))[1] & constants.ST_RDONLY]
        _syscalls.umount2(str(tmp_path), constants.MNT_DETACH)
        return answer, root[10] & constants.STATX_ATTR_MOUNT_ROOT, file[10] & constants.STATX_ATTR_MOUNT_ROOT, root[9] == file[9], file[11]

    answer, *rest = inside(look)
    kind, flags = answer[2]
    assert answer[:2] == [False, False]
    assert kind == kernel_constants.TMPFS_MAGIC and flags & constants.ST_NOSUID
    assert answer[3:] == [constants.ST_RDONLY, 0, constants.ST_RDONLY]
    assert rest == [constants.STATX_ATTR_MOUNT_ROOT, 0, True, 100]
    assert not (tmp_path / "file").exists()


def test_mount_and_pivot_root(tmp_path):
    def look():
        _syscalls.mount("tmpfs", str(tmp_path), "tmpfs", constants.MS_NOSUID, "size=64k")
        os.chdir(tmp_path)
        _syscalls.pivot_root(".", ".")
        _syscalls.umount2(".", constants.MNT_DETACH)
        return os.listdir("/"), os.getcwd()

    assert inside(look) == ([], "/")


def test_an_idmapped_mount(tmp_path):
    def user_namespace():
        reader, writer = os.pipe()
        pid, fd = _syscalls.clone3(constants.CLONE_NEWUSER)
        if pid == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        for name in ("uid_map", "gid_map"):
            with open("/proc/%d/%s" % (pid, name), "w") as file:
                file.write("0 1000 100\n")
        fd = os.open("/proc/%d/ns/user" % pid, os.O_RDONLY)
        os.close(writer)
        os.waitpid(pid, 0)
        return fd

    def look():
        _syscalls.mount("tmpfs", str(tmp_path), "tmpfs", 0, None)
        (tmp_path / "file").write_text("")
        copy = _syscalls.open_tree(constants.AT_FDCWD, str(tmp_path), constants.OPEN_TREE_CLONE)
        _syscalls.mount_setattr(copy, "", constants.AT_EMPTY_PATH, constants.MOUNT_ATTR_IDMAP, 0, 0, user_namespace())
        return os.stat("file", dir_fd=copy).st_uid

    assert inside(look) == 1000


def test_mount_calls_that_fail(tmp_path):
    gone = str(tmp_path / "gone")
    at = constants.AT_FDCWD
    assert fails_with(errno.ENOENT, "mount", _syscalls.mount, None, gone, "tmpfs", 0, None).filename == gone
    assert fails_with(errno.ENOENT, "umount2", _syscalls.umount2, gone, 0).filename == gone
    fails_with(errno.ENOENT, "open_tree", _syscalls.open_tree, at, gone, 0)
    fails_with(errno.ENODEV, "fsopen", _syscalls.fsopen, "nofs", 0)
    fails_with(errno.EBADF, "fsconfig", _syscalls.fsconfig, 999, constants.FSCONFIG_CMD_CREATE, None, None, 0)
    fails_with(errno.EBADF, "fsmount", _syscalls.fsmount, 999, 0, 0)
    fails_with(errno.ENOENT, "fspick", _syscalls.fspick, at, gone, 0)
    fails_with(errno.ENOENT, "move_mount", _syscalls.move_mount, at, gone, at, gone, 0)
    fails_with(errno.ENOENT, "mount_setattr", _syscalls.mount_setattr, at, gone, 0, constants.MOUNT_ATTR_RDONLY, 0, 0, -1)
    fails_with(errno.ENOENT, "pivot_root", _syscalls.pivot_root, gone, gone)
    fails_with(errno.EBADF, "setns", _syscalls.setns, 999, 0)
    fails_with(errno.EINVAL, "unshare", _syscalls.unshare, 1)


# --- files


def test_openat2_stays_in_the_root(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/name").write_text("inside")
    (tmp_path / "link").symlink_to("/etc/name")
    root = os.open(tmp_path, os.O_PATH)
    fd = _syscalls.openat2(root, "link", os.O_RDONLY | os.O_CLOEXEC, 0, constants.RESOLVE_IN_ROOT)
    assert os.read(fd, 99) == b"inside"
    os.close(fd)
    failed = fails_with(errno.EXDEV, "openat2", _syscalls.openat2, root, "link", os.O_RDONLY, 0, constants.RESOLVE_BENEATH)
    assert failed.filename == "link"
    fails_with(errno.ELOOP, "openat2", _syscalls.openat2, root, "link", os.O_RDONLY, 0, constants.RESOLVE_NO_SYMLINKS)
    os.close(root)


def test_modes_and_owners(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    at = constants.AT_FDCWD
    file.chmod(0o640)
    _syscalls.fchownat(at, str(file), 12, 4000000000, 0)
    st = _syscalls.statx(at, str(file), 0, kernel_constants.STATX_BASIC_STATS)
    assert (st[1] & 0o7777, st[2], st[3], st[4]) == (0o640, 12, 4000000000, file.stat().st_ino)
    fd = os.open(file, os.O_PATH)
    _syscalls.fchownat(fd, "", 0, 0, constants.AT_EMPTY_PATH)
    os.close(fd)
    assert file.stat().st_gid == 0
    device = _syscalls.statx(at, "/dev/null", 0, kernel_constants.STATX_BASIC_STATS)
    assert device[7:9] == (1, 3)


def test_close_range():
    def look():
        os.dup2(0, 500)
        _syscalls.close_range(500, 500, constants.CLOSE_RANGE_CLOEXEC)
        marked = not os.get_inheritable(500)
        _syscalls.close_range(500, 510, 0)
        return marked, os.path.exists("/proc/self/fd/500")

    assert returns((), look) == (True, False)
    fails_with(errno.EINVAL, "close_range", _syscalls.close_range, 2, 1, 0)


def test_landlock(tmp_path):
    try:
        version = _syscalls.landlock_create_ruleset(None, constants.LANDLOCK_CREATE_RULESET_VERSION)
    except OSError as e:
        assert e.errno in (errno.ENOSYS, errno.EOPNOTSUPP) and e.call == "landlock_create_ruleset"  # type: ignore[attr-defined]
        pytest.skip("this kernel has no Landlock")
    assert version >= 1

    def look():
        rules = _syscalls.landlock_create_ruleset(struct.pack("=Q", 1 << 2), 0)  # reading files
        fd = os.open(tmp_path, os.O_PATH)
        _syscalls.landlock_add_rule(rules, constants.LANDLOCK_RULE_PATH_BENEATH, struct.pack("=Qi", 1 << 2, fd))
        _syscalls.prctl(kernel_constants.PR_SET_NO_NEW_PRIVS, 1)
        _syscalls.finish((("LANDLOCK", rules, 0),), -1)
        open(tmp_path / "file").close()
        try:
            open("/etc/passwd").close()
        except PermissionError:
            return "refused"

    (tmp_path / "file").write_text("")
    assert returns((), look) == "refused"
