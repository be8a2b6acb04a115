"""podman and conmon, what a container gets: its program, rights, mounts, namespaces, limits. conmon starts the runtime."""

import json
import os

import pytest

from callers import IMAGE
from podman_tools import cgroup_value, running, status_of
from sandbox import BASE

PROFILE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
}


def test_hello(podman):
    result = podman.run(IMAGE, "echo", "hello").ok()
    assert result.out == "hello\n"


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_exit_status(podman, status):
    podman.run(IMAGE, "sh", "-c", f"exit {status}").exits(status)


@pytest.mark.parametrize(
    ("status", "command"),
    [
        (127, "/no/such/file"),
        (127, "nosuch"),
        (126, "/etc/passwd"),
        (126, "/tmp"),
    ],
    ids=["missing path", "not in PATH", "not executable", "a directory"],
)
def test_command_that_cannot_run(podman, status, command):
    result = podman.run(IMAGE, command).exits(status)
    assert result.out == "" and f'exec: "{command}"' in result.err, result


def test_error_text_without_json(podman, world):
    """A runtime whose name podman doesn't know gets no --log: what it says on stderr must still give 127 and be readable."""
    other = f"{BASE}/other-runtime"
    world.write(other, f'#!/bin/sh\nexec "{podman.runtime}" "$@"\n', 0o755)
    result = podman.run(IMAGE, "/no/such/file", runtime=other).exits(127)
    assert "/no/such/file" in result.err and "Traceback" not in result.err


def test_user(podman):
    assert "uid=1000(app) gid=1000(app)" in podman.run("--user=1000:1000", IMAGE, "id").ok().out
    assert "uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)" in podman.run("--user=app", IMAGE, "id").ok().out


def test_additional_groups(podman):
    assert podman.run("--user=1000:1000", "--group-add=2000", "--group-add=3000", IMAGE, "id", "-G").ok().out == "1000 2000 3000\n"


def test_environment_and_home(podman):
    out = podman.run("--env=COLOUR=blue", "--user=app", IMAGE, "env").ok().out.splitlines()
    assert "COLOUR=blue" in out and "HOME=/home/app" in out
    assert not [line for line in out if line.startswith(("_OCI_", "LC_CTYPE", "XDG_RUNTIME_DIR"))]


def test_working_directory(podman):
    assert podman.run("--workdir=/home/app", "--user=app", IMAGE, "pwd").ok().out == "/home/app\n"


def test_umask(podman):
    assert podman.run("--umask=0027", IMAGE, "sh", "-c", "umask").ok().out == "0027\n"


def test_hostname(podman):
    assert podman.run("--hostname=inside", IMAGE, "hostname").ok().out == "inside\n"


def test_volume(podman, world):
    world.write(f"{BASE}/volume/in", "from outside\n")
    script = "cat /data/in; echo back > /data/out"
    assert podman.run(f"--volume={BASE}/volume:/data", IMAGE, "sh", "-c", script).ok().out == "from outside\n"
    assert world.read(f"{BASE}/volume/out") == "back\n"


def test_volume_read_only(podman, world):
    world.write(f"{BASE}/volume/in", "from outside\n")
    result = podman.run(f"--volume={BASE}/volume:/data:ro", IMAGE, "touch", "/data/x").exits(1)
    assert "Read-only file system" in result.err


def test_volume_named(podman):
    podman("volume", "create", "kept").ok()
    try:
        podman.run("--volume=kept:/data", IMAGE, "sh", "-c", "echo kept > /data/x").ok()
        assert podman.run("--volume=kept:/data", IMAGE, "cat", "/data/x").ok().out == "kept\n"
    finally:
        podman("volume", "rm", "kept").ok()


def test_volume_overlay(podman, world):
    world.write(f"{BASE}/volume/in", "from outside\n")
    out = podman.run(f"--volume={BASE}/volume:/data:O", IMAGE, "sh", "-c", "echo changed > /data/in; cat /data/in").ok().out
    assert out == "changed\n" and world.read(f"{BASE}/volume/in") == "from outside\n"


def test_volume_of_a_file(podman, world):
    world.write(f"{BASE}/volume/in", "from outside\n")
    assert podman.run(f"--volume={BASE}/volume/in:/etc/made/up.conf:ro", IMAGE, "cat", "/etc/made/up.conf").ok().out == "from outside\n"


def test_read_only(podman):
    result = podman.run("--read-only", IMAGE, "sh", "-c", "touch /tmp/x /run/x && echo tmp; touch /x").exits(1)
    assert result.out == "tmp\n" and "Read-only file system" in result.err


