"""update [options] ID: other limits for a container that exists; all or none of them. Device rules stay as they are.

`--resources FILE` takes /linux/resources as JSON and makes the other options unheard, as with runc. What is not mentioned keeps its
value: quota and period, limit and swap are completed from what was set before.
"""

from pyrunc import lean
from pyrunc.engine import lifecycle, planner, status
from pyrunc.engine.prepare import refusal
from pyrunc.errors import CALLER_TEXT, StateError, UsageError, quote
from pyrunc.oci import load, normalise, validate
from pyrunc.store import absolute, open_state

UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
# option: (group of /linux/resources, key, how it is read)
OPTIONS = {
    "blkio_weight": ("blockIO", "weight", int), "cpu_period": ("cpu", "period", int), "cpu_quota": ("cpu", "quota", int),
    "cpu_burst": ("cpu", "burst", int), "cpu_share": ("cpu", "shares", int), "cpu_rt_period": ("cpu", "realtimePeriod", int),
    "cpu_rt_runtime": ("cpu", "realtimeRuntime", int), "cpu_idle": ("cpu", "idle", int), "cpuset_cpus": ("cpu", "cpus", str),
    "cpuset_mems": ("cpu", "mems", str), "memory": ("memory", "limit", "size"), "memory_reservation": ("memory", "reservation", "size"),
    "memory_swap": ("memory", "swap", "size"), "pids_limit": ("pids", "limit", int),
}  # fmt: skip


def size(text, option):
    """'100m', '1g', '-1' → bytes. UsageError for anything else; a number with a fraction is none."""
    digits = text[1:] if text[:1] == "-" else text
    number = digits.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = digits[len(number) :].lower().removesuffix("ib").removesuffix("b") if digits[len(number) :].lower() != "b" else "b"
    if not number.isascii() or not number.isdigit() or len(number) > 20 or unit not in UNITS or (text[:1] == "-" and text != "-1"):
        raise UsageError("invalid value for %s: %s" % (option.replace("_", "-"), quote(text)), "update", option, "sizes look like 512, 100m, 1g; -1 is no limit")
    return int(number) * UNITS[unit] * (-1 if text[:1] == "-" else 1)


def integer(text, option):
    digits = text[1:] if text[:1] == "-" else text
    if not digits.isascii() or not digits.isdigit() or len(digits) > 20:
        raise UsageError("invalid value for %s: %s" % (option.replace("_", "-"), quote(text)), "update", option, "want a number")
    return int(text)


def wanted(options):
    """The resources object that the command line asks for, normalised and valid. Refusal, UsageError."""
    if options.get("resources"):
        path = options["resources"]
        doc, _raw = load.stream(0, "standard input") if path == "-" else load.file(path)
    else:
        doc = {}
        for option, (group, key, kind) in OPTIONS.items():
            text = options.get(option)
            if text:
                doc.setdefault(group, {})[key] = text if kind is str else size(text, option) if kind == "size" else integer(text, option)
    doc.pop("devices", None)  # callers send "deny all" along with every update
    doc = normalise.resources(doc)
    problems = validate.check(doc, "resources")
    if problems:
        pointer, words, value = problems[0]
        raise refusal(("/linux/resources" + (pointer if pointer != "/" else ""), words, value))
    return doc


def main(options, args):
    if options.get("resources") not in (None, "-"):
        options["resources"] = absolute(options["resources"])
    doc = wanted(options)
    box = open_state(options, args[0])
    box.lock("update").load()
    try:
        now = status.of(box)
        if now not in ("created", "running", "paused"):
            raise StateError(CALLER_TEXT["not-running"], box.id, now)
        _update(box, options, doc)
    finally:
        box.unlock()
    return 0


def _update(box, options, doc):
    run = lifecycle.run_of(box, options)
    plans = run.plans
    ctx = planner.Context(box.id, run.bundle, {"linux": {"resources": doc}}, {"command": "update"}, run.root)
    ctx.plans.update({part: entry for part, entry in plans.items() if part != "resources"})
    new = planner.module("resources").plan({"/linux/resources": doc}, ctx)
    if new is not None:
        plans["resources"] = planner.module("resources").update(new, plans.get("resources") or {}, run)
    if options.get("l3_cache_schema") or options.get("mem_bw_schema"):
        entry = plans.get("rdt")
        if entry is None:
            raise UsageError("updating a non-existent Intel RDT configuration is not supported", "update", "l3-cache-schema")
        plans["rdt"] = planner.module("rdt").update(entry, options.get("l3_cache_schema"), options.get("mem_bw_schema"), run)
    box.write("plan.json", lean.dumps(plans).encode("utf-8", "surrogateescape"))
