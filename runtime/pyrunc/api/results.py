"""Results of calls: immutable data, with the runtime's JSON if that contains more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyrunc.api.errors import Json, ProgramFailed


@dataclass(frozen=True)
class State:
    """The state document of a container (runtime.md#state). pid is the host's, 0 when stopped; created is a time in RFC 3339 format."""

    id: str
    pid: int
    status: str
    bundle: str
    rootfs: str
    created: str
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, data: Mapping[str, Json]) -> State:
        notes = data.get("annotations") or {}
        return cls(data["id"], data["pid"], data["status"], data["bundle"], data["rootfs"], data["created"], notes)


@dataclass(frozen=True)
class Completed:
    """A program that has exited. status: its exit status, or 128 plus the signal that killed it. stdout and stderr: bytes, empty if the
    caller passed a file."""

    args: tuple[str, ...]
    status: int
    stdout: bytes = b""
    stderr: bytes = b""

    @property
    def text(self) -> str:
        """stdout as text; bytes that are not UTF-8 become U+FFFD."""
        return self.stdout.decode("utf-8", "replace")

    def check(self) -> Completed:
        """Returns self if the status is 0; otherwise raises ProgramFailed, with the last line of stderr."""
        if self.status:
            last = self.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise ProgramFailed("%s exited with status %d%s" % (" ".join(self.args), self.status, ": " + last if last else ""))
        return self


@dataclass(frozen=True)
class ExitStatus:
    """How a container's init exited. status: 0 to 255, or 128 plus the signal that killed it; signal: its number or None; oom_killed:
    whether the kernel killed something in its memory cgroup. None: not known."""

    status: int | None
    signal: int | None
    oom_killed: bool | None


@dataclass(frozen=True)
class Stats:
    """The current resource usage of a container. memory_limit_bytes is None without a limit; raw: everything, in the format of `events
    --stats`."""

    cpu_ns: int
    memory_bytes: int
    memory_limit_bytes: int | None
    pids: int
    raw: Mapping[str, Json] = field(repr=False, default_factory=dict)

    @classmethod
    def of(cls, data: Mapping[str, Json]) -> Stats:
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
    """A mount of a container. origin: "config", or "live" if it was added by Container.add_mount()."""

    destination: str
    type: str
    source: str
    options: tuple[str, ...]
    origin: str

    @classmethod
    def of(cls, data: Mapping[str, Json]) -> Mount:
        return cls(data["destination"], data["type"], data["source"], tuple(data["options"]), data["origin"])


@dataclass(frozen=True)
class Difference:
    """A difference between a container and its plan. seen is None if nothing was found; pointer is None if no property belongs to it."""

    area: str
    what: str
    pointer: str | None
    planned: Json
    seen: Json

    @classmethod
    def of(cls, data: Mapping[str, Json]) -> Difference:
        return cls(data["area"], data["what"], data.get("pointer"), data["planned"], data["seen"])


@dataclass(frozen=True)
class Problem:
    """A problem found by validate. line and column count from 1, and are None if the document has no such place."""

    pointer: str
    message: str
    hint: str | None
    line: int | None
    column: int | None
    is_warning: bool

    @classmethod
    def of(cls, data: Mapping[str, Json], is_warning: bool) -> Problem:
        return cls(data.get("pointer") or "", data["words"], data.get("hint"), data.get("line"), data.get("column"), is_warning)
