"""validate --as: every testable row in the table of deviations is reported for a config with that property and for no other, and the installed
runtimes behave as the rows say."""

import json
import os
import re
import shutil
import sys

import pytest

import harness

sys.path.insert(0, str(harness.ROOT))
from conformance.bench import machine  # noqa: E402

from pyrunc.commands import deviation_checks, validate
from pyrunc.oci import deviations, normalise

BIND = {"destination": "/b", "source": "/tmp", "type": "bind"}
FILTER = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read", "write", "execve", "exit_group"], "action": "SCMP_ACT_ALLOW"}]}
# test of the row: changes to the base config that it must find
SAMPLES = {
    "oci_version": {"/ociVersion": "9.9.9"},
    "handler": {"/annotations": {"run.oci.handler": "wasm"}},
    "rlimits": {"/process/rlimits": [{"type": "RLIMIT_NOFILE", "soft": 512, "hard": 512}] * 2},
    "mount_on_root": {"/mounts/-": {"destination": "/", "type": "tmpfs", "source": "t"}},
    "data_on_bind": {"/mounts/-": {**BIND, "options": ["bind", "size=1m"]}},
    "readonly_without_mounts": {"/root/readonly": True, "/linux/namespaces": [{"type": "pid"}]},
    "maps_without_user": {"/linux/uidMappings": [{"containerID": 0, "hostID": 0, "size": 1}]},
    "dotted_cgroup": {"/linux/cgroupsPath": "/a/../b"},
    "unified": {"/linux/resources/unified": {"cgroup.freeze": "1"}},
    "umask": {"/process/user/umask": 0o1777},
    "pids_zero": {"/linux/resources/pids": {"limit": 0}},
    "no_capabilities": {},
    "start_container": {"/hooks/startContainer": [{"path": "/bin/false"}]},
    "env_without_equals": {"/process/env/-": "novalue"},
    "empty_home": {"/process/env/-": "HOME="},
    "relative_cwd": {"/process/cwd": "tmp"},
    "no_args": {"/process/args": []},
    "domainname": {"/domainname": "d"},
    "scheduler": {"/process/scheduler": {"policy": "SCHED_BATCH"}},
    "io_priority": {"/process/ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0}},
    "exec_affinity": {"/process/execCPUAffinity": {"initial": "0"}},
    "personality": {"/linux/personality": {"domain": "LINUX32"}},
    "memory_policy": {"/linux/memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0"}},
    "net_devices": {"/linux/netDevices": {"x": {}}},
    "time_namespace": {"/linux/namespaces/-": {"type": "time"}},
    "cpu_idle": {"/linux/resources/cpu": {"idle": 0}},
    "cpu_burst": {"/linux/resources/cpu": {"burst": 0}},
    "rdt_monitoring": {"/linux/intelRdt": {"enableMonitoring": True}},
    "no_mounts": {"/mounts": harness.ABSENT},
    "idmap_options": {"/mounts/-": {**BIND, "options": ["bind", "idmap"]}},
    "crun_flags": {"/mounts/-": {"destination": "/t", "type": "tmpfs", "source": "t", "options": ["nosymfollow"]}},
    "taken_back": {"/mounts/-": {"destination": "/t", "type": "tmpfs", "source": "t", "options": ["ro", "rw"]}},
    "propagation": {"/mounts/-": {**BIND, "options": ["bind", "rslave"]}},
    "seccomp_default": {"/linux/seccomp": FILTER},
    "poststart": {"/hooks/poststart": [{"path": "/bin/true"}]},
    "poststop": {"/hooks/poststop": [{"path": "/bin/true"}]},
}  # fmt: skip
TESTED = sorted({row[4] for row in deviations.testable()})
QUIET = {"/process/capabilities": {"bounding": []}}


def found(changes, runtime):
    config = harness.patch(harness.BASE, {**QUIET, **changes} if changes else {})
    return deviation_checks.differences(normalise.config(config), runtime)


def test_every_row_has_a_test_and_a_sample():
    assert set(TESTED) == set(deviation_checks.TESTS) == set(SAMPLES)
    assert all(row[2] or row[3] for row in deviations.testable())


