"""`import pyrunc`: bundles, the life of containers, failures, and threads. Nothing is left behind."""

import contextlib
import gc
import json
import os
import pathlib
import signal
import threading

import pytest

import harness
import hoststate
import pyrunc as api


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


# ---- stop, mounts, diff, events


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
