"""The errors of pyrunc: one class per kind, with fields; their messages are put together here and nowhere else.

`CallError` is the failure of one system call: linux/ and the extension raise it, and the engine converts it to a StepFailure.

Every command loads this module, so it imports nothing. `sentence()` returns the line for stderr and for `msg` in the log: `<words>
(<pointer>: <step>, <call>: <ERRNO>); <hint>`. Texts that callers match (containerd, podman, moby, cri-o) are in CALLER_TEXT; a hint must
never contain one of them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Plain: TypeAlias = Any  # a field of a record that is sent as JSON: its reader knows the type


CALLER_TEXT = {
    "unknown": "container does not exist",
    "exists": "container with given ID already exists",
    "not-running": "container not running",
    "not-paused": "container not paused",
    "start-running": "cannot start an already running container",
    "start-stopped": "cannot start a container that has stopped",
    "start-paused": "cannot start a container in the paused state",
    "delete-alive": "cannot delete container %s that is not stopped: %s",
    "exec-stopped": "cannot exec in a stopped container",
    "exec-paused": "cannot exec in a paused container (use --ignore-paused to override)",
    "bad-id": "invalid container ID format",
    "empty-id": "container id cannot be empty",
    "no-exec": 'exec: "%s": executable file not found in $PATH',
}


def errno_name(number: int) -> str:
    """int -> 'ENOENT'; an unknown one -> 'errno 999'."""
    import errno  # built in, no file is read

    return errno.errorcode.get(number, "errno %d" % number)


def errno_text(number: int | None) -> str:
    """int -> 'no such file or directory': libc's text in lower case, as in Go (cri-o's match is case-sensitive)."""
    import posix

    text = posix.strerror(number) if number is not None else "unknown error"
    return text if text[:2].isupper() else text[:1].lower() + text[1:]


def quote(value: object, limit: int = 200) -> str:
    """Text from a config or a container, made safe for one line: control characters are escaped, and it is cut to `limit` characters."""
    text = value if isinstance(value, str) else repr(value)
    if len(text) <= limit and text.isprintable():
        return text
    out = "".join(c if c.isprintable() else _escape(c) for c in text[: limit + 1])
    return out if len(text) <= limit else out[:limit] + "…"


def escape_pointer(key: str) -> str:
    """A key as one reference token of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1") if "~" in key or "/" in key else key


def _escape(c: str) -> str:
    """Escapes a character. The codec unicode_escape is a module, which init can't import."""
    if c in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[c]
    number = ord(c)
    return "\\x%02x" % number if number < 256 else "\\u%04x" % number if number < 65536 else "\\U%08x" % number


class PyruncError(Exception):
    """Base. Fields: kind (the kind of error), reason (a short stable name of the cause; codes.py maps it to a number, and decisions depend
    on it), words (the beginning of the message, only for people), pointer, hint, exit_status."""

    kind = "error"
    exit_status = 1
    step: str | None = None
    side: str | None = None
    call: str | None = None
    errno: int | None = None
    path: str | None = None
    place: tuple[int, int] | None = None
    hooks: list[dict[str, Plain]] | None = None  # results of the hooks of a failed create

    def __init__(self, reason: str | None, words: str, pointer: str | None = None, hint: str | None = None) -> None:
        super().__init__(words)
        self.reason = reason
        self.words = words
        self.pointer = pointer
        self.hint = hint

    def where(self) -> str:
        """The text in parentheses: the pointer; StepFailure adds step, call and errno."""
        return self.pointer or ""

    def sentence(self) -> str:
        """One line, whatever the pointer contains: keys of a config are free text, and a line break could forge a line in the log."""
        where = self.where()
        text = "%s%s%s" % (self.words, " (%s)" % where if where else "", "; %s" % self.hint if self.hint else "")
        return text if text.isprintable() else quote(text, len(text))

    def record(self) -> dict[str, Plain]:
        """Plain data for the JSON log and for the pipe between init and host side."""
        return {"code": self.kind, "reason": self.reason, "words": self.words, "pointer": self.pointer, "hint": self.hint}


class UsageError(PyruncError):
    """The command line is wrong. `command` and `option` say where."""

    kind = "usage"

    def __init__(self, reason: str, words: str, command: str | None = None, option: str | None = None, hint: str | None = None) -> None:
        super().__init__(reason, words, None, hint)
        self.command = command
        self.option = option


class Refusal(PyruncError):
    """The config is not acceptable. Raised by load, validate or plan(); nothing has been changed."""

    kind = "refused"

    def __init__(
        self,
        reason: str,
        words: str,
        pointer: str | None,
        hint: str | None = None,
        section: str | None = None,
        place: tuple[int, int] | None = None,
    ) -> None:
        super().__init__(reason, words, pointer, hint)
        self.section = section
        self.place = place  # (line, column) from 1, where the text is not JSON


class Unsupported(PyruncError):
    """Valid by the specification, but not possible on this host. `needs` names the kernel, cgroup controller or library."""

    kind = "unsupported"

    def __init__(self, reason: str, words: str, pointer: str | None, needs: str | None, hint: str | None = None) -> None:
        super().__init__(reason, words, pointer, hint)
        self.needs = needs


class StateError(PyruncError):
    """The container does not exist, already exists, or is in the wrong state. words come from CALLER_TEXT."""

    kind = "state"

    def __init__(self, reason: str, words: str, id: str | None = None, state: str | None = None, hint: str | None = None) -> None:
        super().__init__(reason, words, None, hint)
        self.id = id
        self.state = state

    def where(self) -> str:
        """The id, if the text that callers match does not contain it."""
        return self.id or "" if self.reason == "unknown-container" else ""


