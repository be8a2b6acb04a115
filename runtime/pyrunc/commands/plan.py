"""plan [ID]: shows what create would do, without doing it. --diff OTHER shows how that changes with another bundle or config. Values of environment
variables are left out, so that a plan can be shared.

The exit status is 1 if create would refuse the config; with --diff 0 for no difference, 1 for differences, 2 if one of the two can't be planned.
"""

from __future__ import annotations

from pyrunc import fileio, jsonio, render, store
from pyrunc.commands import choice
from pyrunc.engine import cgroup_preview, examination, order, planner, prepare
from pyrunc.errors import PyruncError, Refusal, UsageError, errno_text, quote
from pyrunc.linux import caps
from pyrunc.parts.table import PARTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pyrunc.cmdline import Globals, Options
    from pyrunc.parts.plans import Plans
    from pyrunc.render import Paint


HIDDEN = "…"
SETS = ("bounding", "effective", "permitted", "inheritable", "ambient")
LINES = 4  # of a value in the folded form
SIDES = {"setup": "init", "enter": "init", "tail": "init"}


class Made:
    """A config, and what the parts plan for it."""

    def __init__(
        self,
        id: str,
        bundle: str,
        config: dict[str, Any],
        plans: Plans,
        problems: list[PyruncError],
        warnings: list[list[str]],
    ) -> None:
        self.id = id
        self.bundle = bundle
        self.config = config
        self.plans = plans
        self.problems = problems
        self.warnings = warnings


def main(options: Options, args: list[str]) -> int:
    formats = ("json", "text") if options.get("json") else ("text", "json")
    style = "text" if options.get("format") == "tree" else choice.format_of(options, "plan", *formats)  # the name of earlier versions
    id = store.check_id(args[0] if args else "plan")
    if "diff" in options:
        return _diff(options, id, style)
    made = make(options, id)
    if style == "json":
        text = jsonio.dumps(document(made), indent=2) + "\n"
    else:
        text = human(made, render.Paint(), options.get("full", False))
    fileio.write_all(1, text.encode("utf-8", "backslashreplace"))
    return 1 if made.problems else 0


def make(options: Options, id: str) -> Made:
    """The plans of the bundle and config that the options name; changes to the bundle's directory. PyruncError if there is no valid config."""
    prepare.caller_paths(options)
    bundle = prepare.bundle_of(options)
    config = prepare.read_config(options, bundle)
    top = options["globals"]
    asked = {
        "command": "plan", "detach": False, "no_pivot": options.get("no_pivot", False),
        **prepare.from_globals(top),
    }  # fmt: skip
    ctx = planner.Context(id, bundle, config, asked, state_root(top))
    plans, problems, warnings = planner.plan_all(config, ctx)
    warnings += [list(found) for found in examination.unknown_names(config)]
    return Made(id, bundle, config, plans, problems, warnings)


def state_root(top: Globals) -> str:
    """The state root for a plan, where nothing is created."""
    try:
        return store.root_of(top)
    except PyruncError:
        return "/run/pyrunc"  # only a path in the plans; nothing is created


def document(made: Made) -> dict[str, Any]:
    """{"id","bundle","steps":[{"phase","side","part","verb","pointers","why"}],"plans","files","problems","warnings"}."""
    return {
        "id": made.id,
        "bundle": made.bundle,
        "steps": steps(made.plans),
        "plans": {part: shown(part, entry) for part, entry in made.plans.items()},
        "files": cgroup_preview.files(made.plans),
        "problems": [p.record() for p in made.problems],
        "warnings": [{"pointer": pointer, "words": text} for pointer, text in made.warnings],
    }


def steps(plans: Plans) -> list[dict[str, Any]]:
    """The rows of the timetable that would be executed, in order."""
    keys = {row[0]: row[2] for row in PARTS}
    found = []
    for phase, part, verb, why in order.CREATE:
        if phase == "listener" or (part != "engine" and plans.get(part) is None):
            continue
        found.append(
            {"phase": phase, "side": SIDES.get(phase, "host"), "part": part, "verb": verb, "pointers": list(keys.get(part, ())), "why": why}
        )
    return found


