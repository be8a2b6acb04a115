"""THE timetable: when each verb runs, on which side, and why there. Data, no code.

A row: (phase, part, verb, why). `why` is empty where the place does not matter. Phases of CREATE, in order:

  prepare   host, before the clone: everything that can fail early, and what init inherits as descriptors
  placed    host, while init waits for PLACED: what must be true before init does anything
  setup     init, after PLACED: namespaces, root and mounts, until the hooks may look at them
  hooks     host, while init waits for HOOKS_DONE
  enter     init, after HOOKS_DONE: into the root, and all that wants full rights
  tail      init: what the C function finish() will carry out, each verb returns one operation; `engine` rows are its own
  limits    host, while init waits at op_sync: nothing of Python is left in init that could feel a limit
  listener  host: the seccomp notify descriptor has come into being

A verb is called only when its part's plan is not None. For a host verb `host_x` the part may have `undo_x`: the engine
puts it on the undo stack before the verb is called, and `delete` calls it from the stored plan.
"""

CREATE = (
    ("prepare", "namespaces", "host_open", "paths may vanish once init has entered a mount or user namespace"),
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
    ("prepare", "clocks", "host_offsets", "a time namespace takes offsets only while no process is inside (EACCES after clone3)"),
    ("placed", "cgroups", "host_place", "before init makes its cgroup namespace: /proc/self/cgroup must say / inside"),
    ("placed", "rdt", "host_place", "before init forks anything"),
    ("placed", "oom", "host_write", "needs the host's rights; before init goes non-dumpable"),
    ("placed", "idmaps", "host_write", "before init goes non-dumpable, and before it becomes root inside"),
    ("placed", "netdevs", "host_move", "before the mounts, so that hooks see the final network"),
    ("placed", "namespaces", "host_close", "after the last use; a foreground run would keep a pod's namespaces alive"),
    ("setup", "cgroups", "init_place", "before everything else: what it takes is to be counted; by itself, which costs no grace period"),
    ("setup", "scheduling", "init_affinity", "after the cpuset: the mask is clipped by it"),
    ("setup", "namespaces", "init_join", "user first, then what it owns"),
    ("setup", "user", "init_become_root", "after the maps: unmapped ids own nothing"),
    ("setup", "namespaces", "init_unshare", "init sits in its final cgroup now, and is the root that message queues belong to"),
    ("setup", "keyring", "init_join", ""),
    ("setup", "namespaces", "init_loopback", ""),
    ("setup", "root", "init_prepare", "propagation is cut before the first mount, or the host would see it"),
    ("setup", "mounts", "init_mount", "in the order of the config"),
    ("setup", "devices", "init_make", "after the mounts: /dev is one of them; before a read-only /dev is remounted"),
    ("hooks", "resources", "host_apply", "before the hooks, which may look at and alter the cgroup; late enough for init's own memory"),
    ("hooks", "cgroups", "host_delegate", "after the limits: the container may then own its cgroup; init has its final maps"),
    ("hooks", "rdt", "host_apply", ""),
    ("hooks", "hooks", "host_prestart", ""),
    ("hooks", "hooks", "host_create_runtime", ""),
    ("enter", "hooks", "init_create_container", "in the container's namespaces, with the host's root still in reach"),
    ("enter", "root", "init_pivot", "after the last host path was used"),
    ("enter", "program", "init_make_cwd", "before the root turns read-only"),
    ("enter", "terminal", "init_open", "the container's own devpts is mounted; before /dev turns read-only"),
    ("enter", "fds", "init_null", "the host's /dev/null must not be handed in"),
    ("enter", "mounts", "init_finish", "read-only remounts come when nothing more is created below"),
    ("enter", "uts", "init_set", ""),
    ("enter", "sysctls", "init_write", "before readonlyPaths cover /proc/sys"),
    ("enter", "paths", "init_readonly", "before the masks: a masked path may lie below"),
    ("enter", "paths", "init_mask", "after everything that writes below /proc by path"),
    ("enter", "root", "init_finish", "rootfsPropagation and read-only root, after the last mount: an unbindable one cannot be cloned"),
    ("enter", "landlock", "init_make", "all mounts are as the program will see them: rules hold for what lies there now"),
    ("enter", "scheduling", "init_set", "needs CAP_SYS_NICE"),
    ("enter", "personality", "init_set", ""),
    ("enter", "mempolicy", "init_set", ""),
    ("enter", "fds", "init_stdio_owner", "needs CAP_CHOWN"),
    ("enter", "labels", "init_exec", "takes effect at execve; last, so that no other program gets it"),
    ("tail", "engine", "op_prune", "what waits for start holds no descriptor of the caller's or of ours"),
    ("tail", "engine", "op_sync", "limits are set from outside while the ids still match: later prlimit(2) would need CAP_SYS_RESOURCE"),
    ("tail", "landlock", "op_early", "before the filter, which may forbid it; without noNewPrivileges it needs CAP_SYS_ADMIN"),
    ("tail", "program", "op_chdir", "as root first: the directory may be closed to the user"),
    ("tail", "capabilities", "op_bound", "needs CAP_SETPCAP"),
    ("tail", "user", "op_ids", "keeps the permitted set for the next row"),
    ("tail", "capabilities", "op_caps", "after the ids: a change of uid clears sets"),
    ("tail", "program", "op_chdir_again", "where root was refused (NFS, FUSE) the user may enter; then getcwd is verified"),
    ("tail", "capabilities", "op_nnp", "before the late filter, after every transition that it would stop"),
    ("tail", "landlock", "op_late", "before the filter; startContainer hooks are code of the container and feel it too"),
    ("tail", "program", "op_find", "with the target's rights: a missing program is an error of create"),
    ("tail", "user", "op_umask", ""),
    ("tail", "engine", "op_signals", "a waiting pid 1 must die of TERM and the like"),
    ("tail", "engine", "op_close", "only marks for execve; before any filter, which may deny close_range"),
    (
        "tail",
        "engine",
        "op_forget",
        "before the filter, which may deny madvise: the interpreter, which runs no more, gives its memory back",
    ),
    ("tail", "engine", "op_outlive", "the container outlives the command from here on"),
    ("tail", "seccomp", "op_early", "without noNewPrivileges: loading takes CAP_SYS_ADMIN, kept by op_caps and dropped here"),
    ("tail", "seccomp", "op_notify", "a profile that notifies is loaded at create: the listener leaves before create returns"),
    ("tail", "engine", "op_ready", ""),
    ("tail", "engine", "op_wait", ""),
    ("tail", "engine", "op_hooks", "startContainer hooks, where there are any: back to Python once more"),
    ("tail", "engine", "op_reset", "after startContainer hooks, where there are any: default dispositions, empty mask"),
    ("tail", "seccomp", "op_late", "with noNewPrivileges: only execve comes after it, and write if that fails"),
    ("tail", "program", "op_exec", ""),
    ("limits", "rlimits", "host_apply", "by prlimit on the waiting init: its set-up must not feel them"),
    ("listener", "seccomp", "host_deliver", "before create returns: the container's first call may already notify"),
)

