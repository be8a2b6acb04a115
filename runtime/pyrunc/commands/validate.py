"""validate [BUNDLE|FILE]: checks a config and reports all problems at once. Changes nothing. The exit status is 1 if there are problems.

It checks the syntax of the file, the names and values against the JSON schema, and what each part of pyrunc would refuse, on this host too. A
problem does not hide the others: what is wrong is reported and left out, and the rest is checked. Problems that only this host causes, names that
the specification does not know and odd values are warnings; --strict treats them as problems. --schema-only checks only the schema, on the file
as it is. --as runc or --as crun also shows what that runtime would do differently. At a terminal the output has excerpts of the file.
"""

from __future__ import annotations

from pyrunc import fileio, helper_process, jsonio, render
from pyrunc.commands import choice
from pyrunc.errors import PyruncError, Refusal, Unsupported, UsageError, errno_text, quote
from pyrunc.oci import load, schema_table, validate, version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrunc.cmdline import Options
    from pyrunc.commands.shapes import Document, Json, Output
    from pyrunc.engine import planner

RUNTIMES = ("runc", "crun")
PLACES = 100  # problems whose line is looked up: each look-up reads the whole file


def main(options: Options, args: list[str]) -> int:
    style = choice.format_of(options, "validate", "text", "json")
    if "as" in options:
        choice.chosen(options["as"], RUNTIMES, "validate", "as", "bad-runtime", "invalid runtime: %s")
    if args and options.get("bundle"):
        raise UsageError("bundle-twice", "the bundle is given twice", "validate", "bundle")
    if args:
        _given(options, args[0])
    report = Report()
    _examine(options, report)
    if options.get("strict"):
        report.promote()
    text = jsonio.dumps(report.document(), indent=2) + "\n" if style == "json" else report.text(render.width(1))
    fileio.write_all(1, text.encode("utf-8", "backslashreplace"))
    return 1 if report.problems else 0


def _given(options: Options, path: str) -> None:
    """A positional is a bundle, or the config of one."""
    import posix

    try:
        is_file = fileio.is_regular(posix.stat(path).st_mode)
    except (OSError, ValueError) as e:
        text = errno_text(e.errno) if isinstance(e, OSError) else "the path has a NUL byte"
        hint = "give a bundle, or the config of one"
        raise UsageError("bundle", "%s: %s" % (quote(path), text), "validate", "bundle", hint) from None
    if not is_file:
        options["bundle"] = path
        return
    if options.get("config"):
        raise UsageError("config-twice", "the config is given twice", "validate", "config")
    folder, _slash, name = path.rpartition("/")
    options["bundle"] = folder or ("/" if path[:1] == "/" else ".")
    if name != "config.json":
        options["config"] = path


class Report:
    """problems and warnings: {"kind": json|schema|plan|strict, "pointer", "line", "column", "words", "value", "hint"}."""

    def __init__(self) -> None:
        self.file = "config.json"
        self.source: str | None = None  # text of the file, with what is not JSON replaced by something of the same length
        self.original: str | None = None  # text of the file
        self.problems: list[Output] = []
        self.warnings: list[Output] = []
        self.differences: list[Output] | None = None  # of --as: {"pointer", "line", "column", "pyrunc", "other"}
        self.other: str | None = None  # the other runtime

    def add(
        self,
        kind: str,
        pointer: str | None,
        words: str,
        value: Json = None,
        hint: str | None = None,
        warning: bool = False,
        place: tuple[int, int] | None = None,
    ) -> None:
        found = {"kind": kind, "pointer": pointer, "line": None, "column": None, "words": words, "value": value, "hint": hint}
        if place is not None:
            found["line"], found["column"] = place
        elif len(self.problems) + len(self.warnings) < PLACES:
            found["line"], found["column"] = self.place(pointer)
        (self.warnings if warning else self.problems).append(found)

    def place(self, pointer: str | None) -> tuple[int, int] | tuple[None, None]:
        """(line, column) or (None, None)."""
        if self.source is None or not pointer:
            return None, None
        from pyrunc import json_errors

        return json_errors.locate(self.source, pointer)

    def compare(self, config: Document, other: str) -> None:
        """Notes what another runtime would do with a config that the schema allows."""
        from pyrunc.commands import deviation_checks

        self.other, self.differences = other, []
        for one in deviation_checks.differences(config, other):
            line, column = self.place(one["pointer"]) if len(self.differences) < PLACES else (None, None)
            self.differences.append({**one, "line": line, "column": column})

    def add_error(self, kind: str, e: PyruncError) -> None:
        words = e.words
        if e.place is not None:  # the place has separate fields
            words = words.removeprefix("%s: line %d, column %d: " % (quote(self.file), *e.place))
        self.add(kind, e.pointer, words, None, e.hint, place=e.place)

    def promote(self) -> None:
        """--strict: a warning is a problem."""
        self.problems += self.warnings
        self.warnings = []

    def document(self) -> Output:
        found = {"file": self.file, "valid": not self.problems, "problems": self.problems, "warnings": self.warnings}
        return found if self.other is None else {**found, "as": self.other, "differences": self.differences}

    def text(self, columns: int | None) -> str:
        lines = []
        for found in sorted(self.problems, key=_order):
            lines += self.entry(found, "", columns)
        for found in sorted(self.warnings, key=_order):
            lines += self.entry(found, "warning: ", columns)
        for found in self.differences or ():
            words = "%s: %s; pyrunc: %s" % (self.other, found["other"], found["pyrunc"])
            lines += self.entry({**found, "words": words, "hint": None}, "differs: ", columns)
        counts = "%s, %s" % (_count(len(self.problems), "problem"), _count(len(self.warnings), "warning"))
        lines.append("%s: %s" % (self.file, counts if self.problems or self.warnings else "valid"))
        if self.other is not None:
            lines.append("%s: %s" % (self.other, _count(len(self.differences or ()), "difference")))
        return "\n".join(lines) + "\n"

    def entry(self, found: Output, head: str, columns: int | None) -> list[str]:
        place = "" if found["line"] is None else "%d:%d: " % (found["line"], found["column"])
        pointer = "%s: " % quote(found["pointer"]) if found["pointer"] else ""
        lines = render.wrapped("%s%s%s%s" % (head, place, pointer, quote(found["words"], 1000)), columns, "", "  ")
        if found["line"] is not None and self.original is not None:
            width = (columns or render.WIDTH + 6) - 6
            lines += ["    " + text for text in render.place(self.original, found["line"], found["column"], columns=width)]
        if found["hint"]:
            lines += render.wrapped("hint: %s" % found["hint"], columns, "    ", "    ")
        return lines


