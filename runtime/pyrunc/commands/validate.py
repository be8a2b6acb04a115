"""validate [BUNDLE]: checks a config and reports every problem at once. Touches nothing; exit status 0 if there is none, else 1.

First the file as JSON, then the schema by jsonschema (oci/explain.py) on the normalised document, then, if that holds, what every
part's plan() has to say, which looks at this host. Where there is no Python with jsonschema, the schema's table is asked
(oci/validate.py), which agrees with it. `--schema-only` asks about the schema alone, the file as it is. `--strict` makes
problems of warnings and of keys that the specification does not know. `--as runc` or crun also says what that runtime would do in another
way, which is no problem. `--format json` is for machines; text shows the place.
"""

from __future__ import annotations

from pyrunc import fileio, helper_process, jsonio, render
from pyrunc.commands import choice
from pyrunc.errors import PyruncError, Refusal, Unsupported, UsageError, errno_text, quote
from pyrunc.oci import load, normalise, pointers, schema_table, validate, version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.cmdline import Options


RUNTIMES = ("runc", "crun")
PLACES = 100  # problems whose line is looked up: that reads the file once each


def main(options: Options, args: list[str]) -> int:
    style = choice.format_of(options, "validate", "text", "json")
    if "as" in options:
        choice.chosen(options["as"], RUNTIMES, "validate", "as", "bad-runtime", "invalid runtime: %s")
    if args and options.get("bundle"):
        raise UsageError("bundle-twice", "the bundle is given twice", "validate", "bundle")
    if args:
        options["bundle"] = args[0]
    report = Report()
    _examine(options, report)
    if options.get("strict"):
        report.promote()
    text = jsonio.dumps(report.document(), indent=2) + "\n" if style == "json" else report.text()
    fileio.write_all(1, text.encode("utf-8", "backslashreplace"))
    return 1 if report.problems else 0


class Report:
    """problems and warnings: {"kind": json|schema|plan|strict, "pointer", "line", "column", "words", "value", "hint"}."""

    def __init__(self) -> None:
        self.file = "config.json"
        self.source: str | None = None  # text of the file, once it is known to be good JSON
        self.problems: list[dict[str, Any]] = []
        self.warnings: list[dict[str, Any]] = []
        self.differences: list[dict[str, Any]] | None = None  # of --as: {"pointer", "line", "column", "pyrunc", "other"}
        self.other: str | None = None  # the other runtime

    def add(self, kind: str, pointer: str | None, words: str, value: Any = None, hint: str | None = None, warning: bool = False) -> None:
        found = {"kind": kind, "pointer": pointer, "line": None, "column": None, "words": words, "value": value, "hint": hint}
        if len(self.problems) + len(self.warnings) < PLACES:
            found["line"], found["column"] = self.place(pointer)
        (self.warnings if warning else self.problems).append(found)

    def place(self, pointer: str | None) -> tuple[int, int] | tuple[None, None]:
        """(line, column) or (None, None)."""
        if self.source is None or not pointer:
            return None, None
        from pyrunc import json_errors

        return json_errors.locate(self.source, pointer)

    def compare(self, config: dict[str, Any], other: str) -> None:
        """Notes what another runtime would do with a config that the schema allows."""
        from pyrunc.commands import deviation_checks

        self.other, self.differences = other, []
        for one in deviation_checks.differences(config, other):
            line, column = self.place(one["pointer"]) if len(self.differences) < PLACES else (None, None)
            self.differences.append({**one, "line": line, "column": column})

    def add_error(self, kind: str, e: PyruncError) -> None:
        self.add(kind, e.pointer, e.words, None, e.hint)

    def promote(self) -> None:
        """--strict: a warning is a problem."""
        self.problems += self.warnings
        self.warnings = []

    def document(self) -> dict[str, Any]:
        found = {"file": self.file, "valid": not self.problems, "problems": self.problems, "warnings": self.warnings}
        return found if self.other is None else {**found, "as": self.other, "differences": self.differences}

    def text(self) -> str:
        lines = []
        for found in sorted(self.problems, key=_order):
            lines += self.entry(found, "")
        for found in sorted(self.warnings, key=_order):
            lines += self.entry(found, "warning: ")
        for found in self.differences or ():
            words = "%s: %s; pyrunc: %s" % (self.other, found["other"], found["pyrunc"])
            lines += self.entry({**found, "words": words, "hint": None}, "differs: ")
        counts = "%s, %s" % (_count(len(self.problems), "problem"), _count(len(self.warnings), "warning"))
        lines.append("%s: %s" % (self.file, counts if self.problems or self.warnings else "valid"))
        if self.other is not None:
            lines.append("%s: %s" % (self.other, _count(len(self.differences or ()), "difference")))
        return "\n".join(lines) + "\n"

    def entry(self, found: dict[str, Any], head: str) -> list[str]:
        place = "" if found["line"] is None else "%d:%d: " % (found["line"], found["column"])
        pointer = "%s: " % quote(found["pointer"]) if found["pointer"] else ""
        lines = ["%s%s%s%s" % (head, place, pointer, quote(found["words"], 1000))]
        if found["line"] is not None:
            lines += ["    " + text for text in render.place(self.source or "", found["line"], found["column"])]
        if found["hint"]:
            lines.append("    hint: %s" % found["hint"])
        return lines


