"""The interface of the extension: its exports, arguments, and the fields of its errors. No root needed."""

import errno
import os
import pathlib
import struct
import subprocess
import tomllib

import pytest

import harness
from pyrunc.linux import _syscalls

# The functions that other code uses; the help text of each begins with its signature.
FUNCTIONS = """bpf_prog_attach bpf_prog_detach bpf_prog_get_fd_by_id bpf_prog_load bpf_prog_query calls capget clone3 close_range conforms
execveat fchownat find finish fsconfig fsmount fsopen fspick fstat fstatat fstatfs get_mempolicy ioprio_get ioprio_set is_sealed_file json
join_session_keyring keyctl keyctl_describe landlock_add_rule landlock_create_ruleset mount mount_id mount_setattr mount_table
move_mount open_tree openat2 personality pidfd_getfd pivot_root prctl prlimit proc_context reset_signals sched_getattr sched_setattr
sealed_file seccomp set_mempolicy setdomainname sethostname setns spawn statfs statx umount2 unshare
wipe_environ""".split()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_exists_and_documents_its_signature(name):
    assert getattr(_syscalls, name).__doc__.startswith(name + "(")


def test_nothing_else_is_exported():
    public = [n for n in dir(_syscalls) if not n.startswith("__")]
    assert sorted(public) == sorted([*FUNCTIONS, "FIRST", "OPS", "RECORD_FORMAT", "RECORD_SIZE", "SECOND", "Stat"])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_package_calls_it(name):
    """A function that only tests call does not belong in the extension."""
    sources = map(pathlib.Path.read_text, (harness.ROOT / "runtime/pyrunc").rglob("*.py"))
    forms = ("_syscalls.%s(" % name, "_syscalls.%s," % name, "from pyrunc.linux._syscalls import %s\n" % name)
    assert any(form in text for text in sources for form in forms)


def test_the_record():
    assert struct.calcsize(_syscalls.RECORD_FORMAT) == _syscalls.RECORD_SIZE == 28
    assert _syscalls.OPS[:3] == ("FILTER", "BOUND", "IDS")
    assert len(set(_syscalls.OPS)) == len(_syscalls.OPS) < 256


def test_the_engine_reads_the_same_record():
    from pyrunc.engine import handshake

    assert (handshake.RECORD, handshake.RECORD_SIZE) == (_syscalls.RECORD_FORMAT, _syscalls.RECORD_SIZE)


def test_it_is_built_for_the_limited_interface():
    assert _syscalls.__file__.endswith(".abi3.so")
    symbols = subprocess.run(["nm", "-D", "--defined-only", _syscalls.__file__], capture_output=True, text=True, check=True).stdout
    assert [line.split()[2] for line in symbols.splitlines()] == ["PyInit__syscalls"]


@pytest.mark.parametrize("path", ["/nowhere", b"/nowhere", "/\udcff\udc80", b"/\xff\x80"])
def test_errors_carry_call_and_path(path):
    with pytest.raises(FileNotFoundError) as failed:
        _syscalls.statfs(path)
    e = failed.value
    assert (e.errno, e.strerror, e.call) == (errno.ENOENT, os.strerror(errno.ENOENT), "statfs")  # type: ignore[attr-defined]
    assert e.filename == os.fsdecode(path)


def test_errors_without_a_path():
    with pytest.raises(OSError) as failed:
        _syscalls.fstatfs(-1)
    assert (failed.value.errno, failed.value.call, failed.value.filename) == (errno.EBADF, "fstatfs", None)  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", ["a\0b", b"a\0b"])
def test_a_nul_in_a_path_is_refused(path):
    with pytest.raises(ValueError):
        _syscalls.statfs(path)
    with pytest.raises(ValueError):
        _syscalls.mount(None, "/nowhere", path, 0, None)


