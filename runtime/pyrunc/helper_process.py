"""The helper process: jsonschema, pyseccomp and slow parts of the standard library run there.

`call(name, payload)` runs helper/main.py under install_paths.interpreter(), sends JSON and receives JSON or bytes; the process has ended when
call() returns. So the process that makes containers never holds third-party Python code. The helper gets the payload, a fixed environment and standard
streams, and no other descriptor. helper/main.py has the protocol.

The compiled launcher contains some of the helpers (csrc/freeze.py), with libseccomp and what they need of the standard library. These are called
in this process and need no Python on the host.
"""

from __future__ import annotations

import posix
from _imp import is_frozen

from pyrunc import errors, install_paths, jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Data: TypeAlias = Any  # what a module of helper/ takes and returns: it is called by name, through a pipe
    Action: TypeAlias = tuple[int, ...]  # of posix_spawn(3)


ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
DEBIAN = ("/usr/local/lib/python3.%d/dist-packages", "/usr/lib/python3/dist-packages")
TIMEOUT_MS = 20000  # pyseccomp takes 35 ms for the largest known profile; this leaves room for very slow machines
LIMIT = 64 << 20
SIGNALS = [n for n in range(1, 65) if n not in (9, 19, 32, 33)]  # without KILL and STOP, and the two that libc reserves
POLLIN, POLLOUT, POLLERR, POLLHUP = 1, 4, 8, 16
SIGKILL = 9


def call(name: str, payload: Data, timeout_ms: int = TIMEOUT_MS) -> Data:
    """Runs `run(payload)` of pyrunc.helper.NAME and returns its result: plain data, or bytes.

    Raises the PyruncError that the helper raised, Unsupported if a library is missing, and Bug if the helper crashed or took too long."""
    module = "pyrunc.helper." + name
    if is_frozen(module):
        return __import__(module, fromlist=("run",)).run(payload)
    good, refused = trusted_paths()
    request = jsonio.dumps({"paths": good, "refused": refused, "payload": payload}).encode()
    pid, to_helper, from_helper, complaints = _start(name)
    try:
        reply, complaint = _talk(b"%d\n%b" % (len(request), request), to_helper, from_helper, complaints, timeout_ms)
    except TimeoutError:
        raise errors.Bug("the helper process (%s) did not answer within %d ms" % (name, timeout_ms)) from None
    finally:
        for fd in (to_helper, from_helper, complaints):
            posix.close(fd)
        status = _end(pid)
    return _answer(name, reply, complaint, status)


def paths() -> list[str]:
    """Directories of third-party packages: those of the launcher's sys.path, of a virtual environment or prefix next to it, and
    Debian's."""
    import sys

    found = [p for p in sys.path if p.endswith("-packages")]
    for base in install_paths.launcher_dirs():
        found += install_paths.site_dirs(base)
    found += [p % sys.version_info[1] if "%" in p else p for p in DEBIAN]
    return list(dict.fromkeys(found))


def trusted_paths() -> tuple[list[str], list[str]]:
    """(those of paths() that no other user can change, the reasons why others are left out). helper/main.py checks each file in the
    former."""
    good, reasons = [], []
    for path in paths():
        reason = install_paths.untrusted(path)
        if reason is None:
            good.append(path)
        else:
            reasons.append("%s is not searched: %s" % (path, reason))
    return good, reasons


