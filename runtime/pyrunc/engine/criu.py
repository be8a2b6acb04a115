"""A session with CRIU: one child (`criu swrk`), one request, its notifications, one answer (criu.org/RPC, images/rpc.proto).

Invariant: the program is one of PROGRAMS, by absolute path and with a fixed environment; neither the caller's nor the container's PATH
influences what is executed. CRIU's messages are limited in size and checked before they are used, and if a session ends early, CRIU is
killed, so that it never outlives the command.
"""

from __future__ import annotations

import _signal
import _socket
import fcntl
import posix
import select
from _signal import SIGCHLD, SIGKILL
from _struct import pack, unpack

from pyrunc import jsonio
from pyrunc.engine import child, steps
from pyrunc.errors import Bug, PyruncError, StepFailure, Unsupported
from pyrunc.linux import _syscalls, pidfd, protowire
from pyrunc.linux import constants as c
from pyrunc.linux.constants import AT_FDCWD, PR_SET_PDEATHSIG
from pyrunc.linux.protowire import BOOL, INT, TEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from pyrunc.engine.shapes import Message, Notified
    from pyrunc.engine.signals import Cancel

PROGRAMS = tuple(folder + "/criu" for folder in ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"))
ENVIRONMENT = (b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)  # CRIU runs tar, ip, iptables and nft
OLDEST = 31500
FIRST_FD = 4  # in CRIU: 0 to 2, its end of the socket, then what it inherits for the container
SIZE = 1 << 16
MAX_FDS = 16
DONE = b"+"
SCM_RIGHTS, MSG_CMSG_CLOEXEC = 1, 0x40000000
CLOSE_RANGE_CLOEXEC = 4
END_MS = 10_000  # after the last message, or after a refused notification: CRIU has to undo its work

DUMP, RESTORE, PRE_DUMP, NOTIFY, FEATURE_CHECK, VERSION = 1, 2, 4, 6, 9, 10
NAMES = {1: "DUMP", 2: "RESTORE", 4: "PRE_DUMP", 6: "NOTIFY", 9: "FEATURE_CHECK", 10: "VERSION"}

# The parts of the messages that are used: {name: (number, kind)}.
PAIR = {"key": (1, TEXT), "val": (2, TEXT)}
OPTS = {
    "images_dir_fd": (1, INT), "pid": (2, INT), "leave_running": (3, BOOL), "ext_unix_sk": (4, BOOL), "tcp_established": (5, BOOL),
    "evasive_devices": (6, BOOL), "shell_job": (7, BOOL), "file_locks": (8, BOOL), "log_level": (9, INT), "log_file": (10, TEXT),
    "ps": (11, {"address": (1, TEXT), "port": (2, INT)}), "notify_scripts": (12, BOOL), "root": (13, TEXT), "parent_img": (14, TEXT),
    "track_mem": (15, BOOL), "auto_dedup": (16, BOOL), "work_dir_fd": (17, INT), "link_remap": (18, BOOL), "ext_mnt": (23, PAIR),
    "manage_cgroups": (24, BOOL), "cg_root": (25, {"ctrl": (1, TEXT), "path": (2, TEXT)}), "rst_sibling": (26, BOOL),
    "inherit_fd": (27, {"key": (1, TEXT), "fd": (2, INT)}), "manage_cgroups_mode": (34, INT), "external": (37, TEXT), "empty_ns": (38, INT),
    "join_ns": (39, {"ns": (1, TEXT), "ns_file": (2, TEXT)}), "cgroup_dump_controller": (43, TEXT), "freeze_cgroup": (44, TEXT),
    "tcp_skip_in_flight": (46, BOOL), "lazy_pages": (48, BOOL), "orphan_pts_master": (50, BOOL), "config_file": (51, TEXT),
    "tcp_close": (52, BOOL), "lsm_profile": (53, TEXT), "lsm_mount_context": (63, TEXT), "network_lock": (64, INT),
}  # fmt: skip
FEATURES = {"mem_track": (1, BOOL), "lazy_pages": (2, BOOL)}
REQUEST = {"type": (1, INT), "opts": (2, OPTS), "notify_success": (3, BOOL), "features": (5, FEATURES)}
ANSWER = {
    "type": (1, INT), "success": (2, BOOL), "restore": (4, {"pid": (1, INT)}), "notify": (5, {"script": (1, TEXT), "pid": (2, INT)}),
    "cr_errno": (7, INT), "features": (8, FEATURES), "version": (10, {"major": (1, INT), "minor": (2, INT), "sublevel": (4, INT)}),
}  # fmt: skip


def program() -> str | None:
    """The path of criu, or None."""
    for path in PROGRAMS:
        try:
            if posix.stat(path).st_mode & c.S_IFMT == c.S_IFREG and posix.access(path, posix.X_OK):
                return path
        except OSError:
            continue
    return None


def needed() -> str:
    """program(), or Unsupported."""
    path = program()
    if path is None:
        folders = ", ".join(place.rpartition("/")[0] for place in PROGRAMS)
        raise Unsupported("no-criu", "no criu on this host", None, "criu", "install it; looked for in %s" % folders)
    return path


def version(cancel: Cancel | None = None) -> int:
    """The version, 40101 for 4.1.1. Unsupported if there is no criu, or it is too old."""
    answer = ask(VERSION, cancel=cancel)
    found = answer.get("version") or {}
    number: int = found.get("major", 0) * 10000 + found.get("minor", 0) * 100 + found.get("sublevel", 0)
    if number < OLDEST:
        raise Unsupported("criu-too-old", "CRIU version %d must be %d or higher" % (number, OLDEST), None, "criu 3.15")
    return number


def require(feature: str, cancel: Cancel | None = None) -> None:
    """Unsupported unless criu and the kernel support it: "mem_track" or "lazy_pages"."""
    found = ask(FEATURE_CHECK, {"features": {feature: True}}, cancel=cancel).get("features") or {}
    if not found.get(feature):
        name = {"mem_track": "MemTrack", "lazy_pages": "LazyPages"}[feature]
        needs = {"mem_track": "CONFIG_MEM_SOFT_DIRTY", "lazy_pages": "CONFIG_USERFAULTFD"}[feature]
        raise Unsupported(
            "criu-features",
            "criu is missing features: [%s]" % name,
            None,
            needs,
            "criu check --all tells more; the kernel needs %s" % needs,
        )


def ask(kind: int, body: Message | None = None, cancel: Cancel | None = None) -> Message:
    """Sends a request without notifications → the answer."""
    talk = Talk()
    try:
        talk.begin()
        answer = talk.request(kind, body or {}, None, cancel)
        talk.finish(ignore_status=True)
        return answer
    finally:
        talk.close()


class Talk:
    """One criu process. The constructor creates the child, which waits until begin(); in between its cgroups can be set (pid, pidfd).

    before: called in the child before execve; may raise; returns descriptors for begin() to return. fds: the descriptors that criu gets
    from FIRST_FD on. stdio: ours, else /dev/null. umask: for the files that it creates.
    """

    def __init__(
        self,
        before: Callable[[], list[int]] | None = None,
        fds: Sequence[int] = (),
        stdio: bool = False,
        cgroup_fd: int = -1,
        umask: int = 0o077,
    ) -> None:
        path = needed()
        if _signal.getsignal(SIGCHLD) == _signal.SIG_IGN:  # inherited from our caller, but then the kernel would discard criu's status
            _signal.signal(SIGCHLD, _signal.SIG_DFL)
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        hold, self._go = posix.pipe2(posix.O_CLOEXEC)
        self._words, words = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        self.sock = ours
        self.ended = False
        parent = posix.getpid()
        self.pid, self.pidfd = _syscalls.clone3(0, SIGCHLD, cgroup_fd)
        if self.pid == 0:
            posix.close(self._go)
            _child(path, before, [theirs.fileno(), *fds], stdio, umask, hold, words, parent)
        theirs.close()
        words.close()
        posix.close(hold)

    def begin(self) -> list[int]:
        """Lets the child continue until execve → the result of `before`. If `before` raised an exception, it is raised here."""
        try:
            posix.write(self._go, b"g")
        except BrokenPipeError:
            raise self._died() from None
        given = []
        while True:
            data, fds, _flags = _receive(self._words)
            given += fds
            if not data:
                return given
            if data != DONE:
                for fd in given:
                    posix.close(fd)
                raise steps.rebuild(jsonio.loads(data), "host")

    def request(self, kind: int, body: Message, notified: Notified | None, cancel: Cancel | None = None) -> Message:
        """Sends the request and handles notifications until the final answer. notified(script, pid, fds) may raise: then criu's
        notification is refused, criu undoes its work, and the exception is passed on. StepFailure `criu failed: …`. cancel:
        engine.signals.Cancel; Interrupted after a signal."""
        self._send({"type": kind, **body})
        while True:
            answer, fds = self._receive(cancel)
            try:
                if answer.get("type") != NOTIFY or not answer.get("success"):
                    return _checked(answer, kind)
                try:
                    note = answer.get("notify") or {}
                    if notified is not None:
                        notified(note.get("script", ""), note.get("pid", 0), fds)
                except BaseException:
                    self._refuse()
                    raise
            finally:
                for fd in fds:
                    posix.close(fd)
            self._send({"type": NOTIFY, "notify_success": True})

    def _send(self, values: Message) -> None:
        try:
            self.sock.send(protowire.encode(REQUEST, values))
        except OSError:
            raise self._died() from None

    def _refuse(self) -> None:
        """Refuses a notification, and waits until criu has cleaned up."""
        try:
            self.sock.send(protowire.encode(REQUEST, {"type": NOTIFY, "notify_success": False}))
            pidfd.wait(self.pidfd, END_MS)
        except OSError:
            return  # it has exited: close() reaps it

    def _receive(self, cancel: Cancel | None) -> tuple[Message, list[int]]:
        poll = select.poll()
        poll.register(self.sock.fileno(), select.POLLIN)
        poll.register(self.pidfd, select.POLLIN)
        if cancel is not None:
            poll.register(cancel.wake_fd, select.POLLIN)
        while True:
            ready = [fd for fd, _events in poll.poll()]
            if cancel is not None:
                cancel.check()
                if cancel.wake_fd in ready:
                    cancel.drain()
            if self.sock.fileno() in ready:
                return self._message()
            if self.pidfd in ready:
                raise self._died()

    def _message(self) -> tuple[Message, list[int]]:
        try:
            data, fds, flags = _receive(self.sock)
        except ConnectionResetError:
            raise self._died() from None
        try:
            if not data:
                raise self._died()
            if flags & _socket.MSG_TRUNC:
                raise Bug("criu sent a message of more than %d bytes" % SIZE)
            return protowire.decode(ANSWER, data), fds
        except BaseException as e:
            for fd in fds:
                posix.close(fd)
            if isinstance(e, ValueError):
                raise StepFailure("criu-failed", "criu failed: its answer can't be read: %s" % e, "criu", "host") from None
            raise

    def _died(self) -> StepFailure:
        pidfd.wait(self.pidfd, END_MS)
        return StepFailure("criu-failed", "criu failed: %s" % self._end_text(), "criu", "host")

    def _end_text(self) -> str:
        info = posix.waitid(posix.P_PIDFD, self.pidfd, posix.WEXITED | posix.WNOHANG | posix.WNOWAIT)
        if info is None:
            return "it hung up"
        return child.cause(info)

    def finish(self, ignore_status: bool = False) -> None:
        """After the answer: waits until criu exits. StepFailure if it does not, or not with status 0."""
        self.sock.shutdown(_socket.SHUT_WR)
        if not pidfd.wait(self.pidfd, END_MS):
            raise StepFailure("criu-failed", "criu failed: it does not end", "criu", "host")
        info = child.wait(self.pidfd)
        if not ignore_status and (info.si_code, info.si_status) != (posix.CLD_EXITED, 0):
            raise StepFailure("criu-failed", "criu failed: %s" % self._end_text(), "criu", "host")

    def close(self) -> None:
        """Kills criu, if it is still running, and reaps it. Idempotent."""
        if self.ended:
            return
        self.ended = True
        child.kill(self.pidfd)
        self.sock.close()
        self._words.close()
        posix.close(self.pidfd)
        posix.close(self._go)


def _receive(sock: _socket.socket) -> tuple[bytes, list[int], int]:
    """(bytes, descriptors, flags) of one message."""
    data, extra, flags, _from = sock.recvmsg(SIZE, _socket.CMSG_SPACE(4 * MAX_FDS), MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, raw in extra:
        if level == _socket.SOL_SOCKET and kind == SCM_RIGHTS:
            fds += unpack("%di" % (len(raw) // 4), raw[: len(raw) // 4 * 4])
    return data, fds, flags


def _checked(answer: Message, kind: int) -> Message:
    if not answer.get("success"):
        name = NAMES.get(answer.get("type", 0), "%s" % answer.get("type"))
        number = answer.get("cr_errno", 0)
        raise StepFailure("criu-answered", "criu failed: type %s errno %d" % (name, number), "criu", "host", errno=number or None)
    if answer.get("type") != kind:
        raise StepFailure("criu-failed", "criu failed: unable to parse the response of type %s" % answer.get("type"), "criu", "host")
    return answer


# -- in the child --------------------------------------------------------------------------------------------------------


def _child(
    path: str,
    before: Callable[[], list[int]] | None,
    fds: list[int],
    stdio: bool,
    umask: int,
    hold: int,
    words: _socket.socket,
    parent: int,
) -> NoReturn:
    """Never returns. Reports errors on `words`; if that is closed without a report, execve succeeded."""
    words = _socket.socket(
        _socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, _high(words.fileno(), fds)
    )  # its number may be needed for another descriptor
    try:
        _syscalls.prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        if posix.getppid() != parent or posix.read(hold, 1) != b"g":
            posix._exit(1)
        if before is not None:
            made = before()
            words.sendmsg([DONE], [(_socket.SOL_SOCKET, SCM_RIGHTS, pack("%di" % len(made), *made))])
        _descriptors(fds, stdio)
        posix.umask(umask)
        _syscalls.reset_signals()
        _syscalls.execveat(AT_FDCWD, path, [b"criu", b"swrk", b"3"], ENVIRONMENT, 0)
    except OSError as e:
        _report(words, StepFailure.from_oserror(e, "criu", "host"))
    except PyruncError as e:
        _report(words, e)
    except BaseException as e:
        _report(words, Bug("internal error: %s: %s" % (type(e).__name__, e)))
    finally:
        posix._exit(127)


def _high(fd: int, fds: Sequence[int]) -> int:
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3 + len(fds))


def _report(words: _socket.socket, e: PyruncError) -> None:
    words.send(jsonio.dumps(e.record()).encode("utf-8", "backslashreplace"))


def _descriptors(fds: list[int], stdio: bool) -> None:
    """Moves each descriptor to its number; execve closes all others. They are first moved out of the way, because the numbers may
    overlap."""
    high = [_high(fd, fds) for fd in fds]
    _syscalls.close_range(3, 0xFFFFFFFF, CLOSE_RANGE_CLOEXEC)
    for number, fd in enumerate(high, 3):
        posix.dup2(fd, number)
    if not stdio:
        null = posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC)
        for number in (0, 1, 2):
            posix.dup2(null, number)
