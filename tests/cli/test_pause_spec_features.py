"""pause and resume, spec, features."""

import json
import os

import pytest

import harness


@pytest.fixture
def live(runtime, waiting):
    id = runtime.started(waiting)
    if runtime.call("pause", id).code:
        pytest.skip("no freezer on this machine")
    runtime.ok("resume", id)
    return id


@pytest.mark.kernel
def test_pause_and_resume(runtime, live, no_leaks):
    result = runtime.ok("pause", live)
    assert (result.out, result.err) == ("", "")
    assert runtime.status(live) == "paused"
    result = runtime.ok("resume", live)
    assert (result.out, result.err) == ("", "")
    assert runtime.status(live) == "running"
    runtime.ok("delete", "--force", live)


@pytest.mark.kernel
def test_resume_of_the_running(runtime, live):
    result = runtime.call("resume", live)
    assert result.code == (0 if runtime.name == "crun" else 1)
    assert "container not paused" in result.err or runtime.name == "crun"


@pytest.mark.kernel
def test_pause_of_the_stopped(runtime, live):
    runtime.stopped(live)
    result = runtime.call("pause", live)
    assert result.code == 1 and "container not running" in result.err or runtime.name == "crun"
    result = runtime.call("resume", live)
    assert result.code == 1 and "container not paused" in result.err or runtime.name == "crun"


def test_pause_of_the_unknown(runtime):
    for command in ("pause", "resume"):
        result = runtime.call(command, "no-such-id")
        assert result.code == 1 and "container does not exist" in result.err


@pytest.mark.kernel
def test_kill_of_the_paused(runtime, live):
    """SIGKILL works: the cgroup is thawed after the signal. crun leaves the process frozen on version 1."""
    if runtime.name == "crun":
        pytest.skip("crun leaves it frozen on cgroup v1")
    runtime.ok("pause", live)
    runtime.stopped(live)
    assert runtime.status(live) == "stopped"
    runtime.ok("delete", live)


@pytest.mark.kernel
def test_delete_of_the_paused(runtime, live, no_leaks):
    runtime.ok("pause", live)
    result = runtime.call("delete", live)
    assert result.code == 1
    assert "not stopped: paused" in result.err or runtime.name == "crun"
    runtime.ok("delete", "--force", live)


@pytest.mark.kernel
def test_start_of_the_paused(pyrunc, waiting):
    id = pyrunc.create(waiting)
    if pyrunc.call("pause", id).code:
        pytest.skip("no freezer on this machine")
    result = pyrunc.call("start", id)
    assert result.code == 1 and "cannot start a container in the paused state" in result.err
    pyrunc.ok("resume", id)
    pyrunc.start(id)


# ---- spec


def test_spec_writes_a_config(runtime, tmp_path):
    result = runtime.ok("spec", cwd=tmp_path)
    assert (result.out, result.err) == ("", "")
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["root"]["path"] == "rootfs" and config["process"]["args"]
    assert {n["type"] for n in config["linux"]["namespaces"]} >= {"pid", "network", "ipc", "uts", "mount"}


def test_spec_bundle(runtime, tmp_path):
    runtime.ok("spec", "--bundle", tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["ociVersion"].startswith("1.")


def test_spec_keeps_what_is_there(runtime, tmp_path):
    (tmp_path / "config.json").write_text("mine")
    result = runtime.call("spec", cwd=tmp_path)
    assert result.code == 1
    assert "exists" in result.err
    assert (tmp_path / "config.json").read_text() == "mine"


def test_spec_words(pyrunc, tmp_path):
    (tmp_path / "config.json").write_text("mine")
    assert "File config.json exists. Remove it first" in pyrunc.call("spec", cwd=tmp_path).err


def test_spec_rootless(runtime, tmp_path):
    runtime.ok("spec", "--rootless", cwd=tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["linux"]["uidMappings"] == [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
    assert "network" not in {n["type"] for n in config["linux"]["namespaces"]}


def test_spec_uses_tabs(runtime, tmp_path):
    if runtime.name == "crun":
        pytest.skip("crun writes blanks")
    runtime.ok("spec", cwd=tmp_path)
    assert "\n\t" in (tmp_path / "config.json").read_text()


@pytest.mark.kernel
def test_spec_can_be_run(runtime, make_bundle, no_leaks):
    """The written config works: it runs with another program and without a terminal."""
    bundle = make_bundle()
    os.unlink(bundle.path / "config.json")
    runtime.ok("spec", "--bundle", bundle)
    config = json.loads((bundle.path / "config.json").read_text())
    config["process"].update(args=["/bin/true"], terminal=False)
    config["linux"]["cgroupsPath"] = "/%s-spec" % runtime.token
    bundle.write(config)
    result = runtime.run(bundle)
    assert (result.code, result.err) == (0, ""), result


# ---- features


def test_features(runtime):
    """One JSON document and nothing else: cri-o reads both streams together."""
    result = runtime.ok("features")
    assert result.err == ""
    found = json.loads(result.out)
    assert found["ociVersionMin"].startswith("1.0") and found["ociVersionMax"].startswith("1.")
    assert {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"} <= set(found["hooks"])
    assert {"ro", "rro", "bind", "rbind", "rprivate"} <= set(found["mountOptions"])
    linux = found["linux"]
    assert {"pid", "network", "mount", "ipc", "uts", "user", "cgroup"} <= set(linux["namespaces"])
    assert "CAP_SYS_ADMIN" in linux["capabilities"]
    assert linux["seccomp"]["enabled"] and "SCMP_ACT_ERRNO" in linux["seccomp"]["actions"]
    assert linux["cgroup"]["v1"] and linux["cgroup"]["v2"]


def test_features_match_the_schema(pyrunc):
    jsonschema = pytest.importorskip("jsonschema")
    from referencing import Registry
    from referencing.jsonschema import DRAFT4

    folder = harness.ROOT / "specs"
    registry = Registry()
    for path in folder.glob("*.json"):
        registry = registry.with_resource(path.name, DRAFT4.create_resource(json.loads(path.read_text())))
    schema = json.loads((folder / "features-schema.json").read_text())
    found = json.loads(pyrunc.ok("features").out)
    jsonschema.Draft4Validator(schema, registry=registry).validate(found)


def test_features_names_what_callers_look_for(pyrunc):
    found = json.loads(pyrunc.ok("features").out)
    assert "org.opencontainers.runc.version" in found["annotations"] or "pyrunc" in json.dumps(found["annotations"])
    assert found["linux"]["mountExtensions"]["idmap"]["enabled"] is True
    assert "potentiallyUnsafeConfigAnnotations" in found


def test_features_needs_no_environment(runtime):
    assert json.loads(runtime.call("features", raw=True, env={}).out)
