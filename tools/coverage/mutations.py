"""Changes to a source that a test should notice: one small edit each, in place, so that line numbers are kept.

Rule: an edit that can't change what the program does (annotations, docstrings, texts of messages, the size of a read buffer) is not a
mutation.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

ORDER = "pyrunc/engine/order.py"
C_FILES = ("finish.c", "rights.c")  # what init runs after the last Python


class Mutation(NamedTuple):
    """`text`[start:end] of a file becomes `new`; `line` is the line that a test must have reached. `column` distinguishes the mutations of
    a line."""

    path: str
    line: int
    column: int
    start: int
    end: int
    new: str
    what: str

    def apply(self, text: str) -> str:
        return text[: self.start] + self.new + text[self.end :]

    def __str__(self) -> str:
        return "%s:%d:%d %s" % (self.path, self.line, self.column, self.what)


COMPARISONS = {
    ast.Eq: "!=", ast.NotEq: "==", ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.In: "not in", ast.NotIn: "in",
    ast.Is: "is not", ast.IsNot: "is",
}  # fmt: skip
ARITHMETIC = {
    ast.Add: "-", ast.Sub: "+", ast.BitOr: "&", ast.BitAnd: "|", ast.LShift: ">>", ast.RShift: "<<", ast.Mult: "+", ast.FloorDiv: "*",
}  # fmt: skip
READING = ("read", "recv", "recvmsg")
LETTERS = re.compile(r"<<|>>|//|[=!<>]=?|\b(?:not\s+in|is\s+not|in|is)\b|[-+*|&]")


class Places:
    """Converts (line, column in UTF-8 bytes) of a syntax tree to offsets in the text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.split("\n")
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line) + 1)

    def at(self, line: int, column: int) -> int:
        return self.starts[line - 1] + len(self.lines[line - 1].encode()[:column].decode())

    def of(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None and node.end_col_offset is not None
        return self.at(node.lineno, node.col_offset), self.at(node.end_lineno, node.end_col_offset)


def of_python(path: str, text: str) -> Iterator[Mutation]:
    """The mutations of a module."""
    places = Places(text)
    for node in executed(ast.parse(text)):
        for start, end, new, what in edits(node, places):
            yield Mutation(path, node.lineno, start - places.starts[node.lineno - 1] + 1, start, end, new, what)


def executed(tree: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    """The nodes below one that run within a function: no annotations, docstrings, decorators or texts of messages."""
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for statement in function.body:
                yield from below(statement)


def below(node: ast.AST) -> Iterator[ast.expr | ast.stmt]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda)):
        return  # a nested function is walked separately
    if isinstance(node, (ast.expr, ast.stmt)):
        yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns") or isinstance(node, ast.Raise):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not (name == "args" and is_buffer_size(node, child)):
                yield from below(child)


def is_buffer_size(call: ast.AST, argument: ast.AST) -> bool:
    """Whether a number says how much is read at a time: a larger buffer reads the same data."""
    if not isinstance(call, ast.Call) or not isinstance(argument, ast.Constant) or type(argument.value) is not int:
        return False
    return getattr(call.func, "attr", "") in READING and argument.value >= 4096


