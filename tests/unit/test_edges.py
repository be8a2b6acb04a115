"""Edges that no other test noticed when `make mutants` moved them (docs/testing.md): the last accepted value and the first rejected one,
the entry after one that is skipped, and choices that depend on several conditions."""

import importlib
import os
import pathlib
import signal
import subprocess
import sys
import types

import pytest

import harness
from fakes.hand import Ctx, namespaces
from pyrunc.cgroup import devices_bpf, gvariant, hierarchies, unit_properties
from pyrunc.errors import Refusal, Unsupported
from pyrunc.linux import paths, spawn
from pyrunc.parts import devices, idmaps, mempolicy, mounts, program, user
from pyrunc.parts.cgroups.plan import _rootless as rootless_cgroups
from pyrunc.parts.resources import limits

PAGE = importlib.import_module("pyrunc.parts.mounts.plan").PAGE  # the package has a function of that name

# ---- numbers and texts


@pytest.mark.parametrize(("nodes", "words"), [("999999999", "node 999999999"), ("1234567890", "not a list")])
def test_a_node_has_at_most_nine_digits(nodes, words):
    with pytest.raises(Refusal) as caught:
        mempolicy._nodes(nodes)
    assert words in caught.value.words


def test_as_many_groups_as_the_kernel_takes():
    groups = list(range(65537))
    assert len(user.plan({"/process/user": {"uid": 0, "gid": 0, "additionalGids": groups[:-1]}}, Ctx())["groups"]) == 65536
    with pytest.raises(Refusal) as caught:
        user.plan({"/process/user": {"uid": 0, "gid": 0, "additionalGids": groups}}, Ctx())
    assert caught.value.pointer == "/process/user/additionalGids/65536"


@pytest.mark.parametrize("kind", ["major", "minor"])
def test_the_largest_device_numbers(kind):
    last = {"major": (1 << 12) - 1, "minor": (1 << 20) - 1}
    assert limits._numbers(last, "/d") == [4095, 1048575]
    with pytest.raises(Refusal) as caught:
        limits._numbers({**last, kind: last[kind] + 1}, "/d")
    assert caught.value.pointer == "/linux/resources/d/" + kind


def memory_refused(memory, version=1):
    """Which of the limits conflicts with the others; None if they are consistent."""
    try:
        limits.check_memory(memory, version)
    except Refusal as e:
        return e.pointer.rpartition("/")[2]
    return None


@pytest.mark.parametrize(("swap", "refused"), [(-1, None), (0, None), (1, "swap"), (9, "swap"), (10, None), (11, None)])
def test_memory_and_swap_together_are_not_less_than_memory(swap, refused):
    assert memory_refused({"limit": 10, "swap": swap}) == refused


def test_memory_limits_that_go_together():
    assert memory_refused({"limit": 10, "reservation": 10}) is None and memory_refused({"reservation": 10}) is None
    assert memory_refused({"limit": 10, "reservation": 11}) == "reservation"
    assert memory_refused({"swap": 10}, 2) == "swap" and memory_refused({"swap": 10}, 1) is None


@pytest.mark.parametrize(
    ("text", "number"),
    [("7", 7), ("2k", 2 << 10), ("3M", 3 << 20), ("4G", 4 << 30), ("5t", 5 << 40), ("9" * 19, int("9" * 19)), ("9" * 20, None), ("x", None), ("-1", None)],
)  # fmt: skip
def test_counts_with_a_unit(text, number):
    assert unit_properties._int(text) == number


@pytest.mark.parametrize(
    ("text", "mask"),
    [("0-3,9", [15, 2]), ("8", [0, 1]), ("65535", [0] * 8191 + [128]), ("65536", None), ("x", None), ("x-3", None), ("0-x", None), ("0-7:2/4", None)],
)  # fmt: skip
def test_a_mask_of_processors(text, mask):
    assert unit_properties.bits(text) == mask


@pytest.mark.parametrize(("order", "registers"), [("little", 0x21), ("big", 0x12)])
def test_registers_of_an_instruction(monkeypatch, order, registers):
    monkeypatch.setattr(sys, "byteorder", order)
    assert devices_bpf._insn(0x57, dst=1, src=2)[:2] == bytes([0x57, registers])


def test_a_tuple_has_the_values_of_its_type():
    assert gvariant.parse("@(uu) (1, 2)") == ("(uu)", (1, 2))
    with pytest.raises(gvariant.Unreadable, match="too many values"):
        gvariant.parse("@(uu) (1, 2, 3)")


# ---- devices, users, id maps


