"""The stable codes of errors, PYR-1000 to PYR-9999, each with a meaning and a remedy. Loaded only when more than the sentence of an error is
wanted: by the log, at a terminal, and by `errors` and `explain`.

    PYR-KAAN   K  kind: 1 usage, 2 refused, 3 unsupported, 4 state, 5 hook, 6 step, 8 others, 9 bug
               AA area: the part that owns the property (parts/table.py), or from 40 on one of those that belong to no part
               N  0 any other cause of that kind and area, 1 to 9 one cause of it

A number never changes its meaning. One that is no longer used moves to RETIRED and is never used again. A new cause gets its own number; until
then its errors had N = 0 of their area (tests/fixtures/codes.txt is the record). The kinds 1, 4, 5, 8 and 9 have no areas: there AAN is a
counter.
"""

from __future__ import annotations

from pyrunc.errors import errno_name
from pyrunc.parts.table import PARTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from pyrunc.errors import PyruncError

    class Row(TypedDict):
        """A code, as `errors` prints it."""

        code: str
        name: str
        kind: str
        meaning: str
        remedy: str
        exit_status: str


PREFIX = "PYR-"
KINDS = {"usage": 1, "refused": 2, "unsupported": 3, "state": 4, "hook": 5, "step": 6, "interrupted": 8, "error": 8, "bug": 9}

# name: (number, what it is about, remedy where it is refused, remedy where the kernel said no)
AREAS = {
    "meta": (1, "the version and the annotations", "correct the property", "see the call that failed"),
    "foreign": (2, "sections for other platforms", "remove the section", "remove the section"),
    "namespaces": (3, "namespaces", "list each type once, with paths of namespaces of that type",
                   "check the limits in /proc/sys/user/max_*_namespaces, and the permission to join the namespaces; `pyrunc doctor` shows both"),
    "notify": (4, "the supervisor's notify socket", "unset NOTIFY_SOCKET", "check the socket that NOTIFY_SOCKET names"),
    "idmaps": (5, "id maps of the user namespace", "use a user namespace and maps that don't overlap",
               "add ranges to /etc/subuid and /etc/subgid and install newuidmap, or run as root"),
    "clocks": (6, "clock offsets", "add a time namespace, or remove timeOffsets", "use offsets that leave the clocks positive"),
    "netdevs": (7, "network devices", "add a network namespace, and name devices of the runtime's network namespace",
                "check that the device still exists and that its new name is free"),
    "root": (8, "the container's root", "set root.path to a directory, and add a mount namespace",
             "check that the root is a directory on a file system that can be bind-mounted"),
    "cgroups": (9, "the container's cgroup", "use a clean cgroupsPath, or remove it",
                "check with `pyrunc doctor` that the hierarchy is mounted, writable and delegated to this user"),
    "resources": (10, "limits", "use limits whose controllers this host has",
                  "check that the controller is enabled in each cgroup.subtree_control down to the container, and that the value is in range"),
    "rdt": (11, "Intel RDT", "use schemata of this machine, or remove intelRdt", "see /sys/fs/resctrl/info/last_cmd_status"),
    "labels": (12, "AppArmor and SELinux", "remove the label where the module is not enabled", "check that the profile is loaded"),
    "mounts": (13, "mounts", "correct the mount", "check that the source exists and that the kernel knows the file system type"),
    "paths": (14, "masked and read-only paths", "use absolute paths and a mount namespace", "check the path in the image: it may be of an unexpected type"),
    "uts": (15, "host name and domain name", "add a uts namespace, or remove the name", "use a shorter name"),
    "sysctls": (16, "sysctls", "set only sysctls of namespaces that the container creates", "check that this kernel has the sysctl and that the value is in range"),
    "user": (17, "user, groups and umask", "use ids that are mapped", "check that the ids are mapped in the container's user namespace"),
    "fds": (18, "inherited descriptors", "open the descriptors before the call", "check that descriptors 0, 1 and 2 are open"),
    "rlimits": (19, "resource limits of the process", "list each type once, with the soft limit at most the hard limit",
                "raise the caller's limits, use lower ones, or run with CAP_SYS_RESOURCE"),
    "terminal": (20, "the terminal", "use --console-socket with terminal: true and --detach only", "check that a process listens on the console socket"),
    "devices": (21, "device nodes", "give type, path and numbers", "check that /dev is writable, and what the image has at that path"),
    "program": (22, "program, working directory and environment", "give args, an absolute cwd, and variables as NAME=value",
                "check that the program, its interpreter and its libraries are in the root and executable"),
    "capabilities": (23, "capabilities", "keep effective within permitted, inheritable within bounding, and ambient within both",
                     "use capabilities that the caller has (CapBnd in /proc/self/status)"),
    "oom": (24, "oomScoreAdj", "use a value from -1000 to 1000", "use a value not below the caller's own, or run with CAP_SYS_RESOURCE"),
    "scheduling": (25, "scheduler, I/O priority and CPU affinity", "use values that the policy allows",
                   "for real-time policies, run with CAP_SYS_NICE and set a budget (realtimeRuntime) in the cgroup"),
    "personality": (26, "personality", "use LINUX or LINUX32, without flags", "use LINUX: this machine may not support 32 bits"),
    "mempolicy": (27, "memory policy", "use nodes that the mode allows", "check that the nodes exist and are in the cpuset"),
    "seccomp": (28, "the seccomp filter", "correct the profile; `pyrunc seccomp` shows how it answers",
                "check with `pyrunc seccomp SYSCALL` that the profile allows execve"),
    "hooks": (29, "hooks", "use absolute paths of existing programs", "see the output of the hook with `pyrunc hooks ID`"),
    "keyring": (30, "the session keyring", "use --no-new-keyring", "use --no-new-keyring"),
    "host_mounts": (32, "mounts of a container without a mount namespace", "add a mount namespace", "see /proc/self/mountinfo, and which processes use the mount"),
    "landlock": (31, "Landlock", "correct the annotation, or remove what this kernel's version lacks",
                 "use existing paths that are not symbolic links; `pyrunc doctor` shows the version of Landlock"),
    "document": (40, "config.json as a document", "run `pyrunc validate`, which shows every problem with its line", "check that the file can be read"),
    "criu": (41, "CRIU", "see the options of checkpoint and restore", "see dump.log or restore.log in the work directory"),
    "restore": (42, "restoring from images", "see the options of restore", "check that the images are complete and the bundle is the same"),
    "engine": (43, "the container's init", "correct the config", "run it with --debug, or see `pyrunc trace ID`"),
    "helper": (44, "the helper process", "install python3, jsonschema and pyseccomp", "install python3, jsonschema and pyseccomp"),
    "seal": (45, "the sealed copy of this program", "boot a kernel with memfd or overlay", "free some memory"),
    "host": (46, "this host", "run `pyrunc doctor`", "run `pyrunc doctor`, which checks for the usual reasons"),
}  # fmt: skip

