"""The timetable: when each verb runs, on which side, and why. Data only.

A row: (phase, part, verb, why). `why` is empty if the position does not matter. Phases of CREATE, in order:

  prepare host, before the clone: everything that can fail early, and descriptors that init inherits
  placed    host, while init waits for PLACED: what must be true before init does anything
  setup init, after PLACED: namespaces, root and mounts, before the hooks, which may look at them
  hooks     host, while init waits for HOOKS_DONE
  enter init, after HOOKS_DONE: enters the root, and does everything that requires full privileges
  tail init: executed by the C function finish(); each verb returns one operation; `engine` rows belong to the engine
  limits host, while init waits at op_sync: no Python code is left in init that a limit could affect
  cloned host, while the process that op_clone has made waits; only if init is outside of a joined pid namespace
  listener host: the seccomp notify descriptor exists

A verb is called only if its part's plan is not None. For a host verb `host_x` the part may have `undo_x`: the engine pushes it on the undo
stack before calling the verb, and `delete` calls it with the stored plan.
"""

CREATE = (
    ("prepare", "namespaces", "host_open", "paths may no longer exist once init has entered a mount or user namespace"),
    ("prepare", "seccomp", "host_compile", "the helper process must have ended before the container exists"),
    ("prepare", "terminal", "host_connect", "the socket path belongs to the caller's root and cwd"),
    (
        "prepare",
        "host_mounts",
        "host_record",
        "recorded before it is made: without a mount namespace mounts are the host's until they are undone",
    ),
    ("prepare", "notify", "host_make", "its directory is a source of the mounts"),
    ("prepare", "cgroups", "host_make", "recorded before it is made, so that a killed create can be undone"),
    ("prepare", "rdt", "host_make", ""),
    ("prepare", "keyring", "host_name", ""),
    ("prepare", "hooks", "host_read_environment", "init wipes it before it does anything"),
    ("prepare", "clocks", "host_offsets", "a time namespace accepts offsets only while no process is inside (EACCES after clone3)"),
    ("placed", "cgroups", "host_place", "before init creates its cgroup namespace: /proc/self/cgroup must show / inside"),
    ("placed", "rdt", "host_place", "before init forks anything"),
    ("placed", "oom", "host_write", "needs the host's privileges; before init becomes non-dumpable"),
    ("placed", "idmaps", "host_write", "before init becomes non-dumpable, and before it becomes root inside"),
    ("placed", "netdevs", "host_move", "before the mounts, so that hooks see the final network"),
    ("placed", "namespaces", "host_close", "after the last use; a foreground run would keep a pod's namespaces alive"),
    (
        "setup",
        "cgroups",
        "init_place",
        "before everything else, so that all its resources are counted; moving itself needs no grace period",
    ),
    ("setup", "scheduling", "init_affinity", "after the cpuset, which limits the mask"),
    ("setup", "namespaces", "init_join", "user first, then what it owns"),
    ("setup", "user", "init_become_root", "after the maps: unmapped ids own nothing"),
    ("setup", "namespaces", "init_unshare", "init is now in its final cgroup, and is the root that message queues belong to"),
    ("setup", "keyring", "init_join", ""),
    ("setup", "namespaces", "init_loopback", ""),
    ("setup", "root", "init_prepare", "propagation is disabled before the first mount, or the host would see it"),
    ("setup", "mounts", "init_mount", "in the order of the config"),
    ("setup", "devices", "init_make", "after the mounts: /dev is one of them; before a read-only /dev is remounted"),
    ("hooks", "resources", "host_apply", "before the hooks, which may read and change the cgroup; late enough for init's own memory"),
    ("hooks", "cgroups", "host_delegate", "after the limits: the container may then own its cgroup; init has its final maps"),
    ("hooks", "rdt", "host_apply", ""),
    ("hooks", "hooks", "host_prestart", ""),
    ("hooks", "hooks", "host_create_runtime", ""),
    ("enter", "hooks", "init_create_container", "in the container's namespaces, while the host's root is still accessible"),
    ("enter", "root", "init_pivot", "after the last use of a host path"),
    ("enter", "program", "init_make_cwd", "before the root becomes read-only"),
    ("enter", "terminal", "init_open", "the container's own devpts is mounted; before /dev becomes read-only"),
    ("enter", "fds", "init_null", "the host's /dev/null must not be passed to the container"),
    ("enter", "mounts", "init_finish", "mounts become read-only when nothing more is created below them"),
    ("enter", "uts", "init_set", ""),
    ("enter", "sysctls", "init_write", "before readonlyPaths cover /proc/sys"),
    ("enter", "paths", "init_readonly", "before the masks: a masked path may be below"),
    ("enter", "paths", "init_mask", "after everything that writes below /proc by path"),
    ("enter", "root", "init_finish", "rootfsPropagation and read-only root, after the last mount: an unbindable one cannot be cloned"),
    ("enter", "landlock", "init_make", "all mounts are in their final state: rules apply to the files that are there now"),
    ("enter", "scheduling", "init_set", "needs CAP_SYS_NICE"),
    ("enter", "personality", "init_set", ""),
    ("enter", "mempolicy", "init_set", ""),
    ("enter", "fds", "init_stdio_owner", "needs CAP_CHOWN"),
    ("enter", "labels", "init_exec", "takes effect at execve; last, so that no other program gets it"),
    (
        "tail",
        "namespaces",
        "op_join",
        "a pid namespace whose processes may trace us: needs CAP_SYS_ADMIN, and init must not start anything in it before op_clone",
    ),
    ("tail", "engine", "op_prune", "a waiting init holds no descriptors of the caller or of ours"),
    ("tail", "engine", "op_sync", "limits are set from outside while the ids still match: later prlimit(2) would need CAP_SYS_RESOURCE"),
    ("tail", "landlock", "op_early", "before the filter, which may forbid it; without noNewPrivileges it needs CAP_SYS_ADMIN"),
    ("tail", "program", "op_chdir", "as root first: the user may not have access to the directory"),
    ("tail", "capabilities", "op_bound", "needs CAP_SETPCAP"),
    ("tail", "user", "op_ids", "keeps the permitted set for the next row"),
    ("tail", "capabilities", "op_caps", "after the ids: a change of uid clears sets"),
    ("tail", "program", "op_chdir_again", "if root was denied access (NFS, FUSE), the user may have it; then getcwd is verified"),
    ("tail", "capabilities", "op_nnp", "before the late filter, after every transition that it would prevent"),
    ("tail", "landlock", "op_late", "before the filter; startContainer hooks are code of the container and also subject to it"),
    ("tail", "program", "op_find", "with the target's privileges: a missing program is an error of create"),
    ("tail", "user", "op_umask", ""),
    ("tail", "engine", "op_signals", "a waiting pid 1 must die of SIGTERM and similar signals"),
    ("tail", "engine", "op_close", "only marks for execve; before any filter, which may deny close_range"),
    (
        "tail",
        "engine",
        "op_forget",
        "before the filter, which may deny madvise: the memory of the interpreter, which is no longer used, is released",
    ),
    ("tail", "engine", "op_outlive", "from here on, the container outlives the command"),
    ("tail", "seccomp", "op_early", "without noNewPrivileges: loading takes CAP_SYS_ADMIN, kept by op_caps and dropped here"),
    (
        "tail",
        "engine",
        "op_clone",
        "if init is outside of a joined pid namespace: what becomes visible in it has only the program's privileges",
    ),
    ("tail", "engine", "op_session", "in that second process: its session must not be that of a process that has exited"),
    ("tail", "seccomp", "op_notify", "a profile that notifies is loaded at create: the listener is sent before create returns"),
    ("tail", "engine", "op_ready", ""),
    ("tail", "engine", "op_wait", ""),
    ("tail", "engine", "op_hooks", "if there are startContainer hooks: returns to Python"),
    ("tail", "engine", "op_reset", "after startContainer hooks, if there are any: default dispositions, empty mask"),
    ("tail", "seccomp", "op_late", "with noNewPrivileges: only execve comes after it, and write if that fails"),
    ("tail", "program", "op_exec", ""),
    ("limits", "rlimits", "host_apply", "with prlimit on the waiting init, so that its setup is not affected"),
    ("cloned", "scheduling", "host_set", "a deadline policy forbids the clone, and reset-on-fork would discard it"),
    ("listener", "seccomp", "host_deliver", "before create returns: the container's first call may already notify"),
)