# exec. `outside`: in the host's namespaces, by the process that will join; `tail`: in the container, up to op_clone by that process, then by
# its child, which becomes the program; `limits`: while the first waits at op_sync; `cloned`: while the second waits.
EXEC = (
    ("prepare", "seccomp", "host_compile", "the helper process must have ended before anything joins"),
    ("prepare", "terminal", "host_connect", "the socket path belongs to the caller's root and cwd"),
    ("pty", "terminal", "exec_open", "in the container's devpts, through its root; nothing of ours has to go in for it"),
    ("prepare", "fds", "exec_owner", "a process of the user may open /dev/stdout anew; pipes are the caller's until then"),
    ("prepare", "landlock", "exec_make", "paths are looked up from outside: no Python runs in the process that joins"),
    ("prepare", "scheduling", "exec_initial", "the initial affinity is inherited by the clone"),
    ("outside", "labels", "exec_op", "written through the host's procfs; takes effect at execve"),
    (
        "tail",
        "root",
        "exec_op",
        "first of all: where the mount namespace is not the container's own, its root is only that of its processes",
    ),
    ("tail", "keyring", "exec_op", "the container's, never the caller's; as root, who may search it"),
    ("tail", "personality", "exec_op", ""),
    ("tail", "mempolicy", "exec_op", ""),
    ("tail", "engine", "op_sync", "limits and scheduling are set from outside while the ids still match"),
    ("tail", "landlock", "op_early", "before the filter, which may forbid it; without noNewPrivileges it needs CAP_SYS_ADMIN"),
    ("tail", "program", "op_chdir", "as root first: the directory may be closed to the user"),
    ("tail", "capabilities", "op_bound", "needs CAP_SETPCAP"),
    ("tail", "user", "op_ids", "keeps the permitted set for the next row"),
    ("tail", "capabilities", "op_caps", "after the ids: a change of uid clears sets"),
    ("tail", "program", "op_chdir_again", "where root was refused the user may enter; then getcwd is verified"),
    ("tail", "capabilities", "op_nnp", "before the late filter"),
    ("tail", "landlock", "op_late", "before the filter"),
    ("tail", "program", "op_find", "with the target's rights"),
    ("tail", "user", "op_umask", ""),
    ("tail", "engine", "op_close", "only marks for execve; before any filter, which may deny close_range"),
    ("tail", "seccomp", "op_early", "without noNewPrivileges: loading takes CAP_SYS_ADMIN, kept by op_caps and dropped here"),
    ("tail", "engine", "op_clone", "until here no process of the container can see it; what it sees has the program's rights and no more"),
    ("tail", "engine", "op_session", "by the process that executes the program: it leads the session"),
    ("tail", "seccomp", "op_notify", "by the process that executes the program, whose calls the listener is to see"),
    ("tail", "seccomp", "op_late", "with noNewPrivileges: only execve comes after it, and write if that fails"),
    ("tail", "program", "op_exec", ""),
    ("limits", "landlock", "exec_close", "the process has its own copy by now"),
    ("limits", "oom", "host_write", "needs the host's rights"),
    ("limits", "scheduling", "host_affinity", "after the cpuset clips the mask"),
    ("limits", "rlimits", "host_apply", ""),
    ("cloned", "scheduling", "exec_set", "a deadline policy forbids the clone, and with reset-on-fork nothing would be left of it"),
)

