"""Code, files and annotations of the image, and programs of the host: which of them are used, and with which environment."""

import json
import os
import stat
import subprocess

import pytest

import harness
import hoststate
from advisory_tools import ordinary_user

pytestmark = pytest.mark.kernel

# What a program of the host would load by name if it were inside the image: libraries, settings, parts of interpreters.
LOADED = [
    *("etc/ld.so.preload", "etc/ld.so.cache", "etc/nsswitch.conf", "etc/host.conf", "etc/localtime", "etc/locale.alias", "etc/gai.conf"),
    *(
        "lib/x86_64-linux-gnu/libnss_files.so.2",
        "lib/x86_64-linux-gnu/libc.so.6",
        "lib/libnss_files.so.2",
        "lib/libc.so.6",
        "lib64/libc.so.6",
    ),
    *("usr/lib/locale/locale-archive", "usr/lib/python3/dist-packages/json.py", "usr/share/zoneinfo/UTC", "bin/modprobe.conf"),
    *(
        "usr/lib/python3.%d/%s.py" % (v, m)
        for v in (11, 13)
        for m in ("encodings/__init__", "encodings/idna", "traceback", "linecache", "pwd")
    ),
]


class Opened:
    """inotify on files: which of them have been opened since."""

    def __init__(self, paths):
        import ctypes

        self.libc = ctypes.CDLL(None, use_errno=True)
        self.fd = self.libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self.names = {self.libc.inotify_add_watch(self.fd, os.fsencode(path), 0x20): str(path) for path in paths}  # IN_OPEN

    def since(self):
        try:
            data = os.read(self.fd, 1 << 16)
        except BlockingIOError:
            return set()
        return {self.names[int.from_bytes(data[i : i + 4], "little")] for i in range(0, len(data), 16)}

    def close(self):
        os.close(self.fd)


@pytest.fixture
def planted(make_bundle):
    bundle = make_bundle(args=harness.WAIT_FOR_TERM)
    for name in LOADED:
        path = bundle.rootfs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    watch = Opened([bundle.rootfs / name for name in LOADED])
    yield bundle, watch
    watch.close()


def test_cve_2019_14271_nothing_of_the_image_is_loaded(runtime, planted, harmless):
    """create, start, exec as users that are and are not in passwd, and a failure whose report might need a source file."""
    bundle, watch = planted
    live = runtime.started(bundle)
    for words in (["/bin/true"], ["/nosuch"]):
        for user in ("0", "1000:1000", "4242:4242"):
            runtime.call("exec", "--user", user, live, *words)
        harmless.exec(live)
    runtime.stopped(live)
    runtime.delete(live)
    assert watch.since() == set()


def test_cve_2018_15664_failures_load_nothing_of_the_image(runtime, planted, harmless):
    bundle, watch = planted
    harmless(bundle, {"/process/args": ["/bin/true"], "/process/cwd": "/etc", "/linux/sysctl": {"kernel.shmmax": "7654321"}})
    for changes in ({"/process/args": ["/nosuch"]}, {"/process/cwd": "/etc/passwd"}, {"/linux/sysctl": {"kernel.shmmax": "x"}}):
        result = runtime.run(bundle.write(harness.patch(bundle.config, changes)))
        assert result.code != 0
    assert watch.since() == set()


# ---- hooks


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer", "poststart", "poststop"])
def test_cve_2025_23266_hooks_have_nothing_of_the_image_s_environment(runtime, make_bundle, scratch, kind):
    """Not even if the hook has no environment."""
    image = {"LD_PRELOAD": "./evil.so", "LD_LIBRARY_PATH": ".", "PYTHONPATH": "/evil", "BASH_ENV": "/evil", "IMAGE": "evil"}
    report = scratch / ("hook-" + kind)
    script = "tr '\\0' '\\n' </proc/self/environ >%s; echo end >>%s" % (report, report)
    bundle = make_bundle({
        "/process/env": ["PATH=/bin", *("%s=%s" % pair for pair in image.items())],
        "/hooks": {kind: [{"path": "/bin/sh", "args": ["sh", "-c", script]}]},
    })  # fmt: skip
    result = runtime.run(bundle)
    if not report.exists() and runtime.name == "crun" and kind == "createContainer":
        pytest.skip("crun runs it where it can't write the file of the test")
    seen = report.read_text()
    assert seen.endswith("end\n"), result
    assert "evil" not in seen, seen


