"""The stable codes: each raise site of the package has one, none is given away twice, and the record of them only grows."""

import ast
import os
import re

import harness
from pyrunc import codes, errors

PACKAGE = harness.ROOT / "runtime/pyrunc"
RECORD = harness.ROOT / "tests/fixtures/codes.txt"
CLASSES = {n: getattr(errors, n) for n in "Refusal UsageError StateError StepFailure Unsupported Bug PyruncError HookFailure".split()}


def literal(node, names):
    """The text of an expression as far as it is written there; what is not becomes 7, which is a number and a word."""
    if isinstance(node, ast.Constant):
        return None if node.value is None else str(node.value)
    if isinstance(node, ast.Name):
        return names.get(node.id, "7")
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return re.sub(r"%[-#0-9.]*[sdrxo]", "7", literal(node.left, names) or "")
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (literal(node.left, names) or "") + (literal(node.right, names) or "")
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "CALLER_TEXT":
        key = node.slice.value if isinstance(node.slice, ast.Constant) else "start-running"
        return errors.CALLER_TEXT[key].replace("%s", "7")
    return "7"


def sites():
    """(file:line, an error as it would be raised there) of all calls of the error classes."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text())
        names = {}
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.BinOp) and isinstance(node.targets[0], ast.Name):
                names[node.targets[0].id] = literal(node.value, names)
        parts = path.relative_to(PACKAGE).parts
        for function in [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]:
            local = dict(names)
            for node in ast.walk(function):
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and not isinstance(node.value, ast.Call):
                    local[node.targets[0].id] = literal(node.value, {}) or ""
            for node in ast.walk(function):
                name = getattr(getattr(node, "func", None), "id", getattr(getattr(node, "func", None), "attr", None))
                if isinstance(node, ast.Call) and name in CLASSES and node.args:
                    yield "%s:%d" % (path.relative_to(PACKAGE), node.lineno), made(CLASSES[name], node, local, parts)


def made(kind, node, names, parts):
    words = literal(node.args[0], names) or ""
    given = {k.arg: literal(k.value, names) for k in node.keywords}
    second = literal(node.args[1], names) if len(node.args) > 1 else given.get("pointer")
    if kind is errors.HookFailure:
        return errors.HookFailure(words, 0, "exit status 1")
    if kind is errors.StepFailure:
        step = given.get("step") or (literal(node.args[1], names) if len(node.args) > 1 else None)
        if step in (None, "7") and parts[0] == "parts":
            step = "%s.verb" % parts[1].removesuffix(".py")  # rows.call gives it
        elif step in (None, "7") and parts[0] == "cgroup":
            step = "cgroups.verb"
        return errors.StepFailure(words, step, pointer=given.get("pointer"))
    error = kind.__new__(kind)
    Exception.__init__(error, words)
    pointer = second if kind in (errors.Refusal, errors.Unsupported, errors.Bug) else None
    if pointer == "7" and parts[0] == "parts":
        pointer = names.get("KEY") or names.get("HERE") or "/" + parts[1].removesuffix(".py")
    error.words, error.pointer, error.hint = words, pointer, None
    return error


def test_each_raise_site_has_a_code_of_its_own_kind():
    seen = 0
    known = {row["code"]: row for row in codes.rows()}
    wrong = []
    for where, error in sites():
        seen += 1
        row = known.get(codes.text(codes.find(error)))
        if row is None or codes.KINDS[row["kind"]] != codes.KINDS[error.code]:
            wrong.append((where, error.words, row))
    assert seen > 400 and not wrong, wrong


def test_no_state_or_usage_error_of_a_caller_is_without_a_code_of_its_own():
    """Engines match these sentences; the codes are for those that would rather not."""
    for name, words in errors.CALLER_TEXT.items():
        if name != "no-exec":
            number = codes.find(errors.StateError(words.replace("%s", "x")))
            assert number != 4000, name


def test_refusals_of_parts_are_of_the_part():
    """The area of a code is the owner of the property: PYR-213x is /mounts."""
    wrong = []
    for where, error in sites():
        if where.startswith("parts/") and isinstance(error, errors.Refusal | errors.Unsupported | errors.StepFailure):
            part = where.split("/")[1].partition(".py")[0]
            area = codes.find(error) // 10 % 100
            names = {number: name for name, (number, *_rest) in codes.AREAS.items()}
            # an annotation is refused by the part that reads it; /process without anything is refused by whoever sees it first
            if (
                names[area] != part
                and not (error.pointer or "").startswith(("/annotations", "/process"))
                and names[area] not in ("document", "host")
            ):
                wrong.append((where, names[area], error.words, error.pointer))
    assert not wrong, wrong


def test_the_record_only_grows():
    """A number keeps its name for ever; what is not used any more is in RETIRED. New codes: PYRUNC_RECORD=1 writes them down."""
    now = {row["code"]: row["name"] for row in codes.rows()}
    if os.environ.get("PYRUNC_RECORD"):
        RECORD.write_text("".join("%s %s\n" % pair for pair in sorted(now.items())))
    before = dict(line.split() for line in RECORD.read_text().splitlines())
    retired = {codes.text(number) for number in codes.RETIRED}
    assert not {code: name for code, name in before.items() if now.get(code) != name and code not in retired}
    assert not retired & set(now), "given away again"
    assert set(now) <= set(before), "not in tests/fixtures/codes.txt: %s" % sorted(set(now) - set(before))


def test_tables():
    rows = codes.rows()
    names = [row["name"] for row in rows]
    assert len(set(names)) == len(names) and len({row["code"] for row in rows}) == len(rows)
    assert all(row["meaning"] and row["remedy"].rstrip("`")[-1:] in ".?" for row in rows), [r for r in rows if r["remedy"][-1:] not in ".?"]
    assert {part for part, *_rest in codes.PARTS} <= set(codes.AREAS)
    assert len({number for number, *_rest in codes.AREAS.values()}) == len(codes.AREAS)
    for number, name, _pattern, _errno, _meaning, _remedy in codes.CAUSES:
        assert number % 10 and number // 10 % 100 in {n for n, *_ in codes.AREAS.values()}, name
    hints = [row["remedy"].lower() for row in rows]
    for words in ("permission denied", "no such file or directory", "not found"):  # callers match these
        assert not [hint for hint in hints if words in hint]


def test_like():
    assert codes.like("abc", "abc") and not codes.like("abcd", "abc") and codes.like("abcd", "abc*") and codes.like("xabc", "*abc")
    assert codes.like("one two three", "*two*") and codes.like("aXbXc", "a*b*c") and not codes.like("ab", "ab*b") and codes.like("", "*")


def test_errno_decides():
    def code(step, errno, words="x"):
        return codes.text(codes.find(errors.StepFailure(words, step, errno=errno)))

    assert (
        code("mounts.init_mount", 2) == "PYR-6131"
        and code("mounts.init_mount", 1) == "PYR-6132"
        and code("mounts.init_mount", 5) == "PYR-6130"
    )
    assert code("program.op_exec", 2, "exec /x: no such file or directory") == "PYR-6221"
    assert code("uts.init_set", 28) == "PYR-6461" and code(None, 28) == "PYR-6461" and code(None, 5) == "PYR-6460"


def test_the_record_of_the_log():
    from pyrunc import log

    found = log.fields(errors.StepFailure("w", "mounts.init_mount", "init", "/mounts/0", "mount_setattr", 22, "/x", "h"), 1)
    assert found == {
        "code": "PYR-6133", "kind": "step", "pointer": "/mounts/0", "hint": "h", "step": "mounts.init_mount", "side": "init",
        "call": "mount_setattr", "errno": 22, "errno_name": "EINVAL", "path": "/x", "exit_status": 1,
    }  # fmt: skip
