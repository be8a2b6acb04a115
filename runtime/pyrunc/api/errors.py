"""The exceptions of the Python face. Each is made from the record that the runtime writes to its log; nothing parses sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Error(Exception):
    """Base of all. str() is the runtime's sentence.

    kind: usage, refused, unsupported, state, hook, step, bug or another word of the runtime; code: the stable code; pointer: the place in
    config.json; hint: what to do; step: 'part.verb'; call and errno: the system call and its error; path: what it was about.
    None where it does not apply.
    """

    def __init__(self, message: str, record: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.record: dict[str, Any] = dict(record or {})
        self.code: str | None = self.record.get("code")
        self.kind: str | None = self.record.get("kind", self.code)
        self.pointer: str | None = self.record.get("pointer")
        self.hint: str | None = self.record.get("hint")
        self.step: str | None = self.record.get("step")
        self.call: str | None = self.record.get("call")
        self.errno: int | None = self.record.get("errno")
        self.path: str | None = self.record.get("path")


class UsageError(Error):
    """An argument that the runtime does not take."""


class RefusedError(Error):
    """The config is not acceptable; nothing has been touched. `pointer` says where."""


class UnsupportedError(Error):
    """Right by the specification, impossible on this host."""


class StateError(Error):
    """The container is in the wrong state for this."""


class NotFoundError(StateError):
    """There is no container of that id."""


class AlreadyExistsError(StateError):
    """There is a container of that id already."""


class HookError(Error):
    """A hook failed, or ran too long."""


class StepError(Error):
    """The kernel said no: `step`, `call` and `errno` say what to."""


class BugError(Error):
    """The runtime itself is wrong."""


class NotInstalledError(Error):
    """No runtime was found, or the one that was named can't be executed."""


class TimeoutExpired(Error):
    """It took longer than the caller wanted to wait. What had been begun was ended."""


class ProgramFailed(Error):
    """A program in the container ended with another status than 0, and check=True was given."""


KINDS: dict[str, type[Error]] = {
    "usage": UsageError, "refused": RefusedError, "unsupported": UnsupportedError, "state": StateError, "hook": HookError,
    "step": StepError, "bug": BugError,
}  # fmt: skip


def of_record(record: Mapping[str, Any]) -> Error:
    """A record of the log → the exception to raise. An unknown kind is an Error."""
    message = str(record.get("msg", "the runtime failed and gave no reason"))
    kind = KINDS.get(str(record.get("kind", record.get("code"))), Error)
    if kind is StateError:
        kind = {"unknown-container": NotFoundError, "id-exists": AlreadyExistsError}.get(str(record.get("reason")), kind)
    return kind(message, record)
