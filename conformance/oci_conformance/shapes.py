"""The shapes of the data that cases, runner and reports hand to each other.

Rule: types only, nothing to run.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

# A JSON value as a runtime or the probe has printed it. Whether it has the shape that the specification asks for is what the cases find
# out, so nothing is known of it.
Json = Any
Config = dict[str, Json]  # config.json. The cases break it on purpose.
Line = dict[str, Json]  # one line of the probe: "op", and what this operation saw
Changes = Mapping[str, object]  # JSON pointer → new value, see bundle.patch
Operation = str | Sequence[object]  # one operation of the probe: "stat /x", or its words
Version = tuple[int, ...]
Verdict = Literal["pass", "fail", "known", "skip", "broken"]
Standing = Verdict | Literal["none"]  # of a requirement: "none" where no case of the run is about it
Level = Literal["core", "linux", "full"]
Left = Mapping[str, Sequence[int | str]]  # "processes", "cgroups": what a case left behind


class Check(TypedDict):
    """One outcome within a case. `seen` is None where it held; `expected` and `seen` are evidence for readers."""

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
    """What the first look learns of a runtime."""

    name: str
    version: str
    features: dict[str, Json]
    declares: Version | None


class Note(TypedDict):
    """What a hook has noted: its label, its input, and the lines of its operations."""

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
    """The options of Trial.bundle, and of what makes a container of it."""

    raw: bytes | None  # of config.json, in place of a configuration
    owner: int  # the host's id of the root's root
    args: Sequence[str] | None  # the program in place of the probe
    config: Config | None  # in place of the base configuration


class Words(TypedDict, total=False):
    """The description of this machine in a report."""

    kernel: str
    architecture: str
    cgroups: str
    python: str
