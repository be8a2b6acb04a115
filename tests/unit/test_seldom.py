"""Decisions that a run seldom takes: an errno that the kernel of a test machine never returns, a second attempt, a scheduler or a label that
needs special rights. `make mutants` showed that nothing else noticed (docs/testing.md)."""

import errno
import os
import signal
import socket
import time
from types import SimpleNamespace

import pytest

from fakes.hand import Ctx, Run, failing, open_files
from pyrunc.cgroup import delegation, devices_bpf, devices_rules, freeze, fs, gvariant, systemd
from pyrunc.errors import Refusal, StepFailure
from pyrunc.linux import caps, dbus, filters, mount, netlink, sdnotify
from pyrunc.linux import constants as c
from pyrunc.parts import keyring, meta, resources, scheduling
from pyrunc.parts.criu import mounts as criu_mounts
from pyrunc.parts.devices import make
from pyrunc.parts.drift import scheduling as drift_scheduling
from pyrunc.parts.mounts import filesystems, live
from pyrunc.parts.seccomp import profile

# ---- cgroups


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES, errno.EROFS, errno.EINVAL])
@pytest.mark.parametrize("optional", [True, False])
@pytest.mark.parametrize("call", ["bpf_prog_load", "bpf_prog_attach"])
def test_a_device_program_that_the_kernel_refuses(monkeypatch, call, optional, number):
    """Without rights in the initial user namespace there are no device nodes to protect either; any other errno is a failure."""
    program = []

    def loaded(*_words):
        program.append(os.open("/dev/null", os.O_RDONLY))
        return program[-1]

    monkeypatch.setattr(fs, "open_dir", lambda _path, _key, *_more: os.open("/dev/null", os.O_RDONLY))
    kernel = SimpleNamespace(bpf_prog_query=lambda *_words: [], bpf_prog_load=loaded, bpf_prog_attach=lambda *_words: None)
    kernel.prlimit = lambda *_words: (c.RLIM_INFINITY, c.RLIM_INFINITY)
    setattr(kernel, call, failing(number))
    monkeypatch.setattr(devices_bpf, "_syscalls", kernel)
    before = open_files()
    if optional and number != errno.EINVAL:
        assert devices_bpf.apply("/cg", [(False, "c", 1, 3, "rwm")], optional) is None
    else:
        with pytest.raises(StepFailure, match="unable to %s the device program" % call.rpartition("_")[2]):
            devices_bpf.apply("/cg", [(False, "c", 1, 3, "rwm")], optional)
    assert open_files() == before


@pytest.mark.parametrize(
    ("version", "in_userns", "changed"), [(1, False, "lists"), (1, True, "program"), (2, False, "program"), (2, True, "program")]
)
def test_how_the_device_rules_of_a_running_container_are_replaced(monkeypatch, version, in_userns, changed):
    """The lists of version 1 take the difference; a program, and what cannot be read back, are replaced as a whole."""
    seen = []
    monkeypatch.setattr(devices_rules, "check_v1", lambda _rules: None)
    monkeypatch.setattr(devices_rules, "change_v1", lambda *words: seen.append(("lists", *words)))
    monkeypatch.setattr(resources, "_apply_devices", lambda entry, _paths, _cgroups: seen.append(("program", entry["devices"])))
    monkeypatch.setattr(fs, "record_of", lambda _run, _cgroups: {"paths": {"devices": "/cg"}})
    old, new = [(True, "c", 1, 3, "r")], [(True, "c", 1, 5, "r")]
    run = Run({"cgroups": {"version": version, "manager": "cgroupfs"}})
    resources.set_devices(new, {"devices": old, "in_userns": in_userns}, run)
    assert seen == [("lists", "/cg", old, new) if changed == "lists" else ("program", new)]


