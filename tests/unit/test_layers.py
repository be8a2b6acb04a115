"""Imports go down only; no part imports a part; the hot path imports no slow module; only one module resolves paths inside a root."""

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


# Modules of the engine that translate or compare plans, and so read them: for CRIU, for `diff`, `update`, `mounts`, `gc` and the preview of
# control files. All others only execute the timetable, and must not look into a plan.
READ_PLANS = {
    "checkpoint.py", "criu_external.py", "restore.py", "restore_mounts.py", "live_mounts.py", "update.py", "gc.py", "cgroup_preview.py",
}  # fmt: skip
WALKERS = [p for p in FILES if p.parent == PACKAGE / "engine" and p.name not in READ_PLANS]
# (module, function): why it looks all the same
LOOK_INSIDE = {
    ("run.py", "__init__"): "the rootfs, without loading the part for a command that needs nothing else of it",
    ("lifecycle.py", "delete_broken"): "of a plan that may be damaged",
}


def is_plan(node, names):
    """Whether an expression is the plan of one part: plans["x"], plans.get("x"), planner.entry(plans, "x"), or a name for one of these."""
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.BoolOp):
        return any(is_plan(value, names) for value in node.values)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr == "entry" or node.func.attr == "get" and "plans" in ast.unparse(node.func.value).split(".")
    return isinstance(node, ast.Subscript) and ast.unparse(node.value).split(".")[-1] == "plans"


def looks(tree):
    """(function, line) of each place that takes something out of a part's plan."""
    for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
        names = {
            target.id
            for n in ast.walk(function)
            if isinstance(n, ast.Assign) and is_plan(n.value, set())
            for target in n.targets
            if isinstance(target, ast.Name)
        }
        for n in ast.walk(function):
            taken = n.value if isinstance(n, ast.Subscript) else None
            if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr in ("get", "items", "keys", "values"):
                taken = n.func.value
            if taken is not None and is_plan(taken, names):
                yield function.name, n.lineno  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", WALKERS, ids=lambda p: p.name)
def test_who_walks_the_timetable_does_not_look_inside_plans(path):
    found = [(name, line) for name, line in looks(ast.parse(path.read_text())) if (path.name, name) not in LOOK_INSIDE]
    assert found == []


def test_looking_inside_would_be_seen():
    source = "def f(run):\n entry = planner.entry(run.plans, 'x')\n entry['y']\n run.plans['x']['y']\n (run.plans.get('x') or {}).get('y')\n run.plans['x']"
    assert [line for _name, line in looks(ast.parse(source))] == [3, 4, 5]


@pytest.mark.parametrize("path", [p for p in FILES if area(p) in ("cli", "commands")], ids=lambda p: p.name)
def test_commands_make_no_calls_of_the_extension(path):
    assert "pyrunc.linux._syscalls" not in {name for _line, name, _top in imported(path)}
    assert "_syscalls" not in {n.id for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Name)}


STATEFUL = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)


@pytest.mark.parametrize("path", INSIDE, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_parts_keep_no_state_and_read_no_surroundings(path):
    """No `global`, no change of a module's own tables, no argv, environment or clock."""
    tree = ast.parse(path.read_text())
    assert not [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Global)]
    tables = {
        t.id for n in tree.body if isinstance(n, ast.Assign) and isinstance(n.value, STATEFUL) for t in n.targets if isinstance(t, ast.Name)
    }
    changed = [
        n.lineno
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for n in ast.walk(function)
        if isinstance(n, ast.Subscript) and isinstance(n.ctx, ast.Store) and isinstance(n.value, ast.Name) and n.value.id in tables
    ]
    assert changed == []
    used = {ast.unparse(n) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    assert used & {"sys.argv", "posix.environ", "os.environ", "time.time", "time.time_ns"} == set()


# Modules besides store.py that make or remove files by a descriptor; those in the container's directory have it from store.py.
BY_DESCRIPTOR = {
    ("engine/gate.py", "the two fifos of start"), ("engine/restore.py", "empty directories that CRIU mounts on"),
    ("engine/criu.py", "what a killed CRIU leaves in its own work directory"), ("engine/checkpoint.py", "images, in the directory that was asked for"),
    ("cgroup/tree.py", "cgroups"), ("parts/rdt.py", "groups of resctrl"), ("commands/spec.py", "the config that it writes"),
    ("parts/notify.py", "the directory of the supervisor's socket"), ("parts/seccomp/cache.py", "compiled filters, in the state root"),
    ("engine/gc.py", "the cache of older versions"),
}  # fmt: skip
WRITERS = {"mkdir", "mkfifo", "unlink", "rmdir", "rename", "link", "symlink"}


def test_who_makes_and_removes_files_by_a_descriptor():
    found = set()
    for path in FILES:
        if area(path) not in ("engine", "parts", "commands", "cgroup", "oci"):
            continue
        for n in ast.walk(ast.parse(path.read_text())):
            if isinstance(n, ast.Call) and ast.unparse(n.func).split(".")[0] == "posix" and ast.unparse(n.func).split(".")[-1] in WRITERS:
                if any(k.arg in ("dir_fd", "src_dir_fd") for k in n.keywords):
                    found.add(str(path.relative_to(PACKAGE)))
    assert found <= {name for name, _why in BY_DESCRIPTOR}
