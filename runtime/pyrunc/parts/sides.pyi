"""What plan() and the verbs may use, as types: nothing here exists at run time.

`Context` is for plan(). A verb takes the protocol of the side that it runs on: host_* and undo_* a HostRun, init_* and op_* an InitRun, exec_* an
ExecRun (so do op_* that exec shares: they may use only what InitRun and ExecRun have in common, which is TailRun). One class in
engine/run.py implements all of them; after the clone each side has its own copy.
"""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, TypedDict

from pyrunc.jsonio import Json as Json
from pyrunc.linux.proc import Proc
from pyrunc.parts.plans import Plans

Op: TypeAlias = tuple[Any, ...]  # an operation of finish() and spawn(): (name, argument, …); csrc/ops.h has the table
State: TypeAlias = Any  # state_dir.StateDir, a module above the parts
Data: TypeAlias = Any  # of a call by name, or what a part keeps for itself: only the callee knows the type
CallHelper: TypeAlias = Callable[[str, object], Data]  # a module of helper/, called by name, and its argument

class Options(TypedDict, total=False):
    """The command-line options that plans and verbs use."""

    command: str
    no_pivot: bool
    no_new_keyring: bool
    preserve_fds: int
    listen_fds: int
    inherited_fds: list[int]
    console_socket: str | None
    pidfd_socket: str | None
    pid_file: str | None
    detach: bool
    foreground: bool
    keep: bool
    no_subreaper: bool
    systemd_cgroup: bool
    cgroup_manager: str
    systemd_timeout: float | None
    rootless: str
    allow_annotation_paths: bool
    notify_socket: str | None
    seccomp_receiver: str | None
    cgroup: list[str] | None  # for exec: the sub-cgroup, or one for each controller

class Context(Protocol):
    """What plan() may use."""

    id: str
    bundle: str
    config: dict[str, Json]
    options: Options
    root: str
    plans: Plans
    warnings: list[list[str]]
    euid: int
    @property
    def in_userns(self) -> bool: ...
    @property
    def probe(self) -> Any: ...  # linux/probe.py, or what stands for it: a module has no type
    def warn(self, pointer: str, text: str) -> None: ...
    def notice(self, pointer: str, text: str) -> None: ...

class Run(Protocol):
    """What every side has."""

    id: str
    bundle: str
    config: dict[str, Json]
    plans: Plans
    options: Options
    fds: dict[str, int]  # opened in `prepare`, inherited by init under the same numbers
    pid: int
    root_fd: int  # init: the rootfs mount; exec: the container's root; else -1

class TailRun(Run, Protocol):
    """What operations may use in both tails, that of init and that of exec."""

    seccomp_bpf: bytes
    userns_pid: int  # exec: a process in the user namespace that is joined; 0 if none is joined or none is left, and in init
    may_be_traced: bool  # before execve, by processes that may have CAP_SYS_PTRACE in the host's user namespace

    @property
    def proc(self) -> Proc: ...
    @proc.setter
    def proc(self, value: Proc) -> None: ...

class AskRun(Run, Protocol):
    """A side that can send requests to the other side."""

    def ask(self, part: str, request: object) -> Answer: ...  # returns what the part's host_answer returns

class Cancel(Protocol):
    """A command that a signal can interrupt."""

    number: int  # the signal's number; 0 while there is none
    wake_fd: int  # readable after the signal
    def drain(self) -> None: ...

class HookRun(AskRun, Protocol):
    """Hooks run on both sides."""

    annotations: dict[str, str]
    state_dir: State  # None where nothing is stored, and in init
    cancel: Cancel | None
    late_filter: Op | None  # init: the filter that is not loaded yet
    exec_env: tuple[bytes, ...] | None  # init: the program's environment

    @property
    def host_env(self) -> list[bytes]: ...
    def read_host_env(self) -> list[bytes]: ...
    def check(self) -> None: ...
    def record(self, key: str, value: object) -> None: ...
    def record_all(self, values: Mapping[str, object]) -> None: ...
    def tell(self, note: Data) -> None: ...

class HostRun(Run, Protocol):
    """The process that the caller started."""

    root: str  # --root
    annotations: dict[str, str]
    state_dir: State  # None where nothing is stored
    pidfd: int
    clone_flags: int
    cgroup_fd: int  # version 2: for CLONE_INTO_CGROUP; -1
    attach_to: int  # version 2: the cgroup that pid is moved into while it waits; -1
    time_offsets: bytes | None
    joined_ns: tuple[str, ...]  # types that init is in from its first instruction
    seccomp_bpf: bytes
    listener_fd: int  # of the filter that pid has just loaded; else -1
    init_pid: int  # exec and restore: the container's init; else 0

    @property
    def dir_fd(self) -> int: ...
    @property
    def dir(self) -> str: ...
    @property
    def host_env(self) -> list[bytes]: ...
    def check(self) -> None: ...
    def record(self, key: str, value: object) -> None: ...
    def record_all(self, values: Mapping[str, object]) -> None: ...
    def call_helper(self, name: str, payload: object) -> Data: ...

class InitRun(TailRun, Protocol):
    """The clone that becomes the container's process."""

    state_dir: State  # as of the clone, for reading only
    annotations: dict[str, str]
    joined_ns: tuple[str, ...]
    late_mounts: list[tuple[Data, int]]
    own_mounts: list[int]  # ids of mounts whose file systems belong to the container alone
    late_filter: Op | None  # the tail's filter: startContainer hooks run under it too
    exec_env: tuple[bytes, ...] | None  # the program's; startContainer hooks without an environment get it

    @property
    def host_env(self) -> list[bytes]: ...
    def check(self) -> None: ...
    def ask(self, part: str, request: object) -> Answer: ...
    def tell(self, note: dict[str, Data]) -> None: ...

class ExecRun(HostRun, TailRun, Protocol):
    """The process that the caller started, for exec: it acts for the process that joins, which runs no Python."""

    container: State  # of the container, which exec does not change

class Drift(Protocol):
    """What parts/drift may use: the plan and a running container, and where to report differences."""

    plans: Plans
    pid: int  # of init
    cgroups: dict[str, str] | None  # the actual ones; None: those of the plan
    started: bool  # the program is running, so everything is applied
    def differs(self, area: str, what: str, planned: object, seen: object, pointer: str | None = None) -> None: ...
    def miss(self, area: str, why: str) -> None: ...  # it can't be read
    def proc(self, name: str) -> str: ...  # a file in init's /proc directory
    def status(self) -> dict[str, list[str]]: ...  # of proc_pid_status(5): {field: words}

class Seen(TypedDict):
    """What is mounted at a path."""

    flags: set[str]
    type: str
    root: bool  # whether the path is the root of the mount

class Mounted(Protocol):
    """The mounts of a container."""

    root_fd: int
    def root_flags(self) -> set[str] | None: ...
    def at(self, path: str) -> Seen | None: ...

Setting: TypeAlias = tuple[str, str, str, str, str]  # area, name, file below /proc, what is planned, pointer

class External(TypedDict):
    """A mount with a source outside of the container, for restore."""

    part: str  # whose parts/criu module clones it
    name: str  # in the images
    source: str  # on this host
    bind: bool  # a bind mount of the config, not a masked path, a node or a cgroup
    recursive: bool  # with the mounts below it
    follow: bool  # the source may be a link
    by_itself: bool  # never cloned together with the mount that contains it
    pointer: str
    item: Data  # the part's own

Answer: TypeAlias = tuple[Data, list[int]]  # of host_answer: plain data and descriptors for init
Entry: TypeAlias = dict[str, Any]  # a part's plan where the part is called by name; it declares the type