@pytest.mark.parametrize(
    ("name", "value", "answer"), [("frozen", 0, True), ("frozen", 1, False), ("populated", 1, True), ("absent", 1, True)]
)
def test_an_event_of_a_cgroup(tmp_path, name, value, answer):
    (tmp_path / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    fd = os.open(tmp_path / "cgroup.events", os.O_RDONLY)
    assert freeze.wait_event(fd, name, value, time.monotonic() - 1) is answer
    os.close(fd)


@pytest.mark.parametrize(
    ("name", "properties", "hint"),
    [
        (systemd.NAME + ".UnitExists", [], "another container may use this cgroupsPath"),
        (systemd.NAME + ".UnitExists", [["KillSignal", "i", 15]], "another container may use this cgroupsPath"),
        ("org.freedesktop.DBus.Error.PropertyReadOnly", [["KillSignal", "i", 15]], "annotations ask for these properties: KillSignal"),
        ("org.freedesktop.DBus.Error.PropertyReadOnly", [], None),
    ],
)
def test_why_a_unit_was_not_started(name, properties, hint):
    asked = []

    class Manager:
        version = 255

        def job(self, *words):
            asked.append(words[0])
            raise dbus.DBusError(name, "refused")

        def call(self, *words):
            asked.append(words[0])

    run = Run()
    run.id, run.pid = "c1", 77  # type: ignore[attr-defined]
    recorded: dict = {}
    run.record = recorded.__setitem__  # type: ignore[attr-defined]
    unit = {"name": "x.scope", "slice": "a.slice", "properties": properties}
    with pytest.raises(StepFailure) as caught:
        systemd._start(Manager(), unit, {"version": 2}, run)
    assert (caught.value.reason, caught.value.hint) == ("unit-not-started", hint)
    again = ["ResetFailedUnit", "StartTransientUnit"] if name.endswith("UnitExists") else []
    assert asked == ["StartTransientUnit", *again], "only a unit that exists is tried twice"
    assert recorded == ({"cgroup_paths": {}, "cgroups": {}} if again else {}), "and one of somebody else is forgotten"


@pytest.mark.parametrize("text", ["[1 x2]", "(1 x2)", "<5x", "[<5)]"])
def test_a_value_without_its_comma_or_end(text):
    with pytest.raises(gvariant.Unreadable):
        gvariant.parse(text)


# ---- mounts


def test_what_cannot_be_mounted_in_a_running_container_is_named():
    item = {"kind": "fs", "type": "tmpfs", "destination": "/t", "links": [], "flags": c.MS_I_VERSION | c.MS_NODEV, "pointer": "/mounts/0"}
    with pytest.raises(Refusal) as caught:
        live.check({"list": [item]})
    assert "option iversion needs mount(2)" in caught.value.words
    live.check({"list": [{**item, "flags": c.MS_NODEV}]})


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBUSY, errno.ENOENT])
def test_when_mount_2_is_tried(tmp_path, monkeypatch, number):
    """The new calls are not implemented by each file system, nor allowed by each filter. Otherwise their error is the one that counts."""
    tried = []
    monkeypatch.setattr(mount, "new", failing(number))

    def old(*words):
        tried.append(words[0])
        raise OSError(errno.EIO, "refused")

    monkeypatch.setattr(mount, "old", old)
    item = {"pointer": "/mounts/0", "destination": "/t", "source": "x", "type": "tmpfs", "data": [], "links": []}
    with pytest.raises(OSError, match=os.strerror(number)) as caught:
        filesystems.make(item, Run(proc=None), -1, "tmpfs", "x", 0, [])
    assert caught.value.errno == number
    assert tried == ([] if number in (errno.EBUSY, errno.ENOENT) else ["tmpfs"])


def test_the_id_map_of_a_restored_mount_is_that_of_the_plan(monkeypatch):
    """Before a restore the user namespace of the container does not exist, so a mount mapped like it is mapped with its lines."""
    asked = []

    def answer(entry, _run, _request):
        asked.append(entry["list"][0]["idmap"])
        return {}, [77]

    monkeypatch.setattr(criu_mounts.host, "host_answer", answer)
    monkeypatch.setattr(criu_mounts.bind, "with_flags", lambda tree, _item: tree)
    run = Run({"idmaps": {"uid": [[0, 1000, 10]], "gid": [[0, 2000, 10]]}})
    own = {"recursive": False, "uid": [[0, 5, 1]], "gid": [[0, 6, 1]]}
    for idmap in (None, {"recursive": True, "uid": [], "gid": []}, own):
        item = {"idmap": idmap, "flags": 0, "source": "/s", "kind": "bind"}
        assert criu_mounts.clone({"item": item, "bind": True, "source": "/s"}, run) == 77
    assert asked == [None, {"recursive": True, "uid": [[0, 1000, 10]], "gid": [[0, 2000, 10]]}, own]


