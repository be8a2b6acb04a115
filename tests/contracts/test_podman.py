"""podman and conmon, the properties of a container: its program, privileges, mounts, namespaces, limits. conmon starts the runtime."""

import json
import os

import pytest

from callers import IMAGE
from sandbox import BASE


def test_error_text_without_json(podman, world):
    """A runtime whose name podman doesn't know gets no --log: its message on stderr must still lead to 127 and be readable."""
    other = f"{BASE}/other-runtime"
    world.write(other, f'#!/bin/sh\nexec "{podman.runtime}" "$@"\n', 0o755)
    result = podman.run(IMAGE, "/no/such/file", runtime=other).exits(127)
    assert "/no/such/file" in result.err and "Traceback" not in result.err


def test_umask(podman):
    assert podman.run("--umask=0027", IMAGE, "sh", "-c", "umask").ok().out == "0027\n"


def test_volume_overlay(podman, world):
    world.write(f"{BASE}/volume/in", "from outside\n")
    out = podman.run(f"--volume={BASE}/volume:/data:O", IMAGE, "sh", "-c", "echo changed > /data/in; cat /data/in").ok().out
    assert out == "changed\n" and world.read(f"{BASE}/volume/in") == "from outside\n"


def test_volume_of_a_file(podman, world):
    world.write(f"{BASE}/volume/in", "from outside\n")
    assert podman.run(f"--volume={BASE}/volume/in:/etc/made/up.conf:ro", IMAGE, "cat", "/etc/made/up.conf").ok().out == "from outside\n"


def test_read_only_root_has_places_to_write(podman):
    """With only --read-only, podman mounts a tmpfs on /tmp, /run and some other directories."""
    result = podman.run("--read-only", IMAGE, "sh", "-c", "touch /tmp/x /run/x && echo both; touch /x").exits(1)
    assert result.out == "both\n" and "Read-only file system" in result.err


def test_tmpfs_copies_the_image(podman):
    assert podman.run("--tmpfs=/www", IMAGE, "cat", "/www/index.html").ok().out == "served\n"


def test_capability_of_a_user(podman):
    assert int(podman.status_of("CapEff", "--user=1000", "--cap-add=net_raw"), 16) == 1 << 13


def test_broken_pipe_ends_the_writer(podman):
    """conmon leaves SIGPIPE ignored; a container must start with the default disposition."""
    assert int(podman.status_of("SigIgn"), 16) == 0 and int(podman.status_of("SigBlk"), 16) == 0
    assert podman.run(IMAGE, "sh", "-c", "yes | head -n 1").ok().out == "y\n"


def test_preserved_descriptors(podman, world):
    script = 'exec 3< /etc/passwd; exec "$@"'
    words = podman.argv("run", "--rm", "--preserve-fds=1", *podman.create_options("none"), IMAGE, "sh", "-c", "head -c 4 <&3")
    assert world.run(["sh", "-c", script, "sh", *words], env=podman.env).ok().out == "root"


def test_preserved_descriptors_with_holes(podman, world):
    """podman passes --preserve-fds=38; the descriptors in between are closed."""
    if not podman.has("run", "--preserve-fd"):
        pytest.skip("this podman has no --preserve-fd")
    script = 'exec 9< /etc/passwd 40< /etc/passwd; exec "$@"'
    show = "head -c 4 <&9; head -c 4 <&40; ls /proc/1/fd"
    words = podman.argv("run", "--rm", "--preserve-fd=9,40", *podman.create_options("none"), IMAGE, "sh", "-c", show)
    out = world.run(["bash", "-c", script, "bash", *words], env=podman.env).ok().out
    assert out.startswith("rootroot") and {"9", "40"} <= set(out[8:].split()) <= {"0", "1", "2", "3", "9", "40"}


def test_network_bridge(podman):
    out = podman.run(IMAGE, "sh", "-c", "ip -4 addr show eth0", network="podman").ok().out
    assert "inet 10.88." in out


def test_user_namespace(podman):
    words = ["--uidmap=0:100000:5000", "--gidmap=0:100000:5000"]
    out = podman.run(*words, IMAGE, "sh", "-c", "cat /proc/self/uid_map; id -u; touch /made && stat -c %u /made").ok().out
    assert out.split() == ["0", "100000", "5000", "0", "0"]


def test_init(podman):
    if not os.path.exists("/usr/bin/tini-static"):
        pytest.skip("not installed: tini (static)")
    out = podman.run("--init", "--init-path=/usr/bin/tini-static", IMAGE, "ps", "-o", "pid,comm").ok().out
    assert out.split()[2:4] == ["1", "podman-init"] and "ps" in out


def test_systemd_mode(podman):
    script = "grep -c -e ' /run ' -e ' /run/lock ' -e ' /tmp ' -e ' /var/log/journal ' /proc/self/mounts; echo ${container_uuid:+uuid}"
    assert podman.run("--systemd=always", IMAGE, "sh", "-c", script).ok().out.split() == ["4", "uuid"]


def test_sysctl_of_the_ipc_namespace(podman):
    assert podman.run("--sysctl=kernel.shmmax=7654321", IMAGE, "cat", "/proc/sys/kernel/shmmax").ok().out == "7654321\n"


def test_out_of_memory(podman):
    result = podman.run("--memory=24m", "--memory-swap=24m", IMAGE, "sh", "-c", "head -c 100m /dev/zero | tail -c 90m > /dev/null")
    assert result.status == 137 or "Killed" in result.text, result


def test_no_cgroups(podman):
    """--cgroups=disabled: podman passes --cgroup-manager disabled, an option of crun that not all runtimes have."""
    if os.path.basename(podman.runtime) == "runc":
        pytest.skip("runc doesn't support --cgroup-manager, which podman passes for --cgroups=disabled")
    assert podman("run", "--rm", "--network=none", "--cgroups=disabled", IMAGE, "echo", "hello").ok().out == "hello\n"


def test_rootfs(podman, world):
    """A root file system by its path, without an image."""
    world.run(["mkdir", "-p", f"{BASE}/plain-root"]).ok()
    world.run(["tar", "-xf", f"{BASE}/rootfs.tar", "-C", f"{BASE}/plain-root"]).ok()
    assert podman.run("--rootfs", f"{BASE}/plain-root", "echo", "hello").ok().out == "hello\n"


def test_attached_to_the_users_own_streams(podman):
    """--log-driver=passthrough: the container has the standard streams of podman itself, without pipes in between."""
    assert podman.run("--log-driver=passthrough", IMAGE, "echo", "hello").ok().out == "hello\n"


def test_volume_with_mapped_ids(podman, world):
    world.write(f"{BASE}/volume/in", "from outside\n")
    features = json.loads(world.run([podman.runtime, "features"]).ok().out)
    if not features["linux"].get("mountExtensions", {}).get("idmap", {}).get("enabled"):
        pytest.skip("the runtime's features don't list id-mapped mounts")
    words = ["--uidmap=0:100000:5000", "--gidmap=0:100000:5000", f"--mount=type=bind,src={BASE}/volume,dst=/data,idmap"]
    assert podman.run(*words, IMAGE, "stat", "-c", "%u", "/data/in").ok().out == "0\n"
