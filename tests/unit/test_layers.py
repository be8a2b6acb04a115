"""Imports go down only; no part imports a part; the hot path imports no slow module; only one module resolves paths inside a root."""

import ast
import sys
from pathlib import Path

import pytest

import pyrunc
from pyrunc.parts.table import PARTS

PACKAGE = Path(pyrunc.__file__).parent
FILES = sorted(p for p in PACKAGE.rglob("*.py") if "specs" not in p.parts)

MAY = {
    "cli": {"trace", "seal", "log", "tracefile", "errors", "commands", "linux", "oci"},
    "commands": {
        "engine",
        "parts",
        "state_dir",
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
        "state_dir",
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
    "store": {"state_dir", "linux", "errors", "fileio"},
    "state_dir": {"linux", "errors", "jsonio", "fileio"},
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
# LAZY: slow modules that are imported inside a function, on paths that the life of a container never takes.
# oci/explain.py runs in the helper process (jsonschema); it is next to the validator that it must agree with.
# api/ runs in applications, and starts the runtime from there.
HELPERS = [p for p in FILES if p.relative_to(PACKAGE).parts[0] in ("helper", "api") or p.name == "explain.py"]
LAZY = {("log", "traceback"), ("json_errors", "json"), ("json_errors", "re")}


def area(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def is_for_types(node):
    """`if TYPE_CHECKING:`, which never runs."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imported(path, types=False):
    """(line, 'pyrunc.x.y' or 'module', top level?) of each import that happens while pyrunc runs; with `types`, those for the type checker
    instead: under `if TYPE_CHECKING:`, and in stubs."""
    tree = ast.parse(path.read_text())
    top = {id(n) for n in tree.body}
    unreal = {id(below) for node in ast.walk(tree) if is_for_types(node) for below in ast.walk(node)}
    for node in ast.walk(tree):
        if (id(node) in unreal or path.suffix == ".pyi") != types:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, id(node) in top
        elif isinstance(node, ast.ImportFrom):
            if node.module == "pyrunc":
                for alias in node.names:
                    yield node.lineno, "pyrunc." + alias.name, id(node) in top
            elif node.module != "__future__":  # a compiler flag
                yield node.lineno, node.module or "", id(node) in top


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down_only(path):
    mine = area(path)
    if mine == "__init__":
        assert list(imported(path)) == []  # every command loads it; names of api/ are resolved by __getattr__
        return
    wrong = []
    for line, name, _top in imported(path):
        if name.startswith("pyrunc."):
            other = name.split(".")[1]
            if other not in MAY[mine] and not (mine == other == "parts" and is_its_own(path, name)):
                wrong.append(f"{path.name}:{line}: {mine} imports {name}")
    assert wrong == []


STUBS = sorted(p for p in PACKAGE.rglob("*.pyi") if p.name != "__init__.pyi")
# Modules of types alone, which belong to no layer, and the one type from above that is needed below.
TYPES_FOR_ALL = {"pyrunc.state_document", "pyrunc.cmdline"}
TYPES_FROM_ABOVE = {("state_dir", "pyrunc.parts.plans"): "what plan.json contains"}


def types_from_above(path):
    mine = area(path)
    may = {*MAY[mine], mine} if mine in MAY else set()
    for line, name, _top in imported(path, types=True):
        if name.startswith("pyrunc.") and name not in TYPES_FOR_ALL and name.split(".")[1] not in may:
            yield line, mine, name


@pytest.mark.parametrize("path", [*FILES, *STUBS], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_types_come_from_below_too(path):
    """A part may know the types of another part: it may read its plan."""
    assert [found for found in types_from_above(path) if found[1:] not in TYPES_FROM_ABOVE] == []


def test_types_from_above_would_be_seen():
    found = {(mine, name) for path in FILES if area(path) == "state_dir" for _line, mine, name in types_from_above(path)}
    assert found == set(TYPES_FROM_ABOVE)


VIEWS = ("criu", "drift", "shown")  # packages in which each module belongs to the part of the same name


def is_its_own(path, name):
    """Whether two modules in parts/ belong to the same part: to its package, or to its views."""
    own = path.relative_to(PACKAGE / "parts").with_suffix("").parts
    part = own[1] if own[0] in VIEWS else own[0]
    return name == f"pyrunc.parts.{part}" or name.startswith(f"pyrunc.parts.{part}.")


def test_views_belong_to_parts():
    names = {p.stem for view in VIEWS for p in (PACKAGE / "parts" / view).glob("*.py")} - {"__init__"}
    assert names <= {row[0] for row in PARTS}


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
def test_parts_do_not_resolve_paths(path):
    """Everything beneath the root goes through linux/paths.py: no os.path, realpath, makedirs or pathlib in a part."""
    names = {n.attr for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Attribute)}
    assert names & {"realpath", "makedirs", "abspath", "normpath", "expanduser", "rmtree"} == set()


ENGINE = [p for p in FILES if area(p) == "engine"]
COMMANDS = [p for p in FILES if area(p) == "commands"]


def is_plan(node, names):
    """Whether an expression is the plan of one part: plans["x"], plans.get("x"), planner.entry(plans, "x"), a name that one of these was
    assigned to, or `entry` or `item`, the usual names of parameters for it."""
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.BoolOp):
        return any(is_plan(value, names) for value in node.values)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return node.func.attr == "entry" or node.func.attr == "get" and "plans" in ast.unparse(node.func.value).split(".")
    return isinstance(node, ast.Subscript) and ast.unparse(node.value).split(".")[-1] == "plans"


def looks(tree):
    """(function, line) of each place that reads a value from a part's plan."""
    for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
        names = {"entry", "item"} | {
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


@pytest.mark.parametrize("path", ENGINE, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_engine_does_not_look_inside_plans(path):
    assert list(looks(ast.parse(path.read_text()))) == []


def test_looking_inside_is_detected():
    source = "def f(run, entry):\n one = planner.entry(run.plans, 'x')\n one['y']\n run.plans['x']['y']\n (run.plans.get('x') or {}).get('y')\n run.plans['x']\n entry['y']"
    assert [line for _name, line in looks(ast.parse(source))] == [3, 4, 5, 7]


ASKING = {"all", "any", "bool", "dict", "iter", "len", "list", "next", "set", "sorted", "sum", "tuple", "type", "zip"}


def is_plan_of(node):
    """Whether an expression is the plan of a part that is named right there."""
    if isinstance(node, ast.BoolOp):
        return any(is_plan_of(value) for value in node.values)
    words = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return is_plan(node, set()) and bool(words)


def are_plans(node):
    return ast.unparse(node).split(".")[-1] in ("plans", "stored")


def questions(tree):
    """Lines with a condition about one property: whether the part of a name has a plan, what it has or how much. steps.is_needed() asks the
    timetable instead, and planner.ask() the part."""
    for n in ast.walk(tree):
        asked = []
        if isinstance(n, ast.Compare):
            named = isinstance(n.left, ast.Constant) and any(are_plans(one) for one in n.comparators)
            asked = [n.left, *n.comparators]
            if named and isinstance(n.ops[0], ast.In | ast.NotIn):
                yield n.lineno
        elif isinstance(n, ast.If | ast.IfExp | ast.While):
            asked = [n.test]
        elif isinstance(n, ast.UnaryOp):
            asked = [n.operand]
        elif isinstance(n, ast.For | ast.comprehension):
            asked = [n.iter]
        elif isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in ASKING:
            asked = n.args
        if any(is_plan_of(one) for one in asked):
            yield getattr(n, "lineno", 0)


@pytest.mark.parametrize("path", [*ENGINE, *COMMANDS], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_engine_and_the_commands_have_no_conditions_about_properties(path):
    assert list(questions(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "source",
    [
        "'terminal' in run.plans",
        "f() if 'hooks' not in plans else g()",
        "planner.module('seccomp').x(stored) if 'seccomp' in stored else None",
        "sorted(run.plans.get('hooks') or ())",
        "'memory' in (run.plans.get('resources') or {})",
        "planner.entry(self.plans, 'rdt') is None",
        "run.plans.get('rdt') != None",
        "not run.plans.get('rdt')",
        "if run.plans['hooks']: f()",
        "[one for one in run.plans['mounts']]",
    ],
)
def test_a_condition_about_a_property_would_be_seen(source):
    assert list(questions(ast.parse(source))) != []


@pytest.mark.parametrize(
    "source",
    ["part in run.plans", "if run.plans.get(part) is None: f()", "planner.ask(run.plans, 'hooks', 'kinds') or []", "f(run.plans['root'])"],
)
def test_what_the_walk_asks_is_no_condition_about_a_property(source):
    assert list(questions(ast.parse(source))) == []


# linux/ ---------------------------------------------------------------------------------------------------------------------

LINUX = [p for p in FILES if area(p) == "linux"]
ASKED = {"plans", "plan", "config", "options", "entry", "run", "ctx"}  # names that other layers use for the user's request
# Loops in linux/ that continue after an error: (module, function): why
GOES_ON = {
    ("dbus.py", "_send"): "until there is room in the socket, or the deadline",
    ("mount.py", "make_readonly"): "as long as the caller says, while somebody writes (EBUSY)",
    ("ns.py", "_clone"): "a stop signal has come while the process was being made (EINTR)",
    ("ns.py", "_join_all"): "what can't be joined yet is joined after the user namespace",
    ("paths.py", "_walk"): "what is missing is made",
    ("paths.py", "resolve"): "something was renamed while the kernel walked (EAGAIN)",
    ("paths.py", "verify"): "the same",
    ("pidfd.py", "has_open"): "a descriptor was closed meanwhile; the next one is looked at",
}  # fmt: skip


def going_on(tree):
    """Functions with a loop that continues after it has caught an error: the handler neither raises, returns nor breaks."""
    for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
        for loop in (n for n in ast.walk(function) if isinstance(n, ast.While | ast.For)):
            for handler in (n for n in ast.walk(loop) if isinstance(n, ast.ExceptHandler)):
                if not isinstance(handler.body[-1], ast.Raise | ast.Return | ast.Break):
                    yield function.name


def test_linux_retries_nothing_without_a_reason():
    found = {(path.name, name) for path in LINUX for name in going_on(ast.parse(path.read_text()))}
    assert found == set(GOES_ON)


def test_continuing_after_an_error_is_detected():
    source = "def f():\n while True:\n  try:\n   g()\n  except OSError as e:\n   if e.errno != 4:\n    raise\n   continue\ndef h():\n for x in y:\n  try:\n   g()\n  except OSError:\n   return"
    assert list(going_on(ast.parse(source))) == ["f"]


@pytest.mark.parametrize("path", LINUX, ids=lambda p: p.name)
def test_linux_does_not_know_what_was_asked_for(path):
    tree = ast.parse(path.read_text())
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)} | {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    assert names & ASKED == set()


EVERYWHERE = ("errors", "jsonio", "fileio", "trace")


@pytest.mark.parametrize("name", EVERYWHERE)
def test_modules_that_every_command_loads_import_nothing(name):
    """Except each other, and modules that are built into the interpreter."""
    found = {found.removeprefix("pyrunc.") for _line, found, top in imported(PACKAGE / (name + ".py")) if top}
    assert found <= {*EVERYWHERE, *sys.builtin_module_names, "_json", "fcntl"}


@pytest.mark.parametrize("path", [p for p in FILES if area(p) in ("cli", "commands")], ids=lambda p: p.name)
def test_commands_make_no_calls_of_the_extension(path):
    assert "pyrunc.linux._syscalls" not in {name for _line, name, _top in imported(path)}
    assert "_syscalls" not in {n.id for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Name)}


STATEFUL = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)


@pytest.mark.parametrize("path", INSIDE, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_parts_keep_no_state_and_read_no_environment(path):
    """No `global`, no changes to module-level tables, no argv, environment or clock."""
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


# Modules other than state_dir.py that create or remove files relative to a descriptor. For the container's directory, it provides them.
BY_DESCRIPTOR = {
    ("engine/gate.py", "the two fifos of start"), ("engine/restore.py", "empty directories that CRIU mounts on"),
    ("engine/criu_log.py", "what a killed CRIU leaves in its own work directory"), ("engine/checkpoint.py", "images, in the directory that was asked for"),
    ("cgroup/tree.py", "cgroups"), ("parts/rdt/__init__.py", "groups of resctrl"), ("commands/spec.py", "the config that it writes"),
    ("parts/notify.py", "the directory of the supervisor's socket"), ("parts/seccomp/cache.py", "compiled filters, in the state root"),
    ("engine/gc.py", "the cache of older versions"),
}  # fmt: skip
WRITERS = {"mkdir", "mkfifo", "unlink", "rmdir", "rename", "link", "symlink"}


def test_modules_that_create_and_remove_files_by_a_descriptor():
    found = set()
    for path in FILES:
        if area(path) not in ("engine", "parts", "commands", "cgroup", "oci"):
            continue
        for n in ast.walk(ast.parse(path.read_text())):
            if isinstance(n, ast.Call) and ast.unparse(n.func).split(".")[0] == "posix" and ast.unparse(n.func).split(".")[-1] in WRITERS:
                if any(k.arg in ("dir_fd", "src_dir_fd") for k in n.keywords):
                    found.add(str(path.relative_to(PACKAGE)))
    assert found <= {name for name, _why in BY_DESCRIPTOR}