@pytest.mark.parametrize(("own_dev", "kept"), [(True, True), (False, True)])
def test_the_file_under_a_bound_device_stays(tmp_path, monkeypatch, own_dev, kept):
    """A file that an earlier container left as mount point is used again, in an image, too; anything else is not."""
    node = {"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "mode": 0o666, "uid": 0, "gid": 0, "pointer": "/linux/devices/0"}
    entry = {"bind": True, "own_dev": own_dev, "mount_ns": True}
    bound = []
    monkeypatch.setattr(make, "_bind", lambda folder, name, *_more: bound.append(os.stat(name, dir_fd=folder).st_ino))
    (tmp_path / "x").write_text("")
    inode = (tmp_path / "x").stat().st_ino
    folder = os.open(tmp_path, os.O_RDONLY)
    assert make._make(folder, "x", node, entry, Run()) is True and bound == [inode]
    (tmp_path / "x").unlink()
    os.mkfifo(tmp_path / "x")
    if own_dev:
        monkeypatch.setattr(make, "_bind", lambda folder, name, *_more: bound.append(os.listdir(folder)))
        assert make._make(folder, "x", node, entry, Run()) is True and bound[1] == [], "the other node is removed first"
    else:
        with pytest.raises(StepFailure) as caught:
            make._make(folder, "x", node, entry, Run())
        assert caught.value.reason == "other-device-there" and os.listdir(folder) == ["x"]
    os.close(folder)


# ---- processes


@pytest.mark.parametrize(
    ("seen", "rows"),
    [
        ([6, 0, 0, 0, 10, 20, 20], []),
        ([6, 0, 0, 0, 11, 20, 20], [("runtime", 10, 11)]),
        ([6, 0, 0, 0, 10, 21, 20], [("deadline", 20, 21)]),
        ([6, 0, 0, 0, 10, 20, 30], [("period", 20, 30)]),
        ([0, 0, 5, 0, 0, 0, 0], [("policy", "SCHED_DEADLINE", "SCHED_OTHER")]),
    ],
)
def test_a_deadline_that_differs(monkeypatch, seen, rows):
    """Without a period the kernel uses the deadline for it (sched_setattr(2))."""
    found = []
    monkeypatch.setattr(drift_scheduling._syscalls, "sched_getattr", lambda _pid: seen)
    drift = SimpleNamespace(pid=1, differs=lambda _area, what, planned, now, _pointer: found.append((what, planned, now)))
    drift_scheduling.compare({"scheduler": [6, 0, 0, 0, 10, 20, 0], "ioprio": None}, drift)
    assert found == rows


@pytest.mark.parametrize("label", ["u:r:t:s0", None])
def test_a_session_keyring_has_the_label_of_the_process(monkeypatch, label):
    """Keys are made with the label of /proc/self/attr/keycreate, which is empty again afterwards (selinux)."""
    steps = []
    kernel = SimpleNamespace(
        join_session_keyring=lambda name: steps.append(("join", name)) or 5,
        keyctl_describe=lambda _serial: b"keyring;%d;0;3f3f0000;_ses" % os.geteuid(),
        keyctl=lambda *words: steps.append(("keyctl", words[1])),
    )
    monkeypatch.setattr(keyring, "_syscalls", kernel)
    state = SimpleNamespace(state={"keyring": "_ses.x"})
    run = Run(state_dir=state, proc=SimpleNamespace(write=lambda path, data: steps.append((path.rpartition("/")[2], data))))
    keyring.init_join({"label": label, "userns": False}, run)
    labelled = [("keycreate", b"u:r:t:s0"), ("join", "_ses.x"), ("keycreate", b"\0")]
    assert steps == [*(labelled if label else [("join", "_ses.x")]), ("keyctl", 5)]


@pytest.mark.parametrize("works", [True, False])
def test_loopback_leaves_no_socket(monkeypatch, works):
    monkeypatch.setattr(netlink.Route, "set_up", (lambda *_words: None) if works else failing(errno.EPERM))
    before = open_files()
    if works:
        netlink.loopback_up()
    else:
        with pytest.raises(PermissionError):
            netlink.loopback_up()
    assert open_files() == before


# ---- files, descriptors, numbers


@pytest.mark.kernel
def test_a_delegated_cgroup_keeps_its_group(tmp_path, monkeypatch):
    """Only the owner changes, only of the listed files, and no link is followed (Model of Delegation)."""
    for name in ("cgroup.procs", "cgroup.kill", "memory.max"):
        (tmp_path / name).write_text("")
    (tmp_path / "cgroup.threads").symlink_to("memory.max")
    for path in (tmp_path, *tmp_path.iterdir()):
        os.chown(path, 0, 54321, follow_symlinks=False)
    monkeypatch.setattr(delegation.ids, "outer_uid", lambda _pid, uid: uid)
    monkeypatch.setattr(fs, "open_dir", lambda path, _key: os.open(path, os.O_RDONLY))
    monkeypatch.setattr(delegation, "_files", lambda: ["cgroup.procs", "cgroup.threads", "cgroup.absent"])
    before = open_files()
    delegation.give(str(tmp_path), 1, 12345)
    owners = {path.name: path.lstat() for path in (tmp_path, *tmp_path.iterdir())}
    assert {name for name, st in owners.items() if st.st_uid == 12345} == {tmp_path.name, "cgroup.procs", "cgroup.threads"}
    assert {st.st_gid for st in owners.values()} == {54321} and open_files() == before


@pytest.mark.parametrize("highest", [0, 20, 39, 40, 41, 62, 63])
def test_the_last_capability_of_a_kernel(monkeypatch, highest):
    def prctl(_option, number, *_more):
        if number > highest:
            raise OSError(errno.EINVAL, "unknown")
        return 0

    monkeypatch.setattr(caps, "_syscalls", SimpleNamespace(prctl=prctl))
    assert caps.last() == highest


def test_a_supervisor_that_reads_nothing(tmp_path, monkeypatch):
    """It is waited for, but not forever, and nothing stays open."""
    monkeypatch.setattr(sdnotify, "BARRIER_MS", 1)
    before = open_files()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        sdnotify.tell(str(tmp_path / "notify"), 77)
        assert [supervisor.recv(99) for _ in range(3)] == [b"READY=1\n", b"MAINPID=77\n", b"BARRIER=1"]
    assert open_files() == before


@pytest.mark.parametrize("works", [True, False])
def test_a_live_file_system_that_inherits_leaves_nothing_open(tmp_path, monkeypatch, works):
    (tmp_path / "covered").mkdir()
    (tmp_path / "top").mkdir(mode=0o700)
    top, target = (os.open(tmp_path / name, os.O_RDONLY) for name in ("top", "covered"))
    copied = []
    monkeypatch.setattr(live.copyup, "copy", (lambda *words: copied.append(words)) if works else failing(errno.ENOSPC))
    item = {"type": "tmpfs", "copyup": True, "data": [], "rec_set": 0, "rec_clr": 0, "late": []}
    before = open_files()
    if works:
        live._fill(item, top, target, 0o1777)
        assert len(copied) == 1 and (tmp_path / "top").stat().st_mode & 0o7777 == 0o1777
    else:
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            live._fill(item, top, target, 0o1777)
    assert open_files() == before
    for fd in (top, target):
        os.close(fd)


def test_a_task_whose_name_looks_like_its_state():
    """proc(5): the name is in parentheses, may contain any byte, and ends at the last one."""
    child = os.fork()
    if child == 0:
        try:
            with open("/proc/self/comm", "w") as file:
                file.write("a) Z (b) X")
            os.kill(os.getpid(), signal.SIGSTOP)
        finally:
            os._exit(0)
    os.waitpid(child, os.WUNTRACED)
    try:
        task = freeze.describe(child)
        assert task is not None and (task["comm"], task["state"]) == ("a) Z (b) X", "T")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert freeze.describe(child) is None


@pytest.mark.parametrize(("possible", "highest"), [("0\n", 0), ("0-3\n", 3), ("0,2-5\n", 5), ("0-1,7\n", 7), (None, 1023)])
def test_init_may_use_all_processors(monkeypatch, possible, highest):
    """Those that can be added, too; what the machine does not have is left to the kernel, and the cpuset limits it."""
    asked = []

    def read(path, _limit):
        if possible is None or not path.endswith("/cpu/possible"):
            raise OSError(errno.ENOENT, "no sysfs")
        return possible.encode()

    monkeypatch.setattr(scheduling.fileio, "read_file", read)
    monkeypatch.setattr(scheduling.posix, "sched_setaffinity", lambda pid, cpus: asked.append((pid, list(cpus))))
    scheduling.host_affinity({"exec": False, "initial": None, "final": None}, Run(pid=77))
    assert asked == [(77, list(range(highest + 1)))]


@pytest.mark.parametrize("known", [True, False])
def test_a_filter_without_flags_on_an_older_kernel(monkeypatch, known):
    """SPEC_ALLOW is new in Linux 4.17; nothing takes its place before."""
    monkeypatch.setattr(filters, "supports_flag", lambda flag: known and flag == filters.FLAG_SPEC_ALLOW)
    assert profile._flags(None, False, Ctx()) == (filters.FLAG_SPEC_ALLOW if known else 0)
    assert profile._flags([], False, Ctx()) == 0


@pytest.mark.parametrize(
    ("test", "first", "second", "holds"),
    [(0x10, 5, 5, True), (0x10, 5, 4, False), (0x20, 5, 4, True), (0x20, 5, 5, False), (0x30, 5, 5, True), (0x30, 4, 5, False)]
    + [(0x40, 6, 2, True), (0x40, 6, 1, False), (0x40, 6, 3, True), (0x40, 0, 0, False)],
)
def test_jumps_of_filters(test, first, second, holds):
    """JEQ, JGT, JGE and JSET of classic BPF."""
    assert filters._holds(0x05 | test, first, second) is holds


@pytest.mark.parametrize("first", ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_ARM"])
def test_the_program_of_x32_is_beside_that_of_x86_64(first):
    """They have one architecture and differ in a bit of the number, whichever program comes first."""
    names = sorted(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_ARM"], key=lambda name: name != first)
    tokens = {name: filters.ARCHES[name] for name in names}
    program = filters.joined([(tokens[name], filters.pack([(filters.RET, 0, 0, 100 + i)])) for i, name in enumerate(names)])
    for name in names:
        number = 5 + (filters.X32_BIT if name == "SCMP_ARCH_X32" else 0)
        token = filters.X86_64 if name == "SCMP_ARCH_X32" else tokens[name]
        assert filters.verdict(program, token, number) == 100 + names.index(name), name


def test_a_removed_scope_takes_only_its_own_directory_along(monkeypatch):
    """Its slices belong to systemd, whoever made them."""
    removed = []
    monkeypatch.setattr(systemd.tree, "remove_all", lambda removals: removed.extend((one.path, one.existed, one.inode) for one in removals))
    paths = {"memory": "/cg/memory/a.slice/a-b.slice/x.scope", "pids": "/cg/pids/x.scope", "odd": "/gone/x.scope"}
    systemd.remove({"paths": paths, "mounts": {"memory": "/cg/memory", "pids": "/cg/pids"}, "existed": {}, "inodes": {"memory": 7}})
    assert sorted(removed) == [(paths["memory"], 2, 7), (paths["pids"], 0, 0)]


@pytest.mark.parametrize(("length", "cut"), [(60, False), (61, True), (5000, True)])
def test_a_long_version_is_cut_in_its_warning(length, cut):
    version = "1.0+" + "x" * (length - 4)
    ctx = Ctx()
    assert meta._version(version, ctx) == version
    ((pointer, text),) = ctx.warnings
    assert (pointer, text) == ("/ociVersion", "%s%s is short for 1.0.0" % (version[:60], "…" if cut else ""))
