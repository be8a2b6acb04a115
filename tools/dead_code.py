#!/usr/bin/env python3
"""Finds names that are defined and never used: functions, classes, constants, methods and attributes of the whole tree.

    tools/dead_code.py             prints them; exit code 1 if there are any
    tools/dead_code.py FOLDER...   only those that are defined below these folders

A name of a module counts as used if its own module reads it, another module imports it or reads it through the imported
module, or anything reads an attribute of that name from an object that is not known to be another module. Methods and attributes
count as used if anything reads an attribute of that name. Reading a name inside its own definition is not a use. Use by the tests does not
count for the product: what only they use is reported as "used by tests only".

Calls by name are used through tables: a string that is exactly the name of a function or class counts, and the row of a verb `host_x` also
counts for `undo_x`. A decorated function counts as used (the decorator registers it), and so do test functions.

Exceptions are listed in tools/dead_code.txt, each with its reason. An exception that is not needed is an error as well.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TREE = Path(__file__).resolve().parent.parent
EXCEPTIONS = Path(__file__).with_suffix(".txt")
FACE = "runtime/pyrunc/api/"  # its public names are for applications
FOLDERS = ("runtime", "conformance", "tools", "bundles", "specs", "tests")
IDENTIFIER = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
C_STRING = re.compile(r'"([A-Za-z_][A-Za-z0-9_]*)"')
PYTEST = re.compile(r"^(test_|Test|pytest_)|^(pytestmark|pytest_plugins|collect_ignore)$")
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


class Name(NamedTuple):
    """One definition: the file, its module name in imports, the owner ("" or the class) and its position."""

    path: str
    module: str
    owner: str
    name: str
    line: int
    last: int
    kind: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.kind} {self.owner + '.' if self.owner else ''}{self.name}"


class Use(NamedTuple):
    """One place that reads a name. `module` is the module that the name belongs to, or None if that is not known."""

    path: str
    line: int
    name: str
    module: str | None
    attribute: bool


class Source:
    """The definitions and uses of one file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path.relative_to(TREE))
        self.module = module_name(path)
        self.names: list[Name] = []
        self.uses: list[Use] = []
        self.strings: set[str] = set()
        self.prefixes: set[str] = set()  # "on_" + kind: methods that are called by a name with a fixed beginning
        tree = ast.parse(path.read_text(), str(path))
        self.modules: dict[str, str] = {}  # local name -> module
        self.imported: dict[str, tuple[str, str]] = {}  # local name -> (module, name)
        for node in ast.walk(tree):
            self.imports(node)
        self.define(tree.body, "")
        for node in ast.walk(tree):
            self.read(node)
        self.reexports(tree)

    def imports(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname:
                    self.modules[alias.asname] = alias.name
        elif isinstance(node, ast.ImportFrom):
            base = resolve(self, node)
            for alias in node.names:
                local = alias.asname or alias.name
                whole = f"{base}.{alias.name}" if base else alias.name
                if whole in MODULES:
                    self.modules[local] = whole
                else:
                    self.imported[local] = (base, alias.name)

    def define(self, body: list[ast.stmt], owner: str) -> None:
        for node in body:
            if isinstance(node, (*FUNCTION, ast.ClassDef)):
                self.define_block(node, owner)
            elif isinstance(node, (ast.If, ast.Try, ast.With)):
                for inner in ast.iter_child_nodes(node):
                    if isinstance(inner, ast.stmt):
                        self.define([inner], owner)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    for one in ast.walk(target):
                        if isinstance(one, ast.Name):
                            self.add(node, owner, one.id, "field" if owner else "constant")

    def define_block(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, owner: str) -> None:
        function = isinstance(node, FUNCTION)
        if not node.decorator_list or ruled(node):
            self.add(node, owner, node.name, ("method" if owner else "function") if function else "class")
        if isinstance(node, ast.ClassDef):
            if not plain_data(node):
                self.define(node.body, node.name)
            else:
                self.define([n for n in node.body if isinstance(n, FUNCTION)], node.name)
        elif owner:
            for inner in ast.walk(node):  # self.x = …
                if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store) and isinstance(inner.value, ast.Name):
                    if inner.value.id == "self":
                        self.add(inner, owner, inner.attr, "attribute")

    def add(self, node: ast.stmt | ast.expr, owner: str, name: str, kind: str) -> None:
        if (name.startswith("__") and name.endswith("__")) or name == "_":
            return
        if any(d.name == name and d.owner == owner for d in self.names):
            return
        self.names.append(Name(self.path, self.module, owner, name, node.lineno, node.end_lineno or node.lineno, kind))

    def read(self, node: ast.AST) -> None:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Store):
            module, name = self.imported.get(node.id, (self.module, node.id))
            self.uses.append(Use(self.path, node.lineno, name, module, False))
        elif isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Store):
            self.uses.append(Use(self.path, node.lineno, node.attr, self.object_module(node.value), True))
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Attribute):
            self.uses.append(Use(self.path, node.lineno, node.target.attr, None, True))
        elif isinstance(node, ast.ImportFrom):
            base = resolve(self, node)
            for alias in node.names:  # ruff's F401 checks whether the local name is read
                self.uses.append(Use(self.path, node.lineno, alias.name, base, False))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and isinstance(node.left, ast.Constant):
            if isinstance(node.left.value, str) and IDENTIFIER.match(node.left.value):
                self.prefixes.add(node.left.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and IDENTIFIER.match(node.value):
            self.strings.add(node.value)
        elif isinstance(node, ast.MatchClass):
            self.uses += [Use(self.path, node.cls.lineno, a, None, True) for a in node.kwd_attrs]

    def object_module(self, value: ast.expr) -> str | None:
        """The module that an expression names, or None."""
        if isinstance(value, ast.Name):
            return self.modules.get(value.id)
        if isinstance(value, ast.Attribute):
            whole = ast.unparse(value)
            return whole if whole in MODULES else None
        return None

    def reexports(self, tree: ast.Module) -> None:
        """Names that a module imports only to re-export them (noqa: F401) count as its own definitions."""
        read = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} | self.strings
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module != "__future__":
                for alias in node.names:
                    name = alias.asname or alias.name
                    if name != "*" and name not in read and f"{self.module}.{name}" not in MODULES:
                        self.add(alias_node(node, alias), "", name, "import")


