"""explain CODE|POINTER|PROPERTY [BUNDLE]: shows what an error code means, or what a property does on this host: system calls and files, the
steps of the timetable, the section of the specification, and with a bundle its planned value. Changes nothing."""

from __future__ import annotations

from pyrunc import codes, fileio, jsonio, render
from pyrunc.commands import choice
from pyrunc.errors import PyruncError, UsageError, quote
from pyrunc.oci import deviations, glossary, pointers, problem_words
from pyrunc.oci.nearest import nearest
from pyrunc.parts.table import PARTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cmdline import Options
    from pyrunc.commands.shapes import Json, Output
    from pyrunc.render import Paint


def main(options: Options, args: list[str]) -> int:
    style = choice.format_of(options, "explain", "text", "json")
    row = code_of(args[0])
    if row is None:
        found = about_property(pointer_of(args[0]), args[1] if len(args) > 1 else None, options)
    else:
        found = about_code(row)
    text = jsonio.dumps(found, indent=2) + "\n" if style == "json" else _text(found)
    fileio.write_all(1, text.encode("utf-8", "backslashreplace"))
    return 1 if found.get("problems") else 0


# -- what is meant -------------------------------------------------------------------------------------------------------


def code_of(word: str) -> codes.Row | None:
    """The row of a code (PYR-2130 or 2130) or of its name; None if there is no such code."""
    wanted = codes.PREFIX + word.upper().removeprefix(codes.PREFIX)
    return next((row for row in codes.rows() if row["code"] == wanted or row["name"] == word), None)


def pointer_of(word: str) -> str:
    """The pointer of a property that is given by pointer or name. UsageError with suggestions."""
    name = word if word.startswith("/") else "/" + word.replace(".", "/")
    if word not in ("", "/") and glossary.canonical(name) is not None:
        return name
    known = glossary.all_pointers()
    if not word.startswith("/"):
        found = glossary.by_name(word)
        exact = [p for p in found if not p.replace("/*", "").rpartition("/")[0].strip("/").count("/")] if len(found) > 1 else found
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(
                "unknown-topic",
                "%s names several properties" % quote(word),
                "explain",
                None,
                "give one of: " + ", ".join((exact + found)[:6]),
            )
    close = nearest(word.upper(), [row["code"] for row in codes.rows()]) if word.upper().startswith("PYR") else []
    close = close or nearest_places(word, known)
    hint = (
        "did you mean %s?" % choice.listed(tuple(close))
        if close
        else "give a code (`pyrunc errors` lists them), a pointer such as /process/args, or a name"
    )
    raise UsageError("unknown-topic", "%s is neither a code nor a property of config.json" % quote(word), "explain", None, hint)


def nearest_places(word: str, known: list[str]) -> list[str]:
    """The pointers that resemble the word as a whole, or in their last one or two names."""
    word = word.strip("/").replace(".", "/")
    shapes: dict[str, str] = {}
    for place in known:
        plain = place.replace("/*", "").strip("/")
        if not place.endswith("*"):
            for count in (1, 2, 9):
                shapes.setdefault("/".join(plain.split("/")[-count:]), place)
    return list(dict.fromkeys(shapes[shape] for shape in nearest(word, shapes)))


# -- what is known -------------------------------------------------------------------------------------------------------


