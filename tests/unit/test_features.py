"""`features`: the document matches its schema, lists exactly what the parts support, and needs no privileges and no state root."""

import json
import os
import subprocess
from typing import Any

import pytest

import harness
from pyrunc.linux import caps, filters
from pyrunc.oci import deviations, explain, features, schema_table, version
from pyrunc.parts import hooks, mempolicy
from pyrunc.parts.mounts import options

ROOT = harness.ROOT
RUN = "import sys; sys.path.insert(0, %r); from pyrunc.commands import features; sys.exit(features.main(%r, []))"


def printed(given=None, package=ROOT / "runtime", **kw):
    """(stdout, stderr) of the command in a separate, isolated process without an environment."""
    script = RUN % (str(package), given or {})
    done = subprocess.run(["/usr/bin/python3", "-I", "-S", "-c", script], capture_output=True, env={}, timeout=30, **kw)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode(), done.stderr.decode()


@pytest.fixture(scope="module")
def document():
    out, err = printed()
    assert err == ""
    return json.loads(out)


def test_schema(document):
    assert explain.problems(document, "features") == []


def test_versions(document):
    assert (document["ociVersionMin"], document["ociVersionMax"]) == ("1.0.0", "1.3.0")
    assert version.semver(document["ociVersionMax"])


def test_lists_are_those_of_the_parts(document):
    """Everything listed is recognised, and everything recognised is listed."""
    linux = document["linux"]
    seccomp = linux["seccomp"]
    assert set(document["hooks"]) == set(hooks.KINDS)
    assert set(document["mountOptions"]) == {*options.FLAGS, *options.PROPAGATION, *options.RECURSIVE, *options.EXTENSIONS}
    assert document["mountOptions"] == sorted(document["mountOptions"])
    assert linux["capabilities"] == list(caps.NAMES)
    assert set(seccomp["actions"]) == set(filters.ACTIONS)
    assert set(seccomp["operators"]) == set(filters.OPERATORS)
    assert set(seccomp["archs"]) == set(filters.ARCHES)
    assert features.FLAGS == filters.FLAGS
    assert set(seccomp["knownFlags"]) == set(filters.FLAGS)
    assert set(seccomp["supportedFlags"]) <= set(filters.FLAGS)
    assert set(linux["memoryPolicy"]["modes"]) == set(mempolicy.MODES)
    assert set(linux["memoryPolicy"]["flags"]) == set(mempolicy.FLAGS)


def test_every_option_is_recognised(document):
    """An unknown option would be passed to the file system as data."""
    for word in document["mountOptions"]:
        assert options.parse([word])["data"] == [], word


def test_lists_are_those_of_the_specification(document):
    """They have the enumerations of the config schema: a shorter list would reject a config that the specification allows."""
    config: Any = schema_table.ROOTS["config"]
    linux = config[2]["linux"][2]
    assert set(document["linux"]["namespaces"]) == set(linux["namespaces"][1][2]["type"][1])
    assert set(document["linux"]["seccomp"]["archs"]) == set(linux["seccomp"][2]["architectures"][1][1])
    assert set(document["linux"]["seccomp"]["actions"]) == set(linux["seccomp"][2]["defaultAction"][1])
    assert set(document["linux"]["memoryPolicy"]["modes"]) == set(linux["memoryPolicy"][2]["mode"][1])
    assert set(document["hooks"]) == set(config[2]["hooks"][2])


def test_what_callers_look_for(document):
    """containerd, cri-o, moby and nerdctl check for recursive read-only mounts, id-mapped mounts and checkpoint."""
    assert {"rro", "idmap", "ridmap", "rbind", "tmpcopyup"} <= set(document["mountOptions"])
    assert document["linux"]["mountExtensions"]["idmap"]["enabled"] is True
    assert document["linux"]["netDevices"]["enabled"] is True
    assert document["linux"]["cgroup"] == {"v1": True, "v2": True, "systemd": True, "systemdUser": True, "rdma": True}
    assert document["annotations"]["org.opencontainers.runc.checkpoint.enabled"] in ("true", "false")
    assert all(isinstance(v, str) for v in document["annotations"].values())


def test_at_least_what_runc_lists(document):
    vector = json.loads((ROOT / "tests/vectors/features/good/runc.json").read_text())
    assert set(vector["mountOptions"]) <= set(document["mountOptions"])
    assert set(vector["linux"]["capabilities"]) <= set(document["linux"]["capabilities"])
    assert set(vector["linux"]["seccomp"]["archs"]) <= set(document["linux"]["seccomp"]["archs"])


def test_without_rights(package_for_all):
    if os.geteuid() != 0:
        pytest.skip("this machine gives the test run no root to drop")
    out, err = printed(package=package_for_all, user=65534, group=65534, extra_groups=[], cwd="/")
    assert err == ""
    assert json.loads(out)["ociVersionMax"] == version.VERSION


def test_deviations():
    out, err = printed({"deviations": True})
    assert err == "" and out == deviations.text()
    for _title, rows in deviations.GROUPS:
        assert rows
        for where, ours, *theirs in rows:
            assert where and ours and any(theirs[:2])
    for where in ("/ociVersion", "/process/args", "start", "/linux/resources/pids/limit"):
        assert "\n  %s\n" % where in out
