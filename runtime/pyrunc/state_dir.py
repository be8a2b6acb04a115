"""One container's directory below --root: its files and its lock.

ROOT/ID/ (0700) holds state.json (what state, kill and delete need), plan.json (what was decided; exec, update and delete read it),
config.json (the normalised config), exec.fifo and result (the fifos for start). state.json is a log whose last complete line is valid: a create
writes it several times, and writing a new file each time (temporary file, rename) costs far more than a line, especially if --root is on a
disk. Other files are replaced by rename, so a reader never sees an incomplete file; readers take no lock. Files are not fsynced: a state
directory is only valid until the next boot (it contains the boot id), and a killed process loses nothing.
"""

from __future__ import annotations

import fcntl
import posix
import time
from errno import EAGAIN, EISDIR, ENOENT, ENOSPC, EPERM

from pyrunc import fileio, jsonio
from pyrunc.errors import CALLER_TEXT, Refusal, StateError, errno_text, quote
from pyrunc.linux import _syscalls, jsonbytes, pidfd
from pyrunc.linux.constants import AT_FDCWD, AT_SYMLINK_NOFOLLOW

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pyrunc.jsonio import Json
    from pyrunc.parts.plans import Plans
    from pyrunc.state_document import State

VERSION = 1
DIR = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC | posix.O_NOFOLLOW
LIMIT = 64 << 20
LOCK_WAIT_MS = 10_000
PID_MAX = 1 << 22  # proc_sys_kernel(5)
LOG_LIMIT = 256 << 10  # of state.json; a longer one is rewritten


