"""Unusual conditions: full or closed streams, a removed working directory, few descriptors, unusual roots, empty options.

Each must give a failing exit status and one line with a remedy, and leave nothing behind."""

import json
import os
import resource
import subprocess

import pytest

import harness
import hoststate

pytestmark = pytest.mark.kernel

PRINTING = [
    ["--version"],
    ["--help"],
    ["create", "--help"],
    ["features"],
    ["list"],
    ["list", "--format", "json"],
    ["errors"],
    ["completion", "bash"],
]


@pytest.mark.parametrize("words", PRINTING)
def test_output_to_a_full_device(pyrunc, words):
    with open("/dev/full", "w") as full:
        done = subprocess.run(pyrunc.argv(*words), stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "cannot write to standard output: no space left on device" in done.stderr
    assert done.stderr.count("\n") == 1 and "None" not in done.stderr


@pytest.mark.parametrize("words", [["run", "x"], ["create", "--bundle", "rel", "x"], ["validate"], ["exec", "--process", "rel", "x"]])
def test_a_removed_working_directory(pyrunc, tmp_path, words):
    gone = tmp_path / "gone"
    gone.mkdir()
    result = pyrunc.call(*words, cwd=gone, preexec_fn=lambda: os.rmdir(gone))
    assert result.code in (1, 255)
    assert "getwd: no such file or directory; the working directory no longer exists" in result.said


def test_absolute_paths_need_no_working_directory(runtime, bundle, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    assert runtime.call("run", "--bundle", bundle, runtime.new_id(), cwd=gone, preexec_fn=lambda: os.rmdir(gone)).code == 0


def fewest(pyrunc):
    """The number to start with: the interpreter of the plain launcher needs some descriptors itself, and the dynamic loader one."""
    with open(pyrunc.path, "rb") as file:
        if file.read(4) != b"\x7fELF":
            return 12
    return 3 + harness.needs_a_loader(pyrunc.path)


def few(count):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


def test_few_descriptors(pyrunc, bundle, no_leaks):
    """Wherever they run out, nothing is left, and the error message says so."""
    done = []
    for count in range(fewest(pyrunc), 48):
        result = pyrunc.call("run", "--bundle", bundle, pyrunc.new_id(), preexec_fn=few(count))
        done.append(result.code)
        if result.code:
            assert result.code == 1 and "too many open files" in result.said and result.err.count("\n") == 1, (count, result)
        assert not hoststate.state_dirs(pyrunc.root), (count, result)
    assert done[0] == 1 and done[-1] == 0


def test_few_descriptors_for_start(pyrunc, waiting, no_leaks):
    """Either it has started the container, or it reports a failure and has not."""
    for count in range(fewest(pyrunc), 16):
        id = pyrunc.create(waiting)
        result = pyrunc.call("start", id, preexec_fn=few(count))
        assert (result.code == 0) == (pyrunc.status(id) == "running"), (count, result)
        pyrunc.delete(id, "--force")


def test_root_without_permission(pyrunc, bundle, no_leaks):
    argv = ["/usr/bin/setpriv", "--bounding-set=-sys_admin", *pyrunc.argv("run", "--bundle", bundle, pyrunc.new_id())]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "operation not permitted" in done.stderr and "namespaces take CAP_SYS_ADMIN" in done.stderr


# -- the state root


def test_a_root_that_is_a_dangling_link(pyrunc, bundle, tmp_path):
    pyrunc.root = str(tmp_path / "link")
    os.symlink(tmp_path / "nothing", pyrunc.root)
    result = pyrunc.call("create", "--bundle", bundle, pyrunc.new_id())
    assert result.code == 1 and "cannot open the state root %s: it is a link to nothing" % pyrunc.root in result.said


def test_a_root_on_a_full_disk(pyrunc, bundle, tmp_path, no_leaks):
    root = tmp_path / "full"
    root.mkdir()
    done = os.system("mount -t tmpfs -o size=4k,mode=700 full %s && cat /dev/zero > %s/file 2>/dev/null" % (root, root))
    try:
        pyrunc.root = str(root)
        id = pyrunc.new_id()
        result = pyrunc.call("create", "--bundle", bundle, id)
        assert result.code == 1, (done, result)
        assert "cannot write %s/%s: no space left on device" % (root, id) in result.said and "is the disk full?" in result.said
        assert os.listdir(root) == ["file"]
        assert pyrunc.ok("list").err == "", "a file is not a container"
    finally:
        assert os.system("umount %s" % root) == 0


def test_an_empty_root(pyrunc):
    assert "the state root must not be empty" in pyrunc.call("--root", "", "list", raw=True).said


# -- options


def test_empty_options_count_as_absent(runtime, waiting):
    """Scripts pass variables that are not set: each of these options counts as absent."""
    id = runtime.started(waiting)
    for words in (["--cwd", ""], ["--process", ""], ["--cgroup", ""], ["--user", ""]):
        assert runtime.ok("exec", *words, id, "/bin/sh", "-c", "id -u; pwd").out == "0\n/\n"
    runtime.ok("update", "--resources", "", "--memory", "", "--pids-limit", "50", id)
    assert runtime.call("list", "-q", globals=("--log-format", "", "--log", "")).code == 0


def test_empty_paths_count_as_absent(runtime, bundle, tmp_path):
    runtime.ok("run", "--pid-file", "", "--console-socket", "", "--bundle", bundle, runtime.new_id(), cwd=tmp_path)


def test_a_pid_file_that_is_not_a_file(pyrunc, bundle, waiting, tmp_path, no_leaks):
    """A device or a fifo is written to and not replaced; so is standard output, under each of its names."""
    null, fifo = tmp_path / "null", harness.fifo(tmp_path / "fifo")
    os.mknod(null, 0o020666, os.makedev(1, 3))
    listening = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    for path in (null, fifo):
        before = os.lstat(path)
        pyrunc.ok("run", "--pid-file", path, "--bundle", bundle, pyrunc.new_id())
        after = os.lstat(path)
        assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)
    assert os.read(listening, 100).isdigit()
    os.close(listening)
    id = pyrunc.started(waiting)
    assert pyrunc.ok("exec", "--pid-file", "/dev/fd/1", id, "/bin/true").out.isdigit()
    pyrunc.delete(id, "--force")
    os.mknod(tmp_path / "disk", 0o060600, os.makedev(240, 250))
    result = pyrunc.call("run", "--pid-file", tmp_path / "disk", "--bundle", bundle, pyrunc.new_id())
    assert result.code == 1 and "cannot write the pid file %s/disk" % tmp_path in result.said


@pytest.mark.parametrize("count", ["0", "-1", "x"])
def test_top_of_no_screens(pyrunc, count):
    assert "want a number; give a number above 0" in pyrunc.call("top", "--count", count).said


@pytest.mark.parametrize("word", ["---root", "--=x", "-=", "---"])
def test_bad_syntax(runtime, word):
    for words in ([word, "list"], ["list", word]):
        result = runtime.call(*words, raw=True)
        assert result.code == 1
        assert "bad flag syntax: %s" % word in result.out + result.err


def test_joined_short_options(pyrunc):
    result = pyrunc.call("exec", "-td", "x", "y")
    assert result.code == 1
    assert result.said == "flag provided but not defined: -td; short options can't be combined: -t -d; see 'pyrunc exec --help'"


def test_help_of_an_unknown_command(runtime):
    result = runtime.call("help", "bogus", raw=True)
    assert result.code != 0 and "No help topic for 'bogus'" in result.err
    assert runtime.call("h", raw=True).code == 0


def test_rootless_has_three_values(runtime, bundle):
    for word, code in (("auto", 0), ("false", 0), ("", 0), ("perhaps", 1)):
        assert runtime.call("run", "--bundle", bundle, runtime.new_id(), globals=("--rootless", word)).code == code, word


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_log_to_a_stream(runtime, name):
    """/dev/stderr, which is a link, is runc's default for --log."""
    result = runtime.call("state", "none", globals=("--log", "/dev/" + name, "--log-format", "json"))
    assert result.code == 1
    text = result.out if name == "stdout" else result.err
    (record,) = [json.loads(line) for line in text.splitlines() if line[0] == "{"]
    assert record["level"] == "error" and "container does not exist" in record["msg"]
    assert runtime.call("list", "-q", globals=("--log", "/dev/" + name)).code == 0


def test_each_missing_file_has_its_own_remedy(pyrunc, waiting, tmp_path, no_leaks):
    missing = tmp_path / "none" / "file"
    result = pyrunc.call("create", "--pid-file", missing, "--bundle", waiting, pyrunc.new_id())
    assert result.code == 1 and "give --pid-file a path in a directory that exists" in result.said, result
    result = pyrunc.call("validate", missing)
    assert result.code == 1 and "%s: no such file or directory; give a bundle" % missing in result.said, result


def test_a_missing_process_file_is_named(pyrunc, waiting, tmp_path):
    id = pyrunc.started(waiting)
    result = pyrunc.call("exec", "--process", "none.json", id, cwd=tmp_path)
    assert (result.code, result.said) == (255, "exec failed: open %s/none.json: no such file or directory" % tmp_path)


def test_a_process_from_a_pipe(runtime, waiting):
    """`exec --process <(…)`: a pipe that the caller has opened is read to its end. Any other fifo is refused, because it may have no writer."""
    id = runtime.started(waiting)
    process = {"args": ["/bin/sh", "-c", "echo $A"], "env": ["A=piped", "PATH=/bin"], "cwd": "/", "user": {"uid": 0, "gid": 0}}
    reading, writing = os.pipe()
    os.write(writing, json.dumps(process).encode())
    os.close(writing)
    try:
        assert runtime.ok("exec", "--process", "/dev/fd/%d" % reading, id, pass_fds=(reading,)).out == "piped\n"
    finally:
        os.close(reading)


# -- output of ps and list


def test_ps_has_a_name_for_a_waiting_init(runtime, waiting):
    id = runtime.create(waiting)
    lines = runtime.ok("ps", id).out.splitlines()
    assert lines[1].rstrip().endswith("init"), lines


def test_columns_of_the_list(runtime, waiting):
    """There are at least three blanks between two columns, as from Go's tabwriter."""
    id = runtime.create(waiting)
    head, row = runtime.ok("list").out.splitlines()[:2]
    at = head.index("CREATED")
    assert row[:at].endswith("   ") and row[at] == "2"
    assert id in row and id in hoststate.state_dirs(runtime.root)
