"""The timetable: every verb has a row, every row a verb, and all ordering constraints hold."""

import ast
from pathlib import Path

import pytest

from pyrunc.engine import exec as exec_engine
from pyrunc.engine import order
from pyrunc.parts.table import PARTS

PACKAGE = Path(order.__file__).parent.parent
TABLES = {"CREATE": order.CREATE, "EXEC": order.EXEC, "START": order.START, "DELETE": order.DELETE, "RESTORE": order.RESTORE}
# Verbs that the engine calls by name, outside the tables: an answer to init, a kind of hook between two C calls, and the question whether
# there is something to do in a row.
BY_NAME = {
    ("mounts", "host_answer"), ("devices", "host_answer"), ("hooks", "host_answer"), ("hooks", "init_start_container"),
    ("scheduling", "exec_waits"), ("seccomp", "exec_waits"),
}  # fmt: skip
PREFIXES = ("host_", "init_", "op_", "undo_", "exec_")

BEFORE = (
    ("namespaces.host_open", "clocks.host_offsets", "host_open begins with no offsets"),
    ("netdevs.host_move", "namespaces.host_close", "the network namespace is used by its descriptor"),
    ("cgroups.host_make", "cgroups.host_place", ""),
    ("cgroups.host_place", "namespaces.init_unshare", "/proc/self/cgroup must say / inside"),
    ("cgroups.init_place", "scheduling.init_affinity", "the cpuset clips the mask"),
    ("cgroups.init_place", "namespaces.init_unshare", "/proc/self/cgroup must say / inside"),
    ("idmaps.host_write", "user.init_become_root", "unmapped ids own nothing"),
    ("user.init_become_root", "namespaces.init_unshare", "message queues belong to who makes their namespace"),
    ("oom.host_write", "idmaps.host_write", "needs the rights of the host"),
    ("namespaces.init_join", "root.init_prepare", "the mount namespace may be a joined one"),
    ("root.init_prepare", "mounts.init_mount", "propagation is cut before the first mount"),
    ("mounts.init_mount", "devices.init_make", "/dev is a mount"),
    ("devices.init_make", "mounts.init_finish", "/dev may turn read-only"),
    ("resources.host_apply", "hooks.host_prestart", "hooks see the limits"),
    ("hooks.host_prestart", "hooks.host_create_runtime", "runtime-spec, lifecycle steps 3 and 4"),
    ("hooks.host_create_runtime", "hooks.init_create_container", "runtime-spec, lifecycle steps 4 and 5"),
    ("hooks.init_create_container", "root.init_pivot", "the host's root is still in reach"),
    ("root.init_pivot", "program.init_make_cwd", ""),
    ("program.init_make_cwd", "root.init_finish", "the root turns read-only"),
    ("terminal.init_open", "mounts.init_finish", "/dev may turn read-only"),
    ("sysctls.init_write", "paths.init_readonly", "/proc/sys turns read-only"),
    ("paths.init_readonly", "paths.init_mask", ""),
    ("paths.init_mask", "root.init_finish", "an unbindable root or /dev could not be cloned"),
    ("root.init_finish", "landlock.init_make", "rules hold for what the program will see"),
    ("engine.op_sync", "user.op_ids", "prlimit wants equal ids or CAP_SYS_RESOURCE"),
    ("engine.op_sync", "seccomp.op_early", "the wait is not the container's business"),
    ("paths.init_mask", "landlock.init_make", "rules hold for what the program will see"),
    ("landlock.init_make", "engine.op_prune", "no path is looked up after it"),
    ("landlock.op_early", "seccomp.op_early", "a filter may forbid it"),
    ("landlock.op_early", "capabilities.op_bound", "without no_new_privs it needs CAP_SYS_ADMIN"),
    ("capabilities.op_nnp", "landlock.op_late", "the kernel asks for one of the two"),
    ("landlock.op_late", "seccomp.op_late", "a filter may forbid it"),
    ("landlock.op_late", "seccomp.op_notify", "a filter may forbid it"),
    ("capabilities.op_caps", "seccomp.op_early", "it drops the capability that op_caps has kept"),
    ("program.op_chdir_again", "seccomp.op_early", "a filter may deny getcwd"),
    ("program.op_find", "seccomp.op_early", "a filter may deny stat and faccessat"),
    ("user.op_umask", "seccomp.op_early", "a filter may deny it"),
    ("engine.op_signals", "seccomp.op_early", "a filter may deny it"),
    ("engine.op_close", "seccomp.op_early", "a filter may deny close_range"),
    ("engine.op_close", "seccomp.op_notify", "a filter may deny close_range"),
    ("engine.op_outlive", "seccomp.op_early", "a filter may deny prctl"),
    ("engine.op_outlive", "engine.op_ready", "a container may outlive the command that made it"),
    ("seccomp.op_early", "engine.op_ready", "a filter that cannot be loaded is an error of create"),
    ("capabilities.op_bound", "user.op_ids", "needs CAP_SETPCAP"),
    ("user.op_ids", "capabilities.op_caps", "a change of uid clears sets"),
    ("capabilities.op_caps", "program.op_find", "looked up with the target's rights"),
    ("program.op_chdir", "user.op_ids", "as root first"),
    ("user.op_ids", "program.op_chdir_again", "then as the user"),
    ("capabilities.op_nnp", "seccomp.op_late", "an unprivileged filter needs no_new_privs"),
    ("program.op_find", "engine.op_ready", "a missing program is an error of create"),
    ("engine.op_signals", "engine.op_wait", "a waiting pid 1 dies of TERM"),
    ("engine.op_wait", "engine.op_reset", ""),
    ("engine.op_wait", "seccomp.op_late", ""),
    ("engine.op_hooks", "seccomp.op_late", "init's calls for startContainer hooks; each hook loads it for itself"),
    ("seccomp.op_late", "program.op_exec", ""),
    ("engine.op_close", "program.op_exec", "fds close last"),
    ("hooks.init_create_container", "namespaces.op_join", "what init starts after it is in a pid namespace with strangers"),
    ("namespaces.op_join", "engine.op_prune", "its descriptor is not for the program"),
    ("namespaces.op_join", "capabilities.op_bound", "needs CAP_SYS_ADMIN"),
    ("engine.op_sync", "engine.op_clone", "limits are inherited"),
    ("capabilities.op_caps", "engine.op_clone", "strangers may trace what comes after it"),
    ("seccomp.op_early", "engine.op_clone", "loading takes CAP_SYS_ADMIN, which strangers must not get"),
    ("engine.op_clone", "engine.op_session", ""),
    ("engine.op_session", "engine.op_ready", "a failure is one of create"),
    ("engine.op_clone", "seccomp.op_notify", "the listener tells of calls of the program's process"),
)


