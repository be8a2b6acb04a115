"""A rule for the tests themselves: each test can fail.

A test can fail if it asserts something, expects an exception, or calls a helper or fixture that does. Names are looked up as in Python: in
the module, among its imports, or as methods of classes that the tests define. An assertion counts only if it is always reached, so not in an
`except` or an `if`. An assertion that None is returned counts only for a function that can return something else.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import harness

TESTS = harness.ROOT / "tests"
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module:
    """The names in a test file."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.tree = ast.parse(text)
        self.functions: dict[str, Function] = {node.name: node for node in self.tree.body if isinstance(node, FUNCTION)}
        self.classes: dict[str, ast.ClassDef] = {node.name: node for node in self.tree.body if isinstance(node, ast.ClassDef)}
        self.modules: dict[str, str] = {}  # local name → module
        self.imported: dict[str, tuple[str, str]] = {}  # local name → module and name
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                self.modules.update({one.asname or one.name: one.name for one in node.names})
            elif isinstance(node, ast.ImportFrom):
                self.imported.update({one.asname or one.name: (node.module or "", one.name) for one in node.names})


class Suite:
    """All test files. `can_fail` answers for a function in one of them."""

    def __init__(self, modules: list[Module]) -> None:
        self.modules = modules
        self.by_name = {module.path.stem: module for module in modules}
        self.methods: dict[str, list[tuple[Module, Function]]] = {}
        for module in modules:
            for cls in module.classes.values():
                for node in cls.body:
                    if isinstance(node, FUNCTION):
                        self.methods.setdefault(node.name, []).append((module, node))
        self.known: dict[int, bool] = {}

    def can_fail(self, module: Module, function: Function) -> bool:
        if id(function) not in self.known:
            self.known[id(function)] = False  # for functions that call themselves
            fixtures = [found for one in function.args.args for found in self.fixture(module, one.arg)] if is_asked(function) else []
            self.known[id(function)] = self.any_fails(module, function, function.body) or any(
                self.checks_at_the_end(*one) for one in fixtures
            )
        return self.known[id(function)]

    def checks_at_the_end(self, module: Module, fixture: Function) -> bool:
        """Whether a fixture asserts something after the test."""
        after = [number for number, node in enumerate(fixture.body) if any(isinstance(one, ast.Yield) for one in ast.walk(node))]
        return bool(after) and self.any_fails(module, fixture, fixture.body[after[0] + 1 :])

    def any_fails(self, module: Module, function: Function, nodes: list[ast.AST] | list[ast.stmt]) -> bool:
        return any(self.fails(module, function, node) for node in nodes)

    def fails(self, module: Module, function: Function, node: ast.AST) -> bool:
        """Whether a statement or expression can make the function fail on purpose, whichever branch is taken."""
        if isinstance(node, ast.If):
            sides = [node.body, node.orelse]
            return self.fails(module, function, node.test) or all(ends(side) or self.any_fails(module, function, side) for side in sides)
        if isinstance(node, ast.Try):
            return self.any_fails(module, function, [*node.body, *node.orelse, *node.finalbody])
        if self.fails_itself(module, function, node):
            return True
        return self.any_fails(module, function, list(ast.iter_child_nodes(node)))

    def fails_itself(self, module: Module, function: Function, node: ast.AST) -> bool:
        if isinstance(node, ast.Assert):
            return not is_empty(node.test)
        if isinstance(node, ast.Raise):
            return isinstance(node.exc, ast.Call) and ast.unparse(node.exc.func) == "AssertionError"
        if not isinstance(node, ast.Call):
            return False
        name = ast.unparse(node.func)
        if name in ("pytest.raises", "pytest.warns", "pytest.fail", "subprocess.check_call", "subprocess.check_output"):
            return True
        if name == "subprocess.run":
            return any(word.arg == "check" and isinstance(word.value, ast.Constant) and word.value.value is True for word in node.keywords)
        return any(self.can_fail(*found) for found in self.targets(module, function, node.func))

    def targets(self, module: Module, function: Function, called: ast.expr) -> Iterator[tuple[Module, Function]]:
        """The test functions that a call may run. A method counts only if it can fail in every class that has it."""
        if isinstance(called, ast.Name):
            yield from self.of_name(module, called.id)
            if called.id in {argument.arg for argument in function.args.args}:
                for place, fixture in self.fixture(module, called.id):
                    yield place, fixture
                    yield from self.of_class(place, fixture.returns)
        elif isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id in module.modules:
            other = self.by_name.get(module.modules[called.value.id].rpartition(".")[2])
            if other:
                yield from self.of_name(other, called.attr)
        elif isinstance(called, ast.Attribute):
            near = [found for found in self.methods.get(called.attr, ()) if not found[0].path.name.startswith("test_")]
            near = [found for found in self.methods.get(called.attr, ()) if found[0] is module] or near
            if near and all(self.can_fail(*found) for found in near):
                yield from near

    def of_name(self, module: Module, name: str) -> Iterator[tuple[Module, Function]]:
        if name in module.functions:
            yield module, module.functions[name]
        elif name in module.imported:
            place, name = module.imported[name]
            if place in self.by_name and self.by_name[place] is not module:
                yield from self.of_name(self.by_name[place], name)

    def of_class(self, module: Module, returns: ast.expr | None) -> Iterator[tuple[Module, Function]]:
        """The function that runs when a fixture's value is called: `__call__` of the class that the fixture is declared to return."""
        name = ast.unparse(returns) if returns is not None else ""
        place, name = module.imported.get(name, (module.path.stem, name))
        found = self.by_name[place].classes.get(name) if place in self.by_name else None
        for node in found.body if found else ():
            if isinstance(node, FUNCTION) and node.name == "__call__":
                yield self.by_name[place], node

    def fixture(self, module: Module, name: str) -> Iterator[tuple[Module, Function]]:
        """The fixture that pytest uses: from the module, or else from the nearest conftest."""
        for place in [
            module,
            *(other for other in self.modules if other.path.name == "conftest.py" and other.path.parent in module.path.parents),
        ]:
            if name in place.functions:
                yield place, place.functions[name]
                return


