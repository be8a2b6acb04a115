"""Each example in bundles/ does what its about.txt says, according to its output and as seen from the host."""

import json
import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import time

import pytest

import harness
import hoststate
import make_rootfs
import pyrunc as api

# name: (the last line that its program prints before it waits, other patterns that its output must contain)
SAYS = {
    "hello": (r"waiting for TERM", (r"hello from hello, I am pid 1 of user 0",)),
    "cgroup-limits": (r"pids\.max 32\b", (r" 67108864\b", r" 50000\b")),
    "readonly-hardened": (
        r"/tmp is writable",
        (r"uid=1000", r"CapEff:\s+0000000000000000", r"NoNewPrivs:\s+1", r"Seccomp:\s+2", r"root is read-only"),
    ),
    "webserver-loopback": (r"served from inside", ()),
    "gpu-like": (r"libgpu-like\.so\.1", (r"c?rw-rw----.* 44 .*10, 229 .*gpu0", r"gpu0 opens", r"gpu1 is refused", r'"name": "gpu0"')),
    "systemd": (r"init is pid 1; container=oci", ()),
}
# tested with the feature that they show; test_lifecycle.py runs all of them through their whole life
ELSEWHERE = {
    "everything",
    "minimal",
    "hooks",
    "seccomp-docker",
    "podman-like",
    "kubernetes-like",
    "userns",
    "joined-namespaces",
    "tmpcopyup",
}
HERE = {"rootless", "idmapped", "terminal"}


@pytest.fixture
def rt(pyrunc):
    with api.Runtime(pyrunc.path, root=pyrunc.root) as found:
        yield found


