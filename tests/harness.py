"""Tools for the tests: a runtime binary, bundles, and the traces that a container could leave on the host.

Invariant: it only depends on command lines and effects, not on pyrunc's internals, so that the same test runs with runc and crun. Everything
that a session creates has the token of the session in its path, id or cgroup, and leaks are found by that token, so that other containers on
the machine do not interfere. Nothing sleeps here: all waits are for a pidfd, a fifo or the end of a process.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import fcntl
import gc
import json
import os
import pathlib
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import IO, Any

    Json = Any  # a document that has just been parsed, or one of arbitrary shape written by a test
    Option = Any  # keyword arguments that are passed on
    Path = str | os.PathLike[str]

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bundles"))
import make_rootfs  # noqa: E402

WATCHDOG = 60  # seconds; only so that nothing hangs, not to measure speed
CGROUP = pathlib.Path("/sys/fs/cgroup")
ABSENT = object()
RUN = re.compile(r"(?:/pt|contracts-)(\d+)")  # the process id in names and directories of a run

STATIC_LAUNCHER = ROOT / "runtime/bin/pyrunc-static"

BASE: Json = {
    "ociVersion": "1.2.0",
    "root": {"path": "rootfs"},
    "process": {
        "user": {"uid": 0, "gid": 0},
        "args": ["/bin/true"],
        "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"],
        "cwd": "/",
    },
    "hostname": "tested",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
    ],
    "linux": {"namespaces": [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount")]},
}
WAIT_FOR_TERM = ["/bin/sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]


def patch(config: Json, changes: Mapping[str, Json]) -> Json:
    """A copy of `config` with {"/json/pointer": value} set; ABSENT removes, a last element `-` appends. Missing objects are created."""
    config = copy.deepcopy(config)
    for pointer, value in changes.items():
        keys = [k.replace("~1", "/").replace("~0", "~") for k in pointer.split("/")[1:]]
        node = config
        for key in keys[:-1]:
            node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
        last = keys[-1] if keys else None
        if last is None:
            config = value
        elif value is ABSENT:
            node.pop(int(last)) if isinstance(node, list) else node.pop(last, None)
        elif isinstance(node, list):
            node.append(value) if last == "-" else node.__setitem__(int(last), value)
        else:
            node[last] = value
    return config


def within_limits(config: Json) -> Json:
    """Lowers the hard limits in the config to our own, because raising them needs CAP_SYS_RESOURCE. Returns the config."""
    for limit in config["process"].get("rlimits", ()):
        _, hard = resource.getrlimit(getattr(resource, limit["type"]))
        if hard != resource.RLIM_INFINITY:
            limit["hard"] = min(limit["hard"], hard)
            limit["soft"] = min(limit["soft"], hard)
    return config


class Bundle:
    """A bundle directory: config.json and a busybox root."""

    def __init__(self, path: str | os.PathLike[str], config: Json) -> None:
        self.path = pathlib.Path(path)
        self.rootfs = self.path / "rootfs"
        self.config = config

    def write(self, config: Json = None) -> Bundle:
        self.config = self.config if config is None else config
        (self.path / "config.json").write_text(json.dumps(self.config))
        return self

    def patch(self, changes: Mapping[str, Json]) -> Bundle:
        return self.write(patch(self.config, changes))

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)


class Result:
    """The result of a call: code (negative: killed by that signal), out and err as text, and argv for assertion messages."""

    def __init__(self, argv: Sequence[object], code: int, out: str, err: str) -> None:
        self.argv = argv
        self.code = code
        self.out = out
        self.err = err

    def __repr__(self) -> str:
        return "%s\n  exit %s\n  out %r\n  err %r" % (" ".join(map(str, self.argv)), self.code, self.out[-2000:], self.err[-2000:])

    @property
    def said(self) -> str:
        """The error message on stderr; the log format that runc uses without --log is removed."""
        line = self.err.strip().rpartition("\n")[2]
        if line.startswith('time="') and ' msg="' in line:
            return json.loads('"' + line.partition(' msg="')[2].rstrip('"') + '"')
        return line


class Runtime:
    """A runtime binary with its own state root. `call()` is the general form; the rest are the commands."""

    def __init__(self, path: str | os.PathLike[str], root: str | os.PathLike[str], token: str, cgroup: str) -> None:
        self.path = str(path)
        self.name = os.path.basename(self.path)
        self.root = str(root)
        self.token = token
        self.cgroup = cgroup
        self.count = 0
        self.ids: list[str] = []
        self.env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}

    is_pyrunc = property(lambda self: self.name.startswith("pyrunc"))

    def new_id(self) -> str:
        self.count += 1
        name = "%s-%d" % (self.token, self.count)
        self.ids.append(name)
        return name

    def argv(self, *args: object, globals: Sequence[object] = ()) -> list[str]:
        return [self.path, "--root", self.root, *map(str, globals), *[os.fspath(a) if hasattr(a, "__fspath__") else str(a) for a in args]]

    def call(
        self,
        *args: object,
        globals: Sequence[object] = (),
        raw: bool = False,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        text: str | bytes | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = WATCHDOG,
        **popen: Option,
    ) -> Result:
        """Runs the binary to its end. `raw`: argv unchanged, without --root. `text`: standard input. Output is captured in files, because a
        container that outlives the call would keep pipes open forever."""
        argv = [self.path, *map(str, args)] if raw else self.argv(*args, globals=globals)
        with Capture() as out, Capture() as err:
            if text is not None:
                stdin = Capture(text).file
            process = subprocess.Popen(argv, stdin=stdin, stdout=out.file, stderr=err.file, env=self.env if env is None else env, **popen)
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise AssertionError("hangs: %r; stderr so far: %r" % (argv, err.text())) from None
            return Result(argv, code, out.text(), err.text())

    def ok(self, *args: object, **kw: Option) -> Result:
        result = self.call(*args, **kw)
        assert result.code == 0, result
        return result

    def create(self, bundle: object, id: str | None = None, *options: object, **kw: Option) -> str:
        id = id or self.new_id()
        self.ok("create", "--bundle", bundle, *options, id, **kw)
        return id

    def start(self, id: str, **kw: Option) -> Result:
        return self.ok("start", id, **kw)

    def started(self, bundle: object, *options: object, **kw: Option) -> str:
        id = self.create(bundle, None, *options, **kw)
        self.start(id)
        return id

    def run(self, bundle: object, *options: object, id: str | None = None, **kw: Option) -> Result:
        """`run` in the foreground: the output and status of the container."""
        return self.call("run", "--bundle", bundle, *options, id or self.new_id(), **kw)

    def state(self, id: str) -> Json:
        return json.loads(self.ok("state", id).out)

    def status(self, id: str) -> str:
        return self.state(id)["status"]

    def kill(self, id: str, signal: object = "KILL", *options: str) -> Result:
        return self.ok("kill", *options, id, signal)

    def delete(self, id: str, *options: str) -> Result:
        return self.ok("delete", *options, id)

    def stopped(self, id: str, signal: str | None = "KILL") -> int:
        """Kills init (unless signal is None) and waits for its end. Returns its pid, or 0 if it had already exited. TERM is only sent after init
        has installed its handler."""
        pid = self.state(id)["pid"]
        try:
            with Watched(pid) as watched:
                if signal == "TERM":
                    until_caught(pid, 15)
                if signal is not None:
                    self.kill(id, signal)
                watched.wait()
        except (ProcessLookupError, OSError) as e:
            assert signal is None and e.errno in (errno.ESRCH, errno.EINVAL), e  # EINVAL: pid 0
        return pid

    def clean(self) -> None:
        """Removes the leftovers of all ids that new_id() has returned. Never fails, because the leak checker reports leaks."""
        for id in self.ids:
            try:
                known = os.path.exists(os.path.join(self.root, id))
                if known:
                    self.call("delete", "--force", id)
            except AssertionError:
                pass
        self.ids.clear()


class Capture:
    """An anonymous file for one stream of a child."""

    def __init__(self, text: str | bytes = "") -> None:
        fd = os.memfd_create("capture", os.MFD_CLOEXEC)
        self.file = os.fdopen(fd, "w+b")
        self.file.write(text.encode() if isinstance(text, str) else text)
        self.file.seek(0)

    def text(self) -> str:
        size = os.fstat(self.file.fileno()).st_size
        return os.pread(self.file.fileno(), size, 0).decode("utf-8", "surrogateescape")

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *exc: object) -> None:
        self.file.close()


class Watched:
    """Waits for a process by pidfd. Also reaps it if it has become our child."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.fd = os.pidfd_open(pid)

    def wait(self, timeout: float = WATCHDOG) -> os.waitid_result | None:
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        assert poll.poll(timeout * 1000), "process %d has not ended" % self.pid
        try:
            return os.waitid(os.P_PIDFD, self.fd, os.WEXITED)
        except ChildProcessError:
            return None

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self.fd)