def _order(found: dict[str, Any]) -> tuple[int, int]:
    return found["line"] or 0, found["column"] or 0


def _count(number: int, word: str) -> str:
    return "%s %s%s" % (number or "no", word, "" if number == 1 else "s")


def _examine(options: Options, report: Report) -> None:
    from pyrunc.engine import prepare

    prepare.caller_paths(options)
    bundle = prepare.bundle_of(options)
    path = options.get("config") or "config.json"
    report.file = path
    try:
        config, raw = load.config(bundle, path)
    except Refusal as e:
        report.add_error("json", e)
        return
    report.source = raw.decode()
    if options.get("schema_only"):
        for found in helper_process.call("schema", {"document": config, "what": "config"}):
            report.add("schema", found["pointer"], found["words"], found["value"])
        return
    _foreign(config, report)
    try:
        config = normalise.config(config)
    except Refusal as e:
        report.add_error("schema", e)
        return
    if options.get("strict"):
        _strict(config, report)
    for found in _schema(config):
        report.add("schema", found["pointer"], found["words"], found["value"])
    if not any(p["kind"] == "schema" for p in report.problems):
        if options.get("as"):
            report.compare(config, options["as"])
        _plan(options, bundle, config, report)
    elif options.get("as"):
        report.add("schema", None, "%s was not compared: the document is not valid" % options["as"], warning=True)


def _schema(config: dict[str, Any]) -> list[dict[str, Any]]:
    """What jsonschema says; without it the fast validator, which agrees but for its order."""
    try:
        return helper_process.call("schema", {"document": config, "what": "config"})
    except Unsupported:
        return [{"pointer": p, "words": w, "value": None} for p, w, *_ in validate.check(config, "config", all=True)]


def _foreign(config: dict[str, Any], report: Report) -> None:
    """Sections of other platforms: they have no effect here, so neither have mistakes in them."""
    for name in schema_table.FOREIGN:
        if name in config:
            report.add("schema", "/" + name, "ignored: it is for another platform than Linux", warning=True)


def _strict(config: dict[str, Any], report: Report) -> None:
    for pointer in pointers.unknown(config, schema_table.ROOTS["config"]):
        report.add("strict", pointer, "the specification knows no such property")
    text = config.get("ociVersion")
    if isinstance(text, str) and version.parse(text) and not version.semver(text):
        report.add("strict", "/ociVersion", '"%s" is not of the form MAJOR.MINOR.PATCH' % quote(text))


def _plan(options: Options, bundle: str, config: dict[str, Any], report: Report) -> None:
    """What the parts refuse or find odd; this depends on the host."""
    from pyrunc import store
    from pyrunc.engine import planner, prepare

    top = options["globals"]
    asked = {
        "command": "plan",
        **prepare.from_globals(top),
    }
    try:
        root = store.root_of(top)
    except PyruncError:
        root = "/run/pyrunc"  # only a name in the plans; nothing is made
    ctx = planner.Context("validate", bundle, config, asked, root)
    try:
        _plans, problems, warnings = planner.plan_all(config, ctx)
    except OSError as e:
        report.add("plan", None, "this host can't be looked at: %s" % errno_text(e.errno))
        return
    for problem in problems:
        report.add_error("plan", problem)
    for pointer, words in warnings:
        report.add("plan", pointer, words, warning=True)
