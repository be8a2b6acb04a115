"""Cgroups: devices are denied unless allowed, limits hold, no control file can be written from inside."""

import os
import pathlib

import pytest

import harness
import hoststate
from advisory_tools import mount, ordinary_user

pytestmark = pytest.mark.kernel

OPEN = "for n in %s; do rm -f /node; mknod /node $n && (true </node) 2>/dev/null && echo opened $n; done; true"


def closed():
    """Devices of this machine that no runtime allows by default: kernel messages, memory, disks. As arguments of mknod(1)."""
    found = ["c 1 11", "c 1 1"]
    for name in sorted(os.listdir("/sys/class/block")):
        found.append("b " + pathlib.Path("/sys/class/block", name, "dev").read_text().strip().replace(":", " "))
    return " ".join("'%s'" % words for words in found[:5])


@pytest.mark.parametrize(
    "rules", [harness.ABSENT, [], [{"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]], ids=["absent", "empty", "allow"]
)
def test_ghsa_g54h_m393_cpwq_devices_are_denied(runtime, make_bundle, harmless, rules):
    """No rules, an empty list, or a list that only allows: disks and memory stay inaccessible."""
    changes = {
        "/process/capabilities": {k: ["CAP_MKNOD", "CAP_SYS_RAWIO", "CAP_DAC_OVERRIDE"] for k in ("bounding", "effective", "permitted")}
    }
    if rules is not harness.ABSENT:
        changes["/linux/resources"] = {"devices": rules}
    bundle = make_bundle(changes, args=["/bin/sh", "-c", OPEN % closed()])
    assert "opened c 1 5\n" in harmless(bundle, {"/process/args/2": OPEN % "'c 1 5'"}).out
    result = runtime.run(bundle)
    assert result.code == 0 and "opened" not in result.out, result


def test_ghsa_g54h_m393_cpwq_the_list_does_not_allow_all(runtime, make_bundle):
    if not os.path.isdir("/sys/fs/cgroup/devices"):
        pytest.skip("this machine has no cgroup version 1 with devices")
    bundle = make_bundle(args=harness.WAIT_FOR_TERM)
    runtime.started(bundle)
    found = [path for path in hoststate.cgroups(os.path.basename(bundle.config["linux"]["cgroupsPath"])) if "/devices/" in path]
    assert found
    for path in found:
        assert "a *:* rwm" not in pathlib.Path(path, "devices.list").read_text()


SYS = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
TOUCH = """
mount | while read name on point type kind flags; do
    case $kind in cgroup|cgroup2) echo "$kind $flags"; mkdir $point/made 2>/dev/null && echo made $point;; esac
done; true
"""


@pytest.mark.parametrize("cgroupns", [False, True], ids=["", "cgroupns"])
@pytest.mark.parametrize("rootless", [False, True], ids=["root", "rootless"])
def test_cve_2023_25809_cgroups_are_read_only(runtime, make_bundle, scratch, harmless, cgroupns, rootless):
    changes = {"/mounts/-": SYS}
    namespaces = [*harness.BASE["linux"]["namespaces"], *([{"type": "cgroup"}] if cgroupns else [])]
    if rootless:
        runtime, make_bundle = ordinary_user(runtime, make_bundle, scratch)
        namespaces.append({"type": "user"})
        harmless = harmless.by(runtime, make_bundle)
    bundle = make_bundle({**changes, "/linux/namespaces": namespaces}, args=["/bin/sh", "-c", TOUCH])
    harmless(bundle, {"/mounts/%d" % len(harness.BASE["mounts"]): harness.ABSENT})
    result = runtime.run(bundle)
    runtime.clean()
    assert "made" not in result.out, result
    assert result.code != 0 or all("(ro," in line for line in result.out.splitlines()), result


def test_cve_2023_25809_the_host_s_sys_bound_into_it(runtime, make_bundle, scratch, harmless):
    user, make = ordinary_user(runtime, make_bundle, scratch)
    bundle = make({"/mounts/4": mount("/sys", "none", "/sys", "rbind", "ro", "nosuid", "nodev", "noexec")}, args=["/bin/sh", "-c", TOUCH])
    harmless.by(user, make)(bundle, {"/mounts/4": harness.BASE["mounts"][4]})
    result = user.run(bundle)
    user.clean()
    assert "made" not in result.out, result


def from_spec(runtime, make_bundle, script):
    """The config that `spec` writes, with our own program."""
    bundle = make_bundle()
    (bundle.path / "config.json").unlink()
    runtime.ok("spec", "--bundle", bundle, cwd=bundle.path) if runtime.name != "crun" else runtime.ok("spec", cwd=bundle.path)
    config = harness.json.loads((bundle.path / "config.json").read_text())
    config["process"].update(terminal=False, args=["/bin/sh", "-c", script])
    config["linux"]["cgroupsPath"] = "%s-spec%d" % (runtime.cgroup, os.getpid())
    return bundle.write(config)


MOUNTS = """
for f in $(find /sys/fs/cgroup -name release_agent 2>/dev/null); do (echo /x >$f) 2>/dev/null && echo written $f; done
mkdir /tmp/m; for t in cgroup cgroup2 tmpfs; do mount -t $t none /tmp/m 2>/dev/null && echo mounted $t; done
unshare -m true 2>/dev/null && echo unshared
grep ^CapEff /proc/self/status; true
"""


def test_cve_2022_0492_the_template_gives_no_way_to_release_agent(runtime, make_bundle):
    bundle = from_spec(runtime, make_bundle, MOUNTS)
    bundle.patch({"/root/readonly": False})
    result = runtime.run(bundle)
    assert result.code == 0, result
    assert not {"written", "mounted", "unshared"} & set(result.out.split()), result
    assert not int(result.out.split()[-1], 16) & 1 << 21, "CAP_SYS_ADMIN"


def test_cve_2025_47291_the_container_is_in_its_cgroup(runtime, make_bundle):
    """In each hierarchy, before the program runs; and the limits are in the files."""
    limits = {"/linux/resources": {"pids": {"limit": 77}, "memory": {"limit": 64 << 20}, "cpu": {"shares": 333}}}
    bundle = make_bundle(limits, args=harness.WAIT_FOR_TERM)
    wanted = bundle.config["linux"]["cgroupsPath"]
    id = runtime.create(bundle)
    for turn in ("created", "running"):
        lines = pathlib.Path("/proc/%d/cgroup" % runtime.state(id)["pid"]).read_text().splitlines()
        for line in lines:
            _, controllers, path = line.split(":", 2)
            if set(controllers.split(",")) & {"pids", "memory", "cpu", "devices", "freezer", "cpuset", "blkio"} or len(lines) == 1:
                assert path.startswith(wanted), (turn, line)
        if turn == "created":
            runtime.start(id)
    name = os.path.basename(wanted)
    values = {}
    for folder in hoststate.cgroups(name):
        for file in ("pids.max", "memory.limit_in_bytes", "memory.max", "cpu.shares"):
            path = pathlib.Path(folder, file)  # type: ignore[assignment]
            if path.exists():  # type: ignore[attr-defined]
                values[file] = path.read_text().strip()  # type: ignore[attr-defined]
    assert values.get("pids.max") == "77" and str(64 << 20) in values.values(), values