def verbs_of(part):
    """Names of the public verbs of a part, read from its source so that no missing import can hide one."""
    path = PACKAGE / "parts" / part
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    tree = ast.parse(source.read_text())
    names = {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            names |= {a.asname or a.name for a in node.names}
    return {n for n in names if n.startswith(PREFIXES)}


ALL = [row[0] for row in PARTS]


@pytest.mark.parametrize("part", ALL)
def test_every_verb_of_a_part_has_a_row(part):
    rows = {row[2] for table in TABLES.values() for row in table if row[1] == part}
    rows |= {verb for name, verb in BY_NAME if name == part}
    undo = {"undo_" + verb.partition("_")[2] for verb in rows if verb.startswith("host_")}
    assert verbs_of(part) - rows - undo == set()


@pytest.mark.parametrize("name", TABLES)
def test_every_row_names_a_verb_that_exists(name):
    missing = [f"{part}.{verb}" for _phase, part, verb, _why in TABLES[name] if part != "engine" and verb not in verbs_of(part)]
    assert missing == []


@pytest.mark.parametrize(("first", "second", "because"), BEFORE, ids=lambda x: x if "." in x else "")
def test_verbs_come_in_the_required_order(first, second, because):
    places = {f"{part}.{verb}": i for i, (_phase, part, verb, _why) in enumerate(order.CREATE)}
    assert places[first] < places[second], because


SAVED = {"engine", "keyring", "landlock", "root"}  # exec uses the plan that was saved by create


def test_exec_plans_the_parts_of_its_rows():
    """A row whose part is in neither set would be skipped for every process."""
    assert {part for _phase, part, _verb, _why in order.EXEC} == set(exec_engine.PARTS) | SAVED


def test_phases_are_contiguous_and_in_order():
    phases = ["prepare", "placed", "setup", "hooks", "enter", "tail", "limits", "cloned", "listener"]
    seen = [row[0] for row in order.CREATE]
    assert seen == sorted(seen, key=phases.index)


def test_needed_parts_come_first():
    done = set()
    for part, _always, _keys, needs in PARTS:
        assert set(needs) <= done, part
        done.add(part)


WALKS = ("walk", "operations", "results")  # in engine/steps.py


def walked():
    """{(table, or None if it is a parameter, phase)} of all places in the engine that carry out a phase."""
    found = set()
    for path in (PACKAGE / "engine").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or ast.unparse(node.func).split(".")[-1] not in WALKS:
                continue
            phases = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            tables = [a.id for a in node.args if isinstance(a, ast.Name) and a.id in TABLES]
            found |= {(tables[0] if tables else None, phase) for phase in phases[:1]}
    return found


@pytest.mark.parametrize(("table", "phase"), sorted({(name, row[0]) for name, table in TABLES.items() for row in table}))
def test_every_phase_is_carried_out(table, phase):
    assert {(table, phase), (None, phase)} & walked()
