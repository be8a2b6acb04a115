"""The reports: every format shows the same verdicts, and no output of a runtime can break a format."""

import io
import json
import re
import shutil
import xml.etree.ElementTree as ET

import pytest
from suite_tools import NASTY, TABLE

from oci_conformance import report
from oci_conformance.report import document, html, junit, live, tap


def test_tap(made):
    lines = tap.text(made).splitlines()
    assert lines[:2] == ["TAP version 14", "1..13"]
    points = [line for line in lines if re.match(r"(not )?ok \d+ - ", line)]
    assert [int(re.search(r"\d+", line)[0]) for line in points] == list(range(1, 14))
    assert "not ok 1 - nope: runs a plain container" in points
    by_name = {line.split(" - ")[1].split(" # ")[0]: line for line in points}
    assert by_name["runc state.good"].startswith("ok") and by_name["runc state.bad"].startswith("not ok")
    assert "# TODO known deviation: for no. callers" in by_name["runc deletion.known"]
    assert "# SKIP no resctrl no. mounted" in by_name["runc rdt.skipped"]
    assert by_name["runc hooks.broken"].startswith("not ok")


def test_junit(made):
    root = ET.fromstring(junit.text(made))
    assert root.tag == "testsuites" and root.get("tests") == "13"
    suites = {suite.get("name"): suite for suite in root}
    assert set(suites) == {"runc", "crun", "nope"}
    assert suites["runc"].get("failures") == "2" and suites["runc"].get("errors") == "1" and suites["runc"].get("skipped") == "2"
    bad = next(entry for entry in suites["runc"] if entry.get("name") == "bad")
    assert bad.get("classname") == "state" and "state.pid" in bad.find("failure").text and bad.find("failure").get("type") == "MUST"
    assert "for # callers" in next(entry for entry in suites["runc"] if entry.get("name") == "known").find("skipped").get("message")
    assert suites["nope"].find("testcase/error") is not None


def test_json(made):
    found = json.loads(document.text(made))
    verdicts = {entry["case"]: entry["verdict"] for entry in found["results"] if entry["runtime"] == "runc"}
    assert verdicts == {
        "state.good": "pass",
        "state.bad": "fail",
        "deletion.known": "known",
        "rdt.skipped": "skip",
        "hooks.broken": "broken",
        "user.should": "fail",
    }
    entries = {entry["id"]: entry for entry in found["requirements"]}
    assert set(entries) == set(TABLE)
    assert entries["state.pid"]["verdicts"] == {"runc": "fail", "crun": "pass"}
    assert entries["state.bundle"]["verdicts"] == {"runc": "pass", "crun": "pass"}
    assert entries["sysctl"]["verdicts"] == {"runc": "none", "crun": "none"}
    assert entries["lifecycle.poststop.warning"]["reason"]
    evidence = next(entry for entry in found["results"] if entry["case"] == "state.bad")
    assert evidence["config"]["hostname"] == NASTY and evidence["calls"][0]["how"] == "exit 1"
    assert found["unusable"][0]["why"].endswith("no such file")


def test_html(made):
    page = html.text(made)
    page.encode()
    assert "<script" not in page and "alert(1)" in page
    assert not re.findall(r"(?:src|href)='?\"?(?!#)[a-z]+:", page), "the page loads nothing from outside"
    assert "viewport" in page and "prefers-color-scheme" in page
    targets = set(re.findall(r"id='([^']+)'", page))
    assert set(re.findall(r"href='#([^']+)'", page)) <= targets
    assert "runc-state.bad" in targets and "crun-state.bad" not in targets
    for words in ("there is no such file", "expected: ", "for # callers", "Not observable: ", "Configuration".lower()):
        assert words in page, words


def test_html_when_nothing_failed(made):
    made.results = made.results[-6:]
    made.runtimes = made.runtimes[1:]
    assert "Nothing failed" in html.text(made)


def test_summary(made):
    text = live.summary(made)
    assert "runc (runc 1.1.15, specification 1.2.0): 1 ok, 2 FAIL, 1 known, 1 skip, 1 BROKEN" in text
    assert "6 of" in text.splitlines()[-1] or "coverage" in text


def test_live_lines(made, capsys):
    import sys

    shown = live.Live(12, stream=sys.stdout)
    for entry in made.results:
        shown.note(entry)
    out = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in out] == ["FAIL", "BROKEN", "FAIL"]
    assert "state.bad" in out[0] and "\n" not in out[0]


def test_live_on_a_terminal(made):
    """There is one line as wide as the terminal, which is overwritten; failures stay above it."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    shown = live.Live(12, stream=stream)
    for entry in made.results:
        shown.note(entry)
    shown.end()
    lines = [line.rpartition("\r\033[K")[2] for line in stream.getvalue().split("\n")]
    assert [line.split()[0] for line in lines if line] == ["FAIL", "BROKEN", "FAIL"]
    steps = [part for part in stream.getvalue().split("\r\033[K") if part and "\n" not in part]
    assert steps[0].startswith("1/12  1 ok  runc state.good") and steps[-1].startswith("12/12  7 ok")
    assert all(len(step) < shutil.get_terminal_size().columns for step in steps)


def test_which_failures_count(made):
    assert {entry.case.id for entry in made.broken_musts()} == {"state.bad", "hooks.broken"}


def test_writing(made, tmp_path, capsys):
    for form in report.FORMS:
        path = tmp_path / form
        report.write(made, form, str(path))
        assert path.stat().st_size > 200
    report.write(made, "tap", "-")
    assert capsys.readouterr().out.startswith("TAP version 14")
    with pytest.raises(OSError):
        report.write(made, "html", str(tmp_path / "missing" / "x.html"))
