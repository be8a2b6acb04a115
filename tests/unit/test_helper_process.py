"""The helper process: its arguments and results, what is not passed on to it, and that it does not outlive its caller."""

import os
import select
import signal
import subprocess
import sys

import pytest

import harness
import hoststate
from pyrunc import errors, helper_process, install_paths
from pyrunc.helper import main as helper_main

CONFIG = {"document": {"ociVersion": "1.0.0"}, "what": "config"}


@pytest.fixture(autouse=True)
def helpers(tmp_path, monkeypatch):
    """A package of test helpers next to the real ones: `probe` does what its payload says."""
    tree = tmp_path / "pyrunc"
    (tree / "helper").mkdir(parents=True)
    for name in ("errors.py", "jsonio.py", "fileio.py", "install_paths.py", "json_errors.py", "__init__.py", "oci", "linux", "specs"):
        os.symlink(os.path.join(install_paths.home(), name), tree / name)
    for name in os.listdir(install_paths.home() + "/helper"):
        if name != "__pycache__":
            os.symlink(os.path.join(install_paths.home(), "helper", name), tree / "helper" / name)
    (tree / "helper" / "main.py").unlink()
    (tree / "helper" / "main.py").write_text(open(install_paths.home() + "/helper/main.py").read())
    (tree / "helper" / "probe.py").write_text(PROBE)
    monkeypatch.setattr(install_paths, "home", lambda: str(tree))


PROBE = """
import os, signal, sys, time
from pyrunc import errors

def run(payload):
    act = payload["act"]
    if act == "echo": return payload
    if act == "bytes": return bytes(range(256)) * 1000
    if act == "seen": return {
        "env": dict(os.environ), "fds": sorted(int(n) for n in os.listdir("/proc/self/fd")), "path": sys.path, "argv": sys.argv,
        "ignored": [n for n in range(1, 65) if n not in (9, 19, 32, 33) and signal.getsignal(n) == signal.SIG_IGN],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])), "pid": os.getpid()}
    if act == "refuse": raise errors.Refusal("not-so", "no", "/a/b", "hint")
    if act == "unsupported": raise errors.Unsupported("lacking", "lacks", "/x", "linux 9", "get it")
    if act == "step": raise errors.StepFailure("undone", "did not", call="bpf", errno=1, path="/p")
    if act == "crash": return 1 // 0
    if act == "killed": os.kill(os.getpid(), 9)
    if act == "import": import no_such_library
    if act == "hang": time.sleep(600)
    if act == "noise": sys.stderr.write("x" * 300000); return 1
"""


def test_no_descriptor_is_left_where_the_package_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(install_paths, "home", lambda: str(tmp_path / "nowhere"))
    before = hoststate.descriptors()
    for _ in range(3):
        with pytest.raises(errors.Unsupported):
            helper_process.call("probe", {"act": "echo"})
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_plain_data_and_bytes():
    for value in (None, True, -(1 << 63), "é\udc80\0", [1, {"a": []}], {"x": "y" * 300000}):
        assert helper_process.call("probe", {"act": "echo", "value": value})["value"] == value
    assert helper_process.call("probe", {"act": "bytes"}) == bytes(range(256)) * 1000
    assert helper_process.call("probe", {"act": "noise"}) == 1


def test_schema():
    assert helper_process.call("schema", CONFIG) == []
    assert [p["pointer"] for p in helper_process.call("schema", {"document": {}, "what": "config"})] == ["/ociVersion"]


def test_nothing_else_is_passed_on(tmp_path):
    """Not the caller's environment, its descriptors (not even inheritable ones), its ignored signals, or modules in its working directory."""
    here = tmp_path / "cwd"
    here.mkdir()
    (here / "json.py").write_text("raise SystemExit('taken from the working directory')")
    fd = os.open("/", os.O_RDONLY)
    os.set_inheritable(fd, True)
    before = os.getcwd()
    os.environ["PYTHONPATH"] = str(here)
    os.chdir(here)
    old = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        seen = helper_process.call("probe", {"act": "seen"})
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
        signal.signal(signal.SIGUSR2, old)
        os.chdir(before)
        del os.environ["PYTHONPATH"]
        os.close(fd)
    assert seen["env"] in (helper_process.ENV, {**helper_process.ENV, "LC_CTYPE": "C.UTF-8"})
    assert [n for n in seen["fds"] if n > 2] in ([3], [])  # the descriptor that lists the directory
    assert set(seen["ignored"]) <= {signal.SIGPIPE, signal.SIGXFSZ}  # set by Python itself
    assert seen["blocked"] == []
    assert str(here) not in seen["path"] and "" not in seen["path"]


