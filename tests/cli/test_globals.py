"""Global options: --root and its default, the log and its formats, options that other runtimes have, --version."""

import json
import os
import re
import stat
import subprocess

import pytest

import harness
import hoststate

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")


def fail(runtime, *globals, **kw):
    """A call that always fails: the state of an unknown id."""
    result = runtime.call("state", "no-such-id", globals=globals, **kw)
    assert result.code == 1, result
    assert result.out == ""
    return result


def unknown(runtime):
    """The words of runc, which callers look for; pyrunc puts the name of the command before them."""
    return "state failed: container does not exist (no-such-id)" if runtime.is_pyrunc else "container does not exist"


# ---- the log


def test_error_with_log_json(runtime, tmp_path):
    """stderr gets text, and the file gets the same text as one JSON object: podman decodes the whole file as one object."""
    log = tmp_path / "log"
    result = fail(runtime, "--log", log, "--log-format", "json")
    assert result.err == unknown(runtime) + "\n"
    (record,) = harness.first_error(log)
    assert record["level"] == "error"
    assert record["msg"] == unknown(runtime)
    assert TIME.fullmatch(record["time"])
    assert log.read_text().endswith("\n")


def test_log_format_with_equals(runtime, tmp_path):
    """podman passes `--log-format=json` as one argument and `--log F` as two, in this order."""
    log = tmp_path / "log"
    fail(runtime, "--log-format=json", "--log", log)
    assert len(harness.first_error(log)) == 1


def test_log_is_appended(runtime, tmp_path):
    """containerd uses the last error in the file: each failing call appends exactly one."""
    log = tmp_path / "log"
    for count in (1, 2, 3):
        fail(runtime, "--log", log, "--log-format", "json")
        assert len(harness.first_error(log)) == count


def test_log_mode(runtime, tmp_path):
    log = tmp_path / "log"
    fail(runtime, "--log", log, umask=0o22)
    assert stat.S_IMODE(log.stat().st_mode) == 0o644


def test_error_with_log_text(runtime, tmp_path):
    log = tmp_path / "log"
    result = fail(runtime, "--log", log, "--log-format", "text")
    assert result.err == unknown(runtime) + "\n"
    assert re.fullmatch(r'time="[^"]+" level=error msg="%s"( \w+="[^"]*")*\n' % re.escape(unknown(runtime)), log.read_text())


def test_error_without_log(runtime):
    result = fail(runtime)
    assert result.said == unknown(runtime)
    assert result.err.count("\n") == 1


def test_error_without_log_is_bare(pyrunc):
    """stderr has no time stamp and no level: conmon shows this text to the user unchanged."""
    assert fail(pyrunc).err == unknown(pyrunc) + "\n"


def test_error_in_json_on_stderr(runtime):
    record = json.loads(fail(runtime, "--log-format", "json").err)
    assert (record["level"], record["msg"]) == ("error", unknown(runtime))
    assert TIME.fullmatch(record["time"])


@pytest.mark.kernel
def test_success_is_silent(runtime, waiting, tmp_path):
    """go-runc reads stdout and stderr together for `state` and `ps`, and so does cri-o for `features`: a warning would break the JSON."""
    log = tmp_path / "log"
    both = ("--log", log, "--log-format", "json")
    id = runtime.new_id()
    for words in (["create", "--bundle", waiting, id], ["start", id], ["kill", id, "0"], ["delete", "--force", id]):
        result = runtime.ok(*words, globals=both)
        assert (result.out, result.err) == ("", ""), result
    assert not log.exists() or log.read_text() == ""


def test_bad_log_format(runtime):
    result = runtime.call("list", globals=("--log-format", "xml"))
    assert result.code == 1
    assert "invalid log-format" in result.err and "xml" in result.err


def test_unwritable_log_is_an_error_before_any_act(runtime, bundle, tmp_path):
    id = runtime.new_id()
    result = runtime.call("create", "--bundle", bundle, id, globals=("--log", tmp_path / "no" / "log"))
    assert result.code == 1
    assert id not in hoststate.state_dirs(runtime.root)


