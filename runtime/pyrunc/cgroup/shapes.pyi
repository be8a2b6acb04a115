"""What cgroup/ gets from the parts, as types: nothing here exists at run time. The parts take the types of their entries from here."""

from collections.abc import Mapping
from typing import Any, NotRequired, Protocol, TypeAlias, TypedDict

from pyrunc.cgroup.devices_rules import Rule
from pyrunc.cgroup.systemd_manager import Unit

Row: TypeAlias = list[Any]  # a row of a plan: a list, as JSON has no tuples, with columns of different types
Keyed: TypeAlias = Mapping[str, Any]  # Limits that are read by keys from a table, which a TypedDict does not allow

# -- limits, in a form that is the same for both versions; parts/resources plans them

class Memory(TypedDict, total=False):
    limit: int
    reservation: int
    swap: int
    swappiness: int
    oom_off: bool
    hierarchy: bool
    check: bool

class Cpu(TypedDict, total=False):
    shares: int
    quota: int
    period: int
    burst: int
    idle: int
    rt_runtime: int
    rt_period: int
    cpus: str
    mems: str

class Pids(TypedDict):
    limit: int

class Blkio(TypedDict, total=False):
    weight: int
    leaf_weight: int
    devices: list[Row]  # [major, minor, weight or None, leaf weight or None]
    throttle: list[Row]

Network = TypedDict(
    "Network",
    {"class": int, "priorities": list[Row]},
    total=False,
)

class Limits(TypedDict, total=False):
    """Each key is present only if the config has it; parts/resources/limits.py describes the forms."""

    memory: Memory
    cpu: Cpu
    pids: Pids
    blkio: Blkio
    hugetlb: list[Row]  # [page size, limit]
    network: Network
    rdma: list[Row]  # [device, handles or None, objects or None]
    unified: list[list[str]]
    devices: list[Rule]  # the config's rules, then the defaults
    asked: bool  # whether the config has anything but device rules
    in_userns: bool  # device rules can't be loaded

# -- the container's cgroups; parts/cgroups plans them

class Places(TypedDict):
    manager: str
    version: int | str | None  # 1, 2, "hybrid"
    paths: dict[str, str]  # {key: directory}; keys are controllers, "name=systemd", and "unified" for cgroup2
    mounts: dict[str, str]  # {key: mount point}
    explicit: bool  # the config names a path
    rootless: bool  # missing permissions are accepted as long as the config asks for nothing
    sub: NotRequired[str]  # the cgroup below the container's that init is moved into (v2)
    unit: NotRequired[Unit]  # with the systemd manager only; see systemd.py

# -- what is used of the objects that plan() and the verbs get (parts/sides.pyi)

class Plans(TypedDict, total=False):
    cgroups: Places
    resources: Limits

class Context(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def euid(self) -> int: ...
    @property
    def options(self) -> Mapping[str, object]: ...

class Run(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def pid(self) -> int: ...
    @property
    def plans(self) -> Plans: ...
    @property
    def state_dir(self) -> Any: ...  # state_dir.StateDir, a module above this one; None where nothing is stored
    @property
    def host_env(self) -> list[bytes]: ...
    def record(self, key: str, value: object) -> None: ...
