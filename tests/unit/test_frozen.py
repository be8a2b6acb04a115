"""The contents of the compiled launcher: every import can be resolved, and the generated files are up to date with the sources."""

import ast
import hashlib
import importlib.util
import marshal
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from pyrunc import commands as command_table

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
RUNTIME = ROOT / "runtime"
CSRC = RUNTIME / "csrc"
# Optional imports, which may be missing: the C module of python-prctl, and the name of _sha2 in 3.11.
OPTIONAL = {"_prctl", "_sha256"}
IN_THE_HELPER = {"pyrunc.oci.explain"}

spec = importlib.util.spec_from_file_location("freeze", CSRC / "freeze.py")
freeze = importlib.util.module_from_spec(spec)
spec.loader.exec_module(freeze)

MODULES = list(freeze.modules(str(RUNTIME)))
NAMES = {name for name, _path, _package in MODULES}


def built_in():
    """Modules in inittab.c, and those that the interpreter itself freezes."""
    text = (CSRC / "inittab.c").read_text()
    listed = re.search(r"#define MODULES\(X\)(.*?)\n\n", text, re.S).group(1)
    return set(re.findall(r"X\((\w+)\)", listed)) | {"marshal", "_warnings", "builtins", "sys", "pyrunc.linux._syscalls"}


@pytest.mark.parametrize("name, path", [(n, p) for n, p, _ in MODULES if n not in IN_THE_HELPER], ids=lambda x: x if "/" not in x else "")
def test_every_import_is_frozen_or_built_in(name, path):
    known = NAMES | built_in() | OPTIONAL
    wrong = []
    for node in ast.walk(freeze.Untyped().visit(ast.parse(pathlib.Path(path).read_text()))):
        if isinstance(node, ast.Import):
            wrong += [alias.name for alias in node.names if alias.name not in known]
        elif isinstance(node, ast.ImportFrom) and node.module not in known:
            wrong.append(node.module)
    assert not wrong, "%s imports modules that the compiled launcher lacks: %s (csrc/inittab.c lists those that it has)" % (name, wrong)


@pytest.mark.parametrize("name, path", [(n, p) for n, p, _ in MODULES if n not in IN_THE_HELPER], ids=lambda x: x if "/" not in x else "")
def test_no_module_reads_docstrings_or_its_own_file(name, path):
    """The frozen package has neither; only install_paths.home deals with that."""
    words = set(re.findall(r"__doc__|__file__|pkgutil|importlib", pathlib.Path(path).read_text()))
    assert not words or name in ("pyrunc.install_paths", "pyrunc.seal"), words


def test_types_are_not_frozen(tmp_path):
    typed = (
        "from __future__ import annotations\nTYPE_CHECKING = False\nif TYPE_CHECKING:\n    from typing import Any\nclass C:\n    x: int\n"
        "    y: int = 2\ndef f(a: Any, *b: int, c: str = 'c') -> Any:\n    d: Any = (a, b, c)\n    return d\n"
    )
    path = tmp_path / "typed.py"
    path.write_text(typed)
    space = {"__name__": "typed"}
    code = marshal.loads(freeze.code(str(path), "typed.py"))
    exec(code, space)
    assert space["f"](1, 2) == (1, (2,), "c") and space["C"].y == 2  # type: ignore[attr-defined,operator]
    assert not space["f"].__annotations__ and not space["C"].__annotations__ and "Any" not in space
    assert "__future__" not in code.co_names and "annotations" not in space


def test_the_helper_stays_outside():
    assert "pyrunc.cli" in NAMES and "pyrunc.linux.constants" in NAMES
    assert not [n for n in NAMES if n.startswith(("pyrunc.helper.", "pyrunc.api."))]
    assert ("pyrunc", True) in {(n, package) for n, _p, package in MODULES}


def test_docstrings_are_left_out_and_assertions_stay(tmp_path):
    source = tmp_path / "module.py"
    source.write_text(
        '"""Away."""\ndef f():\n    """Away too."""\nclass C:\n    """And this."""\n    x = "here"\ndef g(a):\n    assert a, "kept"\n'
    )
    space = {}
    exec(marshal.loads(freeze.code(str(source), "shown.py")), space)
    assert space.get("__doc__") is None and space["f"].__doc__ is None and space["C"].__doc__ is None
    assert space["f"]() is None and space["C"].x == "here"
    assert space["f"].__code__.co_filename == "shown.py"
    with pytest.raises(AssertionError, match="kept"):
        space["g"](0)