def lines_of(path: str | os.PathLike[str], count: int = 1, timeout: float = WATCHDOG, until: str | None = None) -> list[str]:
    """Reads from a fifo that the container writes to, up to `count` lines, the line `until`, or end of file. Call `fifo()` first."""
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)  # O_RDWR: no end of file between two writers
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    data = b""
    end = time.monotonic() + timeout
    try:
        while data.count(b"\n") < count if until is None else until.encode() not in data.split(b"\n"):
            assert poll.poll(max(0, end - time.monotonic()) * 1000), "%s: only got %r" % (path, data)
            data += os.read(fd, 65536)
    finally:
        os.close(fd)
    return data.decode("utf-8", "surrogateescape").splitlines()


def needs_a_loader(program: str | os.PathLike[str]) -> bool:
    """Whether an executable starts with the dynamic loader: the compiled launcher does where only a shared libpython can be linked."""
    with open(program, "rb") as file:
        return b"/ld-linux" in file.read(4096)  # .interp is in its first page


CLONE_NEWNS = 0x20000


def unshare(flags: int) -> None:
    """unshare(2), which os has since Python 3.12."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).unshare(flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def fifo(path: Path) -> Path:
    os.mkfifo(path, 0o666)
    os.chmod(path, 0o666)
    return path


def appears(path: str | os.PathLike[str], timeout: float = WATCHDOG) -> str:
    """Waits by inotify until a file exists under its final name, and returns its text."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    created, closed, moved = 0x100, 0x8, 0x80
    assert libc.inotify_add_watch(fd, os.fsencode(os.path.dirname(path)), created | closed | moved) >= 0
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    end = time.monotonic() + timeout
    try:
        while not (os.path.exists(path) and os.path.getsize(path)):
            assert poll.poll(max(0, end - time.monotonic()) * 1000), "%s has not appeared" % path
            os.read(fd, 65536)
    finally:
        os.close(fd)
    with open(path) as file:
        return file.read()


