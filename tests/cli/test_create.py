"""create: the state after it returns 0, its options, ids, and what is left behind if it fails."""

import ctypes
import os
import signal
import stat
import subprocess

import pytest

import harness
import hoststate
from cli_tools import WITH_HOLES, files_with_holes

pytestmark = pytest.mark.kernel

GOOD_IDS = ["a", "A.b_c+d-e", "0", "a" * 200, "_x", "+x"]
BAD_IDS = ["a/b", "../a", "a b", "a\nb", "ä", "a:b", "..", ".", "/", "a\\b", "a%b"]


def test_created_container_waits(runtime, waiting, no_leaks):
    """The process exists, the program has not been executed, and the pid file has its pid."""
    pid_file = waiting.path / "pid"
    id = runtime.create(waiting, None, "--pid-file", pid_file)
    state = runtime.state(id)
    assert state["status"] == "created"
    text = pid_file.read_bytes()
    assert text == str(state["pid"]).encode(), "decimal and without a newline: containerd parses the plain bytes"
    assert b"sleep" not in open("/proc/%d/cmdline" % state["pid"], "rb").read()
    runtime.ok("delete", id)
    assert hoststate.state_of(state["pid"]) in (None, "Z")


def test_relative_pid_file(runtime, waiting, tmp_path):
    """It is relative to the caller's directory, not to the bundle."""
    runtime.create(waiting, None, "--pid-file", "pid", cwd=tmp_path)
    assert (tmp_path / "pid").read_text().isdigit()
    assert not (waiting.path / "pid").exists()


def test_pid_file_is_replaced_atomically(runtime, waiting, tmp_path):
    """An old file is replaced; a link is replaced too, and its target is not written to."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / "pid").symlink_to(victim)
    runtime.create(waiting, None, "--pid-file", tmp_path / "pid")
    assert victim.read_text() == "untouched"
    assert (tmp_path / "pid").read_text().isdigit()
    assert sorted(os.listdir(tmp_path)) == ["pid", "victim"]


def test_pid_file_in_a_missing_directory(runtime, waiting, tmp_path, no_leaks):
    result = runtime.call("create", "--bundle", waiting, "--pid-file", tmp_path / "no" / "pid", runtime.new_id())
    assert result.code == 1
    assert "no such file or directory" in result.err


def test_bundle_is_the_working_directory_by_default(runtime, waiting):
    id = runtime.new_id()
    runtime.ok("create", id, cwd=waiting.path)
    assert runtime.state(id)["bundle"] == str(waiting.path)


def test_relative_bundle(runtime, waiting):
    id = runtime.new_id()
    runtime.ok("create", "--bundle", waiting.path.name, id, cwd=waiting.path.parent)
    assert runtime.state(id)["bundle"] == str(waiting.path)


@pytest.mark.parametrize("id", GOOD_IDS)
def test_good_ids(runtime, waiting, id):
    runtime.ids.append(id)
    runtime.ok("create", "--bundle", waiting, id)
    assert runtime.state(id)["id"] == id
    runtime.ok("delete", "--force", id)


@pytest.mark.parametrize("command", ["create", "run", "start", "state", "kill", "delete", "exec", "ps", "pause", "resume"])
@pytest.mark.parametrize("id", BAD_IDS)
def test_bad_ids(runtime, waiting, command, id, tmp_path):
    """Every command refuses them before it uses them in a path. The state root is deep in a scratch directory that must not change."""
    deep = tmp_path / "a" / "b" / "root"
    deep.mkdir(parents=True, mode=0o700)
    (tmp_path / "a" / "victim").write_text("untouched")
    runtime.root = str(deep)
    before = hoststate.snapshot(tmp_path)
    bundle = ["--bundle", waiting] if command in ("create", "run") else []
    result = runtime.call(command, *bundle, id, *(["true"] if command == "exec" else []))
    assert result.code in (1, 255), result
    assert hoststate.snapshot(tmp_path) == before


@pytest.mark.parametrize("id", BAD_IDS)
def test_bad_ids_words(pyrunc, waiting, id):
    for words in (["create", "--bundle", waiting, id], ["delete", "--force", id], ["state", id], ["state", "a,b"]):
        assert "invalid container ID format" in pyrunc.call(*words).err


def test_empty_id(runtime, waiting):
    result = runtime.call("create", "--bundle", waiting, "")
    assert result.code == 1
    assert "container id cannot be empty" in result.err or "invalid container ID format" in result.err


def test_id_that_starts_with_a_dot(pyrunc, waiting):
    pyrunc.ids.append(".hidden")
    pyrunc.ok("create", "--bundle", waiting, ".hidden")
    pyrunc.ok("delete", "--force", ".hidden")


def test_existing_id(runtime, waiting, make_bundle, no_leaks):
    """The second create fails and does not change the first container."""
    id = runtime.started(waiting)
    pid = runtime.state(id)["pid"]
    for words in (["create"], ["run", "--detach"]):
        result = runtime.call(*words, "--bundle", make_bundle(), id)
        assert result.code == 1
        assert "container with given ID already exists" in result.err
    assert runtime.state(id)["pid"] == pid and runtime.status(id) == "running"
    runtime.ok("delete", "--force", id)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"/process/args": []}, "args must not be empty"),
        ({"/process/args": harness.ABSENT}, "args must not be empty"),
        ({"/process/cwd": "relative"}, "must be an absolute path"),
    ],
)
def test_words_of_refusals(runtime, make_bundle, changes, words, no_leaks):
    result = runtime.call("create", "--bundle", make_bundle(changes), runtime.new_id())
    assert result.code == 1
    assert words.lower() in result.err.lower()


@pytest.mark.parametrize(
    "program, words",
    [
        ("nosuch", 'exec: "nosuch": executable file not found in $PATH'),
        ("/nonexist", 'exec: "/nonexist": stat /nonexist: no such file or directory'),
        ("/etc/passwd", 'exec: "/etc/passwd": permission denied'),
        ("/tmp", 'exec: "/tmp": is a directory'),
    ],
)
@pytest.mark.parametrize("command", ["create", "run"])
def test_program_that_cannot_run(runtime, make_bundle, program, words, command, no_leaks):
    """create fails with runc's words, which docker and podman turn into 127 and 126."""
    result = runtime.call(command, "--bundle", make_bundle(args=[program]), runtime.new_id())
    assert result.code == 1
    assert words in result.said
    assert result.said.startswith("runc %s failed: " % command if not runtime.is_pyrunc else "%s failed: " % command)
    assert "unable to start container process: " in result.said
    if "not found" in words or "no such file" in words:
        assert "permission denied" not in result.said.lower()  # moby would turn it into 126


