"""_syscalls.pyi matches the C method tables: the same functions, number of positional arguments, keywords and defaults."""

import ast
import re
from pathlib import Path

import pytest

from pyrunc.linux import _syscalls

STUB = Path(_syscalls.__file__.replace(".abi3.so", ".pyi"))
CSRC = STUB.parents[2] / "csrc"
SOURCES = (
    "mount.c",
    "file.c",
    "process.c",
    "bpf.c",
    "ops.c",
    "spawn.c",
    "procfs.c",
    "json.c",
    "schema.c",
    "calls.c",
    "mountinfo.c",
)  # the tables that syscalls.c joins
TYPES = {
    "i": "int",
    "p": "bool",
    "I": "int",
    "k": "int",
    "K": "int",
    "L": "int",
    "s": "str",
    "O": None,
    "O&": None,
    "y#": "bytes",
    "z#": "bytes | None",
}


def rows():
    """{name: (C function, takes no arguments, takes keywords, help)} of the method tables."""
    found = {}
    row = re.compile(r'\{"(\w+)",\s*(?:\(PyCFunction\)\(void \(\*\)\(void\)\))?(\w+),\s*([A-Z_| ]+),\s*((?:"(?:[^"\\]|\\.)*"\s*)+)\}')
    for source in SOURCES:
        for name, function, flags, text in row.findall((CSRC / source).read_text()):
            words = "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', text)).replace('\\"', '"').replace("\\n", "\n")
            found[name] = (source, function, "METH_NOARGS" in flags, "METH_KEYWORDS" in flags, words)
    return found


ROWS = rows()
FACE = {node.name: node for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.FunctionDef)}


def letters(format):
    """'iO&|z#' -> ([letters], how many are required)."""
    required, found = None, []
    for match in re.finditer(r"\||[a-zA-Z][&#]?", format):
        if match[0] == "|":
            required = len(found)
        else:
            found.append(match[0])
    return found, len(found) if required is None else required


def parsed(source, function):
    """(letters, required, keywords or None) of the call that parses the arguments in the body of a C function."""
    text = (CSRC / source).read_text()
    body = text[text.index("static PyObject *%s(" % function) :]
    body = body[: body.index("\n}\n")]
    call = re.search(r'(?:PyArg_ParseTuple(?:AndKeywords)?|take_arguments)\(\s*args,[^"]*"([^":;]*):(\w+)"', body)
    assert call, "%s does not parse its arguments" % function
    names = re.search(r"static char \*names\[\] = \{([^}]*)\}", body)
    return (*letters(call[1]), re.findall(r'"(\w+)"', names[1]) if names else None, call[2])


def test_the_tables_cover_the_whole_extension():
    public = {name for name in dir(_syscalls) if callable(getattr(_syscalls, name)) and not name.startswith("_")} - {"Stat"}
    assert set(ROWS) == set(FACE) == public


@pytest.mark.parametrize("name", ROWS)
def test_arguments(name):
    source, function, is_without, takes_keywords, _help = ROWS[name]
    face = FACE[name].args
    positional, both = face.posonlyargs, face.args
    if is_without:
        assert not positional and not both
        return
    found, required, keywords, label = parsed(source, function)
    assert label == name, "the name used in error messages"
    if takes_keywords:
        assert [argument.arg for argument in both] == keywords and not positional
    else:
        assert not both, "positional arguments come before /"
        assert keywords is None
    arguments = both if takes_keywords else positional
    assert len(arguments) == len(found)
    assert len(face.defaults) == len(found) - required, "the optional arguments"
    for argument, letter in zip(arguments, found, strict=True):
        if TYPES[letter] is not None:
            assert ast.unparse(argument.annotation) == TYPES[letter], argument.arg


@pytest.mark.parametrize("name", ROWS)
def test_help_has_the_same_signature(name):
    """The first line of the help text is the signature, with the names and defaults of the stub."""
    text = ROWS[name][4]
    assert getattr(_syscalls, name).__doc__ == text
    signature = text[: text.index("\n")] if "\n" in text else text
    inside = signature[len(name) + 1 :]
    depth, end = 1, 0
    while depth:
        depth += {"(": 1, ")": -1}.get(inside[end], 0)
        end += 1
    (node,) = ast.parse("def f(%s): ..." % inside[: end - 1]).body
    assert isinstance(node, ast.FunctionDef)
    face = FACE[name].args
    assert [a.arg for a in node.args.args] == [a.arg for a in (*face.posonlyargs, *face.args)]
    assert [ast.unparse(d) for d in node.args.defaults] == [ast.unparse(d) for d in face.defaults]


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if not row[3]])
def test_one_argument_too_many(name):
    """The extension behaves as the tables say."""
    count = len(FACE[name].args.posonlyargs)
    with pytest.raises(TypeError):
        getattr(_syscalls, name)(*[None] * (count + 1))


def test_constants():
    names = {ast.unparse(node.target) for node in ast.parse(STUB.read_text()).body if isinstance(node, ast.AnnAssign)}
    assert names == {"OPS", "RECORD_SIZE", "RECORD_FORMAT", "FIRST", "SECOND"}