def said(container, fd, until):
    """The output of a started container in a pipe, up to a line that matches."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    data = b""
    end = time.monotonic() + harness.WATCHDOG
    while not re.search(until, data.decode("utf-8", "replace")):
        assert poll.poll(max(0, end - time.monotonic()) * 1000), "%s only wrote %r" % (container, data)
        part = os.read(fd, 65536)
        assert part, "%s ended after %r" % (container, data)
        data += part
    return data.decode("utf-8", "replace")


def started(rt, bundle, id):
    """(container, descriptor of its output)"""
    read_end, write_end = os.pipe()
    try:
        container = rt.create(bundle, id, stdout=write_end, stderr=write_end)
    finally:
        os.close(write_end)
    return container.start(), read_end


def test_every_bundle_has_its_line():
    listed = re.findall(r"^\| \[([\w-]+)\]\(\1/config\.json\) \| .+ \|$", (harness.ROOT / "bundles/README.md").read_text(), re.M)
    assert sorted(listed) == make_rootfs.bundles()


def test_every_bundle_is_tested():
    assert set(SAYS) | ELSEWHERE | HERE == set(make_rootfs.bundles())
    lives = (harness.ROOT / "tests/cli/test_lifecycle.py").read_text()
    assert [name for name in ELSEWHERE if '"%s"' % name not in lives] == []


@pytest.mark.kernel
@pytest.mark.parametrize("name", sorted(SAYS))
def test_it_prints_what_about_txt_says(rt, pyrunc, make_bundle, name, no_leaks):
    if name == "gpu-like":
        known = pathlib.Path("/proc/misc").read_text().split()
        if "fuse" not in known or "loop-control" not in known:
            pytest.skip("this kernel has no fuse or no loop devices")
    bundle = make_bundle.example(name)
    container, fd = started(rt, bundle, pyrunc.new_id())
    try:
        with container:
            last, others = SAYS[name]
            text = said(container, fd, last)
            assert [pattern for pattern in others if not re.search(pattern, text)] == [], text
            if name == "cgroup-limits":
                assert container.stats().memory_limit_bytes == 64 << 20
    finally:
        os.close(fd)


@pytest.mark.kernel
@pytest.mark.parametrize("name", sorted(set(SAYS) | ELSEWHERE | HERE))
def test_it_is_valid(rt, make_bundle, name):
    """create would accept it, and it can be planned. (A rootless bundle belongs to another user: it contains ids of that host.)"""
    bundle = make_bundle.example(name)
    assert [problem for problem in rt.validate(bundle) if not problem.is_warning] == []
    assert rt.plan(bundle)["steps"]


@pytest.mark.kernel
def test_idmapped(rt, pyrunc, make_bundle):
    bundle = make_bundle.example("idmapped")
    if not hoststate.has_id_maps(bundle.path):
        pytest.skip("the file system of TMPDIR has no id-mapped mounts")
    container, fd = started(rt, bundle, pyrunc.new_id())
    try:
        with container:
            done = container.exec(["/bin/stat", "-c", "%u", "/mapped", "/plain"])
            assert done.text.split() == ["0", "65534"]
    finally:
        os.close(fd)


@pytest.mark.kernel
def test_terminal(pyrunc, make_bundle):
    """On a terminal: it has the size from the config, and a shell that answers."""
    bundle = make_bundle.example("terminal")
    argv = pyrunc.argv("run", "--bundle", bundle, pyrunc.new_id())
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(argv[0], argv, pyrunc.env)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        os.write(fd, b"echo at $((40 + 2)) $(tty); exit 5\n")
        data = b""
        while b"at 42 /dev/" not in data:
            assert poll.poll(harness.WATCHDOG * 1000), data
            data += os.read(fd, 65536)
        _pid, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 5
    finally:
        os.close(fd)


@pytest.mark.kernel
def test_rootless(pyrunc, make_bundle, scratch):
    """As uid 1000, with only the bundle."""
    bundle = make_bundle.example("rootless")
    root = scratch / "rootless-example"
    root.mkdir()
    for path in (root, bundle.path, *bundle.path.rglob("*")):
        os.chown(path, 1000, 1000, follow_symlinks=False)
    argv = [pyrunc.path, "--root", root, "run", "--bundle", bundle, pyrunc.new_id()]
    user = {"user": 1000, "group": 1000, "extra_groups": []}
    with harness.Capture() as out:
        config = json.loads((bundle.path / "config.json").read_text())
        config["process"]["args"] = ["/bin/sh", "-c", "id -u; cat /proc/self/uid_map"]
        config["linux"].pop("cgroupsPath")  # the harness has added it for bundles of root
        (bundle.path / "config.json").write_text(json.dumps(config))
        try:
            done = subprocess.run(  # type: ignore[call-overload]
                argv, stdin=subprocess.DEVNULL, stdout=out.file, stderr=out.file, env=pyrunc.env, timeout=harness.WATCHDOG, **user
            )
        except PermissionError:
            pytest.skip("uid 1000 may not execute the runtime in its directory")
        text = out.text()
    if "user.max_user_namespaces" in text or "EPERM" in text and "clone" in text:
        pytest.skip("this machine does not allow users to create user namespaces: " + text)
    assert done.returncode == 0 and text.split()[:3] == ["0", "0", "1000"], text


# ---- roots


def test_make_rootfs(tmp_path):
    """`make rootfs` creates a root with busybox; with BUNDLE, a complete bundle."""
    for words, there in (((), "bin/sh"), (("BUNDLE=hello",), "rootfs/bin/sh")):
        target = tmp_path / ("root%d" % len(words))
        subprocess.run(["make", "-s", "-C", harness.ROOT, "rootfs", "DIR=%s" % target, *words], check=True, capture_output=True)
        assert os.readlink(target / there) == "busybox"
    assert (target / "config.json").is_file()


@pytest.mark.parametrize(
    "words", [["--debian"], ["--bundle", "nonsense", "--debian", "x"], ["--bundle", "hello", "--debian", "x"], ["--list", "x"]]
)
def test_wrong_usage(words, tmp_path):
    done = subprocess.run([harness.ROOT / "bundles/make_rootfs.py", *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr and done.stderr


def test_a_directory_that_is_not_empty_is_left_alone(tmp_path):
    if not shutil.which("mmdebstrap"):
        pytest.skip("no mmdebstrap on this machine")
    (tmp_path / "file").write_text("")
    done = subprocess.run([harness.ROOT / "bundles/make_rootfs.py", "--debian", tmp_path], capture_output=True, text=True)
    assert done.returncode == 1 and "is not empty" in done.stderr and (tmp_path / "file").exists()


@pytest.mark.long
def test_systemd(rt, pyrunc, tmp_path, cgroup, no_leaks):
    """A root of Debian packages made by mmdebstrap, with systemd as pid 1: it starts, runs a service, and stops on SIGRTMIN+3."""
    if not shutil.which("mmdebstrap"):
        pytest.skip("no mmdebstrap on this machine")
    made = subprocess.run(
        [harness.ROOT / "bundles/make_rootfs.py", "--bundle", "systemd", "--debian", tmp_path / "b"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    if made.returncode and re.search("Could not resolve|Unable to connect|Temporary failure|Failed to fetch", made.stderr):
        pytest.skip("no Debian mirror can be reached: " + made.stderr[-200:])
    assert made.returncode == 0, made.stderr
    bundle = api.Bundle(tmp_path / "b").set("/linux/cgroupsPath", cgroup + "-systemd").save()
    assert [problem for problem in rt.validate(bundle) if not problem.is_warning] == []
    with rt.create(bundle, pyrunc.new_id()).start() as container:
        end = time.monotonic() + harness.WATCHDOG
        state = ""
        while state not in ("running", "degraded"):  # systemctl fails until the bus exists, and takes a moment each time
            assert time.monotonic() < end, state
            state = container.exec(["systemctl", "is-system-running", "--wait"], timeout=harness.WATCHDOG).text.strip()
        assert state == "running", container.exec(["systemctl", "--failed", "--no-pager"]).text
        assert container.exec(["systemctl", "is-active", "systemd-journald"]).text.strip() == "active"
        assert container.exec(["cat", "/proc/1/comm"]).text.strip() == "systemd"
        container.kill("RTMIN+3")
        assert container.wait(harness.WATCHDOG).status == 0
