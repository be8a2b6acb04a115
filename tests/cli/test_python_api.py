"""`import pyrunc`: the examples in docs/python.md, names and types, failures, threads, and that nothing is left behind."""

import ast
import contextlib
import doctest
import gc
import inspect
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import textwrap
import threading

import pytest

import harness
import hoststate
import pyrunc as api

PYTHON = str(harness.ROOT / ".venv/bin/python")


@pytest.fixture
def rt(pyrunc):
    """A Runtime of the Python API for the runtime under test and its state root; nothing of it is left after the test."""
    gc.collect()  # a Runtime of an earlier test that is no longer referenced
    before = descriptors()
    found = api.Runtime(pyrunc.path, root=pyrunc.root)
    yield found
    found.close()
    del found
    gc.collect()
    assert {number: target for number, target in descriptors().items() if before.get(number) != target} == {}
    assert keepers_and_zombies() == []


@pytest.fixture
def new_id(pyrunc):
    return pyrunc.new_id


def descriptors():
    """Numbers and targets; memory files and pipes of the test session may come and go, those of the API may not."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink("/proc/self/fd/" + name)
        except OSError:
            continue
    return {number: target for number, target in found.items() if "/proc/" not in target}


def keepers_and_zombies():
    """The helper processes of the API, and children that were not waited for."""
    return [pid for pid in hoststate.children() if "keeper.py" in cmdline(pid) or hoststate.state_of(pid) == "Z"]


def cmdline(pid):
    try:
        with open("/proc/%s/cmdline" % pid) as file:
            return file.read()
    except OSError:
        return ""


# ---- names, types, documentation


def test_the_names():
    import pyrunc.api

    stub = ast.parse((harness.ROOT / "runtime/pyrunc/__init__.pyi").read_text())
    named = {alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(api.__all__) == set(pyrunc.api.__all__) == named  # type: ignore[attr-defined]
    assert set(api.__all__) <= set(dir(api))  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="nonsense"):
        _ = api.nonsense  # type: ignore[attr-defined]


def test_loading_is_lazy():
    """The runtime loads the package with every command, so importing it loads nothing else."""
    code = "import sys; before = set(sys.modules); import pyrunc; print(sorted(set(sys.modules) - before)); pyrunc.Runtime"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['pyrunc']\n"


def test_types(tmp_path):
    """mypy --strict, of the package and of a program that uses it."""
    mypy = shutil.which("mypy", path=str(harness.ROOT / ".venv/bin"))
    if not mypy:
        pytest.skip("no mypy in .venv: make .stamps/tools")
    (tmp_path / "user.py").write_text(
        "import pyrunc\n\n"
        "def f(rt: pyrunc.Runtime) -> int:\n"
        "    with rt.create(pyrunc.Bundle('x')) as container:\n"
        "        status = container.start().wait().status\n"
        "    reveal_type(status)\n"
        "    container.nonsense()\n"
        "    return container.exec(['a']).status\n"
    )
    argv = [mypy, "--strict", "--no-error-summary", "--cache-dir", str(tmp_path / "cache"), "-p", "pyrunc.api"]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=harness.ROOT)
    assert done.returncode == 0 and done.stdout == "", done
    argv = [mypy, "--strict", "--no-error-summary", "--cache-dir", str(tmp_path / "cache"), str(tmp_path / "user.py")]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=harness.ROOT)
    lines = [line.partition(": ")[2] for line in done.stdout.splitlines()]
    assert lines == [
        'note: Revealed type is "int | None"',
        'error: "Container" has no attribute "nonsense"  [attr-defined]',
    ], done


@pytest.mark.kernel
def test_the_examples_in_the_documentation_work(pyrunc, monkeypatch, scratch):
    """All examples in docs/python.md, with their directories below /tmp replaced by those of this session."""
    monkeypatch.setenv("PYRUNC", pyrunc.path)
    text = (harness.ROOT / "docs/python.md").read_text().replace("/tmp/pyrunc-example", str(scratch / "documented"))
    text = text.replace('(bundle, "example"', '(bundle, "%s"' % pyrunc.new_id())  # the cgroup has that name
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL)
    test = doctest.DocTestParser().get_doctest(text, {}, "python.md", "docs/python.md", 0)
    found = runner.run(test)
    assert found.failed == 0 and found.attempted > 12
    assert hoststate.state_dirs(scratch / "documented") == set()


# ---- bundles


def test_new_bundle(tmp_path):
    made = api.Bundle.new(tmp_path / "a", ["/bin/true"], rootfs="/srv/root", readonly=False)
    assert made.config == json.loads((tmp_path / "a/config.json").read_text())
    assert made.config["root"] == {"path": "/srv/root", "readonly": False} and str(made.rootfs) == "/srv/root"
    assert made.config["process"]["args"] == ["/bin/true"] and made.config["process"]["terminal"] is False
    with pytest.raises(FileExistsError):
        api.Bundle.new(tmp_path / "a", ["/bin/false"])
    assert api.Bundle(tmp_path / "a").config["process"]["args"] == ["/bin/true"]


def test_pointers(tmp_path):
    made = api.Bundle(tmp_path, {"mounts": [{}]})
    made.set("/mounts/0/source", "x").set("/mounts/-", {}).set("/annotations/a~1b", "c").set("/mounts/1", {"y": 1})
    assert made.config == {"mounts": [{"source": "x"}, {"y": 1}], "annotations": {"a/b": "c"}}
    with pytest.raises(ValueError):
        made.set("", {})


def test_a_temporary_bundle_is_removed():
    with api.Bundle.busybox(["/bin/true"]) as made:
        assert (made.rootfs / "bin/sh").is_symlink()
    assert not made.path.exists()


# ---- life


@pytest.mark.kernel
def test_life(rt, waiting, new_id, no_leaks):
    with rt.create(waiting, new_id(), capture=True) as container:
        assert container.status() == "created" and container.pid() > 0
        assert [other.id for other in rt.containers()] == [container.id]
        assert container.start() is container and container.status() == "running"
        assert rt.container(container.id).state() == container.state()
        assert container.processes() and container.stats().pids >= 1
        container.pause()
        assert container.status() == "paused"
        container.resume()
        container.update({"pids": {"limit": 33}})
        assert container.stats().raw["pids"]["limit"] == 33
        container.kill(15)
        assert container.wait(harness.WATCHDOG) == api.ExitStatus(0, None, False)
        assert container.status() == "stopped" and container.pid() == 0
        container.delete()
    with pytest.raises(api.NotFoundError):
        rt.container(container.id)


@pytest.mark.kernel
def test_streams(rt, make_bundle, new_id, tmp_path):
    bundle = make_bundle(args=["/bin/sh", "-c", "cat; echo problem >&2; cat <&3; exit 5"])
    with open(tmp_path / "third", "w+") as third, open(tmp_path / "out", "w+b") as out:
        third.write("third")
        third.seek(0)
        with open("/dev/null") as nothing:
            container = rt.create(bundle, new_id(), stdin=nothing, stdout=out, capture=True, fds=[third])
        with container:
            assert container.start().wait(harness.WATCHDOG).status == 5
            assert (container.stdout, container.stderr) == (b"", b"problem\n")
        out.seek(0)
        assert out.read() == b"third"
    done = rt.run(make_bundle(args=["/bin/sh", "-c", "cat; echo problem >&2; exit 5"]), input=b"in" * 100_000)
    assert (done.status, done.stderr, done.stdout) == (5, b"problem\n", b"in" * 100_000)


@pytest.mark.kernel
@pytest.mark.parametrize("is_started, expected", [(True, (7, None)), (False, (137, 9))])
def test_status_of_a_container_that_ended_long_ago(rt, make_bundle, new_id, is_started, expected):
    """Nobody waited for it; the helper, its parent, has collected the status."""
    with rt.create(make_bundle(args=["/bin/sh", "-c", "exit 7"]), new_id()) as container, harness.Watched(container.pid()) as watched:
        if is_started:
            container.start()
        else:
            container.kill("KILL")
        watched.wait()
        found = container.wait(harness.WATCHDOG)
        assert (found.status, found.signal) == expected


@pytest.mark.kernel
def test_exec(rt, waiting, new_id):
    with rt.create(waiting, new_id()).start() as container:
        done = container.exec(
            ["/bin/sh", "-c", "pwd; id -u; echo $A; cat; exit 3"], env={"A": "x=y z"}, cwd="/tmp", user="1000:1000", input=b"in"
        )
        assert done == api.Completed(("/bin/sh", "-c", "pwd; id -u; echo $A; cat; exit 3"), 3, b"/tmp\n1000\nx=y z\nin", b"")
        with pytest.raises(api.ProgramFailed, match="status 4: why"):
            container.exec(["/bin/sh", "-c", "echo why >&2; exit 4"], check=True)
        assert container.exec(["/bin/sh", "-c", "exit 255"]).status == 255  # the status of the program, not a failure of exec
        with pytest.raises(TypeError):
            container.exec("ls")


# ---- failures


@pytest.mark.kernel
def test_failures_have_their_types(rt, waiting, new_id, make_bundle):
    with rt.create(waiting, new_id()) as container:
        with pytest.raises(api.AlreadyExistsError):
            rt.create(waiting, container.id)
        with pytest.raises(api.StateError) as caught:
            container.resume()
        assert caught.value.kind == "state" and not isinstance(caught.value, api.NotFoundError)
        with pytest.raises(api.StepError) as caught:  # type: ignore[assignment]
            container.start().exec(["/missing"])
        assert caught.value.call and caught.value.errno == 2 and caught.value.pointer == "/process/args/0"
        with pytest.raises(api.UsageError):
            container.kill("NONSENSE")
    with pytest.raises(api.RefusedError) as caught:  # type: ignore[assignment]
        rt.run(make_bundle({"/process/cwd": "srv"}), new_id())
    assert caught.value.pointer == "/process/cwd" and caught.value.hint and caught.value.code
    with pytest.raises(api.HookError) as caught:  # type: ignore[assignment]
        rt.create(make_bundle({"/hooks": {"createRuntime": [{"path": "/bin/false"}]}}), new_id())
    assert caught.value.pointer == "/hooks/createRuntime/0"
    assert rt.containers() == []


def test_no_such_runtime(tmp_path, monkeypatch):
    with api.Runtime(tmp_path / "none") as rt, pytest.raises(api.NotInstalledError, match="none"):
        rt.version()
    (tmp_path / "text").write_text("text")
    with api.Runtime(tmp_path / "text") as rt, pytest.raises(api.NotInstalledError):
        rt.version()
    (tmp_path / "liar").write_text("#!/bin/sh\necho garbage\nexit 3\n")
    (tmp_path / "liar").chmod(0o755)
    with api.Runtime(tmp_path / "liar") as rt:
        with pytest.raises(api.Error, match="status 3 and gave no reason"):
            rt.features()
        with pytest.raises(api.Error, match="not JSON"):
            rt.validate("/")


@pytest.mark.kernel
def test_unusual_arguments(rt, waiting, new_id):
    """None of them breaks the helper process or gets lost on the way."""
    with rt.create(waiting, new_id()).start() as container:
        (keeper,) = keepers_and_zombies()
        odd = ["a b", "", "-x", "ü\u2028", "\udcff", "$(id)", "'\"", "\n"]
        done = container.exec(["/bin/sh", "-c", 'for word; do printf "<%s>" "$word"; done', "sh", *odd], env={"A": "x\ny", "B": "=\udcfe"})
        assert done.stdout == b"".join(b"<%s>" % os.fsencode(word) for word in odd)
        with pytest.raises(api.UsageError, match="NUL"):
            container.exec(["/bin/echo", "a\0b"])
        with pytest.raises(api.Error, match="too long"):
            container.exec(["/bin/echo", "x" * (3 << 20)])
        assert container.exec(["/bin/echo", "x" * 100_000]).text == "x" * 100_000 + "\n"
        assert keepers_and_zombies() == [keeper]


def test_a_log_that_is_garbage(tmp_path):
    (tmp_path / "liar").write_text("#!/bin/sh\nwhile [ $1 != --log ]; do shift; done; echo garbage > $2; echo 7 >> $2; exit 3\n")
    (tmp_path / "liar").chmod(0o755)
    with api.Runtime(tmp_path / "liar") as rt, pytest.raises(api.Error, match="status 3 and gave no reason"):
        rt.features()


def test_a_log_that_an_aborted_command_creates_again(monkeypatch):
    """While its directory is being removed: the directory is removed all the same."""
    from pyrunc.api import caller

    log, rmdir, late = caller.log_file(), os.rmdir, ["log", "pid"]

    def remove(path, **more):
        if late:
            (pathlib.Path(log.name).parent / late.pop()).touch()
        rmdir(path, **more)

    with log:
        monkeypatch.setattr(os, "rmdir", remove)
    assert late == [] and not pathlib.Path(log.name).parent.exists()


@pytest.mark.kernel
def test_it_takes_too_long(rt, waiting, new_id, make_bundle, no_leaks):
    stubborn = make_bundle(args=["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1000; done"])
    with pytest.raises(api.TimeoutExpired):
        rt.run(stubborn, new_id(), timeout=0.5)
    assert rt.containers() == []
    with rt.create(waiting, new_id()).start() as container:
        with pytest.raises(api.TimeoutExpired, match=r"^wait took longer than 0\.2 s$"):
            container.wait(0.2)
        assert container.status() == "running"
        pids = set(container.processes())
        with pytest.raises(api.TimeoutExpired):
            container.exec(["/bin/sh", "-c", "trap '' TERM; while :; do sleep 1000; done"], timeout=0.5)
        for pid in set(container.processes()) - pids:
            with contextlib.suppress(ProcessLookupError), harness.Watched(pid) as watched:  # an exec that had not begun is gone already
                container.kill("KILL", all=True)
                watched.wait()


@pytest.mark.kernel
def test_a_create_that_hangs_is_undone(pyrunc, make_bundle, no_leaks):
    """A hook does not end: after the caller's timeout it is killed, and nothing is left."""
    bundle = make_bundle({"/hooks": {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "1000"]}]}})
    with api.Runtime(pyrunc.path, root=pyrunc.root, timeout=3) as rt:
        with pytest.raises(api.TimeoutExpired):
            rt.create(bundle, pyrunc.new_id())
        assert rt.containers() == []