def is_asked(function: Function) -> bool:
    """Whether pytest supplies the arguments of the function."""
    return function.name.startswith("test_")


def ends(side: list[ast.stmt]) -> bool:
    """Whether a branch of an `if` leaves the test because there is nothing to check."""
    return bool(side) and isinstance(side[-1], ast.Return) or any("pytest.skip" in ast.unparse(node) for node in side)


def is_empty(test: ast.expr) -> bool:
    """Whether an assertion always holds: a constant, or `f() is None` for a function that returns nothing."""
    if isinstance(test, ast.BoolOp):
        return all(is_empty(value) for value in test.values)
    if isinstance(test, ast.Compare) and isinstance(test.left, ast.Call) and ast.unparse(test.comparators[0]) == "None":
        name = test.left.func.attr if isinstance(test.left.func, ast.Attribute) else getattr(test.left.func, "id", "")
        return name in returning_nothing()
    return isinstance(test, (ast.Constant, ast.JoinedStr, ast.Tuple, ast.List, ast.Dict, ast.Lambda))


@functools.cache
def returning_nothing() -> frozenset[str]:
    """Names of functions in the package and the tests that, wherever they are defined, are declared to return None or never return a value."""
    found: dict[str, bool] = {}
    package = [ast.parse(path.read_text()) for path in (harness.ROOT / "runtime/pyrunc").rglob("*.py")]
    for tree in [*package, *(module.tree for module in every_test().modules)]:
        for node in ast.walk(tree):
            if isinstance(node, FUNCTION):
                found[node.name] = found.get(node.name, True) and returns_nothing(node)
    return frozenset(name for name, nothing in found.items() if nothing)


def returns_nothing(function: Function) -> bool:
    if function.returns is not None:
        return ast.unparse(function.returns) == "None"
    return not any(isinstance(one, (ast.Return, ast.Yield)) and one.value is not None for one in ast.walk(function))


@functools.cache
def every_test() -> Suite:
    return Suite([Module(path, path.read_text()) for path in sorted(TESTS.rglob("*.py"))])


def test_no_test_asserts_nothing() -> None:
    tests = every_test()
    silent = [
        "%s::%s" % (module.path.relative_to(TESTS), name)
        for module in tests.modules
        for name, function in module.functions.items()
        if name.startswith("test_") and not tests.can_fail(module, function)
    ]
    assert silent == []


def test_no_assertion_is_empty() -> None:
    """Not even next to other assertions: it would look as if something were checked."""
    empty = [
        "%s:%d %s" % (module.path.relative_to(TESTS), node.lineno, ast.unparse(node))
        for module in every_test().modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Assert) and is_empty(node.test)
    ]
    assert empty == []


CASES = """
import subprocess, pytest
class Machine:
    def call(self): return 1
    def ok(self): assert self.call()
def helper(): assert 1 < 2
def quiet(): print()
@pytest.fixture
def checked(): yield; assert 1 < 2
@pytest.fixture
def compared():
    def compare(): assert 1 < 2
    return compare
def test_yes_assert(): assert 1 < 2
def test_yes_helper(): helper()
def test_yes_method(machine): machine.ok()
def test_yes_raises():
    with pytest.raises(OSError): quiet()
def test_yes_loop():
    for x in (1, 2): assert x
def test_yes_fixture(compared): compared()
def test_yes_check(): subprocess.run([], check=True)
def test_yes_both(x):
    if x: assert x
    else: helper()
def test_no_call(machine): machine.call()
def test_no_quiet(): quiet()
def test_no_constant(): assert "a sentence"
class Harmless:
    def __call__(self): assert 1 < 2
@pytest.fixture
def harmless() -> Harmless: return Harmless()
def test_yes_at_the_end(checked): quiet()
def test_yes_called(harmless): harmless()
def test_no_fixture(compared): quiet()
def test_no_except():
    try: quiet()
    except OSError as e: assert e.errno
def test_no_if(x):
    if x: assert x
def test_no_check(): subprocess.run([], check=False)
def test_no_nothing(): assert returns_nothing() is None
def test_no_other_name(machine): machine.helper()
def returns_nothing(): pass
"""


@pytest.mark.parametrize("name", [line.split("(")[0][4:] for line in CASES.splitlines() if line.startswith("def test_")])
def test_the_rule(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = Module(Path("cases.py"), CASES)
    monkeypatch.setattr(sys.modules[__name__], "returning_nothing", lambda: frozenset({"returns_nothing"}))
    assert Suite([module]).can_fail(module, module.functions[name]) == name.startswith("test_yes")
