"""Cases: a case is a function that tests one thing, with the requirements that it checks, and what it needs from the machine.

Rule: a case is registered by its decorator and nowhere else; its id is `module.function`.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oci_conformance.shapes import Level
    from oci_conformance.trial import Trial

    CaseFunction = Callable[[Trial], object]  # the result is for the runner: see Found.extra


class Stop(Exception):
    """The case cannot continue; says what was expected and what was seen."""

    def __init__(self, what: str, expected: object = None, seen: object = None) -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.seen = seen


class Skip(Exception):
    """The machine or the runtime lacks something that only the case itself can detect."""


LEVELS = ("core", "linux", "full")  # each includes the previous ones
CASES: dict[str, Case] = {}


class Case:
    def __init__(
        self, id: str, function: CaseFunction, requirements: Sequence[str], level: Level, needs: Sequence[str], seconds: float
    ) -> None:
        self.id = id
        self.function = function
        self.requirements = requirements
        self.level = level
        self.needs = needs
        self.seconds = seconds

    @property
    def title(self) -> str:
        return " ".join((self.function.__doc__ or self.id).split())

    def in_level(self, level: Level) -> bool:
        return LEVELS.index(self.level) <= LEVELS.index(level)


def case(
    *requirements: str, level: Level = "linux", needs: str | Sequence[str] = (), seconds: float = 60
) -> Callable[[CaseFunction], CaseFunction]:
    """Registers a function as a case. `needs`: names of machine.Machine.lacks; `seconds`: the time limit."""

    def register(function: CaseFunction) -> CaseFunction:
        add(function.__module__.rpartition(".")[2] + "." + function.__name__, function, requirements, level, needs, seconds)
        return function

    return register


def add(
    id: str,
    function: CaseFunction,
    requirements: Sequence[str],
    level: Level = "linux",
    needs: str | Sequence[str] = (),
    seconds: float = 60,
) -> None:
    """The same for cases that are created in a loop."""
    if id in CASES:
        raise ValueError("there are two cases %s" % id)
    needs = (needs,) if isinstance(needs, str) else tuple(needs)
    CASES[id] = Case(id, function, tuple(requirements), level, needs, seconds)


def load() -> dict[str, Case]:
    """All cases by id, in the order of the modules' names and of their definition."""
    from oci_conformance import cases

    for module in sorted(info.name for info in pkgutil.iter_modules(cases.__path__)):
        importlib.import_module("oci_conformance.cases." + module)
    return CASES


def choose(level: Level = "full", texts: Sequence[str] = ()) -> list[Case]:
    """The cases of a level whose id, or one of whose requirements, contains one of the texts, if there are any."""

    def meant(case: Case) -> bool:
        return any(text in name for text in texts or ("",) for name in (case.id, *case.requirements))

    return [case for case in load().values() if case.in_level(level) and meant(case)]