def test_no_containers_before_the_root_is_made(pyrunc):
    with api.Runtime(pyrunc.path, root=os.path.join(pyrunc.root, "not", "made")) as rt:
        assert rt.containers() == []
    with api.Runtime(pyrunc.path, root="/dev/null") as rt, pytest.raises(api.UsageError, match="/dev/null"):
        rt.containers()


@pytest.mark.kernel
def test_the_helper_is_killed(rt, waiting, new_id):
    """Running containers continue; the next call starts another helper."""
    with rt.create(waiting, new_id()).start() as container:
        (keeper,) = keepers_and_zombies()
        os.kill(int(keeper), signal.SIGKILL)
        with harness.Watched(int(keeper)):
            os.waitid(os.P_PID, int(keeper), os.WEXITED | os.WNOWAIT)
        assert container.status() == "running"
        (other,) = keepers_and_zombies()
        assert other != keeper
        container.kill("KILL")
        assert container.wait(harness.WATCHDOG).status in (137, None)  # it has another parent now


# ---- threads


@pytest.mark.kernel
@pytest.mark.slow
def test_threads(rt, make_bundle, pyrunc, no_leaks):
    """Eight threads share a Runtime: each creates its own containers, and files of the other threads never leak into them."""
    bundles = [
        make_bundle(args=["/bin/sh", "-c", "echo %d; ls /proc/self/fd | wc -l; read x <&3; echo $x; exit %d" % (n, n)]) for n in range(8)
    ]
    ids = [[pyrunc.new_id() for _ in range(3)] for _ in range(8)]
    found = {n: [] for n in range(8)}

    def work(n):
        try:
            for id in ids[n]:
                read_end, write_end = os.pipe()
                os.write(write_end, b"thread %d\n" % n)
                with rt.create(bundles[n], id, capture=True, fds=[read_end]) as container:
                    os.close(read_end)
                    os.close(write_end)
                    status = container.start().wait(harness.WATCHDOG).status
                    found[n].append((status, container.stdout))
        except BaseException as e:
            found[n].append(e)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(harness.WATCHDOG * 4)
    # 0, 1, 2, the pipe and the directory that ls reads
    assert found == {n: [(n, b"%d\n5\nthread %d\n" % (n, n))] * 3 for n in range(8)}


