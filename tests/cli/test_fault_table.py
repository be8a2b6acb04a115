"""Processes that die, hang or interfere. After each fault, the command has printed one clear line or succeeded, `delete --force` exits
with 0, nothing is left behind, and the id can be used for another container. Resources that run out are in test_fault_table_resources.py;
test_faults.py tests kills and failing calls at every point.
"""

import json
import os
import socket
import subprocess
import threading

import pytest

import harness
import hoststate

pytestmark = pytest.mark.kernel
STRACE = "/usr/bin/strace"


def clear(result, *codes):
    """Checks that the error is a single line without a traceback; returns it."""
    assert result.code in (codes or (1,)), result
    assert result.code == 0 or len(result.err.splitlines()) == 1, result
    assert "Traceback" not in result.err and "internal error" not in result.err, result
    return result.err


def again(runtime, bundle, id):
    """The end of every test here: delete --force succeeds twice, and the id can be used again."""
    for _ in range(2):
        clear(runtime.call("delete", "--force", id), 0)
    runtime.create(bundle, id)
    runtime.delete(id, "--force")


# ---- hooks and init


def with_hook(make_bundle, script, kind="createRuntime", timeout=None):
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}
    return make_bundle({"/hooks": {kind: [{**hook, "timeout": timeout} if timeout else hook]}}, args=harness.WAIT_FOR_TERM)


@pytest.mark.parametrize("script", ["trap '' TERM INT; while :; do sleep 1000; done", "sleep 1000 & sleep 1000", "kill -STOP $$"])
def test_a_hook_that_hangs(pyrunc, make_bundle, no_leaks, script):
    """It is killed along with everything that it started."""
    bundle = with_hook(make_bundle, "echo %s >/dev/null; %s" % (pyrunc.token, script), timeout=1)
    id = pyrunc.new_id()
    assert "timeout" in clear(pyrunc.call("create", "--bundle", bundle, id))
    assert not [line for line in hoststate.processes(pyrunc.token).values() if "sleep" in line]
    clear(pyrunc.call("delete", "--force", id), 0)


@pytest.mark.parametrize("script", ["exec >&- 2>&- <&-; exit 0", "head -c 60000000 /dev/zero", "exit 0", "exec <&-; cat /dev/null"])
def test_a_hook_with_unusual_input_or_output(pyrunc, make_bundle, no_leaks, script):
    bundle = with_hook(make_bundle, script)
    bundle.patch({"/annotations": {"big": "x" * 300_000}})  # more than a pipe holds
    again(pyrunc, bundle, pyrunc.create(bundle))


def test_a_hook_that_leaves_a_daemon_behind(pyrunc, make_bundle, tmp_path, no_leaks):
    """The daemon keeps the streams open; create waits for the hook and not for the streams."""
    bundle = with_hook(make_bundle, "setsid sleep 1000 & echo $! >%s/pid" % tmp_path)
    id = pyrunc.create(bundle)
    end_daemon(tmp_path / "pid")
    again(pyrunc, bundle, id)
    end_daemon(tmp_path / "pid")


def end_daemon(pid_file):
    with harness.Watched(int(pid_file.read_text())) as daemon:
        os.kill(daemon.pid, 9)
        daemon.wait()


@pytest.mark.parametrize("kind", ["prestart", "createRuntime"])
def test_init_is_killed_during_create(pyrunc, make_bundle, kind, no_leaks):
    script = "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); kill -9 $pid"
    bundle = with_hook(make_bundle, script, kind)
    id = pyrunc.new_id()
    assert "kill" in clear(pyrunc.call("create", "--bundle", bundle, id))
    clear(pyrunc.call("delete", "--force", id), 0)


def test_init_is_killed_before_start(pyrunc, waiting, no_leaks):
    id = pyrunc.create(waiting)
    pid = pyrunc.state(id)["pid"]
    with harness.Watched(pid) as init:
        os.kill(pid, 9)
        init.wait()
    assert pyrunc.status(id) == "stopped"
    clear(pyrunc.call("start", id))
    again(pyrunc, waiting, id)


# ---- the other end of the console socket


@pytest.mark.parametrize("peer", ["missing", "dead", "full", "closes"])
def test_a_console_socket_whose_peer_is_gone(pyrunc, make_bundle, scratch, peer, no_leaks):
    folder = scratch / ("peer-" + peer)
    folder.mkdir()
    path = folder / "s"
    server = socket.socket(socket.AF_UNIX)
    others = []
    if peer != "missing":
        server.bind(str(path))
    if peer in ("full", "closes"):
        server.listen(0)
    if peer == "full":
        for _ in range(2):
            others.append(socket.socket(socket.AF_UNIX))
            others[-1].setblocking(False)
            try:
                others[-1].connect(str(path))
            except BlockingIOError:
                break
    if peer == "closes":
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
    bundle = make_bundle({"/process/terminal": True}, args=harness.WAIT_FOR_TERM)
    id = pyrunc.new_id()
    clear(pyrunc.call("create", "--bundle", bundle, "--console-socket", path, id), *((0, 1) if peer == "closes" else (1,)))
    for one in (server, *others):
        one.close()
    clear(pyrunc.call("delete", "--force", id), 0)


