"""New file systems: tmpfs, devpts, mqueue, overlay, proc, sysfs and any other type that the kernel supports.

Invariant: the file system is created detached and fully configured (fsopen, fsconfig, fsmount), so that its own messages can be reported,
and then attached; mount(2) is only the fallback, for what the newer calls cannot express.
"""

from __future__ import annotations

import errno
import posix

from pyrunc.errors import CallError
from pyrunc.fileio import fsencode, is_same
from pyrunc.linux import _syscalls, fs, mount, paths
from pyrunc.linux import constants as c
from pyrunc.parts.mounts import bind, copyup, mountpoint, options
from pyrunc.parts.mounts.plan import PAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.mounts.plan import Entry, Item
    from pyrunc.parts.sides import InitRun


PRIVATE = ("tmpfs", "ramfs")  # each mount is a new file system, which no other process sees
# fsopen and the other new calls are missing or blocked by a seccomp profile, or the file system parses options itself.
MAKES = ("fsconfig", "fsmount", "mount")  # the calls that make a file system
SECOND_TRY = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM)


def fresh(item: Item, _entry: Entry, run: InitRun) -> None:
    """Mounts any type except proc, sysfs and cgroup."""
    target, mode = mountpoint.find_dir(item, run)
    source = None
    try:
        mountpoint.check_proc(item, target)
        words = [word for word, _index in item["data"]]
        before = 0
        if item["type"] == "tmpfs" and mode is not None:
            words.insert(0, "mode=%04o" % mode)  # the mode of the directory that it covers, unless a later mode= overrides it
            before = 1
        if item["copyup"] and mode is not None:
            source = paths.resolve(run.root_fd, item["destination"], posix.O_RDONLY | posix.O_DIRECTORY)
        flags = item["flags"] & ~c.MS_RDONLY if item["late"] else item["flags"]
        top = make(item, run, target, item["type"], item["source"], flags, words, before)
    except OSError:
        fs.close(source)
        raise
    finally:
        posix.close(target)
    try:
        if source is not None:
            copyup.copy(source, top, words)
        if item["label"]:
            _label(top, item["label"])
        _attributes(top, item)
        bind.finish(top, item, run)
        if item["type"] in PRIVATE:
            run.own_mounts.append(paths.mount_id(top))
        if item["late"]:
            run.late_mounts.append((item, posix.dup(top)))
    finally:
        fs.close(source, top)


def own(item: Item, entry: Entry, run: InitRun) -> None:
    """Mounts proc or sysfs: only on a real directory, never with a label."""
    target, _mode = mountpoint.find_dir(item, run)
    try:
        mountpoint.check_proc(item, target)
        words = [word for word, _index in item["data"]]
        try:
            top = make(item, run, target, item["type"], item["source"], item["flags"], words)
        except OSError as e:
            if e.errno != errno.EPERM or not entry["userns"]:
                raise
            if item["type"] == "proc":
                raise no_procfs(CallError.of(e)) from None
            top = _host_sysfs(item, target)
    finally:
        posix.close(target)
    try:
        _attributes(top, item)
        bind.finish(top, item, run)
    finally:
        posix.close(top)


def no_procfs(e: CallError) -> CallError:
    """EPERM with what the kernel requires of a procfs in a user namespace. Other calls are those of the process that creates one in another
    pid namespace (csrc/procfs.c): their names show what is not permitted."""
    if e.call in MAKES:
        e.hint = "a new procfs requires an outer /proc without mounts over parts of it, and a pid namespace that belongs to the same user namespace"
    return e


def make(item: Item, run: InitRun, target: int, fstype: str, source: str, flags: int, words: list[str], before: int = 0) -> int:
    """Creates a new mount on `target` -> fd of its root. `before`: how many words precede those of the config."""
    first = None
    pid_ns = run.fds.get("ns:pid", -1) if fstype == "proc" else -1  # a descriptor of it means that init is not in it
    if pid_ns >= 0 or not flags & mount.OLD_ONLY:
        try:
            top = mount.new(fstype, source, flags, options.attributes(flags), words, pid_ns)
            if pid_ns >= 0:
                _must_show(top, pid_ns)
        except OSError as e:
            first = e
            if pid_ns >= 0 or e.errno not in SECOND_TRY:
                raise explained(e, item, before) from None
        else:
            try:
                mount.attach(top, target)
            except OSError:
                posix.close(top)
                raise
            return top
    data = ",".join(words)
    if len(fsencode(data)) >= PAGE:  # the kernel would truncate it silently
        raise explained(first or fs.failure(errno.E2BIG, "mount"), item, before)
    try:
        mount.old(fstype, source, target, flags, data, run.proc)
    except OSError as e:
        raise explained(first or e, item, before) from None
    top = paths.resolve(run.root_fd, item["destination"], posix.O_PATH, mountpoint.is_plain(item))
    if paths.mount_id(top) == paths.mount_id(target):
        posix.close(top)
        raise fs.failure(errno.ESTALE, "mount", item["destination"])
    return top


def _must_show(top: int, pid_ns: int) -> None:
    """Fails unless the mount is a procfs of that pid namespace: the context may come from a process that others could take over."""
    try:
        shown = mount.magic(top) == c.PROC_SUPER_MAGIC and _syscalls.fstatat(top, "1/ns/pid", 0)
        if not shown or not is_same(shown, fs.fstat(pid_ns)):
            raise fs.failure(errno.EPERM, "fsmount", "/proc")
    except BaseException:
        posix.close(top)
        raise


def explained(e: OSError, item: Item, before: int) -> OSError:
    """The error with the file system's own message and the option that it refused."""
    e = CallError.of(e)
    word = e.option
    log = [line for line in e.log if line]
    if log:
        e.words = "%s: %s" % ("; ".join(log), posix.strerror(e.errno or 0).lower())
    if word is not None and word >= before and item["data"][word - before][1] >= 0:
        e.pointer = "%s/options/%d" % (item["pointer"], item["data"][word - before][1])
    elif e.errno == errno.ENODEV:
        e.pointer = item["pointer"] + "/type"
    return e


def _attributes(top: int, item: Item) -> None:
    if item["rec_set"] or item["rec_clr"]:
        mount.setattr(top, item["rec_set"], item["rec_clr"], recursive=True)


def _host_sysfs(item: Item, target: int) -> int:
    """A sysfs belongs to the owner of the network namespace, so a user namespace that shares the host's network gets a clone of the host's
    sysfs, with the mounts below it and the same flags."""
    tree = mount.clone("/sys", recursive=True)
    try:
        mount.setattr(tree, options.attributes(item["flags"]), 0, recursive=True)
        mount.attach(tree, target)
    except OSError:
        posix.close(tree)
        raise
    return tree


def _label(top: int, label: str) -> None:
    """Sets the label as an attribute of the root: mqueue has no context option."""
    fd = fs.open(".", posix.O_RDONLY | posix.O_DIRECTORY, dir_fd=top)
    try:
        posix.setxattr(fd, "security.selinux", label.encode())
    except OSError as e:
        raise CallError.of(e, "fsetxattr") from None
    finally:
        posix.close(fd)
