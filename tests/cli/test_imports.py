"""The modules that each command loads, and the number of its system calls: start-up is the main cost of a runtime, and is kept low by
design.

The interpreter reports the imports (-X importtime). It runs from a sealed copy as in production, so that it does not execute itself again
and lose the flag. A module that is not listed here fails the test: either it should not be loaded, or it must be added to the list, and the
commit gives the reason.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys

import pytest

import harness

pytestmark = pytest.mark.kernel

# Modules that the interpreter loads by itself with -I -S, and modules that cost next to nothing: built in, or frozen and small. Annotations
# need __future__, a dozen lines, in the plain launcher; the compiled one has no annotations.
FREE = set(
    (
        "__future__ _abc _codecs _frozen_importlib_external _hashlib _io _json _prctl _sha2 _signal _socket _struct abc array atexit binascii "
        "codecs encodings encodings.aliases encodings.utf_8 errno faulthandler fcntl gc grp io marshal math posix pwd select time "
        "unicodedata zipimport " + ("" if sys.version_info >= (3, 12) else "_sha256 ")
    ).split()
)
NEVER = set(
    "json re enum argparse subprocess logging dataclasses typing signal socket pathlib traceback contextlib shutil tempfile ctypes inspect "
    "functools collections warnings threading asyncio jsonschema pyseccomp importlib.resources pkgutil os struct site".split()
)


@pytest.fixture(scope="module")
def sealed_python():
    """The path in /proc of a sealed memory file with the interpreter."""
    fd = os.memfd_create("python", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(os.path.realpath("/usr/bin/python3"), "rb") as source:
        shutil.copyfileobj(source, os.fdopen(os.dup(fd), "wb"))
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    yield "/proc/%d/fd/%d" % (os.getpid(), fd)
    os.close(fd)


@pytest.fixture
def loaded(pyrunc, plain_launcher, sealed_python):
    """loaded("state", id) -> the set of modules that the command loads, on the host side and in init."""

    def run(*words, code=0):
        argv = [sealed_python, "-I", "-S", "-X", "importtime", plain_launcher, "--root", pyrunc.root, *map(str, words)]
        with harness.Capture() as err:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err.file, env=pyrunc.env)
            text = err.text()
        assert done.returncode == code, text
        return {line.rpartition("|")[2].strip() for line in text.splitlines() if line.startswith("import time:")} - {"imported package"}

    return run


def check(modules, *, parts=False):
    own = {name for name in modules if name == "pyrunc" or name.startswith("pyrunc.")}
    assert not modules & NEVER, sorted(modules & NEVER)
    assert modules - own <= FREE, sorted(modules - own - FREE)
    if not parts:
        assert not [name for name in own if name.startswith("pyrunc.parts.") and name != "pyrunc.parts.table"], sorted(own)
    return own


def test_state(loaded, pyrunc, waiting):
    own = check(loaded("state", pyrunc.create(waiting)))
    assert len(own) <= 26, sorted(own)
    assert "pyrunc.engine.host" not in own and "pyrunc.engine.init" not in own


def test_list(loaded, pyrunc, waiting):
    pyrunc.create(waiting)
    check(loaded("list"))
    check(loaded("list", "-q"))
    check(loaded("list", "--format", "json"))


def test_kill(loaded, pyrunc, waiting):
    own = check(loaded("kill", pyrunc.started(waiting), "TERM"))
    assert "pyrunc.engine.host" not in own and "pyrunc.engine.init" not in own


def test_start(loaded, pyrunc, waiting):
    own = check(loaded("start", pyrunc.create(waiting)))
    assert "pyrunc.engine.init" not in own


def test_delete(loaded, pyrunc, waiting):
    id = pyrunc.started(waiting)
    pyrunc.stopped(id)
    own = check(loaded("delete", id), parts=True)
    assert {n for n in own if n.startswith("pyrunc.parts.")} <= {
        "pyrunc.parts." + n for n in ("table", "cgroups", "cgroups.plan", "cgroups.verbs", "rdt", "notify", "hooks")
    }


def test_create(loaded, pyrunc, waiting):
    """Parts are only loaded for keys in the config: no seccomp, hooks or clocks for a config without them."""
    own = check(loaded("create", "--bundle", waiting, pyrunc.new_id()), parts=True)
    parts = {n.split(".")[2] for n in own if n.startswith("pyrunc.parts.")}
    assert not parts & {"seccomp", "hooks", "clocks", "netdevs", "idmaps", "rdt", "labels", "personality", "mempolicy"}, parts


def test_create_of_everything(loaded, pyrunc, make_bundle):
    """The same lists apply to the largest config. (The helper process compiles a filter that is not in the cache.)"""
    bundle = make_bundle.example("everything")
    check(loaded("create", "--bundle", bundle, pyrunc.new_id()), parts=True)


def test_run(loaded, pyrunc, bundle):
    check(loaded("run", "--bundle", bundle, pyrunc.new_id()), parts=True)


def test_exec(loaded, pyrunc, waiting):
    check(loaded("exec", pyrunc.started(waiting), "/bin/true"), parts=True)


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["features"]])
def test_without_a_container(loaded, words):
    check(loaded(*words), parts=words == ["features"])  # features lists the mount options of the part


# ---- counts over all processes of a command: they do not depend on the speed of the machine


def calls(runtime, launcher, *words):
    """{system call: count} of a command and its children, as strace sees them."""
    strace = shutil.which("strace", path="/usr/bin:/bin")
    if not strace:
        pytest.skip("no strace on this machine")
    with harness.Capture() as log:
        target = "/proc/%d/fd/%d" % (os.getpid(), log.file.fileno())
        argv = [strace, "-f", "-qq", "-e", "signal=none", "-o", target, launcher, *runtime.argv(*words)[1:]]
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=runtime.env, timeout=harness.WATCHDOG
        )
        if b"ptrace" in done.stderr:
            pytest.skip("this machine does not let strace trace")
        names = re.findall(r"^\d+ +(\w+)\(", log.text(), re.M)
    assert done.returncode == 0, done.stderr
    return {name: names.count(name) for name in set(names)}


# With the plain launcher; a bare interpreter makes 280 calls, each module that is loaded from a file about 16 more, and each level of TMPDIR one.
BUDGETS = {"state": 850, "kill": 910, "start": 1000, "delete": 1250, "run": 3800}


@pytest.mark.slow
def test_number_of_system_calls(pyrunc, plain_launcher, waiting, make_bundle):
    """The limits are above what is needed today: exceeding them means that the command loads, stats or queries something new."""
    found = {}
    id = pyrunc.create(waiting)
    found["start"] = calls(pyrunc, plain_launcher, "start", id)
    found["state"] = calls(pyrunc, plain_launcher, "state", id)
    found["kill"] = calls(pyrunc, plain_launcher, "kill", id, "KILL")
    pyrunc.stopped(id, None)
    found["delete"] = calls(pyrunc, plain_launcher, "delete", id)
    found["run"] = calls(pyrunc, plain_launcher, "run", "--bundle", make_bundle(), pyrunc.new_id())
    sums = {name: sum(counts.values()) for name, counts in found.items()}
    print(sums, file=sys.stderr)
    assert all(sums[name] <= BUDGETS[name] for name in sums), (sums, BUDGETS)


@pytest.mark.slow
def test_number_of_processes(pyrunc, plain_launcher, waiting):
    """create executes itself once for the seal and creates one child, the init of the container. Nothing else is started."""
    counts = calls(pyrunc, plain_launcher, "state", pyrunc.create(waiting))
    assert counts.get("clone", 0) + counts.get("clone3", 0) + counts.get("vfork", 0) + counts.get("fork", 0) == 0