def test_log_that_is_a_fifo_does_not_block(pyrunc, tmp_path):
    """runc and crun wait for a reader forever."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    assert pyrunc.call("list", globals=("--log", path)).code in (0, 1)


def test_log_record_cannot_be_forged(pyrunc, make_bundle, tmp_path):
    """A newline in a config value stays within the record, and within the single line on stderr."""
    log = tmp_path / "log"
    bundle = make_bundle(args=['/x\n{"level":"error","msg":"forged"}'])
    result = pyrunc.call("create", "--bundle", bundle, pyrunc.new_id(), globals=("--log", log, "--log-format", "json"))
    assert result.code == 1
    assert len(log.read_text().splitlines()) == 1
    assert len(result.err.splitlines()) == 1
    assert harness.first_error(log)[0]["msg"] == result.err.strip()


@pytest.mark.kernel
def test_log_record_has_the_position(pyrunc, make_bundle, tmp_path):
    log = tmp_path / "log"
    bundle = make_bundle({"/process/cwd": "relative"})
    assert pyrunc.call("create", "--bundle", bundle, pyrunc.new_id(), globals=("--log", log, "--log-format", "json")).code == 1
    (record,) = harness.first_error(log)
    assert record["pointer"] == "/process/cwd"
    assert (record["kind"], record["code"]) == ("refused", "PYR-2220")


@pytest.mark.kernel
@pytest.mark.parametrize("format", ["text", "json"])
def test_debug_goes_to_the_log(runtime, bundle, tmp_path, format):
    log = tmp_path / "log"
    result = runtime.call("run", "--bundle", bundle, runtime.new_id(), globals=("--debug", "--log", log, "--log-format", format))
    assert (result.code, result.err) == (0, "")
    if format == "json":
        harness.first_error(log)  # every line is a JSON object


# ---- --root


@pytest.mark.kernel
def test_root_is_made_private(runtime, waiting, tmp_path):
    root = tmp_path / "deep" / "root"
    runtime.root = str(root)
    id = runtime.create(waiting, umask=0)
    assert stat.S_IMODE(root.stat().st_mode) & 0o077 == 0 or stat.S_IMODE((root / id).stat().st_mode) & 0o022 == 0


@pytest.mark.kernel
def test_root_is_made_private_modes(pyrunc, waiting, tmp_path):
    """Directories are 0700 and files 0600, whatever the caller's umask is; no other user can open the start fifo."""
    pyrunc.root = str(tmp_path / "root")
    pyrunc.create(waiting, umask=0)
    for top, dirs, files in os.walk(pyrunc.root):
        for name in [*dirs, *files, "."]:
            assert os.lstat(os.path.join(top, name)).st_mode & 0o077 == 0, name


@pytest.mark.kernel
def test_relative_root(runtime, waiting, tmp_path):
    runtime.root = "state"
    id = runtime.create(waiting, cwd=tmp_path)
    assert (tmp_path / "state" / id).is_dir()
    runtime.ok("delete", "--force", id, cwd=tmp_path)


@pytest.mark.parametrize("root", ["/", ""])
def test_root_slash_is_refused(pyrunc, root):
    assert pyrunc.call("--root", root, "list", raw=True).code == 1


@pytest.mark.parametrize("words", [[], ["-q"], ["--format", "json"]])
def test_list_of_a_missing_root(pyrunc, tmp_path, words):
    """As in runc 1.5, an explicit root must exist, empty or not; the default one may not have been created yet."""
    given = tmp_path / "none"
    result = pyrunc.call("--root", given, "list", *words, raw=True)
    assert (result.code, result.out) == (1, "")
    assert "open %s: no such file or directory" % given in result.said
    assert "PYR-1017" in pyrunc.call("--log-format", "json", "--root", given, "list", *words, raw=True).err
    given.mkdir(mode=0o700)
    assert pyrunc.call("--root", given, "list", *words, raw=True).code == 0


@pytest.mark.kernel
def test_list_of_a_missing_default_root(pyrunc, tmp_path):
    """In a mount namespace with an empty /run, where nothing has been created."""
    script = "mount -t tmpfs tmpfs /run && exec %s list -q" % pyrunc.path
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=harness.WATCHDOG)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.kernel
def test_long_root(pyrunc, waiting, tmp_path):
    """The path of a unix socket is limited to 107 bytes; that of a state root is not."""
    pyrunc.root = str(tmp_path / ("d" * 120) / ("e" * 120))
    id = pyrunc.started(waiting)
    pyrunc.stopped(id)
    pyrunc.delete(id)


