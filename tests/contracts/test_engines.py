"""Properties of a container of podman and docker: its program, privileges, mounts, namespaces. The same tests run for rootful and rootless
podman, docker, and docker with remapped ids; features that only one of them has are tested in a separate file.
"""

import json
import os

import pytest

from callers import IMAGE, Docker, Podman
from engine_tools import OF_ROOT, everywhere, on
from sandbox import BASE

PROFILE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}],
}


@pytest.fixture
def volume(world):
    """A directory on the host that every user may write to, with the file `in`."""
    world.write(f"{BASE}/volume/in", "from outside\n")
    os.chmod(world.outer(f"{BASE}/volume"), 0o777)
    yield f"{BASE}/volume"
    if world.exists(f"{BASE}/volume/out"):
        os.unlink(world.outer(f"{BASE}/volume/out"))


@everywhere
def test_hello(engine):
    assert engine.run(IMAGE, "echo", "hello").ok().out == "hello\n"


@pytest.mark.parametrize("status", [0, 1, 7, 255])
@everywhere
def test_exit_status(engine, status):
    engine.run(IMAGE, "sh", "-c", f"exit {status}").exits(status)


@pytest.mark.parametrize(
    ("status", "command"),
    [(127, "/no/such/file"), (127, "nosuch"), (126, "/etc/passwd"), (126, "/tmp")],
    ids=["missing path", "not in PATH", "not executable", "a directory"],
)
@everywhere
def test_command_that_cannot_run(engine, status, command):
    if command == "/tmp" and isinstance(engine, Docker) and engine.major < 23:
        status = 125  # it knows only what runc said before Go 1.20, "permission denied"
    result = engine.run(IMAGE, command).exits(status)
    assert result.out == "" and f'exec: "{command}"' in result.err, result
    assert "unable to retrieve OCI runtime error" not in result.err, result


@everywhere
def test_user(engine):
    assert "uid=1000(app) gid=1000(app)" in engine.run("--user=1000:1000", IMAGE, "id").ok().out
    assert "uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)" in engine.run("--user=app", IMAGE, "id").ok().out


@everywhere
def test_additional_groups(engine):
    assert engine.run("--user=app", "--group-add=3000", "--group-add=4000", IMAGE, "id", "-G").ok().out == "1000 2000 3000 4000\n"


@everywhere
def test_environment_and_home(engine):
    out = engine.run("--env=COLOUR=blue", "--user=app", IMAGE, "env").ok().out.splitlines()
    assert "COLOUR=blue" in out and "HOME=/home/app" in out
    of_others = ("_OCI_", "LC_CTYPE", "XDG_RUNTIME_DIR", "GOMAXPROCS", "TTRPC_ADDRESS", "NAMESPACE")
    assert not [line for line in out if line.startswith(of_others)]


@everywhere
def test_working_directory(engine):
    assert engine.run("--workdir=/home/app", "--user=app", IMAGE, "pwd").ok().out == "/home/app\n"


@everywhere
def test_hostname(engine):
    assert engine.run("--hostname=inside", IMAGE, "hostname").ok().out == "inside\n"


@everywhere
def test_volume(engine, world, volume):
    script = "cat /made/up/in; echo back > /made/up/out"
    assert engine.run(f"--volume={volume}:/made/up", IMAGE, "sh", "-c", script).ok().out == "from outside\n"
    assert world.read(f"{volume}/out") == "back\n"


@everywhere
def test_volume_read_only(engine, volume):
    assert engine.run(f"--volume={volume}:/data:ro", IMAGE, "cat", "/data/in").ok().out == "from outside\n"
    assert "Read-only file system" in engine.run(f"--volume={volume}:/data:ro", IMAGE, "touch", "/data/x").exits(1).err


