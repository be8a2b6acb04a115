"""Code that bypasses linux/paths.py: each call that takes a path, in the modules that work on or in a container's root, found in the syntax
trees.

A call with dir_fd, one in a list for calls() with a descriptor, or one of the resolver, is skipped. ALLOWED lists the functions with other calls, with a reason for
each. A function that is not listed fails the test until it has been reviewed, and so does an entry without a call.
"""

import ast
from pathlib import Path

import pyrunc

PACKAGE = Path(pyrunc.__file__).parent
MODULES = sorted(
    [*PACKAGE.glob("parts/**/*.py"), *(PACKAGE / "engine" / name for name in ("init.py", "barrier.py"))]
    + [PACKAGE / "linux" / name for name in ("paths.py", "mount.py", "tty.py", "proc.py", "ns.py")]
)
OWNERS = ("posix", "os", "fs", "fileio")
CALLS = {
    "open", "mkdir", "mkdirs", "makedirs", "mknod", "mkfifo", "symlink", "link", "unlink", "remove", "rename", "replace", "rmdir", "chmod",
    "chown", "lchown", "stat", "lstat", "listdir", "scandir", "access", "readlink", "truncate", "utime", "chdir", "chroot", "getxattr",
    "setxattr", "statvfs", "walk", "read_file", "exists", "isdir", "isfile", "islink",
}  # fmt: skip
NEVER = {"realpath", "abspath", "normpath", "expanduser", "rmtree", "makedirs", "mkdirs", "walk", "isdir", "isfile", "islink"}

FD = "a descriptor, or a name below one that is handed on by position"
CALLER = "host side: a path of the caller's or of the config's author, before the container exists"
OWN = "host side: a file of the kernel about this host or about init, before init runs code of the container"
TURN = "the root itself, at the moment when it becomes or ceases to be /"
ALLOWED = {
    ("linux/mount.py", "_among_links"): TURN,
    ("linux/ns.py", "open_path"): CALLER,
    ("linux/ns.py", "is_own"): OWN,
    ("linux/ns.py", "exists"): OWN,
    ("linux/ns.py", "is_shared"): OWN,
    ("linux/ns.py", "_intermediate"): OWN,
    ("linux/paths.py", "_make"): FD,
    ("linux/paths.py", "_reopen"): "a descriptor of our own, opened again",
    ("linux/proc.py", "_own"): "the host's procfs, where a new one can't be mounted; proven by its magic number",
    ("linux/tty.py", "connect"): CALLER,
    ("parts/criu/namespaces.py", "dumped"): OWN,
    ("parts/criu/paths.py", "clone"): "/dev/null of the host, before CRIU enters the container",
    ("parts/devices/plan.py", "_exists"): CALLER,
    ("parts/devices/make.py", "_bind"): FD,
    ("parts/devices/live.py", "_file_systems"): "/proc/self/mountinfo, before the container is entered",
    ("parts/drift/namespaces.py", "compare"): OWN,
    ("parts/drift/namespaces.py", "_inode"): CALLER,
    ("parts/drift/resources.py", "_list"): OWN,
    ("parts/host_mounts.py", "_table"): "/proc/self/mountinfo, on the host side",
    ("parts/host_mounts.py", "_at"): "the root that the config names, on the host side",
    ("parts/fds.py", "streams_of"): "links of procfs, which are read and not followed",
    ("parts/hooks.py", "_check_program"): CALLER,
    ("parts/hooks.py", "_bundle_fd"): CALLER,
    ("parts/hooks.py", "_copy_out"): CALLER,
    ("parts/idmaps.py", "_tool"): OWN,
    ("parts/idmaps.py", "host_write"): OWN,
    ("parts/mempolicy.py", "_online"): OWN,
    ("parts/mounts/bind.py", "_real_reason"): CALLER,
    ("parts/mounts/bind.py", "_copy_link"): CALLER,
    ("parts/mounts/check.py", "_source"): CALLER,
    ("parts/mounts/copyup.py", "copy"): FD,
    ("parts/mounts/copyup.py", "_entry"): FD,
    ("parts/mounts/copyup.py", "_file"): FD,
    ("parts/mounts/copyup.py", "_attributes"): FD,
    ("parts/mounts/copyup.py", "_times"): FD,
    ("parts/mounts/filesystems.py", "_label"): FD,
    ("parts/mounts/host.py", "_userns"): OWN,
    ("parts/mounts/host.py", "namespace_with"): OWN,
    ("parts/namespaces.py", "made"): OWN,
    ("parts/netdevs.py", "host_move"): OWN,
    ("parts/oom.py", "host_write"): OWN,
    ("parts/program.py", "check"): CALLER,
    ("parts/rdt/resctrl.py", "exists"): OWN,
    ("parts/rdt/resctrl.py", "open_dir"): OWN,
    ("parts/rdt/statistics.py", "_counters"): FD,
    ("parts/root.py", "_real"): CALLER,
    ("parts/root.py", "_open_root"): CALLER,
    ("parts/root.py", "_cut"): TURN,
    ("parts/root.py", "_on_itself"): CALLER,
    ("parts/root.py", "mount_on"): CALLER,
    ("parts/root.py", "identity"): OWN,
    ("parts/root.py", "init_pivot"): TURN,
    ("parts/root.py", "_pivot"): TURN,
    ("parts/root.py", "_move"): TURN,
    ("parts/root.py", "_unmount_host"): "mount points of the old root, named by the kernel",
    ("parts/scheduling.py", "_possible"): OWN,
    ("parts/seccomp/cache.py", "key_of"): OWN,
    ("parts/seccomp/cache.py", "open_folder"): "the runtime's own cache, on the host side",
    ("parts/seccomp/cache.py", "_make_room"): FD,
    ("parts/seccomp/profile.py", "_listener"): CALLER,
    ("parts/seccomp/verbs.py", "_send"): CALLER,
    ("parts/sysctls.py", "_ours"): OWN,
    ("parts/user.py", "_map_of"): OWN,
    ("parts/user.py", "_denied"): OWN,
}


