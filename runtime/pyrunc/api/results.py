"""What calls give back: frozen data, with the runtime's own JSON beside it where there is more of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyrunc.api.errors import ProgramFailed


@dataclass(frozen=True)
class State:
    """The state document of a container (runtime.md#state). pid is the host's, 0 when stopped; created is a time as RFC 3339 writes it."""

    id: str
    pid: int
    status: str
    bundle: str
    rootfs: str
    created: str
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> State:
        notes = data.get("annotations") or {}
        return cls(data["id"], data["pid"], data["status"], data["bundle"], data["rootfs"], data["created"], notes)


@dataclass(frozen=True)
class Completed:
    """A program that has ended. status: its exit status, 128 and the signal when one killed it. stdout and stderr: bytes, empty where
    the caller gave a file of its own."""

    args: tuple[str, ...]
    status: int
    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def text(self) -> str:
        """stdout as text; bytes that are not UTF-8 become U+FFFD."""
        return self.stdout.decode("utf-8", "replace")

    def check(self) -> Completed:
        """Itself when the status is 0; ProgramFailed otherwise, with what stands last on stderr."""
        if self.status:
            last = self.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise ProgramFailed("%s ended with status %d%s" % (" ".join(self.args), self.status, ": " + last if last else ""))
        return self


@dataclass(frozen=True)
class ExitStatus:
    """How a container's init ended. status: 0 to 255, 128 and the signal when one killed it; signal: its number or None; oom_killed: whether
    the kernel killed something in its memory cgroup. None: nobody knows."""

    status: int | None
    signal: int | None
    oom_killed: bool | None


@dataclass(frozen=True)
class Stats:
    """What a container uses now. memory_limit_bytes is None without a limit; raw: everything, in the shape of `events --stats`."""

    cpu_ns: int
    memory_bytes: int
    memory_limit_bytes: int | None
    pids: int
    raw: Mapping[str, Any] = field(repr=False, default_factory=dict)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Stats:
        usage = data.get("memory", {}).get("usage", {})
        limit = usage.get("limit") or 0
        return cls(
            cpu_ns=data.get("cpu", {}).get("usage", {}).get("total", 0),
            memory_bytes=usage.get("usage", 0),
            memory_limit_bytes=limit if 0 < limit < 1 << 60 else None,
            pids=data.get("pids", {}).get("current", 0),
            raw=data,
        )


@dataclass(frozen=True)
class Mount:
    """A mount of a container. origin: "config", or "live" for one of Container.add_mount()."""

    destination: str
    type: str
    source: str
    options: tuple[str, ...]
    origin: str

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Mount:
        return cls(data["destination"], data["type"], data["source"], tuple(data["options"]), data["origin"])


@dataclass(frozen=True)
class Difference:
    """What of a container is not as planned. seen is None where there is nothing; pointer is None where no property is about it."""

    area: str
    what: str
    pointer: str | None
    planned: Any
    seen: Any

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Difference:
        return cls(data["area"], data["what"], data.get("pointer"), data["planned"], data["seen"])


@dataclass(frozen=True)
class Problem:
    """One finding of validate. line and column count from 1, None where the document has no such place."""

    pointer: str
    message: str
    hint: str | None
    line: int | None
    column: int | None
    is_warning: bool

    @classmethod
    def of(cls, data: Mapping[str, Any], is_warning: bool) -> Problem:
        return cls(data.get("pointer") or "", data["words"], data.get("hint"), data.get("line"), data.get("column"), is_warning)
