"""The object that verbs use. After the clone init has a copy of it, and each side sets its own fields.

parts/sides.pyi says which side has which fields: a verb that takes a HostRun, an InitRun or an ExecRun can only use those of its side.
"""

from __future__ import annotations

from pyrunc import fileio
from pyrunc.errors import Bug

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyrunc.engine.handshake import Link
    from pyrunc.engine.shapes import Data, Option
    from pyrunc.engine.signals import Cancel
    from pyrunc.linux.proc import Proc
    from pyrunc.parts.plans import Plans
    from pyrunc.parts.sides import Entry, Json, Op
    from pyrunc.state_dir import StateDir


class Run:
    """One command on one container."""

    def __init__(self, id: str, bundle: str, config: dict[str, Json], plans: Plans, options: Mapping[str, object], root: str) -> None:
        # both sides
        self.id = id
        self.bundle = bundle
        self.config = config
        self.plans = plans
        self.options: Option = options  # sides.Options from prepare; the plain command-line options if only undo_* and host_* of delete run
        self.root = root
        self.annotations: dict[str, str] = config.get("annotations", {})
        self.state_dir: StateDir | None = None  # None before anything is stored, and in exec, which stores nothing
        self.fds: dict[str, int] = {}  # descriptors opened in `prepare`, inherited by init under the same numbers
        self.joined_ns: tuple[str, ...] = ()  # namespaces that init is in from its first instruction
        self.link: Link | None = None  # to the other side
        self.pid = 0
        self._proc: Proc | None = None
        self._host_env: list[bytes] | None = None
        # host side
        self.cancel: Cancel | None = None  # while the command can still be interrupted
        self.clone_flags = 0
        self.cgroup_fd = -1  # version 2: for CLONE_INTO_CGROUP
        self.time_offsets: bytes | None = None  # the text for timens_offsets
        self.seccomp_bpf = b""
        self.pidfd = -1
        self.listener_fd = -1  # of the filter that run.pid has just loaded
        # init
        self.root_fd = -1  # the rootfs mount; after pivot the container's /. In exec the root of the container, from outside
        self.late_mounts: list[tuple[Entry, int]] = []  # made read-only when nothing more is created below them
        self.own_mounts: list[int] = []  # ids of mounts whose file systems belong to the container alone
        self.exec_env: tuple[bytes, ...] | None = None  # the program's environment, for startContainer hooks without one
        self.late_filter: Op | None = None  # startContainer hooks are code of the container and also load it
        self.on_note: Callable[[Data], object] | None = None  # called by tell()
        self.starts_later = True  # another command will start it, possibly after days; False if this one does
        # exec and restore: the host side of a process that clone_init does not create
        self.init_pid = 0
        self.userns_pid = 0  # exec and restore: a process in the container's user namespace; 0 if it has none, or none is left in it
        self.may_be_traced = False  # before execve, by processes that may have CAP_SYS_PTRACE (init's child, and exec)
        self.attach_to = -1  # version 2: the cgroup that pid is moved into while it waits
        # A cycle, so that nothing is freed piece by piece when the command is done: the process ends with it.
        self.itself = self

    @property
    def stored(self) -> StateDir:
        """The state_dir; a Bug if there is none."""
        if self.state_dir is None:
            raise Bug("this run has no state directory")
        return self.state_dir

    @property
    def peer(self) -> Link:
        """The link; a Bug if there is none."""
        if self.link is None:
            raise Bug("this run has no other side")
        return self.link

    @property
    def dir_fd(self) -> int:
        return self.stored.fd

    @property
    def dir(self) -> str:
        return self.stored.path

    @property
    def proc(self) -> Proc:
        """Our own procfs (linux.proc.Proc), opened on first use and never attached to a mount point."""
        if self._proc is None:
            from pyrunc.linux import proc

            self._proc = proc.Proc()
        return self._proc

    @proc.setter
    def proc(self, value: Proc) -> None:
        self._proc = value

    def close_proc(self) -> None:
        if self._proc is not None:
            self._proc.close()
            self._proc = None

    @property
    def host_env(self) -> list[bytes]:
        """fileio.own_environ(), read once."""
        return self.read_host_env() if self._host_env is None else self._host_env

    def read_host_env(self) -> list[bytes]:
        self._host_env = fileio.own_environ()
        return self._host_env

    def forget_host_env(self) -> None:
        """Init, while the host's /proc is available: overwrites our arguments and environment with zeroes, because other processes in the
        container's namespaces can read them in /proc until the program is executed."""
        from pyrunc.linux import _syscalls

        _syscalls.wipe_environ()

    def check(self) -> None:
        """Between two rows: Interrupted if a signal has asked us to stop."""
        if self.cancel is not None:
            self.cancel.check()

    def record(self, key: str, value: Json) -> None:
        """Records a value that must be on disk before the next step."""
        if self.state_dir is not None:
            self.state_dir.record(key, value)

    def record_all(self, values: Mapping[str, Json]) -> None:
        """Records several values at once."""
        if self.state_dir is not None:
            self.state_dir.record_all(values)

    def call_helper(self, name: str, payload: Json) -> Json:
        """Calls a function of the helper process."""
        from pyrunc import helper_process

        return helper_process.call(name, payload)

    def tell(self, note: Data) -> None:
        """Init after `start`: sends a hook's result to the command that started it; see engine.init."""
        if self.on_note is not None:
            self.on_note(note)

    def ask(self, part: str, request: Data) -> tuple[Data, list[int]]:
        """Init: asks the host side; returns (answer, fds) from the part's host_answer."""
        return self.peer.ask(part, request)


class ExecRun(Run):
    """For exec: the host side of a process that joins `container`."""

    def __init__(self, container: StateDir, config: dict[str, Json], plans: Plans, options: Mapping[str, object], root: str) -> None:
        state = container.state
        super().__init__(container.id, state["bundle"], config, plans, options, root)
        self.container = container
        self.strangers: frozenset[int] = frozenset()  # children that this process already had
        self.waits = False  # the process that becomes the program waits for our answer
        self.joined = False  # pid and pidfd now refer to the process that becomes the program, no longer to the one that joins
        self.init_pid = state["pid"]
        self.userns = 0  # the inode of the user namespace that is joined, which userns_pid is in
        self.annotations = state.get("annotations", {})
