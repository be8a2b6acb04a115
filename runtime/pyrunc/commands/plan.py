"""plan [ID]: what create would do, as a table or JSON. Touches nothing; values of the environment are left out."""

from pyrunc import lean, store
from pyrunc.engine import order, planner, prepare
from pyrunc.errors import quote

HIDDEN = "…"


def main(options, args):
    prepare.caller_paths(options)
    bundle = prepare.bundle_of(options)
    config = prepare.read_config(options, bundle)
    top = options["globals"]
    asked = {
        "command": "plan", "detach": False, "no_pivot": options.get("no_pivot", False),
        **prepare.from_globals(top),
    }  # fmt: skip
    id = store.check_id(args[0] if args else "plan")
    ctx = planner.Context(id, bundle, config, asked, store.root_of(top))
    plans, problems, warnings = planner.plan_all(config, ctx)
    if options.get("json"):
        text = lean.dumps(document(id, bundle, plans, problems, warnings), indent=2) + "\n"
    else:
        text = human(id, bundle, plans, problems, warnings)
    lean.write_all(1, text.encode("utf-8", "backslashreplace"))
    return 1 if problems else 0


def document(id, bundle, plans, problems, warnings):
    """{"id","bundle","steps":[{"phase","side","part","verb","why","pointers","entry"}],"problems","warnings"}."""
    return {
        "id": id,
        "bundle": bundle,
        "steps": steps(plans),
        "plans": {part: shown(part, entry) for part, entry in plans.items()},
        "problems": [p.record() for p in problems],
        "warnings": [{"pointer": pointer, "words": text} for pointer, text in warnings],
    }


def steps(plans):
    """The rows of the timetable that would be walked, in order."""
    keys = {row[0]: row[2] for row in planner.PARTS}
    sides = {"setup": "init", "enter": "init", "tail": "init"}
    found = []
    for phase, part, verb, why in order.CREATE:
        if phase == "listener" or (part != "engine" and plans.get(part) is None):
            continue
        found.append(
            {"phase": phase, "side": sides.get(phase, "host"), "part": part, "verb": verb, "pointers": list(keys.get(part, ())), "why": why}
        )
    return found


def shown(part, entry):
    """An entry without the values of the environment: a plan is pasted into bug reports."""
    if part == "program" and isinstance(entry, dict) and "env" in entry:
        return {**entry, "env": [str(x).partition("=")[0] + "=" + HIDDEN for x in entry["env"]]}
    return entry


def human(id, bundle, plans, problems, warnings):
    lines = ["plan of %s from %s" % (id, quote(bundle)), ""]
    phase = None
    for number, step in enumerate(steps(plans), 1):
        if step["phase"] != phase:
            phase = step["phase"]
            lines.append("%s (%s)" % (phase, step["side"]))
        name = "%s.%s" % (step["part"], step["verb"])
        lines.append(("  %3d  %-32s %s" % (number, name, step["why"])).rstrip())
    lines.append("")
    lines.append("properties")
    for part, entry in plans.items():
        lines.append("  %s" % part)
        lines += ["      " + line for line in outline(shown(part, entry))]
    for pointer, text in warnings:
        lines.append("warning: %s: %s" % (pointer, quote(text)))
    for problem in problems:
        lines.append("refused: %s" % quote(problem.sentence(), 1000))
    return "\n".join(lines) + "\n"


def outline(value, name=None):
    """Plain data as indented lines; short things stay on one line."""
    head = "" if name is None else name + ": "
    text = lean.dumps(value)
    if len(text) + len(head) <= 110 or not isinstance(value, (dict, list)) or not value:
        return [head + quote(text, 400)]
    items = value.items() if isinstance(value, dict) else ((str(i), v) for i, v in enumerate(value))
    lines = [] if name is None else [name + ":"]
    pad = "" if name is None else "  "
    for key, item in items:
        lines += [pad + line for line in outline(item, key)]
    return lines
