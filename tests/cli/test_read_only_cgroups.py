"""A host whose cgroup file systems are read-only, as in many containers: operations that need them say so, and all others work."""

import json
import subprocess

import pytest

import harness
import hoststate

pytestmark = pytest.mark.kernel
READ_ONLY = 'for m in $(sed -n "s/.* \\(\\/sys\\/fs\\/cgroup[^ ]*\\) .* - cgroup2\\? .*/\\1/p" /proc/self/mountinfo); do mount -o remount,bind,ro $m; done; exec "$@"'


def read_only(argv):
    """Runs argv in a new mount namespace."""
    words = ["unshare", "--mount", "/bin/sh", "-c", READ_ONLY, "sh", *argv]
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=harness.WATCHDOG)


def test_create(pyrunc, bundle, no_leaks):
    done = read_only(pyrunc.argv("create", "--bundle", bundle, pyrunc.new_id()))
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done
    assert "cannot make the cgroup /sys/fs/cgroup/" in done.stderr and "it is mounted read-only (/linux/cgroupsPath" in done.stderr


def test_commands_for_a_running_container(pyrunc, waiting):
    id = pyrunc.started(waiting)
    harness.until_processes(pyrunc, id)
    for words in (["pause", id], ["update", "--pids-limit", "5", id], ["exec", id, "/bin/true"]):
        done = read_only(pyrunc.argv(*words))
        if words[0] == "exec" and (hoststate.CGROUP / "cgroup.controllers").exists():  # version 2: clone3(2) does not write to the mount
            assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
            continue
        assert done.returncode == (255 if words[0] == "exec" else 1) and len(done.stderr.splitlines()) == 1, done
        assert "read-only" in done.stderr and done.stdout == ""
    assert pyrunc.status(id) == "running"
    assert len(json.loads(read_only(pyrunc.argv("ps", "--format", "json", id)).stdout)) == 2
    assert json.loads(read_only(pyrunc.argv("events", "--stats", id)).stdout)["data"]["pids"]["current"] == 2


def test_without_cgroups(pyrunc, bundle):
    """--cgroup-manager disabled does not need them."""
    done = read_only(pyrunc.argv("run", "--bundle", bundle, pyrunc.new_id(), globals=["--cgroup-manager", "disabled"]))
    assert (done.returncode, done.stderr) == (0, ""), done