@pytest.mark.kernel
@pytest.mark.slow
def test_a_program_that_ends_without_closing(pyrunc, waiting, token):
    """The helper ends with the program, however that ends; its containers stay."""
    code = (
        "import os, pyrunc, sys\n"
        "rt = pyrunc.Runtime(sys.argv[1], root=sys.argv[2])\n"
        "rt.create(sys.argv[3], sys.argv[4]).start()\n"
        "print(rt._caller._stop.peek()[2][0].pid, flush=True)\n"
        "os._exit(0)\n"
    )
    id = pyrunc.new_id()
    done = subprocess.run(
        [PYTHON, "-c", code, pyrunc.path, pyrunc.root, waiting, id], capture_output=True, text=True, timeout=harness.WATCHDOG
    )
    assert done.returncode == 0, done
    try:
        with harness.Watched(int(done.stdout)) as watched:
            watched.wait()
    except ProcessLookupError:
        pass  # it was faster
    assert pyrunc.status(id) == "running"


@pytest.mark.kernel
def test_without_root(pyrunc, scratch):
    """Bundle.busybox() checks the current user and creates a rootless config."""
    root = scratch / "rootless-api"
    root.mkdir()
    os.chown(root, 1000, 1000)
    code = (
        "import pyrunc, sys\n"
        "with pyrunc.Runtime(sys.argv[1], root=sys.argv[2]) as rt, pyrunc.Bundle.busybox(['/bin/sh', '-c', 'id -u; exit 6']) as bundle:\n"
        "    print(rt.run(bundle), rt.containers())\n"
    )
    argv = [PYTHON, "-c", code, pyrunc.path, root / "state"]
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=harness.WATCHDOG, user=1000, group=1000, extra_groups=[], cwd="/"
        )
    except PermissionError:
        pytest.skip("uid 1000 may not execute the interpreter in its directory")
    assert "status=6, stdout=b'0\\n'" in done.stdout and done.stdout.endswith(" []\n"), done