STEPS = {
    "restore": "restore", "criu": "criu", "init": "engine", "start": "engine", "foreground": "engine", "engine": "engine", "checkpoint": "criu",
    "seal": "seal",
}  # fmt: skip

# Kinds without areas: (number, reason, meaning, remedy); the last of a kind is for every other reason.
COUNTED = (
    (1001, "unknown-option", "The command has no such option.", "See `pyrunc COMMAND --help`."),
    (1002, "option-needs-value", "The option needs a value.", "Write --option VALUE or --option=VALUE."),
    (1003, "unknown-command", "There is no such command.", "See `pyrunc --help`."),
    (1004, "wrong-arguments", "Too many or too few arguments.", "See `pyrunc COMMAND --help`."),
    (1005, "bad-format", "The command has no such output format.", "Use one of the formats in the command's --help."),
    (1006, "bad-boolean", "The option is true or false, and has another value.", "Use true or false."),
    (1007, "bad-number", "The value is not a number.", "Give a whole number."),
    (1008, "log", "The file or socket of --log can't be used; nothing was done.", "Give --log a file that can be written."),
    (1009, "bundle", "The directory of the bundle can't be used.", "Give --bundle the directory that holds config.json."),
    (1010, "state-root", "The directory of --root can't be used, or other users can write to it.", "Give --root a directory that only the caller can write to."),
    (1011, "no-state-root", "A user other than root has no XDG_RUNTIME_DIR.", "Set XDG_RUNTIME_DIR, or give --root."),
    (1012, "unknown-signal", "There is no such signal.", "Give a name such as TERM, or a number."),
    (1013, "bad-duration", "The value is not a time.", "Give a number with ms, s, m or h, such as 5s."),
    (1014, "file-exists", "spec does not overwrite files.", "Remove the file, or give another name with --file."),
    (1015, "bad-value", "update can't parse a value.", "See `pyrunc update --help`."),
    (1016, "unknown-topic", "There is no such code or property.", "See `pyrunc errors` for the codes; properties are those of config.json."),
    (1017, "state-root-missing", "The directory of --root does not exist.", "Check the spelling of --root; the first create makes the directory."),
    (1000, "usage", "The command line is wrong; nothing was done.", "See `pyrunc COMMAND --help`."),
    (4001, "unknown-container", "There is no container with this id below --root.", "See the ids in `pyrunc list`; use the --root that the container was created with."),
    (4002, "id-exists", "There is a container with this id already.", "Delete it first, or use another id."),
    (4003, "not-running", "The container's init has ended.", "See how it ended with `pyrunc state ID`."),
    (4004, "not-paused", "Only a paused container can be resumed.", "See its status with `pyrunc state ID`."),
    (4005, "start-running", "The container was started before.", "Use `exec` to run another program in it."),
    (4006, "start-stopped", "The container's init ended before it was started.", "Delete the container and create it again."),
    (4007, "start-paused", "A paused container can't be started.", "Use `resume` first."),
    (4008, "delete-alive", "The container still runs.", "Use `kill` first, or `delete --force`."),
    (4009, "exec-stopped", "The container has no process that could be joined.", "See how it ended with `pyrunc state ID`."),
    (4010, "exec-paused", "The new process would be frozen at once.", "Use `resume` first, or `exec --ignore-paused`."),
    (4011, "bad-id", "An id has at most 255 letters, digits, _, +, . and -.", "Use another id."),
    (4012, "empty-id", "The id is empty.", "Give an id."),
    (4013, "busy", "Another command holds the container's lock.", "Wait for it, or use `delete --force`, which ends it."),
    (4014, "damaged-state", "A file below --root is damaged.", "Remove the rest of the container with `delete --force`."),
    (4015, "unreadable-state", "A file below --root can't be read or created.", "Check whether the disk is full or read-only."),
    (4016, "status-unknown", "The process that started the container has collected its exit status.", "Run `wait` while the container runs."),
    (4017, "no-init-yet", "The container is still being created.", "Wait until create has ended."),
    (4018, "timed-out", "The container did not end within --timeout.", "Use a longer --timeout."),
    (4019, "init-survives", "The container's init survives SIGKILL.", "See in /proc/PID/stack whether it is in an uninterruptible wait."),
    (4020, "nothing-kept", "This was not recorded for the container.", "Create the container with this version; `restore` records no steps."),
    (4021, "not-in-image", "The image has no such user or group.", "Give numbers."),
    (4022, "foreign-state", "Another runtime has a container with this id below the same --root.", "Use that runtime for it, or give each runtime its own --root."),
    (4000, "state", "The container's status does not allow this.", "See its status with `pyrunc state ID`."),
    (5001, "hook-timeout", "A hook exceeded its timeout, and its process group was killed.", "See its output with `pyrunc hooks ID`; raise the timeout or correct the hook."),
    (5002, "hook-not-run", "The hook's program could not be executed.", "Check that the path is absolute and executable (for startContainer: in the container's root)."),
    (5000, "hook", "A hook failed.", "See the end of its output in the message, and all of it with `pyrunc hooks ID`."),
    (8001, "interrupted", "A signal interrupted the command, and everything was undone. The exit status is 128 plus the signal.", "Run it again."),
    (8000, "error", "Something failed in the container's init.", "See the message."),
    (9000, "bug", "This is a defect of pyrunc.", "Run it with --debug, and report it."),
)  # fmt: skip

