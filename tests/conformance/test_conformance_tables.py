"""The tables of the suite are consistent: requirements, cases, deviations, mutants. The suite does not depend on pyrunc's internals."""

import ast
import collections
import re

import pytest
from suite_tools import PACKAGE, ROOT, suite

from oci_conformance import SPECIFICATION, bundle, deviations, machine, mutants, requirements
from oci_conformance import case as cases
from oci_conformance.known import TABLE
from oci_conformance.requirements import numbers

REQUIREMENTS = requirements.load()
CASES = cases.load()


def test_every_case_names_observable_requirements():
    for case in CASES.values():
        assert case.requirements, case.id
        for name in case.requirements:
            assert name in REQUIREMENTS, (case.id, name)
            assert REQUIREMENTS[name].observable, "%s is about %s, which is said not to be observable" % (case.id, name)


def test_every_case_describes_its_subject():
    for case in CASES.values():
        assert case.function.__doc__ and case.title.endswith("."), case.id
        for need in case.needs:
            assert need in machine.NEEDS or need.startswith(("controller:", "v1:")), (case.id, need)


@pytest.mark.parametrize(("level", "share"), [("MUST", 100), ("SHOULD", 90)])
def test_coverage(level, share):
    named = {name for case in CASES.values() for name in case.requirements}
    wanted = [name for name, entry in REQUIREMENTS.items() if entry.level == level and entry.observable]
    missing = [name for name in wanted if name not in named]
    assert 100 * (len(wanted) - len(missing)) >= share * len(wanted), missing


def test_the_table_is_large_and_has_reasons():
    levels = collections.Counter(entry.level for entry in REQUIREMENTS.values())
    assert levels["MUST"] > 300 and levels["SHOULD"] > 40
    for entry in REQUIREMENTS.values():
        assert "#" in entry.section and entry.text.endswith("."), entry.id
        assert entry.observable or len(entry.unobservable) > 20, entry.id
        assert entry.since is None or numbers(entry.since), entry.id


def test_deviations_are_about_existing_requirements():
    for entry in TABLE:
        within = [case for case in CASES.values() if entry.within(case.id)]
        assert within, entry.cases
        named = {name for case in within for name in case.requirements}
        for pattern in entry.requirements:
            assert any(entry.excuses(name) for name in named), (entry.cases, pattern)
        assert entry.sentence and entry.why


def test_failures_of_all_runtimes_have_a_reason():
    by_case = collections.defaultdict(dict)
    for entry in TABLE:
        for case in CASES.values():
            for name in case.requirements:
                if entry.within(case.id) and entry.excuses(name):
                    by_case[case.id, name].setdefault(entry.runtime, entry)
    for (case, name), found in by_case.items():
        if {"runc", "crun", "pyrunc"} <= set(found):
            assert any(len(entry.why) > 40 for entry in found.values()), "%s: why do all runtimes fail %s?" % (case, name)
    assert deviations.ABORTED in [entry.why for entry in TABLE]


def test_mutants_name_cases():
    table = mutants.load()
    assert len(table) >= 60
    for mutant in table.values():
        assert mutant.cases and all(name in CASES for name in mutant.cases), (mutant.name, mutant.cases)


def test_a_difference_can_be_applied_as_a_patch():
    base = bundle.base()
    changes = {"/process/args": ["a"], "/hostname": "x", "/mounts/-": {"destination": "/m"}, "/root/path": bundle.ABSENT, "/a~1b~0": 1}
    changed = bundle.patch(base, changes)
    found = bundle.difference(base, changed)
    assert set(found) == {"/process/args/0", "/hostname", "/mounts/%d" % len(base["mounts"]), "/root/path", "/a~1b~0"}
    assert bundle.patch(base, found) == changed and bundle.difference(base, base) == {}


def test_imports_nothing_of_pyrunc():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.partition(".")[0] in ("pyrunc", "harness", "make_rootfs")], path


def test_only_the_standard_library():
    import sys

    own = {"oci_conformance", "conformance"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            strange = {name.partition(".")[0] for name in names} - own - set(sys.stdlib_module_names)
            assert not strange, (path, strange)


def test_filters_are_alternatives():
    def named(*texts):
        return {case.id for case in cases.choose("full", texts)}

    assert named("state.", "hooks.order") == named("state.") | named("hooks.order") > named("state.")
    assert named() == set(CASES)


def test_lists():
    listed = suite("--list", "--level", "core")
    assert listed.code == 0 and "state.stages" in listed.out, listed
    listed = suite("--requirements", "--level", "full")
    assert listed.code == 0 and "not observable" in listed.out, listed


def test_usage():
    assert suite().code == 2
    assert suite("--runtime", "runc", "--filter", "no case has this in it").code == 2
    assert suite("--level", "nosuch").code == 2
    bench = suite("bench", "--list")
    assert bench.code == 0 and "create" in bench.out, bench


# ---- the tables in the README files: tools/conformance_table.py makes them from a whole run, and they must not be older than the suite's tables


@pytest.mark.parametrize("name", ["README.md", "conformance/README.md"])
def test_the_numbers_in_the_documents_are_those_of_the_tables(name):
    text = (ROOT / name).read_text()
    between = re.search(r"<!-- conformance: [^>]*-->\n(.*?)\n<!-- /conformance -->", text, re.DOTALL)[1]
    cases, must, should, version = re.match(
        r"(\d+) cases about all (\d+) .*MUST and (\d+) .*SHOULD of runtime-spec ([\d.]+);", between
    ).groups()
    observable = collections.Counter(entry.level for entry in REQUIREMENTS.values() if entry.observable)
    remake = "run the suite and tools/conformance_table.py"
    assert (int(must), int(should)) == (observable["MUST"], observable["SHOULD"]), remake
    assert int(cases) == len(CASES) and version == SPECIFICATION, remake
    rows = [line.strip("| ").split(" | ") for line in between.splitlines() if line.startswith("| ")]
    head, rows = rows[0], rows[1:]
    assert [row[0].split()[0] for row in rows][:3] == ["pyrunc", "runc", "crun"]
    for row in rows:
        values = dict(zip(head, row[-len(head) :], strict=True))
        for level in ("MUST", "SHOULD"):
            parts = [int(values[level + word]) for word in (" kept", " not kept", " not seen here")]
            assert sum(parts) == observable[level], (row, remake)


def test_the_number_of_mutants_in_the_document():
    text = (ROOT / "conformance/README.md").read_text()
    assert int(re.search(r"(\d+) mutants", text)[1]) == len(mutants.load())