def test_devices_after_one_that_is_created_elsewhere():
    given = [{"path": path, "type": "c", "major": 1, "minor": 3} for path in ("/dev/ptmx", "/dev/console", "/dev/own")]
    for plans, made in (({"terminal": {"uid": 0}}, ["/dev/own"]), ({}, ["/dev/console", "/dev/own"])):
        nodes = [node["path"] for node in devices.plan({"/linux/devices": given}, Ctx(plans))["nodes"]]
        assert [path for path in nodes if path in ("/dev/ptmx", "/dev/console", "/dev/own")] == made


def test_maps_that_just_fit_a_page(monkeypatch):
    ranges = [[0, 100000, 1000], [1000, 200000, 1000]]
    node = {"/linux/uidMappings": [dict(zip(("containerID", "hostID", "size"), one, strict=True)) for one in ranges]}
    node["/linux/gidMappings"] = node["/linux/uidMappings"]
    ctx = Ctx({"namespaces": namespaces("user")})
    size = len(idmaps._text(ranges))
    monkeypatch.setattr(idmaps, "page_size", lambda: size + 1)
    assert idmaps.plan(node, ctx)["uid"] == ranges
    monkeypatch.setattr(idmaps, "page_size", lambda: size)
    with pytest.raises(Refusal) as caught:
        idmaps.plan(node, ctx)
    assert caught.value.reason == "mappings-too-long"


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("mode", "owner", "trusted"),
    [(0o755, 0, True), (0o700, 0, True), (0o4755, 0, True), (0o644, 0, False), (0o775, 0, False), (0o757, 0, False), (0o755, 5, False)],
)
def test_who_may_write_a_tool_that_root_executes(tmp_path, monkeypatch, mode, owner, trusted):
    monkeypatch.setattr(idmaps, "TOOL_DIRS", (str(tmp_path / "none"), str(tmp_path)))
    tool = tmp_path / "newuidmap"
    tool.write_text("")
    os.chown(tool, owner, 0)
    tool.chmod(mode)
    if trusted:
        assert idmaps._tool("newuidmap", "/linux/uidMappings") == str(tool)
    else:
        with pytest.raises(Unsupported):
            idmaps._tool("newuidmap", "/linux/uidMappings")


@pytest.mark.kernel
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_a_tool_is_a_file(tmp_path, monkeypatch, make):
    monkeypatch.setattr(idmaps, "TOOL_DIRS", (str(tmp_path),))
    make(tmp_path / "newuidmap", 0o755)
    with pytest.raises(Unsupported):
        idmaps._tool("newuidmap", "/linux/uidMappings")


# ---- mounts and paths


def planned(mount, **plans):
    ctx = Ctx({"namespaces": namespaces("mount", "user"), **plans})
    return mounts.plan({"/mounts": [{"destination": "/t", "type": "tmpfs", "source": "x", **mount}]}, ctx)["list"][0]


@pytest.mark.parametrize(
    ("mount", "label", "data"),
    [
        ({}, None, [['context="u:r:t:s0"', -1]]),
        ({"options": ["context=mine"]}, None, [["context=mine", 0]]),
        ({"type": "mqueue"}, "u:r:t:s0", []),
        ({"type": "bind", "source": "/etc", "options": ["bind"]}, None, []),
    ],
)
def test_the_label_of_a_mount(mount, label, data):
    made = planned(mount, labels={"mount": "u:r:t:s0"})
    assert (made.get("label"), made["data"]) == (label, data)


@pytest.mark.parametrize(("more", "refused"), [(0, False), (1, True)])
def test_options_that_just_fit_a_page(more, refused):
    """The kernel copies all words, each followed by a comma or NUL."""
    words = ["a=" + "x" * 100, "b=" + "x" * (PAGE - 106 + more)]
    if refused:
        with pytest.raises(Refusal) as caught:
            planned({"type": "9p", "options": words})
        assert caught.value.reason == "options-too-long"
    else:
        assert [word for word, _index in planned({"type": "9p", "options": words})["data"]] == words


@pytest.mark.parametrize("sides", [("uidMappings",), ("gidMappings",), ("uidMappings", "gidMappings")])
def test_maps_of_a_mount_without_the_option(sides):
    lines = [{"containerID": 0, "hostID": 1000, "size": 10}]
    mount = {"type": "bind", "source": "/etc", "options": ["bind"], **dict.fromkeys(sides, lines)}
    if len(sides) == 2:
        assert planned(mount)["idmap"] == {"recursive": False, "uid": [[0, 1000, 10]], "gid": [[0, 1000, 10]]}
    else:
        with pytest.raises(Refusal) as caught:
            planned(mount)
        assert (caught.value.reason, caught.value.pointer) == ("id-map", "/mounts/0")


