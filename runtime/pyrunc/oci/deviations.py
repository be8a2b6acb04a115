"""Where pyrunc differs from runc on purpose, and where other runtimes differ from it: the one table behind `features --deviations`,
`validate --as`, `explain` and docs/deviations.md. Data, no code.

A row: (where, what pyrunc does, what runc does), or with two more fields (…, what crun does or None for the same as pyrunc, test): then
`validate --as` can find it in a config, by the function of that name in commands/deviation_checks.py. STRICTER: input that is refused and that no
engine is known to send. OTHER: the same input, another result. KEPT: runc's way is kept though the specification says otherwise.
ELSEWHERE: right by the specification here, and not in other runtimes (None: the same as here). A change of behaviour in a part comes
with a change here. runc 1.1.15 and crun 1.21 were looked at where no version is given.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STRICTER = (
    ("/", "a second document or anything else after the JSON is refused", "reads the first document and stops"),
    ("/", "`null` as the whole document is refused", "crashes"),
    ("/", "bytes that are not UTF-8 are refused, with their offset", "replaces them by U+FFFD"),
    ("/", "a file of more than 16 MiB, or nested deeper than 128 levels, is refused", "accepts larger and deeper ones"),
    ("/*", "a key that is given twice is refused", "takes the last"),
    ("/*", "a known key in another case (NoNewPrivileges) is refused, with the right spelling", "takes it for the key"),
    ("/*", "a NUL or half a surrogate pair in any string is refused", "fails late, or replaces it"),
    ("/*", "a value outside the ranges and enumerations of the JSON schema is refused", "checks what Go's types check"),
    ("/ociVersion", "must be there and be 1.x", "is not looked at", "does not look at the value", "oci_version"),
    ("/annotations", "an empty key, or control characters in one, is refused", "accepts them"),
    (
        "/annotations",
        "run.oci.handler is refused: no other executors are here",
        "ignores it, and starts the container without",
        "starts another executor, if it was built with it",
        "handler",
    ),
    ("/annotations", "those that name paths of the host have no effect without --allow-annotation-paths", "org.criu.config is followed"),
    ("/hostname", "one that is too long or holds control characters is refused before anything is made", "fails late, or sets it"),
    ("/process/user", "`null` as uid or gid is refused", "runs as 0"),
    ("/process/user/umask", "more than 0777 is refused", "is cut to 0777", "takes it as it is", "umask"),
    ("/process/user/additionalGids", "more than the kernel takes is refused", "fails late"),
    ("/process/args", "arguments that execve can't take (E2BIG) are refused by create", "fails after start"),
    ("/process/capabilities", "effective beyond permitted, inheritable beyond bounding is refused, naming them", "fails late with EPERM"),
    ("/process/consoleSize", "more than 65535 is refused", "is cut"),
    (
        "/process/rlimits",
        "a kind that is given twice, or soft above hard, is refused",
        "sets both, or fails late",
        "takes the last, or fails late",
        "rlimits",
    ),
    ("/process/oomScoreAdj", "outside -1000..1000 is refused", "fails late, in words that do not name it"),
    ("/process/scheduler", "values that do not belong to the policy are refused", "ignores them, or fails late"),
    (
        "/mounts",
        "a mount on / is refused before anything is made",
        "fails late, in words that do not name it",
        "fails late",
        "mount_on_root",
    ),
    ("/mounts/*/options", "file system options on a bind mount are refused", "ignores them up to 1.1", "ignores them", "data_on_bind"),
    ("/mounts/*/options", "id-mapped without a map, or on what can't be, is refused", "mounts it without up to 1.1"),
    ("/mounts/*/options", "two kinds of propagation on one mount are refused", "applies both, in order"),
    ("/mounts/*/destination", "anything but a whole procfs on /proc is refused, also behind a link of the image", "looks at the path"),
    (
        "/root/readonly",
        "without a mount namespace the root is mounted on itself until delete; rootfsPropagation is refused",
        "ignores it",
        "ignores it",
        "readonly_without_mounts",
    ),
    (
        "/linux/namespaces",
        "without a mount namespace all mounts are taken away at delete; with a user namespace they are refused",
        "fails halfway",
    ),
    ("/linux/uidMappings", "overlapping, empty or wrapping maps are refused with the line", "fails late, in words that do not name it"),
    ("/linux/uidMappings", "maps without a user namespace are refused", "accepts them up to 1.1", "ignores them", "maps_without_user"),
    ("/linux/devices", "numbers beyond the kernel's range, missing ones, one path with two of them: refused", "cuts them; the first wins"),
    ("/linux/devices/*/path", "one with `..` is refused", "makes the node where it leads"),
    ("/linux/maskedPaths", "relative ones, / and those with `..` are refused; so for readonlyPaths", "accepts them"),
    ("/linux/cgroupsPath", "one with `..` or control characters is refused", "rewrites it", "hands it to the kernel", "dotted_cgroup"),
    ("/linux/resources", "a limit that this host can't set is refused or fails, never skipped", "skips some of them"),
    (
        "/linux/resources/unified",
        "keys with a slash and files of cgroup.* are refused",
        "writes the latter",
        "writes the latter",
        "unified",
    ),
    ("/linux/seccomp", "a profile that would block or kill the last steps before the program is refused", "hangs, or dies in them"),
    ("/linux/seccomp", "errnoRet above 4095 is refused", "is cut by the kernel"),
    ("/linux/seccomp", "a valueTwo with another operator than SCMP_CMP_MASKED_EQ is refused", "ignores it"),
    ("/hooks", "a relative or missing program, or a bad environment, is refused at the start", "fails when the hook's time has come"),
    ("/linux", "a property of 1.3 that can't be carried out is refused, never ignored", "1.1 ignores what is newer than it is"),
    ("--root", "a state root that others may write to, or that is /, is refused", "uses it"),
)

OTHER = (
    ("/dev/null", "one in the image that is not c 1:3 is replaced on a /dev that we mounted, else refused", "opens it and checks"),
    ("/linux/devices", "a path in the root that holds something else is a failure", "takes what is there"),
    ("/linux/maskedPaths", "covers are read-only, nosuid, noexec; the null device is proven", "they are writable; up to 1.1 not proven"),
    ("/linux/namespaces", "in a mount namespace that is joined the root is entered by chroot", "turns the root of all who live there"),
    (
        "/linux/resources/devices",
        "a denial takes back earlier rules for some of its devices, on v1 as on v2",
        "on v1 those for the very same",
    ),
    ("/linux/resources/devices", "a denial of single devices wins over the default devices and mknod", "the defaults come last"),
    (
        "/linux/devices",
        "the directory of a node is in the root or on a tmpfs of the config, without links",
        "may be on a mount of the host's",
    ),
    ("/process/user", "only pipes and sockets of the caller become the user's", "terminals and files do too"),
    ("/linux/resources/devices", "on v1 type a with less than rwm is about these letters alone", "is about all"),
    ("/linux/rootfsPropagation", "shared is set on the container's root too", "is not, up to 1.1"),
    ("/mounts (cgroup)", "the tmpfs of v1 turns read-only with `ro`", "stays writable"),
    ("/mounts (cgroup)", "in a user namespace without a cgroup namespace it is read-only, whatever is asked", "is as asked"),
    ("/mounts (cgroup)", "v2 without a cgroup namespace: a bind of the host's, its options stay", "a new mount, which resets them"),
    ("/mounts (sysfs)", "where a user namespace may not mount it, the host's is bound", "fails"),
    (
        "/process/capabilities",
        "absent: all five sets are empty",
        "clears them up to 1.1, leaves them alone since",
        "clears them",
        "no_capabilities",
    ),
    ("/linux/resources/pids/limit", "0 is unlimited, as engines mean it", "is unlimited up to 1.1, 1 since", "is unlimited", "pids_zero"),
    ("/linux/rootfsPropagation", "rprivate is the same as private, and so for the others", "differs in recursion"),
    ("start", "returns when the program has been executed: exit status 1 when that failed", "returns before, with 0"),
    (
        "start",
        "a failing startContainer hook makes it fail and the container is destroyed, as the specification asks",
        "returns 0",
        "returns 0",
        "start_container",
    ),
    ("exec", "takes the defaults of the process from the config that create read", "reads the bundle's config.json again"),
    ("exec --process", "limits, umask and scheduling that the document lacks are the container's", "are the caller's"),
    ("delete --force", "ends whoever holds the container's lock, after a bounded wait", "waits for it"),
    ("state", "ociVersion is the version that is implemented", "is the version that is implemented; up to 1.1 the config's"),
    ("features", "mountOptions names idmap and ridmap as well", "leaves them out"),
    ("checkpoint", "--manage-cgroups-mode is soft unless it is given", "is ignore up to 1.1"),
    ("checkpoint", "a standard stream that is a file of the host is dumped, and connected again by restore", "fails"),
    ("checkpoint", "--shell-job works without a console socket", "fails at restore"),
    ("restore", "a relative --image-path starts at the caller's directory", "starts at the bundle"),
    ("restore", "the loopback device of a new network namespace is up", "stays down"),
    ("restore", "read-only and other flags of the root and of bind mounts are those of the config", "some are lost"),
    ("restore --manage-cgroups-mode strict", "fails if the container's cgroup was there before", "has no effect up to 1.1"),
    ("update --device-*", "changes the devices of a running container; --resources never does", "never does"),
)

KEPT = (
    ("/linux/resources/devices", "the default devices and mknod are allowed, /dev/net/tun among them", "the same"),
    ("/process/capabilities", "unknown and unavailable names are skipped with a warning", "the same"),
    ("/mounts/*/options", "absent options mean no flags; no defaults by destination", "the same"),
    ("/mounts/*/destination", "a relative one starts at /", "the same"),
    ("/process/cwd", "a missing directory is made", "the same"),
    ("/process/env", "HOME is set from the image's passwd when it is missing or empty", "the same"),
    ("/process/user/umask", "absent means 0022", "the same"),
    ("delete", "a container that was created and never started is killed and removed", "the same"),
)

ELSEWHERE = (
    ("/process/env", "an entry without = is refused", None, "runs it", "env_without_equals"),
    ("/process/env", "an empty HOME is set from the image's passwd", None, "leaves it empty", "empty_home"),
    ("/process/cwd", "a relative one is refused", None, "takes it from /", "relative_cwd"),
    ("/process/args", "none are refused by create", None, "fails late, or starts nothing", "no_args"),
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
    ("/linux/intelRdt/enableMonitoring", "makes a monitoring group", "1.1 ignores it", "1.21 ignores it", "rdt_monitoring"),
    ("/mounts", "none at all is fine", "needs a /proc", "refuses it", "no_mounts"),
    ("/mounts/*/options", "idmap and ridmap map the ids", "1.1 ignores them", None, "idmap_options"),
    ("/mounts/*/options", "nosymfollow, iversion, silent and their opposites are flags", None, "hands them to the file system, which refuses", "crun_flags"),
    ("/mounts/*/options", "a later option takes an earlier one back (ro, rw)", None, "the flag that was set first stays", "taken_back"),
    ("/mounts/*/options", "propagation of a single mount", None, "makes it private, unless rootfsPropagation is given", "propagation"),
    ("/linux/seccomp", "calls newer than the profile's newest answer ENOSYS", None, "answers with the default, mostly EPERM", "seccomp_default"),
    ("/hooks/poststart", "run by start, when the program runs", "1.1 has create run them", None, "poststart"),
    ("/hooks/poststart", "a failing one ends the container", None, "goes on", "poststart"),
    ("/hooks/poststop", "run after a create that failed, too", None, "does not run them then", "poststop"),
)  # fmt: skip

GROUPS = (
    ("Refused here, accepted or found late by runc", STRICTER),
    ("Another result than runc's", OTHER),
    ("As runc, where the specification says otherwise or nothing", KEPT),
    ("As the specification says, and not by other runtimes", ELSEWHERE),
)


def text() -> str:
    """The table for people."""
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


def document() -> list[dict[str, Any]]:
    """The same as data: [{"group", "where", "pyrunc", "runc", "crun", "found_by"}], None where nothing is known, or it is the same."""
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


def testable() -> list[tuple[Any, ...]]:
    """[(where, ours, runc, crun, test)] of the rows that can be found in a config."""
    return [row for _title, rows in GROUPS for row in rows if len(row) == 5]
