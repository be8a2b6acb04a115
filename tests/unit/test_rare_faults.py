"""Faults that are reported or ignored, one by one: which errno of which call, and what is undone. `make mutants` showed that no other test
covers them (docs/testing.md)."""

import errno
import os
import posix
import subprocess
import types

import pytest

import hoststate
from fakes.hand import failing
from pyrunc import fileio
from pyrunc.cgroup import fs, kill, limits_update, oom, systemd, unit_properties, v2
from pyrunc.errors import CallError, StepFailure
from pyrunc.linux import filters, ns, pidfd
from pyrunc.parts import paths as paths_part
from pyrunc.parts import rdt, resources
from pyrunc.parts.seccomp import cache


def outcome(function, *words):
    """What a function returns, or the name of the errno that it raises."""
    try:
        return function(*words)
    except OSError as e:
        return errno.errorcode[e.errno or 0]


@pytest.mark.parametrize(("number", "killed", "pids"), [(errno.ENOENT, 0, {7}), (errno.ENODEV, 0, {7}), (errno.EACCES, "EACCES", "EACCES")])
def test_a_cgroup_that_cannot_be_opened(monkeypatch, number, killed, pids):
    """If it no longer exists, no process was killed in it, and there is none to kill."""
    monkeypatch.setattr(fs, "open_dir", failing(number))
    monkeypatch.setattr(fs, "procs_below", lambda _path, _key, _most: [7])
    assert outcome(oom.killed, {"memory": "/c"}) == killed
    assert outcome(kill._kill_v2, "/c") == pids


def test_notification_of_killed_processes_on_version_2(tmp_path, monkeypatch):
    monkeypatch.setattr(fs, "open_dir", lambda path, _key, flags=fs.O_DIR: os.open(path, flags))
    (tmp_path / "memory.events").write_text("oom 1\noom_kill 1\n")
    watch = oom.Watch({"unified": str(tmp_path)})
    assert watch.fired() is False
    (tmp_path / "memory.events").write_text("oom 2\noom_kill 2\n")
    assert watch.fired() is True and watch.fired() is False
    (tmp_path / "memory.events").write_text("")
    assert watch.fired() is None, "the cgroup is gone"
    watch.close()


@pytest.mark.parametrize(("number", "answer"), [(errno.ESRCH, None), (errno.EIO, "EIO")])
def test_a_process_that_ends_while_it_is_examined(monkeypatch, number, answer):
    before = hoststate.descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(pidfd.posix, "read", failing(number))
        assert outcome(pidfd._stat, os.getpid()) == answer
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("enabled", "processes", "where", "words"),
    [
        ({}, False, "/cg", ("memory", "/cg/cgroup.controllers")),
        ({"/cg": {"memory"}}, False, "/cg", ("/cg/cgroup.subtree_control", "echo +memory > /cg/cgroup.subtree_control")),
        ({"/cg": {"memory"}, "/cg/a": {"memory"}}, True, "/cg", ("/cg/a/cgroup.subtree_control", "/cg/a has processes")),
        (
            {"/cg": {"memory"}},
            True,
            "/cg/user@7.service",
            ("/cg/user@7.service/cgroup.subtree_control", "Delegate=cpu cpuset io memory pids"),
        ),
    ],
)
def test_why_a_controller_is_missing(monkeypatch, enabled, processes, where, words):
    top = {where: {"memory"}} if "user@" in where else {}
    monkeypatch.setattr(v2, "controllers", lambda path: {**enabled, **top}.get(path, set()))
    monkeypatch.setattr(v2, "_top", lambda _path: where)
    monkeypatch.setattr(v2, "_has_processes", lambda _path: processes)
    reason, hint = v2.explain_missing(where + "/a/b", "memory.max", errno.ENOENT)
    assert words[0] in reason and words[1] in (hint or "")


def test_drivers_of_devices(monkeypatch):
    text = b"Character devices:\n  1 mem\n  4 a name\n\nBlock devices:\n  1 ramdisk\n  8 sd\n"
    monkeypatch.setattr(unit_properties, "read_file", lambda _path, _limit: text)
    found = [
        unit_properties._group_name(kind, major) for kind, major in (("char", 1), ("char", 4), ("block", 1), ("block", 8), ("char", 8))
    ]
    assert found == ["mem", "a name", "ramdisk", "sd", None]