@pytest.mark.parametrize("name", TESTED)
def test_row_is_found(name):
    rows = [row for row in deviations.testable() if row[4] == name]
    for column, runtime in ((2, "runc"), (3, "crun")):
        wanted = {(row[1], row[column]) for row in rows if row[column] not in (None, "the same")}
        seen = {(one["pyrunc"], one["other"]) for one in found(SAMPLES[name], runtime)}
        assert wanted <= seen, (runtime, wanted - seen)


@pytest.mark.parametrize("runtime", validate.RUNTIMES)
def test_nothing_is_found_if_all_runtimes_agree(runtime):
    assert found(QUIET, runtime) == []


def test_command(pyrunc, make_bundle):
    bundle = make_bundle({"/process/cwd": "relative", **QUIET})
    result = pyrunc.call("validate", "--as", "crun", "--format", "json", bundle)
    report = json.loads(result.out)
    assert result.code == 1 and report["as"] == "crun" and report["valid"] is False
    assert [(d["pointer"], d["line"] is not None) for d in report["differences"]] == [("/process/cwd", True)]
    text = pyrunc.call("validate", "--as", "crun", bundle).out
    assert "differs: " in text and "crun: takes it from /" in text and text.endswith("crun: 1 difference\n"), text
    assert "differs" not in pyrunc.call("validate", bundle).out


@pytest.mark.kernel
def test_a_difference_is_not_a_problem(pyrunc, make_bundle):
    result = pyrunc.call("validate", "--as", "runc", make_bundle({"/domainname": "d", **QUIET}))
    assert result.code == 0 and "runc: 1 difference\n" in result.out, result


def test_an_invalid_document_is_not_compared(pyrunc, make_bundle):
    result = pyrunc.call("validate", "--as", "runc", make_bundle({"/hostname": 5}))
    assert result.code == 1 and "runc was not compared" in result.out, result


def test_unknown_runtime(pyrunc, bundle):
    result = pyrunc.call("validate", "--as", "podman", bundle)
    assert result.code == 1 and "use runc or crun" in result.err, result


# ---- what the installed runtimes do. ok: the program runs; refused: an error.

SEEN = [
    ("oci_version", "runc", "ok"), ("oci_version", "crun", "ok"), ("env_without_equals", "crun", "ok"), ("relative_cwd", "crun", "ok"),
    ("rlimits", "runc", "ok"), ("rlimits", "crun", "ok"), ("data_on_bind", "runc", "ok"), ("data_on_bind", "crun", "ok"),
    ("maps_without_user", "runc", "ok"), ("maps_without_user", "crun", "ok"), ("time_namespace", "runc", "refused"),
    ("time_namespace", "crun", "ok"),
    ("crun_flags", "crun", "refused"), ("crun_flags", "runc", "ok"), ("no_mounts", "crun", "refused"),
    ("mount_on_root", "runc", "refused"), ("mount_on_root", "crun", "refused"),
    ("umask", "crun", "ok"),
]  # fmt: skip
VERSIONS = {"runc": r"1\.1\.", "crun": r"1\.21\b"}


@pytest.fixture(scope="module")
def whole_hierarchies():
    """On a version 1 host, crun requires every controller to be mounted. Otherwise it rejects everything, and no row can be tested."""
    with machine.hugetlb():
        yield


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.parametrize("name, other, outcome", SEEN)
def test_the_installed_runtime_behaves_as_described(scratch, token, make_bundle, name, other, outcome, cgroup, whole_hierarchies):
    path = shutil.which(other, path="/usr/sbin:/usr/bin")
    if path is None:
        pytest.skip("no %s on this machine" % other)
    root = scratch / ("as-%s-%s" % (other, name))
    root.mkdir()
    runtime = harness.Runtime(path, root, "%sas%s%s" % (token, other, name.replace("_", "")), cgroup)
    version = runtime.call("--version", raw=True).out.splitlines()[0]
    if not re.search(VERSIONS[other], version):
        pytest.skip("the rows are about other versions than %s" % version)
    bundle = make_bundle({**QUIET, **SAMPLES[name]})  # type: ignore[dict-item]
    id = runtime.new_id()
    try:
        result = runtime.call("run", "--bundle", bundle, id, stdin=open(os.devnull))  # type: ignore[arg-type]
    finally:
        runtime.call("delete", "--force", id)
    if "hybrid mode not supported" in result.err:
        pytest.skip("the hierarchies of this machine can't be mounted as crun requires")
    assert (result.code == 0) is (outcome == "ok"), result
