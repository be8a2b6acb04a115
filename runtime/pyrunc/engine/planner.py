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


class _Modules(dict[str, "Part"]):
    """{part: its module}, imported on first use."""

    def __missing__(self, part: str) -> Part:
        name = "pyrunc.parts." + part
        __import__(name)
        self[part] = sys.modules[name]
        return self[part]


module = _Modules().__getitem__  # the module of a part by its name


def entry(plans: Plans, part: str) -> Entry:
    """The plan of a part by name, or None; the part declares its type."""
    return plans.get(part)


def ask(plans: Plans, part: str, name: str, *more: object, view: str = "") -> Result:
    """The result of a function of a part for its plan: name(entry, *more). None if it has no plan; the part is then not imported either.
    view: the package of parts/ whose module of the part has the function, with a dot: "criu.", "drift."."""
    entry: Entry = plans.get(part)
    return None if entry is None else getattr(module(view + part), name)(entry, *more)


def _owners() -> dict[str, dict[str, tuple[str, str]]]:
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for part, _always, pointers, _needs in PARTS:
        for pointer in pointers:
            holder, _, key = pointer.rpartition("/")
            found.setdefault(holder, {})[key] = part, pointer
    return found


# ((keys from the top of the config, {key: (part, pointer)}), …) for the objects with values that a part owns: a config has a fifth of what is
# in the table.
_HOLDERS = tuple((tuple(holder.split("/")[1:]), owners) for holder, owners in _owners().items())


def nodes(config: Json, only: Collection[str] | None = None) -> Iterator[tuple[str, dict[str, Json]]]:
    """Yields (part, node) for the parts that have something to plan; node is {pointer: value}."""
    found: dict[str, dict[str, Json]] = {}
    for keys, owners in _HOLDERS:
        holder: Json = config
        for key in keys:
            holder = holder.get(key) if type(holder) is dict else None
        if type(holder) is not dict:
            continue
        for key, value in holder.items():
            if key in owners:
                part, pointer = owners[key]
                found.setdefault(part, {})[pointer] = value
    chosen = None if only is None else frozenset(only)
    for part, always, _pointers, _needs in PARTS:
        if chosen is not None and part not in chosen:
            continue
        if part in found or always:
            yield part, found.get(part, {})


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
