"""What a verb may use. One object; after the clone init has a copy of it, and each side sets what is its own."""

from pyrunc import fileio


class Run:
    """The host fills id, state_dir, bundle, rootfs, config, plans, options; see the properties' comments for who sets the rest."""

    def __init__(self, id, bundle, config, plans, options, root):
        self.id = id
        self.bundle = bundle
        self.config = config
        self.plans = plans
        self.options = options
        self.root = root
        self.rootfs = plans["root"]["path"] if "root" in plans else None
        self.state_dir = None  # store.StateDir; None while nothing is stored
        self.fds = {}  # descriptors made in `prepare`, inherited by init under the same numbers
        self.clone_flags = 0
        self.cgroup_fd = -1  # v2: CLONE_INTO_CGROUP
        self.pid = 0
        self.pidfd = -1
        self.link = None  # handshake.Link to the other side
        self.root_fd = -1  # init: the rootfs mount; after pivot the container's /
        self._proc = None
        self._host_env = None
        self.waits = True  # for a later start, maybe for days; false where it follows at once
        self.teller = None  # init, where startContainer hooks run: takes what tell() is given
        self.cancel = None  # host: signals.Cancel while a create can still be stopped
        self.annotations = config.get("annotations", {})
        self._documents = None
        if "hooks" in plans or "seccomp" in plans:  # loaded here: behind the import barrier it is too late
            from pyrunc.oci import state

            self._documents = state

    @property
    def dir_fd(self):
        return self.state_dir.fd

    @property
    def dir(self):
        return self.state_dir.path

    @property
    def cache(self):
        """Directory of compiled filters; its user makes it."""
        return self.root + "/@cache/seccomp"

    @property
    def proc(self):
        """Our own procfs (linux.proc.Proc), opened when first used and never attached to a mount point."""
        if self._proc is None:
            from pyrunc.linux import proc

            self._proc = proc.Proc()
        return self._proc

    @proc.setter
    def proc(self, value):
        self._proc = value

    @property
    def host_env(self):
        """fileio.own_environ(), read once."""
        if self._host_env is None:
            self._host_env = fileio.own_environ()
        return self._host_env

    def forget_host_env(self):
        """Init side, while the host's /proc is there: what it shows of our arguments and environment becomes zeroes. The container's
        neighbours may read it until the program is executed. Hooks without an `env` still get the caller's, so that is kept."""
        from pyrunc.linux import _syscalls

        if "hooks" in self.plans:
            self._host_env = self.host_env
        _syscalls.wipe_environ()

    @property
    def cancel_fd(self):
        """Readable when a signal asks us to stop; -1 where none can."""
        return -1 if self.cancel is None else self.cancel.wake_fd

    def check(self):
        """Between two rows: has a signal asked us to stop?"""
        if self.cancel is not None and self.cancel.number:
            from pyrunc.engine.steps import Interrupted

            raise Interrupted(self.cancel.number)

    def record(self, key, value):
        """A fact that must be on disk before the next act."""
        if self.state_dir is not None:
            self.state_dir.record(key, value)

    def state(self, status, pid):
        """The state document that hooks get (runtime-spec, runtime.md#state)."""
        return self._documents.for_hooks(self.id, status, pid, self.bundle, self.annotations)

    def call_helper(self, name, payload):
        """A function of the helper process."""
        from pyrunc import helper_process

        return helper_process.call(name, payload)

    def tell(self, note):
        """Init after `start`: a hook's note for whoever has started it; see engine.init."""
        if self.teller is not None:
            self.teller(note)

    def ask(self, part, request):
        """Init side: (answer, fds) of the part's host_answer."""
        return self.link.ask(part, request)