def shown(part: str, entry: Any) -> Any:
    """A plan without the values of environment variables, because plans are pasted into bug reports, and with the names of capabilities."""
    if part == "program" and isinstance(entry, dict) and "env" in entry:
        return {**entry, "env": _hidden(entry["env"])}
    if part == "hooks" and isinstance(entry, dict):
        return {kind: [{**hook, "env": _hidden(hook.get("env"))} for hook in hooks] for kind, hooks in entry.items()}
    if part == "capabilities" and isinstance(entry, dict):
        return {key: caps.names(value) if key in SETS else value for key, value in entry.items()}
    return entry


def _hidden(env: list[str] | None) -> list[str] | None:
    return env if env is None else [str(x).partition("=")[0] + "=" + HIDDEN for x in env]


# -- for people ----------------------------------------------------------------------------------------------------------


def human(made: Made, paint: Paint, full: bool = False) -> str:
    """The phases, what is planned for each property, the control files, warnings and problems. full: each step with its reason, and every
    member of the plans; else the plans without what is empty or false, one line for each member."""
    columns = render.width(1)
    lines = ["plan of %s from %s" % (paint(made.id, "bold"), quote(made.bundle)), ""]
    lines += _steps(made, paint, columns) if full else _phases(made, paint, columns)
    keys = {row[0]: row[2] for row in PARTS}
    lines += ["", paint("properties", "bold")]
    for part, entry in made.plans.items():
        value = named(shown(part, entry))
        value = value if full else brief(without_empty(value))
        items = value.items() if isinstance(value, dict) else [("", value)] if value else []
        leaves = [line for key, one in items for line in outline(one, key or None, columns or 110)]
        if leaves:
            lines += [paint(text, "cyan") for text in render.wrapped(", ".join(keys[part]) or "(%s)" % part, columns, "  ", "  ")]
            lines += [text for leaf in leaves for text in _hanging(leaf, columns, full)]
    files = cgroup_preview.files(made.plans)
    if files:
        lines += ["", paint("control files", "bold")]
        lines += [render.cut("  %s = %s" % (quote(r["file"]), quote(r["value"])), None if full else columns) for r in files]
    lines += [""] if made.warnings or made.problems else []
    for pointer, text in made.warnings:
        found = render.wrapped("%s: %s" % (pointer, quote(text, 1000)), columns, "warning: ", "    ")
        lines += [paint("warning", "yellow") + found[0][7:], *found[1:]]
    for problem in made.problems:
        found = render.wrapped(quote(problem.sentence(), 1000), columns, "refused: ", "    ")
        lines += [paint("refused", "red", "bold") + found[0][7:], *found[1:]]
    return "\n".join(lines) + "\n"


def _phases(made: Made, paint: Paint, columns: int | None) -> list[str]:
    """A line for each phase: where it runs, and the properties that it is about."""
    found: dict[tuple[str, str], list[str]] = {}
    for step in steps(made.plans):
        found.setdefault((step["phase"], step["side"]), []).extend(step["pointers"][:1] or ["(%s)" % step["part"]])
    lines = []
    for (phase, side), pointers in found.items():
        text = "%s: %s" % (_count(len(pointers), "step"), ", ".join(dict.fromkeys(pointers)))
        rows = render.wrapped(text, columns, "%-8s %-4s  " % (phase, side), " " * 15)
        lines += [paint(phase.ljust(8), "bold") + rows[0][8:], *rows[1:]]
    return [*lines, "(--full shows each step with its reason)"]


