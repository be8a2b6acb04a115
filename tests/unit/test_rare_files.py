"""Files and tables that are written, copied or left out one by one. `make mutants` showed that no other test covers them (docs/testing.md)."""

import errno
import os
import pathlib
import shutil
import subprocess
import types

import pytest

import cgroup_tools
from fakes.hand import Ctx, Run, namespaces, open_files
from pyrunc.cgroup import attach, stats, systemd, v1, v2
from pyrunc.errors import Refusal, StepFailure
from pyrunc.linux import pidfd, probe
from pyrunc.parts import hooks, mounts, scheduling
from pyrunc.parts.mounts import copyup
from pyrunc.parts.resources import limits

# ---- cgroups


@pytest.mark.parametrize(
    ("subs", "below"),
    [
        (["./a//b/."], {"": "a/b"}), (["cpu,memory:/x", "pids:"], {"cpu": "x", "memory": "x", "pids": ""}), (None, {}),
        (["cpu:a:b"], {"cpu:a": "b"}),
    ],
)  # fmt: skip
def test_cgroups_below_the_containers(subs, below):
    assert attach._below(subs) == below


def test_a_cgroup_that_cannot_be_entered_leaves_nothing_open(tmp_path, monkeypatch):
    def opened(path, *_words):
        if path == "/gone":
            raise OSError(errno.EACCES, "refused")
        return os.open(tmp_path, os.O_RDONLY)

    monkeypatch.setattr(attach, "_open", opened)
    before = open_files()
    with pytest.raises(OSError, match="refused"):
        attach.targets({"memory": "/here", "pids": "/gone"}, os.getpid())
    assert open_files() == before


