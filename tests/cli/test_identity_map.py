"""A user namespace that maps every id to itself is not the initial one: root in it has no privileges over devices, for example."""

import subprocess

import harness

IDENTITY = ["unshare", "--user", "--map-users", "0:0:4294967295", "--map-groups", "0:0:4294967295", "--setuid", "0", "--setgid", "0"]


def test_run_in_a_namespace_with_the_identity_map(pyrunc, bundle, tmp_path):
    """systemd 260 creates such namespaces. Device rules are left to the host, as in any other user namespace."""
    words = [pyrunc.path, "--root", str(tmp_path / "root"), "run", "--bundle", str(bundle), pyrunc.new_id()]
    shown = subprocess.run([*IDENTITY, "cat", "/proc/self/uid_map"], capture_output=True, text=True, check=True, timeout=harness.WATCHDOG)
    assert shown.stdout.split() == ["0", "0", "4294967295"]
    with_identity = subprocess.run([*IDENTITY, "--mount", *words], capture_output=True, text=True, timeout=harness.WATCHDOG)
    assert (with_identity.returncode, with_identity.stderr) == (0, ""), with_identity