# Causes that have their own number within an area: (number, reason, meaning, remedy).
CAUSES = (
    (2405, "too-large", "The config is too large or nested too deeply.", "Use at most 16 MiB and 128 levels."),
    (2406, "duplicate-key", "A key is given twice in one object.", "Remove one of them."),
    (2401, "not-json", "The file is not valid JSON.", "Correct the place in the message; comments and trailing commas are not allowed."),
    (2402, "not-utf8", "The file is not UTF-8 without a byte order mark.", "Save it as UTF-8."),
    (2403, "no-config", "The bundle has no config.json.", "Write one with `pyrunc spec`, or give --bundle another directory."),
    (2404, "config-unreadable", "The config can't be opened or read.", "Check that it is a file that the caller may read."),
    (2407, "wrong-case", "The name of the property has the wrong case.", "Write it as in the specification."),
    (2408, "missing", "The specification requires the property.", "Add it; `pyrunc explain POINTER` describes it."),
    (2409, "wrong-type", "The schema does not allow the value's type or range.", "Correct it; `pyrunc explain POINTER` shows what is allowed."),
    (2131, "mount-option", "The mount option can't be used there.", "Use an option that `pyrunc features` lists; on bind mounts only flags."),
    (2132, "id-map", "An id-mapped mount has no suitable maps.", "Give uidMappings and gidMappings that are within the user namespace."),
    (2221, "no-args", "There is no program to run.", "Set /process/args."),
    (2222, "bad-environment", "A variable of the environment is not NAME=value.", "Correct the entry."),
    (2223, "arguments-too-long", "The arguments and the environment are too long for execve (E2BIG).", "Shorten args or env."),
    (2191, "hard-limit", "The hard limit is above the caller's, who may not raise it.", "Raise the caller's limit, use a lower one, or run with CAP_SYS_RESOURCE."),
    (2201, "console-socket", "Nothing would receive the terminal.", "Give --console-socket, or set terminal to false."),
    (3091, "no-cgroups", "This host has no cgroup file system.", "Mount cgroup2 on /sys/fs/cgroup."),
    (3101, "no-controller", "This host lacks the controller of the limit.", "Enable or mount the controller, or remove the limit."),
    (3102, "no-control", "cgroup v2 has no such limit.", "Remove it, or use /linux/resources/unified."),
    (3411, "no-criu", "CRIU, which makes checkpoints, is not installed.", "Install criu."),
    (6431, "init-died", "The container's init ended before it was ready.", "See the kernel log for a signal, or for a filter that killed it."),
    (6432, "init-oom", "The memory limit is too low to set up the container.", "Raise /linux/resources/memory/limit."),
    (6281, "filter-kills", "The seccomp filter kills the process before the program runs.", "Allow execve in the profile."),
    (6221, "program-not-found", "The program is in no directory of the container's PATH.", "Check that it is in the root and that env has a PATH."),
    (6222, "program-not-executable", "The user may not execute the program, or enter a directory above it.", "Check the mode bits, the mount's noexec, and the user's ids."),
    (6223, "program-wrong-format", "The kernel can't run the file.", "Check that it is built for this machine, or that a script begins with #!."),
    (6131, "mount-source", "The source, or a directory of the destination, does not exist.", "Create it; the source of a bind mount must exist."),
    (6132, "mount-not-allowed", "The kernel does not allow the mount.", "In a user namespace, keep the flags of the host's mount, and use a type that may be mounted there."),
    (6133, "mount-invalid", "The kernel does not accept the type, an option, or their combination.", "See the file system's message in the kernel log."),
    (6134, "mount-no-type", "The kernel has no such file system.", "Load its module, or use another type."),
    (6091, "cgroup-busy", "The cgroup of the container has other processes.", "Use another cgroupsPath, or end these processes."),
    (6092, "cgroup-not-allowed", "The caller may not use the cgroup.", "Have it delegated (systemd: Delegate=yes), or use another cgroupsPath."),
    (6101, "limit-below-usage", "The limit is below the current usage.", "Use a higher limit."),
    (6102, "limit-not-taken", "The kernel does not accept the value.", "Use a value that is in range, and within the limit of the parent cgroup."),
    (6103, "controller-barred", "The cgroup above the container's has processes of its own.", "Move them into a sub-cgroup of it."),
    (6191, "limit-not-allowed", "Raising a hard limit needs CAP_SYS_RESOURCE.", "Raise the caller's limit, or use a lower one."),
    (6461, "no-space", "A file system is full, or a limit of the kernel is reached.", "Free space; check inodes and the limits in /proc/sys/user."),
    (6462, "read-only", "The file system is read-only.",
     "If the path is in the container's root, create it in the image or make the root writable; on the host, use another directory."),
)  # fmt: skip