def test_missing_config(runtime, tmp_path, no_leaks):
    result = runtime.call("create", "--bundle", tmp_path, runtime.new_id())
    assert result.code == 1
    assert "config.json" in result.err


def test_missing_bundle(runtime, tmp_path, no_leaks):
    result = runtime.call("create", "--bundle", tmp_path / "no", runtime.new_id())
    assert result.code == 1
    assert "no such file or directory" in result.err


def test_failed_create_can_be_deleted_by_force(runtime, make_bundle, no_leaks):
    """podman and containerd call `delete --force` after each failed create and rely on status 0."""
    id = runtime.new_id()
    assert runtime.call("create", "--bundle", make_bundle(args=["nosuch"]), id).code == 1
    result = runtime.ok("delete", "--force", id)
    assert (result.out, result.err) == ("", "")


def test_id_can_be_used_again(runtime, waiting, no_leaks):
    id = None
    for _ in range(3):
        id = runtime.create(waiting, id)
        runtime.start(id)
        runtime.ok("delete", "--force", id)


def test_options_of_run_are_accepted(runtime, waiting):
    """`--no-pivot` and `--no-new-keyring` come from conmon and the shim."""
    id = runtime.create(waiting, None, "--no-pivot", "--no-new-keyring")
    runtime.ok("delete", "--force", id)


def test_init_is_left_to_the_caller(runtime, waiting):
    """When the runtime exits, the created process becomes a child of the nearest subreaper: no process of the runtime stays in between, and its
    exit status is that of the program."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    try:
        id = runtime.started(waiting)
        pid = runtime.state(id)["pid"]
        with open("/proc/%d/stat" % pid) as file:
            assert int(file.read().rpartition(")")[2].split()[1]) == os.getpid()
        harness.until_caught(pid, 15)
        with harness.Watched(pid) as watched:
            runtime.kill(id, "TERM")
            assert watched.wait().si_status == 0
        runtime.delete(id)
    finally:
        libc.prctl(36, 0, 0, 0, 0)


def test_streams_are_handed_on_and_closed(runtime, make_bundle):
    """The program writes directly into the caller's pipe, and the pipe ends when the program does; buildah waits for that."""
    bundle = make_bundle(args=["/bin/sh", "-c", "read line; echo got $line; echo err >&2"])
    id = runtime.new_id()
    in_read, in_write = os.pipe2(os.O_CLOEXEC)
    out_read, out_write = os.pipe2(os.O_CLOEXEC)
    subprocess.run(runtime.argv("create", "--bundle", bundle, id), stdin=in_read, stdout=out_write, stderr=out_write, check=True)
    os.close(in_read)
    os.close(out_write)
    runtime.start(id)
    os.write(in_write, b"hello\n")
    os.close(in_write)
    with os.fdopen(out_read) as file:
        assert sorted(file.read().splitlines()) == ["err", "got hello"]
    runtime.ok("delete", "--force", id)


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT"])
def test_created_container_dies_of_signals(runtime, waiting, name):
    """pid 1 ignores signals without a handler. The waiting init has handlers; otherwise stopping it would take the whole timeout."""
    if runtime.name == "crun":
        pytest.skip("crun's waiting init ignores them")
    id = runtime.create(waiting)
    runtime.stopped(id, name)
    assert runtime.status(id) == "stopped"
    runtime.delete(id)