def test_the_parent_passes_on_its_controllers(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(v2, "enable", lambda fd, wanted, path: given.append((fd, list(wanted), path)))
    (tmp_path / "cgroup.type").write_text("domain\n")
    fd = os.open(tmp_path, os.O_RDONLY)
    v2.preparer({"memory": {"limit": 7}})(fd, 99, "/cg/pod/a", True)
    v2.preparer({"pids": {"limit": 7}})(fd, 99, "/cg/pod/a", True)
    os.close(fd)
    assert given == [(99, ["memory"], "/cg/pod"), (99, [], "/cg/pod")]


@pytest.mark.parametrize(("own", "result"), [("", "0-1"), ("1", "1")])
def test_a_new_cpuset_inherits_the_values_of_its_parent(tmp_path, own, result):
    for folder, text in (("parent", "0-1\n"), ("parent/child", own and own + "\n")):
        (tmp_path / folder).mkdir()
        for name in ("cpuset.cpus", "cpuset.mems"):
            (tmp_path / folder / name).write_text(text)
    parent, child = (os.open(tmp_path / name, os.O_RDONLY) for name in ("parent", "parent/child"))
    v1._fill_cpuset(child, parent, str(tmp_path / "parent/child"), True)
    for fd in (parent, child):
        os.close(fd)
    assert {(tmp_path / "parent/child" / name).read_text().strip() for name in ("cpuset.cpus", "cpuset.mems")} == {result}


def test_statistics_of_cpusets_are_in_runcs_order():
    found = stats._cpuset({"cpus": "0-1", "mems": "0", "mem_hardwall": "1", "sched_relax_domain_level": "-1", "memory_pressure": "x"})
    assert list(found) == ["cpus", "cpu_exclusive", "mems", *stats.CPUSET_FLAGS[1:]]
    assert (found["mems"], found["mem_hardwall"], found["sched_relax_domain_level"], found["memory_pressure"]) == ([0], 1, -1, 0)


def test_device_rules_of_version_1_after_all_is_allowed():
    """A denied mknod removes the permission to create any node of that type; the other built-in rules stay."""
    rules = [{"allow": True, "type": "a", "access": "rwm"}, {"allow": False, "type": "c", "major": 10, "minor": 200, "access": "m"}]
    made = [tuple(one) for one in limits.devices({"devices": rules}, cgroup_tools.make_ctx(), 1)]
    assert (True, "c", -1, -1, "m") not in made and (True, "b", -1, -1, "m") in made and (True, "c", 1, 3, "rwm") in made


@pytest.mark.parametrize(
    ("name", "value", "made"),
    [("aSec", 5, ["aUSec", "t", 5000000]), ("RuntimeMaxSec", 0.5, ["RuntimeMaxUSec", "t", 500000]), ("Sec", 5, "as it is"), ("TimeoutUSec", 5, "as it is")],
)  # fmt: skip
def test_seconds_of_a_unit(name, value, made):
    given = systemd._seconds(name, "d" if isinstance(value, float) else "u", value)
    assert given == made if made != "as it is" else given is None or given[0] == name


# ---- files


def test_output_of_a_hook_is_copied_to_the_files_that_can_be_opened(tmp_path):
    ended = types.SimpleNamespace(out=b"out", err=b"err")
    hooks._copy_out({"files": ["/no/such/directory/out", str(tmp_path / "err")]}, ended)  # type: ignore[typeddict-item]
    hooks._copy_out({"files": [None, str(tmp_path / "err")]}, ended)  # type: ignore[typeddict-item]
    assert (tmp_path / "err").read_text() == "errerr"


@pytest.mark.kernel
def test_holes_of_a_file_are_copied_as_holes(tmp_path):
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    with open(tmp_path / "from/file", "wb") as file:
        for at in (0, 1 << 20, 5 << 20):
            file.seek(at)
            file.write(b"x" * 4096)
        file.truncate(8 << 20)
    source, base = (os.open(tmp_path / name, os.O_RDONLY) for name in ("from", "to"))
    copyup.copy(source, base, [])
    for fd in (source, base):
        os.close(fd)
    old, new = ((tmp_path / name / "file").stat() for name in ("from", "to"))
    assert (new.st_size, new.st_blocks) == (8 << 20, old.st_blocks)
    assert (tmp_path / "to/file").read_bytes() == (tmp_path / "from/file").read_bytes()


@pytest.mark.parametrize(
    ("size", "taken"), [("10", True), ("0000000010", True), ("00000000010", False), ("", False), ("1x", False), ("٣", False)]
)
def test_numbers_of_an_id_map_in_an_option(size, taken):
    mount = {"destination": "/t", "type": "bind", "source": "/etc", "options": ["bind", "idmap=uids=0-1000-%s;gids=0-1000-10" % size]}
    ctx = Ctx({"namespaces": namespaces("mount", "user")})
    if taken:
        assert mounts.plan({"/mounts": [mount]}, ctx)["list"][0]["idmap"]["uid"] == [[0, 1000, 10]]
    else:
        with pytest.raises(Refusal) as caught:
            mounts.plan({"/mounts": [mount]}, ctx)
        assert (caught.value.reason, caught.value.pointer) == ("id-map", "/mounts/0/options/1")


# ---- processes and the kernel


def test_a_process_whose_name_looks_like_its_state(tmp_path):
    program = tmp_path / "a) R 1 (b"
    shutil.copy("/bin/sleep", program)
    child = subprocess.Popen([program, "1000"])
    while pathlib.Path("/proc/%d/comm" % child.pid).read_text() != program.name + "\n":
        os.sched_yield()
    found = pidfd._stat(child.pid)
    child.kill()
    child.wait()
    assert found is not None and found[0] in (b"S", b"R", b"D") and int(found[1]) == os.getpid()
    assert pidfd._stat(child.pid) is None


@pytest.mark.parametrize("fails", [False, True])
def test_the_version_of_landlock(monkeypatch, fails):
    def create(_attributes, _flags):
        if fails:
            raise OSError(errno.EOPNOTSUPP, "not switched on")
        return 5

    monkeypatch.setattr(probe._syscalls, "landlock_create_ruleset", create)
    assert probe.landlock() == (0 if fails else 5)


@pytest.mark.parametrize(("kept", "flags", "told"), [(3, 0, False), (0, 0, True), (0, 8, False)])
def test_a_scheduler_that_the_kernel_does_not_keep(monkeypatch, kept, flags, told):
    """This is an error unless the policy was to be kept (SCHED_FLAG_KEEP_POLICY)."""
    monkeypatch.setattr(scheduling._syscalls, "sched_setattr", lambda _pid, *_wanted: None)
    monkeypatch.setattr(scheduling._syscalls, "sched_getattr", lambda _pid: (kept, 0))
    entry = {"scheduler": [3, flags, 0, 0, 0, 0, 0], "ioprio": None}
    reasons = []
    try:
        scheduling.set_for(0, entry, Run())
    except StepFailure as e:
        reasons.append(e.reason)
    assert reasons == (["scheduler-not-kept"] if told else [])
