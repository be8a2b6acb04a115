"""state.json as types (store.py has the rules of the file): what later commands know of a container. Nothing here exists at run time."""

from typing import Any, NotRequired, TypedDict

class Ended(TypedDict):
    """How init ended; None for what nobody knows."""

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
    """What parts/cgroups.py has made, for its undo."""

    mounts: dict[str, str]  # {key: mount point of the hierarchy}
    existed: dict[str, int]  # {key: how many levels were there before}
    inodes: dict[str, int]  # {key: inode of the container's directory}
    unit: dict[str, Any]  # of systemd

class Dumping(TypedDict):
    """A checkpoint is at work, or was killed."""

    method: str | None  # of --network-lock

class State(TypedDict, total=False):
    """All of it. The keys without a comment in store.VERSION 1 are always there; the others say when."""

    version: int
    id: str
    bundle: str
    rootfs: str
    annotations: dict[str, str]
    created: str  # RFC 3339
    status: str  # "creating", "created" or "running", as of the last write: engine/status.py has the truth
    pid: int  # of init in our pid namespace; 0 until it is cloned
    start_time: int  # clock ticks since boot (proc_pid_stat(5)); proves that the pid is still init's
    boot_id: str
    owner: int  # uid
    cgroup_paths: dict[str, str]  # {controller or "unified": directory}
    cgroups: MadeCgroups
    rdt: Any
    own_pid_ns: bool
    hook_kinds: list[str]
    hooks: list[dict[str, Any]]  # notes of hooks that ran
    namespaces: dict[str, int]  # {type: inode}, of those that are not the runtime's; as create left them
    root: list[int] | None  # [device, inode] of the root, where it is not that of a mount namespace of the container's own
    no_process: bool  # the config has none: such a container cannot be started
    notify: bool  # a supervisor waits for READY
    warnings: list[list[str]]  # [pointer, text]
    stdio: list[str]  # what 0, 1 and 2 were, for a restore; [] with a terminal
    gate: list[int]  # inodes of the fifos of start
    mounts: list[LiveMount]
    ended: Ended
    dumping: Dumping
    restore_log: list[str]  # [folder, name], while a restore is not complete
