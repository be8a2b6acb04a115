"""/process/capabilities, /process/noNewPrivileges (runtime-spec, config.md#linux-process; capabilities(7)).

Its one rule: no set ever holds more than the config gives it. Ambient is what ambient says, never a copy of another set
(CVE-2016-8867), and the same for inheritable (CVE-2022-29162).
"""

from pyrunc.errors import Refusal, quote
from pyrunc.linux import caps

KEY = "/process/capabilities"
SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")


def plan(node, ctx):
    """node: {"/process/capabilities": {set: [names]}, "/process/noNewPrivileges": bool}; a set, or the whole object, that is absent is
    empty. entry: {set: mask, "last": number of the kernel's last capability, "nnp": bool}.
    Names nobody knows, that the kernel lacks, or that we have not to give are dropped with a warning (a MUST of the spec). Refused:
    effective beyond permitted, inheritable beyond bounding; capset(2) would say EPERM. Ambient outside permitted and inheritable is
    dropped with a warning, as the kernel does."""
    sets = node.get(KEY)
    if sets is None:
        ctx.warn(KEY, "absent: all five sets are empty")
        sets = {}
    last = caps.last()
    available = (2 << last) - 1
    if not (ctx.plans.get("namespaces") or {}).get("userns"):  # a user namespace gives its first process all there are
        available &= caps.permitted()
    entry = {"last": last, "nnp": bool(node.get("/process/noNewPrivileges", False))}
    lost = {}
    for name in SETS:
        entry[name] = _mask(sets.get(name) or [], name, available, lost)
    if lost:
        ctx.warn(KEY, "ignoring unknown or unavailable capabilities: [%s]" % " ".join(lost))
    _subset(entry, "effective", "permitted")
    _subset(entry, "inheritable", "bounding")
    if entry["permitted"] & ~entry["bounding"]:
        beyond = caps.names(entry["permitted"] & ~entry["bounding"])
        ctx.warn(KEY + "/permitted", "not in bounding, so lost when the program is executed as root: %s" % " ".join(beyond))
    beyond = entry["ambient"] & ~(entry["permitted"] & entry["inheritable"])
    if beyond:
        entry["ambient"] &= ~beyond
        ctx.warn(KEY + "/ambient", "not in permitted and inheritable, so not raised: %s" % " ".join(caps.names(beyond)))
    return entry


def with_more(sets, names):
    """The sets of /process/capabilities with `names` added to bounding, effective and permitted, and to ambient where inheritable holds
    them. Inheritable never grows (CVE-2022-29162)."""
    sets = {name: list(sets.get(name) or []) for name in SETS}
    for capability in names:
        wanted = ["bounding", "effective", "permitted"] + (["ambient"] if capability in sets["inheritable"] else [])
        for name in wanted:
            if capability not in sets[name]:
                sets[name].append(capability)
    return sets


def _mask(names, which, available, lost):
    mask = 0
    for name in names:
        number = caps.NUMBERS.get(name)
        if number is None or not available >> number & 1:
            lost[quote(name, 60)] = which
        else:
            mask |= 1 << number
    return mask


def _subset(entry, inner, outer):
    beyond = entry[inner] & ~entry[outer]
    if beyond:
        words = "capabilities %s are not all in %s: %s" % (inner, outer, " ".join(caps.names(beyond)))
        raise Refusal("capabilities-all", words, "%s/%s" % (KEY, inner), "add them to %s/%s, or take them out of %s" % (KEY, outer, inner))


def op_bound(entry, run):
    """("BOUND", mask, last): drops all but the mask from the bounding set."""
    return ("BOUND", entry["bounding"], entry["last"])


def op_caps(entry, run):
    """("CAPS", effective, permitted, inheritable, ambient), after the ids."""
    return ("CAPS", entry["effective"], entry["permitted"], entry["inheritable"], entry["ambient"])


def op_nnp(entry, run):
    """("NNP",) if asked for: it cannot be taken back, and execve then gains nothing."""
    return ("NNP",) if entry["nnp"] else None
