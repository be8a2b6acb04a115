"""The data that modules of the engine exchange, as types: nothing here exists at run time."""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, TypedDict

from pyrunc.engine.run import Run
from pyrunc.linux import protowire
from pyrunc.parts.sides import Json

Step: TypeAlias = tuple[str, str, str, str]  # a row of order.py: (phase, part, verb, why)
Table: TypeAlias = tuple[Step, ...]

# -- calls by name: only who is called knows the type

Part: TypeAlias = Any  # a module of parts/
Entry: TypeAlias = Any  # a part's plan; the part declares its type
Data: TypeAlias = Any  # of a message between the two sides; its handler declares the type
Result: TypeAlias = Any  # of a function of a part that is called by name; the function declares the type
Work: TypeAlias = Any  # what an Act is to do; each Act declares its type
Option: TypeAlias = Any  # of the command line, looked up by name; cmdline.pyi and parts/sides.pyi declare the types

# -- between the host side and init (handshake.py)

class Ask(TypedDict):
    part: str
    request: Data  # the argument of the part's host_answer

class Failed(TypedDict, total=False):
    """An error that is sent to the other side: PyruncError.record(); the last three are for a HookFailure."""

    code: str
    reason: str | None
    words: str
    pointer: str | None
    hint: str | None
    step: str | None
    side: str | None
    call: str | None
    errno: int | None
    path: str | None
    kind: str
    index: int
    cause: str

Record: TypeAlias = tuple[bytes, int, int, int, int, bytes]  # from finish(): kind, operation, detail, errno, extra, call

# -- of engine/live_mounts.py

class LiveNote(TypedDict):
    """What the child has mounted but not attached yet."""

    destination: str
    id: int
    unique: int

Made: TypeAlias = Callable[[list[LiveNote]], None]  # called before anything is attached
Act: TypeAlias = Callable[[Run, Work, int], None]  # in the child: run, work, descriptor of the mount namespace or -1

# -- of checkpoint and restore

class PageServer(TypedDict):
    address: str
    port: int

class Settings(TypedDict):
    """The options of checkpoint and restore (commands/checkpoint.py, commands/restore.py)."""

    image_path: str
    work_path: str | None
    parent_path: str | None
    pre_dump: bool
    leave_running: bool
    lazy_pages: bool
    status_fd: int  # -1: none
    page_server: PageServer | None
    manage_cgroups_mode: str | None
    network_lock: str | None
    shell_job: bool
    ext_unix_sk: bool
    tcp_established: bool
    tcp_close: bool
    tcp_skip_in_flight: bool
    file_locks: bool
    link_remap: bool
    auto_dedup: bool
    lsm_profile: str | None
    lsm_mount_context: str | None

Message: TypeAlias = protowire.Message  # of CRIU's protocol
Fields: TypeAlias = protowire.Fields  # {name: (number, kind)}
Notified: TypeAlias = Callable[[str, int, list[int]], None]  # script, pid, descriptors
MountTable: TypeAlias = dict[int, tuple[int, str, str]]  # {mount id: (parent id, mount point, type)}

# -- of gc, diff and the preview of control files

class Stale(TypedDict, total=False):
    """Leftovers of a container that no longer exists."""

    id: str
    reason: str
    age: int  # seconds
    cgroups: list[str]
    mounts: list[str]
    removable: bool
    removed: bool  # by gc --force

class Row(TypedDict):
    """A difference between the plan and the container; seen is None if nothing was found."""

    area: str
    what: str
    planned: Json
    seen: Json
    pointer: str | None

class SeenMount(TypedDict):
    """A line of mountinfo."""

    point: str
    flags: set[str]
    type: str

SeenMounts: TypeAlias = dict[int, SeenMount]  # {mount id: mount}

class ControlFile(TypedDict):
    pointer: str | None
    controller: str
    file: str
    value: str

# -- of a foreground command

class Other(Protocol):
    """Something to poll in addition to the program."""

    @property
    def fd(self) -> int: ...
    def act(self) -> bool: ...  # True: there is no more to do