@pytest.mark.parametrize(("magic", "is_one"), [(rdt.resctrl.MAGIC, True), (0x1021994, False)])
def test_detection_of_a_resctrl_file_system(tmp_path, monkeypatch, magic, is_one):
    """The magic number is the first value that statfs(2) returns."""
    monkeypatch.setattr(rdt.resctrl._syscalls, "fstatfs", lambda _fd: (magic, 0))
    before = hoststate.descriptors()
    if is_one:
        os.close(rdt.resctrl.open_dir(str(tmp_path)))
    else:
        assert outcome(rdt.resctrl.open_dir, str(tmp_path)) == "ENODEV"
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("opening", "removing", "answer"),
    [
        (errno.ENOENT, 0, None), (errno.ENODEV, 0, None), (errno.EACCES, 0, "EACCES"), (0, errno.ENOENT, None), (0, errno.EBUSY, "EBUSY"),
        (0, 0, None),
    ],
)  # fmt: skip
def test_a_group_of_resctrl_is_removed(tmp_path, monkeypatch, opening, removing, answer):
    (tmp_path / "group").mkdir()
    monkeypatch.setattr(rdt.resctrl, "open_dir", failing(opening) if opening else lambda *_words: os.open(tmp_path, os.O_RDONLY))
    if removing:
        monkeypatch.setattr(rdt.posix, "rmdir", failing(removing))
    assert outcome(rdt._rmdir, "/r", (), "group") == answer
    assert (tmp_path / "group").exists() is bool(opening or removing)


@pytest.mark.parametrize("hidden", [5, None])
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOMEM])
def test_no_null_device_to_cover_files_with(monkeypatch, hidden, number):
    monkeypatch.setattr(paths_part.mount, "clone_fd", failing(number))
    with pytest.raises(OSError, match=".") as caught:
        paths_part._null_cover(-1, {"null": 9, "hidden": hidden, "dir": None})
    told = isinstance(caught.value, CallError) and "/dev/null" in (caught.value.words or "")
    assert told is (number == errno.EINVAL and hidden is not None)


def test_a_program_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path, monkeypatch):
    cache_fd = os.open(tmp_path, os.O_RDONLY)
    with monkeypatch.context() as patch:
        patch.setattr(fileio, "write_all", failing(errno.ENOSPC))
        cache.keep(cache_fd, "key", b"x" * 8)
    assert os.listdir(tmp_path) == []
    cache.keep(cache_fd, "key", b"x" * 8)
    assert os.listdir(tmp_path) != []
    os.close(cache_fd)


def test_unit_properties_are_restored_when_writing_files_fails(monkeypatch):
    """Those of device rules are not restored, because an update does not change them."""
    stored = {"pids": {"limit": 5}, "devices": [], "asked": ["pids"], "in_userns": False}
    cgroups = {"version": 2, "manager": "systemd", "paths": {"unified": "/c"}, "mounts": {}}
    run = types.SimpleNamespace(plans={"cgroups": cgroups}, state_dir=None)
    given = []

    def refuse(*_words):
        raise StepFailure("refused", "the kernel does not take it")

    monkeypatch.setattr(systemd, "set_resources", lambda _run, entry, _cgroups: given.append(entry) or entry)
    monkeypatch.setattr(limits_update, "apply", refuse)
    with pytest.raises(StepFailure, match="does not take it"):
        resources.update({"pids": {"limit": 7}}, stored, run)
    assert [entry["pids"] for entry in given] == [{"limit": 7}, {"limit": 5}] and "devices" not in given[1]


# ---- filters, namespaces


def verdict(*instructions):
    return filters.verdict(filters.pack([*instructions]), filters.X86_64, 1)


def test_constants_of_a_filter():
    """linux/bpf_common.h: BPF_LD | BPF_IMM, BPF_LDX | BPF_IMM, BPF_MISC | BPF_TXA, BPF_RET | BPF_A."""
    assert verdict((0x00, 0, 0, 0x50007), (0x16, 0, 0, 0)) == 0x50007
    assert verdict((0x00, 0, 0, 1), (0x01, 0, 0, 0x50009), (0x87, 0, 0, 0), (0x16, 0, 0, 0)) == 0x50009


@pytest.mark.parametrize(
    ("value", "name"), [(0x50007, "ERRNO(7)"), (0x7FF00003, "TRACE(3)"), (0x80000000, "KILL_PROCESS"), (0x7FFF0000, "ALLOW"), (0x12340000, "0x12340000")]
)  # fmt: skip
def test_names_of_actions(value, name):
    assert filters.action_name(value) == name


def test_user_namespaces_above_another_one():
    child = subprocess.Popen(["unshare", "--user", "sh", "-c", "echo made; exec sleep 1000"], stdout=subprocess.PIPE, text=True)
    assert child.stdout and child.stdout.readline() == "made\n"
    fd = os.open("/proc/%d/ns/user" % child.pid, os.O_RDONLY)
    own, its = posix.stat("/proc/self/ns/user").st_ino, posix.fstat(fd).st_ino
    before = hoststate.descriptors()
    found = ns.ancestor(fd, own)
    assert posix.fstat(found).st_ino == own != its
    os.close(found)
    assert ns.ancestor(fd, its) == -1, "a namespace is not its own ancestor"
    assert sorted(os.listdir("/proc/self/fd")) == before
    os.close(fd)
    child.kill()
    child.communicate()