def test_descriptors_of_the_waiting_init(runtime, waiting):
    """What a container could find in /proc/PID/fd: the streams and the gate, but nothing that leads to a directory on the host."""
    id = runtime.create(waiting)
    pid = runtime.state(id)["pid"]
    for fd in os.listdir("/proc/%d/fd" % pid):
        target = os.readlink("/proc/%d/fd/%s" % (pid, fd))
        assert not (target.startswith("/") and os.path.isdir(target)), (fd, target)


def shell(script, argv, **kw):
    """Starts the runtime from a shell that prepares descriptors: `script` ends in exec "$@"."""
    return subprocess.run(["/bin/bash", "-c", script, "bash", *argv], capture_output=True, text=True, stdin=subprocess.DEVNULL, **kw)


def test_inherited_descriptors_are_closed(runtime, make_bundle):
    """Callers leak descriptors (buildah nine pipe ends, the shim its socket): the program gets 0, 1 and 2."""
    bundle = make_bundle(args=["/bin/sh", "-c", "ls -l /proc/1/fd; true"])
    done = shell('exec 3</etc 9</etc/passwd 250</; exec "$@"', runtime.argv("run", "--bundle", bundle, runtime.new_id()))
    assert done.returncode == 0, done
    found = {line.split()[8] for line in done.stdout.splitlines() if "->" in line}
    assert found == {"0", "1", "2"}, done.stdout
    assert "passwd" not in done.stdout


def test_preserve_fds(runtime, make_bundle):
    bundle = make_bundle(args=["/bin/sh", "-c", "cat <&3; cat <&4; ls /proc/1/fd; true"])
    for name in ("three", "four", "five"):
        (bundle.path / name).write_text(name + "\n")
    argv = runtime.argv("run", "--preserve-fds", "2", "--bundle", bundle, runtime.new_id())
    done = shell('exec 3<three 4<four 5<five; exec "$@"', argv, cwd=bundle.path)
    assert done.returncode == 0, done
    assert done.stdout.split() == ["three", "four", "0", "1", "2", "3", "4"]


SHOW = "cat <&9; cat <&40; ls /proc/1/fd; true"


@pytest.mark.parametrize("create", [False, True])
def test_preserve_fds_with_holes(runtime, make_bundle, tmp_path, create):
    """podman's --preserve-fd=9,40: closed descriptors in between stay closed, and the runtime does not use them."""
    if runtime.name == "runc":
        pytest.skip("runc fails if one of them is closed")
    bundle = make_bundle(args=["/bin/sh", "-c", "exec >/out; " + SHOW])
    files_with_holes(tmp_path)
    id = runtime.new_id()
    argv = runtime.argv("create" if create else "run", "--preserve-fds", "38", "--bundle", bundle, id)
    with harness.Capture() as said:  # not a pipe: init would keep it open
        done = subprocess.run(
            ["/bin/bash", "-c", WITH_HOLES, "bash", *argv], cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=said.file, stderr=said.file
        )
        assert done.returncode == 0, said.text()
    if create:
        with harness.Watched(runtime.state(id)["pid"]) as watched:
            runtime.start(id)
            watched.wait()
    assert (bundle.rootfs / "out").read_text().split() == ["nine", "forty", "0", "1", "2", "40", "9"]