def _steps(made: Made, paint: Paint, columns: int | None) -> list[str]:
    """A line for each step, under its phase."""
    lines, last = [], None
    for number, step in enumerate(steps(made.plans), 1):
        if step["phase"] != last:
            last = step["phase"]
            lines.append("%s (%s)" % (paint(step["phase"], "bold"), step["side"]))
        name = "%s.%s" % (step["part"], step["verb"])
        rows = render.wrapped(step["why"], columns, "%5d  %-26s " % (number, name), " " * 34)
        lines += [rows[0][:7] + paint(rows[0][7:33], "cyan") + rows[0][33:], *rows[1:]]
    return [line.rstrip() for line in lines]


def _count(number: int, word: str) -> str:
    return "%d %s%s" % (number, word, "" if number == 1 else "s")


def _hanging(text: str, columns: int | None, full: bool) -> list[str]:
    """A line of outline(), below its property: wrapped, or cut to one line."""
    own = len(text) - len(text.lstrip(" "))
    rows = render.wrapped(text.lstrip(" "), columns, " " * (own + 4), " " * (own + 8))
    if not full:
        rows = [*rows[: LINES - 1], rows[LINES - 1] + " …"] if len(rows) > LINES else rows
        rows = [render.cut(row, columns) for row in rows]
    return rows


