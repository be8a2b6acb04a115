"""Converts mounts[].options to flags: the table of runtime-spec, config.md#linux-mount-options, and how each kind of option is handled.

Invariant: order matters, a later option overrides an earlier one. An unknown option is data for the file system. Nothing here makes system
calls.
"""

from __future__ import annotations

from pyrunc.linux import constants as c

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypedDict

    Word = list[Any]  # [option, its index or -1]: JSON has no tuples

    class Parsed(TypedDict):
        flags: int  # MS_* flags to set; the last word wins
        clear: int  # MS_* flags to clear
        propagation: list[int]  # MS_*, in order
        rec_set: int  # MOUNT_ATTR_* for the whole subtree
        rec_clr: int
        data: list[Word]  # for the file system, in order
        extensions: list[str]  # words of EXTENSIONS, and idmap=…, in order


# name: (clears?, flag of mount(2))
FLAGS = {
    "acl": (False, c.MS_POSIXACL),
    "async": (True, c.MS_SYNCHRONOUS),
    "atime": (True, c.MS_NOATIME),
    "bind": (False, c.MS_BIND),
    "defaults": (False, 0),
    "dev": (True, c.MS_NODEV),
    "diratime": (True, c.MS_NODIRATIME),
    "dirsync": (False, c.MS_DIRSYNC),
    "exec": (True, c.MS_NOEXEC),
    "iversion": (False, c.MS_I_VERSION),
    "lazytime": (False, c.MS_LAZYTIME),
    "loud": (True, c.MS_SILENT),
    "mand": (False, c.MS_MANDLOCK),
    "noacl": (True, c.MS_POSIXACL),
    "noatime": (False, c.MS_NOATIME),
    "nodev": (False, c.MS_NODEV),
    "nodiratime": (False, c.MS_NODIRATIME),
    "noexec": (False, c.MS_NOEXEC),
    "noiversion": (True, c.MS_I_VERSION),
    "nolazytime": (True, c.MS_LAZYTIME),
    "nomand": (True, c.MS_MANDLOCK),
    "norelatime": (True, c.MS_RELATIME),
    "nostrictatime": (True, c.MS_STRICTATIME),
    "nosuid": (False, c.MS_NOSUID),
    "nosymfollow": (False, c.MS_NOSYMFOLLOW),
    "rbind": (False, c.MS_BIND | c.MS_REC),
    "relatime": (False, c.MS_RELATIME),
    "remount": (False, c.MS_REMOUNT),
    "ro": (False, c.MS_RDONLY),
    "rw": (True, c.MS_RDONLY),
    "silent": (False, c.MS_SILENT),
    "strictatime": (False, c.MS_STRICTATIME),
    "suid": (True, c.MS_NOSUID),
    "symfollow": (True, c.MS_NOSYMFOLLOW),
    "sync": (False, c.MS_SYNCHRONOUS),
}
PROPAGATION = {
    "private": c.MS_PRIVATE,
    "rprivate": c.MS_PRIVATE | c.MS_REC,
    "rshared": c.MS_SHARED | c.MS_REC,
    "rslave": c.MS_SLAVE | c.MS_REC,
    "runbindable": c.MS_UNBINDABLE | c.MS_REC,
    "shared": c.MS_SHARED,
    "slave": c.MS_SLAVE,
    "unbindable": c.MS_UNBINDABLE,
}
# name: (clears?, attribute of mount_setattr(2)); for access times see _recursive
RECURSIVE = {
    "ratime": (True, c.MOUNT_ATTR_NOATIME),
    "rdev": (True, c.MOUNT_ATTR_NODEV),
    "rdiratime": (True, c.MOUNT_ATTR_NODIRATIME),
    "rexec": (True, c.MOUNT_ATTR_NOEXEC),
    "rnoatime": (False, c.MOUNT_ATTR_NOATIME),
    "rnodev": (False, c.MOUNT_ATTR_NODEV),
    "rnodiratime": (False, c.MOUNT_ATTR_NODIRATIME),
    "rnoexec": (False, c.MOUNT_ATTR_NOEXEC),
    "rnorelatime": (True, c.MOUNT_ATTR_RELATIME),
    "rnostrictatime": (True, c.MOUNT_ATTR_STRICTATIME),
    "rnosuid": (False, c.MOUNT_ATTR_NOSUID),
    "rnosymfollow": (False, c.MOUNT_ATTR_NOSYMFOLLOW),
    "rrelatime": (False, c.MOUNT_ATTR_RELATIME),
    "rro": (False, c.MOUNT_ATTR_RDONLY),
    "rrw": (True, c.MOUNT_ATTR_RDONLY),
    "rstrictatime": (False, c.MOUNT_ATTR_STRICTATIME),
    "rsuid": (True, c.MOUNT_ATTR_NOSUID),
    "rsymfollow": (True, c.MOUNT_ATTR_NOSYMFOLLOW),
}
ATIMES = ("ratime", "rnoatime", "rnorelatime", "rnostrictatime", "rrelatime", "rstrictatime")
EXTENSIONS = ("copy-symlink", "dest-nofollow", "idmap", "ridmap", "src-nofollow", "tmpcopyup")

