"""The compiled launcher alone in a root without Python and libraries: everything that engines use works. libseccomp, which is linked into it,
creates the same filters as pyseccomp."""

import json
import os
import shutil
import subprocess

import pytest

import harness
from pyrunc.parts.seccomp import cache

BUSYBOX = "/bin/busybox"

# Enters a root that is a separate mount, as pivot_root(2) requires; proc, sys and dev are those of the host.
ENTER = r"""
set -e
mount --bind "$1" "$1"
for dir in proc sys dev; do mount --rbind "/$dir" "$1/$dir"; done
mount -t tmpfs tmpfs "$1/run"
cd "$1"
/bin/busybox pivot_root . old
/bin/busybox umount -l /old
shift
exec "$@"
"""


def is_linked_in(program):
    return b"pyrunc.linux._libseccomp" in program.read_bytes()


@pytest.fixture(scope="module")
def static(static_launcher):
    if not is_linked_in(static_launcher):
        pytest.skip("the compiled launcher is built without libseccomp here (libseccomp-dev)")
    return static_launcher


@pytest.fixture
def alone(static, scratch):
    """alone(*words) → the finished process of a command in a root that only has busybox and the launcher."""
    root = scratch / "alone"
    for name in ("bin", "proc", "sys", "dev", "run", "old", "tmp", "etc", "usr/bin"):
        (root / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    (root / "bin/sh").symlink_to("busybox")
    shutil.copy(static, root / "usr/bin/pyrunc")

    def call(*words, bundle=None):
        if bundle is not None:
            shutil.rmtree(root / "tmp/bundle", ignore_errors=True)
            shutil.copytree(bundle, root / "tmp/bundle", symlinks=True)
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, "sh", root, *words]
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        return subprocess.run(argv, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=harness.WATCHDOG)

    call.root = root  # type: ignore[attr-defined]
    yield call
    shutil.rmtree(root)


def ok(done):
    assert done.returncode == 0 and done.stderr == "", done
    return done.stdout


@pytest.mark.kernel
def test_a_container_with_a_filter(alone, make_bundle):
    """The profile that Docker uses for every container."""
    with open(harness.ROOT / "bundles/seccomp-docker/config.json") as file:
        profile = json.load(file)["linux"]["seccomp"]
    bundle = make_bundle({"/linux/seccomp": profile}, args=["/bin/grep", "Seccomp:", "/proc/self/status"])
    assert ok(alone("pyrunc", "run", "--bundle", "/tmp/bundle", "one", bundle=bundle)) == "Seccomp:\t2\n"


@pytest.mark.kernel
def test_commands_with_a_helper(alone, make_bundle):
    assert '"/usr/bin/pyrunc"' in ok(alone("pyrunc", "install", "--docker", "--podman", "--containerd"))
    assert json.loads((alone.root / "etc/docker/daemon.json").read_text())["runtimes"] == {"pyrunc": {"path": "/usr/bin/pyrunc"}}
    ok(alone("pyrunc", "install", "--docker", "--podman", "--containerd", "--uninstall"))
    assert not (alone.root / "etc/docker/daemon.json").exists()
    bundle = make_bundle(args=harness.WAIT_FOR_TERM)
    script = (
        "pyrunc create --bundle /tmp/bundle a12; for x in '^b' '^a[0-9]$' '^a[0-9]+$'; do pyrunc delete -f --regex $x; pyrunc list -q; done"
    )
    assert ok(alone("sh", "-c", script, bundle=bundle)) == "a12\na12\n"
    refused = alone("pyrunc", "delete", "--regex", "(")
    assert refused.returncode == 1 and "invalid regular expression" in refused.stderr


@pytest.mark.kernel
def test_commands_that_show_something(alone, make_bundle):
    bundle = make_bundle({"/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}})
    assert ok(alone("pyrunc", "seccomp", "--bundle", "/tmp/bundle", "mkdirat", bundle=bundle)).startswith("mkdirat(")
    assert ok(alone("pyrunc", "validate", "/tmp/bundle")).endswith("config.json: no problems, 1 warning\n")
    bad = alone("pyrunc", "validate", "/tmp/bundle", bundle=make_bundle({"/process/cwd": 3}))
    assert bad.returncode == 1 and "cwd must be a string, found 3" in bad.stdout and "jsonschema" not in bad.stdout
    assert "ociVersion" in ok(alone("pyrunc", "spec", "--profile", "hardened", "--file", "-"))
    assert json.loads(ok(alone("pyrunc", "features")))["annotations"]["io.github.seccomp.libseccomp.version"]
    asked = alone("pyrunc", "validate", "--schema-only", "/tmp/bundle")
    assert asked.returncode == 1 and asked.stderr.count("\n") == 1, "--schema-only requires jsonschema"


# --- the same filters


def profiles():
    """{name: profile}: profiles that engines send, and some that libseccomp refuses."""
    found = {}
    for path in sorted((harness.ROOT / "tests/fixtures/captured").glob("*.json")):
        profile = json.loads(path.read_text()).get("linux", {}).get("seccomp")
        if profile and profile not in found.values():
            found[path.stem] = profile
    kill = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4095, "syscalls": [{"names": ["no_such"], "action": "SCMP_ACT_ALLOW"}]}
    arg = {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}
    found["nothing allowed"] = kill
    rules = [{"names": ["read"], "action": "SCMP_ACT_" + word, "args": [arg]} for word in ("LOG", "TRAP")]
    found["two actions"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    names = ["SCMP_ARCH_S390X", "SCMP_ARCH_X86"]
    found["byte order"] = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": names, "syscalls": []}
    masked = {**arg, "value": 0xF0, "valueTwo": 0x10, "op": "SCMP_CMP_MASKED_EQ"}
    found["arguments"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "syscalls": [{"names": ["clone", "socketcall", "ipc", "open"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4095, "args": [masked]}],
    }
    return found


@pytest.mark.kernel
@pytest.mark.slow
@pytest.mark.parametrize("name", profiles())
def test_the_same_filter(static, plain_launcher, scratch, make_bundle, name):
    """The cache then has the same bytes, or the refusal is the same. The plain launcher uses pyseccomp."""
    if cache.key_of({}) is None:
        pytest.skip("this machine has no libseccomp.so.2")
    bundle = make_bundle({"/linux/seccomp": profiles()[name]}, args=["/bin/true"])
    answers = []
    for number, program in enumerate((static, plain_launcher)):
        root = scratch / ("root%d" % number)
        done = subprocess.run(
            [program, "--root", root, "run", "--bundle", bundle, "same%d-%d" % (number, os.getpid())],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=harness.WATCHDOG,
        )
        kept = [path.read_bytes()[len(cache.MAGIC) + cache.SUM :] for path in root.glob(cache.PREFIX + "*")]
        answers.append((done.returncode, done.stderr, kept))
        shutil.rmtree(root, ignore_errors=True)
    assert answers[0] == answers[1]
    assert len(answers[0][2]) == (answers[0][0] == 0)
