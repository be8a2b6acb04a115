"""The stable codes: each raise site of the package has one, none is used twice, and the record only grows."""

import ast
import os
import re

import harness
from pyrunc import codes, errors

PACKAGE = harness.ROOT / "runtime/pyrunc"
RECORD = harness.ROOT / "tests/fixtures/codes.txt"
CLASSES = ("Refusal", "UsageError", "StateError", "StepFailure", "Unsupported", "PyruncError", "HookFailure")
REASON = re.compile(r"[a-z0-9]+(-[a-z0-9]+){0,4}")


def sites():
    """(file:line, class, first argument) of each call of an error class."""
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name == "errors.py" or "api" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(getattr(node, "func", None), "id", getattr(getattr(node, "func", None), "attr", None))
            if isinstance(node, ast.Call) and name in CLASSES and node.args:
                yield "%s:%d" % (path.relative_to(PACKAGE), node.lineno), name, node.args[0]


def reasons(node):
    """The reasons that an expression can evaluate to, as far as they are literals."""
    if isinstance(node, ast.Constant):
        return [node.value]
    if isinstance(node, ast.IfExp):
        return reasons(node.body) + reasons(node.orelse)
    return []


def test_each_raise_site_has_a_reason():
    """A literal reason is a short name, not a sentence; None is allowed only where an errno replaces it. A variable holds a reason from
    elsewhere: from another error, the validator, or a table."""
    found = list(sites())
    assert len(found) > 400
    wrong = []
    for where, name, node in found:
        assert isinstance(node, ast.Constant | ast.IfExp | ast.Name | ast.Attribute | ast.Call | ast.Subscript), (where, ast.dump(node))
        for reason in reasons(node):
            if not (isinstance(reason, str) and REASON.fullmatch(reason)) and not (reason is None and name == "StepFailure"):
                wrong.append((where, reason))
    assert not wrong, wrong


def test_each_reason_with_a_code_is_given_somewhere():
    text = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py") if path.name != "codes.py")
    by_errno = {number for causes in codes.ERRNO_CAUSES.values() for number in causes.values()}
    named = [(row[0], row[1]) for row in codes.COUNTED if row[0] % 1000] + [row[:2] for row in codes.CAUSES if row[0] not in by_errno]
    assert not [(number, reason) for number, reason in named if '"%s"' % reason not in text]
    assert not [reason for reason in codes.AREA_OF_REASON if '"%s"' % reason not in text]


def test_no_decision_depends_on_a_sentence():
    """Sentences are for people: no code compares them, searches in them or matches them against CALLER_TEXT."""
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            asked = []
            if isinstance(node, ast.Compare):
                asked = [node.left, *node.comparators]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                if node.func.attr in ("startswith", "endswith", "find", "partition", "index", "count", "split"):
                    asked = [node.func.value]
            for one in asked:
                text = ast.unparse(one)
                if re.search(r"\.words\b|\.sentence\(\)|CALLER_TEXT", text):
                    wrong.append("%s:%d %s" % (path.relative_to(PACKAGE), node.lineno, text))  # type: ignore[attr-defined]
    assert not wrong, wrong


def test_sentences_that_callers_match_have_codes():
    """Engines match these sentences; callers that prefer codes can use those."""
    numbers = {row[1] for row in codes.COUNTED}
    assert set(CALLER_REASONS) == set(errors.CALLER_TEXT) and set(CALLER_REASONS.values()) - {"program-not-found"} <= numbers


CALLER_REASONS = {
    "unknown": "unknown-container", "exists": "id-exists", "not-running": "not-running", "not-paused": "not-paused",
    "start-running": "start-running", "start-stopped": "start-stopped", "start-paused": "start-paused", "delete-alive": "delete-alive",
    "exec-stopped": "exec-stopped", "exec-paused": "exec-paused", "bad-id": "bad-id", "empty-id": "empty-id", "no-exec": "program-not-found",
}  # fmt: skip