def _order(found: Output) -> tuple[int, int]:
    return found["line"] or 1 << 60, found["column"] or 0  # problems without a place concern the whole document: last


def _count(number: int, word: str) -> str:
    return "%s %s%s" % (number or "no", word, "" if number == 1 else "s")


def _examine(options: Options, report: Report) -> None:
    from pyrunc.engine import examination, prepare

    prepare.caller_paths(options)
    bundle = prepare.bundle_of(options)
    path = options.get("config") or "config.json"
    report.file = path
    config = _document(bundle, path, report)
    if config is None:
        return
    if options.get("schema_only"):
        for found in helper_process.call("schema", {"document": config, "what": "config"}):
            report.add("schema", found["pointer"], found["words"], found["value"])
        return
    for name in schema_table.FOREIGN:
        if name in config:
            report.add("schema", "/" + name, "ignored: it is for another platform than Linux", warning=True)
    found = examination.Examination(config, _is_stand_in)
    found.spelling()
    found.normalised()
    if options.get("strict"):
        _version(config, report)
    problems = _schema(config)
    valid = not problems and not found.problems
    found.schema(problems)
    if options.get("as") and valid:
        report.compare(config, options["as"])
    elif options.get("as"):
        report.add("schema", None, "%s was not compared: the document is not valid" % options["as"], warning=True)
    found.plans(_contexts(options, bundle))
    values = {one["pointer"]: one["value"] for one in problems}
    for kind, pointer, words, hint in found.problems:
        report.add(kind, pointer, words, values.get(pointer or "") if kind == "schema" else None, hint)
    for kind, pointer, words, hint in found.warnings:
        report.add(kind, pointer, words, None, hint, warning=True)


def _document(bundle: str, path: str, report: Report) -> Document | None:
    """The document, read in spite of mistakes that have an obvious correction; None if it can't be read."""
    try:
        raw = load.raw(bundle, path)
    except Refusal as e:
        report.add_error("json", e)
        return None
    text = raw.decode("utf-8", "surrogateescape")
    report.original = text
    try:
        config: Document = load.parse(raw, quote(path))
        report.source = text
        return config
    except Refusal as e:
        first = e
    from pyrunc import json_errors

    corrected, problems = json_errors.corrected(text, quote(path), jsonio.DEPTH, jsonio.DIGITS)
    for problem in problems or [first]:
        report.add_error("json", problem)
    try:
        config = load.parse(corrected.encode(), quote(path))
    except (Refusal, UnicodeEncodeError) as e:
        if isinstance(e, Refusal) and (e.place is None or e.place not in [found.place for found in problems]):
            report.add_error("json", e)
        report.add("json", None, "nothing else was checked: the document can't be read", warning=True)
        return None
    report.source = corrected
    return config


def _is_stand_in(key: str) -> bool:
    """Whether a key was put in by json_errors.corrected()."""
    return "\ue000" <= key[:1] <= "\uf8ff"


def _schema(config: Document) -> list[Output]:
    """The problems that jsonschema finds, or without it the fast validator, which finds the same ones."""
    try:
        found: list[Output] = helper_process.call("schema", {"document": config, "what": "config"})
        return found
    except Unsupported:
        return [{"pointer": p, "words": w, "value": value} for p, w, value, *_ in validate.check(config, "config", all=True)]


def _version(config: Document, report: Report) -> None:
    text = config.get("ociVersion")
    if isinstance(text, str) and version.parse(text) and not version.semver(text):
        report.add("strict", "/ociVersion", '"%s" is not of the form MAJOR.MINOR.PATCH' % quote(text))


def _contexts(options: Options, bundle: str) -> Callable[[Document], planner.Context]:
    """Returns a function that creates the Context of plan() for a config."""
    from pyrunc.engine import planner, prepare, preview

    asked = {"command": "plan", **prepare.from_globals(options["globals"])}
    root = preview.state_root(options["globals"])
    return lambda config: planner.Context("validate", bundle, config, asked, root)