# Causes that follow from the errno of the failed call: {kind and area: {errno: number}}. 646 holds for every area.
ERRNO_CAUSES = {
    613: {"ENOENT": 6131, "EPERM": 6132, "EINVAL": 6133, "ENODEV": 6134},
    609: {"EACCES": 6092, "EPERM": 6092},
    610: {"EBUSY": 6101, "EINVAL": 6102},
    619: {"EPERM": 6191},
    646: {"ENOSPC": 6461, "EROFS": 6462},
}

RETIRED: tuple[int, ...] = ()  # numbers that had a meaning once

# The area of a refusal without pointer and step; all others are about the document.
AREA_OF_REASON = {
    "no-criu": "criu", "criu-too-old": "criu", "criu-features": "criu", "bad-lsm-profile": "restore", "no-library": "helper",
    "no-interpreter": "helper", "no-package": "helper",
}  # fmt: skip

WITHOUT_AREA = frozenset("14589")


def find(error: PyruncError) -> int:
    """PyruncError -> code number, by its kind, reason, area and errno; never by its words. Every error has one."""
    kind = KINDS.get(error.kind, 8)
    if str(kind) in WITHOUT_AREA:
        return next((row[0] for row in COUNTED if row[0] // 1000 == kind and row[1] == error.reason), kind * 1000)
    number = AREAS[area_of(error)][0] + kind * 100
    name = errno_name(error.errno) if error.errno else None
    for place in (number, 646 if kind == 6 else kind * 100 + 40):
        for row in CAUSES:
            if row[0] // 10 == place and row[1] == error.reason:
                return row[0]
        if name is not None and name in ERRNO_CAUSES.get(place, ()):
            return ERRNO_CAUSES[place][name]
    return number * 10


def text(number: int) -> str:
    """2130 -> 'PYR-2130'"""
    return "%s%04d" % (PREFIX, number)


def area_of(error: PyruncError) -> str:
    """The area's name: that of the step's part, else of the pointer's owner."""
    first = (error.step or "").partition(".")[0]
    if first in AREAS:
        return first
    if first in STEPS:
        return (owner(error.pointer) if first == "engine" and error.pointer else None) or STEPS[first]
    if error.pointer is None and error.kind != "step":
        return AREA_OF_REASON.get(error.reason or "", "document")
    return owner(error.pointer or "") or ("host" if error.kind == "step" else "document")


def owner(pointer: str) -> str | None:
    """The part with the longest key above a pointer, or None."""
    best, found = -1, None
    for part, _always, keys, _needs in PARTS:
        for key in keys:
            if len(key) > best and (pointer == key or pointer.startswith(key + "/")):
                best, found = len(key), part
    if found is None and (pointer == "/process" or pointer.startswith("/process/")):
        return "program"
    return found


def rows() -> list[Row]:
    """Every code: {"code", "name", "kind", "meaning", "remedy", "exit_status"}, by number."""
    found = {}
    for number, name, meaning, remedy in COUNTED:
        found[number] = (name, meaning, remedy)
    for number, name, meaning, remedy in CAUSES:
        found.setdefault(number, (name, meaning, remedy))
    for area, (number, about, refused, failed) in AREAS.items():
        found[2000 + number * 10] = ("refused-" + area, "The config is refused: %s." % about, _sentence(refused))
        found[3000 + number * 10] = (
            "unsupported-" + area,
            "Valid by the specification, but not possible on this host: %s." % about,
            "See `pyrunc doctor`; %s." % refused,
        )
        found[6000 + number * 10] = ("failed-" + area, "A call failed: %s." % about, _sentence(failed))
    names = {number: kind for kind, number in reversed(KINDS.items())}
    return [
        {
            "code": text(number), "name": name, "kind": names[number // 1000], "meaning": meaning, "remedy": remedy,
            "exit_status": "128 + signal" if number == 8001 else "1 (exec: 255)",
        }
        for number, (name, meaning, remedy) in sorted(found.items())
    ]  # fmt: skip


def row(number: int) -> Row:
    """One of rows()."""
    wanted = text(number)
    return next(one for one in rows() if one["code"] == wanted)


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + ("" if words[-1:] in "?." else ".")