def edits(node: ast.expr | ast.stmt, places: Places) -> Iterator[tuple[int, int, str, str]]:
    start, end = places.of(node)
    text = places.text
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield from between(node.left, node.comparators[0], COMPARISONS.get(type(node.ops[0])), places)
    elif isinstance(node, ast.BinOp) and not isinstance(node.left, (ast.Constant, ast.JoinedStr)):
        yield from between(node.left, node.right, ARITHMETIC.get(type(node.op)), places)
    elif isinstance(node, ast.BoolOp):
        for left, right in zip(node.values, node.values[1:], strict=False):
            a, b = places.of(left)[1], places.of(right)[0]
            old, new = ("and", "or ") if isinstance(node.op, ast.And) else ("or", "and")
            at = text.find(old, a, b)
            if at >= 0:
                yield at, at + len(old), new, "%s → %s" % (old, new.strip())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield start, start + 3, "", "not removed"
    elif isinstance(node, (ast.If, ast.While)):
        a, b = places.of(node.test)
        yield a, b, "(not (%s))" % text[a:b], "condition negated"
    elif isinstance(node, ast.Constant) and type(node.value) is int and not isinstance(node.value, bool):
        yield start, end, "(%s + 1)" % text[start:end], "%s + 1" % text[start:end]
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield start, end, str(not node.value), "%s → %s" % (node.value, not node.value)
    elif (
        isinstance(node, ast.Return)
        and node.value is not None
        and not (isinstance(node.value, ast.Constant) and node.value.value in (None, False))
    ):  # None instead of False is the same to a condition, and changing False to True is a separate mutation
        yield start, end, "return None" + "\n" * text[start:end].count("\n"), "returns None"
    elif isinstance(node, ast.Raise):
        yield start, end, "pass" + "\n" * text[start:end].count("\n"), "does not raise"
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield start, end, "pass" + "\n" * text[start:end].count("\n"), "call removed"
    elif isinstance(node, ast.Continue):
        yield start, end, "break", "continue → break"
    elif isinstance(node, ast.Break):
        yield start, end, "continue", "break → continue"


def between(left: ast.expr, right: ast.expr, new: str | None, places: Places) -> Iterator[tuple[int, int, str, str]]:
    a, b = places.of(left)[1], places.of(right)[0]
    match = LETTERS.search(places.text, a, b)
    if new and match:
        yield match.start(), match.end(), new, "%s → %s" % (match[0], new)


def of_rows(path: str, text: str) -> Iterator[Mutation]:
    """For engine/order.py: each row of a timetable left out, and each swapped with the next one of its phase."""
    places = Places(text)
    for table in ast.parse(text).body:
        if not isinstance(table, (ast.Assign, ast.AnnAssign)) or not isinstance(table.value, ast.Tuple):
            continue
        rows = [row for row in table.value.elts if isinstance(row, ast.Tuple) and len(row.elts) == 4]
        for row, following in zip(rows, [*rows[1:], None], strict=False):
            start, end = places.of(row)
            phase, part, verb = (str(one.value) if isinstance(one, ast.Constant) else "" for one in row.elts[:3])
            name = "%s.%s" % (part, verb)
            yield Mutation(path, row.lineno, 1, start, end + 1, "\n" * text[start:end].count("\n"), "row %s %s left out" % (phase, name))
            if following is not None and ast.dump(following.elts[0]) == ast.dump(row.elts[0]):
                last = places.of(following)[1]
                a, b = text[start:end], text[slice(*places.of(following))]
                yield Mutation(
                    path,
                    row.lineno,
                    2,
                    start,
                    last,
                    b + text[end : places.of(following)[0]] + a,
                    "row %s %s after the next" % (phase, name),
                )


C_EDITS = (
    (re.compile(r"(?<![=!<>])==(?!=)"), "!="),
    (re.compile(r"!="), "=="),
    (re.compile(r"(?<![<\-=])<(?![<=])(?=\s)"), "<="),
    (re.compile(r"(?<![>\-=])>(?![>=])(?=\s)"), ">="),
    (re.compile(r"&&"), "||"),
    (re.compile(r"\|\|"), "&&"),
    (re.compile(r"(?<=return )-1(?=;)"), "0"),
    (re.compile(r"(?<=return )0(?=;)"), "-1"),
    (re.compile(r"(?<=if \()(?=[^\n]*\)\n)"), "!"),
)


def of_c(path: str, text: str) -> Iterator[Mutation]:
    """For a C source, based on its text: comparisons, and/or, return values, and calls left out. Results that do not compile do not
    count."""
    at = 0
    for number, line in enumerate(text.split("\n"), 1):
        code = line.partition("/*")[0].rstrip()
        if code.startswith(("    ", "\t")) and not code.lstrip().startswith(("*", "#", "static const", "/")):
            for pattern, new in C_EDITS:
                for match in pattern.finditer(code):
                    what = "%s → %s" % (match[0] or "condition", new)
                    yield Mutation(path, number, match.start() + 1, at + match.start(), at + match.end(), new, what)
            if re.fullmatch(r"\s+\w+\(.*\);", code):
                yield Mutation(path, number, 1, at, at + len(code), "    ;", "call removed")
        at += len(line) + 1
