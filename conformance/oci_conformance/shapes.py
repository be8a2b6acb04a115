"""The types of the data that cases, runner and reports exchange.

Rule: types only, nothing to run.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

# A JSON value that a runtime or the probe has printed. The cases find out whether it has the structure that the specification requires, so
# nothing is known about it.
Json = Any
Config = dict[str, Json]  # config.json. The cases break it on purpose.
Line = dict[str, Json]  # one line of the probe: "op", and what this operation saw
Changes = Mapping[str, object]  # JSON pointer → new value, see bundle.patch
Operation = str | Sequence[object]  # one operation of the probe: "stat /x", or its words
Version = tuple[int, ...]
Verdict = Literal["pass", "fail", "known", "skip", "broken"]
Standing = Verdict | Literal["none"]  # of a requirement: "none" if no case of the run tests it
Level = Literal["core", "linux", "full"]
Left = Mapping[str, Sequence[int | str]]  # "processes", "cgroups": what a case left behind


class Check(TypedDict):
    """One outcome within a case. `seen` is None if the check passed; `expected` and `seen` are evidence for readers."""

    ok: bool
    what: str
    requirements: Sequence[str]
    expected: Json
    seen: Json


class CallDict(TypedDict):
    """A call of the runtime as evidence."""

    argv: list[str]
    how: str
    out: str
    err: str


class Found(TypedDict, total=False):
    """What the process of a case writes for the runner (result.json)."""

    verdict: Verdict | None
    reason: str
    extra: Json
    checks: list[Check]
    hung: bool
    config: Config | str | None
    calls: list[CallDict]


class Identity(TypedDict, total=False):
    """What the preflight check finds out about a runtime."""

    name: str
    version: str
    features: dict[str, Json]
    declares: Version | None


class Note(TypedDict):
    """What a hook has recorded: its label, its input, and the lines of its operations."""

    label: str
    stdin: str
    seen: list[Line]


class CallOptions(TypedDict, total=False):
    """The options of Runtime.call."""

    root: str | None
    stdin: bytes
    stdout: int | None
    cwd: str
    mark: str
    seconds: float | None
    env: Mapping[str, str] | None
    fds: Sequence[int]
    umask: int


class BundleOptions(TypedDict, total=False):
    """The options of Trial.bundle, and of creating a container from it."""

    raw: bytes | None  # contents of config.json, instead of a configuration
    owner: int  # the host id of root in the container
    args: Sequence[str] | None  # the program, instead of the probe
    config: Config | None  # instead of the base configuration


class Words(TypedDict, total=False):
    """The description of this machine in a report."""

    kernel: str
    architecture: str
    cgroups: str
    python: str
