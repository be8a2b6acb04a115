"""Verdicts of cases and of requirements, and the short form of a summary."""

from suite_tools import case, check, known, result, runtime

from oci_conformance.requirements import load, numbers
from oci_conformance.result import of_requirement
from oci_conformance.runtime import Call


def test_a_check_fails_the_requirements_that_it_names():
    made = result(runtime(), case("a.b", "one", "two"), "fail", check(True, requirements=["one"]), check(False, requirements=["two"]))
    assert made.failed_requirements() == ["two"]
    assert made.verdict_of("one") == "pass" and made.verdict_of("two") == "fail"


def test_a_check_without_names_fails_unchecked_requirements():
    made = result(runtime(), case("a.b", "one", "two"), "fail", check(True, requirements=["one"]), check(False))
    assert made.failed_requirements() == ["two"]
    made = result(runtime(), case("a.b", "one", "two"), "fail", check(False))
    assert made.failed_requirements() == ["one", "two"]


def test_an_unfinished_case_fails_all():
    made = result(runtime(), case("a.b", "one", "two"), "fail", reason="not over after 60 seconds")
    assert made.failed_requirements() == ["one", "two"] and "not over" in made.words()


def test_known_deviations():
    made = result(runtime(), case("a.b", "one", "two"), "fail", check(False))
    made.judge({"one": known("one")}, [])
    assert made.verdict == "fail" and made.verdict_of("one") == "known" and made.verdict_of("two") == "fail"
    made.judge({"one": known("one"), "two": known("two")}, [])
    assert made.verdict == "known"


def test_unselected_requirements_are_skipped():
    made = result(runtime(), case("a.b", "one", "two"), "fail", check(False, requirements=["two"]))
    made.judge({}, ["two"])
    assert made.verdict == "skip" and made.verdict_of("two") == "skip"


def test_the_worst_result_counts():
    of = runtime()
    results = [result(of, case("a.a", "one"), "pass", check(True)), result(of, case("a.b", "one"), "fail", check(False))]
    assert of_requirement(results, "one") == "fail"
    assert of_requirement(results[:1], "one") == "pass"
    assert of_requirement([result(of, case("a.c", "one"), "skip")], "one") == "skip"
    assert of_requirement([], "one") == "none"


def test_versions():
    assert numbers("1.2.0") == numbers("1.2.0-rc.1") == numbers("1.2.0+dev") == (1, 2, 0)
    assert numbers("1.2") is numbers("junk") is numbers(None) is None
    entry = load()["net-devices.moved"]
    assert not entry.asked_of((1, 2, 1)) and entry.asked_of((1, 3, 0)) and entry.asked_of(None)


def test_only_an_orderly_no_is_an_error():
    assert Call([], 1, "", "").refused
    assert not Call([], 0, "", "").refused and not Call([], -11, "", "").refused and not Call([], None, "", "").refused
