"""Habits of callers that no other test covers: closed streams, paths through links, large annotations, concurrent calls. docs/callers.md
names a test for each habit."""

import fcntl
import json
import os
import re
import subprocess

import pytest

import harness
import hoststate

pytestmark = pytest.mark.kernel

BIG = "x" * 200000  # more than an argument or variable of a program may have, and more than fits into a pipe


def stat_of(pid):
    """The fields of /proc/PID/stat, starting with the state: index 0 is field 3 in proc_pid_stat(5)."""
    with open("/proc/%d/stat" % pid) as file:
        return file.read().rpartition(")")[2].split()


# ---- streams and process


def test_closed_streams_are_the_null_device(pyrunc, make_bundle):
    """A caller that closed 0, 1 and 2: no file of the runtime takes their place in the container."""
    script = "exec 3> /seen; for n in 0 1 2; do (stat -L -c %t:%T /proc/1/fd/$n >&3); done"
    bundle = make_bundle(args=["/bin/sh", "-c", script])
    id = pyrunc.new_id()
    closing = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    assert subprocess.run([*closing, *pyrunc.argv("create", "--bundle", bundle, id)]).returncode == 0
    with harness.Watched(pyrunc.state(id)["pid"]) as init:
        assert subprocess.run([*closing, *pyrunc.argv("start", id)]).returncode == 0
        init.wait()
    assert (bundle.rootfs / "seen").read_text().split() == ["1:3"] * 3
    pyrunc.delete(id)


@pytest.mark.parametrize("command", ["create", "run", "exec"])
def test_streams_keep_their_flags(runtime, waiting, command):
    """They are open files of the caller: setting O_NONBLOCK would also set it for the caller and everyone who shares them."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    other_reading, other_writing = os.pipe2(os.O_CLOEXEC)
    files = (reading, other_writing)
    before = [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in files]
    id = runtime.started(waiting) if command == "exec" else runtime.new_id()
    words = {"create": ["create", "--bundle", waiting, id], "run": ["run", "--bundle", waiting, id], "exec": ["exec", id, "sleep", "1000"]}
    process = subprocess.Popen(runtime.argv(*words[command]), stdin=reading, stdout=other_writing, stderr=other_writing, env=runtime.env)
    try:
        if command == "create":
            assert process.wait(harness.WATCHDOG) == 0
            runtime.start(id)
        harness.until_status(runtime, id, "running")
        if command == "exec":
            harness.until_processes(runtime, id, 3)
        assert [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in files] == before
    finally:
        runtime.ok("delete", "--force", id)
        process.wait(harness.WATCHDOG)
        for fd in (reading, writing, other_reading, other_writing):
            os.close(fd)


def test_leader_of_a_session_without_a_terminal(runtime, waiting):
    """A signal to the process group of the caller does not reach the container."""
    pid = runtime.state(runtime.started(waiting))["pid"]
    group, session, terminal = stat_of(pid)[2:5]
    assert (int(group), int(session), terminal) == (pid, pid, "0")


def test_start_makes_no_new_process(runtime, waiting):
    """CRI-O remembers the start time of the process from create; conmon and the shim wait for it."""
    id = runtime.create(waiting)
    pid = runtime.state(id)["pid"]
    born = stat_of(pid)[19]
    runtime.start(id)
    assert runtime.state(id)["pid"] == pid and stat_of(pid)[19] == born


def test_oom_score_is_inherited(runtime, make_bundle):
    """Without oomScoreAdj in the config it is not changed; conmon and the shim have already set it."""
    argv = runtime.argv("run", "--bundle", make_bundle(args=["/bin/cat", "/proc/self/oom_score_adj"]), runtime.new_id())
    script = 'echo 123 > /proc/self/oom_score_adj && exec "$@"'
    done = subprocess.run(["/bin/sh", "-c", script, "sh", *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "123\n"), done


# ---- output


def test_silent_where_callers_read_both_streams(runtime, waiting):
    """go-runc reads both streams of `state` and `ps` together, cri-o those of `features` and `--version`; podman shows users what others print."""
    id = runtime.started(waiting)
    for words in (["state", id], ["ps", "--format", "json", id], ["features"], ["list"], ["--version"]):
        assert runtime.ok(*words).err == "", words
    for words in (["pause", id], ["resume", id], ["update", "--pids-limit", "100", id], ["kill", id, "KILL"]):
        result = runtime.ok(*words)
        assert (result.out, result.err) == ("", ""), result


def test_wrong_arguments_are_logged(pyrunc, tmp_path):
    """containerd uses the last error in the file, which would otherwise be that of an earlier call."""
    log = tmp_path / "log"
    for words in (
        ["state"],
        ["state", "--bogus", "x"],
        ["create", "a", "b"],
        ["kill", "x", "NOSIG", "more"],
        ["update", "--pids-limit", "x", "y"],
    ):
        log.write_text("")
        result = pyrunc.call(*words, globals=("--log", log, "--log-format", "json"))
        (record,) = harness.first_error(log)
        assert result.code == 1 and record["level"] == "error" and record["msg"] in result.err, (result, record)


def test_log_in_a_directory_that_is_missing(pyrunc, tmp_path):
    result = pyrunc.call("list", globals=("--log", tmp_path / "no/log", "--log-format", "json"))
    assert (result.code, result.out) == (1, "")
    assert len(result.err.splitlines()) == 1 and str(tmp_path / "no/log") in result.err, result


def test_ps_of_the_host_gets_the_callers_environment(pyrunc, waiting, tmp_path):
    """An interpreter adds LC_CTYPE if no locale is set (podman sets none); programs that we start only get what the caller passed."""
    if not os.path.exists("/usr/bin/strace"):
        pytest.skip("no strace on this machine")
    id = pyrunc.started(waiting)
    given = {"GIVEN=1", "PWD=/"}  # otherwise the shell of the plain launcher would add PWD
    trace = ["/usr/bin/strace", "-f", "-v", "-s", "1000", "-e", "trace=execve", "-o", str(tmp_path / "trace")]
    argv = ["/usr/bin/env", "-i", *given, *trace, *pyrunc.argv("ps", id)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd="/")
    assert done.returncode == 0 and "PID" in done.stdout, done
    (line,) = (line for line in (tmp_path / "trace").read_text().splitlines() if "/bin/ps" in line)
    assert set(re.findall(r'"([^"]*)"', line.rpartition("], [")[2])) == given, line


# ---- state


def test_root_behind_a_link(runtime, waiting, tmp_path):
    """docker names its directory through /var/run: both names lead to the same container."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    by_link, by_name = str(tmp_path / "link/root"), str(tmp_path / "real/root")
    runtime.root = by_link
    id = runtime.create(waiting)
    runtime.root = by_name
    assert runtime.status(id) == "created"
    runtime.start(id)
    runtime.root = by_link
    assert runtime.status(id) == "running"
    runtime.ok("delete", "--force", id)
    runtime.root = by_name
    assert hoststate.state_dirs(by_name) == set()


