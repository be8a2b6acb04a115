"""/process/rlimits (runtime-spec, config.md#posix-process; getrlimit(2)).

Its one rule: the limits are the program's. They are set from outside on an init that has nothing left to do, so that no value of
them, however small, breaks the set-up.
"""

from pyrunc.errors import Refusal, StepFailure, errno_text, quote
from pyrunc.linux import _syscalls, caps

KEY = "/process/rlimits"
NAMES = (
    "CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS", "LOCKS", "SIGPENDING", "MSGQUEUE", "NICE",
    "RTPRIO", "RTTIME",
)  # fmt: skip
NUMBERS = {"RLIMIT_" + name: number for number, name in enumerate(NAMES)}  # asm-generic: all but mips, sparc and alpha
INFINITY = (1 << 64) - 1
EPERM = 1


def plan(node, ctx):
    """node: {"/process/rlimits": [{type, soft, hard}]}. entry: {"list": [[type, number, soft, hard, index], …]} or None.
    Refused: unknown type, one given twice, soft above hard, a hard limit above ours when we may not raise it (the kernel's words)."""
    rows, seen = [], {}
    for index, limit in enumerate(node[KEY] or ()):
        name, soft, hard = limit["type"], limit["soft"], limit["hard"]
        pointer = "%s/%d" % (KEY, index)
        number = NUMBERS.get(name)
        if number is None:
            raise Refusal("invalid rlimit type: %s" % quote(name, 60), pointer + "/type", "RLIMIT_ and one of " + " ".join(NAMES))
        if name in seen:
            raise Refusal("%s is given twice" % name, pointer + "/type", "the first stands at %s/%d" % (KEY, seen[name]))
        if soft > hard:
            raise Refusal("%s: soft %s is more than hard %s" % (name, _shown(soft), _shown(hard)), pointer + "/soft")
        seen[name] = index
        ours = _syscalls.prlimit(0, number, None, None)[1]
        if hard > ours and (ctx.in_userns or not caps.effective() >> caps.SYS_RESOURCE & 1):
            raise Refusal(_words(number, EPERM), pointer + "/hard", _hint(name, soft, hard, ours))
        rows.append([name, number, soft, hard, index])
    return {"list": rows} if rows else None


def host_apply(entry, run):
    """Host, when init waits with its rights dropped: prlimit(2) with the host's rights, then read back. Uses run.pid (our child, unreaped).
    Ends with the process."""
    for name, number, soft, hard, index in entry["list"]:
        pointer = "%s/%d" % (KEY, index)
        try:
            before = _syscalls.prlimit(run.pid, number, soft, hard)
        except OSError as e:
            ours = _syscalls.prlimit(run.pid, number, None, None)[1]
            raise StepFailure(
                _words(number, e.errno), pointer=pointer, call=e.call, errno=e.errno, hint=_hint(name, soft, hard, ours)
            ) from e  # fmt: skip
        found = _syscalls.prlimit(run.pid, number, None, None)
        if found != (soft, hard):
            words = "%s was set to %s, the kernel says %s (before: %s)" % (name, _pair(soft, hard), _pair(*found), _pair(*before))
            raise StepFailure(words, pointer=pointer, call="prlimit64")


def _words(number, error):
    return "error setting rlimit type %d: %s" % (number, errno_text(error))


def _hint(name, soft, hard, ours):
    return "%s asked for is %s, the hard limit here is %s; raising it takes CAP_SYS_RESOURCE" % (name, _pair(soft, hard), _shown(ours))


def _pair(soft, hard):
    return "%s:%s" % (_shown(soft), _shown(hard))


def _shown(value):
    return "infinity" if value == INFINITY else "%d" % value