START = (("started", "hooks", "host_poststart", "after the program was executed"),)

DELETE = (
    ("empty", "cgroups", "host_remove_empty", "one rmdir each, refused where somebody is left; only then they are looked for and ended"),
    ("delete", "cgroups", "undo_make", "after the last process has gone"),
    ("delete", "host_mounts", "undo_record", "after the last process has gone"),
    ("delete", "rdt", "undo_make", ""),
    ("delete", "notify", "undo_make", ""),
    ("deleted", "hooks", "host_poststop", "after everything was given back"),
)

# restore, where CRIU takes the place of init. `criu`: in its process before it executes; `setup`: its new namespaces are there and
# nothing else; `restored`: all processes are there and none runs yet.
RESTORE = (
    ("prepare", "namespaces", "host_open", "paths may vanish meanwhile; CRIU gets the descriptors"),
    ("prepare", "terminal", "host_connect", "the socket path belongs to the caller's root and cwd"),
    ("prepare", "cgroups", "host_make", "recorded before it is made, so that a killed restore can be undone"),
    ("prepare", "rdt", "host_make", ""),
    ("prepare", "keyring", "host_name", ""),
    ("placed", "cgroups", "host_place", "CRIU's own process: what it forks is there from the start"),
    ("placed", "rdt", "host_place", "before CRIU forks anything"),
    ("criu", "cgroups", "init_place", "by itself, which costs no grace period"),
    ("criu", "keyring", "init_join", "CRIU restores no keyrings: the container would have the caller's"),
    ("setup", "netdevs", "host_move", "before the hooks, which see the final network"),
    ("setup", "resources", "host_apply", "before the hooks, which may look at and alter the cgroup"),
    ("setup", "cgroups", "host_delegate", "after the limits; the user namespace has its maps"),
    ("setup", "rdt", "host_apply", ""),
    ("setup", "hooks", "host_prestart", ""),
    ("setup", "hooks", "host_create_runtime", ""),
    ("restored", "fds", "exec_owner", "our own pipes have taken the place of those that were dumped"),
    ("restored", "namespaces", "host_close", "after the last use; a foreground restore would keep a pod's namespaces alive"),
)

# Parts whose plans no later command carries out: exec and delete do not read them. And what exec needs of the config neither.
ONLY_CREATE = ("mounts", "devices", "paths", "sysctls", "netdevs")
NOT_OF_EXEC = ("mounts", "hooks", "root", "hostname", "domainname")
