"""Rules that the tests themselves keep: none asserts nothing."""

import ast
import functools

import harness

TESTS = harness.ROOT / "tests"
TREES = {path: ast.parse(path.read_text()) for path in sorted(TESTS.rglob("*.py"))}
# Helpers that fail where something is wrong, although other functions of their name do not.
CHECKING = {"wait_until", "refused", "sweep", "compare", "counted", "bounded", "harmless", "gone", "call"}


@functools.cache
def called(node):
    """Names of the functions that are called in a function; with "assert" where it asserts."""
    found = set()
    for one in ast.walk(node):
        if isinstance(one, ast.Assert) or isinstance(one, ast.Call) and any(word.arg == "check" for word in one.keywords):
            found.add("assert")
        if isinstance(one, ast.Call):
            found.add(one.func.attr if isinstance(one.func, ast.Attribute) else getattr(one.func, "id", ""))
    return found


def asserts(node, helpers):
    return not called(node).isdisjoint({"assert", "raises", "fail", *helpers})


def helpers():
    """Names all of whose functions assert, by themselves or through others."""
    functions = {}
    for tree in TREES.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("test_"):
                functions.setdefault(node.name, []).append(node)
    found, before = set(CHECKING), None
    while found != before:
        before = set(found)
        found |= {name for name, nodes in functions.items() if all(asserts(node, before) for node in nodes)}
    return found


def test_no_test_asserts_nothing():
    known = helpers()
    silent = [
        "%s::%s" % (path.relative_to(TESTS), node.name)
        for path, tree in TREES.items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not asserts(node, known)
    ]
    assert silent == []


def test_the_rule_can_fail():
    tree = ast.parse("def test_one(runtime, bundle):\n    runtime.start(bundle)\n    print(runtime)\n").body[0]
    assert not asserts(tree, helpers() - {"start"}) and asserts(ast.parse("assert False").body[0], set())
