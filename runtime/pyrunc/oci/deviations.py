"""Intentional differences between pyrunc and runc, and between pyrunc and other runtimes: the table behind `features --deviations`,
`validate --as`, `explain` and docs/deviations.md. Data only.

A row: (where, what pyrunc does, what runc does), or with two more fields (…, what crun does or None if it does the same as pyrunc, test):
then `validate --as` can find it in a config, with the function of that name in commands/deviation_checks.py. STRICTER: input that is
refused and that no engine is known to send. OTHER: the same input, a different result. KEPT: the same as runc, although the specification
says otherwise. ELSEWHERE: follows the specification, unlike other runtimes (None: the same as here). If a part's behaviour changes, change
this table as well. If no version is given, it is about runc 1.1.15 and crun 1.21.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from pyrunc.jsonio import Json

    Row: TypeAlias = tuple[Any, ...]  # of the tables below, whose rows differ in length; a runtime whose behaviour is unknown is None

STRICTER = (
    ("/", "a second document or anything else after the JSON is refused", "reads the first document and stops"),
    ("/", "`null` as the whole document is refused", "crashes"),
    ("/", "bytes that are not UTF-8 are refused, with their offset", "replaces them with U+FFFD"),
    ("/", "a file of more than 16 MiB, or nested deeper than 128 levels, is refused", "accepts larger and deeper ones"),
    ("/*", "a duplicate key is refused", "uses the last one"),
    ("/*", "a known key in a different case (NoNewPrivileges) is refused, with the correct spelling", "treats it as the key"),
    ("/*", "a NUL or a lone surrogate in any string is refused", "fails late, or replaces it"),
    ("/*", "a value outside the ranges and enumerations of the JSON schema is refused", "checks what Go's types check"),
    ("/ociVersion", "must be present and be 1.x", "does not check it", "does not check the value", "oci_version"),
    ("/annotations", "an empty key, or control characters in one, is refused", "accepts them"),
    (
        "/annotations",
        "run.oci.handler is refused: there are no other executors",
        "ignores it, and starts the container without it",
        "starts the other executor, if it was built with it",
        "handler",
    ),
    ("/annotations", "those that name paths on the host have no effect without --allow-annotation-paths", "uses org.criu.config"),
    ("/hostname", "one that is too long or has control characters is refused before anything is created", "fails late, or sets it"),
    ("/process/user", "`null` as uid or gid is refused", "runs as 0"),
    ("/process/user/umask", "more than 0777 is refused", "truncates it to 0777", "uses it unchanged", "umask"),
    ("/process/user/additionalGids", "more than the kernel accepts are refused", "fails late"),
    ("/process/args", "arguments that are too long for execve (E2BIG) are refused by create", "fails after start"),
    (
        "/process/capabilities",
        "effective ones that are not permitted, and inheritable ones that are not in bounding, are refused by name",
        "fails late with EPERM",
    ),
    ("/process/consoleSize", "more than 65535 is refused", "truncates it"),
    (
        "/process/rlimits",
        "a type that is given twice, or a soft limit above the hard one, is refused",
        "sets both, or fails late",
        "uses the last one, or fails late",
        "rlimits",
    ),
    ("/process/oomScoreAdj", "a value outside -1000..1000 is refused", "fails late, without naming it"),
    ("/process/scheduler", "values that do not apply to the policy are refused", "ignores them, or fails late"),
    (
        "/mounts",
        "a mount on / is refused before anything is created",
        "fails late, without naming it",
        "fails late",
        "mount_on_root",
    ),
    ("/mounts/*/options", "file system options on a bind mount are refused", "ignores them up to 1.1", "ignores them", "data_on_bind"),
    (
        "/mounts/*/options",
        "an id-mapped mount without a map, or of a type that does not support it, is refused",
        "up to 1.1 mounts it without a map",
    ),
    ("/mounts/*/options", "two kinds of propagation on one mount are refused", "applies both, in order"),
    (
        "/mounts/*/destination",
        "anything but a complete procfs on /proc is refused, even behind a link in the image",
        "only checks the path",
    ),
    (
        "/root/readonly",
        "without a mount namespace the root is mounted on itself until delete; rootfsPropagation is refused",
        "ignores it",
        "ignores it",
        "readonly_without_mounts",
    ),
    (
        "/linux/namespaces",
        "without a mount namespace all mounts are unmounted at delete; with a user namespace they are refused",
        "fails halfway",
    ),
    ("/linux/uidMappings", "overlapping, empty or overflowing maps are refused, naming the line", "fails late, without naming it"),
    ("/linux/uidMappings", "maps without a user namespace are refused", "accepts them up to 1.1", "ignores them", "maps_without_user"),
    (
        "/linux/devices",
        "numbers that are missing or out of the kernel's range, and two devices with one path, are refused",
        "truncates them; the first one wins",
    ),
    ("/linux/devices/*/path", "one with `..` is refused", "creates the node where it leads"),
    ("/linux/maskedPaths", "relative paths, / and paths with `..` are refused; the same for readonlyPaths", "accepts them"),
    ("/linux/cgroupsPath", "one with `..` or control characters is refused", "rewrites it", "passes it to the kernel", "dotted_cgroup"),
    ("/linux/resources", "a limit that this host can't set is refused or fails, never skipped", "skips some of them"),
    (
        "/linux/resources/unified",
        "keys with a slash and files of cgroup.* are refused",
        "writes the latter",
        "writes the latter",
        "unified",
    ),
    ("/linux/seccomp", "a profile that would block or kill the last steps before execve is refused", "hangs or is killed in them"),
    ("/linux/seccomp", "errnoRet above 4095 is refused", "the kernel truncates it"),
    ("/linux/seccomp", "a valueTwo with an operator other than SCMP_CMP_MASKED_EQ is refused", "ignores it"),
    ("/hooks", "a relative or missing program, or an invalid environment, is refused at create", "fails when the hook is run"),
    ("/linux", "a property of 1.3 that can't be applied is refused, never ignored", "1.1 ignores properties that are newer than itself"),
    ("--root", "a state root that others can write to, or that is /, is refused", "uses it"),
)

OTHER = (
    ("/dev/null", "one in the image that is not c 1:3 is replaced if the config mounts /dev, else refused", "opens it and checks it"),
    ("/linux/devices", "it is an error if the path in the root is something else", "uses the existing file"),
    (
        "/linux/maskedPaths",
        "covers are read-only, nosuid, noexec; the null device is verified",
        "they are writable; up to 1.1 it is not verified",
    ),
    ("/linux/namespaces", "in a joined mount namespace the root is entered with chroot", "changes the root of all processes in it"),
    (
        "/linux/resources/devices",
        "a denial revokes earlier rules for some of its devices, on v1 as on v2",
        "on v1 only rules for exactly the same devices",
    ),
    ("/linux/resources/devices", "a denial of single devices overrides the default devices and mknod", "the defaults come last"),
    (
        "/linux/devices",
        "the directory of a node must be in the root or on a tmpfs from the config, without links",
        "it may be on a mount of the host",
    ),
    ("/process/user", "of the caller's streams, only pipes and sockets change their owner to the user", "terminals and files do too"),
    ("/linux/resources/devices", "on v1 type a with less than rwm applies only to these letters", "applies to all"),
    ("/linux/rootfsPropagation", "shared is also set on the container's root", "up to 1.1 it is not"),
    ("/mounts (cgroup)", "the tmpfs of v1 becomes read-only with `ro`", "it remains writable"),
    ("/mounts (cgroup)", "in a user namespace without a cgroup namespace it is always read-only", "it is as the config says"),
    (
        "/mounts (cgroup)",
        "v2 without a cgroup namespace: a bind mount of the host's, which keeps its options",
        "a new mount, which resets them",
    ),
    ("/mounts (sysfs)", "if a user namespace may not mount it, the host's is bind-mounted", "fails"),
    (
        "/process/capabilities",
        "absent: all five sets are empty",
        "up to 1.1 clears them, later leaves them unchanged",
        "clears them",
        "no_capabilities",
    ),
    ("/linux/resources/pids/limit", "0 is unlimited, as engines intend", "unlimited up to 1.1, later 1", "unlimited", "pids_zero"),
    ("/linux/rootfsPropagation", "rprivate is the same as private, and likewise for the others", "they differ in recursion"),
    ("start", "returns after execve; if that failed, with exit status 1, and the container is destroyed", "returns before, with 0"),
    (
        "start",
        "if a startContainer hook fails, start fails and the container is destroyed, as the specification requires",
        "returns 0",
        "returns 0",
        "start_container",
    ),
    ("exec", "takes the process's defaults from the config that create read", "reads the bundle's config.json again"),
    ("exec --process", "limits, umask and scheduling that are not in the document are the container's", "they are the caller's"),
    ("delete --force", "kills the process that holds the container's lock, after a bounded wait", "waits for it"),
    ("state", "ociVersion is the version that is implemented", "the same; up to 1.1 the config's version"),
    ("features", "mountOptions includes idmap and ridmap", "omits them"),
    ("--preserve-fds", "descriptors in its range that are closed remain closed", "fails"),
    ("checkpoint", "--manage-cgroups-mode defaults to soft", "up to 1.1 it defaults to ignore"),
    ("checkpoint", "a standard stream that is a file on the host is dumped, and reconnected by restore", "fails"),
    ("checkpoint", "--shell-job works without a console socket", "fails at restore"),
    ("restore", "a relative --image-path starts at the caller's directory", "starts at the bundle"),
    ("restore", "the loopback device of a new network namespace is up", "remains down"),
    ("restore", "read-only and other flags of the root and of bind mounts are those of the config", "some are lost"),
    ("restore --manage-cgroups-mode strict", "fails if the container's cgroup already exists", "has no effect up to 1.1"),
    ("update --device-*", "changes the devices of a running container; --resources never does", "never does"),
)

KEPT = (
    ("/linux/resources/devices", "the default devices, including /dev/net/tun, and mknod are allowed", "the same"),
    ("/process/capabilities", "unknown and unavailable names are skipped with a warning", "the same"),
    ("/mounts/*/options", "absent options mean no flags; no defaults by destination", "the same"),
    ("/mounts/*/destination", "a relative one starts at /", "the same"),
    ("/process/cwd", "a missing directory is created", "the same"),
    ("/process/env", "HOME is set from the image's passwd if it is missing or empty", "the same"),
    ("/process/user/umask", "absent means 0022", "the same"),
    ("delete", "a container that was created and never started is killed and removed", "the same"),
)

ELSEWHERE = (
    ("/process/env", "an entry without = is refused", None, "runs it", "env_without_equals"),
    ("/process/env", "an empty HOME is set from the image's passwd", None, "leaves it empty", "empty_home"),
    ("/process/cwd", "a relative one is refused", None, "takes it from /", "relative_cwd"),
    ("/process/args", "an empty list is refused by create", None, "fails late, or starts nothing", "no_args"),
    ("/domainname", "is set", "1.1 ignores it", None, "domainname"),
    ("/process/scheduler", "is set", "1.1 ignores it", None, "scheduler"),
    ("/process/ioPriority", "is set", "1.1 ignores it", None, "io_priority"),
    ("/process/execCPUAffinity", "is set by exec", "1.1 ignores it", "1.21 ignores it", "exec_affinity"),
    ("/linux/personality", "is set", "1.1 ignores it", None, "personality"),
    ("/linux/memoryPolicy", "is set", "1.1 ignores it", "1.21 ignores it", "memory_policy"),
    ("/linux/netDevices", "are moved", "1.1 ignores them", "1.21 ignores them", "net_devices"),
    ("/linux/namespaces", "a new time namespace, with timeOffsets", "1.1 refuses the type", None, "time_namespace"),
    ("/linux/resources/cpu/idle", "is written", "1.1 ignores it", None, "cpu_idle"),
    ("/linux/resources/cpu/burst", "is written", "1.1 ignores it", None, "cpu_burst"),
    ("/linux/intelRdt/enableMonitoring", "creates a monitoring group", "1.1 ignores it", "1.21 ignores it", "rdt_monitoring"),
    ("/mounts", "an empty list is accepted", "needs a /proc", "refuses it", "no_mounts"),
    ("/mounts/*/options", "idmap and ridmap map the ids", "1.1 ignores them", None, "idmap_options"),
    ("/mounts/*/options", "nosymfollow, iversion, silent and their opposites are flags", None, "passes them to the file system, which refuses them", "crun_flags"),
    ("/mounts/*/options", "a later option overrides an earlier one (ro, rw)", None, "the flag that was set first remains", "taken_back"),
    ("/mounts/*/options", "sets the propagation of a single mount", None, "makes it private, unless rootfsPropagation is given", "propagation"),
    ("/linux/seccomp", "calls newer than the profile's newest return ENOSYS", None, "they return the default, mostly EPERM", "seccomp_default"),
    ("/hooks/poststart", "run by start, once the program is running", "1.1 runs them in create", None, "poststart"),
    ("/hooks/poststart", "a failing one kills the container", None, "continues", "poststart"),
    ("/hooks/poststop", "also run after a failed create", None, "does not run them then", "poststop"),
)  # fmt: skip

GROUPS = (
    ("Refused here, accepted or found late by runc", STRICTER),
    ("A different result than with runc", OTHER),
    ("The same as runc, although the specification says otherwise or nothing", KEPT),
    ("As the specification says, unlike other runtimes", ELSEWHERE),
)


def text() -> str:
    """The table as text."""
    lines = []
    for title, rows in GROUPS:
        lines.append(title)
        for where, ours, runc, *more in rows:
            lines += ["  " + where, "      pyrunc: " + ours]
            if runc is not None and runc != "the same":
                lines.append("      runc:   " + runc)
            if more and more[0] is not None:
                lines.append("      crun:   " + more[0])
        lines.append("")
    return "\n".join(lines)


def document() -> list[dict[str, Json]]:
    """The same as data: [{"group", "where", "pyrunc", "runc", "crun", "found_by"}], None if it is unknown, or the same as here."""
    found = []
    for title, rows in GROUPS:
        for where, ours, runc, *more in rows:
            crun, test = more or (None, None)
            found.append(
                {
                    "group": title,
                    "where": where,
                    "pyrunc": ours,
                    "runc": None if runc == "the same" else runc,
                    "crun": crun,
                    "found_by": test,
                }
            )
    return found


def testable() -> list[Row]:
    """[(where, pyrunc, runc, crun, test)] for the rows that can be detected in a config."""
    return [row for _title, rows in GROUPS for row in rows if len(row) == 5]
