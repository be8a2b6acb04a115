"""What a plan may ask and what a verb may use, as types: nothing here exists at run time.

`Context` is for plan(). A verb takes the protocol of the side that it runs on: host_* and undo_* a HostRun, init_* and op_* an InitRun, exec_* an
ExecRun (so do op_* that exec shares: they may use only what InitRun and ExecRun have in common, which is TailRun). engine/run.py has the one
class that implements all of them; after the clone each side has a copy of its own.
"""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, TypedDict

from pyrunc.linux.proc import Proc
from pyrunc.parts.plans import Plans

Json: TypeAlias = Any  # a document that was read: checked by the validator, not by the type checker
Op: TypeAlias = tuple[Any, ...]  # an operation of finish() and spawn(): (name, argument, …); csrc/ops.h has the table

class Options(TypedDict, total=False):
    """What the command line says, as far as plans and verbs ask."""

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
    attended: bool
    keep: bool
    no_subreaper: bool
    systemd_cgroup: bool
    cgroup_manager: str
    systemd_timeout: float | None
    rootless: str
    allow_annotation_paths: bool
    notify_socket: str | None
    seccomp_receiver: str | None
    cgroup: Any  # of exec: the sub-cgroup, or one for each controller

class Context(Protocol):
    """What plan() may ask."""

    id: str
    bundle: str
    config: dict[str, Any]
    options: Options
    root: str
    plans: Plans
    warnings: list[list[str]]
    euid: int
    @property
    def in_userns(self) -> bool: ...
    @property
    def probe(self) -> Any: ...  # linux/probe.py, or a stand-in
    def warn(self, pointer: str, text: str) -> None: ...

class Run(Protocol):
    """What every side has."""

    id: str
    bundle: str
    config: dict[str, Any]
    plans: Plans
    options: Options
    fds: dict[str, int]  # made in `prepare`, inherited by init under the same numbers
    pid: int
    root_fd: int  # init: the rootfs mount; exec: the container's root; else -1

class TailRun(Run, Protocol):
    """What the operations of both tails, that of init and that of exec, may use."""

    seccomp_bpf: bytes
    userns_pid: int  # exec: a process of the target user namespace; 0 in init, which is in it

    @property
    def proc(self) -> Proc: ...
    @proc.setter
    def proc(self, value: Proc) -> None: ...

class AskRun(Run, Protocol):
    """Where the other side can be asked."""

    def ask(self, part: str, request: Any) -> tuple[Any, list[int]]: ...  # of the part's host_answer

class Cancel(Protocol):
    """A command that a signal can stop."""

    number: int  # of that signal; 0 as long as none has come
    wake_fd: int  # readable then
    def drain(self) -> None: ...

class HookRun(AskRun, Protocol):
    """Hooks run on both sides."""

    state_dir: Any  # store.StateDir; None where nothing is stored, and in init
    cancel: Cancel | None
    late_filter: tuple[Any, ...] | None  # init: the filter that is not in force yet
    exec_env: tuple[bytes, ...] | None  # init: the program's environment

    @property
    def host_env(self) -> list[bytes]: ...
    def check(self) -> None: ...
    def record(self, key: str, value: Any) -> None: ...
    def state(self, status: str, pid: int | None) -> dict[str, Any]: ...
    def tell(self, note: Any) -> None: ...

class HostRun(Run, Protocol):
    """The process that the caller started."""

    root: str  # --root
    rootfs: str | None
    annotations: dict[str, str]
    state_dir: Any  # store.StateDir; None where nothing is stored
    pidfd: int
    clone_flags: int
    cgroup_fd: int  # version 2: for CLONE_INTO_CGROUP; -1
    attach_to: int  # version 2: the cgroup that pid is to be moved into while it waits; -1
    time_offsets: bytes | None
    joined_ns: tuple[str, ...]  # kinds that init is in from its first instruction
    seccomp_bpf: bytes
    init_pid: int  # of exec and restore: the container's init; else 0

    @property
    def dir_fd(self) -> int: ...
    @property
    def dir(self) -> str: ...
    @property
    def host_env(self) -> list[bytes]: ...
    def check(self) -> None: ...
    def record(self, key: str, value: Any) -> None: ...
    def state(self, status: str, pid: int | None) -> dict[str, Any]: ...
    def call_helper(self, name: str, payload: Any) -> Any: ...

class InitRun(TailRun, Protocol):
    """The clone that becomes the container's process."""

    state_dir: Any  # store.StateDir, as it was at the clone: for reading
    annotations: dict[str, str]
    joined_ns: tuple[str, ...]
    late_mounts: list[tuple[Any, int]]
    own_mounts: list[int]  # ids of mounts whose file systems only the container has
    late_filter: tuple[Any, ...] | None  # of the tail: startContainer hooks run under it too
    exec_env: tuple[bytes, ...] | None  # the program's; startContainer hooks get it where they give none

    @property
    def host_env(self) -> list[bytes]: ...
    def check(self) -> None: ...
    def state(self, status: str, pid: int | None) -> dict[str, Any]: ...
    def ask(self, part: str, request: Any) -> tuple[Any, list[int]]: ...
    def tell(self, note: dict[str, Any]) -> None: ...

class ExecRun(HostRun, TailRun, Protocol):
    """The process that the caller started, for exec: it acts for one that joins, in which no Python runs."""

    container: Any  # store.StateDir of the container, which an exec leaves as it is

Answer: TypeAlias = tuple[Any, list[int]]  # of host_answer: plain data and descriptors for init
Entry: TypeAlias = dict[str, Any]
Verb: TypeAlias = Callable[..., Any]