# exec. `pty`: with a terminal, before anything is created; `outside`: in the host's namespaces, in the process that will join; `tail`: in the
# container, up to op_clone in that process, then in its child, which becomes the program; `limits`: while the first waits at op_sync;
# `cloned`: while the second waits, if a part needs that (exec_waits); `listener`: as above.
EXEC = (
    ("prepare", "seccomp", "host_compile", "the helper process must have ended before anything joins"),
    ("prepare", "terminal", "host_connect", "the socket path belongs to the caller's root and cwd"),
    ("pty", "terminal", "exec_open", "in the container's devpts, through its root; none of our processes has to join for this"),
    ("prepare", "fds", "exec_owner", "a process of the user may reopen /dev/stdout; until then, pipes belong to the caller"),
    ("prepare", "landlock", "exec_make", "paths are resolved from outside: the process that joins runs no Python"),
    ("prepare", "scheduling", "exec_initial", "the initial affinity is inherited by the clone"),
    ("outside", "labels", "exec_op", "written through the host's procfs; takes effect at execve"),
    (
        "tail",
        "root",
        "exec_op",
        "first: if the mount namespace is shared, the container's root is only the root of its processes",
    ),
    ("tail", "keyring", "exec_op", "the container's, never the caller's; as root, which may search it"),
    ("tail", "personality", "exec_op", ""),
    ("tail", "mempolicy", "exec_op", ""),
    ("tail", "engine", "op_sync", "limits and scheduling are set from outside while the ids still match"),
    ("tail", "landlock", "op_early", "before the filter, which may forbid it; without noNewPrivileges it needs CAP_SYS_ADMIN"),
    ("tail", "program", "op_chdir", "as root first: the user may not have access to the directory"),
    ("tail", "capabilities", "op_bound", "needs CAP_SETPCAP"),
    ("tail", "user", "op_ids", "keeps the permitted set for the next row"),
    ("tail", "capabilities", "op_caps", "after the ids: a change of uid clears sets"),
    ("tail", "program", "op_chdir_again", "if root was denied access, the user may have it; then getcwd is verified"),
    ("tail", "capabilities", "op_nnp", "before the late filter"),
    ("tail", "landlock", "op_late", "before the filter"),
    ("tail", "program", "op_find", "with the target's privileges"),
    ("tail", "user", "op_umask", ""),
    ("tail", "engine", "op_close", "only marks for execve; before any filter, which may deny close_range"),
    ("tail", "seccomp", "op_early", "without noNewPrivileges: loading takes CAP_SYS_ADMIN, kept by op_caps and dropped here"),
    (
        "tail",
        "engine",
        "op_clone",
        "until here, no process of the container can see it; what becomes visible has only the program's privileges",
    ),
    ("tail", "engine", "op_session", "in the process that executes the program: it leads the session"),
    ("tail", "seccomp", "op_notify", "in the process that executes the program, whose calls the listener must see"),
    ("tail", "seccomp", "op_late", "with noNewPrivileges: only execve comes after it, and write if that fails"),
    ("tail", "program", "op_exec", ""),
    ("limits", "landlock", "exec_close", "by now the process has its own copy"),
    ("limits", "oom", "host_write", "needs the host's privileges"),
    ("limits", "scheduling", "host_affinity", "after the cpuset, which limits the mask"),
    ("limits", "rlimits", "host_apply", ""),
    ("cloned", "scheduling", "host_set", "a deadline policy forbids the clone, and reset-on-fork would discard it"),
    ("listener", "seccomp", "host_deliver", "before the program runs: its first call may already notify"),
)

