"""A user namespace that maps every id to itself is not the initial one: root in it has no privileges over devices, for example."""

import subprocess

import pytest

import harness

pytestmark = pytest.mark.kernel


def in_such_a_namespace(*words):
    """The finished process. The maps are written from outside: not every unshare(1) can."""
    argv = ["unshare", "--user", "sh", "-c", 'echo ready; read word; exec "$@"', "sh", *words]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        for name in ("uid_map", "gid_map"):
            with open("/proc/%d/%s" % (process.pid, name), "w", encoding="ascii") as file:
                file.write("0 0 4294967295\n")
        out, err = process.communicate("\n", timeout=harness.WATCHDOG)
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


def test_run_in_a_namespace_with_the_identity_map(pyrunc, bundle, tmp_path):
    """systemd 260 creates such namespaces. Device rules are left to the host, as in any other user namespace."""
    words = [pyrunc.path, "--root", str(tmp_path / "root"), "run", "--bundle", str(bundle), pyrunc.new_id()]
    assert in_such_a_namespace("cat", "/proc/self/uid_map").stdout.split() == ["0", "0", "4294967295"]
    with_identity = in_such_a_namespace("unshare", "--mount", *words)
    assert (with_identity.returncode, with_identity.stderr) == (0, ""), with_identity