def test_preserve_fds_with_holes_and_parts_that_open_descriptors(pyrunc, make_bundle, tmp_path):
    """The same with parts that keep descriptors until the end: a filter, startContainer hooks."""
    changes = {
        "/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
        "/hooks": {"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "ls /proc/self/fd >/hook"]}]},
        "/process/noNewPrivileges": True,
    }
    bundle = make_bundle(changes, args=["/bin/sh", "-c", SHOW])
    files_with_holes(tmp_path)
    done = shell(WITH_HOLES, pyrunc.argv("run", "--preserve-fds", "38", "--bundle", bundle, pyrunc.new_id()), cwd=tmp_path)
    assert (done.returncode, done.stdout.split()) == (0, ["nine", "forty", "0", "1", "2", "40", "9"]), done
    assert (bundle.rootfs / "hook").read_text().split() == ["0", "1", "2", "3"], "3 is the directory that ls reads"


def test_a_waiting_init_holds_nothing_else(pyrunc, make_bundle, tmp_path):
    """Not even in the holes: it only has the preserved descriptors, the standard streams, and the two fifos of the gate."""
    files_with_holes(tmp_path)
    id = pyrunc.new_id()
    argv = pyrunc.argv("create", "--preserve-fds", "38", "--bundle", make_bundle(), id)
    null = subprocess.DEVNULL
    subprocess.run(["/bin/bash", "-c", WITH_HOLES, "bash", *argv], cwd=tmp_path, check=True, stdin=null, stdout=null, stderr=null)
    folder = "/proc/%d/fd/" % pyrunc.state(id)["pid"]
    names = {fd: os.readlink(folder + fd) for fd in os.listdir(folder)}
    assert names.pop("9").endswith("/nine") and names.pop("40").endswith("/forty"), names
    fifos = sorted(name.rpartition("/")[2] for fd, name in names.items() if int(fd) > 2)
    assert fifos == ["exec.fifo", "result"], names


def test_preserve_fds_that_are_closed(runtime, bundle):
    if runtime.name == "runc":
        pytest.skip("runc fails if one of them is closed")
    runtime.ok("run", "--bundle", bundle, "--preserve-fds", "2", runtime.new_id())


@pytest.mark.parametrize("value", ["-1", "x", "10000000", "1.5"])
def test_preserve_fds_bad_number(pyrunc, bundle, value, no_leaks):
    assert pyrunc.call("create", "--bundle", bundle, "--preserve-fds", value, pyrunc.new_id()).code == 1


def test_closed_streams(runtime, bundle):
    """A caller that closed 0, 1 and 2: no file of the runtime takes their place. crun fails here."""
    if runtime.name == "crun":
        pytest.skip("crun fails with closed streams")
    id = runtime.new_id()
    argv = runtime.argv("create", "--bundle", bundle, id)
    done = subprocess.run(["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *argv])
    assert done.returncode == 0
    runtime.ok("delete", "--force", id)


def test_config_is_read_once(runtime, waiting):
    """start uses what create has read, whatever happens to the bundle in between."""
    id = runtime.create(waiting)
    (waiting.path / "config.json").write_text("{}")
    runtime.start(id)
    assert runtime.status(id) == "running"
    os.unlink(waiting.path / "config.json")
    runtime.stopped(id)
    runtime.delete(id)


def test_delete_removes_what_a_killed_create_leaves(pyrunc, waiting, no_leaks):
    """create is killed while it waits for a hook; `delete --force` undoes the rest and the id is free again. runc and crun leave cgroups that
    no command finds again."""
    gate = harness.fifo(waiting.path / "gate")
    script = "echo reached > %s; exec sleep 1000" % gate
    waiting.patch({"/hooks": {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}]}})
    id = pyrunc.new_id()
    process = subprocess.Popen(
        pyrunc.argv("create", "--bundle", waiting, id), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert harness.lines_of(gate) == ["reached"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    pyrunc.ok("delete", "--force", id)


def test_state_files_are_private(pyrunc, waiting):
    id = pyrunc.create(waiting)
    directory = os.path.join(pyrunc.root, id)
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
    for name in os.listdir(directory):
        assert stat.S_IMODE(os.lstat(os.path.join(directory, name)).st_mode) & 0o077 == 0, name


def test_without_a_process(runtime, make_bundle, no_leaks):
    """runtime-spec, config.md#process: it is required when start is called."""
    id = runtime.create(make_bundle({"/process": harness.ABSENT}))
    assert runtime.status(id) == "created"
    failed = runtime.call("start", id)
    assert failed.code == 1 and "process property must not be empty" in failed.err and "/process" in failed.err, failed
    assert runtime.status(id) == "created"
    runtime.ok("delete", "--force", id)
    failed = runtime.call("run", "--bundle", make_bundle({"/process": harness.ABSENT}), runtime.new_id())
    assert failed.code == 1 and "process property must not be empty" in failed.err
