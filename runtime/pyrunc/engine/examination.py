"""Finds everything that is wrong with a config, for `validate`: a mistake must not hide the others.

Create stops at the first problem. Here the offending value is reported and removed from the document, and the check continues with the rest:
first names in the wrong case, then the schema, then each part's plan(), then what a part can find out about this host without changing
anything (`check(entry, ctx, call_helper)`). What a part that accepted the whole document reports about an incomplete one is ignored: it would
be a consequence, not a mistake.
"""

from __future__ import annotations

from pyrunc import helper_process
from pyrunc.engine import planner
from pyrunc.engine.steps import FIRST_KEY
from pyrunc.errors import PyruncError, Refusal, Unsupported, errno_text, quote
from pyrunc.oci import normalise, pointers, schema_table, validate
from pyrunc.oci.nearest import question
from pyrunc.parts.table import PARTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyrunc.engine.planner import Context
    from pyrunc.engine.shapes import Entry
    from pyrunc.oci.schema_table import Rule
    from pyrunc.parts.sides import Json

    Path = tuple[str | int, ...]

ROUNDS = 200  # of one examination; nobody reads more problems than that
# Replacements for invalid values of required properties.
NEEDED = {"/ociVersion": "1.0.0", "/process/cwd": "/", "/process/args": ["sh"]}


