"""Deviations of well-known runtimes that have been examined: what the specification says, and what the runtime does.

Rule: it is a list. A case that all of them fail is here with the reason why they do. It is longer than other files because it is a table.
"""

# the versions that have been examined, with patterns of fnmatch; one of another version has all its failures reported
RUNC = ("runc", "1.1.* 1.3.*")
RUNC_1_1 = ("runc", "1.1.*")
RUNC_1_1_5 = ("runc", "1.1.5 1.1.5[+-]*")
RUNC_1_3 = ("runc", "1.3.*")
CRUN = ("crun", "1.8 1.8.* 1.2[0-9] 1.2[0-9].*")
CRUN_1_8 = ("crun", "1.8 1.8.*")
CRUN_1_2X = ("crun", "1.2[0-9] 1.2[0-9].*")
CRUN_1_21 = ("crun", "1.21 1.21.*")
CRUN_1_28 = ("crun", "1.28 1.28.*")
PYRUNC = ("pyrunc", "*")
INVALID = "Runtimes MUST generate an error when invalid or unsupported values are encountered."
OPTIONS = "Runtimes MUST/SHOULD/MAY implement the following option strings for Linux"
NEWER = "Debian builds this version with the specification's headers of 1.2, so it declares 1.2.0; what came after 1.0 it does not know"
DELETE = "Attempting to delete a container that is not stopped MUST have no effect on the container and MUST generate an error."
ABORTED = "it ends and removes a created container: callers that give up between create and start rely on that"
UMASK = "If unspecified, the umask should not be changed from the calling process' umask."
FIXED = "it sets 0022, so that the result does not depend on who calls; every runtime that was looked at does"
FAILING = "If any startContainer hook fails, the runtime MUST generate an error, stop the container, and continue the lifecycle at step 12."
LATE = "start returns once the container process has been told to go on, before the hook has ended; poststop hooks run with delete"

