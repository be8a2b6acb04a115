"""What create would do with a bundle, as data: steps, plans, control files, problems and warnings; and how that differs for another bundle.
Changes nothing but the working directory.
"""

from __future__ import annotations

from pyrunc import store
from pyrunc.engine import cgroup_preview, examination, order, planner, prepare
from pyrunc.errors import PyruncError
from pyrunc.parts.table import PARTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Globals, Options
    from pyrunc.parts.plans import Plans
    from pyrunc.parts.sides import Json


SIDES = {"setup": "init", "enter": "init", "tail": "init"}
FORMS = ("brief", "readable", "public")  # each defaults to the next, and the last one to the entry itself
# Modules of parts/shown: the parts that say how their entries are shown.
SHOWN = (
    "capabilities", "cgroups", "devices", "hooks", "mempolicy", "mounts", "namespaces", "paths", "personality", "program", "resources",
    "rlimits", "scheduling", "seccomp", "sysctls", "user",
)  # fmt: skip


class Made:
    """A config, and what the parts plan for it."""

    def __init__(
        self,
        id: str,
        bundle: str,
        config: dict[str, Json],
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


def document(made: Made) -> dict[str, Json]:
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


def steps(plans: Plans) -> list[dict[str, Json]]:
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


def shown(part: str, entry: Json, form: str = "public") -> Json:
    """An entry in one of the forms of parts/shown: public, readable or brief."""
    if entry is None or part not in SHOWN:
        return entry
    view = planner.module("shown." + part)
    for name in FORMS[FORMS.index(form) :]:
        if hasattr(view, name):
            return getattr(view, name)(entry)
    return entry


# -- compared with another bundle ----------------------------------------------------------------------------------------


def compare(one: Made, other: Made) -> dict[str, list[dict[str, Json]]]:
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


def _movable(made: Made, part: str) -> Json:
    """A plan with paths relative to the bundle, so that two bundles don't differ only by their directories."""
    return _below(made.plans.get(part), made.bundle)


def _below(value: Json, bundle: str) -> Json:
    if isinstance(value, str):
        return "BUNDLE" + value[len(bundle) :] if value == bundle or value.startswith(bundle + "/") else value
    if isinstance(value, dict):
        return {k: _below(v, bundle) for k, v in value.items()}
    return [_below(v, bundle) for v in value] if isinstance(value, (list, tuple)) else value


def flat(value: Json, path: str = "") -> dict[str, Json]:
    """Nested data -> {path: scalar or empty}."""
    if isinstance(value, (dict, list)) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, item in items for k, v in flat(item, "%s/%s" % (path, key)).items()}
    return {path or "/": value}


def changes(before: dict[str, Json], after: dict[str, Json]) -> list[dict[str, Json]]:
    """The differences of two flat() results: [{"path", "before", "after"}], with None where there is no value."""
    paths = dict.fromkeys([*before, *after])
    return [{"path": p, "before": before.get(p), "after": after.get(p)} for p in paths if before.get(p) != after.get(p)]