def about_code(row: codes.Row) -> Output:
    """The row, and the properties that the area's part owns."""
    number = int(row["code"][len(codes.PREFIX) :])
    names = {n: name for name, (n, *_rest) in codes.AREAS.items()}
    area = None if str(number // 1000) in codes.WITHOUT_AREA else names.get(number // 10 % 100)
    keys = next((list(keys) for part, _always, keys, _needs in PARTS if part == area), [])
    return {
        **row,
        "area": area,
        "properties": keys,
        "others": [r["code"] for r in codes.rows() if r["code"][:7] == row["code"][:7] and r != row],
    }


def about_property(pointer: str, bundle: str | None, options: Options) -> Output:
    known = glossary.canonical(pointer)
    assert known is not None  # checked by pointer_of
    place, rule = known
    what, calls = glossary.words(place)
    owner = codes.owner(pointer)
    files = glossary.files(place)
    found = {
        "pointer": pointer, "property": place, "what": what, "type": problem_words.expected(rule), "owner": owner,
        "section": glossary.section(place), "calls": [call for call in calls.split(", ") if call],
        "files": None if files is None else {"v1": files[0] or None, "v2": files[1] or None},
        "steps": steps_of(owner), "here": here(place), "remedy": codes.AREAS[owner][2] if owner else None,
        "deviations": [row for row in deviations.document() if about(row["where"], place)],
    }  # fmt: skip
    if bundle is not None:
        found.update(planned(pointer, owner, bundle, options))
    return found


def steps_of(owner: str | None) -> list[dict[str, str]]:
    """The rows of the timetables in which the owner acts."""
    from pyrunc.engine import order

    tables = (("create", order.CREATE), ("start", order.START), ("exec", order.EXEC), ("delete", order.DELETE), ("restore", order.RESTORE))
    return [
        {"command": command, "phase": phase, "step": "%s.%s" % (part, verb), "why": why}
        for command, table in tables
        for phase, part, verb, why in table
        if part == owner
    ]


def here(place: str) -> list[dict[str, str]]:
    """What doctor knows about the property on this host: [{"what", "state", "seen", "remedy"}], with the cgroup version for limits."""
    from pyrunc.cgroup import hierarchies
    from pyrunc.commands import doctor

    found = []
    if glossary.files(place) is not None:
        version = hierarchies.layout().version
        used = "none" if version is None else "version 2" if version == 2 else "version 1"
        found.append({"what": "control files", "state": "ok" if version else "missing", "seen": used, "remedy": ""})
    for what, state, seen, affects, remedy in doctor.quick():
        if any(_covers(word.strip(",:;"), place) for word in affects.split() if word.startswith("/")):
            found.append({"what": what, "state": state, "seen": seen, "remedy": "" if state == doctor.GOOD else remedy})
    return found


def _covers(one: str, other: str) -> bool:
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")


def about(where: str, place: str) -> bool:
    """Whether a row of the table of deviations is about this property in particular."""
    return where.startswith("/") and where not in ("/", "/*", "/linux") and _covers(where.partition(" ")[0], place)


def planned(pointer: str, owner: str | None, bundle: str, options: Options) -> Output:
    """{"value", "planned", "written", "problems", "warnings"} of a bundle."""
    from pyrunc.engine import cgroup_preview, preview

    try:
        made = preview.make({"bundle": bundle, "globals": options["globals"]}, "explain")
    except PyruncError as e:
        return {"value": None, "planned": None, "written": [], "problems": [e.record()], "warnings": []}
    return {
        "value": pointers.get(made.config, pointer),
        "planned": _narrowed(pointer, preview.shown(owner or "", made.plans.get(owner or ""))),
        "written": [row for row in cgroup_preview.files(made.plans) if row["pointer"] and _covers(row["pointer"], pointer)],
        "problems": [p.record() for p in made.problems if p.pointer and _covers(p.pointer, pointer)],
        "warnings": [{"pointer": p, "words": words} for p, words in made.warnings if _covers(p, pointer)],
    }


NEUTRAL = {"blockIO": "blkio", "hugepageLimits": "hugetlb"}


def _narrowed(pointer: str, entry: Json) -> Json:
    """The requested limit from the plan of all limits."""
    steps = pointers.split(pointer)
    if steps[:2] != ["linux", "resources"] or len(steps) < 3 or entry is None:
        return entry
    return entry.get(NEUTRAL.get(steps[2], steps[2]))


# -- for people ----------------------------------------------------------------------------------------------------------


def _text(found: Output) -> str:
    paint = render.Paint()
    lines = _code_lines(found, paint) if "code" in found else _property_lines(found, paint)
    return "\n".join(lines) + "\n"


def _field(paint: Paint, name: str, text: str) -> str:
    lines = render.wrapped(text, render.width(1), " " * 12, " " * 12)
    return "\n".join(["  %s %s" % (paint(name.ljust(9), "cyan"), lines[0][12:]), *lines[1:]])


def _code_lines(found: Output, paint: Paint) -> list[str]:
    lines = ["%s %s (%s)" % (paint(found["code"], "bold"), found["name"], found["kind"])]
    lines += [_field(paint, "means", found["meaning"]), _field(paint, "do", found["remedy"]), _field(paint, "exit", found["exit_status"])]
    if found["properties"]:
        lines.append(_field(paint, "about", ", ".join(found["properties"])))
    if found["others"]:
        lines.append(_field(paint, "see also", ", ".join(found["others"])))
    return lines


def _property_lines(found: Output, paint: Paint) -> list[str]:
    lines = [paint(quote(found["pointer"]), "bold"), _field(paint, "does", found["what"]), _field(paint, "value", found["type"])]
    lines.append(_field(paint, "spec", found["section"]))
    if found["calls"]:
        lines.append(_field(paint, "kernel", ", ".join(found["calls"])))
    if found["files"]:
        lines.append(_field(paint, "files", "v1: %s; v2: %s" % (found["files"]["v1"] or "none", found["files"]["v2"] or "none")))
    lines += [_field(paint, "here", "%s: %s%s" % (r["what"], r["seen"], "; " + r["remedy"] if r["remedy"] else "")) for r in found["here"]]
    for step in found["steps"]:
        why = ": " + step["why"] if step["why"] else ""
        lines.append(_field(paint, "step", "%s, %s: %s%s" % (step["command"], step["phase"], paint(step["step"], "bold"), why)))
    for row in found["deviations"]:
        others = "".join("; %s: %s" % (name, row[name]) for name in ("runc", "crun") if row[name])
        lines.append(_field(paint, "differs", "%s: %s%s" % (row["where"], row["pyrunc"], others or "; as runc")))
    if found["remedy"]:
        lines.append(_field(paint, "if wrong", found["remedy"]))
    if "value" in found:
        lines += _planned_lines(found, paint)
    return lines


def _planned_lines(found: Output, paint: Paint) -> list[str]:
    columns = render.width(1)
    given = quote(jsonio.dumps(found["value"]), 400) if found["value"] is not None else "not given; the default applies"
    lines = [_field(paint, "given", render.cut(given, columns and columns - 12))]
    planned = render.outline(found["planned"], None, (columns or 122) - 12) if found["planned"] is not None else ()
    for index, text in enumerate(planned):
        lines.append(_field(paint, "" if index else "planned", render.cut(text, columns and columns - 12)))
    lines += [_field(paint, "writes", "%s to %s" % (quote(row["value"]), quote(row["file"]))) for row in found["written"]]
    lines += [_field(paint, "warning", quote(row["words"])) for row in found["warnings"]]
    for row in found["problems"]:
        lines.append(_field(paint, "refused", paint(quote(row["words"], 1000), "red")))
    return lines