# ((runtime, versions), cases, requirements, the sentence of the specification, what the runtime does[, a need of machine.py without which
# it is not visible]); patterns as in known.py
DEVIATIONS = (
    # ---- all runtimes
    (RUNC, "deletion.created", "op.delete.created", DELETE, ABORTED),
    (CRUN, "deletion.created", "op.delete.created", DELETE, ABORTED),
    (PYRUNC, "deletion.created", "op.delete.created", DELETE, ABORTED),
    (RUNC, "user.umask_unset", "user.umask.unset", UMASK, FIXED),
    (CRUN, "user.umask_unset", "user.umask.unset", UMASK, FIXED),
    (PYRUNC, "user.umask_unset", "user.umask.unset", UMASK, FIXED),
    # ---- pyrunc
    (
        *(PYRUNC, "resources.pids_zero", "pids.zero", "0 is a valid limit value … and SHOULD be treated as such by runtimes."),
        "0 is no limit: podman sends 0 for that",
    ),
    # ---- runc: the life cycle
    (
        *(RUNC, "hooks.*", "hooks.poststart.when"),
        "The poststart hooks MUST be called after the user-specified process is executed but before the start operation returns.",
        "create runs them (opencontainers/runc#4347)",
    ),
    (RUNC, "hooks_failing.startContainer", "lifecycle.startContainer.*", FAILING, LATE),
    (
        *(RUNC, "hooks_failing.poststop", "lifecycle.poststop.continues"),
        "If any poststop hook fails, … the remaining hooks and lifecycle continue as if the hook had succeeded.",
        "the hooks after the failing one are not run",
    ),
    (RUNC, "hooks.timeout_not_positive", "hooks.timeout.positive", "If set, timeout MUST be greater than zero.", "it is not checked"),
    # ---- runc: the configuration
    (
        RUNC,
        "lifecycle.no_*",
        "oci-version.required oci-version.semver",
        "ociVersion (string, REQUIRED) MUST be in SemVer v2.0.0 format",
        "it is not looked at",
    ),
    (RUNC, "lifecycle.other_major", "oci-version.unsupported", INVALID, "ociVersion is not looked at"),
    (
        RUNC,
        "lifecycle.no_utf8",
        "json.utf8",
        "All configuration JSON MUST be encoded in UTF-8.",
        "Go's decoder puts U+FFFD for what it cannot read",
    ),
    (RUNC, "lifecycle.duplicates", "json.duplicates", "JSON objects MUST NOT include duplicate names.", "Go's decoder takes the last"),
    (RUNC, "values.invalid_annotations", "annotations.key", "Keys MUST NOT be an empty string.", "it is not checked"),
    (RUNC, "mounts.no_mounts", "mounts.optional", "mounts (array of objects, OPTIONAL)", "it needs /proc inside to close descriptors"),
    (
        RUNC,
        "process.rlimits_invalid",
        "rlimits.duplicates",
        "If rlimits contains duplicated entries with same type, the runtime MUST generate an error.",
        "the last one is taken",
    ),
    (
        RUNC,
        "privileges.not_granted",
        "capabilities.no-failure warnings.go-on",
        "Runtimes SHOULD NOT fail if the container configuration requests capabilities that cannot be granted",
        "capset's EPERM is a failure",
    ),
    (RUNC_1_1, "user.domainname", "domainname", "domainname (string, OPTIONAL) specifies the container's domainname", NEWER),
    (
        RUNC_1_1,
        "scheduling.scheduler_*",
        "scheduler.* values.name",
        "scheduler (object, OPTIONAL)",
        NEWER,
    ),
    (
        RUNC_1_1,
        "scheduling.io_priority*",
        "io-priority.* values.name",
        "ioPriority (object, OPTIONAL)",
        NEWER,
    ),
    (
        RUNC_1_1,
        "scheduling.personality*",
        "personality.*",
        "LINUX32 will set the uname system call to show a 32 bit CPU type",
        "personality is ignored",
    ),
    (
        RUNC_1_1,
        "idmap.*",
        "option.*idmap* mounts.mappings.both",
        "idmap: Indicates that the mount MUST have an idmapping applied.",
        NEWER,
    ),
    (RUNC, "mount_options.defaults", "option.defaults", OPTIONS, "defaults is passed to the file system, which refuses it"),
    (RUNC_1_1, "mount_options.r*", "option.ratime option.rnostrictatime", OPTIONS, "mount_setattr refuses how it is asked for"),
    (
        RUNC_1_1,
        "features.mount_options",
        "features.mount-options",
        "The runtime MUST recognize the elements in this array",
        "ratime and rnostrictatime fail with EINVAL",
    ),
    (
        RUNC_1_3,
        "features.mount_options",
        "features.mount-options",
        "The runtime MUST recognize the elements in this array",
        "defaults is listed, but the file system gets it and refuses it",
    ),
    (
        RUNC_1_1_5,
        "mounts.order mounts.unknown_options",
        "mounts.order option.unknown",
        "Unknown options are passed to the file system, joined by commas.",
        "the mount point's mode is put on a tmpfs, whatever mode says",
    ),
    # ---- runc: Linux
    (
        RUNC_1_1_5,
        "userns.joined",
        "namespaces.path.joined namespaces.user",
        "The runtime MUST place the container process in the namespace associated with that path.",
        "a user namespace is not joined without mappings",
    ),
    (
        RUNC_1_1_5,
        "resources.huge_pages",
        "huge-pages.limit",
        "hugepageLimits defines the hugepage sizes and limits for HugeTLB controller reservation accounting",
        "only the limit of usage is set",
    ),
    (
        *(RUNC, "cgroups.owner", "cgroups.owner.changed"),
        "Runtimes SHOULD change the cgroup ownership if and only if the cgroup filesystem is to be mounted read/write",
        "it does so with --systemd-cgroup only",
        "v2",
    ),
    (
        *(RUNC, "unified.not_convertible", "unified.conversion", "If the conversion is not possible the runtime MUST generate an error."),
        "memory.swappiness is ignored",
        "v2",
    ),
    (
        RUNC_1_1,
        "namespaces.*time",
        "namespaces.time namespaces.new namespaces.inherited",
        "The following namespace types SHOULD be supported: … time",
        NEWER,
    ),
    (
        RUNC_1_1,
        "namespaces.offsets*",
        "time-offsets.*",
        "timeOffsets (object, OPTIONAL) sets the offset for Time Namespace.",
        NEWER,
    ),
    (
        RUNC,
        "namespaces.joined_by_odd_file",
        "namespaces.path.joined",
        "The runtime MUST place the container process in the namespace associated with that path.",
        "a path with a comma is refused: the comma separates paths in a message of its own",
    ),
    (
        RUNC,
        "devices.existing",
        "devices.path.existing",
        "If a file already exists at path that does not match the requested device, the runtime MUST generate an error.",
        "what is there is taken",
    ),
    (RUNC, "devices.invalid", "devices.numbers.required", "major, minor (int64, REQUIRED unless type is p)", "missing numbers are 0"),
    (RUNC, "device_list.invalid", "values.name device-list.type", INVALID, "letters of access other than r, w, m are not checked"),
    (RUNC_1_1, "resources.cpu_burst", "cpu.burst", "burst (uint64, OPTIONAL)", NEWER),
    (RUNC_1_1, "resources.cpu_idle", "cpu.idle", "idle (int64, OPTIONAL)", NEWER),
    (
        RUNC,
        "kernel_settings.relative_paths",
        "*.absolute",
        "The values MUST be absolute paths in the container namespace.",
        "it is not checked",
    ),
    (
        RUNC_1_1,
        "kernel_settings.shared",
        "propagation.shared",
        "shared: the rootfs mount belongs to a new peer group.",
        "the parent of the root is made private before the root is bound",
    ),
    (
        RUNC,
        "kernel_settings.slave",
        "propagation.slave",
        "slave: the rootfs mount receives propagation events from the host",
        "the parent of the root is made private before the root is bound",
    ),
    (
        RUNC_1_1,
        "kernel_settings.unbindable",
        "propagation.unbindable",
        "unbindable: the rootfs mount is a private mount that cannot be bind-mounted.",
        "the root is private, but not unbindable",
    ),
    (RUNC, "seccomp.incomplete", "seccomp.names.one", "names MUST contain at least one entry.", "a rule without names is no rule"),
    (
        RUNC,
        "seccomp.useless_errno",
        "seccomp.default-errno.useless seccomp.action.errno.useless",
        "When the action doesn't support an errno, the runtime MUST print and error and fail.",
        "it is ignored",
    ),
    (
        RUNC,
        "seccomp_notify.incomplete",
        "seccomp.listener.metadata-alone",
        "This field MUST NOT be set if listenerPath is not set.",
        "it is ignored",
    ),
    # ---- crun: the life cycle
    (
        CRUN,
        "hooks_failing.prestart hooks_failing.create*",
        "lifecycle.*.continues",
        "… stop the container, and continue the lifecycle at step 12.",
        "poststop hooks are not run after a create that failed",
    ),
    (CRUN, "hooks_failing.startContainer", "lifecycle.startContainer.*", FAILING, LATE),
    (
        CRUN,
        "hooks.state_on_input",
        "hooks.state state.pid.container-hook",
        "For hooks executed in the container namespace, it is the pid as seen by the container.",
        "hooks inside get pid 0, and startContainer hooks the bundle /",
    ),
    (
        CRUN,
        "hooks.timeout_not_positive",
        "hooks.timeout.positive",
        "If set, timeout MUST be greater than zero.",
        "zero is no limit, a negative one is over at once",
    ),
    (
        CRUN,
        "operations.failed_limit_leaves_nothing",
        "errors.no-effect",
        "generating an error MUST leave the state of the environment as if the operation were never attempted",
        "the cgroups stay when the kernel refuses a limit",
    ),
    (
        CRUN_1_2X,
        "operations.start_without_process",
        "op.start.no-process",
        "This operation MUST generate an error if process was not set.",
        "start returns 0, and nothing runs",
    ),
    # ---- crun: the configuration
    (
        CRUN_1_2X,
        "lifecycle.no_semver",
        "oci-version.semver",
        "ociVersion (string, REQUIRED) MUST be in SemVer v2.0.0 format",
        "the value is not looked at",
    ),
    (CRUN_1_2X, "lifecycle.other_major", "oci-version.unsupported", INVALID, "the value of ociVersion is not looked at"),
    (
        CRUN_1_28,
        "lifecycle.no_utf8",
        "json.utf8",
        "All configuration JSON MUST be encoded in UTF-8.",
        "json-c, which replaced yajl, takes any bytes in a string",
    ),
    (CRUN, "lifecycle.duplicates", "json.duplicates", "JSON objects MUST NOT include duplicate names.", "it is not checked"),
    (
        CRUN,
        "values.type_process_[!c]* values.type_root* values.type_hostname values.type_linux*",
        "values.type",
        INVALID,
        "its parser takes values of other types for absent ones",
    ),
    (CRUN, "values.range_linux_resources_cpu_shares", "values.range", INVALID, "a negative number is taken for a large one"),
    (
        CRUN,
        "values.invalid_annotations",
        "annotations.map annotations.key",
        "Annotations MUST be a key-value map. Keys MUST NOT be an empty string.",
        "it is not checked",
    ),
    (CRUN, "mounts.no_mounts", "mounts.optional", "mounts (array of objects, OPTIONAL)", "a configuration without mounts is refused"),
    (CRUN, "process.cwd_invalid", "process.cwd.absolute", "This value MUST be an absolute path.", "a relative one is taken from /"),
    (CRUN, "process.no_args", "process.args.required", "at least one entry is REQUIRED", "start returns 0, and nothing runs"),
    (
        CRUN,
        "process.rlimits_invalid",
        "rlimits.duplicates",
        "If rlimits contains duplicated entries with same type, the runtime MUST generate an error.",
        "the last one is taken",
    ),
    (
        CRUN,
        "privileges.not_granted",
        "capabilities.no-failure warnings.go-on",
        "Runtimes SHOULD NOT fail if the container configuration requests capabilities that cannot be granted",
        "capset's EPERM is a failure",
    ),
    (
        CRUN_1_8,
        "scheduling.scheduler_unknown scheduling.io_priority_invalid",
        "values.name",
        INVALID,
        "it knows neither scheduler nor ioPriority, and ignores them",
    ),
    (
        CRUN_1_8,
        "operations.kill_unknown_signal",
        "op.kill.sends",
        "This operation MUST send the specified signal to the container process.",
        "an unknown name is signal 0",
    ),
    (
        CRUN_1_21,
        "scheduling.scheduler_deadline",
        "scheduler.deadline",
        "runtime (uint64, OPTIONAL) …, used by the deadline scheduler.",
        "resetting the affinity afterwards fails with EBUSY",
    ),
    (
        *(CRUN, "cgroups.foreign_process", "op.delete.foreign"),
        "… resources associated with the container, but not created by this container, MUST NOT be deleted.",
        "with version 2 cgroups delete ends every process of the cgroup",
        "v2",
    ),
    (
        *(CRUN, "cgroups.owner", "cgroups.owner.changed"),
        "Runtimes SHOULD change the cgroup ownership if and only if the cgroup filesystem is to be mounted read/write",
        "the files stay root's, whatever process.user is",
    ),
    (CRUN, "device_list.invalid", "values.name device-list.type", INVALID, "with version 2 cgroups an unknown type is taken", "v2"),
    # ---- crun: mounts
    (
        CRUN_1_28,
        "terminal.device",
        "default-device.console",
        "/dev/console is set up if terminal is enabled in the config by bind mounting the pseudoterminal pty to /dev/console.",
        "it is a symbolic link to the terminal below /dev/pts",
    ),
    (
        CRUN,
        "mount_options.*",
        "option.async option.atime option.diratime option.rw option.dev option.exec option.suid",
        OPTIONS,
        "a flag that was set by an earlier option is not taken back",
    ),
    (
        CRUN,
        "mount_options.*",
        "option.iversion option.noiversion option.loud option.silent option.nosymfollow option.symfollow",
        OPTIONS,
        "the name is not known, so the file system gets it and refuses it",
    ),
    (
        CRUN,
        "mount_options.*",
        "option.shared option.rshared option.slave option.rslave option.unbindable option.runbindable",
        OPTIONS,
        "without rootfsPropagation all mounts are made private after they were made",
    ),
    (
        CRUN,
        "mount_options.r*",
        "option.rnodiratime option.rdiratime option.rnoatime option.ratime option.rstrictatime option.rnostrictatime",
        OPTIONS,
        "mount_setattr refuses how it is asked for",
    ),
    (CRUN, "mount_options.r*", "option.rrelatime option.rnosymfollow option.rsymfollow", OPTIONS, "the wrong attribute is set"),
    (
        CRUN,
        "features.mount_options",
        "features.mount-options",
        "The runtime MUST recognize the elements in this array",
        "several recursive options fail with EINVAL",
    ),
    # ---- crun: Linux
    (
        CRUN,
        "devices.existing",
        "devices.path.existing",
        "If a file already exists at path that does not match the requested device, the runtime MUST generate an error.",
        "what is there is taken",
    ),
    (
        CRUN,
        "devices.invalid",
        "devices.type devices.numbers.required",
        "type of device: c, b, u or p; major, minor (int64, REQUIRED unless type is p)",
        "another letter is taken for c, missing numbers are 0",
    ),
    (
        CRUN,
        "resources.huge_pages",
        "huge-pages.limit",
        "hugepageLimits defines the hugepage sizes and limits for HugeTLB controller reservation accounting",
        "only the limit of usage is set",
    ),
    (
        CRUN,
        "kernel_settings.relative_paths",
        "*.absolute",
        "The values MUST be absolute paths in the container namespace.",
        "it is not checked",
    ),
    (
        CRUN,
        "kernel_settings.slave",
        "propagation.slave",
        "slave: the rootfs mount receives propagation events from the host",
        "mounts of the host do not come in",
    ),
    (
        CRUN_1_8,
        "namespaces.new_time",
        "namespaces.new namespaces.inherited",
        "The following namespace types SHOULD be supported: … time",
        "create fails",
    ),
    (
        CRUN_1_8,
        "namespaces.invalid_list",
        "namespaces.duplicates",
        "If a namespaces field contains duplicated namespaces with same type, the runtime MUST generate an error.",
        "it is not checked",
    ),
    (
        CRUN_1_8,
        "rdt.no_resctrl rdt.invalid_schema",
        "rdt.no-resctrl rdt.newline",
        "intelRdt without a mounted resctrl gives an error. The value [of memBwSchema] MUST start with MB: and MUST NOT contain newlines.",
        "without resctrl intelRdt is ignored",
    ),
    (
        CRUN_1_8,
        "resources.pids_unlimited",
        "pids.unlimited",
        "limit (int64): -1 is no limit.",
        "-1 is written, which the kernel refuses",
    ),
    (
        CRUN_1_8,
        "resources.io_weight",
        "block-io.weight",
        "weight (uint16, OPTIONAL) - specifies per-cgroup weight.",
        "it knows only blkio.weight, which newer kernels call blkio.bfq.weight",
    ),
    (CRUN, "kernel_settings.unknown_propagation", "values.name", INVALID, "an unknown propagation is taken for none"),
    (
        CRUN,
        "privileges.selinux_missing",
        "mount-label",
        "mountLabel (string, OPTIONAL) will set the Selinux context for the mounts",
        "without SELinux it is ignored",
    ),
    (
        CRUN_1_28,
        "privileges.apparmor_missing",
        "apparmor",
        "apparmorProfile (string, OPTIONAL) specifies the name of the AppArmor profile for the process.",
        "without AppArmor it is ignored",
    ),
    (CRUN, "seccomp.incomplete", "seccomp.names.one", "names MUST contain at least one entry.", "a rule without names is no rule"),
    (
        CRUN,
        "seccomp_notify.incomplete",
        "seccomp.action.notify seccomp.listener.metadata-alone",
        "This field MUST NOT be set if listenerPath is not set.",
        "both are ignored; the calls then fail with ENOSYS",
    ),
    (
        CRUN,
        "seccomp_notify.not_needed",
        "seccomp.listener.ignored",
        "If the SCMP_ACT_NOTIFY action is not used this value is ignored.",
        "it connects all the same",
    ),
)