class HookFailure(PyruncError):
    """A hook failed (reason "failed"), could not be executed ("hook-not-run") or ran too long ("hook-timeout")."""

    kind = "hook"

    def __init__(self, reason: str, hook_kind: str, index: int, cause: str, path: str | None = None) -> None:
        super().__init__(reason, "error running %s hook #%d: %s" % (hook_kind, index, cause), "/hooks/%s/%d" % (hook_kind, index))
        self.hook_kind = hook_kind
        self.index = index
        self.cause = cause
        self.path = path


class StepFailure(PyruncError):
    """A verb failed: the kernel said no. step is 'part.verb', side 'host' or 'init'; call, errno and path if they are known. If the reason
    is None, it is the errno's name."""

    kind = "step"

    def __init__(
        self,
        reason: str | None,
        words: str,
        step: str | None = None,
        side: str | None = None,
        pointer: str | None = None,
        call: str | None = None,
        errno: int | None = None,
        path: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(reason, words, pointer, hint)
        self.step = step
        self.side = side
        self.call = call
        self.errno = errno
        self.path = path

    def where(self) -> str:
        call = self.call or ""
        if self.errno:
            call = "%s%s" % (call + ": " if call else "", errno_name(self.errno))
        tail = ", ".join(x for x in (self.step, call) if x)
        return ": ".join(x for x in (self.pointer, tail) if x)

    def record(self) -> dict[str, Plain]:
        data = super().record()
        data.update(step=self.step, side=self.side, call=self.call, errno=self.errno, path=self.path)
        return data

    @classmethod
    def from_oserror(cls, e: OSError, step: str | None, side: str | None, pointer: str | None = None) -> StepFailure:
        """Converts a failed call to a failed step. The pointer of the error itself takes precedence."""
        failed = CallError.of(e)
        path = None if failed.filename is None else _text(failed.filename)
        what = failed.call or step
        words = failed.words
        if words is None:
            words = "%s: %s" % ("%s %s" % (what, quote(path)) if path else what, errno_text(e.errno) if e.errno else failed.strerror)
        hint = failed.hint or (NO_DESCRIPTORS if e.errno == EMFILE else None)
        return cls(None, words, step, side, failed.pointer or pointer, failed.call, e.errno, path, hint)


EMFILE = 24
NO_DESCRIPTORS = "raise the caller's limit of open files (ulimit -n)"


def out_of_memory(step: str | None = None, side: str = "host", pointer: str | None = None) -> StepFailure:
    """StepFailure for a MemoryError, which is not a defect of pyrunc."""
    return StepFailure(
        "out-of-memory",
        "%s: out of memory" % (step or "pyrunc"),
        step,
        side,
        pointer,
        errno=12,
        hint="free some memory, or raise the caller's limit",
    )


class Bug(PyruncError):
    """Cannot happen. A traceback is shown with --debug only."""

    kind = "bug"

    def __init__(self, words: str, pointer: str | None = None, hint: str | None = None) -> None:
        super().__init__("internal", words, pointer, hint)


def _text(path: str | bytes | int) -> str:
    return path if isinstance(path, str) else path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else str(path)


class CallError(OSError):
    """A failed system call: errno, strerror and filename, as in every OSError, and what else is known about it.

    It is also an instance of the built-in class for its errno (FileNotFoundError for ENOENT), so `except FileNotFoundError` catches it.
    Callers that know more can fill in a field and raise it again: `raise CallError.of(e, "openat", hint=...) from None`.
    """

    errno: int
    strerror: str
    call: str | None = None  # the kernel's name for the call
    words: str | None = None  # the message, instead of "<call> <path>: <errno's text>"
    hint: str | None = None
    pointer: str | None = None  # JSON pointer of the property that requires it
    namespace: str | None = None  # the kind of namespace that was joined or created
    option: int | None = None  # index of the mount option that was refused
    log: tuple[str, ...] = ()  # messages from the kernel: lines from the file system (fsopen(2)), text from the verifier (bpf(2))
    value: str | None = None  # the value for a control file
    at: int | None = None  # from calls(): index of the operation that failed
    op: int | None = None  # from spawn(): index in _syscalls.OPS of the operation that failed in the child
    detail: int | None = None  # from spawn(): one of DETAIL_* in ops.h

    def __new__(cls, number: int, text: str, path: str | bytes | int | None = None, call: str | None = None) -> CallError:
        also = _ALSO.get(number, cls)
        self = OSError.__new__(also, number, text) if path is None else OSError.__new__(also, number, text, path)
        if call is not None:
            self.call = call
        return self

    @classmethod
    def of(
        cls,
        e: OSError,
        call: str | None = None,
        words: str | None = None,
        hint: str | None = None,
        pointer: str | None = None,
        path: str | bytes | None = None,
    ) -> CallError:
        """`e` itself if it is a CallError, else an equivalent one. `call` is used if the error does not name its call; the other arguments
        replace existing fields."""
        error = e if isinstance(e, CallError) else cls(e.errno, e.strerror or str(e), e.filename)  # type: ignore[arg-type]  # None stays None
        if call is not None and error.call is None:
            error.call = call
        if words is not None:
            error.words = words
        if hint is not None:
            error.hint = hint
        if pointer is not None:
            error.pointer = pointer
        if path is not None:
            error.filename = path
        return error


# {errno: a class that is both}, for each errno that has its own class in Python
_KINDS = {number: type(OSError(number, "")) for number in range(1, 134)}
_BOTH = {kind: type("CallError", (CallError, kind), {}) for kind in dict.fromkeys(_KINDS.values()) if kind is not OSError}
_ALSO: dict[int, type[CallError]] = {number: _BOTH[kind] for number, kind in _KINDS.items() if kind in _BOTH}