class StateDir:
    """One container's directory: `fd` (O_DIRECTORY), `path`, `id`, `state` (dict of state.json)."""

    def __init__(self, id: str, path: str, fd: int) -> None:
        self.id = id
        self.path = path
        self.fd = fd
        self.state: State = {}
        self.locked = False
        self._log_fd = -1
        self._log_size = 0  # of the log after our last line

    # -- files ----------------------------------------------------------------------------------------------------

    def read(self, name: str, limit: int = LIMIT) -> bytes:
        """The bytes of a regular file in the directory; OSErrors are passed on."""
        fd = posix.open(name, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK, dir_fd=self.fd)
        try:
            return fileio.read_fd(fd, limit)
        finally:
            posix.close(fd)

    def write(self, name: str, data: bytes) -> None:
        """Replaces a file atomically: temporary file, rename."""
        temporary = ".%s.%d" % (name, posix.getpid())
        fd = posix.open(temporary, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o600, dir_fd=self.fd)
        try:
            fileio.write_all(fd, data)
        except OSError:
            posix.unlink(temporary, dir_fd=self.fd)
            raise
        finally:
            posix.close(fd)
        posix.rename(temporary, name, src_dir_fd=self.fd, dst_dir_fd=self.fd)

    def create(self, name: str, data: bytes) -> None:
        """Creates a file that no process reads yet. An incomplete one left by a killed process is harmless, because the state is written
        last."""
        fd = posix.open(name, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o600, dir_fd=self.fd)
        try:
            fileio.write_all(fd, data)
        finally:
            posix.close(fd)

    def save(self, note: dict[str, Json] | None = None) -> None:
        """Appends the state as a line, after a `note` that only the command reads that needs it. Lines begin with a newline, so that an
        earlier truncated line (a full disk) does no harm."""
        line = b"\n%s\n" % jsonbytes.dumps(self.state)
        if note is not None:
            line = b"\n%s\n%s" % (jsonbytes.dumps(note), line)
        if self._log_fd < 0:
            flags = posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_CLOEXEC | posix.O_NOFOLLOW
            self._log_fd = posix.open("state.json", flags, 0o600, dir_fd=self.fd)
            self._log_size = _syscalls.fstat(self._log_fd).st_size
            if self._log_size > LOG_LIMIT:
                self.close_log()
                self.write("state.json", line)
                return
        if posix.write(self._log_fd, line) != len(line):
            raise OSError(ENOSPC, "No space left on device", "state.json")
        self._log_size += len(line)

    def close_log(self) -> None:
        if self._log_fd >= 0:
            posix.close(self._log_fd)
            self._log_fd = -1

    def record(self, key: str, value: Json) -> None:
        """Records a value in the state, which is on disk before the next step: what a killed create leaves behind can then be undone."""
        self.record_all({key: value})

    def record_all(self, values: Mapping[str, Json]) -> None:
        """Records several values at once."""
        self.state.update(values)  # type: ignore[typeddict-item]  # callers name keys of State
        self.save()

    def note(self, key: str) -> Json:
        """The latest value that was passed to save() as {key: …}, or None."""
        start = b'{"%s":' % key.encode()
        found = [line for line in self.read("state.json").split(b"\n") if line.startswith(start)]
        return jsonio.loads(found[-1], ours=True)[key] if found else None

    def plan(self, without: Sequence[str] = ()) -> Plans:
        """The plans of create: {part: entry}. Parts in `without` may be missing from the result."""
        found: Plans = self._document("plan.json", without)  # type: ignore[assignment]  # as create wrote it
        return found

    def config(self, without: Sequence[str] = ()) -> dict[str, Json]:
        """The normalised config of create. Sections in `without` may be missing from the result."""
        return self._document("config.json", without)

    def _document(self, name: str, without: Sequence[str]) -> dict[str, Json]:
        hint = "delete --force removes the container"
        try:
            data = self.read(name)
            for key in without:
                start = data.find(b'\n,"%s":' % key.encode())
                if start >= 0:
                    data = data[:start] + data[data.find(b"\n", start + 1) :]
            found = jsonio.loads(data, ours=True)
        except OSError as e:
            raise StateError("unreadable-state", "cannot read %s/%s: %s" % (self.path, name, text_of(e)), self.id, hint=hint) from None
        except Refusal as e:
            raise StateError("damaged-state", "%s/%s is damaged: %s" % (self.path, name, e.words), self.id, hint=hint) from None
        if type(found) is not dict:
            raise StateError("damaged-state", "%s/%s is damaged: it is not an object" % (self.path, name), self.id, hint=hint)
        return found

    def load(self) -> StateDir:
        """Reads state.json. StateError if there is none (words from CALLER_TEXT), or if it is damaged or has another version."""
        try:
            data = self.read("state.json", 16 << 20)
        except OSError as e:
            if e.errno == ENOENT:
                self.must_be_ours()
                raise StateError(
                    "unknown-container", CALLER_TEXT["unknown"], self.id, hint="an unfinished %s is left; delete removes it" % self.path
                ) from None
            raise StateError("unreadable-state", "cannot read %s/state.json: %s" % (self.path, text_of(e)), self.id) from None
        hint = "delete --force kills its processes and removes it"
        try:
            state = jsonio.loads(_last_line(data), ours=True)
        except Refusal as e:
            raise StateError("damaged-state", "%s/state.json is damaged: %s" % (self.path, e.words), self.id, hint=hint) from None
        wrong = _wrong(state, self.id)
        if wrong:
            self.must_be_ours()
            raise StateError("damaged-state", "%s/state.json is damaged: %s" % (self.path, wrong), self.id, hint=hint)
        self.state = state
        return self

    def refresh(self) -> StateDir:
        """Like load(), for the command that has written the state: it is read only if another command has written since. That
        command appends to the log or replaces it, so its size or its inode differs."""
        if self._log_fd >= 0:
            try:
                here, ours = _syscalls.fstatat(self.fd, "state.json", AT_SYMLINK_NOFOLLOW), _syscalls.fstat(self._log_fd)
            except OSError:
                return self.load()
            if fileio.is_same(here, ours) and here.st_size == self._log_size:
                return self
        return self.load()

    def must_be_ours(self) -> None:
        """For a directory without a readable state. StateError if it belongs to another runtime: create writes the plan first, so our
        directories contain the plan or are empty."""
        names = posix.listdir(self.fd)
        if names and "plan.json" not in names:
            raise StateError(
                "foreign-state",
                "%s belongs to another runtime" % self.path,
                self.id,
                hint="it was not changed; that runtime can delete it",
            )

    # -- lock ------------------------------------------------------------------------------------------------------

    def lock(self, wait_ms: int = LOCK_WAIT_MS) -> StateDir:
        """Takes the container's lock (flock on its directory). After wait_ms, a StateError that names the holder."""
        end = time.monotonic() + wait_ms / 1000
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as e:
                if e.errno != EAGAIN:
                    raise
            if time.monotonic() >= end:
                holder = self.holder()
                who = "an unknown process" if holder is None else "pid %d (%s)" % (holder, pidfd.command_line(holder))
                raise StateError("busy", "the container is busy: held by %s" % quote(who), self.id, hint="try again when it has finished")
            time.sleep(0.005)
        self.locked = True
        try:  # the directory may have been removed and created again while we waited
            here = _syscalls.fstatat(AT_FDCWD, self.path, AT_SYMLINK_NOFOLLOW)
        except OSError:
            here = None
        if here is None or not fileio.is_same(here, _syscalls.fstat(self.fd)):
            raise StateError("unknown-container", CALLER_TEXT["unknown"], self.id)
        return self

    def holder(self) -> int | None:
        """Pid of the process that holds the lock, or None, from proc_locks(5). The inode there must be that of this directory. The device is
        not compared, because it differs on some file systems; instead the process must have the directory open."""
        here = _syscalls.fstat(self.fd)
        try:
            lines = fileio.fsdecode(fileio.read_file("/proc/locks", 16 << 20)).split("\n")
        except OSError:
            return None
        for line in lines:
            fields = line.split()
            if fields[1:4] != ["FLOCK", "ADVISORY", "WRITE"] or fields[5].rpartition(":")[2] != str(here.st_ino):
                continue
            if int(fields[4]) > 0 and pidfd.has_open(int(fields[4]), here):
                return int(fields[4])
        return None

    def unlock(self) -> None:
        if self.locked and self.fd >= 0:
            fcntl.flock(self.fd, fcntl.LOCK_UN)
            self.locked = False

    def close(self) -> None:
        self.close_log()
        if self.fd >= 0:
            posix.close(self.fd)
            self.fd = -1

    def forget(self) -> None:
        """Removes the directory and everything in it, without following links. The OSError names what could not be removed."""
        self.close_log()  # listing needs a descriptor, and we may be here because there was none left
        _empty(self.fd, self.path)
        try:
            posix.rmdir(self.path)
        except OSError as e:
            if e.errno != ENOENT:
                raise
        self.close()


