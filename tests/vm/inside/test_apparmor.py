"""process.apparmorProfile: applied to init and to exec, enforced by the kernel, an error if it is not loaded."""

import json
import os
import subprocess

import pytest

import harness

PROFILE = """
profile %s flags=(attach_disconnected,mediate_deleted) {
  capability,
  network,
  file,
  signal,
  ptrace,
  mount,
  umount,
  pivot_root,
  deny /etc/secret r,
}
"""
SCRIPT = "cat /proc/self/attr/current; cat /etc/hosts >/dev/null && echo open; cat /etc/secret"


@pytest.fixture
def profile(token):
    """The name of a profile that is loaded."""
    text = PROFILE % token
    subprocess.run(["apparmor_parser", "--replace", "--skip-cache"], input=text, text=True, check=True)
    yield token
    subprocess.run(["apparmor_parser", "--remove"], input=text, text=True, check=True)


@pytest.fixture
def secretive(make_bundle):
    def make(changes, **kw):
        bundle = make_bundle(changes, **kw)
        (bundle.rootfs / "etc/secret").write_text("secret\n")
        return bundle

    return make


@pytest.mark.vm_short("noNewPrivileges")
@pytest.mark.parametrize("nnp", [False, True], ids=["", "noNewPrivileges"])
def test_enforced(runtime, secretive, profile, nnp, no_leaks):
    bundle = secretive({"/process/apparmorProfile": profile, "/process/noNewPrivileges": nnp}, args=["/bin/sh", "-c", SCRIPT])
    result = runtime.run(bundle)
    assert result.out == "%s (enforce)\nopen\n" % profile and "Permission denied" in result.err, result


def test_without_a_profile(runtime, secretive, no_leaks):
    result = runtime.run(secretive({}, args=["/bin/sh", "-c", SCRIPT]))
    assert result.out == "unconfined\nopen\nsecret\n", result


def test_diff_knows_the_profile(runtime, secretive, profile, no_leaks):
    id = runtime.create(secretive({"/process/apparmorProfile": profile}, args=harness.WAIT_FOR_TERM))
    bare = runtime.started(secretive({}, args=harness.WAIT_FOR_TERM))
    file = os.path.join(runtime.state(bare)["bundle"], "confined.json")
    with open(file, "w") as target:
        json.dump(
            harness.patch(json.load(open(os.path.join(os.path.dirname(file), "config.json"))), {"/process/apparmorProfile": profile}),
            target,
        )

    def found(*words):
        return [row for row in json.loads(runtime.call("diff", "--format", "json", *words).out)["differences"] if row["area"] == "labels"]

    assert found(id) == []  # not active yet
    runtime.start(id)
    assert found(id) == []
    (row,) = found("--config", file, bare)
    assert (row["what"], row["planned"], row["seen"], row["pointer"]) == ("apparmor", profile, "unconfined", "/process/apparmorProfile")
    for one in (id, bare):
        runtime.delete(one, "--force")


@pytest.mark.vm_short
def test_exec_has_it_too(runtime, secretive, profile, no_leaks):
    id = runtime.started(secretive({"/process/apparmorProfile": profile}, args=harness.WAIT_FOR_TERM))
    result = runtime.call("exec", id, "sh", "-c", SCRIPT)
    assert result.out == "%s (enforce)\nopen\n" % profile and "Permission denied" in result.err, result
    result = runtime.call("exec", "--apparmor", "unconfined", id, "sh", "-c", SCRIPT)
    assert result.out == "unconfined\nopen\nsecret\n", result
    runtime.delete(id, "--force")


@pytest.mark.parametrize("name", ["no-such-profile", "unconfined"])
def test_names_without_a_profile(runtime, secretive, name, no_leaks):
    result = runtime.run(secretive({"/process/apparmorProfile": name}))
    if name == "unconfined":
        assert result.code == 0, result
    else:
        assert result.code == 1 and name in result.said and "apparmor" in result.said.lower(), result


def test_in_a_user_namespace(runtime, secretive, profile, no_leaks):
    maps = [{"containerID": 0, "hostID": 300000, "size": 65536}]
    kinds = [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "user")]
    changes = {"/process/apparmorProfile": profile, "/linux/namespaces": kinds, "/linux/uidMappings": maps, "/linux/gidMappings": maps}
    result = runtime.run(secretive(changes, args=["/bin/sh", "-c", SCRIPT]))
    assert result.out == "%s (enforce)\nopen\n" % profile, result


def test_features_say_so(pyrunc):
    import json

    assert json.loads(pyrunc.ok("features").out)["linux"]["apparmor"] == {"enabled": True}