PROGRAMS = "newuidmap newgidmap criu modprobe python3 sh ip mount umount systemctl passt runc crun dbus-launch iptables ldconfig".split()


def plant(folder, marker):
    """Programs with names that a runtime might look for, which leave a mark when they are executed."""
    for name in PROGRAMS:
        path = folder / name
        path.unlink(missing_ok=True)
        path.write_text("#!/bin/busybox sh\necho %s >>%s\n" % (name, marker))
        path.chmod(0o755)


@pytest.mark.parametrize("first", [".", ""])
def test_cve_2026_84042_programs_are_not_looked_for_here(runtime, make_bundle, scratch, harmless, first):
    """In the working directory, the bundle or the image, with a PATH that begins with the working directory."""
    marker = scratch / "executed"
    marker.unlink(missing_ok=True)
    marker.write_text("")
    maps = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    userns = {"/linux/namespaces/-": {"type": "user"}, "/linux/uidMappings": maps, "/linux/gidMappings": maps}
    for changes in ({}, userns):
        bundle = make_bundle(changes, args=harness.WAIT_FOR_TERM)
        plant(bundle.path, marker)
        plant(bundle.rootfs / "sbin", "/executed")
        env = {"PATH": "%s:/usr/sbin:/usr/bin:/sbin:/bin" % first}
        id = runtime.new_id()
        runtime.ok("create", "--bundle", bundle, id, cwd=bundle.path, env=env)
        runtime.ok("start", id, cwd=bundle.path, env=env)
        harmless.exec(id, cwd=bundle.path, env=env)
        runtime.call("checkpoint", "--image-path", bundle.path / "image", id, cwd=bundle.path, env=env)
        runtime.call("delete", "--force", id, cwd=bundle.path, env=env)
        assert not (bundle.rootfs / "executed").exists()
    assert marker.read_text() == ""


def test_cve_2026_84042_helpers_for_ids_are_the_host_s(runtime, make_bundle, scratch, harmless):
    """The same for an ordinary user, whose runtime may run newuidmap. The config maps more than one id."""
    user, make = ordinary_user(runtime, make_bundle, scratch)
    marker = scratch / "advisories/executed"
    marker.write_text("")
    marker.chmod(0o666)
    maps = [{"containerID": 0, "hostID": 4321, "size": 1}, {"containerID": 1, "hostID": 700000, "size": 100}]
    bundle = make({"/linux/uidMappings": maps, "/linux/gidMappings": maps})
    one = {"/linux/%sMappings" % kind: maps[:1] for kind in ("uid", "gid")}
    harmless.by(user, make)(bundle, one)
    plant(bundle.path, marker)
    user.call("run", "--bundle", bundle, user.new_id(), cwd=bundle.path, env={**user.env, "PATH": ".:/usr/bin:/bin"})
    user.clean()
    assert marker.read_text() == ""


# ---- files of the image that are read


@pytest.mark.parametrize("kind", ["fifo", "zero", "out", "sparse", "directory", "line"])
@pytest.mark.parametrize("file", ["passwd", "group"])
def test_cve_2024_9676_a_passwd_that_is_no_file(runtime, make_bundle, host, harmless, file, kind):
    """It neither blocks nor is followed out of the root; whether it is refused or not, there is an answer."""
    bundle = make_bundle({"/process/user": {"uid": 1000, "gid": 1000}}, args=["/bin/cat", "/proc/self/environ"])
    harmless(bundle)
    path = bundle.rootfs / "etc" / file
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "zero":
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    elif kind == "out":
        (host / "passwd").write_text("user:x:1000:1000::/out/of/it:/bin/sh\n")
        host.freeze()
        path.symlink_to(host / "passwd")
    elif kind == "sparse":
        with open(path, "wb") as handle:
            handle.truncate(4 << 30)
    elif kind == "line":
        path.write_bytes(b"x" * (32 << 20))
    else:
        path.mkdir()
    result = runtime.run(bundle)
    assert "/out/of/it" not in result.out, result