START = (("started", "hooks", "host_poststart", "after the program has been executed"),)

DELETE = (
    (
        "empty",
        "cgroups",
        "host_remove_empty",
        "one rmdir each, which fails if a process is left; only then are processes searched and killed",
    ),
    ("delete", "cgroups", "undo_make", "after the last process has exited"),
    ("delete", "host_mounts", "undo_record", "after the last process has exited"),
    ("delete", "rdt", "undo_make", ""),
    ("delete", "notify", "undo_make", ""),
    ("deleted", "hooks", "host_poststop", "after everything has been released"),
)

# restore, where CRIU takes the place of init. `criu`: in its process before execve; `setup`: only its new namespaces exist; `restored`: all
# processes exist, but none runs yet.
RESTORE = (
    ("prepare", "namespaces", "host_open", "paths may disappear in the meantime; CRIU gets the descriptors"),
    ("prepare", "terminal", "host_connect", "the socket path belongs to the caller's root and cwd"),
    ("prepare", "cgroups", "host_make", "recorded before it is made, so that a killed restore can be undone"),
    ("prepare", "rdt", "host_make", ""),
    ("prepare", "keyring", "host_name", ""),
    ("placed", "cgroups", "host_place", "moves CRIU's process: its children are in the cgroup from the start"),
    ("placed", "rdt", "host_place", "before CRIU forks anything"),
    ("criu", "cgroups", "init_place", "moving itself needs no grace period"),
    ("criu", "keyring", "init_join", "CRIU restores no keyrings: the container would have the caller's"),
    ("setup", "netdevs", "host_move", "before the hooks, which see the final network"),
    ("setup", "resources", "host_apply", "before the hooks, which may read and change the cgroup"),
    ("setup", "cgroups", "host_delegate", "after the limits; the user namespace has its maps"),
    ("setup", "rdt", "host_apply", ""),
    ("setup", "hooks", "host_prestart", ""),
    ("setup", "hooks", "host_create_runtime", ""),
    ("restored", "fds", "exec_owner", "our pipes have replaced those that were dumped"),
    ("restored", "namespaces", "host_close", "after the last use; a foreground restore would keep a pod's namespaces alive"),
)

# Parts whose plans no later command uses: exec and delete do not read them. And sections of the config that exec does not need.
ONLY_CREATE = ("mounts", "devices", "paths", "sysctls", "netdevs")
NOT_PLANS_OF_EXEC = (*ONLY_CREATE, "cgroups", "resources")  # the last two: only if the process may not enter the cgroup
NOT_OF_EXEC = ("mounts", "hooks", "root", "hostname", "domainname")
