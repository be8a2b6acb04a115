"""state.json as types (state_dir.py describes the file): what later commands know about a container. Nothing here exists at run time."""

from typing import Any, NotRequired, TypedDict

class ExitRecord(TypedDict):
    """How init exited; None for what is not known."""

    status: int | None  # exit status, or 128 and the signal
    signal: int | None
    oom_killed: bool | None

class LiveMount(TypedDict):
    """A mount that was added after create, in the order of attaching."""

    destination: str
    id: int  # of the mount, in its namespace
    unique: int  # statx(2)'s STATX_MNT_ID_UNIQUE, 0 where the kernel has none
    source: NotRequired[str]
    type: NotRequired[str]
    options: NotRequired[list[str]]
    nofollow: NotRequired[bool]

class MadeCgroups(TypedDict, total=False):
    """What parts/cgroups created, for its undo verb."""

    mounts: dict[str, str]  # {key: mount point of the hierarchy}
    existed: dict[str, int]  # {key: how many levels existed before}
    inodes: dict[str, int]  # {key: inode of the container's directory}
    unit: dict[str, Any]  # the systemd unit, as cgroup/systemd_manager.py describes it (Unit)

class Dumping(TypedDict):
    """A checkpoint is running, or was killed."""

    method: str | None  # the value of --network-lock

class State(TypedDict, total=False):
    """The whole document. In state_dir.VERSION 1, keys without a comment are always present."""

    version: int
    id: str
    bundle: str
    rootfs: str
    annotations: dict[str, str]
    created: str  # RFC 3339
    status: str  # "creating", "created" or "running" at the last write; engine/status.py determines the current status
    pid: int  # init's pid in our pid namespace; 0 until it is cloned
    start_time: int  # clock ticks since boot (proc_pid_stat(5)); shows that the pid is still init's
    boot_id: str
    owner: int  # uid
    cgroup_paths: dict[str, str]  # {controller or "unified": directory}
    cgroups: MadeCgroups
    rdt: Any  # parts/rdt declares it (Record)
    own_pid_ns: bool
    hook_kinds: list[str]
    hooks: list[dict[str, Any]]  # notes of hooks that ran: parts/hooks.py checks them when it reads them (Note)
    namespaces: dict[str, int]  # {type: inode} of the namespaces that differ from the runtime's, at the end of create
    root: list[int]  # [device, inode] of the root, if the container has no private mount namespace
    no_process: bool  # the config has no process: such a container cannot be started
    notify: bool  # a supervisor waits for READY
    warnings: list[list[str]]  # [pointer, text]
    stdio: list[str]  # what descriptors 0, 1 and 2 were, for restore; [] with a terminal
    gate: list[int]  # inodes of the fifos for start, and 1 if the first is named exec.fifo (gate.py)
    mounts: list[LiveMount]
    ended: ExitRecord
    dumping: Dumping
    restore_log: list[str]  # [directory, name], until a restore is complete