def at_a_terminal(argv: Sequence[str], columns: int = 0, streams: Sequence[str] = ("stdout", "stderr"), **popen: Option) -> tuple[int, str]:
    """Runs a program with the given streams on a terminal of this width. -> (exit status, output on the terminal)"""
    master, slave = os.openpty()
    if columns:
        termios.tcsetwinsize(slave, (24, columns))
    out, err = (slave if name in streams else subprocess.DEVNULL for name in ("stdout", "stderr"))
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, **popen)
    os.close(slave)
    text = b""
    try:
        while piece := os.read(master, 65536):
            text += piece
    except OSError as e:
        assert e.errno == errno.EIO, e  # the other end is closed
    os.close(master)
    return process.wait(WATCHDOG), text.decode().replace("\r\n", "\n")


def open_to_all(path: pathlib.Path) -> pathlib.Path:
    """Makes a directory, and its parents that belong to the run, searchable by every user. Returns it."""
    path.chmod(0o755)
    for parent in path.parents:
        if str(parent).startswith(tempfile.gettempdir() + "/"):
            parent.chmod(parent.stat().st_mode | 0o055)
    return path


def saved_state(runtime: Runtime, id: str) -> Json:
    """The last line of pyrunc's state.json."""
    with open(os.path.join(runtime.root, id, "state.json"), encoding="utf-8") as file:
        return json.loads(file.read().splitlines()[-1])


def until_status(runtime: Runtime, id: str, status: str) -> None:
    """Waits until the container is in a state; polls, because there is no event for it."""
    end = time.monotonic() + WATCHDOG
    while True:
        result = runtime.call("state", id)
        if result.code == 0 and json.loads(result.out)["status"] == status:
            return
        assert time.monotonic() < end, "%s is not %s: %s" % (id, status, result)


def until_processes(runtime: Runtime, id: str, count: int = 2) -> list[int]:
    """Waits until a container has this many processes, and returns their pids: the shell of WAIT_FOR_TERM starts its `sleep` a moment after the
    start of the container. Polls, because there is no event for it."""
    end = time.monotonic() + WATCHDOG
    while len(found := json.loads(runtime.ok("ps", "--format", "json", id).out) or []) != count:
        assert time.monotonic() < end, "%s has %s and not %d processes" % (id, found, count)
    return found