@pytest.mark.kernel
def test_default_root(pyrunc, waiting, tmp_path):
    """/run/pyrunc for root; XDG_RUNTIME_DIR only counts for other users, and an empty value counts as unset (podman sends that)."""
    for env in ({"XDG_RUNTIME_DIR": ""}, {"XDG_RUNTIME_DIR": str(tmp_path)}, {}):
        id = pyrunc.new_id()
        call = {"raw": True, "env": env}
        assert pyrunc.call("create", "--bundle", waiting, id, **call).code == 0
        assert os.path.isdir("/run/pyrunc/" + id)
        assert pyrunc.call("delete", "--force", id, **call).code == 0
    assert os.listdir(tmp_path) == []


@pytest.mark.kernel
def test_root_that_others_may_write(pyrunc, waiting, tmp_path):
    root = tmp_path / "open"
    root.mkdir()
    root.chmod(0o777)
    pyrunc.root = str(root)
    result = pyrunc.call("create", "--bundle", waiting, pyrunc.new_id())
    assert result.code == 1 and str(root) in result.err
    assert os.listdir(root) == []


def test_root_that_is_a_file(runtime, waiting, tmp_path):
    (tmp_path / "file").write_text("")
    runtime.root = str(tmp_path / "file")
    assert runtime.call("create", "--bundle", waiting, runtime.new_id()).code == 1


# ---- options of other runtimes: refusing them would break callers that have them in their configuration


@pytest.mark.parametrize("words", [["--criu", "/usr/sbin/criu"], ["--log-level", "warning"], ["--log-level=debug"]])
def test_options_of_other_runtimes_are_accepted(pyrunc, words, tmp_path):
    assert pyrunc.ok("list", "-q", globals=["--log", tmp_path / "log", *words]).err == ""


@pytest.mark.parametrize("level", ["error", "warn", "info", "trace", "nonsense"])
def test_log_levels(pyrunc, level):
    """The levels that engines use; no other word is accepted."""
    result = pyrunc.call("list", "-q", globals=["--log-level", level])
    assert result.code == (level == "nonsense"), result
    assert level != "nonsense" or result.said.endswith("invalid log-level: nonsense; use error, warning or debug"), result


@pytest.mark.kernel
def test_cgroup_manager_disabled(pyrunc, waiting):
    """podman's `--cgroups=disabled`: no cgroup is created."""
    id = pyrunc.new_id()
    pyrunc.ok("create", "--bundle", waiting, id, globals=("--cgroup-manager", "disabled"))
    assert hoststate.cgroups(pyrunc.token) == set() and hoststate.cgroups(waiting.config["linux"]["cgroupsPath"].lstrip("/")) == set()
    pyrunc.ok("delete", "--force", id)


# ---- --version


def test_version(runtime):
    result = runtime.call("--version", raw=True)
    assert result.code == 0 and result.err == ""
    first, *rest = result.out.splitlines()
    assert re.match(r"\S+ version \d+\.\d+", first)
    assert any(line.startswith("spec: ") for line in rest)
    assert runtime.call("-v", raw=True).out == result.out


def test_version_lines(pyrunc):
    """Docker treats any line with the word `version` as the version, so there is exactly one. Every other line is `key: value`."""
    lines = pyrunc.call("--version", raw=True).out.splitlines()
    assert sum("version" in line for line in lines) == 1
    assert re.fullmatch(r"pyrunc version \d+\.\d+\.\d+\S*", lines[0])
    keys = [line.partition(": ")[0] for line in lines[1:]]
    assert {"spec", "commit"} <= set(keys)
    assert all(": " in line for line in lines[1:])


@pytest.mark.parametrize("text", ["", "0s", "5", "soon", "1000h"])
def test_invalid_systemd_timeouts(pyrunc, bundle, no_leaks, text):
    result = pyrunc.call("create", "--bundle", bundle, pyrunc.new_id(), globals=["--systemd-timeout", text])
    assert result.code == 1 and "duration" in result.err and len(result.err.splitlines()) == 1, result
