"""The outcome of a case under a runtime, and of a requirement over all cases.

Rule: verdicts are made here and nowhere else; reports only show them.
    pass     everything that was checked is as the specification says
    fail     something is not
    known    something is not, but deviations.py lists it for this runtime
    skip     not checked: the machine lacks something, or the runtime declares an older specification
    broken   the suite itself failed
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from oci_conformance.case import Case
    from oci_conformance.known import Known
    from oci_conformance.runtime import Runtime
    from oci_conformance.shapes import CallDict, Check, Config, Json, Left, Standing, Verdict


VERDICTS: tuple[Verdict, ...] = ("pass", "fail", "known", "skip", "broken")
MARKS = {"pass": "ok", "fail": "FAIL", "known": "known", "skip": "skip", "broken": "BROKEN", "none": "-"}


class Result:
    def __init__(
        self,
        runtime: Runtime,
        case: Case,
        verdict: Verdict,
        reason: str = "",
        checks: Sequence[Check] = (),
        seconds: float = 0.0,
        config: Config | str | None = None,
        calls: Sequence[CallDict] = (),
        left: Left | None = None,
        extra: Json = None,
        hung: bool = False,
    ) -> None:
        self.runtime = runtime
        self.case = case
        self.verdict = verdict
        self.reason = reason
        self.checks = list(checks)
        self.seconds = seconds
        self.config = config
        self.calls = list(calls)
        self.left = left or {}
        self.extra = extra
        self.hung = hung
        self.known: dict[str, Known] = {}  # {requirement: known.Known}
        self.unasked: set[str] = set()  # requirements that the specification of the runtime does not contain yet

    @property
    def failed_checks(self) -> list[Check]:
        return [check for check in self.checks if not check["ok"]]

    def failed_requirements(self) -> list[str]:
        """Those of the case's requirements that a failed check refers to; a check that names none refers to all that were not checked."""
        failed, looked = set(), set()
        for check in self.checks:
            names = check["requirements"]
            looked |= set(names) if check["ok"] else set()
            failed |= set(names) if not check["ok"] else set()
        if any(not check["requirements"] for check in self.failed_checks) or (self.verdict == "fail" and not failed):
            failed |= set(self.case.requirements) - looked
            failed = failed or set(self.case.requirements)
        return [name for name in self.case.requirements if name in failed and name not in self.unasked]

    def verdict_of(self, requirement: str) -> Verdict:
        if requirement in self.unasked and self.verdict != "broken":
            return "skip"
        if self.verdict in ("skip", "broken"):
            return self.verdict
        if self.verdict == "pass" or requirement not in self.failed_requirements():
            return "pass"
        return "known" if requirement in self.known else "fail"

    def judge(self, known: Mapping[str, Known], unasked: Iterable[str]) -> None:
        """Applies the requirements that do not concern the runtime, and its known deviations {requirement: Known}."""
        self.unasked = set(unasked) & set(self.case.requirements)
        if self.verdict != "fail":
            return
        failed = self.failed_requirements()
        self.known = {name: known[name] for name in failed if name in known}
        if not failed:
            self.verdict = "skip"
            self.reason = "required by a newer specification than the runtime declares"
        elif len(self.known) == len(failed):
            self.verdict = "known"

    def words(self) -> str:
        """One line: the reason why it is not a pass."""
        if self.failed_checks:
            check = self.failed_checks[0]
            line = brief(check["what"], 400)
            if check["expected"] is not None:
                line += ": expected %s" % brief(check["expected"])
            if check["seen"] is not None:
                line += ", seen %s" % brief(check["seen"])
            return line
        return (self.reason.strip().splitlines() or [""])[-1]

    def as_dict(self) -> dict[str, Json]:
        found = {
            "runtime": self.runtime.label,
            "case": self.case.id,
            "title": self.case.title,
            "level": self.case.level,
            "requirements": {name: self.verdict_of(name) for name in self.case.requirements},
            "verdict": self.verdict,
            "reason": self.reason,
            "seconds": round(self.seconds, 3),
            "checks": self.checks,
        }
        if self.verdict in ("fail", "known", "broken"):
            found.update(config=self.config, calls=self.calls, left=self.left)
            found["known"] = {name: {"sentence": known.sentence, "why": known.why} for name, known in self.known.items()}
        return found


def brief(value: object, limit: int = 160) -> str:
    """One line of printable characters: output of a runtime must not reach the terminal unfiltered."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def of_requirement(results: Sequence[Result], requirement: str) -> Standing:
    """The verdict for a requirement over the results of one runtime: the worst one."""
    verdicts = [result.verdict_of(requirement) for result in results if requirement in result.case.requirements]
    order: tuple[Verdict, ...] = ("fail", "broken", "known", "pass", "skip")
    for verdict in order:
        if verdict in verdicts:
            return verdict
    return "none"