# Flags of the mount; all others are flags of the file system.
ATTRIBUTES = (
    (c.MS_RDONLY, c.MOUNT_ATTR_RDONLY),
    (c.MS_NOSUID, c.MOUNT_ATTR_NOSUID),
    (c.MS_NODEV, c.MOUNT_ATTR_NODEV),
    (c.MS_NOEXEC, c.MOUNT_ATTR_NOEXEC),
    (c.MS_NODIRATIME, c.MOUNT_ATTR_NODIRATIME),
    (c.MS_NOSYMFOLLOW, c.MOUNT_ATTR_NOSYMFOLLOW),
)
# Those whose bit is the same in mount(2) and in mount_setattr(2), and the rest.
SAME_BITS = sum(flag for flag, attribute in ATTRIBUTES if flag == attribute)
OTHER_BITS = sum(flag for flag, attribute in ATTRIBUTES if flag != attribute)
NOT_ATIME = sum(attribute for _flag, attribute in ATTRIBUTES if attribute != c.MOUNT_ATTR_NODIRATIME)
ATIME_FLAGS = c.MS_NOATIME | c.MS_NODIRATIME | c.MS_RELATIME | c.MS_STRICTATIME
# The kernel locks these on mounts from a more privileged namespace.
LOCKABLE = c.MS_RDONLY | c.MS_NODEV | c.MS_NOEXEC | c.MS_NOSUID | c.MS_NODIRATIME | c.MS_NOATIME | c.MS_RELATIME
# f_flags of statfs(2) that differ from the flags of mount(2)
STATFS = (
    (c.ST_RDONLY, c.MS_RDONLY),
    (c.ST_NOSUID, c.MS_NOSUID),
    (c.ST_NODEV, c.MS_NODEV),
    (c.ST_NOEXEC, c.MS_NOEXEC),
    (c.ST_NOATIME, c.MS_NOATIME),
    (c.ST_NODIRATIME, c.MS_NODIRATIME),
    (c.ST_RELATIME, c.MS_RELATIME),
    (c.ST_NOSYMFOLLOW, c.MS_NOSYMFOLLOW),
)


def parse(words: Sequence[str]) -> Parsed:
    """List of option words -> plain data:

    flags, clear     MS_* set and cleared, the last word wins
    propagation      [MS_*, …] in order
    rec_set, rec_clr MOUNT_ATTR_* for the whole subtree
    data             [[word, its index], …] for the file system, in order
    extensions       words of EXTENSIONS, and idmap=…, in order
    """
    out: Parsed = {"flags": 0, "clear": 0, "propagation": [], "rec_set": 0, "rec_clr": 0, "data": [], "extensions": []}
    flags = clear = 0
    for index, word in enumerate(words):
        if not word:  # podman sends empty options
            continue
        if word in FLAGS:
            clears, flag = FLAGS[word]
            if clears:
                flags &= ~flag
                clear |= flag
            else:
                flags |= flag
                clear &= ~flag
        elif word in PROPAGATION:
            out["propagation"].append(PROPAGATION[word])
        elif word in RECURSIVE:
            _recursive(out, word)
        elif word in EXTENSIONS or word.startswith(("idmap=", "ridmap=")):
            out["extensions"].append(word)
        else:
            out["data"].append([word, index])
    out["flags"], out["clear"] = flags, clear
    return out


def _recursive(out: Parsed, word: str) -> None:
    """Access times are one field in mount_setattr(2), which is set as a whole or not at all."""
    clears, attribute = RECURSIVE[word]
    if word in ATIMES:
        if word == "rnorelatime":  # relatime is the value 0; there is no "none"
            return
        out["rec_set"] &= ~c.MOUNT_ATTR__ATIME
        out["rec_clr"] |= c.MOUNT_ATTR__ATIME
        if not clears:
            out["rec_set"] |= attribute
        return
    out["rec_set"] = out["rec_set"] & ~attribute if clears else out["rec_set"] | attribute
    out["rec_clr"] = out["rec_clr"] | attribute if clears else out["rec_clr"] & ~attribute


def attributes(flags: int) -> int:
    """MS_* -> MOUNT_ATTR_* for a new mount. strictatime wins over noatime, as in mount(2)."""
    attrs = flags & SAME_BITS
    if flags & OTHER_BITS:
        for flag, attribute in ATTRIBUTES:
            if flags & flag:
                attrs |= attribute
    if flags & c.MS_STRICTATIME:
        attrs |= c.MOUNT_ATTR_STRICTATIME
    elif flags & c.MS_NOATIME:
        attrs |= c.MOUNT_ATTR_NOATIME
    return attrs


def changes(flags: int) -> tuple[int, int]:
    """(attr_set, attr_clr) that give a bind mount exactly these flags, as MS_REMOUNT|MS_BIND does. Without an access time option, the
    source's setting is kept."""
    wanted = attributes(flags)
    clear = NOT_ATIME & ~wanted
    if flags & ATIME_FLAGS:
        clear |= c.MOUNT_ATTR__ATIME | (c.MOUNT_ATTR_NODIRATIME & ~wanted)
    return wanted, clear


def from_statfs(f_flags: int) -> int:
    """f_flags -> MS_*. strictatime has no bit: it is the absence of the other access time flags (statfs(2))."""
    flags = 0
    for bit, flag in STATFS:
        if f_flags & bit:
            flags |= flag
    if not flags & (c.MS_NOATIME | c.MS_RELATIME):
        flags |= c.MS_STRICTATIME
    return flags


def names(flags: int) -> str:
    """MS_* -> 'nosuid,nodev': for messages."""
    found = [name for name, (clears, flag) in FLAGS.items() if flag and not clears and flags & flag == flag and name != "rbind"]
    return ",".join(found) or "none"
