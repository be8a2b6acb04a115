"""update [options] ID: changes the limits of a container; either all of them are changed, or none.

--resources FILE takes /linux/resources as JSON. As with runc, the other options for limits are then ignored, and its device rules are never
applied, because engines send "deny all" with every update. Limits that are not given keep their value: quota and period, limit and swap are
completed from the current ones. --device-add, --device-remove and --rlimit change devices and rlimits of a running container.
"""

from __future__ import annotations

import sys

from pyrunc import log, seal
from pyrunc.engine import status, update
from pyrunc.engine.prepare import refusal
from pyrunc.errors import CALLER_TEXT, StateError, UsageError, quote
from pyrunc.oci import load, normalise, validate
from pyrunc.store import absolute, open_state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.commands.shapes import Document


UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
# option: (group of /linux/resources, key, how it is read)
OPTIONS = {
    "blkio_weight": ("blockIO", "weight", int), "cpu_period": ("cpu", "period", int), "cpu_quota": ("cpu", "quota", int),
    "cpu_burst": ("cpu", "burst", int), "cpu_share": ("cpu", "shares", int), "cpu_rt_period": ("cpu", "realtimePeriod", int),
    "cpu_rt_runtime": ("cpu", "realtimeRuntime", int), "cpu_idle": ("cpu", "idle", int), "cpuset_cpus": ("cpu", "cpus", str),
    "cpuset_mems": ("cpu", "mems", str), "memory": ("memory", "limit", "size"), "memory_reservation": ("memory", "reservation", "size"),
    "memory_swap": ("memory", "swap", "size"), "pids_limit": ("pids", "limit", int),
}  # fmt: skip


def size(text: str, option: str) -> int:
    """'100m', '1g', '1.5 GiB', '-1' -> bytes, as runc's options (docker's go-units) read them. UsageError."""
    if text == "-1":
        return -1
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = text[len(number) :].lower()
    unit = unit if unit == "b" else unit.removesuffix("ib").removesuffix("b")
    number = number.removesuffix(" ")
    whole, point, fraction = number.partition(".")
    if not number.isascii() or not whole.isdigit() or (point and not fraction.isdigit()) or len(number) > 20 or unit not in UNITS:
        raise UsageError(
            "bad-value",
            "invalid value for %s: %s" % (option.replace("_", "-"), quote(text)),
            "update",
            option,
            "give a size such as 512, 100m or 1.5g; -1 means no limit",
        )
    return int(whole) * UNITS[unit] + int(int(fraction or 0) * UNITS[unit] // 10 ** len(fraction))


def integer(text: str, option: str) -> int:
    digits = text[1:] if text[:1] == "-" else text
    if not digits.isascii() or not digits.isdigit() or len(digits) > 20:
        raise UsageError(
            "bad-value", "invalid value for %s: %s" % (option.replace("_", "-"), quote(text)), "update", option, "give a number"
        )
    return int(text)


def wanted(options: Options) -> Document:
    """The resources object of the command line, normalised and checked. Refusal, UsageError."""
    if options.get("resources"):
        path = options["resources"]
        doc, _raw = load.stream(0, "standard input") if path == "-" else load.file(path)
    else:
        for option in ("kernel_memory", "kernel_memory_tcp"):
            if options.get(option):
                size(options[option], option)
                log.warn("--%s has no effect: the kernel no longer has such a limit" % option.replace("_", "-"))
        doc = {}
        for option, (group, key, kind) in OPTIONS.items():
            text = str(options.get(option) or "")
            if text:
                read = {"size": size, int: integer}.get(kind)
                doc.setdefault(group, {})[key] = text if read is None else read(text, option)
    doc.pop("devices", None)  # engines send "deny all" with every update
    checked: Document = normalise.resources(doc)
    problems = validate.check(checked, "resources")
    if problems:
        pointer, words, value, reason = problems[0]
        raise refusal(("/linux/resources" + (pointer if pointer != "/" else ""), words, value, reason))
    return checked


def device(text: str, option: str) -> Document:
    """'c 10:229 rwm /dev/fuse' -> {"type", "major"?, "minor"?, "access", "path"?}. `*` is any number. UsageError."""
    words = text.split(None, 3)
    hint = "for example: c 10:229 rwm /dev/fuse"
    numbers = words[1].split(":") if len(words) > 1 else ()
    if len(words) < 3 or words[0] not in ("a", "b", "c") or len(numbers) != 2 or not set(words[2]) <= set("rwm"):
        raise UsageError(
            "bad-value", "invalid value for %s: %s is not TYPE MAJOR:MINOR ACCESS [PATH]" % (option, quote(text)), "update", option, hint
        )
    found: Document = {"type": words[0], "access": words[2]}
    for name, number in zip(("major", "minor"), numbers, strict=True):
        if number == "*" and len(words) == 3:
            continue
        if not number.isascii() or not number.isdigit() or len(number) > 10 or int(number) >= 1 << 32:
            raise UsageError(
                "bad-value", "invalid value for %s: %s %s is not a number" % (option, name, quote(number)), "update", option, hint
            )
        found[name] = int(number)
    if len(words) == 4:
        if words[0] == "a":
            raise UsageError("bad-value", "invalid value for %s: a device node is c or b" % option, "update", option, hint)
        found["path"] = words[3]
    return found


def rlimit(text: str) -> Document:
    """'NOFILE=1024:4096', 'RLIMIT_CORE=unlimited' -> {"type", "soft", "hard"}. UsageError."""
    name, equals, value = text.partition("=")
    name = name.upper()
    soft, colon, hard = value.partition(":")
    limits = [_limit(word) for word in (soft, hard if colon else soft)]
    if not equals or None in limits:
        hint = "for example: NOFILE=1024:4096, or CORE=unlimited"
        raise UsageError("bad-value", "invalid value for rlimit: %s is not TYPE=SOFT[:HARD]" % quote(text), "update", "rlimit", hint)
    return {"type": name if name.startswith("RLIMIT_") else "RLIMIT_" + name, "soft": limits[0], "hard": limits[1]}


def _limit(word: str) -> int | None:
    if word in ("unlimited", "infinity", "-1"):
        return (1 << 64) - 1
    good = word.isascii() and word.isdigit() and len(word) <= 20 and int(word) < 1 << 64
    return int(word) if good else None


def main(options: Options, args: list[str]) -> int:
    adding, removing = options.get("device_add", []), options.get("device_remove", [])
    if any(len(text.split()) > 3 for text in adding + removing):
        seal.ensure(list(sys.argv))  # one of our processes enters the container to make the node
    if options.get("resources") not in (None, "", "-"):
        options["resources"] = absolute(options["resources"])
    doc = wanted(options)
    added = [device(text, "device-add") for text in adding]
    removed = [device(text, "device-remove") for text in removing]
    limits = [rlimit(text) for text in options.get("rlimit", ())]
    state_dir = open_state(options, args[0])
    state_dir.lock().load()
    try:
        now = status.of(state_dir)
        if now not in status.ALIVE:
            raise StateError("not-running", CALLER_TEXT["not-running"], state_dir.id, now)
        change = update.Change(state_dir, options)
        schemata = (options.get("l3_cache_schema"), options.get("mem_bw_schema"))
        if doc or not (any(schemata) or added or removed or limits):
            change.limits(doc)
        if any(schemata):
            change.rdt(*schemata)
        change.devices(added, removed)
        change.rlimits(limits)
        change.carry_out()
    finally:
        state_dir.unlock()
    return 0