def brief(value: Any) -> Any:
    """Plain data with one short text for a device, a rule, a mount's data and the like: for people who read the folded form."""
    if isinstance(value, (list, tuple)):
        return [brief(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {key: brief(one) for key, one in value.items()}
    for key, form in BRIEF.items():
        rows = value.get(key)
        if isinstance(rows, (list, tuple)) and rows:
            try:
                found[key] = [form(row) for row in rows]
            except (AttributeError, KeyError, IndexError, TypeError, ValueError):  # of another part, with other rows
                continue
            if key in JOINED:
                found[key] = ", ".join(found[key])
    if "manager" in found:
        found.pop("mounts", None)  # where the hierarchies are mounted: the paths show it
    return found


def _item(row: Any) -> str:
    """A sysctl, a limit, or a mount: destination, type and source, flags and data, and what else there is."""
    if isinstance(row, (list, tuple)):
        if len(row) == 3:
            return "%s = %s" % (row[0], row[2])
        name, _number, soft, hard, _index = row
        return "%s soft %d hard %d" % (name, soft, hard)
    words = [*row.get("flags", ()), *(str(one[0]) for one in row.get("data", ()))]
    words += ["%s=%s" % (key, jsonio.dumps(value)) for key, value in row.items() if key not in MOUNT]
    return "%s %s from %s%s" % (row["destination"], row["type"], row["source"], " (%s)" % ",".join(words) if words else "")


def _number(value: int) -> str:
    return "*" if value < 0 else str(value)


def _rule(row: Any) -> str:
    """A rule of the device cgroup, as the kernel writes it."""
    allow, kind, major, minor, access = row
    return "%s %s %s:%s %s" % ("allow" if allow else "deny", kind, _number(major), _number(minor), access)


BRIEF: dict[str, Callable[[Any], str]] = {
    "devices": _rule,
    "nodes": lambda row: "%(path)s %(type)s %(major)d:%(minor)d mode %(mode)s owner %(uid)d:%(gid)d" % row,
    "list": _item,
    **dict.fromkeys(SETS, str),
    "links": lambda row: "%s -> %s" % (row[0], row[1]),
    "data": lambda row: str(row[0]),
    "masked": lambda row: str(row[0]),
    "readonly": lambda row: str(row[0]),
}
JOINED = ("links", "masked", "readonly", *SETS)
MOUNT = ("destination", "type", "source", "flags", "data", "kind", "pointer")


def without_empty(value: Any) -> Any:
    """Plain data without members that are false, null or empty."""
    if isinstance(value, dict):
        found = {k: without_empty(v) for k, v in value.items() if k != "pointers"}
        return {k: v for k, v in found.items() if v or v == 0 and v is not False}
    return [without_empty(v) for v in value] if isinstance(value, (list, tuple)) else value


def named(value: Any) -> Any:
    """Plain data with names instead of bits, and modes in octal: for people."""
    if isinstance(value, (list, tuple)):
        return [named(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {key: named(one) for key, one in value.items()}
    for key in ("flags", "clear", "propagation"):
        bits = value.get(key)
        if "destination" in value and bits is not None:
            total = 0
            for one in bits if isinstance(bits, list) else [bits]:
                total |= one  # several may share MS_REC
            found[key] = bit_names(total, "MS_")
    if type(value.get("flags")) is int and "new" in value:
        found["flags"] = bit_names(value["flags"], "CLONE_NEW")
    found.update((key, bit_names(value[key], "MOUNT_ATTR_")) for key in ("rec_set", "rec_clr") if type(value.get(key)) is int)
    found.update((key, "0%o" % value[key]) for key in ("mode", "umask") if type(value.get(key)) is int)
    return found


def bit_names(bits: int, prefix: str) -> list[str]:
    """The names of the bits that are set, without the prefix and in lower case; what has no name as a number."""
    from pyrunc.linux import constants

    found = []
    for name, bit in vars(constants).items():
        if name.startswith(prefix) and type(bit) is int and bit and not bit & (bit - 1) and bits & bit:
            found.append(name[len(prefix) :].lower())
            bits &= ~bit
    return [*found, *(["%#x" % bits] if bits else [])]


def outline(value: Any, name: str | None = None, columns: int = 110) -> list[str]:
    """Plain data as indented lines; values that fit `columns` stay on one line. An item of a list is called by its pointer, if it has one."""
    head = "" if name is None else name + ": "
    text = jsonio.dumps(value)
    if len(text) + len(head) <= columns or not isinstance(value, (dict, list)) or not value:
        return [head + quote(text, 400)]
    items: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    else:
        for number, one in enumerate(value):
            pointer = one.get("pointer") if isinstance(one, dict) else None
            items.append((pointer, {k: v for k, v in one.items() if k != "pointer"}) if pointer else (str(number), one))
    lines = [] if name is None else [name + ":"]
    pad = "" if name is None else "  "
    for key, item in items:
        lines += [pad + line for line in outline(item, key, columns - len(pad))]
    return lines


# -- plan --diff ---------------------------------------------------------------------------------------------------------


def _diff(options: Options, id: str, style: str) -> int:
    """Exit status 0 for no difference, 1 for differences; errors have 2."""
    try:
        one, other = _both(options, id)
    except PyruncError as e:
        e.exit_status = 2
        raise
    found = compare(one, other)
    same = not any(found.values())
    if style == "json":
        text = jsonio.dumps({"bundle": one.bundle, "other": quote(options["diff"]), "same": same, **found}, indent=2) + "\n"
    else:
        text = _diff_text(found, render.Paint())
    fileio.write_all(1, text.encode("utf-8", "backslashreplace"))
    return 0 if same else 1


def _both(options: Options, id: str) -> tuple[Made, Made]:
    """The plans of the bundle and of OTHER, which is a bundle, or another config for the same bundle."""
    import posix

    if "\0" in options["diff"]:
        raise UsageError("nul-in-path", "--diff has a NUL byte", "plan", "diff")
    path = store.absolute(options["diff"])
    home = store.absolute(options.get("bundle") or ".")
    try:
        is_bundle = fileio.is_directory(posix.stat(path).st_mode)
    except OSError as e:
        raise UsageError(
            "not-readable", "cannot open %s: %s" % (quote(path), errno_text(e.errno)), "plan", "diff", "give a bundle or a config"
        ) from None
    one = make({**options, "bundle": home}, id)
    theirs: Options = {**options, "bundle": path if is_bundle else home, "config": path}
    if is_bundle:
        del theirs["config"]
    other = make(theirs, id)
    for made, where in ((one, home), (other, path)):
        if made.problems:
            first = made.problems[0]
            raise Refusal("not-plannable", "%s can't be planned: %s" % (quote(where), first.words), first.pointer, first.hint)
    return one, other


def compare(one: Made, other: Made) -> dict[str, list[dict[str, Any]]]:
    """{"steps": [{"change": "added" or "removed", "phase", "step"}], "values": [{"part", "path", "before", "after"}], "files": [the same by
    the file's name]}"""
    names = [[(s["phase"], "%s.%s" % (s["part"], s["verb"])) for s in steps(made.plans)] for made in (one, other)]
    changed = [{"change": "removed", "phase": phase, "step": name} for phase, name in names[0] if (phase, name) not in names[1]]
    changed += [{"change": "added", "phase": phase, "step": name} for phase, name in names[1] if (phase, name) not in names[0]]
    values = []
    for part in dict.fromkeys([*one.plans, *other.plans]):
        before, after = (flat(shown(part, _movable(made, part))) for made in (one, other))
        values += [{"part": part, **row} for row in changes(before, after)]
    files = [{(r["file"].rpartition("/")[2], r["pointer"]): r["value"] for r in cgroup_preview.files(made.plans)} for made in (one, other)]
    lines = [{"file": key[0], "before": files[0].get(key), "after": files[1].get(key)} for key in dict.fromkeys([*files[0], *files[1]])]
    return {"steps": changed, "values": values, "files": [row for row in lines if row["before"] != row["after"]]}


def _movable(made: Made, part: str) -> Any:
    """A plan with paths relative to the bundle, so that two bundles don't differ only by their directories."""
    return _below(made.plans.get(part), made.bundle)


def _below(value: Any, bundle: str) -> Any:
    if isinstance(value, str):
        return "BUNDLE" + value[len(bundle) :] if value == bundle or value.startswith(bundle + "/") else value
    if isinstance(value, dict):
        return {k: _below(v, bundle) for k, v in value.items()}
    return [_below(v, bundle) for v in value] if isinstance(value, (list, tuple)) else value


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Nested data -> {path: scalar or empty}."""
    if isinstance(value, (dict, list)) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, item in items for k, v in flat(item, "%s/%s" % (path, key)).items()}
    return {path or "/": value}


def changes(before: dict[str, Any], after: dict[str, Any]) -> list[dict[str, Any]]:
    """The differences of two flat() results: [{"path", "before", "after"}], with None where there is no value."""
    paths = dict.fromkeys([*before, *after])
    return [{"path": p, "before": before.get(p), "after": after.get(p)} for p in paths if before.get(p) != after.get(p)]


def _diff_text(found: dict[str, list[dict[str, Any]]], paint: Paint) -> str:
    """Below the properties and files that differ: - what is planned, + what is planned with OTHER, as in `diff`."""
    keys = {row[0]: ", ".join(row[2]) or "(%s)" % row[0] for row in PARTS}
    columns = render.width(1)
    lines = []

    def changed(sign: str, text: str) -> None:
        lines.append(paint(render.cut("    %s %s" % (sign, text), columns), "green" if sign == "+" else "red"))

    last = None
    for row in found["values"]:
        if row["part"] != last:
            last = row["part"]
            lines.extend(paint(text, "cyan") for text in render.wrapped(keys[last], columns, "  ", "  "))
        for sign, value in (("-", row["before"]), ("+", row["after"])):
            if value is not None:
                changed(sign, "%s: %s" % (quote(row["path"].lstrip("/") or "/", 400), quote(jsonio.dumps(value), 400)))
    lines[:0] = [paint("properties", "bold")] if lines else []
    if found["files"]:
        lines.append(paint("control files", "bold"))
    for row in found["files"]:
        for sign, value in (("-", row["before"]), ("+", row["after"])):
            if value is not None:
                changed(sign, "%s = %s" % (quote(row["file"]), quote(str(value), 400)))
    if found["steps"]:
        lines.append(paint("steps", "bold"))
    for row in found["steps"]:
        changed("+" if row["change"] == "added" else "-", "%-8s %s" % (row["phase"], row["step"]))
    if not lines and columns:
        lines.append("no differences")
    return "".join(line + "\n" for line in lines)
