"""Runs each part's plan() in the order of parts/table.py and collects refusals and warnings. Changes nothing."""

from __future__ import annotations

import posix
import sys

from pyrunc import log, trace
from pyrunc.errors import Refusal, Unsupported
from pyrunc.parts.table import PARTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from types import ModuleType

    from pyrunc.engine.shapes import Entry, Option, Part, Result
    from pyrunc.errors import PyruncError
    from pyrunc.parts.plans import Plans
    from pyrunc.parts.sides import Json, Options


class Context:
    """What plan() may use. Created once per command, or by tests."""

    def __init__(self, id: str, bundle: str, config: Json, options: Mapping[str, Option], root: str = "/run/pyrunc") -> None:
        self.id = id
        self.bundle = bundle
        self.config = config
        self.options = {**DEFAULTS, **options}
        self.root = root
        self.plans: Plans = {}
        self.warnings: list[list[str]] = []
        self._notices: set[int] = set()  # positions in `warnings`
        self.euid = posix.geteuid()
        self._userns: bool | None = None

    @property
    def in_userns(self) -> bool:
        if self._userns is None:
            from pyrunc.store import in_user_namespace

            self._userns = in_user_namespace()
        return self._userns

    @property
    def probe(self) -> ModuleType:
        from pyrunc.linux import probe

        return probe

    def warn(self, pointer: str, text: str) -> None:
        """A warning about something unusual but harmless: shown by plan and validate, saved in the state, and logged with --debug."""
        self.warnings.append([pointer, text])

    def notice(self, pointer: str, text: str) -> None:
        """Something that the config asks for is left out: a warning that is written to the log without --debug, too (log.notice)."""
        self._notices.add(len(self.warnings))
        self.warn(pointer, text)

    def log_warnings(self) -> None:
        """Writes them to the log."""
        for position, warning in enumerate(self.warnings):
            (log.notice if position in self._notices else log.warn)("%s: %s" % tuple(warning))


DEFAULTS: Options = {
    "no_pivot": False, "no_new_keyring": False, "preserve_fds": 0, "console_socket": None, "detach": False, "systemd_cgroup": False,
    "cgroup_manager": "cgroupfs", "rootless": "auto", "listen_fds": 0, "inherited_fds": [], "notify_socket": None, "command": "create",
    "allow_annotation_paths": False, "seccomp_receiver": None, "systemd_timeout": None,
}  # fmt: skip


_MODULES = {row[0]: "pyrunc.parts." + row[0] for row in PARTS}  # joining and hashing the name takes longer than finding it


def module(part: str) -> Part:
    """The module of a part, imported on first use."""
    name = _MODULES.get(part) or "pyrunc.parts." + part
    found = sys.modules.get(name)
    if found is None:
        __import__(name)
        found = sys.modules[name]
    return found


def entry(plans: Plans, part: str) -> Entry:
    """The plan of a part by name, or None; the part declares its type."""
    return plans.get(part)


def ask(plans: Plans, part: str, name: str, *more: object, view: str = "") -> Result:
    """What a function of a part answers about its plan: name(entry, *more). None if it has no plan; the part is then not imported either.
    view: the package of parts/ whose module of the part has the function, with a dot: "criu.", "drift."."""
    entry: Entry = plans.get(part)
    return None if entry is None else getattr(module(view + part), name)(entry, *more)


# Like PARTS, with each pointer split: (part, always, ((pointer, pointer of its parent, key), …)).
_WANTED = tuple(
    (part, always, tuple((key, key.rpartition("/")[0], key.rpartition("/")[2]) for key in keys)) for part, always, keys, _needs in PARTS
)
# {pointer of a parent of a wanted value: its keys from the top of the config}
_HOLDERS = {holder: tuple(holder.split("/")[1:]) for _part, _always, wanted in _WANTED for _pointer, holder, _key in wanted}


def nodes(config: Json, only: Collection[str] | None = None) -> Iterator[tuple[str, dict[str, Json]]]:
    """Yields (part, node) for the parts that have something to plan; node is {pointer: value}."""
    holders: dict[str, dict[str, Json]] = {}
    for holder, keys in _HOLDERS.items():
        value: Json = config
        for key in keys:
            value = value.get(key) if type(value) is dict else None
        holders[holder] = value if type(value) is dict else {}
    chosen = None if only is None else frozenset(only)
    for part, always, wanted in _WANTED:
        if chosen is not None and part not in chosen:
            continue
        node = {}
        for pointer, holder, key in wanted:
            if key in holders[holder]:
                node[pointer] = holders[holder][key]
        if node or always:
            yield part, node


def plan(config: Json, ctx: Context, only: Collection[str] | None = None) -> Plans:
    """{part: entry}; raises the first Refusal or Unsupported."""
    plans: dict[str, Entry] = ctx.plans  # type: ignore[assignment]  # filled in by name
    for part, node in nodes(config, only):
        began = trace.now()
        made = module(part).plan(node, ctx)
        trace.step(part + ".plan", began)
        if made is not None:
            plans[part] = made
    return ctx.plans


def plan_all(config: Json, ctx: Context) -> tuple[Plans, list[PyruncError], list[list[str]]]:
    """(plans, problems, warnings): every refusal, not only the first. A part whose needs failed is not planned."""
    problems: list[PyruncError] = []
    failed: set[str] = set()
    plans: dict[str, Entry] = ctx.plans  # type: ignore[assignment]  # filled in by name
    needs = {row[0]: row[3] for row in PARTS}
    for part, node in nodes(config):
        if failed.intersection(needs[part]):
            failed.add(part)
            continue
        try:
            made = module(part).plan(node, ctx)
        except (Refusal, Unsupported) as e:
            problems.append(e)
            failed.add(part)
            continue
        if made is not None:
            plans[part] = made
    return ctx.plans, problems, ctx.warnings
