"""The exceptions of the Python API. They are created from the record that the runtime writes to its log; no messages are parsed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = Any  # a value of a config, or of what the runtime prints or logs, which has just been read: every type occurs


class Error(Exception):
    """The base class. str() is the runtime's message.

    kind: usage, refused, unsupported, state, hook, step, bug or another kind of the runtime; code: the stable code; pointer: the location
    in config.json; hint: what to do; step: 'part.verb'; call and errno: the system call and its error; path: the affected path. None if it
    does not apply.
    """

    def __init__(self, message: str, record: Mapping[str, Json] | None = None) -> None:
        super().__init__(message)
        self.record: dict[str, Json] = dict(record or {})
        self.code: str | None = self.record.get("code")
        self.kind: str | None = self.record.get("kind", self.code)
        self.pointer: str | None = self.record.get("pointer")
        self.hint: str | None = self.record.get("hint")
        self.step: str | None = self.record.get("step")
        self.call: str | None = self.record.get("call")
        self.errno: int | None = self.record.get("errno")
        self.path: str | None = self.record.get("path")


class UsageError(Error):
    """An argument that the runtime does not accept."""


class RefusedError(Error):
    """The config is not acceptable; nothing has been changed. `pointer` is the place in it."""


class UnsupportedError(Error):
    """Valid by the specification, but not possible on this host."""


class StateError(Error):
    """The container is in the wrong state for this."""


class NotFoundError(StateError):
    """There is no container with that id."""


class AlreadyExistsError(StateError):
    """There is already a container with that id."""


class HookError(Error):
    """A hook failed or exceeded its timeout."""


class StepError(Error):
    """The kernel refused something: `step`, `call` and `errno` describe what."""


class BugError(Error):
    """A defect of the runtime."""


class NotInstalledError(Error):
    """No runtime was found, or the given one can't be executed."""


class TimeoutExpired(Error):
    """It took longer than the caller's timeout. What had been started was terminated."""


class ProgramFailed(Error):
    """A program in the container exited with a status other than 0, and check=True was given."""


KINDS: dict[str, type[Error]] = {
    "usage": UsageError, "refused": RefusedError, "unsupported": UnsupportedError, "state": StateError, "hook": HookError,
    "step": StepError, "bug": BugError,
}  # fmt: skip


def of_record(record: Mapping[str, Json]) -> Error:
    """A record of the log → the exception to raise. An unknown kind is an Error."""
    message = str(record.get("msg", "the runtime failed and gave no reason"))
    kind = KINDS.get(str(record.get("kind", record.get("code"))), Error)
    if kind is StateError:
        kind = {"unknown-container": NotFoundError, "id-exists": AlreadyExistsError}.get(str(record.get("reason")), kind)
    return kind(message, record)