@pytest.mark.parametrize("form", ["user", "1000"])
@pytest.mark.parametrize("kind", ["fifo", "zero"])
def test_cve_2024_9676_exec_with_a_passwd_that_is_no_file(runtime, make_bundle, harmless, kind, form):
    bundle = make_bundle(args=harness.WAIT_FOR_TERM)
    live = runtime.started(bundle)
    path = bundle.rootfs / "etc/passwd"
    harmless.exec(live, "--user", {"user": "root"}.get(form, form))
    path.unlink()
    os.mkfifo(path) if kind == "fifo" else os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    runtime.call("exec", "--user", form, live, "/bin/true")


HUGE = 256 << 20  # size in bytes of a file in the image, most of it a hole
MEMORY = 160 << 20  # bytes that a process of a runtime may use: without such a file runc uses about 45 MiB, the compiled launcher 25


PEAK = """
import resource, subprocess, sys
null = subprocess.DEVNULL
subprocess.run(sys.argv[1:], stdin=null, stdout=null, stderr=null)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10)
"""


@pytest.mark.parametrize("file", ["passwd", "group"])
@pytest.mark.parametrize("command", ["run", "exec"])
def test_cve_2026_47262_a_large_passwd_is_not_read_as_a_whole(runtime, make_bundle, harmless, file, command):
    """An entry at the beginning is found, and no process needs memory for the whole file."""
    bundle = make_bundle({"/process/user": {"uid": 4242, "gid": 4242}}, args=["/bin/sh", "-c", "echo $HOME"])

    def put(twin):
        path = twin.rootfs / "etc" / file
        path.write_text({"passwd": "someone:x:4242:4242::/at/home:/bin/sh\n", "group": "some:x:4242:someone\n"}[file] + path.read_text())
        return path

    home = harmless(bundle, prepare=put).out.split()[0]
    assert file == "group" or home == "/at/home"
    bundle.patch({"/process/args": harness.WAIT_FOR_TERM} if command == "exec" else {})
    path = put(bundle)
    words = ["run", "--bundle", bundle, runtime.new_id()]
    if command == "exec":
        live = runtime.started(bundle)
        words = ["exec", "--user", "4242:4242", live, "/bin/true"]
    os.truncate(path, HUGE)
    # a small process starts it, because the peak of a child includes the memory of the process that forked it
    argv = ["/usr/bin/python3", "-I", "-c", PEAK, *map(str, runtime.argv(*words))]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=runtime.env, timeout=harness.WATCHDOG)
    used = int(done.stdout)
    assert used < MEMORY, "%d MiB" % (used >> 20)


# ---- annotations


def test_cve_2024_3154_annotations_set_no_unit_properties(runtime, make_bundle, host, harmless):
    """They come from pods and images, and would make systemd execute a command on the host where it creates the cgroups."""
    systemd = os.path.isdir("/run/systemd/system")
    created = str(host / "created")
    host.freeze()
    path = {"/linux/cgroupsPath": "system.slice:advisory:" + runtime.token} if systemd else {}
    globals = ["--systemd-cgroup"] if systemd else []
    assert "works" in harmless(make_bundle({"/annotations": {"org.example.harmless": created}})).out
    command = "[('/bin/sh', ['/bin/sh', '-c', 'echo x >%s'], false)]" % created
    for name in ("ExecStartPre", "ExecStart", "ExecStopPost"):
        bundle = make_bundle({"/annotations": {"org.systemd.property." + name: command}, **path})
        runtime.call("run", "--bundle", bundle, runtime.new_id(), globals=globals)
        assert not os.path.exists(created), name