def alias_node(node: ast.ImportFrom, alias: ast.alias) -> ast.expr:
    return ast.Name(alias.name, ast.Load(), lineno=alias.lineno, col_offset=0, end_lineno=alias.end_lineno, end_col_offset=0)


def ruled(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """Whether all decorators are ones that do not register anything."""
    plain = {"property", "staticmethod", "classmethod", "dataclass", "contextmanager", "cache", "lru_cache", "fixture"}
    for one in node.decorator_list:
        call = one.func if isinstance(one, ast.Call) else one
        name = call.attr if isinstance(call, ast.Attribute) else getattr(call, "id", "")
        if name == "fixture" and isinstance(one, ast.Call) and any(k.arg == "autouse" for k in one.keywords):
            return False
        if name not in plain:
            return False
    return True


def plain_data(node: ast.ClassDef) -> bool:
    """TypedDict, NamedTuple and Protocol describe data; their fields are also read as keys or by position."""
    bases = {b.attr if isinstance(b, ast.Attribute) else getattr(b, "id", "") for b in node.bases}
    return bool(bases & {"TypedDict", "NamedTuple", "Protocol"})


def module_name(path: Path) -> str:
    folder = path.relative_to(TREE).parts[0]
    if folder in ("tests", "tools", "bundles", "specs"):
        return "fakes." + path.stem if path.parent.name == "fakes" else path.stem  # that folder is imported as a package
    inside = path.relative_to(TREE / "runtime" if folder == "runtime" else TREE)
    if inside.parts[:2] == ("conformance", "oci_conformance"):
        inside = inside.relative_to("conformance")
    return ".".join(inside.with_suffix("").parts).removesuffix(".__init__")


def resolve(source: Source, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = source.module.split(".")
    package = parts if source.path.endswith("__init__.py") else parts[:-1]
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])


def files() -> Iterator[Path]:
    for folder in FOLDERS:
        for path in sorted((TREE / folder).rglob("*.py")):
            if "__pycache__" not in path.parts and "corpus" not in path.parts:
                yield path


MODULES = {module_name(p) for p in files()}