def test_a_directory_that_is_removed_again_and_again(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(paths, "_make", lambda *words: made.append(words[1]))
    root_fd = os.open(tmp_path, os.O_PATH)
    with pytest.raises(FileNotFoundError):
        paths.make_missing_dir(root_fd, "/gone/below", 0o755)
    os.close(root_fd)
    assert made == ["gone"] * paths.RETRIES


def test_one_level_up(tmp_path):
    (tmp_path / "a/b/c").mkdir(parents=True)
    root_fd = os.open(tmp_path, os.O_PATH)
    os.close(paths.make_missing_dir(root_fd, "/a/b/c/../made/deeper", 0o755))
    os.close(paths.make_missing_dir(root_fd, "/new/below/../beside", 0o755))
    os.close(root_fd)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "a", "a/b", "a/b/c", "a/b/made", "a/b/made/deeper", "new", "new/below", "new/beside",
    ]  # fmt: skip


# ---- users, namespaces, programs


@pytest.mark.parametrize(
    ("asked", "euid", "in_userns", "manager", "with_init", "rootless"),
    [
        ("true", 0, False, "cgroupfs", True, True),
        ("false", 1000, True, "cgroupfs", True, False),
        ("auto", 0, False, "cgroupfs", True, False),
        ("auto", 0, True, "cgroupfs", True, True),
        ("auto", 0, True, "systemd", True, False),
        ("auto", 0, True, "systemd", False, True),
        ("auto", 1000, False, "systemd", True, True),
        ("auto", 1000, False, "cgroupfs", False, True),
    ],
)
def test_when_a_container_counts_as_rootless(monkeypatch, asked, euid, in_userns, manager, with_init, rootless):
    monkeypatch.setattr(hierarchies, "pid_1_is_in_our_userns", lambda: with_init)
    ctx = types.SimpleNamespace(options={"rootless": asked}, euid=euid, in_userns=in_userns)
    assert rootless_cgroups(ctx, manager) is rootless


@pytest.mark.kernel
def test_the_user_namespace_of_pid_1():
    try:
        shared = os.readlink("/proc/1/ns/user") == os.readlink("/proc/self/ns/user")
    except PermissionError:  # it has privileges that this process lacks
        shared = False
    assert hierarchies.pid_1_is_in_our_userns() is shared


@pytest.mark.kernel
@pytest.mark.parametrize(("options", "answer"), [((), "False\n"), (("--pid", "--fork", "--mount-proc"), "True\n")])
def test_pid_1_of_another_user_namespace(options, answer):
    code = "from pyrunc.cgroup import hierarchies; print(hierarchies.pid_1_is_in_our_userns())"
    argv = ["unshare", "--user", "--map-root-user", *options, "/usr/bin/python3", "-c", code]
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(pathlib.Path(hierarchies.__file__).parent.parent.parent)}
    assert subprocess.run(argv, capture_output=True, text=True, check=True, env=env).stdout == answer


def test_whether_a_child_has_ended():
    child = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
    pidfd = os.pidfd_open(child)
    assert spawn._unfinished(pidfd) is True
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    assert spawn._unfinished(pidfd) is False
    os.waitpid(child, 0)
    assert spawn._unfinished(pidfd) is False, "it has been reaped"
    os.close(pidfd)


def test_how_long_a_program_took():
    ended = spawn.run("/bin/true", ["true"], [])
    assert 0 <= ended.ms < harness.WATCHDOG * 1000


@pytest.mark.parametrize(
    ("words", "mounted", "missing"),
    [
        (["/bin/nothing"], [], True),
        (["/bin/program"], [], False),
        (["program"], [], False),
        (["nothing"], [], True),
        (["./program"], [], False),
        (["/bin/nothing"], ["/bin"], False),
        (["/bin/nothing"], ["/bi", "/bin/other"], True),
        (["nothing"], ["/sbin"], False),
    ],
)
def test_a_program_that_is_looked_for_before_the_mounts(tmp_path, words, mounted, missing):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/program").write_text("")
    entry = {"args": words, "cwd": "/bin", "path": "/sbin:/bin"}
    plans = {"root": {"path": str(tmp_path)}, "mounts": {"list": [{"destination": point} for point in mounted]} if mounted else None}
    found = list(program.check(entry, Ctx(plans), lambda *_words: None))
    assert [type(one) for one in found] == ([Unsupported] if missing else [])