def test_arguments_of_the_wrong_type():
    for call in (
        lambda: _syscalls.statfs(3.5),  # type: ignore[arg-type]
        lambda: _syscalls.mount("a", None, "b", 0, None),
        lambda: _syscalls.fsconfig(3, 0, 4, None, 0),  # type: ignore[arg-type]
        lambda: _syscalls.setns("x", 0),  # type: ignore[arg-type]
        lambda: _syscalls.prctl(1, "text"),  # type: ignore[arg-type]
        lambda: _syscalls.clone3(),  # type: ignore[call-arg]
        lambda: _syscalls.clone3(0, nowhere=1),  # type: ignore[call-arg]
        lambda: _syscalls.prlimit(0, 0, 1, None),
        lambda: _syscalls.finish(3, -1),  # type: ignore[arg-type]
        lambda: _syscalls.json({}),  # type: ignore[call-arg]
        lambda: _syscalls.json({}, b","),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError):
            call()


@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_limits_out_of_range(value):
    with pytest.raises(OverflowError):
        _syscalls.prlimit(0, 4, value, value)


@pytest.mark.parametrize(
    "op",
    [
        "NNP",
        (),
        (1,),
        ("NOTHING",),
        ("nnp",),
        ("CLONE",),
        ("NNP", 1),
        ("UMASK",),
        ("UMASK", "22"),
        ("FILTER", b"", 0),
        ("FILTER", b"1234567", 0),
        ("FILTER", bytes(8 * 0x10000), 0),
        ("FILTER", "text", 0),
        ("IDS", -1, 0, None),
        ("IDS", 1 << 32, 0, None),
        ("IDS", 0, 0, b"123"),
        ("IDS", 0, 0, [1]),
        ("CHDIR", "a\0b"),
        ("CHDIR", None),
        ("FIND", None, None),
        ("EXEC", (), ()),
        ("EXEC", ("a\0b",), ()),
        ("EXEC", ("a",), ("B=\0",)),
        ("EXEC", ("a",), (1,)),
        ("EXEC", ("a",), None),
        ("CLOSE", b"\3\0\0"),
        ("CLOSE", b"\2\0\0\0"),
        ("CLOSE", b"\4\0\0\0\3\0\0\0"),
        ("CLOSE", b"\3\0\0\0\3\0\0\0"),
        ("MEMPOLICY", 0, b"", 64),
        ("WAIT", 1 << 64),
        ("EXEC", ("a\udfff",), ()),
    ],
)
def test_operations_are_checked_before_the_first_is_carried_out(op):
    """If any operation had been carried out, the umask would have changed."""
    before = os.umask(0o022)
    try:
        with pytest.raises((TypeError, ValueError, OverflowError)):
            _syscalls.finish((("UMASK", 0o777), op), -1)
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_finish_returns_and_accepts_lists():
    before = os.umask(0o022)
    try:
        _syscalls.finish([("UMASK", 0o011)], -1)
        assert os.umask(0o022) == 0o011
        _syscalls.finish((), -1, result_fd=-1)
    finally:
        os.umask(before)


def test_a_large_environment_is_copied():
    """It needs more than one block of memory, and one string is larger than a block."""
    env = ["V%d=%s" % (i, "x" * 1000) for i in range(500)] + ["B=" + "y" * 300000]
    with pytest.raises(ValueError):
        _syscalls.finish((("UMASK", 0o022), ("EXEC", ("a",), env), ("EXEC", (), ())), -1)


def test_the_stub_names_the_same_functions():
    import ast

    with open(_syscalls.__file__.replace(".abi3.so", ".pyi")) as file:
        found = {node.name for node in ast.parse(file.read()).body if isinstance(node, ast.FunctionDef)}
    assert found == set(FUNCTIONS)


def test_pip_builds_it_from_the_same_files():
    """pyproject.toml names the same sources as the Makefile: otherwise `pip install` builds an extension that can't be loaded."""
    with open(harness.ROOT / "pyproject.toml", "rb") as file:
        (module,) = tomllib.load(file)["tool"]["setuptools"]["ext-modules"]
    line = next(row for row in (harness.ROOT / "Makefile").read_text().splitlines() if row.startswith("EXT_SOURCES"))
    wanted = line.partition("(addprefix $(CSRC)/,")[2].rstrip(")").split()
    assert [name.rpartition("/")[2] for name in module["sources"]] == wanted
