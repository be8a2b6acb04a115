"""The state of the host: the traces that a container or a test could leave on it, and what it supports.

Invariant: leftovers are found by the token of the session, which is in the path, id or cgroup of everything that the session creates
(conftest.py). A container of somebody else is never touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness import Json

CGROUP = pathlib.Path("/sys/fs/cgroup")
RUN = re.compile(r"(?:/pt|contracts-)(\d+)")  # the process id in names and directories of a run
CLONE_NEWNS = 0x20000
CRIU_LIMIT = 60  # seconds


def mounts(needle: str) -> set[str]:
    with open("/proc/self/mountinfo") as file:
        return {line.strip().split(" ", 2)[2] for line in file if needle in line}


def cgroups(needle: str) -> set[str]:
    found = set()
    for top, dirs, _ in os.walk(CGROUP):
        for name in list(dirs):
            if needle in name:
                found.add(os.path.join(top, name))
                dirs.remove(name)
    return found


def processes(needle: str) -> dict[int, str]:
    """{pid: command line} of processes whose cgroup, root, environment or command line contains the token."""
    found = {}
    passed_over = {os.getpid(), os.getppid(), *kernel_threads()}
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) in passed_over:
            continue
        text = ""
        for file in ("cgroup", "cmdline"):
            try:
                with open("/proc/%s/%s" % (name, file), errors="replace") as handle:
                    text += handle.read() + "\n"
            except OSError:
                break
        try:
            text += os.readlink("/proc/%s/root" % name)
        except OSError:
            pass
        if needle in text and state_of(name) not in ("Z", "X", None):
            found[int(name)] = text.strip()
    return found


def children(pid: int | str = "self") -> set[int]:
    """The pids of the children of a process; none if it has ended. Some children of this process exist for the whole session: the daemons of the
    contract tests."""
    found: set[int] = set()
    try:
        threads = os.listdir("/proc/%s/task" % pid)
    except OSError:
        return found
    for thread in threads:
        with contextlib.suppress(OSError), open("/proc/%s/task/%s/children" % (pid, thread)) as file:
            found.update(map(int, file.read().split()))
    return found


def descriptors() -> list[str]:
    """Our open descriptors, without those that unreachable objects of earlier tests hold: these could be closed at any time."""
    gc.collect()
    return sorted(os.listdir("/proc/self/fd"))


def kernel_threads() -> set[int]:
    """Their pids; none in a pid namespace, which has no kthreadd."""
    try:
        with open("/proc/2/comm") as file:
            return children(2) if file.read() == "kthreadd\n" else set()
    except OSError:
        return set()


def state_of(pid: int | str) -> str | None:
    try:
        with open("/proc/%s/stat" % pid) as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return None


def state_dirs(root: str) -> set[str]:
    """The names in --root, without the compiled filters that are cached there."""
    return {name for name in os.listdir(root) if not name.startswith(".pyrunc@")} if os.path.isdir(root) else set()


class Traces:
    """A snapshot of the host; `left()` returns what has been added since."""

    def __init__(self, token: str, root: str) -> None:
        self.token = token
        self.root = root
        self.before = self.look()

    def look(self) -> dict[str, set[Json]]:
        return {
            "mounts": mounts(self.token),
            "cgroups": cgroups(self.token),
            "processes": set(processes(self.token)),
            "state": state_dirs(self.root),
        }

    def left(self) -> dict[str, list[Json]]:
        now = self.look()
        return {kind: sorted(now[kind] - self.before[kind]) for kind in now if now[kind] - self.before[kind]}


def sweep(token: str) -> None:
    """Kills and removes the leftovers of a failed test, so that it does not affect the next ones."""
    for pid in processes(token):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    for path in sorted(cgroups(token)):
        for top, _, _ in os.walk(path, topdown=False):
            try:
                os.rmdir(top)
            except OSError:
                pass


def snapshot(directory: str | os.PathLike[str]) -> dict[str, tuple[object, ...]]:
    """All properties of a tree that an escape could change: {path: (type and mode, uid, gid, size, mtime, content or target)}."""
    found: dict[str, tuple[object, ...]] = {}
    for top, dirs, files in os.walk(directory):
        for name in [*dirs, *files, ""]:
            path = os.path.join(top, name)
            st = os.lstat(path)
            body = os.readlink(path) if os.path.islink(path) else (pathlib.Path(path).read_bytes() if os.path.isfile(path) else None)
            found[path] = (st.st_mode, st.st_uid, st.st_gid, st.st_size, st.st_mtime_ns, body)
    return found


def has_id_maps(path: str | os.PathLike[str]) -> bool:
    """Whether the file system of `path` supports id-mapped mounts. TMPDIR may be on an overlay, which does not."""
    return subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=True).stdout != "overlayfs\n"


@contextlib.contextmanager
def alone_on_the_host(what: str) -> Iterator[None]:
    """A lock for operations that two test runs on the same machine can't do at the same time."""
    with open("/run/lock/pyrunc-tests-%s" % what, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def problem_of_criu() -> str:
    """Why criu is of no use here, or "". It contains what it knows of kernels, of the layout of their vDSO for example: an older criu gives up
    on a newer kernel before it looks at any process."""
    criu = shutil.which("criu", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    if criu is None:
        return "not installed: criu"
    null = subprocess.DEVNULL
    with (
        tempfile.TemporaryDirectory() as images,
        subprocess.Popen(["sleep", "1000"], stdin=null, stdout=null, stderr=null, start_new_session=True) as asleep,
    ):
        try:
            # without the cgroups, or it would mount hierarchies and leave them
            words = ["dump", "--no-default-config", "--tree", str(asleep.pid), "--images-dir", images, "--manage-cgroups=ignore"]
            done = subprocess.run([criu, *words], stdin=null, capture_output=True, text=True, timeout=CRIU_LIMIT)
        finally:
            asleep.kill()
    errors = [line.partition("): ")[2] for line in done.stderr.splitlines() if line.startswith("Error (")]
    return "criu cannot dump a sleeping process on this kernel: %s" % "; ".join(errors) if done.returncode else ""


# ---- what criu leaves


def unshare(flags: int) -> None:
    """unshare(2), which os has since Python 3.12."""
    if ctypes.CDLL(None, use_errno=True).unshare(flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


SWEPT: set[str] = set()  # what stray_hierarchies() found after the last clean-up


def stray_hierarchies() -> dict[str, str]:
    """{name: its row of /proc/cgroups, with the number of its cgroups} of each version 1 hierarchy that exists but is not mounted here."""
    with open("/proc/cgroups") as file:
        alive = {words[0]: line for line in file if (words := line.split())[1] not in ("0", "hierarchy")}
    with open("/proc/self/mountinfo") as file:
        mounted = {word for line in file if " - cgroup " in line for word in line.split()[-1].split(",")}
    return {name: row for name, row in alive.items() if name not in mounted}


def drop_stray_hierarchies() -> None:
    """criu mounts version 1 hierarchies that the host has not mounted (net_cls, perf_event, …), creates cgroups in them and leaves them behind.
    The hierarchies are then listed in /proc/PID/cgroup without a mount point. This removes the cgroups that this run or a dead one has left in
    them. It does nothing if no cgroup has been added or removed since the last time: this is called before each test.

    A child does it in its own mount namespace, so nothing stays mounted, even if this run is killed."""
    stray = stray_hierarchies()
    if SWEPT.issuperset(stray.values()):
        return
    pid = os.fork()
    if pid == 0:
        try:
            unshare(CLONE_NEWNS)
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
            for name in stray:
                if subprocess.run(["mount", "-t", "cgroup", "-o", name, "cgroup", "/mnt"], capture_output=True).returncode == 0:
                    remove_empty("/mnt", os.getppid())
                    subprocess.run(["umount", "/mnt"], check=True)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0, "hierarchies that criu has left cannot be cleaned up"
    SWEPT.clear()
    SWEPT.update(stray_hierarchies().values())


def remove_empty(hierarchy: str, own: int) -> None:
    """Removes the cgroups without processes in a hierarchy that have the token of this run or of a dead one in their path (tests/conftest.py:
    token, contracts/sandbox.py: cgroup). An empty cgroup of another run may just have been made for a container that is being created."""
    for top, _, _ in os.walk(hierarchy, topdown=False):
        runs = RUN.findall(top.removeprefix(hierarchy))
        if runs and all(int(pid) == own or not os.path.exists("/proc/" + pid) for pid in runs):
            try:
                os.rmdir(top)
            except OSError:
                continue  # it has processes