def test_generated_files_are_the_same_each_time(tmp_path):
    for name in ("one", "two"):
        run = [sys.executable, "-I", "-B", str(CSRC / "freeze.py"), str(RUNTIME), str(tmp_path / name)]
        subprocess.run(run, check=True)
    for file in ("frozen.bin", "frozen.h", "commands.h"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    text = (tmp_path / "one/commands.h").read_text()
    sealed = re.search(r"sealed_commands\[\] = \{(.*), 0\}", text).group(1)
    assert sealed == ", ".join('"%s"' % n for n, row in command_table.COMMANDS.items() if row.sealed)
    assert '"log"' in text and '"root"' in text and '"debug"' not in text


def test_sha2(tmp_path):
    """csrc/sha2.c agrees with hashlib for lengths around block boundaries."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("this machine has no C compiler")
    main = tmp_path / "main.c"
    calls = "".join(
        "if (bits == %d) { struct state_%s *s = EXPORT_(malloc_%d)(), *t; uint8_t out[64]; EXPORT_(update_%s)(s, data, n / 3); "
        "t = EXPORT_(copy_%s)(s); EXPORT_(digest_%s)(s, out); EXPORT_(update_%s)(t, data + n / 3, n - n / 3); EXPORT_(digest_%s)(t, out); "
        'for (int i = 0; i < %d; i++) printf("%%02x", out[i]); puts(""); EXPORT_(free_%s)(s); EXPORT_(free_%s)(t); }\n'
        % (bits, w, bits, w, w, w, w, w, bits // 8, w, w)
        for bits, w in ((224, "256"), (256, "256"), (384, "512"), (512, "512"))
    )
    main.write_text(
        '#include <stdio.h>\n#include "%s"\n#define EXPORT_(x) python_hashlib_Hacl_Hash_SHA2_##x\n'
        "int main(void) { static uint8_t data[5000]; for (int i = 0; i < 5000; i++) data[i] = i * 7 + i / 256;\n"
        "for (int n = 0; n < 5000; n = n < 300 ? n + 1 : n * 2 + 1) for (int bits = 224; bits <= 512; bits += 32) {\n%s}\nreturn 0; }\n"
        % (CSRC / "sha2.c", calls)
    )
    subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", "-fsanitize=undefined", "-o", tmp_path / "main", main], check=True)
    lines = iter(subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True).stdout.split())
    data = bytes((i * 7 + i // 256) & 255 for i in range(5000))
    n = 0
    while n < 5000:
        for bits in (224, 256, 384, 512):
            assert next(lines) == hashlib.new("sha%d" % bits, data[:n]).hexdigest(), (bits, n)
        n = n + 1 if n < 300 else n * 2 + 1
    assert next(lines, None) is None


def codes(made):
    """All code objects in a module."""
    yield made
    for constant in made.co_consts:
        if isinstance(constant, type(made)):
            yield from codes(constant)


def test_hot_functions_exist():
    """A name that no longer exists only costs a little time, so a few may be missing; tools/hot_code.py updates the list."""
    listed = set(freeze.Groups(("--groups",)).numbers)
    there = set()
    for name, path, _package in MODULES:
        made = compile(pathlib.Path(path).read_text(), path, "exec", dont_inherit=True)
        there |= {(name, code.co_qualname) for code in codes(made)}
    assert len(listed) > 300
    assert len(listed - there) <= len(listed) // 20, "run tools/hot_code.py: %s no longer exist" % sorted(listed - there)


def test_groups_agree_with_the_c_sources():
    """The mark on a function, the number of groups and the order of the places."""
    tuning, heap, header = ((CSRC / name).read_text() for name in ("tuning_313.c", "heap.c", "heap.h"))
    assert int(re.search(r"#define GROUP_SHIFT (\d+)", tuning)[1]) == freeze.GROUP_SHIFT
    assert int(re.search(r"#define GROUP_MASK (\d+)", tuning)[1]) == freeze.MOST_GROUPS
    assert int(re.search(r"#define GROUPS (\d+)", heap)[1]) == freeze.MOST_GROUPS
    places = re.search(r"enum place \{ (.*), PLACES \}", header)[1].replace("PLACE_", "").lower().split(", ")
    assert [name.split()[0] for name in freeze.PLACES] == places


def test_groups_are_marked(tmp_path):
    groups = freeze.Groups(("--groups",))
    groups.numbers = {("m", "f"): 3, ("m", "f.<locals>.<lambda>"): 1}
    source = tmp_path / "m.py"
    source.write_text("def f():\n    return lambda: 1\ndef g():\n    pass\n")
    made = marshal.loads(freeze.code(str(source), "m.py", "m", groups))
    assert {code.co_qualname: code.co_flags >> freeze.GROUP_SHIFT for code in codes(made)} == {
        "<module>": 0,
        "f": 3,
        "f.<locals>.<lambda>": 1,
        "g": 0,
    }
