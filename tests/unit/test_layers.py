"""Imports go down only; no part imports a part; the hot path names no slow module; one module makes paths inside a root."""

import ast
from pathlib import Path

import pytest

import pyrunc

PACKAGE = Path(pyrunc.__file__).parent
FILES = sorted(p for p in PACKAGE.rglob("*.py") if "specs" not in p.parts)

MAY = {
    "cli": {"trace", "seal", "log", "tracefile", "errors", "commands", "linux", "oci"},
    "commands": {
        "engine",
        "parts",
        "store",
        "oci",
        "log",
        "seal",
        "helper_process",
        "jsonio",
        "fileio",
        "install_paths",
        "timestamps",
        "errors",
        "cli",
        "linux",
        "cgroup",
        "commands",
        "json_errors",
        "codes",
        "render",
    },
    "codes": {"errors", "parts"},
    "render": {"codes", "errors", "jsonio", "fileio", "install_paths", "timestamps", "json_errors"},
    "engine": {
        "engine",
        "parts",
        "cgroup",
        "oci",
        "linux",
        "store",
        "helper_process",
        "log",
        "trace",
        "jsonio",
        "fileio",
        "install_paths",
        "timestamps",
        "errors",
    },
    "parts": {"oci", "cgroup", "linux", "errors", "jsonio", "fileio", "install_paths", "timestamps"},
    "cgroup": {"cgroup", "linux", "errors", "jsonio", "fileio", "install_paths", "timestamps", "helper_process"},
    "oci": {"oci", "linux", "errors", "jsonio", "fileio", "install_paths", "timestamps", "helper_process", "json_errors"},
    "linux": {"linux", "errors", "jsonio", "fileio", "install_paths", "timestamps"},
    "store": {"linux", "errors", "jsonio", "fileio", "install_paths", "timestamps"},
    "log": {"trace", "jsonio", "fileio", "install_paths", "timestamps", "errors", "codes", "render"},
    "trace": set(),
    "tracefile": {"trace", "jsonio", "fileio", "install_paths", "timestamps", "errors"},
    "seal": {"linux", "errors", "jsonio", "fileio", "install_paths", "timestamps"},
    "helper_process": {"linux", "errors", "jsonio", "fileio", "install_paths", "timestamps"},
    "jsonio": {"errors", "json_errors"},
    "json_errors": {"errors"},
    "fileio": {"errors"},
    "install_paths": {"errors"},
    "timestamps": set(),
    "errors": set(),
    "helper": {"helper", "jsonio", "fileio", "install_paths", "timestamps", "errors", "oci", "linux"},
    "api": {"api", "oci"},
}
SLOW = {
    "json", "re", "enum", "argparse", "subprocess", "logging", "dataclasses", "typing", "signal", "socket", "pathlib", "traceback",
    "contextlib", "shutil", "tempfile", "collections", "functools", "struct", "threading", "os",
}  # fmt: skip
# Where a slow module is imported inside a function, on a path that no container's life takes.
# oci/explain.py is code of the helper process (jsonschema); it stands beside the validator that it must agree with.
# api/ runs in applications, and drives the runtime from there.
HELPERS = [p for p in FILES if p.relative_to(PACKAGE).parts[0] in ("helper", "api") or p.name == "explain.py"]
LAZY = {("log", "traceback"), ("json_errors", "json"), ("json_errors", "re")}


def area(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def is_for_types(node):
    """`if TYPE_CHECKING:`, which never runs."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imported(path):
    """(line, 'pyrunc.x.y' or 'module', top level?) of each import that happens while pyrunc runs. What stands under `if TYPE_CHECKING:` is
    for the type checker alone."""
    tree = ast.parse(path.read_text())
    top = {id(n) for n in tree.body}
    unreal = {id(below) for node in ast.walk(tree) if is_for_types(node) for below in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in unreal:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            if node.module == "pyrunc":
                for alias in node.names:
                    yield node.lineno, "pyrunc." + alias.name, id(node) in top
            elif node.module != "__future__":  # a flag of the compiler
                yield node.lineno, node.module or "", id(node) in top


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only(path):
    mine = area(path)
    if mine == "__init__":
        assert list(imported(path)) == []  # every command loads it; the names of api/ come by __getattr__
        return
    wrong = []
    for line, name, _top in imported(path):
        if name.startswith("pyrunc."):
            other = name.split(".")[1]
            if other not in MAY[mine]:
                wrong.append(f"{path.name}:{line}: {mine} imports {name}")
            same = path.parent == PACKAGE / "parts" or path.parent.parent != PACKAGE / "parts"
            if mine == "parts" and other == "parts" and same:
                wrong.append(f"{path.name}:{line}: a part imports a part: {name}")
    assert [w for w in wrong if not _package_of_a_part(path, w)] == []


def _package_of_a_part(path, words):
    """A part that is a package may import its own modules."""
    return path.parent.parent == PACKAGE / "parts" and f"pyrunc.parts.{path.parent.name}" in words


@pytest.mark.parametrize("path", [p for p in FILES if p not in HELPERS], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_nothing_slow_is_imported(path):
    wrong = []
    for line, name, top in imported(path):
        first = name.split(".")[0]
        if first in SLOW and (top or (area(path), first) not in LAZY):
            wrong.append(f"{path.name}:{line}: {name}")
    assert wrong == []


INSIDE = [p for p in FILES if area(p) == "parts"]


@pytest.mark.parametrize("path", INSIDE, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_parts_make_no_paths_of_their_own(path):
    """Everything beneath the root goes through linux/paths.py: no os.path, realpath, makedirs or pathlib in a part."""
    names = {n.attr for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)}
    assert names & {"realpath", "makedirs", "abspath", "normpath", "expanduser", "rmtree"} == set()
