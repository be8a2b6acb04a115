"""The executables of the host and the descriptors of the runtime, as a hostile process in the container sees them through /proc."""

import hashlib
import os
import pathlib
import stat
import subprocess

import pytest

import harness
from advisory_tools import SECRET

pytestmark = pytest.mark.kernel

ROUNDS = 30  # of exec next to a hostile process
PTRACE = ["CAP_SYS_PTRACE", "CAP_KILL", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_SETUID", "CAP_NET_ADMIN", "CAP_MKNOD"]


def host_files(runtime):
    """The runtime, the interpreter, and what they load."""
    paths = {os.path.realpath(runtime.path), os.path.realpath("/usr/bin/python3")}
    for path in list(paths):
        listed = subprocess.run(["ldd", path], capture_output=True, text=True).stdout
        paths |= {os.path.realpath(word) for word in listed.split() if word.startswith("/") and os.path.exists(word)}
    return {path: hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest() for path in sorted(paths)}


@pytest.fixture
def unchanged(runtime):
    before = host_files(runtime)
    yield
    assert host_files(runtime) == before


def own_program(bundle):
    (bundle.rootfs / "link").symlink_to("/proc/self/exe")
    (bundle.rootfs / "script").write_text("#!/proc/self/exe\n")
    (bundle.rootfs / "script").chmod(0o755)
    return bundle


PROGRAMS = ["/proc/self/exe", "/link", "/script"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_cve_2019_5736_program_is_the_runtime(runtime, make_bundle, harmless, unchanged, program):
    bundle = own_program(make_bundle(args=[program]))
    harmless(bundle, {"/process/args": ["/bin/true"]}, own_program)
    runtime.run(bundle)


def watching(runtime, bundle, capabilities, user):
    """The hostile program as init; its output goes to /out in the image."""
    bundle.patch({
        "/process/args": ["/bin/sh", "-c", "exec /bin/prober watch /stop >/out 2>&1"],
        "/process/capabilities": {k: capabilities for k in ("bounding", "effective", "permitted")},
        "/process/user": {"uid": user, "gid": user},
        "/process/env": ["PATH=/bin", "OUTSIDE=%s" % bundle.outside],
        "/linux/namespaces": [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount")],
    })  # fmt: skip
    harness.fifo(bundle.rootfs / "ready")
    return runtime.started(bundle)


def findings(runtime, bundle, id):
    with harness.Watched(runtime.state(id)["pid"]) as init:
        (bundle.rootfs / "stop").write_text("")
        init.wait()
    lines = (bundle.rootfs / "out").read_text().splitlines()
    assert lines[0] == "WATCHING" and lines[-1] == "END", lines[-5:]
    return sorted(set(line.rpartition(" of ")[0] or line for line in lines[1:-1]))


@pytest.mark.parametrize("program", ["/bin/true", *PROGRAMS])
@pytest.mark.parametrize("capabilities", [[], PTRACE], ids=["", "ptrace"])
def test_cve_2019_5736_nothing_to_write_to_during_exec(runtime, make_bundle, prober, host, harmless, unchanged, capabilities, program):
    """Each executable that is visible in /proc is opened for writing, immediately and again when its process is gone."""
    bundle = prober(own_program(make_bundle()))
    bundle.outside = host.victim
    id = watching(runtime, bundle, capabilities, 0)
    harmless.exec(id)
    for _ in range(ROUNDS // 3):
        runtime.call("exec", id, program)
    assert [found for found in findings(runtime, bundle, id) if "exe" in found] == []


@pytest.mark.parametrize("capabilities", [[], PTRACE], ids=["", "ptrace"])
@pytest.mark.parametrize("user", [0, 1000])
def test_cve_2016_9962_nothing_leads_out_during_exec(runtime, make_bundle, prober, host, harmless, capabilities, user):
    """The root, directory, descriptors and environment of the joining process, and ptrace."""
    if user and capabilities:
        pytest.skip("capabilities of an ordinary user would have to be ambient; the case with root covers them")
    bundle = prober(make_bundle())
    bundle.outside = host.victim
    bundle.rootfs.chmod(0o777)
    host.victim.chmod(0o644)
    host.freeze()
    id = watching(runtime, bundle, capabilities, user)
    harmless.exec(id)
    for _ in range(ROUNDS):
        runtime.call("exec", id, "/bin/true", env={**runtime.env, "HOSTSECRET": "1"})
    assert findings(runtime, bundle, id) == []


@pytest.mark.parametrize("capabilities", [[], PTRACE], ids=["", "ptrace"])
def test_cve_2016_9962_nothing_leads_out_of_a_container_that_joins_the_pids(runtime, make_bundle, prober, host, harmless, capabilities):
    """A container is created in the pid namespace of a hostile one, as in a pod that shares its processes."""
    bundle = prober(make_bundle())
    bundle.outside = host.victim
    bundle.rootfs.chmod(0o777)
    host.victim.chmod(0o644)
    host.freeze()
    id = watching(runtime, bundle, capabilities, 0)
    spaces = [{"type": kind} for kind in ("network", "ipc", "uts", "mount")]
    neighbour = make_bundle({"/linux/namespaces": [{"type": "pid", "path": "/proc/%d/ns/pid" % runtime.state(id)["pid"]}, *spaces]})
    tried = harmless(
        neighbour, {"/process/args": ["/bin/sh", "-c", "echo /proc/[0-9]*"]}
    )  # it opens no files, because those would be findings
    assert len(tried.out.split()) > 1, "it sees the processes of the shared namespace"
    for _ in range(ROUNDS):
        runtime.run(neighbour, env={**runtime.env, "HOSTSECRET": "1"})
    assert findings(runtime, bundle, id) == []


# ---- CVE-2024-21626

UP = "../../../../../../../../../.."


@pytest.mark.parametrize("form", ["/proc/self/fd/%d", "/dev/fd/%d", "/link%d", "/proc/thread-self/fd/%d"])
def test_cve_2024_21626_cwd_is_a_descriptor(runtime, make_bundle, host, harmless, form):
    bundle = make_bundle(args=["/bin/cat", UP + str(host.victim)])
    harmless(bundle, {"/process/args": ["/bin/cat", "passwd"], "/process/cwd": "/etc"})
    for number in range(3, 16):
        if form == "/link%d":
            (bundle.rootfs / (form % number)[1:]).symlink_to("/proc/self/fd/%d" % number)
        bundle.patch({"/process/cwd": form % number})
        assert SECRET not in runtime.run(bundle).out, number


def test_cve_2024_21626_program_is_a_descriptor(runtime, make_bundle, host, harmless):
    """The path of the program leads through a descriptor of the host."""
    (host / "program").write_text("#!/bin/sh\necho %s\n" % SECRET)
    (host / "program").chmod(0o755)
    host.freeze()
    bundle = make_bundle()
    harmless(bundle)
    for number in range(3, 16):
        bundle.patch({"/process/args": ["/proc/self/fd/%d/%s%s/program" % (number, UP, host)]})
        result = runtime.run(bundle)
        assert result.code != 0 and SECRET not in result.out, number


def test_cve_2024_21626_exec_cwd_is_a_descriptor(runtime, waiting, host, harmless):
    live = runtime.started(waiting)
    assert harmless.exec(live, "--cwd", "/tmp", args=["/bin/pwd"]) == "/tmp\n"
    for number in range(3, 16):
        assert SECRET not in runtime.call("exec", "--cwd", "/proc/self/fd/%d" % number, live, "/bin/cat", UP + str(host.victim)).out, number


def test_cve_2024_21626_descriptors_of_a_created_init(runtime, waiting):
    """No directory or file of the host: while a created container waits, it has pipes, sockets and anonymous files."""
    id = runtime.create(waiting)
    folder = "/proc/%d/fd" % runtime.state(id)["pid"]
    led = {}
    for name in sorted(os.listdir(folder), key=int):
        info = os.stat("%s/%s" % (folder, name))
        target = os.readlink("%s/%s" % (folder, name))
        if stat.S_ISDIR(info.st_mode) or stat.S_ISREG(info.st_mode) and info.st_nlink and not target.startswith("/memfd:"):
            led[int(name)] = target
    assert led == {}


def test_cve_2024_21626_descriptors_of_the_caller_do_not_come_along(runtime, make_bundle, host, harmless):
    bundle = make_bundle(args=["/bin/sh", "-c", "ls -l /proc/self/fd"])
    assert " -> " in harmless(bundle).out
    opened = os.open(host.directory, os.O_RDONLY)
    try:
        result = runtime.run(bundle, close_fds=False, pass_fds=[opened])
    finally:
        os.close(opened)
    assert result.code == 0 and str(host) not in result.out, result
