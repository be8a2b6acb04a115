"""The verbs: the profile is compiled before the clone and loaded by finish(), and its listener is sent to the receiver."""

from __future__ import annotations

import posix

from pyrunc import fileio
from pyrunc.errors import StepFailure, errno_text, quote
from pyrunc.linux import filters, jsonbytes
from pyrunc.oci import state
from pyrunc.parts.seccomp import cache
from pyrunc.parts.seccomp.profile import NOT_CONNECTED, POINTER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.parts.seccomp.profile import Entry
    from pyrunc.parts.sides import HostRun, Op, Run, TailRun


SUN_PATH = 107  # bytes of a path that fit into sockaddr_un
SEND_SECONDS = 10
SCM_RIGHTS, SO_SNDTIMEO = 1, 21


def needs_of(entry: Entry) -> list[str]:
    """The system calls that the filter must allow for the program to run; reporting a listener requires calls under the filter as well."""
    return ["execve", "write", "read"] if entry["notify"] else ["execve"]


def host_compile(entry: Entry, run: HostRun) -> None:
    """Host side, before the clone. Sets run.seccomp_bpf, which init inherits. Uses run.root (where compiled filters are kept)
    and run.call_helper. A rule that libseccomp does not accept is a Refusal with the rule's pointer. Nothing to undo: the cache is kept."""
    if entry["raw"] is not None:
        run.seccomp_bpf = bytes.fromhex(entry["raw"])
        return
    profile = dict(entry["profile"])
    profile["needs"] = needs_of(entry)
    key = cache.key_of(profile)
    cache_fd = -1 if key is None else cache.open_folder(run.root)
    try:
        program = cache.read(cache_fd, key) if cache_fd >= 0 and key is not None else None
        if program is None:
            program = bytes.fromhex(run.call_helper("seccomp", profile)["bpf"])
            if not filters.plausible(program):
                raise StepFailure("no-filter", "libseccomp returned no filter", pointer=POINTER)
            if cache_fd >= 0 and key is not None:
                cache.keep(cache_fd, key, program)
    finally:
        if cache_fd >= 0:
            posix.close(cache_fd)
    run.seccomp_bpf = program


def _no_new_privs(run: Run) -> bool:
    return bool(run.plans.get("capabilities", {}).get("nnp"))


def _filter(entry: Entry, run: TailRun) -> Op:
    flags = entry["flags"] | (filters.FLAG_NEW_LISTENER if entry["notify"] else 0)
    return ("FILTER", run.seccomp_bpf, flags)


def _when(entry: Entry, run: TailRun) -> str:
    """Which operation loads the filter: "early" without noNewPrivileges, because it requires CAP_SYS_ADMIN then (csrc/filter.c), and if processes
    that may have CAP_SYS_PTRACE could take over this one before execve, and so get one without a filter; else "notify" for a filter that
    notifies, and "late" for any other."""
    if not _no_new_privs(run):
        return "early"
    if entry["notify"]:
        return "notify"
    return "early" if run.may_be_traced else "late"


def op_early(entry: Entry, run: TailRun) -> Op | None:
    """Init: a filter that is loaded while the process has its capabilities, or None."""
    return _filter(entry, run) if _when(entry, run) == "early" else None


def op_notify(entry: Entry, run: TailRun) -> Op | None:
    """Init: a filter that notifies, with noNewPrivileges. Loaded at create, because its listener must be delivered before create
    returns."""
    return _filter(entry, run) if _when(entry, run) == "notify" else None


def op_late(entry: Entry, run: TailRun) -> Op | None:
    """Init: any other filter, with noNewPrivileges. It is loaded last: only execve comes after it."""
    return _filter(entry, run) if _when(entry, run) == "late" else None


def exec_waits(entry: Entry) -> bool:
    """Whether the process must wait until its pid is known, because host_deliver needs it."""
    return entry["notify"]


def host_deliver(entry: Entry, run: HostRun) -> None:
    """Host side: connects to listenerPath and sends the state of the container process (config-linux.md#containerprocessstate) with
    the listener, run.listener_fd. run.pid is the process under the filter; for exec, the container's init is run.init_pid. StepFailure if
    the receiver can't be reached: a container whose calls are not answered would hang."""
    status, pid = ("running", run.init_pid) if run.init_pid else ("creating", run.pid)
    container = state.for_hooks(run.id, status, pid, run.bundle, run.annotations)
    document = {"ociVersion": container["ociVersion"], "fds": ["seccompFd"], "pid": run.pid, "state": container}
    if entry["metadata"] is not None:
        document["metadata"] = entry["metadata"]
    try:
        _send(entry["listener"] or "", jsonbytes.dumps(document), run.listener_fd)
    except OSError as e:
        words = "%s: %s: %s" % (NOT_CONNECTED, quote(entry["listener"] or ""), errno_text(e.errno) if e.errno else e)
        raise StepFailure(
            "listener-not-reached", words, pointer=POINTER + "/listenerPath", call="connect", errno=e.errno, path=entry["listener"]
        ) from e


def _send(path: str, data: bytes, fd: int) -> None:
    import _socket
    from _struct import pack

    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    path_fd = -1
    try:
        sock.setsockopt(_socket.SOL_SOCKET, SO_SNDTIMEO, pack("ll", SEND_SECONDS, 0))  # also limits connect, if the backlog is full
        address = fileio.fsencode(path)
        if len(address) > SUN_PATH:
            path_fd = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
            address = b"/proc/self/fd/%d" % path_fd
        sock.connect(address)
        sent = sock.sendmsg([data], [(_socket.SOL_SOCKET, SCM_RIGHTS, pack("i", fd))])
        while sent < len(data):  # the descriptor was sent with the first byte
            sent += sock.send(data[sent:])
    finally:
        sock.close()
        if path_fd >= 0:
            posix.close(path_fd)


def receiver(entry: Entry) -> str | None:
    """The socket that receives the filter's listener, or None."""
    return entry["listener"]
