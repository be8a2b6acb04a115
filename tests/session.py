"""The frame of a whole test run: known settings at its start, a time limit for each test, and no leftovers at its end.

`settle()` gives the run the signal dispositions, limits, umask and environment that the tests expect, whoever has started it: a terminal,
nohup, cron, a service. `supervise()` puts a process above the run that becomes the parent of orphans instead of PID 1. So at the end it knows
every process that a test has left, however it escaped, and fails the run. It also removes the directory of the run, and fails if mounts,
cgroups or unexpected files are left. `Watchdog` ends a test that hangs.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
import re
import resource
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from types import FrameType

import hoststate

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
MNT_DETACH = 2
GRACE = 5  # seconds that daemons and dying processes have after the last test
DIRECTORY = "PYRUNC_TEST_SESSION"  # the directory of the run, for workers of the same run

ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "TERM": "xterm",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}
# set by a login, a service manager or a container engine; each of them affects some program
UNSET = (
    "LANGUAGE", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "INVOCATION_ID", "JOURNAL_STREAM", "DOCKER_HOST", "CONTAINER_HOST",
    "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "BUILDAH_ISOLATION", "STORAGE_DRIVER", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME",
    "PYTHONSTARTUP", "PYTHONWARNINGS", "COLUMNS", "LINES", "NO_COLOR", "COLORTERM", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY",
)  # fmt: skip
KEEP_DEFAULT = {signal.SIGKILL, signal.SIGSTOP}
OF_THE_C_LIBRARY = (32, 33)  # posix_spawn of glibc 2.36 leaves 32 ignored (make 4.3 calls it); sigaction(3) does not take them
RT_SIGACTION = {"x86_64": 13}.get(os.uname().machine, 134)
OF_PYTHON = {signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ}  # the interpreter sets these


def settle() -> None:
    """Sets dispositions, blocked signals, limits, umask and environment as the tests expect them. Signals that the parent of the run ignores
    (nohup: SIGHUP; `&` in a shell: SIGINT) would stay ignored in every runtime and container."""
    for number in signal.valid_signals() - KEEP_DEFAULT - OF_PYTHON:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for reserved in OF_THE_C_LIBRARY:
        default, now = (ctypes.c_ulong * 4)(), (ctypes.c_ulong * 4)()  # struct kernel_sigaction: handler, flags, restorer, mask
        LIBC.syscall(RT_SIGACTION, reserved, None, now, 8)
        if now[0] == signal.SIG_IGN:  # a handler belongs to the threads of this process
            LIBC.syscall(RT_SIGACTION, reserved, default, None, 8)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)
    for name, wanted in ((resource.RLIMIT_NOFILE, 8192), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(name)
        resource.setrlimit(name, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    for name in (resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_MEMLOCK):
        _, hard = resource.getrlimit(name)
        resource.setrlimit(name, (hard, hard))
    for variable in UNSET:
        os.environ.pop(variable, None)
    os.environ.update(ENVIRONMENT)
    os.environ.setdefault("HOME", "/root" if os.geteuid() == 0 else "/")
    time.tzset()


def close_sockets() -> None:
    """Closes sockets inherited from the caller: no plugin has opened any yet, and tests need the numbers from 3 on."""
    if "PYRUNC_IN_GUEST" in os.environ:  # the reports are written to this one
        return
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                os.close(int(name))
        except OSError:
            pass  # the descriptor of the directory listing


# ---- the supervisor of the run


def descendants(pid: int) -> Iterator[int]:
    for child in hoststate.children(pid):
        yield child
        yield from descendants(child)


def described(pid: int) -> str:
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            words = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
        with open("/proc/%d/comm" % pid) as file:
            return words or "[%s]" % file.read().strip()
    except OSError:
        return "gone"


class Supervisor:
    """The run is our child; every process that is orphaned in it becomes our child too, and is reaped here."""

    def __init__(self, run: int, directory: pathlib.Path, screen: int) -> None:
        self.run = run
        self.directory = directory
        self.screen = screen

    def live(self) -> int:
        """Waits for the end of the run. Returns the exit status for the caller."""
        for number in (signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, signal.SIG_IGN)  # from the terminal: the run receives it too
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.forward)
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == self.run:
                code = os.waitstatus_to_exitcode(status)
                break
        left = [*self.processes(), *self.traces(), *self.files()]
        for line in left:
            os.write(self.screen, ("LEFT BEHIND %s\n" % line).encode())
        return (1 if left and code == 0 else code) if code >= 0 else 128 - code

    def forward(self, number: int, _frame: FrameType | None) -> None:
        os.kill(self.run, number)

    def processes(self) -> list[str]:
        """Processes that still exist after they have had time to exit; they are killed."""
        end = time.monotonic() + GRACE
        while True:
            self.reap()
            if not hoststate.children(os.getpid()):
                return []
            if time.monotonic() > end:
                break
            time.sleep(0.02)
        left = []
        for pid in descendants(os.getpid()):
            since = self.seen().get(pid, "")
            left.append("process %d: %s%s" % (pid, described(pid), since and " (first seen after %s)" % since))
        while found := set(descendants(os.getpid())):
            for pid in found:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.reap()
            time.sleep(0.02)
        return left

    @staticmethod
    def reap() -> None:
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass

    def seen(self) -> dict[int, str]:
        """The records of Orphans."""
        found: dict[int, str] = {}
        for path in self.directory.glob("orphans-*"):
            for line in path.read_text().splitlines():
                pid, _, test = line.partition(" ")
                found.setdefault(int(pid), test)
        return found

    def traces(self) -> list[str]:
        """Mounts and cgroups with the name of the run's directory, or that of a session in it, in their path."""
        names = {path.name.partition("-")[0] for path in self.directory.glob("pt*")}
        found = ["mount %s" % line for line in sorted(hoststate.mounts(str(self.directory)))]
        for name in sorted(names):
            found += ["cgroup %s" % path for path in sorted(hoststate.cgroups(name))]
        return found

    def files(self) -> list[str]:
        """Files that a test has left in the directory for temporary files, and files elsewhere with a session's name."""
        expected = ("pytest-of-", "orphans-")
        found = ["file %s" % path for path in sorted(self.directory.iterdir()) if not path.name.startswith(expected)]
        names = {path.name.partition("-")[0] for path in self.directory.glob("pt*")} | {self.directory.name}
        for place in ("/tmp", "/var/tmp", "/run", "/dev/shm"):
            for name in os.listdir(place) if os.path.isdir(place) else ():
                path = os.path.join(place, name)
                if any(word in name for word in names) and path != str(self.directory):
                    found.append("file %s" % path)
        if not hoststate.mounts(str(self.directory)):
            shutil.rmtree(self.directory, ignore_errors=True)
        return found