def by_path(tree):
    """(function, line, call) of each call that may take the path of a file."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Tuple) and len(node.elts) > 2 and ast.unparse(node.elts[1]).endswith("AT_FDCWD"):
                yield function.name, node.lineno, ast.unparse(node.elts[0])
            if not isinstance(node, ast.Call) or {"dir_fd", "src_dir_fd"} & {keyword.arg for keyword in node.keywords}:
                continue
            called = node.func
            if isinstance(called, ast.Attribute) and called.attr == "fstatat" and ast.unparse(node.args[0]).endswith("AT_FDCWD"):
                yield function.name, node.lineno, "fstatat"
            elif isinstance(called, ast.Name) and called.id == "open":
                yield function.name, node.lineno, "open"
            elif isinstance(called, ast.Attribute) and called.attr in CALLS:
                owner = called.value
                if isinstance(owner, ast.Name) and owner.id in OWNERS or isinstance(owner, ast.Attribute) and owner.attr == "path":
                    yield function.name, node.lineno, called.attr


def found():
    for path in MODULES:
        name = str(path.relative_to(PACKAGE))
        for function, line, call in by_path(ast.parse(path.read_text())):
            yield name, function, line, call


def test_calls_by_path_are_known():
    assert [one for one in found() if one[:2] not in ALLOWED] == []


def test_allowed_calls_exist():
    assert set(ALLOWED) - {one[:2] for one in found()} == set()


def test_some_calls_are_never_allowed():
    wrong = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in NEVER and isinstance(node.value, (ast.Name, ast.Attribute)):
                owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
                if owner in (*OWNERS, "path", "shutil"):
                    wrong.append((path.name, node.lineno, node.attr))
    assert wrong == []


def test_calls_by_path_are_found():
    """If the walk found nothing, the other tests would always pass."""
    code = "def f(p):\n    posix.open(p, 0)\n    posix.open(p, 0, dir_fd=3)\n    open(p)\n    os.path.exists(p)\n    fs.mkdir(p)\n"
    code += "    calls([('OPENAT', c.AT_FDCWD, p, 0), ('OPENAT', fd, p, 0)], -1)\n"
    assert {call for _, _, call in by_path(ast.parse(code))} == {"open", "exists", "mkdir", "'OPENAT'"}
    assert len(list(by_path(ast.parse(code)))) == 5
