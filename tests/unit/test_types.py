"""Each function has types. Each `Any` and each `cast` has its reason: a comment on its line or on the line above. What is used in several
places has a name that is defined once, with the reason there."""

import ast
import io
import re
import tokenize

import pytest

import harness

FOLDERS = ("conformance", "runtime", "tools")
FILES = sorted(path for folder in FOLDERS for kind in ("*.py", "*.pyi") for path in (harness.ROOT / folder).rglob(kind))
# Comments that only address a tool; what follows in the same comment may be a reason.
DIRECTIVE = re.compile(r"#\s*(?:type:\s*ignore(?:\[[^]]*\])?|noqa(?::\s*[A-Z0-9, ]+)?|fmt:\s*\w+)\s*")


def untyped(text: str) -> list[str]:
    """Functions with a parameter or a result that has no type: mypy does not see those that a stub declares, or that are not in a package."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            args = node.args
            parameters = [*args.posonlyargs, *args.args, *args.kwonlyargs, *filter(None, (args.vararg, args.kwarg))]
            if node.returns is None or any(one.annotation is None and one.arg not in ("self", "cls") for one in parameters):
                found.append(node.name)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(harness.ROOT)))
def test_each_function_has_types(path):
    assert untyped(path.read_text()) == []


def test_a_function_without_types_is_found():
    source = "def a(x: int): pass\ndef b(x) -> None: pass\ndef c(self, *, x: int, **y: int) -> None: pass\nasync def d(*x) -> None: pass"
    assert untyped(source) == ["a", "b", "d"]


def without_reason(text: str) -> list[int]:
    """Numbers of the lines with an `Any` or a call of `cast`, imports excepted, that have no reason."""
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
    imported = {line for node in imports for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    lines = text.splitlines()
    reasons = set()
    for token in tokens:
        if token.type == tokenize.COMMENT and DIRECTIVE.sub("", token.string).strip("# \t"):
            row = token.start[0]
            reasons.add(row)
            if lines[row - 1].lstrip().startswith("#"):  # a line of its own: for the line below
                reasons.add(row + 1)
    found = set()
    for token, after in zip(tokens, tokens[1:], strict=False):
        if token.type == tokenize.NAME and (token.string == "Any" or token.string == "cast" and after.string == "("):
            found.add(token.start[0])
    return sorted(found - imported - reasons)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(harness.ROOT)))
def test_each_any_and_cast_has_its_reason(path):
    assert without_reason(path.read_text()) == []


def test_there_is_something_to_check():
    assert all(any(path.is_relative_to(harness.ROOT / folder) for path in FILES) for folder in FOLDERS)


HEAD = "from typing import (\n    Any,\n    cast,\n)\n"


@pytest.mark.parametrize(
    "text",
    [
        "Json = Any  # a document that has just been read\n",
        "# A document that has just been read.\nJson = Any\n",
        "def f(\n    a: Any,  # the caller knows\n) -> None: ...\n",
        "x = cast('int', y)  # checked above\n",
        "x: Any = y  # type: ignore[assignment]  # filled in by name\n",
        "def f(a: Json) -> 'Any thing':\n    'Any text.'\n",
        "x.cast = cast\n",
    ],
)
def test_a_reason_is_seen(text):
    assert without_reason(HEAD + text) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Json = Any\n", 5),
        ("def f(\n    a: int,  # a number\n    b: Any,\n) -> None: ...\n", 7),
        ("def f(a: dict[str, Any]) -> None: ...\n", 5),
        ("x = cast('int', y)\n", 5),
        ("x = typing.cast('int', y)  # noqa: X1\n", 5),
        ("x: Any = y  # type: ignore[assignment]\n", 5),
        ("# of something else\n\nx: Any = y\n", 7),
    ],
)
def test_a_missing_reason_is_seen(text, line):
    assert without_reason(HEAD + text) == [line]