# ---- the pytest plugin


PLUGIN_TESTS = """
import pathlib

def test_words(pyrunc_container, tmp_path):
    container = pyrunc_container(["/bin/sh", "-c", "echo $HOSTNAME; hostname"], changes={"/hostname": "inside"})
    assert container.wait(30).status == 0 and b"inside" in container.stdout

def test_it_stays_until_the_end(pyrunc_container, pyrunc_runtime):
    pyrunc_container(["/bin/sleep", "1000"])
    assert len(pyrunc_runtime.containers()) == 1

def test_it_is_gone_then(pyrunc_runtime):
    assert pyrunc_runtime.containers() == []

def test_a_failure(pyrunc_container):
    assert pyrunc_container(["/bin/false"]).wait(30).status == 0
"""


@pytest.mark.kernel
def test_the_plugin(pyrunc, tmp_path):
    (tmp_path / "test_it.py").write_text(PLUGIN_TESTS)
    argv = [PYTHON, "-m", "pytest", "-q", "-p", "pyrunc.api.testing", "-p", "no:cacheprovider", "--pyrunc-runtime", pyrunc.path]
    done = subprocess.run(
        [*argv, "--basetemp", tmp_path / "t", tmp_path], capture_output=True, text=True, timeout=harness.WATCHDOG, cwd=tmp_path
    )
    assert "1 failed, 3 passed" in done.stdout and "status=1" in done.stdout, done.stdout + done.stderr


