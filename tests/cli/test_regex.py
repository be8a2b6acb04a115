"""kill --regex and delete --regex; --config and --file; --cgroup-manager; --log to a socket without a listener."""

import json
import os

import pytest

import harness
import hoststate


def prefix(pyrunc):
    return pyrunc.token


@pytest.mark.kernel
def test_kill_by_regex(pyrunc, make_bundle):
    ids = [pyrunc.started(make_bundle(args=["/bin/sleep", "1000"])) for _ in range(3)]
    pids = [pyrunc.state(id)["pid"] for id in ids]
    with harness.Watched(pids[0]) as one, harness.Watched(pids[1]) as two:
        pyrunc.ok("kill", "--regex", "%s-[12]$" % prefix(pyrunc), "KILL")
        one.wait(), two.wait()
    assert [pyrunc.status(id) for id in ids] == ["stopped", "stopped", "running"]
    pyrunc.ok("kill", "-r", ".*", "0")  # containers that have stopped are not a failure


@pytest.mark.kernel
def test_delete_by_regex(pyrunc, make_bundle):
    ids = [pyrunc.started(make_bundle(args=["/bin/sleep", "1000"])) for _ in range(3)]
    pyrunc.stopped(ids[0])
    result = pyrunc.call("delete", "--regex", "x.*-[123]$")
    assert result.code == 1 and result.err.count("\n") == 1 and ids[1] in result.err and "is not stopped" in result.err
    assert sorted(hoststate.state_dirs(pyrunc.root)) == ids[1:], "the stopped one was deleted"
    pyrunc.ok("delete", "--force", "--regex", "^%s" % prefix(pyrunc))
    assert hoststate.state_dirs(pyrunc.root) == set()


@pytest.mark.parametrize("command", ["kill", "delete"])
def test_no_match_and_no_expression(pyrunc, command):
    assert pyrunc.ok(command, "--regex", "nothing").err == ""
    result = pyrunc.call(command, "--regex", "(")
    assert result.code == 1 and "invalid regular expression (" in result.err and result.err.count("\n") == 1


@pytest.mark.parametrize("option", ["--config", "--file", "-f"])
@pytest.mark.kernel
def test_config_by_another_name(pyrunc, make_bundle, tmp_path, option):
    """A relative name is relative to the caller's working directory, as with crun."""
    bundle = make_bundle(args=["/bin/echo", "from the bundle"])
    other = harness.patch(bundle.config, {"/process/args": ["/bin/echo", "from the file"]})
    (tmp_path / "other.json").write_text(json.dumps(other))
    result = pyrunc.ok("run", "--bundle", bundle, option, "other.json", pyrunc.new_id(), cwd=tmp_path)
    assert result.out == "from the file\n"


@pytest.mark.parametrize("option", ["--file", "-f", "--config"])
def test_spec_into_another_file(pyrunc, tmp_path, option):
    pyrunc.ok("spec", option, "other.json", "--bundle", tmp_path)
    assert json.loads((tmp_path / "other.json").read_text())["process"]["args"] == ["sh"]
    assert os.listdir(tmp_path) == ["other.json"]
    result = pyrunc.call("spec", option, "other.json", "--bundle", tmp_path)
    assert result.code == 1 and "File other.json exists" in result.err


def test_spec_to_standard_output(pyrunc, tmp_path):
    result = pyrunc.ok("spec", "-f", "-", cwd=tmp_path)
    assert json.loads(result.out)["ociVersion"] and os.listdir(tmp_path) == []


def test_unknown_cgroup_manager(pyrunc, bundle):
    for words in (["create", "--bundle", bundle, pyrunc.new_id()], ["plan", "--bundle", bundle]):
        result = pyrunc.call(*words, globals=("--cgroup-manager", "docker"))
        assert result.code == 1 and "invalid cgroup-manager: docker" in result.err


@pytest.mark.kernel
def test_cgroup_manager_overrides_systemd_cgroup(pyrunc, bundle):
    assert pyrunc.call("run", "--bundle", bundle, pyrunc.new_id(), globals=("--systemd-cgroup", "--cgroup-manager=cgroupfs")).code == 0


@pytest.mark.parametrize(("kind", "path"), [("journald", "/run/systemd/journal/socket"), ("syslog", "/dev/log")])
def test_log_to_a_socket_without_a_listener(pyrunc, kind, path):
    if os.path.exists(path):
        pytest.skip("this machine has %s" % path)
    result = pyrunc.call("list", globals=("--log=%s:me" % kind,))
    assert result.code == 1 and "cannot open log %s: %s" % (kind, path) in result.err and result.err.count("\n") == 1


def test_log_file_by_its_kind(pyrunc, tmp_path):
    assert pyrunc.call("state", "none", globals=("--log=file:%s" % (tmp_path / "log"),)).code == 1
    assert "container does not exist" in (tmp_path / "log").read_text()


def test_help_has_all_names(pyrunc):
    assert "--config VALUE, -f, --file" in pyrunc.ok("create", "--help").out
    assert "--regex, -r" in pyrunc.ok("kill", "--help").out