def clear_dead_runs(place: str) -> None:
    """Unmounts and removes what killed runs have left in the directory for temporary files: for example, code that looks for cgroup hierarchies
    would find a mount there. A run is dead if its supervisor, whose process id is in the name of the directory, is dead."""
    for name in sorted(os.listdir(place)):
        match = re.fullmatch(r"pt(\d+)(s|x-).{8}", name)
        if not match or os.path.exists("/proc/" + match[1]):
            continue
        path = os.path.join(place, name)
        with open("/proc/self/mountinfo") as file:
            points = [point for line in file if (point := line.split()[4]).startswith(path + "/")]
        for point in reversed(points):
            LIBC.umount2(os.fsencode(point), MNT_DETACH)
        if not hoststate.mounts(path):
            shutil.rmtree(path, ignore_errors=True)


def supervise(screen: int) -> None:
    """Returns in a child, which is the run. The calling process becomes the supervisor and exits with the status of the run. `screen`: the
    descriptor for its report."""
    close_sockets()
    if os.geteuid() == 0:
        clear_dead_runs(tempfile.gettempdir())
    directory = pathlib.Path(tempfile.mkdtemp(prefix="pt%ds" % os.getpid()))
    directory.chmod(0o755)  # users other than root have to search it, in user namespaces
    parent = os.getpid()
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    run = os.fork()
    if run == 0:
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
        os.environ["TMPDIR"] = os.environ[DIRECTORY] = str(directory)
        tempfile.tempdir = None  # determined again
        return
    code = 1
    try:
        code = Supervisor(run, directory, screen).live()
    except BaseException as e:
        os.write(screen, ("the supervisor of the test run: %r\n" % e).encode())
    finally:
        os._exit(code)


class Orphans:
    """Records the test after which an orphan was first seen, so that the supervisor can name it."""

    def __init__(self, supervisor: int) -> None:
        self.supervisor = supervisor
        self.known = hoststate.children(supervisor)
        self.path = pathlib.Path(os.environ[DIRECTORY], "orphans-%d" % os.getpid())

    def note(self, test: str) -> None:
        found = hoststate.children(self.supervisor) - self.known
        if found:
            self.known |= found
            with open(self.path, "a") as file:
                file.writelines("%d %s\n" % (pid, test) for pid in found)


# ---- a time limit for each test


class Sigevent(ctypes.Structure):
    _fields_ = [("value", ctypes.c_void_p), ("signo", ctypes.c_int), ("notify", ctypes.c_int), ("rest", ctypes.c_char * 48)]


class Watchdog:
    """A timer of the process (timer_create(2)): children don't inherit it, and it is independent of alarms that tests set. It raises `failure` in
    the test, and again every few seconds, because the teardown may hang as well."""

    SIGNAL = signal.SIGRTMIN + 9
    AGAIN = 30

    def __init__(self, failure: type[BaseException]) -> None:
        self.failure = failure
        self.about = ""
        self.timer = ctypes.c_void_p()
        event = Sigevent(signo=self.SIGNAL, notify=0)
        if LIBC.timer_create(time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self.timer)):
            raise OSError(ctypes.get_errno(), "timer_create")
        signal.signal(self.SIGNAL, self.expired)

    def expired(self, _number: int, _frame: FrameType | None) -> None:
        sys.stderr.write("watchdog: %s\n" % self.about)
        raise self.failure(self.about)

    def set(self, seconds: float, about: str) -> None:
        """Sets the timer; 0 disarms it."""
        self.about = about
        value = (ctypes.c_long * 4)(self.AGAIN if seconds else 0, 0, int(seconds), 0)
        LIBC.timer_settime(self.timer, 0, ctypes.byref(value), None)
