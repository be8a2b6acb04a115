"""Tools for the tests: the runtime under test, the config of a bundle, and waits. workshop.py makes bundles, hoststate.py looks for leftovers.

Invariant: it only depends on command lines and effects, not on pyrunc's internals, so that the same test runs with runc and crun. Everything
that a session creates has the token of the session in its path, id or cgroup, so that other containers on the machine do not interfere.
Nothing sleeps here: all waits are for a pidfd, a fifo or the end of a process.
"""

from __future__ import annotations

import copy
import errno
import json
import os
import pathlib
import resource
import select
import subprocess
import tempfile
import termios
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import IO, Any

    Json = Any  # a document that has just been parsed, or one of arbitrary shape written by a test
    Option = Any  # keyword arguments that are passed on
    Path = str | os.PathLike[str]

ROOT = pathlib.Path(__file__).resolve().parent.parent

WATCHDOG = 60  # seconds; only so that nothing hangs, not to measure speed
ABSENT = object()

STATIC_LAUNCHER = ROOT / "runtime/bin/pyrunc-static"
COLD_LAUNCHER = ROOT / "build/launcher/snapshot/cold"  # writes the compiled launcher, if that has a snapshot

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
