"""/process/apparmorProfile, /process/selinuxLabel, /linux/mountLabel (runtime-spec, config.md#linux-process, config-linux.md#mount-label).

Invariant: fail closed. A label that cannot be set is an error. Labels are written through our own procfs, so that no mount of the container
can redirect the write (CVE-2019-16884, CVE-2025-52881).
"""

from __future__ import annotations

import errno
import posix

from pyrunc import fileio
from pyrunc.errors import CallError, Refusal, StepFailure, Unsupported, errno_text, quote
from pyrunc.linux import fs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, Literal, TypedDict

    from pyrunc.parts.sides import Context, ExecRun, InitRun, Op

    Node = TypedDict(
        "Node",
        {"/process/apparmorProfile": str, "/process/selinuxLabel": str, "/linux/mountLabel": str},
        total=False,
    )

    Key = Literal["apparmor", "selinux", "mount"]

    class Entry(TypedDict, total=False):
        apparmor: str
        selinux: str
        mount: str
        context_type: str


APPARMOR: Final = "/process/apparmorProfile"
SELINUX: Final = "/process/selinuxLabel"
MOUNT: Final = "/linux/mountLabel"
APPARMOR_FILES = ("thread-self/attr/apparmor/exec", "thread-self/attr/exec")  # the second one before Linux 5.8
CONTEXT_TYPE = "run.oci.mount_context_type"
CONTEXT_TYPES = ("context", "fscontext", "defcontext", "rootcontext")  # mount(8), SELinux
SELINUX_FILE = "thread-self/attr/exec"


def plan(node: Node, ctx: Context) -> Entry | None:
    """node: the three strings; an empty one counts as absent. entry: {"apparmor"?, "selinux"?, "mount"?, "context_type"?} or None. An
    annotation can choose the mount option for the mount label; the default is `context`. Refused: a profile without AppArmor, a label
    without SELinux, control characters (the name becomes part of a line that the kernel parses)."""
    entry: Entry = {}
    texts: tuple[tuple[str, str | None, Key], ...] = (
        (APPARMOR, node.get(APPARMOR), "apparmor"),
        (SELINUX, node.get(SELINUX), "selinux"),
        (MOUNT, node.get(MOUNT), "mount"),
    )
    for pointer, value, key in texts:
        if not value:
            continue
        if any(ord(c) < 32 or ord(c) == 127 for c in value):
            raise Refusal("control-characters", "control characters in %s" % quote(value, 60), pointer)
        entry[key] = value
    if "apparmor" in entry and not ctx.probe.apparmor():
        raise Unsupported(
            "no-apparmor",
            "apparmor: config provided but apparmor not supported",
            APPARMOR,
            "AppArmor, enabled in the kernel",
            "remove the profile",
        )
    for pointer, _value, key in texts[1:]:
        if key in entry and not ctx.probe.selinux():
            words = "selinux label is specified in config, but selinux is disabled or not supported"
            raise Unsupported("no-selinux", words, pointer, "SELinux, enabled in the kernel", "remove the label")
    kind = ctx.plans.get("meta", {}).get("annotations", {}).get(CONTEXT_TYPE)
    if kind is not None and "mount" in entry:
        if kind not in CONTEXT_TYPES:
            raise Refusal(
                "unknown-label-option",
                "%s is not a mount option for a label" % quote(kind, 60),
                "/annotations/" + CONTEXT_TYPE,
                ", ".join(CONTEXT_TYPES),
            )
        entry["context_type"] = kind
    return entry or None


def init_exec(entry: Entry, run: InitRun) -> None:
    """Init, the last step before privileges are dropped: sets the profile or label that confines the program from execve on. Uses run.proc.
    The error has the file name in backquotes, because podman's pattern for these errors expects it."""
    if "apparmor" in entry:
        _apparmor(run, entry["apparmor"])
    if "selinux" in entry:
        try:
            run.proc.write(SELINUX_FILE, fileio.fsencode(entry["selinux"]))
        except OSError as e:
            raise _failure(SELINUX_FILE, "unable to set selinux exec label", entry["selinux"], SELINUX, e) from e


def _apparmor(run: InitRun, profile: str) -> None:
    data = b"exec " + fileio.fsencode(profile)
    for path in APPARMOR_FILES:
        try:
            run.proc.write(path, data)
            return
        except OSError as e:
            missing = e.errno == errno.ENOENT and CallError.of(e).call != "write"  # the file; ENOENT of write(2) means the profile
            if not missing or path == APPARMOR_FILES[-1]:
                raise _failure(path, "unable to apply apparmor profile", profile, APPARMOR, e) from e


def _failure(path: str, words: str, value: str, pointer: str, e: OSError) -> StepFailure:
    if e.errno == errno.ENOENT and CallError.of(e).call == "write":
        reason = "%s is not loaded" % quote(value, 100)
    else:
        reason = "%s is refused: %s" % (quote(value, 100), errno_text(e.errno))
    return StepFailure(
        "label-not-set",
        "%s: write to `/proc/%s`: %s" % (words, path, reason),
        pointer=pointer,
        call=CallError.of(e).call,
        errno=e.errno,
        path="/proc/" + path,
    )


def exec_op(entry: Entry, run: ExecRun) -> Op | None:
    """("WRITE", directory, path, text), for exec, before its child joins a namespace. Uses run.proc, which stays open until then. At most
    one of the two is set: no kernel enforces AppArmor and SELinux at once."""
    key: Key = "apparmor" if "apparmor" in entry else "selinux"
    if key not in entry:
        return None
    path, text = SELINUX_FILE, fileio.fsencode(entry[key])
    if key == "apparmor":
        path, text = APPARMOR_FILES[0], b"exec " + text
        try:
            fs.close(run.proc.open(path, posix.O_PATH))
        except OSError as e:
            if e.errno != errno.ENOENT:
                raise
            path = APPARMOR_FILES[1]
    return ("WRITE", run.proc.directory(), path, text)
