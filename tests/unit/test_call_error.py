"""CallError: the details of a system call's failure are in declared fields, and it is still of the built-in class for its errno."""

import ast
import builtins
import errno
import os
import pathlib

import pytest

from pyrunc.errors import CallError, StepFailure
from pyrunc.linux import _syscalls, fs

PACKAGE = pathlib.Path(__file__).resolve().parent.parent.parent / "runtime/pyrunc"
EVERY_KIND = ("render.py", "codes.py")  # these handle errors of every kind
OWN = {"errno", "strerror", "filename", "filename2"}  # attributes of every OSError


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_it_is_what_python_makes_of_the_errno(number):
    error = CallError(number, os.strerror(number), "/there", "openat")
    assert isinstance(error, type(OSError(number, "")))
    assert (error.errno, error.strerror, error.filename, error.call) == (number, os.strerror(number), "/there", "openat")
    assert str(error) == str(OSError(number, os.strerror(number), "/there"))


def test_the_extension_raises_it():
    with pytest.raises(CallError) as caught:
        _syscalls.openat2(-1, "nowhere", 0, 0, 0)
    assert (caught.value.call, caught.value.errno, caught.value.filename) == ("openat2", errno.EBADF, "nowhere")
    with pytest.raises(FileNotFoundError) as caught:  # type: ignore[assignment]
        _syscalls.statfs("/nowhere/at/all")
    assert type(caught.value).__mro__[1] is CallError


def test_the_calls_of_posix_raise_it():
    with pytest.raises(CallError) as caught:
        fs.open("/nowhere/at/all", os.O_RDONLY)
    assert (caught.value.call, caught.value.filename) == ("openat", "/nowhere/at/all") and isinstance(caught.value, FileNotFoundError)


def test_of_keeps_what_is_known_and_adds_what_is_new():
    plain = OSError(errno.EIO, "bad", "/x")
    first = CallError.of(plain, "read")
    assert (first.call, first.errno, first.filename, first.words, first.hint, first.pointer) == ("read", errno.EIO, "/x", None, None, None)
    again = CallError.of(first, "write", words="w", hint="h", pointer="/p")
    assert again is first and (again.call, again.words, again.hint, again.pointer) == ("read", "w", "h", "/p")
    assert (CallError.of(first).words, CallError.of(OSError("text alone")).strerror) == ("w", "text alone")


def test_a_step_failure_takes_over_the_fields():
    known = CallError.of(CallError(errno.EACCES, "Permission denied", b"/x\xff", "openat"), pointer="/mounts/0", hint="look")
    failure = StepFailure.from_oserror(known, "mounts.init_all", "init", "/mounts")
    assert (failure.call, failure.errno, failure.pointer, failure.hint, failure.path) == (
        "openat",
        errno.EACCES,
        "/mounts/0",
        "look",
        "/x\udcff",
    )
    assert failure.words == "openat /x\\udcff: permission denied"
    assert StepFailure.from_oserror(OSError(errno.EMFILE, "many"), "a.b", "host").hint.startswith("raise the caller's limit")
    assert StepFailure.from_oserror(CallError.of(known, words="said so"), "a.b", "host").words == "said so"


def improvised(tree):
    """Lines that set an attribute on a caught OSError that OSError doesn't have, or look for one with getattr()."""
    found = []
    for handler in (node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler) and node.name):
        kinds = {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}
        if not any(kind == "OSError" or kind.endswith("Error") and hasattr(builtins, kind) for kind in kinds):
            continue
        narrowed = [
            n.lineno for n in ast.walk(handler) if isinstance(n, ast.Name) and n.id == handler.name and isinstance(n.ctx, ast.Store)
        ]
        for node in ast.walk(handler):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name):
                if node.value.id == handler.name and node.attr not in OWN and not [n for n in narrowed if n < node.lineno]:
                    found.append(node.lineno)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr" and len(node.args) > 1:
            if isinstance(node.args[1], ast.Constant) and node.args[1].value in CallError.__annotations__.keys() - OWN:
                found.append(node.lineno)
    return found


def test_no_module_adds_attributes_to_an_oserror():
    files = [path for path in PACKAGE.rglob("*.py") if path.name not in EVERY_KIND and path.parent.name != "helper"]
    assert not ["%s:%d" % (path.relative_to(PACKAGE), line) for path in files for line in improvised(ast.parse(path.read_text()))]


def test_added_attributes_are_found():
    assert improvised(ast.parse("try: f()\nexcept OSError as e:\n    e.call = 'x'\n    raise")) == [3]
    assert improvised(ast.parse("x = getattr(e, 'call', None)")) == [1]
    assert not improvised(ast.parse("try: f()\nexcept OSError as e:\n    e = CallError.of(e)\n    e.hint = 'x'\n    raise e from None"))