def text_of(e: OSError) -> str:
    return errno_text(e.errno) if e.errno else str(e)


def _last_line(data: bytes) -> bytes:
    """The last line of a log that is complete and not empty. A file without a newline is one document."""
    whole = data[: data.rfind(b"\n")].rstrip(b"\n") if b"\n" in data else data
    return whole[whole.rfind(b"\n") + 1 :]


def _wrong(state: Json, id: str) -> str | None:
    """What is wrong with a state document, or None. An edited one must not make us signal another process or remove other paths."""
    if type(state) is not dict:
        return "not an object"
    if state.get("version") != VERSION:
        return "version %s, this pyrunc reads %d" % (quote(state.get("version")), VERSION)
    if state.get("id") != id:
        return "it is the state of %s" % quote(state.get("id"))
    kinds = {
        "bundle": str,
        "rootfs": str,
        "created": str,
        "status": str,
        "pid": int,
        "start_time": int,
        "annotations": dict,
        "boot_id": str,
    }
    for key, kind in kinds.items():
        if type(state.get(key)) is not kind:
            return "%s is missing or has the wrong type" % key
    if state["pid"] < 0 or state["pid"] == 1 or state["pid"] > PID_MAX:
        return "pid %s" % _short(state["pid"])
    if not 0 <= state["start_time"] < 1 << 64:
        return "start_time %s" % _short(state["start_time"])
    return None


def _short(number: int) -> str:
    """str() refuses integers of more than 4300 digits."""
    return "%d" % number if abs(number) < 10**20 else "of more than 20 digits"


def _empty(fd: int, path: str) -> None:
    """Empties a directory. The plan is removed last: it shows that a directory is ours, even if we are killed in between."""
    for name in sorted(posix.listdir(fd), key="plan.json".__eq__):
        try:
            posix.unlink(name, dir_fd=fd)
        except OSError as e:
            if e.errno == ENOENT:
                continue
            if e.errno not in (EISDIR, EPERM):  # what unlink returns for a directory
                raise
            sub = posix.open(name, DIR, dir_fd=fd)
            try:
                _empty(sub, path + "/" + name)
            finally:
                posix.close(sub)
            posix.rmdir(name, dir_fd=fd)
