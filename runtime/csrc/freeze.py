"""Writes the parts of the compiled launcher: the package as byte code, and the syntax of the command line as C.

    freeze.py RUNTIME OUT [--encodings] [--helpers] [--libseccomp] [--groups] [--licences=FILE]  → OUT/frozen.bin, OUT/frozen.h, OUT/commands.h

Run it with the interpreter whose libpython is linked, because byte code belongs to one minor version. Docstrings and annotations are
omitted (nothing reads them at run time), assertions are kept. api/ is not frozen: it runs in applications. The modules of helper/ that need
only the standard library are frozen, so that their commands need no Python on the host: `--helpers` adds them and what they import,
`--libseccomp` adds those that call libseccomp, which is then linked in. helper_process.py calls frozen helpers in the same process.
`--groups` marks the functions of hot.txt, each with the number of its group, for tuning_313.c, which removes the mark again.
`--encodings` also freezes the standard library's codecs, for an interpreter that is initialised completely (shared libpython).

The rows of frozen.h are in two parts: the first FROZEN_AT_ONCE modules belong to the snapshot, the others are imported when needed.
"""

import ast
import importlib.util
import marshal
import os
import subprocess
import sys
from collections.abc import Iterator
from types import CodeType

ALIGN = 16
GROUP_SHIFT = 26  # of co_flags, as in tuning_313.c
MOST_GROUPS = 31
PLACES = ("before the clone", "host", "init", "exec", "others")  # as in heap.h
HEADER = 8  # of a block, as in heap.c
HERE = os.path.dirname(os.path.abspath(__file__))
IN_THE_HELPER = {"pyrunc.oci.explain"}
HELPERS = ("engines", "install", "regex")  # modules of pyrunc.helper that need only the standard library
WITH_LIBSECCOMP = ("seccomp", "syscalls")
CODECS = ("encodings", "encodings.aliases", "encodings.utf_8", "encodings.latin_1", "encodings.ascii", "encodings.unicode_escape")


def modules(runtime: str) -> Iterator[tuple[str, str, bool]]:
    """(name, file, is a package) of the package, in a stable order."""
    for folder, folders, files in os.walk(os.path.join(runtime, "pyrunc")):
        folders[:] = sorted(f for f in folders if f not in ("__pycache__", "api", "helper", "specs"))
        for file in sorted(files):
            if file.endswith(".py"):
                path = os.path.join(folder, file)
                name = os.path.relpath(path, runtime)[:-3].replace(os.sep, ".")
                is_package = name.endswith(".__init__")
                if name not in IN_THE_HELPER:
                    yield name.removesuffix(".__init__"), path, is_package


class Untyped(ast.NodeTransformer):
    """Removes what only type checkers read: annotations, `if TYPE_CHECKING:` and `from __future__ import annotations`."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if node.module == "__future__" and [alias.name for alias in node.names] == ["annotations"] else node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt] | None:
        self.generic_visit(node)
        return node.orelse or None if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        return ast.copy_location(ast.Assign([node.target], self.visit(node.value)), node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.If | ast.With | ast.For | ast.While | ast.Try) and not node.body:
            node.body.append(ast.copy_location(ast.Pass(), node))
        return node


class Groups:
    """The functions of hot.txt. sizes: of the memory that the code of each group takes, in bytes."""

    def __init__(self, options: tuple[str, ...]) -> None:
        self.numbers: dict[tuple[str, str], int] = {}  # {(module, function): number of its group, from 1}
        self.sizes: list[int] = []
        self.places = [0] * len(PLACES)  # bits: group 1 runs there, group 2, …
        if "--groups" not in options:
            return
        with open(os.path.join(HERE, "hot.txt"), encoding="utf-8") as file:
            for line in file.read().splitlines():
                if line.startswith("["):
                    for name in line.strip("[]").split(", "):
                        self.places[PLACES.index(name)] |= 1 << len(self.sizes)
                    self.sizes.append(ALIGN)
                elif line and not line.startswith("#"):
                    module, _, function = line.partition(" ")
                    self.numbers[module, function] = len(self.sizes)
        if len(self.sizes) > MOST_GROUPS:
            raise SystemExit("freeze.py: hot.txt has %d groups, more than %d" % (len(self.sizes), MOST_GROUPS))

    def row(self) -> tuple[int, str, str]:
        """For struct groups of heap.h."""
        return len(self.sizes), ", ".join(map(str, self.sizes)), ", ".join(map(str, self.places))

    def marked(self, module: str, made: CodeType) -> CodeType:
        """The code of a module, and in it that of its functions, with the numbers of their groups."""
        inside = tuple(self.marked(module, c) if isinstance(c, CodeType) else c for c in made.co_consts)
        made = made.replace(co_consts=inside)
        number = self.numbers.get((module, made.co_qualname))
        if number is None:
            return made
        self.sizes[number - 1] += (HEADER + sys.getsizeof(made) + ALIGN - 1) // ALIGN * ALIGN
        return made.replace(co_flags=made.co_flags | number << GROUP_SHIFT)


def code(path: str, shown: str, module: str = "", groups: Groups | None = None) -> bytes:
    """Byte code of a file, without docstrings and types, under a name that does not depend on where it was built."""
    with open(path, encoding="utf-8") as file:
        tree = Untyped().visit(ast.parse(file.read(), shown))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            del node.body[0]
            if not node.body and not isinstance(node, ast.Module):
                node.body.append(ast.copy_location(ast.Pass(), first))
    made = compile(tree, shown, "exec", dont_inherit=True, optimize=0)
    return marshal.dumps(groups.marked(module, made) if groups and groups.numbers else made)


def helpers(runtime: str, names: tuple[str, ...]) -> Iterator[tuple[str, bytes, bool]]:
    """(name, byte code, is a package) of modules of pyrunc.helper."""
    for name in names:
        path = os.path.join(runtime, "pyrunc/helper", name + ".py")
        shown = "pyrunc.helper" + ("" if name == "__init__" else "." + name)
        yield shown, code(path, os.path.relpath(path, runtime)), name == "__init__"


def library(runtime: str) -> Iterator[tuple[str, bytes, bool]]:
    """(name, byte code, is a package) of the standard library's modules that HELPERS import and that are in files."""
    asked = "import sys; sys.path.append(%r); before = set(sys.modules); import %s\n" % (
        runtime,
        ", ".join("pyrunc.helper." + name for name in HELPERS),
    )
    asked += "for name, m in sorted(sys.modules.items()):\n"
    asked += "    spec = getattr(m, '__spec__', None)\n"
    asked += "    if spec and name not in before and name[:6] != 'pyrunc': print(name, spec.origin, int(hasattr(m, '__path__')))"
    answer = subprocess.run([sys.executable, "-I", "-S", "-B", "-c", asked], capture_output=True, text=True, check=True).stdout
    for line in answer.splitlines():
        name, origin, is_package = line.split()
        if origin.endswith(".so"):
            raise SystemExit("freeze.py: %s is a file, %s; it can't be frozen" % (name, origin))
        if origin.endswith(".py"):
            with open(origin, "rb") as file:  # a library may read its own docstrings and annotations
                source = file.read()
            shown = name.replace(".", "/") + ".py"
            yield name, marshal.dumps(compile(source, shown, "exec", dont_inherit=True, optimize=0)), is_package == "1"