@pytest.mark.long
def test_installed(pyrunc, tmp_path):
    """From a wheel in a separate environment: pytest finds the plugin through its entry point, and the package finds its binary."""
    pip = [PYTHON, "-m", "pip", "--disable-pip-version-check", "-q"]
    source = tmp_path / "source"
    shutil.copytree(
        harness.ROOT / "runtime",
        source / "runtime",
        symlinks=True,
        ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info", "pyrunc-static"),
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(harness.ROOT / name, source / name)
    subprocess.run([*pip, "wheel", "--no-deps", "-w", tmp_path / "wheel", source], check=True, timeout=600)
    subprocess.run(["/usr/bin/python3", "-m", "venv", tmp_path / "env"], check=True)
    own = tmp_path / "env/bin/python"
    subprocess.run([own, *pip[1:], "install", *(tmp_path / "wheel").iterdir(), "pytest"], check=True, timeout=600)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_it.py").write_text(PLUGIN_TESTS)
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    argv = [own, "-I", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp", tmp_path / "t", tmp_path / "tests"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=harness.WATCHDOG, cwd=tmp_path / "tests", env=env)
    assert "1 failed, 3 passed" in done.stdout and "status=1" in done.stdout, done.stdout + done.stderr
    shown = subprocess.run(
        [own, "-I", "-c", "import pyrunc; print(pyrunc.Runtime().path)"], capture_output=True, text=True, env=env, check=True
    )
    assert shown.stdout == "%s\n" % (tmp_path / "env/bin/pyrunc")


def test_the_plugin_is_an_entry_point():
    import importlib
    import tomllib

    points = tomllib.loads((harness.ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    assert hasattr(importlib.import_module(points["pyrunc"]), "pyrunc_container")
    assert sys.modules["pyrunc.api.testing"].MakeContainer


# ---- mounts, diff, stop, asyncio


@pytest.mark.kernel
def test_stop(rt, make_bundle, new_id):
    """The signal is enough for a program that handles it; another one is killed; one that has already ended returns its status."""
    polite = make_bundle(args=["/bin/sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"])
    with rt.create(polite, new_id(), capture=True).start() as container:
        _ready(container)
        assert container.stop(30).status == 5 and container.stop().status == 5
    rude = make_bundle(
        {"/linux/cgroupsPath": harness.ABSENT}, args=["/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.05; done"]
    )
    with rt.create(rude, new_id(), capture=True).start() as container:
        _ready(container)
        assert container.stop(0.1).signal == signal.SIGKILL


def _ready(container):
    """Waits for the first output of the program."""
    for _ in range(600):
        if container.stdout:
            return
        container.exec(["/bin/sleep", "0.05"])
    raise AssertionError("nothing was written")


@pytest.mark.kernel
def test_mounts_and_diff(rt, waiting, new_id, tmp_path):
    (tmp_path / "file").write_text("x")
    with rt.create(waiting, new_id()).start() as container:
        container.add_mount("/tmp", tmp_path, options=["ro"])
        (added,) = [mount for mount in container.mounts() if mount.origin == "live"]
        assert (added.destination, added.source) == ("/tmp", str(tmp_path)) and container.exec(["/bin/cat", "/tmp/file"]).text == "x"
        container.remove_mount("/tmp")
        assert [mount for mount in container.mounts() if mount.origin == "live"] == [] and container.diff() == []


@pytest.mark.kernel
def test_asyncio(pyrunc, make_bundle, new_id, no_leaks):
    """Output while it runs, events, a cancelled wait, and several containers at once."""
    import asyncio

    bundles = [
        make_bundle({"/linux/cgroupsPath": harness.ABSENT}, args=["/bin/sh", "-c", "echo one; read x; echo $x two; exit 3"])
        for _ in range(3)
    ]

    async def life(runtime, bundle):
        read, write = os.pipe2(os.O_CLOEXEC)
        container = await runtime.create(bundle, new_id(), stream=True, stdin=read)
        os.close(read)
        async with container:
            await container.start()
            assert await container.stdout_stream.readline() == b"one\n"
            events = container.events(interval=0.01)
            assert (await anext(events))["type"] == "stats"
            await events.aclose()
            with pytest.raises(api.TimeoutExpired):
                await container.wait(timeout=0.05)
            waiting = asyncio.ensure_future(container.wait())
            await asyncio.sleep(0)
            waiting.cancel()
            assert await container.status() == "running"
            os.write(write, b"and\n")
            os.close(write)
            assert await container.stdout_stream.read() == b"and two\n"
            return (await container.wait()).status

    async def main():
        async with api.AsyncRuntime(pyrunc.path, root=pyrunc.root) as runtime:
            found = await asyncio.gather(*(life(runtime, bundle) for bundle in bundles))
            assert found == [3, 3, 3] and await runtime.containers() == []

    asyncio.run(asyncio.wait_for(main(), harness.WATCHDOG))


@pytest.mark.kernel
def test_two_streams_of_events(pyrunc, make_bundle, new_id, no_leaks):
    """Each of them ends separately and only releases its own resources."""
    import asyncio

    async def main():
        async with api.AsyncRuntime(pyrunc.path, root=pyrunc.root) as runtime:
            async with await runtime.create(make_bundle({}, args=harness.WAIT_FOR_TERM), new_id()) as container:
                await container.start()
                first, second = container.events(interval=0.01), container.events(interval=0.01)
                assert [(await anext(stream))["type"] for stream in (first, second)] == ["stats", "stats"]
                await first.aclose()
                for _ in range(20):
                    assert (await anext(second))["type"] == "stats"
                await second.aclose()
                assert (await container.stop()).status == 0

    asyncio.run(asyncio.wait_for(main(), harness.WATCHDOG))


@pytest.mark.kernel
def test_events(rt, make_bundle, new_id, no_leaks):
    """They end with the container; closing an iterator ends its command; for an unknown container they are an error."""
    with rt.create(make_bundle({}, args=harness.WAIT_FOR_TERM), new_id()).start() as container:
        first = container.events(interval=0.01)
        assert next(first)["type"] == "stats"
        first.close()
        stream = container.events(interval=0.01)
        assert next(stream)["id"] == container.id
        container.stop(30)
        assert {event["type"] for event in stream} <= {"stats"}
    with pytest.raises(api.NotFoundError):
        next(container.events())


def public(kind):
    """{name: kind} of the attributes of a class, including those that its constructor sets."""
    found = {name: getattr(kind, name) for name in dir(kind) if name[:1] != "_"}
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind.__init__)))
    targets = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)]
    found.update({n.attr: None for n in targets if ast.unparse(n.value) == "self" and n.attr[:1] != "_"})
    return found


