"""Deviations of well-known runtimes that were looked into: what the specification says, and what the runtime does.

Its one rule: an entry names case and requirements, so that nothing else is excused by it; a deviation that is not seen any more is
reported, so that the list does not outlive its reasons.
"""

import fnmatch


class Known:
    def __init__(self, runtime, versions, case, requirements, sentence, why):
        self.runtime = runtime
        self.versions = versions  # patterns of fnmatch
        self.case = case
        self.requirements = requirements.split()
        self.sentence = sentence
        self.why = why

    def about(self, runtime):
        return self.runtime == runtime.name and any(fnmatch.fnmatch(runtime.version, pattern) for pattern in self.versions.split())


TABLE = ()


def of(runtime, case):
    """{requirement: Known} for one case under one runtime."""
    found = {}
    for entry in TABLE:
        if fnmatch.fnmatch(case, entry.case) and entry.about(runtime):
            found.update(dict.fromkeys(entry.requirements, entry))
    return found


def outlived(results):
    """The entries whose requirements all passed in a case that was looked at."""
    found = []
    for result in results:
        for name, entry in of(result.runtime, result.case.id).items():
            if result.verdict_of(name) == "pass":
                found.append((result.runtime.label, result.case.id, name, entry))
    return found