def test_cve_2026_53488_annotations_are_text(runtime, make_bundle, host, harmless):
    """Labels of an image become annotations; none of them may name a file to write, a command to execute or a device to add."""
    created = str(host / "created")
    (host / "command").write_text("#!/bin/sh\necho executed >%s\n" % created)
    (host / "command").chmod(0o755)
    host.freeze()
    names = [
        *(
            "run.oci.hooks.stdout",
            "run.oci.hooks.stderr",
            "run.oci.handler",
            "run.oci.seccomp.receiver",
            "org.criu.config",
            "run.oci.delegate-cgroup",
        ),
        *(
            "io.kubernetes.cri-o.LogPath",
            "io.kubernetes.container.logPath",
            "org.systemd.property.ExecStartPre",
            "io.podman.annotations.seccomp",
        ),
        *("module.wasm.image/variant", "run.oci.systemd.subgroup", "run.oci.log_to_file", "cdi.k8s.io/x", "io.containerd.runc.v2.binary"),
    ]
    hooks = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo x; echo y >&2"]}]}
    harmless(make_bundle({"/annotations": {"org.example.harmless": created}, "/hooks": hooks}))
    for name in names:
        value = created if "LogPath" in name or "stdout" in name or "stderr" in name else str(host / "command")
        runtime.run(make_bundle({"/annotations": {name: value}, "/hooks": hooks}))
        assert not os.path.exists(created), name


# ---- other users and processes of the host


def abstract():
    with open("/proc/net/unix") as file:
        return {line.split()[-1] for line in file if " @" in line}


def test_cve_2020_15257_no_abstract_socket(runtime, waiting):
    with hoststate.alone_on_the_host("criu"):  # criu binds abstract sockets
        before = abstract()
        live = runtime.create(waiting)
        assert abstract() <= before
        runtime.start(live)
        assert runtime.status(live) == "running"
        assert abstract() <= before


def test_cve_2021_41103_others_can_not_enter_the_state(runtime, waiting, scratch):
    """They can neither list nor open anything in a container's directory, even if it was created with a umask of 0."""
    own = scratch / ("open-%s" % runtime.token)
    runtime.root = str(own)
    id = runtime.create(waiting, umask=0)
    names = [os.path.join(top, name) for top, dirs, files in os.walk(own) for name in [*dirs, *files]]
    assert names
    script = "import os,sys,json\nfound=[]\nfor p in json.load(sys.stdin):\n for f in (os.O_RDONLY,os.O_WRONLY|os.O_APPEND,os.O_PATH):\n  try: os.open(p,f|os.O_NONBLOCK); found.append(p)\n  except OSError: pass\nprint(*sorted(set(found)))"
    below = [name for name in names if os.path.dirname(name) != str(own) and id in name]
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-c", script],
        input=json.dumps(below),
        capture_output=True,
        text=True,
        user=65534,
        group=65534,
        extra_groups=[],
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done
    runtime.call("delete", "--force", id)


@pytest.mark.parametrize("pidns", [True, False], ids=["", "host's pids"])
@pytest.mark.parametrize(
    "words", [["kill", "ID", "KILL"], ["kill", "--all", "ID", "KILL"], ["delete", "--force", "ID"]], ids=lambda w: w[0] + w[1][:5]
)
def test_cve_2026_97029_signals_stay_in_the_container(runtime, make_bundle, pidns, words):
    """Another process of the caller is in the same process group and session as the runtime that created the container."""
    namespaces = [n for n in harness.BASE["linux"]["namespaces"] if pidns or n["type"] != "pid"]
    bundle = make_bundle({"/linux/namespaces": namespaces}, args=harness.WAIT_FOR_TERM)
    other = subprocess.Popen(["/bin/sleep", "1000"], process_group=0)
    try:
        id = runtime.new_id()
        runtime.ok("create", "--bundle", bundle, id, process_group=other.pid)
        runtime.start(id)
        with harness.Watched(runtime.state(id)["pid"]) as init:
            runtime.call(*[id if word == "ID" else word for word in words], process_group=other.pid)
            if runtime.call("state", id).code == 0:
                runtime.call("kill", id, "KILL")
            init.wait()
        assert other.poll() is None, "the signal reached a process outside"
    finally:
        other.kill()
        other.wait()