def at_once(runtime: str, options: tuple[str, ...], groups: Groups) -> Iterator[tuple[str, bytes, bool]]:
    hot = {module for module, _function in groups.numbers}  # these first: what they consist of lies side by side then
    for name, path, is_package in sorted(modules(runtime), key=lambda row: row[0] not in hot):
        yield name, code(path, os.path.relpath(path, runtime), name, groups), is_package
    if "--libseccomp" in options:
        yield from helpers(runtime, ("__init__", *WITH_LIBSECCOMP))
    if "--encodings" not in options:
        path = os.path.join(runtime, "csrc/frozen/encodings.py")
        yield "encodings", code(path, "encodings.py"), True
        return
    for name in CODECS:
        spec = importlib.util.find_spec(name)
        path = spec.origin if spec and spec.origin else name
        yield name, code(path, name + ".py"), name == "encodings"


def when_needed(runtime: str, options: tuple[str, ...]) -> Iterator[tuple[str, bytes, bool]]:
    if "--helpers" in options:
        yield from helpers(runtime, HELPERS if "--libseccomp" in options else ("__init__", *HELPERS))
        yield from library(runtime)
    for option in options:
        if option.startswith("--licences="):
            with open(option.partition("=")[2], encoding="utf-8") as file:
                text = ast.parse("TEXT = %r" % file.read(), "licences.py")
            yield "pyrunc.licences", marshal.dumps(compile(text, "licences.py", "exec", dont_inherit=True)), False


def write_frozen(runtime: str, out: str, options: tuple[str, ...]) -> None:
    lines = []
    groups = Groups(options)
    with open(os.path.join(out, "frozen.bin"), "wb") as blob:

        def put(rows: Iterator[tuple[str, bytes, bool]]) -> int:
            for name, data, is_package in rows:
                row = '    {.name = "%s", .code = frozen_code + %d, .size = %d, .is_package = %d},'
                lines.append(row % (name, blob.tell(), len(data), is_package))
                blob.write(data + bytes(-len(data) % ALIGN))
            return len(lines)

        count = put(at_once(runtime, options, groups))
        put(when_needed(runtime, options))
    with open(os.path.join(out, "frozen.h"), "w", encoding="utf-8") as file:
        file.write("/* written by freeze.py */\n#define FROZEN_AT_ONCE %d\nstatic const struct _frozen frozen_modules[] = {\n" % count)
        file.write("%s\n    {.name = 0},\n};\n" % "\n".join(lines))
        file.write("#ifdef PYRUNC_SNAPSHOT\nstatic const struct groups code_groups = {%d, {%s}, {%s}};\n#endif\n" % groups.row())


def write_commands(runtime: str, out: str) -> None:
    """Which global options take a value, and which commands run sealed, from commands/__init__.py."""
    sys.path.insert(0, runtime)
    from pyrunc import commands as command_table

    names = [n for n, kind in command_table.GLOBAL.items() if kind != command_table.B]
    names += [short for short, name in command_table.GLOBAL_SHORT.items() if command_table.GLOBAL[name] != command_table.B]
    sealed = [name for name, row in command_table.COMMANDS.items() if row.sealed]
    with open(os.path.join(out, "commands.h"), "w", encoding="utf-8") as file:
        file.write("/* written by freeze.py */\n")
        for label, words in (("options_with_value", names), ("sealed_commands", sealed)):
            file.write("static const char *const %s[] = {%s, 0};\n" % (label, ", ".join('"%s"' % w for w in words)))


def main(runtime: str, out: str, *options: str) -> None:
    os.makedirs(out, exist_ok=True)
    write_frozen(runtime, out, options)
    write_commands(runtime, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