def test_tmpfs(podman):
    out = podman.run("--tmpfs=/scratch:size=3m,mode=0700", IMAGE, "sh", "-c", "grep /scratch /proc/mounts; stat -c %a /scratch").ok().out
    assert "tmpfs" in out and "size=3072k" in out and out.endswith("700\n")


def test_tmpfs_copies_the_image(podman):
    assert podman.run("--tmpfs=/www", IMAGE, "cat", "/www/index.html").ok().out == "served\n"


def test_ulimit(podman):
    out = podman.run("--ulimit=nofile=512:600", "--ulimit=core=0:0", IMAGE, "sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -c").ok().out
    assert out == "512\n600\n0\n"


def test_capabilities(podman):
    assert int(status_of(podman, "CapEff", "--cap-drop=all"), 16) == 0
    assert int(status_of(podman, "CapEff", "--cap-drop=all", "--cap-add=chown", "--cap-add=net_raw"), 16) == 1 << 0 | 1 << 13
    assert int(status_of(podman, "CapEff", "--user=1000", "--cap-add=net_raw"), 16) == 1 << 13


def test_no_new_privileges(podman):
    assert status_of(podman, "NoNewPrivs") == "0"
    assert status_of(podman, "NoNewPrivs", "--security-opt=no-new-privileges") == "1"


def test_seccomp_default(podman):
    assert status_of(podman, "Seccomp") == "2"
    assert status_of(podman, "Seccomp", "--security-opt=seccomp=unconfined") == "0"


def test_seccomp_profile(podman, world):
    world.write(f"{BASE}/profile.json", json.dumps(PROFILE))
    result = podman.run(f"--security-opt=seccomp={BASE}/profile.json", IMAGE, "mkdir", "/tmp/x").exits(1)
    assert "No space left on device" in result.err


def test_masked_and_read_only_paths(podman):
    script = "head -c 1 /proc/keys | wc -c; ls -A /proc/scsi /sys/firmware 2>/dev/null | grep -v :; echo 1 > /proc/sys/kernel/shmall"
    result = podman.run(IMAGE, "sh", "-c", script).exits(1)
    assert result.out.split() == ["0"] and "Read-only file system" in result.err


def test_privileged(podman):
    assert int(status_of(podman, "CapEff", "--privileged"), 16) & 1 << 21
    assert podman.run("--privileged", IMAGE, "sh", "-c", "mount -t tmpfs none /mnt 2>&1 || mkdir /mnt && mount -t tmpfs none /mnt").ok()


def test_devices(podman):
    script = "echo x > /dev/nothing; stat -c '%t %T' /dev/nothing"
    assert podman.run("--device=/dev/null:/dev/nothing:rw", IMAGE, "sh", "-c", script).ok().out == "1 3\n"


def test_standard_devices(podman):
    script = "for d in null zero full random urandom tty; do test -c /dev/$d || echo no $d; done"
    script += "; readlink /dev/fd; readlink /dev/ptmx; head -c 2 /dev/zero | wc -c"
    assert podman.run(IMAGE, "sh", "-c", script).ok().out.split() == ["/proc/self/fd", "pts/ptmx", "2"]


def test_tty(podman):
    result = podman.run("--tty", IMAGE, "sh", "-c", "tty; test -t 1 && test -t 2 && test -c /dev/console && stat -c %u,%t /dev/pts/0").ok()
    assert result.out.split() == ["/dev/pts/0", "0,88"]


def test_interactive_tty(podman, world):
    result = world.run_on_tty(
        [
            "env",
            f"CONTAINERS_CONF={BASE}/containers.conf",
            f"CONTAINERS_STORAGE_CONF={BASE}/storage.conf",
            *podman.argv("run", "--rm", "-it", *podman.create_options("none"), IMAGE, "sh", "-c", "tty; exit 5"),
        ]
    )
    assert result.status == 5 and "/dev/pts/0" in result.out, result


def test_standard_input(podman):
    assert podman.run("--interactive", IMAGE, "cat", stdin="through a pipe\n").ok().out == "through a pipe\n"


def test_broken_pipe_ends_the_writer(podman):
    """conmon leaves SIGPIPE ignored; a container has to start with it at its default."""
    assert int(status_of(podman, "SigIgn"), 16) == 0 and int(status_of(podman, "SigBlk"), 16) == 0
    assert podman.run(IMAGE, "sh", "-c", "yes | head -n 1").ok().out == "y\n"


def test_no_descriptors_leak(podman):
    assert podman.run(IMAGE, "ls", "/proc/self/fd").ok().out.split() == ["0", "1", "2", "3"], "3 is the directory being read"


def test_preserved_descriptors(podman, world):
    script = 'exec 3< /etc/passwd; exec "$@"'
    words = podman.argv("run", "--rm", "--preserve-fds=1", *podman.create_options("none"), IMAGE, "sh", "-c", "head -c 4 <&3")
    assert world.run(["sh", "-c", script, "sh", *words], env=podman.env).ok().out == "root"