@everywhere
def test_volume_named(engine):
    """It is filled from the image, shared, and kept."""
    try:
        script = "echo kept > /www/more; cat /www/index.html"
        assert engine.run("--volume=store:/www", IMAGE, "sh", "-c", script).ok().out == "served\n"
        assert engine.run("--volume=store:/else", IMAGE, "cat", "/else/more").ok().out == "kept\n"
    finally:
        engine("volume", "rm", "store").ok()


@everywhere
def test_read_only(engine):
    result = engine.run("--read-only", "--tmpfs=/scratch", IMAGE, "sh", "-c", "touch /scratch/x && echo scratch; touch /x").exits(1)
    assert result.out == "scratch\n" and "Read-only file system" in result.err


@everywhere
def test_tmpfs(engine):
    script = "grep /scratch /proc/mounts; stat -c '%a %u' /scratch"
    out = engine.run("--tmpfs=/scratch:size=3m,mode=0700", IMAGE, "sh", "-c", script).ok().out
    assert "tmpfs" in out and "size=3072k" in out and out.endswith("700 0\n")


@everywhere
def test_shared_memory_size(engine):
    assert "size=2048k" in engine.run("--shm-size=2m", IMAGE, "grep", " /dev/shm ", "/proc/mounts").ok().out


@everywhere
def test_ulimit(engine):
    # podman 4.3 would ask for more processes than a root without CAP_SYS_RESOURCE can have
    processes = ["--ulimit=nproc=4096:4096"] if isinstance(engine, Podman) else []
    out = (
        engine.run(
            "--ulimit=nofile=512:600",
            "--ulimit=core=0:0",
            *processes,
            IMAGE,
            "sh",
            "-c",
            "ulimit -Sn; ulimit -Hn; ulimit -c",
        )
        .ok()
        .out
    )
    assert out == "512\n600\n0\n"


@everywhere
def test_capabilities(engine):
    assert int(engine.status_of("CapEff", "--cap-drop=all"), 16) == 0
    assert int(engine.status_of("CapEff", "--cap-drop=all", "--cap-add=chown", "--cap-add=net_raw"), 16) == 1 << 0 | 1 << 13
    assert int(engine.status_of("CapEff", "--user=1000"), 16) == 0


@everywhere
def test_no_new_privileges(engine):
    assert engine.status_of("NoNewPrivs") == "0"
    assert engine.status_of("NoNewPrivs", "--security-opt=no-new-privileges") == "1"


@everywhere
def test_seccomp_default(engine):
    assert engine.status_of("Seccomp") == "2"
    assert engine.status_of("Seccomp", "--security-opt=seccomp=unconfined") == "0"


@everywhere
def test_seccomp_profile(engine, world):
    world.write(f"{BASE}/profile.json", json.dumps(PROFILE))
    result = engine.run(f"--security-opt=seccomp={BASE}/profile.json", IMAGE, "mkdir", "/tmp/x").exits(1)
    assert "No space left on device" in result.err


@everywhere
def test_masked_and_read_only_paths(engine):
    script = "head -c 1 /proc/keys | wc -c; ls -A /proc/scsi /sys/firmware 2>/dev/null | grep -v :; echo 1 > /proc/sys/kernel/shmall"
    result = engine.run(IMAGE, "sh", "-c", script).exits(1)
    assert result.out.split() == ["0"] and "Read-only file system" in result.err


@on("podman", "rootless", "docker")
def test_privileged(engine):
    assert int(engine.status_of("CapEff", "--privileged"), 16) & 1 << 21
    assert engine.run("--privileged", IMAGE, "sh", "-c", "mkdir /x && mount -t tmpfs none /x && echo mounted").ok().out == "mounted\n"


@on(*OF_ROOT)
def test_device(engine):
    script = "stat -c %t:%T /dev/given && echo x > /dev/given"
    assert engine.run("--device=/dev/null:/dev/given:rw", IMAGE, "sh", "-c", script).ok().out == "1:3\n"