class Uses:
    """All uses in the tree (or in everything but the tests), indexed for queries."""

    def __init__(self, sources: list[Source], strings: set[str]) -> None:
        self.exact: dict[tuple[str, str], list[Use]] = {}
        self.attributes: dict[str, list[Use]] = {}
        self.strings = set(strings)
        self.prefixes: set[tuple[str, str]] = {(s.path, p) for s in sources for p in s.prefixes}
        for source in sources:
            self.strings |= source.strings
            for use in source.uses:
                if use.module is not None:
                    self.exact.setdefault((use.module, use.name), []).append(use)
                if use.attribute and (use.module is None or use.module not in MODULES):
                    self.attributes.setdefault(use.name, []).append(use)
        self.strings |= {"undo_" + s[5:] for s in self.strings if s.startswith("host_")}

    def of(self, name: Name) -> bool:
        where = list(self.attributes.get(name.name, ()))
        if not name.owner:
            where += self.exact.get((name.module, name.name), ())
        elif name.kind in ("field", "class"):  # read inside the class body by its bare name
            where += [u for u in self.exact.get((name.module, name.name), ()) if u.path == name.path]
        if any(not inside(use, name) for use in where):
            return True
        if name.kind == "method" and any(path == name.path and name.name.startswith(p) for path, p in self.prefixes):
            return True
        return name.kind != "constant" and name.name in self.strings


def inside(use: Use, name: Name) -> bool:
    return name.kind != "attribute" and use.path == name.path and name.line <= use.line <= name.last


def fixtures(sources: list[Source]) -> set[str]:
    """Names of parameters in the tests: pytest passes fixtures by them."""
    found: set[str] = set()
    for source in sources:
        if source.path.startswith("tests/"):
            for node in ast.walk(ast.parse((TREE / source.path).read_text())):
                if isinstance(node, FUNCTION):
                    found |= {a.arg for a in node.args.args + node.args.kwonlyargs}
    return found


def inherited(sources: list[Source]) -> set[str]:
    """Methods that a base class outside of the tree calls: http.server, unittest, ast.NodeVisitor, threading …"""
    known = {"do_GET", "do_POST", "log_message", "run", "default", "emit", "handle", "_fields_", "_split_scope"}
    return known | {n.name for s in sources for n in s.names if n.owner and n.name.startswith(("visit_", "handle_"))}


def find() -> Iterator[tuple[Name, str]]:
    """(definition, "unused" or "used by tests only") of the whole tree."""
    sources = [Source(p) for p in files()]
    from_c = {s for p in (TREE / "runtime/csrc").glob("*.[ch]") for s in C_STRING.findall(p.read_text())}
    everything = Uses(sources, from_c)
    product = Uses([s for s in sources if not s.path.startswith("tests/")], from_c)
    by_pytest, by_base = fixtures(sources), inherited(sources)
    for source in sources:
        tests = source.path.startswith("tests/")
        for name in source.names:
            if name.owner and name.name in by_base:
                continue
            if name.path.startswith(FACE) and not name.name.startswith("_"):
                continue
            if name.name.startswith("pytest_") or tests and (PYTEST.match(name.name) or name.name in by_pytest):
                continue
            if not everything.of(name):
                yield name, "unused"
            elif not tests and not product.of(name):
                yield name, "used by tests only"


def exceptions() -> dict[tuple[str, str], int]:
    """(path, name) -> line in the list. A line: `path name  reason`."""
    found = {}
    for number, line in enumerate(EXCEPTIONS.read_text().splitlines(), 1):
        if line and not line.startswith("#"):
            path, name, reason = line.split(None, 2)
            assert reason, f"{EXCEPTIONS.name}:{number}: no reason"
            found[path, name] = number
    return found


def main(folders: list[str]) -> int:
    allowed = exceptions()
    needed = set()
    count = 0
    for name, why in find():
        full = f"{name.owner}.{name.name}" if name.owner else name.name
        key = next((k for k in ((name.path, full), (name.path, "*")) if k in allowed), None)
        if key:
            needed.add(key)
        elif not folders or any(name.path.startswith(f.rstrip("/") + "/") for f in folders):
            print(f"{name}: {why}")
            count += 1
    for key in allowed.keys() - needed:
        print(f"tools/{EXCEPTIONS.name}:{allowed[key]}: {' '.join(key)} needs no exception")
        count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