def _start(name: str) -> tuple[int, int, int, int]:
    """-> (pid, fd to write to, fd of the answer, fd of its stderr)."""
    python = install_paths.interpreter()
    argv = [python, "-I", "-S", install_paths.data("helper/main.py"), name]
    try:
        posix.stat(argv[3])
    except OSError:
        words = "the package's files are not beside the launcher: no %s" % errors.quote(argv[3])
        raise errors.Unsupported("no-package", words, None, "the package", "install it with pip, make install or the .deb") from None
    pipes = [posix.pipe2(posix.O_CLOEXEC) for _ in range(3)]
    (in_r, in_w), (out_r, out_w), (err_r, err_w) = [(_high(r), _high(w)) for r, w in pipes]
    actions: list[Action] = [(posix.POSIX_SPAWN_DUP2, in_r, 0), (posix.POSIX_SPAWN_DUP2, out_w, 1), (posix.POSIX_SPAWN_DUP2, err_w, 2)]
    actions += [(posix.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable()]
    try:
        pid = posix.posix_spawn(python, argv, ENV, file_actions=actions, setsigmask=(), setsigdef=SIGNALS)
    except OSError as e:
        for fd in (in_w, out_r, err_r):
            posix.close(fd)
        hint = "install the package python3"
        raise errors.Unsupported(
            "no-interpreter", "cannot start %s: %s" % (python, errors.errno_text(e.errno)), None, "python3", hint
        ) from None
    finally:
        for fd in (in_r, out_w, err_w):
            posix.close(fd)
    for fd in (in_w, out_r, err_r):
        posix.set_blocking(fd, False)
    return pid, in_w, out_r, err_r


def _high(fd: int) -> int:
    """Moves a descriptor above the standard streams: where those are closed, the next dup2 would overwrite it."""
    if fd > 2:
        return fd
    import fcntl

    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    posix.close(fd)
    return moved


def _inheritable() -> list[int]:
    """Descriptors that execve(2) would pass on: all of ours are close-on-exec, the caller's may not be."""
    import fcntl

    found = []
    for name in posix.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and not fcntl.fcntl(int(name), fcntl.F_GETFD) & fcntl.FD_CLOEXEC:
                found.append(int(name))
        except OSError:
            continue  # the descriptor of the listing itself
    return found


def _talk(request: bytes, to_helper: int, from_helper: int, complaints: int, timeout_ms: int) -> tuple[bytes, bytes]:
    """Writes the request and reads answer and stderr to their ends. The pipe to the helper stays open: end of file means that we died."""
    import select
    import time

    end = time.monotonic() + timeout_ms / 1000
    poll = select.poll()
    poll.register(to_helper, POLLOUT)
    poll.register(from_helper, POLLIN)
    poll.register(complaints, POLLIN)
    got: dict[int, list[bytes]] = {from_helper: [], complaints: []}
    view = memoryview(request)
    size = 0
    reading = 2
    while reading:
        ready = poll.poll(max(0, (end - time.monotonic()) * 1000))
        if not ready:
            raise TimeoutError
        for fd, _ in ready:
            if fd == to_helper:
                try:
                    view = view[posix.write(fd, view) :]
                except BrokenPipeError:
                    view = view[:0]
                if not view:
                    poll.unregister(fd)
                continue
            chunk = posix.read(fd, 1 << 16)
            if chunk and size < LIMIT:
                got[fd].append(chunk)
                size += len(chunk)
            else:
                poll.unregister(fd)
                reading -= 1
    return b"".join(got[from_helper]), b"".join(got[complaints])


def _end(pid: int) -> int | None:
    """Kills the helper if it still runs, and reaps it. -> its wait status; None where SIGCHLD is ignored."""
    try:
        done, status = posix.waitpid(pid, posix.WNOHANG)
        if done:
            return status
        posix.kill(pid, SIGKILL)
        return posix.waitpid(pid, 0)[1]
    except OSError:
        return None


def _answer(name: str, reply: bytes, complaint: bytes, status: int | None) -> Data:
    kind, body = reply[:1], reply[1:]
    if kind == b"B":
        return body
    if kind == b"J":
        return jsonio.loads(body, "the helper's answer")
    if kind == b"E":
        raise _error(jsonio.loads(body, "the helper's answer"))
    last = complaint.strip().split(b"\n")[-1].decode("utf-8", "replace")
    raise errors.Bug("the helper process (%s) failed, status %s: %s" % (name, status, errors.quote(last) or "no message"))


def _error(record: dict[str, Data]) -> errors.PyruncError:
    """A PyruncError from its record."""
    words, pointer, hint, reason = record["words"], record["pointer"], record["hint"], record["reason"]
    if record["code"] == "unsupported":
        return errors.Unsupported(reason, words, pointer, record["needs"], hint)
    if record["code"] == "refused":
        return errors.Refusal(reason, words, pointer, hint)
    if record["code"] == "step":
        return errors.StepFailure(
            reason, words, pointer=pointer, call=record["call"], errno=record["errno"], path=record["path"], hint=hint
        )
    return errors.Bug(words, pointer, hint)
