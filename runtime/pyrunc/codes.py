"""The stable codes of errors: PYR-1000 to PYR-9999, each with a meaning and a remedy. Data, and the search in it; loaded when
something failed and somebody wants to know more than the sentence (a log, a terminal, `errors`, `explain`).

    PYR-KAAN   K  kind: 1 usage, 2 refused, 3 unsupported, 4 state, 5 hook, 6 step, 8 others, 9 bug
               AA area: the part that owns the property (parts/table.py), or one of those that have none, from 40 on
               N  0 anything of that kind and area, 1 to 9 one cause of it

Rules: a number keeps its meaning for ever. One that is not used any more moves to RETIRED and is never given away again; a new cause
gets a number of its own, and its sentences had the area's N = 0 until then (tests/fixtures/codes.txt is the record). Codes of the
kinds 1, 4, 5, 8 and 9 have no area: there AAN just counts.
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
    "foreign": (2, "sections of other platforms", "leave the section out", "leave the section out"),
    "namespaces": (3, "namespaces", "give each type once, and paths that are namespaces of that type",
                   "see `doctor`: limits of user.max_*_namespaces, rights over the namespaces that are joined"),
    "notify": (4, "the supervisor's notify socket", "unset NOTIFY_SOCKET", "check the socket that NOTIFY_SOCKET names"),
    "idmaps": (5, "id maps of the user namespace", "give maps that do not overlap, and a user namespace",
               "root may map any id; others need lines in /etc/subuid and /etc/subgid, and newuidmap"),
    "clocks": (6, "clock offsets", "add a time namespace, or leave timeOffsets out", "offsets may not make a clock negative"),
    "netdevs": (7, "network devices", "name devices of the runtime's network namespace, and add a network namespace",
                "is the device still there, and its new name free?"),
    "root": (8, "the container's root", "give root.path a directory, and a mount namespace",
             "is the root a directory that can be mounted over, on a file system that allows it?"),
    "cgroups": (9, "the container's cgroup", "give a clean path, or leave cgroupsPath out",
                "see `doctor`: is the hierarchy mounted, writable, and delegated to this user?"),
    "resources": (10, "limits", "take limits that this host's controllers have",
                  "is the controller enabled in cgroup.subtree_control all the way down, and the value within the kernel's range?"),
    "rdt": (11, "Intel RDT", "give schemata of this machine, or leave intelRdt out", "see /sys/fs/resctrl/info/last_cmd_status"),
    "labels": (12, "AppArmor and SELinux", "leave the label out where the module is off", "is the profile loaded?"),
    "mounts": (13, "mounts", "correct the mount", "does the source exist, and is the file system type known to this kernel?"),
    "paths": (14, "masked and read-only paths", "give absolute paths, and a mount namespace", "is the path of the image what it claims to be?"),
    "uts": (15, "host name and domain name", "add a uts namespace, or leave the name out", "the name may be too long"),
    "sysctls": (16, "sysctls", "only settings of a new namespace may be set", "does this kernel have the setting, and is the value in its range?"),
    "user": (17, "user, groups and umask", "take ids that are mapped", "are the ids mapped in the container's user namespace?"),
    "fds": (18, "descriptors that are handed in", "open the descriptors before", "are 0, 1 and 2 open?"),
    "rlimits": (19, "resource limits of the process", "soft at most hard, each type once",
                "only CAP_SYS_RESOURCE raises a hard limit: raise it for the caller, or ask for less"),
    "terminal": (20, "the terminal", "--console-socket goes with terminal: true and --detach", "is somebody listening on the console socket?"),
    "devices": (21, "device nodes", "give type, path and numbers", "is /dev writable, and what is at that path in the image?"),
    "program": (22, "program, working directory and environment", "give args, an absolute cwd, and NAME=value",
                "is the program in the root, executable, and are its interpreter and libraries there?"),
    "capabilities": (23, "capabilities", "effective within permitted, inheritable within bounding, ambient within both",
                     "nobody can give rights that they do not have: see CapBnd in /proc/self/status"),
    "oom": (24, "oomScoreAdj", "give -1000 to 1000", "lowering it below our own takes CAP_SYS_RESOURCE"),
    "scheduling": (25, "scheduler, I/O priority and CPU affinity", "give values that belong to the policy",
                   "real-time policies take CAP_SYS_NICE, and a realtime budget in the cgroup (cpu.rt_runtime_us)"),
    "personality": (26, "personality", "LINUX or LINUX32, no flags", "this machine may not have 32 bits"),
    "mempolicy": (27, "memory policy", "give a mode and nodes that go with it", "are the nodes in the cpuset and in this machine?"),
    "seccomp": (28, "the seccomp filter", "correct the profile; `seccomp` shows what it answers",
                "see `seccomp SYSCALL`, and whether the profile allows execve"),
    "hooks": (29, "hooks", "give absolute paths of programs that exist", "`hooks ID` shows what they wrote"),
    "keyring": (30, "the session keyring", "--no-new-keyring does without", "--no-new-keyring does without"),
    "landlock": (31, "Landlock", "correct the annotation, or leave out what this kernel's version does not have",
                 "name paths that are there and no links; `doctor` says which version of Landlock this is"),
    "document": (40, "config.json as a document", "`validate` shows every problem with its line", "can the file be read?"),
    "criu": (41, "CRIU", "see the options of checkpoint and restore", "see dump.log or restore.log in the work directory"),
    "restore": (42, "images and restoring", "see the options of restore", "are the images complete, and the bundle the same?"),
    "engine": (43, "the container's init", "correct the config", "`--debug`, and `trace ID`, show how far it came"),
    "helper": (44, "the helper process", "install python3, jsonschema and pyseccomp", "install python3, jsonschema and pyseccomp"),
    "seal": (45, "the sealed copy of this program", "boot a kernel with memfd or overlay", "is memory exhausted?"),
    "host": (46, "this host", "see `doctor`", "see the call that failed; `doctor` knows the usual reasons"),
}  # fmt: skip

STEPS = {
    "restore": "restore", "criu": "criu", "init": "engine", "start": "engine", "foreground": "engine", "engine": "engine", "checkpoint": "criu",
    "seal": "seal",
}  # fmt: skip

# Kinds without areas: (number, reason, meaning, remedy); the last of a kind is for every other reason.
COUNTED = (
    (1001, "unknown-option", "An option that the command does not have.", "`pyrunc COMMAND --help` lists them."),
    (1002, "option-needs-value", "An option came without its value.", "Write --option VALUE or --option=VALUE."),
    (1003, "unknown-command", "No command has that name.", "`pyrunc --help` lists the commands."),
    (1004, "wrong-arguments", "Too many or too few arguments.", "`pyrunc COMMAND --help` shows what it takes."),
    (1005, "bad-format", "An output format that the command does not have.", "table, text or json; see the command's --help."),
    (1006, "bad-boolean", "A yes-or-no option got something else.", "true or false."),
    (1007, "bad-number", "A number was expected.", "Give a whole number."),
    (1008, "log", "The file or socket of --log can't be used; nothing was done.", "Give --log a file that can be written."),
    (1009, "bundle", "The bundle's directory can't be entered.", "Give --bundle the directory that holds config.json."),
    (1010, "state-root", "The directory of --root can't be used, or others could write to it.", "Give --root a directory of the caller's own."),
    (1011, "no-state-root", "A user other than root without XDG_RUNTIME_DIR.", "Set XDG_RUNTIME_DIR or give --root."),
    (1012, "unknown-signal", "kill got a signal that does not exist.", "A name such as TERM, or a number."),
    (1013, "bad-duration", "A time such as 5s was expected.", "Digits and ms, s, m or h."),
    (1014, "file-exists", "spec does not overwrite files.", "Remove it, or give --file another name."),
    (1015, "bad-value", "update can't read a value.", "See `pyrunc update --help`."),
    (1016, "unknown-topic", "explain knows no code, pointer or property of that name.", "Take one of those that the message suggests; `errors` lists the codes."),
    (1000, "usage", "The command line is wrong; nothing was done.", "`pyrunc COMMAND --help` shows what it takes."),
    (4001, "unknown-container", "No container of that id is below --root.", "`list` shows the ids; is --root the one that it was made with?"),
    (4002, "id-exists", "A container of that id is there already.", "Delete it first, or choose another id."),
    (4003, "not-running", "The container's init has ended.", "`state` says what is known of its end."),
    (4004, "not-paused", "Only a paused container can be resumed.", "`state` says what it is."),
    (4005, "start-running", "It was started before.", "Nothing has to be done."),
    (4006, "start-stopped", "Its init has ended before it was started.", "Delete it and create it anew."),
    (4007, "start-paused", "A frozen init can't go on.", "`resume` it first."),
    (4008, "delete-alive", "The container still runs.", "`kill` it first, or `delete --force`."),
    (4009, "exec-stopped", "There is nothing left to join.", "`state` says what is known of its end."),
    (4010, "exec-paused", "The new process would be frozen at once.", "`resume` it, or exec --ignore-paused."),
    (4011, "bad-id", "An id has letters, digits, _ + . - only, at most 255.", "Choose another id."),
    (4012, "empty-id", "An id is missing.", "Give one."),
    (4013, "busy", "Another command holds the container's lock.", "Wait for it; delete --force ends it."),
    (4014, "damaged-state", "A file below --root is not what was written there.", "`delete --force` ends what is left of it."),
    (4015, "unreadable-state", "A file below --root can't be read or made.", "Is the disk full or read-only?"),
    (4016, "status-unknown", "Whoever started the container has taken its status.", "Run `wait` while it lives."),
    (4017, "no-init-yet", "create has not come that far.", "Wait until create has ended."),
    (4018, "timed-out", "--timeout was over before the container was.", "Wait longer."),
    (4019, "init-survives", "Init does not die of SIGKILL.", "Is it in an uninterruptible wait? See /proc/PID/stack."),
    (4020, "nothing-kept", "Nothing was written down of that.", "It was made by another version, or by restore."),
    (4021, "not-in-image", "exec --user names somebody that the image does not know.", "Give numbers."),
    (4022, "foreign-state", "Another runtime keeps a container of that id below the same --root.", "Use that runtime for it, or give each runtime a --root of its own."),
    (4000, "state", "The container is not in a state for that.", "`state ID` says what it is."),
    (5001, "hook-timeout", "A hook took longer than its timeout; its process group was killed.", "`hooks ID` shows what it wrote; raise the timeout or mend the hook."),
    (5002, "hook-not-run", "The hook's program could not be executed.", "Is the path absolute, executable, and there (for startContainer: in the root)?"),
    (5000, "hook", "A hook ended with a failure.", "The message has the end of what it wrote; it runs with the state on standard input."),
    (8001, "interrupted", "A signal asked us to stop; everything was undone. The exit status is 128 and the signal.", "Run it again."),
    (8000, "error", "Something failed in the container's init.", "See the sentence."),
    (9000, "bug", "This can't happen.", "Run it with --debug and report it, please."),
)  # fmt: skip

# Causes with a number of their own within an area: (number, reason, meaning, remedy).
CAUSES = (
    (2405, "too-large", "The config is larger or nested deeper than is read.", "At most 16 MiB and 128 levels."),
    (2406, "duplicate-key", "A key is given twice in one object.", "Keep one of them."),
    (2401, "not-json", "The file is not JSON.", "The message has the place; comments and trailing commas are not allowed."),
    (2402, "not-utf8", "The file is not UTF-8 without a byte order mark.", "Save it as UTF-8."),
    (2403, "no-config", "The bundle has no config.json.", "`spec` writes one; --bundle names another directory."),
    (2404, "config-unreadable", "The config can't be opened or read.", "Is it a file that the caller may read?"),
    (2407, "wrong-case", "A known property in another case.", "Write it as the hint says."),
    (2408, "missing", "The specification requires the property.", "Add it; `explain POINTER` says what it is."),
    (2409, "wrong-type", "A value of a type or range that the schema does not allow.", "`explain POINTER` says what it takes."),
    (2131, "mount-option", "A mount option that can't be used there.", "`features` lists the options; on binds only flags are allowed."),
    (2132, "id-map", "An id-mapped mount without fitting maps.", "Give uidMappings and gidMappings that lie within the user namespace."),
    (2221, "no-args", "There is no program to run.", "Give /process/args."),
    (2222, "bad-environment", "An entry of the environment is not NAME=value.", "Correct the entry."),
    (2223, "arguments-too-long", "execve could not take that much (E2BIG).", "Shorten args or env."),
    (2191, "hard-limit", "The hard limit is above ours, and we may not raise it.", "Raise the caller's own, ask for less, or run with CAP_SYS_RESOURCE."),
    (2201, "console-socket", "Nobody would take the terminal.", "Give --console-socket, or set terminal to false."),
    (3091, "no-cgroups", "This host has no cgroup file system.", "Mount cgroup2 on /sys/fs/cgroup."),
    (3101, "no-controller", "The limit's controller is not there.", "Boot with it, mount it, or leave the limit out."),
    (3102, "no-control", "Version 2 of cgroups has nothing like it.", "Leave it out, or use /linux/resources/unified."),
    (3411, "no-criu", "Checkpoints are made by CRIU.", "Install criu."),
    (6431, "init-died", "The container's init ended before it was ready.", "Was it killed from outside, or by a filter? See the kernel log."),
    (6432, "init-oom", "The memory limit is too low for the set-up.", "Raise /linux/resources/memory/limit."),
    (6281, "filter-kills", "The filter kills what comes before the program.", "Allow execve, write, close_range and exit_group."),
    (6221, "program-not-found", "The program is in no directory of the container's PATH.", "Is it in the root? Does env have a PATH?"),
    (6222, "program-not-executable", "The program, or a directory above it, may not be executed by the user.", "Check mode bits, the mount's noexec, and the user's ids."),
    (6223, "program-wrong-format", "The kernel can't run that file.", "Is it built for this machine; does a script begin with #!?"),
    (6131, "mount-source", "The source, or a directory of the destination, does not exist.", "Make it on the host; binds take an existing source."),
    (6132, "mount-not-allowed", "The kernel does not allow the mount.", "In a user namespace flags of the host's mounts are locked, and few types may be mounted."),
    (6133, "mount-invalid", "The kernel does not take the type, an option or the combination.", "See the kernel log for the file system's own words."),
    (6134, "mount-no-type", "This kernel has no such file system.", "Load its module, or take another type."),
    (6091, "cgroup-busy", "Others live in the cgroup that the container is to have.", "Give another cgroupsPath, or end them."),
    (6092, "cgroup-not-allowed", "The cgroup belongs to somebody else.", "Have it delegated: systemd Delegate=yes, or another cgroupsPath."),
    (6101, "limit-below-usage", "A limit below what is used already.", "Ask for more."),
    (6102, "limit-not-taken", "The kernel does not take the value.", "Is it in range, and within the parent's?"),
    (6191, "limit-not-allowed", "Raising a hard limit takes CAP_SYS_RESOURCE.", "Raise the caller's own, or ask for less."),
    (6461, "no-space", "A file system is full, or a limit of the kernel is reached.", "Free space; check inodes, and user.max_*_namespaces."),
    (6462, "read-only", "A file system is read-only.", "Give --root, the bundle or the path another place."),
)  # fmt: skip

# Causes that the errno of the failed call tells: {kind and area: {errno: number}}. 646 counts for every area.
ERRNO_CAUSES = {
    613: {"ENOENT": 6131, "EPERM": 6132, "EINVAL": 6133, "ENODEV": 6134},
    609: {"EACCES": 6092, "EPERM": 6092},
    610: {"EBUSY": 6101, "EINVAL": 6102},
    619: {"EPERM": 6191},
    646: {"ENOSPC": 6461, "EROFS": 6462},
}

RETIRED: tuple[int, ...] = ()  # numbers that once had a meaning

# The area of a refusal that has neither a pointer nor a step. All others are about the document.
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
        found[2000 + number * 10] = ("refused-" + area, "The config is not acceptable: %s." % about, _sentence(refused))
        found[3000 + number * 10] = (
            "unsupported-" + area,
            "Right by the specification, impossible on this host: %s." % about,
            "See `doctor`; %s." % refused,
        )
        found[6000 + number * 10] = ("failed-" + area, "The kernel or the host said no: %s." % about, _sentence(failed))
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