def test_directory_without_a_state(pyrunc, waiting):
    """It is not a container: create leaves it alone, `list` skips it, delete reports that there is no container and removes it."""
    id = pyrunc.create(waiting)
    pyrunc.ok("delete", "--force", id)
    os.mkdir(os.path.join(pyrunc.root, id))
    result = pyrunc.call("create", "--bundle", waiting, id)
    assert result.code == 1 and "container with given ID already exists" in result.err
    assert pyrunc.ok("list", "--quiet").out == ""
    result = pyrunc.call("delete", id)
    assert result.code == 1 and "container does not exist" in result.err
    assert id not in hoststate.state_dirs(pyrunc.root)


@pytest.mark.parametrize("reads", [True, False])
def test_big_annotations(runtime, make_bundle, no_leaks, reads):
    """CRI-O has them: hooks find all of them in the state on their standard input, and may leave it unread."""
    script = "cat > %s" if reads else "true %s"
    bundle = make_bundle({"/annotations": {"io.kubernetes.cri-o.Labels": BIG, "other": "1"}}, args=harness.WAIT_FOR_TERM)
    script %= bundle.path / "seen"
    bundle.patch({"/hooks": {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}})
    id = runtime.create(bundle)
    assert runtime.state(id)["annotations"] == bundle.config["annotations"]
    if reads:
        assert json.loads((bundle.path / "seen").read_text())["annotations"] == bundle.config["annotations"]
    runtime.ok("delete", "--force", id)


def test_state_and_kill_during_a_create(pyrunc, make_bundle, no_leaks):
    """They don't wait for a lock; here create waits for a hook that does not end."""
    bundle = make_bundle(args=harness.WAIT_FOR_TERM)
    bundle.patch(
        {"/hooks": {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo in > %s; exec sleep 1000" % (bundle.path / "in")]}]}}
    )
    harness.fifo(bundle.path / "in")
    id = pyrunc.new_id()
    null = subprocess.DEVNULL
    create = subprocess.Popen(pyrunc.argv("create", "--bundle", bundle, id), stdin=null, stdout=null, stderr=null, env=pyrunc.env)
    harness.lines_of(bundle.path / "in")
    assert pyrunc.status(id) == "creating"
    pid = pyrunc.state(id)["pid"]
    with harness.Watched(pid) as init:
        pyrunc.ok("kill", id, "KILL")
        init.wait()
    create.terminate()
    create.wait(harness.WATCHDOG)
    pyrunc.ok("delete", "--force", id)


# ---- hooks and exec


def test_a_hook_of_the_host_mounts_into_the_root(runtime, make_bundle, no_leaks):
    """NVIDIA's hook: prestart runs on the host, enters the mount namespace of the pid in the state, and mounts below the root in the config."""
    bundle = make_bundle(args=["/bin/cat", "/mnt/seen/file"])
    (bundle.rootfs / "mnt/seen").mkdir(parents=True, exist_ok=True)
    place = "%s/mnt/seen" % bundle.rootfs
    enter = "nsenter --target $pid --mount -- /bin/sh -c 'mount -t tmpfs -o size=1m hook %s && echo from the hook > %s/file'" % (
        place,
        place,
    )
    script = "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/') && " + enter
    bundle.patch({"/hooks": {"prestart": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}})
    result = runtime.run(bundle)
    assert (result.code, result.out) == (0, "from the hook\n"), result
    assert os.listdir(place) == [] and not hoststate.mounts(place)


def test_exec_document_of_docker(runtime, waiting):
    """Groups, limits and the OOM score in the document apply, as docker and podman send them. (runc 1.1 ignores the score.)"""
    id = runtime.started(waiting)
    process = {
        "args": ["/bin/sh", "-c", "id -G; ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj"],
        "cwd": "/",
        "env": ["PATH=/bin"],
        "user": {"uid": 1000, "gid": 1001, "additionalGids": [7, 9]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}],
        "oomScoreAdj": 77,
    }
    (waiting.path / "process.json").write_text(json.dumps(process))
    out = runtime.ok("exec", "--process", waiting.path / "process.json", id).out.splitlines()
    assert (sorted(map(int, out[0].split())), out[1:]) == ([7, 9, 1001], ["100", "200", "77" if runtime.is_pyrunc else out[3]])
