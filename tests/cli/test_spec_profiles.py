"""spec --profile: each profile is valid, is explained property by property, and runs as root, or as an ordinary user if meant for one."""

import json
import os
import shutil

import pytest

from pyrunc.oci import glossary, profiles

LOOK = (
    "id -u; id -g; grep -E 'CapEff|CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; touch /x 2>/dev/null && echo writable || echo closed; "
    "ls /sys/class/net 2>/dev/null | sort | tr '\\n' ' '; hostname"
)


def document(pyrunc, *words):
    return json.loads(pyrunc.ok("spec", "--file", "-", *words).out)


def test_without_a_profile_nothing_changes(pyrunc):
    assert document(pyrunc)["hostname"] == "pyrunc" and "seccomp" not in document(pyrunc)["linux"]


@pytest.mark.kernel
@pytest.mark.parametrize("name", profiles.NAMES)
def test_valid(pyrunc, name, scratch):
    bundle = scratch / ("profile-" + name)
    (bundle / "rootfs/bin").mkdir(parents=True, exist_ok=True)
    (bundle / "rootfs/bin/sh").touch()  # --strict also requires the program
    pyrunc.ok("spec", "--profile", name, "--bundle", bundle)
    result = pyrunc.call("validate", "--strict", "--format", "json", bundle)
    assert json.loads(result.out)["problems"] == [], result
    shutil.rmtree(bundle)


@pytest.mark.parametrize("name", profiles.NAMES)
def test_explained(pyrunc, name):
    made = document(pyrunc, "--profile", name)
    found = json.loads(pyrunc.ok("spec", "--profile", name, "--explain", "--format", "json").out)
    assert found["profile"] == name and found["about"] == profiles.ABOUT[name]
    told = {row["pointer"] for row in found["properties"]}
    for row in found["properties"]:
        assert row["what"] and glossary.canonical(row["pointer"]), row
    for top, value in made.items():  # no property is left out
        assert "/" + top in told or all(any(p.startswith("/%s/%s" % (top, key)) for p in told) for key in value), top
    _document, reasons = profiles.config(name)
    assert set(reasons) <= told, "reasons for properties that do not exist: %s" % (set(reasons) - told)
    text = pyrunc.ok("spec", "--profile", name, "--explain").out
    assert text.startswith(profiles.ABOUT[name] + "\n") and "\x1b" not in text and all(why in text for why in reasons.values())


def test_explain_writes_nothing(pyrunc, tmp_path):
    pyrunc.ok("spec", "--explain", "--bundle", tmp_path)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("words", [["--profile", "nope"], ["--profile", "docker", "--rootless"], ["--explain", "--format", "x"]])
def test_wrong_usage(pyrunc, words):
    result = pyrunc.call("spec", "--file", "-", *words)
    assert result.code == 1 and result.err.count("\n") == 1 and not result.out, result


def seen(pyrunc, make_bundle, name):
    """The output lines of a program that runs with the profile."""
    made = document(pyrunc, "--profile", name)
    made["process"].update(terminal=False, args=["/bin/sh", "-c", LOOK])
    bundle = make_bundle()
    made["linux"]["cgroupsPath"] = bundle.config["linux"]["cgroupsPath"]
    bundle.write(made)
    result = pyrunc.run(bundle)
    assert (result.code, result.err) == (0, ""), result
    lines = result.out.splitlines()
    fields = dict(line.split(":\t") for line in lines if ":\t" in line)
    return {
        "ids": tuple(map(int, lines[:2])), "bounding": int(fields["CapBnd"], 16), "effective": int(fields["CapEff"], 16),
        "nnp": fields["NoNewPrivs"],
        "seccomp": fields["Seccomp"], "root": lines[6], "net": lines[7:-1], "name": lines[-1].split()[-1],
    }  # fmt: skip


@pytest.mark.kernel
@pytest.mark.parametrize(
    "name, ids, caps, nnp, seccomp, root",
    [
        ("minimal", (0, 0), 0, "0", "0", "writable"),
        ("docker", (0, 0), 14, "0", "2", "writable"),
        ("podman", (0, 0), 11, "0", "2", "writable"),
        ("k8s", (1000, 1000), 0, "1", "2", "closed"),
        ("hardened", (65534, 65534), 0, "1", "2", "closed"),
        ("rootless", (0, 0), 11, "1", "2", "closed"),
    ],
)
def test_runs_as_root(pyrunc, make_bundle, no_leaks, name, ids, caps, nnp, seccomp, root):
    found = seen(pyrunc, make_bundle, name)
    assert (found["ids"], found["nnp"], found["seccomp"], found["root"]) == (ids, nnp, seccomp, root), found
    assert found["bounding"].bit_count() == caps and found["effective"].bit_count() == caps, found
    assert found["name"] == "pyrunc"