@pytest.mark.parametrize(
    ("kind", "twin", "more"), [("Runtime", "AsyncRuntime", set()), ("Container", "AsyncContainer", {"stdout_stream", "stderr_stream"})]
)
def test_attributes_and_methods(kind, twin, more):
    """Known values are attributes, and calls to the runtime are methods. The asynchronous class has the same names, with a coroutine or an
    asynchronous iterator for each method and the same parameters. All of them are on the page."""
    names, others = public(getattr(api, kind)), public(getattr(api, twin))
    assert set(others) - set(names) == more and set(names) <= set(others)
    page = (harness.ROOT / "docs/python.md").read_text()
    assert [name for name in others if "`%s`" % name not in page] == []
    for name, value in names.items():
        if not inspect.isfunction(value):
            assert not inspect.isfunction(others[name]), name
            continue
        assert inspect.iscoroutinefunction(others[name]) or inspect.isasyncgenfunction(others[name]), name
        asked = [dict(inspect.signature(function).parameters) for function in (value, others[name])]
        assert set(asked[1]) - set(asked[0]) == ({"stream"} if name == "create" else set()) and set(asked[0]) <= set(asked[1])
        assert all(str(asked[1][word]) == str(parameter) for word, parameter in asked[0].items()), name


def test_attributes_need_no_runtime(tmp_path):
    """They exist even without a runtime on the machine, and no helper process is started for them."""
    runtime = api.Runtime("/nonexistent/pyrunc", root=tmp_path)
    container = api.Container(runtime, "x", [])
    for one in (runtime, container):
        for name, value in public(type(one)).items():
            if not inspect.isfunction(value):
                getattr(one, name)
    assert runtime._caller._control is None
    with pytest.raises(api.NotInstalledError):
        container.status()
    runtime.close()


def test_no_module_of_the_runtime_is_a_public_name():
    import pyrunc.store  # noqa: F401

    assert {name for name in dir(api) if name[:2] != "__"} == set(api.__all__)  # type: ignore[attr-defined]


def test_the_version(pyrunc):
    assert api.__version__ == api.Runtime(pyrunc.path).version()