def until_caught(pid: int, number: int) -> None:
    """Waits until a process has a handler for a signal: until then, the init of a pid namespace ignores it. Polls, because there is no event for
    it."""
    end = time.monotonic() + WATCHDOG
    while True:
        with open("/proc/%d/status" % pid) as file:
            caught = next(int(line.split()[1], 16) for line in file if line.startswith("SigCgt"))
        if caught >> number - 1 & 1:
            return
        assert time.monotonic() < end, "process %d has no handler for signal %d" % (pid, number)
        os.sched_yield()


def first_error(path: str | os.PathLike[str]) -> list[Json]:
    """The objects of a JSON log, one per line."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file.read().splitlines()]


# ---- leftovers on the host


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


# The applets that tests run. All that busybox has are 270, and a link for each takes longer than to create the container.
APPLETS = """
    [ adjtimex arch bc cat chmod chown chroot clear cp cut date dd dirname echo env fallocate false find free grep groups head hostname httpd
    id ionice ip kill link ln ls mkdir mkfifo mknod modprobe mount mv nc nice nsenter passwd pivot_root printf ps pwd readlink realpath reboot
    rm rmdir sed seq setpriv setsid sh sha256sum sleep sort stat strings stty su swapoff swapon sync sysctl tail tar tee test timeout top touch
    tr true truncate tty umount uname unlink unshare uptime usleep wc wget which xargs yes
""".split()


class Workshop:
    """Creates bundles quickly: one busybox root for the session, hard-linked into the tree of each bundle."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = pathlib.Path(directory)
        self.busybox = self.directory / "busybox"
        shutil.copyfile(make_rootfs.busybox_path(), self.busybox)
        self.busybox.chmod(0o755)
        self.names = sorted(set(APPLETS) & set(make_rootfs.applets(str(self.busybox))))
        self.count = 0

    def bundle(
        self,
        changes: Mapping[str, Json] | None = None,
        config: Json = None,
        args: Sequence[str] | None = None,
        cgroup: str | None = None,
        link: bool = True,
    ) -> Bundle:
        """A new bundle: BASE (or `config`) with `changes` applied. `link=False` is for tests in which something writes to busybox."""
        self.count += 1
        path = self.directory / ("b%d" % self.count)
        make_rootfs.make_rootfs(str(path / "rootfs"), str(self.busybox), link, self.names)
        config = patch(BASE if config is None else config, changes or {})
        if args is not None:
            config["process"]["args"] = args
        linux = config.get("linux") if isinstance(config, dict) else None
        if cgroup is not None and isinstance(linux, dict):
            linux.setdefault("cgroupsPath", "%s-b%d" % (cgroup, self.count))
        return Bundle(path, config).write()

    def example(self, name: str, cgroup: str | None = None) -> Bundle:
        """bundles/NAME, ready to run; its cgroup is below that of the session."""
        self.count += 1
        path = self.directory / ("b%d" % self.count)
        make_rootfs.make_bundle(name, str(path))
        config = json.loads((path / "config.json").read_text())
        if cgroup is not None:
            config["linux"]["cgroupsPath"] = "%s-b%d" % (cgroup, self.count)
        if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):  # version 2, which has no control for it
            config["linux"].get("resources", {}).get("memory", {}).pop("swappiness", None)
        return Bundle(path, within_limits(config)).write()


class MakeBundle:
    """Creates the bundles of one test; see the fixture make_bundle."""

    def __init__(self, workshop: Workshop, cgroup: str) -> None:
        self.workshop = workshop
        self.cgroup = cgroup
        self.made: list[Bundle] = []

    def __call__(self, changes: Mapping[str, Json] | None = None, **kw: Option) -> Bundle:
        self.made.append(self.workshop.bundle(changes, cgroup=self.cgroup, **kw))
        return self.made[-1]

    def example(self, name: str) -> Bundle:
        self.made.append(self.workshop.example(name, self.cgroup))
        return self.made[-1]


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
            done = subprocess.run([criu, *words], stdin=null, capture_output=True, text=True, timeout=WATCHDOG)
        finally:
            asleep.kill()
    errors = [line.partition("): ")[2] for line in done.stderr.splitlines() if line.startswith("Error (")]
    return "criu cannot dump a sleeping process on this kernel: %s" % "; ".join(errors) if done.returncode else ""


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