class Examination:
    """problems, warnings: [(kind, pointer or None, words, hint)], with pointers into the original document.

    kind: schema, plan, or strict for names that the specification does not know. ignored(key): whether the user did not write this
    key."""

    def __init__(self, config: dict[str, Json], ignored: Callable[[str], bool]) -> None:
        self.config = config
        self.ignored = ignored
        self.problems: list[tuple[str, str | None, str, str | None]] = []
        self.warnings: list[tuple[str, str | None, str, str | None]] = []
        self.removed: list[str] = []  # pointers in the original document
        self._indices: dict[int, list[int]] = {}  # for lists from which elements were removed: id -> original indices
        self._names: dict[int, dict[str, str]] = {}  # for objects with a key in the wrong case: id -> {right name: original name}

    # -- documents

    def spelling(self) -> None:
        """Names in the wrong case are problems, but are treated as the right ones; names that resemble a known one are warnings."""
        pending: list[tuple[Path, Json, Rule]] = [((), self.config, schema_table.ROOTS["config"])]
        while pending:
            path, node, rule = pending.pop()
            if rule[0] == "a" and type(node) is list:
                pending += [((*path, i), value, rule[1]) for i, value in enumerate(node)]
            if rule[0] != "o" or type(node) is not dict:
                continue
            for key in list(node):
                known = rule[2].get(key) or rule[3]
                if known is None and rule[2] and not self.ignored(key):
                    known, key = self._unknown(node, key, rule[2], path)
                if known is not None:
                    pending.append(((*path, key), node[key], known))

    def _unknown(self, node: dict[str, Json], key: str, names: dict[str, Rule], path: Path) -> tuple[Rule | None, str]:
        """A name that the schema does not have here -> (rule, name) of the property that is meant; (None, its name) if there is none."""
        pointer = self.written(path) + pointers.join(key)
        right = next((name for name in names if name.casefold() == key.casefold()), None)
        if right is None:
            hint = question(key, names) or None
            self.warnings.append(("strict", pointer, "the specification has no property %s here; it has no effect" % quote(key), hint))
            return None, key
        self.problems.append(("schema", pointer, "unknown property %s" % quote(key), 'did you mean "%s"? Case matters' % right))
        if right in node:
            del node[key]
            return None, key
        node[right] = node.pop(key)
        self._names.setdefault(id(node), {})[right] = key
        return names[right], right

    def normalised(self) -> None:
        """Normalises the document, and removes what can't be normalised."""
        for _ in range(ROUNDS):
            try:
                normalise.config(self.config)
                return
            except Refusal as e:
                self._add("schema", e)
                if not self._take(e.pointer):
                    return

    def schema(self, found: list[dict[str, Json]]) -> None:
        """Adds the problems that the schema finds, and removes the invalid values."""
        for one in found:
            self.problems.append(("schema", self.original(one["pointer"]), one["words"], None))
        self._valid()

    def _valid(self) -> None:
        for _ in range(ROUNDS):
            problems = validate.check(self.config, "config")
            if not problems or not self._take(problems[0][0]):
                return

    # -- plans

    def plans(self, context: Callable[[dict[str, Json]], Context]) -> None:
        """Adds the refusals and warnings of each part, and what it finds out about this host. context(config) creates a Context."""
        asked: set[str] | None = None
        for _ in range(ROUNDS):
            ctx = context(self.config)
            failed = self._plan(ctx, asked)
            self._warn(ctx.warnings)
            if not any([self._take(e.pointer, climb=False) for e in failed.values()]):
                break
            self._valid()
            asked = set(failed) | _needing(set(failed)) if asked is None else asked
        left = _needing(set(failed)) - set(failed)
        if left:
            words = "not checked, because of other problems: %s" % ", ".join(
                sorted({FIRST_KEY[part] for part in left if part in FIRST_KEY})
            )
            self.warnings.append(("plan", None, words, None))
        for part, entry in list(ctx.plans.items()):
            self._check(part, entry, ctx)

    def _plan(self, ctx: Context, asked: set[str] | None) -> dict[str, PyruncError]:
        """{part: its refusal}. asked: the parts whose refusals are new; None: all."""
        failed: dict[str, PyruncError] = {}
        for part, node in planner.nodes(self.config):
            if part in _needing(set(failed)):
                continue
            try:
                entry = planner.module(part).plan(node, ctx)
            except (Refusal, Unsupported) as e:
                failed[part] = e
                if (asked is None or part in asked) and not self._is_consequence(e.pointer):
                    self._add("plan", e)
                continue
            except OSError as e:
                self.warnings.append(("plan", None, "%s: this host can't be examined: %s" % (part, errno_text(e.errno)), None))
                continue
            if entry is not None:
                ctx.plans[part] = entry  # type: ignore[literal-required]  # by name
        return failed

    def _check(self, part: str, entry: Entry, ctx: Context) -> None:
        check = getattr(planner.module(part), "check", None)
        if check is None:
            return
        try:
            for error in check(entry, ctx, helper_process.call):
                self._add("plan", error, warning=isinstance(error, Unsupported))
        except OSError as e:
            self.warnings.append(("plan", None, "%s: this host can't be examined: %s" % (part, errno_text(e.errno)), None))

    # -- places

    def original(self, pointer: str | None) -> str | None:
        """A pointer into the current document -> one into the original document."""
        if not pointer or pointer == "/":
            return pointer
        return self.written(tuple(pointers.split(pointer)))

    def written(self, path: Path) -> str:
        node: Json = self.config
        found: list[str | int] = []
        for step in path:
            if type(node) is list and str(step).isdecimal() and int(step) < len(node):
                found.append(self._indices.get(id(node), range(len(node)))[int(step)])
                node = node[int(step)]
                continue
            found.append(self._names.get(id(node), {}).get(str(step), step))
            node = node.get(step) if type(node) is dict else None
        return pointers.join(*found)

    def _is_consequence(self, pointer: str | None) -> bool:
        """Whether a place contains, or is within, something that was removed."""
        here = self.original(pointer)
        return here is not None and any(one == here or one.startswith(here + "/") or here.startswith(one + "/") for one in self.removed)

    def _take(self, pointer: str | None, climb: bool = True) -> bool:
        """Removes the value at a pointer from the document; with `climb`, the nearest enclosing value if there is none. False if nothing
        was removed."""
        steps = pointers.split(pointer) if pointer else []
        while steps:
            here = pointers.join(*steps)
            written = self.written(tuple(steps))
            step = steps.pop()
            parent: Json = pointers.get(self.config, pointers.join(*steps)) if steps else self.config
            if type(parent) is dict and here in NEEDED and parent.get(step) != NEEDED[here]:
                parent[step] = NEEDED[here]
            elif type(parent) is dict and step in parent and here not in NEEDED:
                del parent[step]
            elif type(parent) is list and step.isdecimal() and int(step) < len(parent):
                indices = self._indices.setdefault(id(parent), list(range(len(parent))))
                del parent[int(step)], indices[int(step)]
            elif climb:
                continue
            else:
                return False
            self.removed.append(written)
            return True
        return False

    # -- results

    def _add(self, kind: str, e: PyruncError, warning: bool = False) -> None:
        found = (kind, self.original(e.pointer), e.words, e.hint)
        where = self.warnings if warning else self.problems
        if found not in where:
            where.append(found)

    def _warn(self, warnings: list[list[str]]) -> None:
        for pointer, words in warnings:
            found = ("plan", self.original(pointer), words, None)
            if found not in self.warnings and not self._is_consequence(pointer):
                self.warnings.append(found)


def unknown_names(config: dict[str, Json]) -> Iterator[tuple[str, str]]:
    """(pointer, words) for each name that the schema does not have, with the most similar one that it has."""
    found = Examination(config, lambda _key: False)
    found.spelling()
    for _kind, pointer, words, hint in found.warnings:
        yield pointer or "", "%s; %s" % (words, hint) if hint else words


def _needing(parts: set[str]) -> set[str]:
    """The parts whose plans depend on one of `parts`."""
    found: set[str] = set()
    for part, _always, _keys, needs in PARTS:
        if (parts | found).intersection(needs):
            found.add(part)
    return found