@on(*OF_ROOT)
def test_device_rules(engine):
    """Device rules are enforced: only the standard devices can be opened, although any node can be created."""
    script = "mknod /tmp/mem c 1 1 && cat /tmp/mem; mknod /tmp/null c 1 3 && echo x > /tmp/null && echo written"
    result = engine.run("--cap-add=mknod", IMAGE, "sh", "-c", script).ok()
    assert "Operation not permitted" in result.err and result.out == "written\n"


@everywhere
def test_standard_devices(engine):
    script = "for d in null zero full random urandom tty; do test -c /dev/$d || echo no $d; done; stat -c %t:%T /dev/full"
    script += "; readlink /dev/fd; readlink /dev/ptmx; head -c 2 /dev/zero | wc -c; echo x > /dev/null && echo written"
    assert engine.run(IMAGE, "sh", "-c", script).ok().out.split() == ["1:7", "/proc/self/fd", "pts/ptmx", "2", "written"]


@everywhere
def test_tty(engine):
    result = engine.run("--tty", IMAGE, "sh", "-c", "tty; test -t 1 && test -t 2 && test -c /dev/console && stat -c %u,%t /dev/pts/0").ok()
    assert result.out.split() == ["/dev/pts/0", "0,88"]


@on(*OF_ROOT)
def test_interactive_tty(engine):
    result = engine.on_terminal("run", "--rm", "-it", *engine.create_options("none"), IMAGE, "sh", "-c", "tty; exit 5")
    assert result.status == 5 and "/dev/pts/0" in result.out, result


@everywhere
def test_standard_input(engine):
    assert engine.run("--interactive", IMAGE, "cat", stdin="through a pipe\n").ok().out == "through a pipe\n"


@everywhere
def test_no_descriptors_leak(engine):
    assert engine.run(IMAGE, "ls", "/proc/self/fd").ok().out.split() == ["0", "1", "2", "3"], "3 is the directory that is being read"


@everywhere
def test_network_none(engine):
    out = engine.run(IMAGE, "sh", "-c", "ls /sys/class/net; ip link show lo").ok().out
    assert "lo" in out.split("\n")[:4] and "eth0" not in out


@on("podman", "rootless", "docker")
def test_network_host(engine, world):
    inside = engine.run(IMAGE, "readlink", "/proc/self/ns/net", network="host").ok().out
    assert inside == world.run(["readlink", "/proc/self/ns/net"]).out


@on(*OF_ROOT)
def test_host_namespaces(engine, world):
    script = "for name in pid ipc uts net cgroup; do readlink /proc/self/ns/$name; done"
    words = ("--pid=host", "--ipc=host", "--uts=host", "--cgroupns=host")
    inside = engine.run(*words, IMAGE, "sh", "-c", script, network="host").ok().out
    assert inside == world.run(["sh", "-c", script]).out and inside.count("\n") == 5


@everywhere
def test_sysctl(engine):
    assert engine.run("--sysctl=net.ipv4.ip_default_ttl=77", IMAGE, "cat", "/proc/sys/net/ipv4/ip_default_ttl").ok().out == "77\n"


@on("podman", "docker", "remapped")
def test_memory_limit(engine):
    script = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
    assert engine.run("--memory=64m", IMAGE, "sh", "-c", script).ok().out == f"{64 << 20}\n"


@on(*OF_ROOT)
def test_limits(engine):
    script = "cd /sys/fs/cgroup; cat pids/pids.max cpu/cpu.cfs_quota_us cpuset/cpuset.cpus 2>/dev/null || cat pids.max cpu.max cpuset.cpus"
    out = engine.run("--pids-limit=40", "--cpus=0.5", "--cpuset-cpus=0", IMAGE, "sh", "-c", script).ok().out.split()
    assert out[0] == "40" and out[1] == "50000" and out[-1] == "0"


@on(*OF_ROOT)
def test_garbage_binary(engine):
    result = engine.run(IMAGE, "/bin/garbage")
    assert result.status in engine.garbage and "exec format error" in result.text.lower(), result
