"""plan() has no side effects, and its result is plain data: always the same bytes, and unchanged by a round trip through JSON."""

import json
import os

import pytest

import harness
import make_rootfs
from fakes.recorder import Recorder
from pyrunc import errors, jsonio
from pyrunc.engine import planner
from pyrunc.oci import load, normalise, validate

BUNDLES = make_rootfs.bundles()
OPTIONS = {"command": "plan", "detach": False}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Each bundle, complete; created once."""
    top = tmp_path_factory.mktemp("bundles")
    bundles = {name: make_rootfs.make_bundle(name, str(top / name)) for name in BUNDLES}
    for path in bundles.values():
        with open(path + "/config.json") as file:
            config = harness.within_limits(json.load(file))
        with open(path + "/config.json", "w") as file:
            json.dump(config, file)
    return bundles


def planned(path):
    """The plans of a bundle, or None if this machine or user cannot run it (the error then has a pointer)."""
    document, _ = load.config(path, "config.json")
    config = normalise.config(document)
    assert validate.check(config) == []
    here = os.getcwd()
    os.chdir(path)
    try:
        return planner.plan(config, planner.Context("pure", path, config, OPTIONS))
    except errors.PyruncError as e:
        assert e.pointer, e.sentence()
        if os.geteuid() == 0 and not isinstance(e, errors.Unsupported):
            raise
        return None
    finally:
        os.chdir(here)


def test_there_are_bundles():
    assert {"minimal", "everything", "rootless", "podman-like", "kubernetes-like"} <= set(BUNDLES)


@pytest.mark.parametrize("name", BUNDLES)
def test_plan_changes_nothing(made, monkeypatch, name):
    planned(made[name])  # modules are loaded, and their compiled files written, before the recorder starts
    here = os.getcwd()
    recorder = Recorder()
    with monkeypatch.context() as patch:
        document, _ = load.config(made[name], "config.json")
        config = normalise.config(document)
        os.chdir(made[name])
        recorder.install(patch)
        try:
            planner.plan(config, planner.Context("pure", made[name], config, OPTIONS))
        except errors.PyruncError:
            assert os.geteuid() != 0
    os.chdir(here)
    assert recorder.changes == []


@pytest.mark.parametrize("name", BUNDLES)
def test_plan_is_plain_data(made, name):
    plans = planned(made[name])
    if plans is None:
        pytest.skip("this user or machine cannot run the bundle %s" % name)
    text = jsonio.dumps(plans)
    assert jsonio.loads(text.encode("utf-8", "surrogateescape")) == plans, "the plan has a tuple, a set, or a key that is not a string"
    assert jsonio.dumps(planned(made[name])) == text


@pytest.mark.parametrize("name", BUNDLES)
def test_plan_does_not_change_the_config(made, name):
    document, _ = load.config(made[name], "config.json")
    config = normalise.config(document)
    before = jsonio.dumps(config)
    here = os.getcwd()
    os.chdir(made[name])
    try:
        planner.plan(config, planner.Context("pure", made[name], config, OPTIONS))
    except errors.PyruncError:
        assert os.geteuid() != 0
    finally:
        os.chdir(here)
    assert jsonio.dumps(config) == before


def test_the_recorder_refuses_changes(monkeypatch):
    """The recorder with the real calls: those that change something are refused and recorded, and those that only read work."""
    import posix

    from pyrunc.linux import _syscalls

    with monkeypatch.context() as patch:
        recorder = Recorder().install(patch)
        for call in (
            lambda: posix.mkdir("/nowhere"),
            lambda: posix.open("/nowhere", posix.O_CREAT | posix.O_WRONLY),
            lambda: posix.write(1, b""),
            lambda: _syscalls.mount(None, "/nowhere", None, 0, None),
            lambda: _syscalls.unshare(0),
        ):
            with pytest.raises(PermissionError):
                call()
        assert posix.stat("/") and _syscalls.statfs("/")
    assert [change[1] for change in recorder.changes] == ["mkdir", "open", "write", "mount", "unshare"]