# ---- several at once


def together(runtime, *commands):
    """Starts all at the same time → their exit statuses."""
    null = subprocess.DEVNULL
    made = [subprocess.Popen(runtime.argv(*words), stdin=null, stdout=null, stderr=null, env=runtime.env) for words in commands]
    return [process.wait(harness.WATCHDOG) for process in made]


PAIRS = {
    "delete and start": (["delete", "--force", "ID"], ["start", "ID"]),
    "delete and exec": (["delete", "--force", "ID"], ["exec", "ID", "/bin/true"]),
    "delete and kill": (["delete", "--force", "ID"], ["kill", "ID", "KILL"]),
    "delete and state": (["delete", "--force", "ID"], ["state", "ID"]),
    "delete and pause": (["delete", "--force", "ID"], ["pause", "ID"]),
    "delete and create": (["delete", "--force", "ID"], ["create", "--bundle", "BUNDLE", "ID"]),
    "four deletes": (["delete", "--force", "ID"],) * 4,
    "start and kill": (["start", "ID"], ["kill", "ID", "KILL"], ["delete", "--force", "ID"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS)
def test_commands_on_one_id_at_the_same_time(pyrunc, waiting, pair, no_leaks):
    """delete --force exits with 0 whatever the others do, and nothing is left after the next one."""
    for turn in range(12):
        id = pyrunc.create(waiting)
        if turn % 2 and "start" not in pair:
            pyrunc.start(id)
        fill_in = {"ID": id, "BUNDLE": str(waiting)}
        statuses = together(pyrunc, *[[fill_in.get(word, word) for word in words] for words in PAIRS[pair]])
        wanted = [status for status, words in zip(statuses, PAIRS[pair], strict=True) if words[0] == "delete"]
        assert set(wanted) == {0}, (pair, turn, statuses)
        clear(pyrunc.call("delete", "--force", id), 0)
        left = no_leaks.left()
        assert left == {}, (pair, turn, left)


# ---- frozen, busy


@pytest.fixture
def frozen(pyrunc, waiting):
    id = pyrunc.started(waiting)
    if pyrunc.call("pause", id).code:
        pytest.skip("no freezer on this machine")
    return id


def test_a_frozen_container(pyrunc, waiting, frozen, no_leaks):
    """exec is refused, pausing again is harmless, and KILL works."""
    assert "paused" in clear(pyrunc.call("exec", frozen, "/bin/true"), 255)
    clear(pyrunc.call("pause", frozen), 0, 1)
    with harness.Watched(pyrunc.state(frozen)["pid"]) as init:
        clear(pyrunc.call("kill", frozen, "KILL"), 0)
        init.wait()
    again(pyrunc, waiting, frozen)


def test_a_frozen_container_is_deleted(pyrunc, waiting, frozen, no_leaks):
    again(pyrunc, waiting, frozen)


def test_a_container_that_another_process_froze(pyrunc, waiting, no_leaks):
    id = pyrunc.started(waiting)
    folders = hoststate.cgroups(os.path.basename(waiting.config["linux"]["cgroupsPath"]))
    for folder in folders:
        for file, word in (("freezer.state", "FROZEN"), ("cgroup.freeze", "1")):
            path = os.path.join(folder, file)
            if os.path.exists(path):
                with open(path, "w") as handle:
                    handle.write(word)
    assert pyrunc.status(id) == "paused"
    again(pyrunc, waiting, id)


def test_a_process_of_the_host_in_the_cgroup(pyrunc, waiting, no_leaks):
    """delete fails with an error that names the process, or kills it with --force; it never exits with 0 and leaves the cgroup."""
    id = pyrunc.create(waiting)
    folder = sorted(hoststate.cgroups(os.path.basename(waiting.config["linux"]["cgroupsPath"])))[0]
    stranger = subprocess.Popen(["/bin/sleep", "1000"])
    try:
        with open(os.path.join(folder, "cgroup.procs"), "w") as file:
            file.write(str(stranger.pid))
        pyrunc.stopped(id)
        result = pyrunc.call("delete", id)
        if result.code:
            assert str(stranger.pid) in clear(result) and os.path.isdir(folder), result
        else:
            assert not os.path.isdir(folder)
        result = pyrunc.call("delete", "--force", id)
        if result.code:
            assert str(stranger.pid) in clear(result) and os.path.isdir(folder), result
    finally:
        stranger.kill()
        stranger.wait()
    again(pyrunc, waiting, id)


# ---- init fails before the host side listens


@pytest.mark.skipif(not os.path.exists(STRACE), reason="no strace on this machine")
def test_init_fails_before_the_first_message(pyrunc, waiting, no_leaks):
    """Its first call fails and it exits before the host side sends its first message (sendmsg): the error of init is not lost."""
    id = pyrunc.new_id()
    inject = ["-e", "trace=setsid,sendmsg", "-e", "inject=setsid:error=EPERM", "-e", "inject=sendmsg:delay_enter=300000:when=1"]
    argv = [STRACE, "-D", "-f", "-qq", "-o", "/dev/null", "-e", "signal=none", *inject, *pyrunc.argv("create", "--bundle", waiting, id)]
    with harness.Capture() as err:
        null = subprocess.DEVNULL
        code = subprocess.Popen(argv, stdin=null, stdout=null, stderr=err.file, env=pyrunc.env).wait(harness.WATCHDOG)
        text = err.text()
    assert code == 1 and len(text.splitlines()) == 1 and "setsid" in text and "operation not permitted" in text.lower(), text
    assert no_leaks.left() == {}


# ---- undoing fails too


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists(STRACE), reason="no strace on this machine")
@pytest.mark.parametrize("call", ["unlinkat", "unlink", "rmdir", "unlinkat,unlink,rmdir"])
@pytest.mark.parametrize("way", ["delete", "gc"])
def test_create_and_its_undo_fail(pyrunc, waiting, make_bundle, call, way, no_leaks):
    """EIO for every removal: what create could not undo is recorded, and undone later."""
    other = pyrunc.create(waiting)  # gc treats an empty directory as ours if its siblings are
    bundle = make_bundle(args=["/no/such/program"])
    id = pyrunc.new_id()
    inject = ["-e", "trace=" + call, "-e", "inject=%s:error=EIO" % call]
    argv = [STRACE, "-D", "-f", "-qq", "-o", "/dev/null", "-e", "signal=none", *inject, *pyrunc.argv("create", "--bundle", bundle, id)]
    with harness.Capture() as err:
        null = subprocess.DEVNULL
        code = subprocess.Popen(argv, stdin=null, stdout=null, stderr=err.file, env=pyrunc.env).wait(harness.WATCHDOG)
        text = err.text()
    assert code == 1 and "raceback" not in text, text
    if way == "gc":
        for top, folders, files in os.walk(pyrunc.root):  # gc leaves recently written files alone
            for name in (*folders, *files):
                os.utime(os.path.join(top, name), (0, 0), follow_symlinks=False)
        clear(pyrunc.call("gc", "--force"), 0)
        assert pyrunc.status(other) == "created"
    else:
        clear(pyrunc.call("delete", "--force", id), 0)
    pyrunc.delete(other, "--force")
    assert no_leaks.left() == {}
    again(pyrunc, bundle.patch({"/process/args": harness.WAIT_FOR_TERM}), id)


@pytest.mark.parametrize("name", ["exec.fifo", "result"])
@pytest.mark.parametrize("shape", ["file", "link", "fifo", "missing"])
def test_the_gate_is_replaced(pyrunc, waiting, host_file, name, shape, no_leaks):
    """start uses the fifo that create made, or refuses; nothing is written elsewhere."""
    id = pyrunc.create(waiting)
    path = os.path.join(pyrunc.root, id, name)
    os.unlink(path)
    if shape == "file":
        open(path, "w").close()
    elif shape == "link":
        os.symlink(host_file, path)
    elif shape == "fifo":
        os.mkfifo(path)
    clear(pyrunc.call("start", id))
    assert host_file.read_text() == "host"
    clear(pyrunc.call("state", id), 0, 1)
    again(pyrunc, waiting, id)


@pytest.fixture
def host_file(tmp_path):
    (tmp_path / "victim").write_text("host")
    return tmp_path / "victim"


def test_a_state_of_a_newer_version(pyrunc, waiting, no_leaks):
    id = pyrunc.create(waiting)
    path = os.path.join(pyrunc.root, id, "state.json")
    state = harness.saved_state(pyrunc, id)
    with open(path, "w") as file:
        json.dump({**state, "version": state["version"] + 1}, file)
    assert "version" in clear(pyrunc.call("state", id))
    assert id in pyrunc.ok("list").err, "list reports it and still lists the others"
    again(pyrunc, waiting, id)
