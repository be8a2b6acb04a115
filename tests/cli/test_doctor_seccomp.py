"""doctor and seccomp: what they say about the host and about a profile agrees with what the host and the filter do."""

import json
import os

import pytest

PROFILE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [
        {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5},
        {
            "names": ["personality"],
            "action": "SCMP_ACT_KILL_PROCESS",
            "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}],
        },
        {"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"},
    ],
}


def test_doctor_as_json(pyrunc):
    report = json.loads(pyrunc.ok("doctor", "--format", "json").out)
    rows = {row["what"]: row for row in report["host"]}
    assert rows["namespaces"]["state"] == "ok" and report["bundle"] == []
    criu = any(os.path.exists(p) for p in ("/usr/sbin/criu", "/usr/bin/criu", "/usr/local/sbin/criu"))
    assert (rows["criu"]["state"] == "ok") == criu
    assert all(row["remedy"] for row in report["host"] if row["state"] != "ok")


@pytest.mark.kernel
def test_doctor_of_a_bundle(pyrunc, make_bundle):
    good = make_bundle()
    assert pyrunc.call("doctor", good).code == 0
    bad = make_bundle({"/process/cwd": "relative"})
    result = pyrunc.call("doctor", bad)
    assert result.code == 1 and "/process/cwd" in result.out and result.err == ""


@pytest.mark.parametrize(
    ("words", "verdict"),
    [(["mkdir"], "ERRNO(5)"), (["personality", "8"], "KILL_PROCESS"), (["personality", "0x9"], "ALLOW"), (["read"], "ALLOW")],
)
def test_seccomp_shows_the_verdict(pyrunc, make_bundle, words, verdict):
    bundle = make_bundle({"/linux/seccomp": PROFILE})
    report = json.loads(pyrunc.ok("seccomp", "--bundle", bundle, "--format", "json", *words).out)
    assert report["verdict"] == verdict and report["unknown"] == ["no_such_call"]


@pytest.mark.kernel
def test_seccomp_agrees_with_the_kernel(pyrunc, make_bundle):
    bundle = make_bundle({"/linux/seccomp": PROFILE}, args=["/bin/mkdir", "/tmp/x"])
    assert "Input/output error" in pyrunc.run(bundle).err


@pytest.mark.parametrize(
    ("words", "said"),
    [(["no_such_call"], "not known"), (["read", "-1"], "invalid number"), (["read", *"1234567"], "at most 6")],
)
def test_seccomp_refuses(pyrunc, make_bundle, words, said):
    result = pyrunc.call("seccomp", "--bundle", make_bundle({"/linux/seccomp": PROFILE}), *words)
    assert result.code == 1 and said in result.said


def test_seccomp_without_a_profile(pyrunc, bundle):
    result = pyrunc.call("seccomp", "--bundle", bundle, "read")
    assert result.code == 1 and "/linux/seccomp" in result.said