def test_errors_with_a_callers_sentence_have_its_reason():
    """An error with a sentence of CALLER_TEXT has the reason that belongs to it; the code used to be looked up by the sentence."""
    wrong, seen = [], 0
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(getattr(node, "func", None), "id", None)
            if not (isinstance(node, ast.Call) and name in CLASSES and len(node.args) > 1):
                continue
            said = re.search(r"CALLER_TEXT\[(.+?)\]", ast.unparse(node.args[1]))
            if said:
                seen += 1
                key = said[1].strip("'")
                right = repr(CALLER_REASONS[key]) if key in CALLER_REASONS else key  # a variable is both the key and the reason
                if ast.unparse(node.args[0]) != right:
                    wrong.append("%s:%d %s" % (path.relative_to(PACKAGE), node.lineno, ast.unparse(node)))
    assert seen > 15 and not wrong, wrong


def test_every_kind_and_area_has_a_code():
    known = {row["code"] for row in codes.rows()}
    for area in codes.AREAS:
        error = errors.StepFailure("anything", "", area + ".verb")
        assert codes.area_of(error) == area and codes.text(codes.find(error)) in known
    for part, _always, keys, _needs in codes.PARTS:
        for key in keys:
            for error in (errors.Refusal("anything", "", key), errors.Unsupported("anything", "", key, "linux")):  # type: ignore[assignment]
                assert codes.area_of(error) == part and codes.text(codes.find(error)) in known
    assert codes.find(errors.UsageError("anything", "")) == 1000 and codes.find(errors.Bug("")) == 9000
    assert codes.find(errors.StateError("busy", "")) == 4013 and codes.find(errors.HookFailure("hook-timeout", "prestart", 0, "")) == 5001


def test_the_record_only_grows():
    """A number keeps its name forever; those no longer used are in RETIRED. PYRUNC_RECORD=1 records new codes."""
    now = {row["code"]: row["name"] for row in codes.rows()}
    if os.environ.get("PYRUNC_RECORD"):
        RECORD.write_text("".join("%s %s\n" % pair for pair in sorted(now.items())))
    before = dict(line.split() for line in RECORD.read_text().splitlines())
    retired = {codes.text(number) for number in codes.RETIRED}
    assert not {code: name for code, name in before.items() if now.get(code) != name and code not in retired}
    assert not retired & set(now), "a retired number is used again"
    assert set(now) <= set(before), "not in tests/fixtures/codes.txt: %s" % sorted(set(now) - set(before))


def test_tables():
    rows = codes.rows()
    names = [row["name"] for row in rows]
    assert len(set(names)) == len(names) and len({row["code"] for row in rows}) == len(rows)
    assert all(row["meaning"] and row["remedy"].rstrip("`")[-1:] in ".?" for row in rows), [r for r in rows if r["remedy"][-1:] not in ".?"]
    assert {part for part, *_rest in codes.PARTS} <= set(codes.AREAS)
    assert len({number for number, *_rest in codes.AREAS.values()}) == len(codes.AREAS)
    for number, name, _meaning, _remedy in codes.CAUSES:
        assert number % 10 and number // 10 % 100 in {n for n, *_ in codes.AREAS.values()}, name
    hints = [row["remedy"].lower() for row in rows]
    for words in ("permission denied", "no such file or directory", "not found"):  # callers match these
        assert not [hint for hint in hints if words in hint]


def test_errno_decides():
    def code(step, errno, reason=None):
        return codes.text(codes.find(errors.StepFailure(reason, "x", step, errno=errno)))

    assert (
        code("mounts.init_mount", 2) == "PYR-6131"
        and code("mounts.init_mount", 1) == "PYR-6132"
        and code("mounts.init_mount", 5) == "PYR-6130"
    )
    assert code("program.op_exec", 2, "program-not-found") == "PYR-6221"
    assert code("mounts.init_mount", 2, "other") == "PYR-6131" and code("program.op_chdir", 2) == "PYR-6220"
    assert code("resources.host_limit", 16) == "PYR-6101" and code("resources.host_limit", 16, "controller-barred") == "PYR-6103"
    assert code("uts.init_set", 28) == "PYR-6461" and code(None, 28) == "PYR-6461" and code(None, 5) == "PYR-6460"


def test_the_record_of_the_log():
    from pyrunc import log

    found = log.fields(errors.StepFailure(None, "w", "mounts.init_mount", "init", "/mounts/0", "mount_setattr", 22, "/x", "h"), 1)
    assert found == {
        "code": "PYR-6133", "kind": "step", "pointer": "/mounts/0", "hint": "h", "step": "mounts.init_mount", "side": "init",
        "call": "mount_setattr", "errno": 22, "errno_name": "EINVAL", "path": "/x", "exit_status": 1,
    }  # fmt: skip