def test_errors_come_back_unchanged():
    with pytest.raises(errors.Refusal) as refusal:
        helper_process.call("probe", {"act": "refuse"})
    assert (refusal.value.words, refusal.value.pointer, refusal.value.hint) == ("no", "/a/b", "hint")
    with pytest.raises(errors.Unsupported) as unsupported:
        helper_process.call("probe", {"act": "unsupported"})
    assert (unsupported.value.needs, unsupported.value.pointer) == ("linux 9", "/x")
    with pytest.raises(errors.StepFailure) as step:
        helper_process.call("probe", {"act": "step"})
    assert (step.value.call, step.value.errno, step.value.path) == ("bpf", 1, "/p")


def test_failures_of_the_helper_itself():
    for act, words in (("crash", "ZeroDivisionError"), ("killed", "status 9"), ("import", "no_such_library")):
        with pytest.raises(errors.Bug, match=words):
            helper_process.call("probe", {"act": act})
    with pytest.raises(errors.Bug, match="no helper|No module named"):
        helper_process.call("nothing", {})
    with pytest.raises(errors.Bug, match="no such helper"):
        helper_process.call("../x", {})


def test_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setattr(helper_process, "paths", lambda: [])
    with pytest.raises(errors.Unsupported) as caught:
        helper_process.call("schema", CONFIG)
    assert caught.value.needs == "jsonschema"
    assert "apt install python3-jsonschema" in caught.value.hint and "pip install jsonschema" in caught.value.hint
    for text in errors.CALLER_TEXT.values():
        assert text not in caught.value.hint


def test_missing_interpreter(monkeypatch):
    monkeypatch.setattr(install_paths, "interpreter", lambda: "/nowhere/python3")
    before = hoststate.descriptors()
    with pytest.raises(errors.Unsupported, match="cannot start /nowhere/python3: no such file"):
        helper_process.call("schema", CONFIG)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_time_limit_ends_it():
    before = hoststate.descriptors()
    children = hoststate.children()
    with pytest.raises(errors.Bug, match="did not answer within 300 ms"):
        helper_process.call("probe", {"act": "hang"}, timeout_ms=300)
    assert hoststate.children() == children, "reaped"
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_it_dies_with_its_caller():
    """The caller is killed while the helper works. Only the helper holds one end of a pipe, so the pipe is closed when it is gone."""
    r, w = os.pipe()
    script = (
        "import sys, os; sys.path.insert(0, %r); from pyrunc import helper_process, install_paths; install_paths.home = lambda: %r\n"
        "os.dup2(%d, 2); helper_process._inheritable = lambda: []; print('up', flush=True)\n"
        "helper_process.call('probe', {'act': 'hang'})"
    ) % (str(harness.ROOT / "runtime"), install_paths.home(), w)
    caller = subprocess.Popen([sys.executable, "-c", script], pass_fds=[w], stdout=subprocess.PIPE)
    os.close(w)
    assert caller.stdout.readline() == b"up\n"
    children = "/proc/%d/task/%d/children" % (caller.pid, caller.pid)
    for _ in range(20000):
        pids = open(children).read().split()
        if pids and b"probe" in open("/proc/%s/cmdline" % pids[0], "rb").read():
            break
    caller.kill()
    caller.wait()
    caller.stdout.close()
    assert select.select([r], [], [], 30)[0], "the helper is still running"
    assert os.read(r, 1) == b""
    os.close(r)


def test_closed_standard_streams():
    """A caller without descriptors 0 to 2: the pipes must not be mistaken for them."""
    script = (
        "import sys, os; sys.path.insert(0, %r); from pyrunc import helper_process, install_paths; install_paths.home = lambda: %r\n"
        "out = os.dup(1); [os.close(n) for n in (0, 1, 2)]\n"
        "os.write(out, repr(helper_process.call('probe', {'act': 'echo'})).encode())"
    ) % (str(harness.ROOT / "runtime"), install_paths.home())
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "{'act': 'echo'}"


def test_ignored_children():
    """SIGCHLD is ignored (some supervisors pass that on): the kernel reaps the child, and that is not an error."""
    script = (
        "import sys, os, signal; sys.path.insert(0, %r); from pyrunc import helper_process, install_paths; install_paths.home = lambda: %r\n"
        "signal.signal(signal.SIGCHLD, signal.SIG_IGN); print(helper_process.call('probe', {'act': 'echo'}))"
    ) % (str(harness.ROOT / "runtime"), install_paths.home())
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "{'act': 'echo'}\n"


def test_libraries_are_named_by_their_packages():
    for name, (_debian, pip) in helper_main.LIBRARIES.items():
        assert name.isidentifier() and pip in ("jsonschema", "pyseccomp")