def test_network_none(podman):
    out = podman.run(IMAGE, "sh", "-c", "ls /sys/class/net; ip link show lo").ok().out
    assert "lo" in out.split("\n")[:4] and "eth0" not in out


def test_network_bridge(podman):
    out = podman.run(IMAGE, "sh", "-c", "ip -4 addr show eth0", network="podman").ok().out
    assert "inet 10.88." in out


def test_network_host(podman, world):
    inside = podman.run(IMAGE, "readlink", "/proc/self/ns/net", network="host").ok().out
    assert inside == world.run(["readlink", "/proc/self/ns/net"]).out


def test_host_namespaces(podman, world):
    words = ["--pid=host", "--ipc=host", "--uts=host", "--cgroupns=host"]
    script = "for name in pid ipc uts net; do readlink /proc/self/ns/$name; done"
    inside = podman.run(*words, IMAGE, "sh", "-c", script, network="host").ok().out
    assert inside == world.run(["sh", "-c", script]).out and inside.count("\n") == 4


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


def test_sysctl(podman):
    assert podman.run("--sysctl=kernel.shmmax=7654321", IMAGE, "cat", "/proc/sys/kernel/shmmax").ok().out == "7654321\n"


def test_shared_memory_size(podman):
    assert "size=2048k" in podman.run("--shm-size=2m", IMAGE, "grep", " /dev/shm ", "/proc/mounts").ok().out


def test_limits(podman, world):
    with running(podman, "--memory=64m", "--pids-limit=40", "--cpu-shares=300", "--cpuset-cpus=0") as name:
        assert cgroup_value(world, name, "memory", "memory.limit_in_bytes", "memory.max") == str(64 << 20)
        assert cgroup_value(world, name, "pids", "pids.max", "pids.max") == "40"
        assert cgroup_value(world, name, "cpuset", "cpuset.cpus", "cpuset.cpus") == "0"


def test_out_of_memory(podman):
    result = podman.run("--memory=24m", "--memory-swap=24m", IMAGE, "sh", "-c", "head -c 100m /dev/zero | tail -c 90m > /dev/null")
    assert result.status == 137 or "Killed" in result.text, result


def test_no_cgroups(podman):
    """--cgroups=disabled: the runtime is told --cgroup-manager disabled, which only crun's followers know."""
    if os.path.basename(podman.runtime) == "runc":
        pytest.skip("runc doesn't know --cgroup-manager, which podman sends for --cgroups=disabled")
    assert podman("run", "--rm", "--network=none", "--cgroups=disabled", IMAGE, "echo", "hello").ok().out == "hello\n"


def test_rootfs(podman, world):
    """A root file system by its path, without an image."""
    world.run(["mkdir", "-p", f"{BASE}/plain-root"]).ok()
    world.run(["tar", "-xf", f"{BASE}/rootfs.tar", "-C", f"{BASE}/plain-root"]).ok()
    assert podman.run("--rootfs", f"{BASE}/plain-root", "echo", "hello").ok().out == "hello\n"


def test_attached_to_the_users_own_streams(podman):
    """--log-driver=passthrough: the container has podman's own standard streams, without pipes between."""
    assert podman.run("--log-driver=passthrough", IMAGE, "echo", "hello").ok().out == "hello\n"


def test_volume_with_mapped_ids(podman, world):
    world.write(f"{BASE}/volume/in", "from outside\n")
    features = json.loads(world.run([podman.runtime, "features"]).ok().out)
    if not features["linux"].get("mountExtensions", {}).get("idmap", {}).get("enabled"):
        pytest.skip("the runtime's features don't list id-mapped mounts")
    words = ["--uidmap=0:100000:5000", "--gidmap=0:100000:5000", f"--mount=type=bind,src={BASE}/volume,dst=/data,idmap"]
    assert podman.run(*words, IMAGE, "stat", "-c", "%u", "/data/in").ok().out == "0\n"


def test_device_rules(podman):
    """Device rules are enforced: nothing but the standard devices may be opened, although a node may be made."""
    script = "mknod /tmp/mem c 1 1 && cat /tmp/mem; mknod /tmp/null c 1 3 && echo x > /tmp/null && echo written"
    result = podman.run("--cap-add=mknod", IMAGE, "sh", "-c", script).ok()
    assert "Operation not permitted" in result.err and result.out == "written\n"


def test_garbage_binary(podman):
    result = podman.run(IMAGE, "/bin/garbage")
    assert result.status in (1, 126, 255), result
    assert "exec format error" in result.text.lower(), result
