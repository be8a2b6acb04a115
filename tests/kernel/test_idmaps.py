"""idmaps: the maps as the kernel shows them, written by root, by the tools of shadow, and by an ordinary user with only their own id."""

import os
import pwd
import shutil

import pytest

import staged
from fakes.hand import Ctx
from pyrunc.errors import StepFailure
from pyrunc.linux import constants as c
from pyrunc.parts import idmaps, namespaces

pytestmark = pytest.mark.kernel
UIDS, GIDS = "/linux/uidMappings", "/linux/gidMappings"
NOBODY = 65534
MAPPED = {"uidMappings": [{}], "gidMappings": [{}]}


def plan(uid, gid=None, spaces=None, euid=0):
    ctx = Ctx(plans={"namespaces": spaces or staged.plan(["user", "mount"], MAPPED)})
    ctx.euid = euid
    rows = [[{"containerID": a, "hostID": b, "size": n} for a, b, n in side] for side in (uid, uid if gid is None else gid)]
    return idmaps.plan({UIDS: rows[0], GIDS: rows[1]}, ctx)


def ids(run):
    namespaces.init_join(run.plans["namespaces"], run)
    groups = os.setgroups([]) if open("/proc/self/setgroups").read() == "allow\n" else None
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    return [open("/proc/self/uid_map").read().split(), open("/proc/self/gid_map").read().split(), os.getresuid(), os.getresgid(), groups]


def write(entry, euid=0):
    """Writes the maps of a new user namespace; returns what init then sees."""
    run = staged.prepared(staged.plan(["user", "mount"], MAPPED, euid))
    init = staged.init(run, ids)
    try:
        idmaps.host_write(entry, run)
        return init.go(), open("/proc/%d/setgroups" % run.pid).read()
    finally:
        init.end()


def test_as_root():
    seen, setgroups = write(plan([[0, 100000, 1000], [1000, 5, 1]], [[0, 7, 2]]))
    assert [int(n) for n in seen[0]] == [0, 100000, 1000, 1000, 5, 1] and [int(n) for n in seen[1]] == [0, 7, 2]
    assert seen[2] == [0, 0, 0] and seen[3] == [0, 0, 0] and setgroups == "allow\n"


def test_the_kernel_may_show_many_lines_in_another_order():
    rows = [[(i * 7) % 30, 1000 + i * 10, 1] for i in range(30)]
    seen, _ = write(plan(rows))
    assert len(seen[0]) == 90


def test_the_full_range():
    assert write(plan([[0, 0, 4294967295]]))[0][0] == ["0", "0", "4294967295"]


def test_a_map_is_written_once():
    run = staged.prepared(staged.plan(["user"], MAPPED))
    init = staged.init(run, ids)
    try:
        idmaps.host_write(plan([[0, 1, 1]]), run)
        with pytest.raises(StepFailure) as caught:
            idmaps.host_write(plan([[0, 2, 1]]), run)
    finally:
        init.end()
    assert caught.value.pointer == UIDS and caught.value.words == "cannot write uid_map: operation not permitted"


def test_an_ordinary_user_maps_their_own_id():
    def attempt():
        entry = plan([[0, NOBODY, 1]], None, staged.plan(["user", "mount"], MAPPED, NOBODY), NOBODY)
        return [entry, *write(entry, NOBODY)]

    entry, seen, setgroups = staged.as_nobody(attempt)
    assert entry["newuidmap"] is None and entry["newgidmap"] is None
    assert seen[0] == seen[1] == ["0", str(NOBODY), "1"] and setgroups == "deny\n"


@pytest.fixture
def subids():
    """Subordinate ids of the user nobody, for the duration of the test."""
    if not shutil.which("newuidmap") or not os.stat("/usr/bin/newuidmap").st_mode & 0o4000:
        pytest.skip("this machine has no set-id newuidmap (package uidmap)")
    name = pwd.getpwuid(NOBODY).pw_name
    before = {}
    for path in ("/etc/subuid", "/etc/subgid"):
        before[path] = open(path).read() if os.path.exists(path) else None
        with open(path, "a") as file:
            file.write("%s:300000:1000\n" % name)
    yield [300000, 1000]
    for path, text in before.items():
        if text is None:
            os.unlink(path)
        else:
            with open(path, "w") as file:
                file.write(text)


def test_an_ordinary_user_with_subordinate_ids(subids):
    rows = [[0, NOBODY, 1], [1, *subids]]

    def attempt():
        entry = plan(rows, None, staged.plan(["user", "mount"], MAPPED, NOBODY), NOBODY)
        return [entry, *write(entry, NOBODY)]

    entry, seen, setgroups = staged.as_nobody(attempt)
    assert entry["newuidmap"] == "/usr/bin/newuidmap" and entry["newgidmap"] == "/usr/bin/newgidmap"
    assert [int(n) for n in seen[0]] == [0, NOBODY, 1, 1, *subids] and setgroups == "allow\n" and seen[4] is None


def test_ids_that_do_not_belong_to_the_user(subids):
    def attempt():
        entry = plan([[0, NOBODY, 1], [1, 900000, 5]], None, staged.plan(["user"], MAPPED, NOBODY), NOBODY)
        try:
            write(entry, NOBODY)
        except StepFailure as e:
            return [e.words, e.pointer, e.hint]

    words, pointer, hint = staged.as_nobody(attempt)
    assert words.startswith("/usr/bin/newuidmap: exit status 1: newuidmap: ") and pointer == UIDS and "/etc/subuid" in hint


@pytest.fixture
def tool(monkeypatch, tmp_path):
    def make(text):
        path = tmp_path / "newuidmap"
        path.write_text("#!/bin/sh\n" + text)
        path.chmod(0o755)
        entry = plan([[0, 1, 1]])
        entry["newuidmap"] = str(path)
        return entry

    return make


def test_a_tool_that_succeeds_without_writing_the_map(tool):
    with pytest.raises(StepFailure) as caught:
        write(tool("exit 0\n"))
    assert "the kernel shows another uid_map" in caught.value.words


@pytest.mark.slow
def test_a_tool_that_hangs(tool, monkeypatch):
    monkeypatch.setattr(idmaps, "TOOL_TIMEOUT_MS", 1000)
    with pytest.raises(StepFailure) as caught:
        write(tool("exec sleep 1000\n"))
    assert "no answer within 1 s" in caught.value.words


def test_a_tool_gets_numbers_and_a_clean_environment(tool, tmp_path):
    with pytest.raises(StepFailure):
        write(tool('echo "$@" >%s/args; cat /proc/$$/environ >%s/env; exit 1\n' % (tmp_path, tmp_path)))
    assert (tmp_path / "args").read_text().split()[1:] == ["0", "1", "1"]
    assert (tmp_path / "env").read_bytes() == b"PATH=/usr/sbin:/usr/bin:/sbin:/bin\0"


def test_the_maps_of_a_joined_user_namespace_are_compared():
    pod = staged.holder(c.CLONE_NEWUSER)
    try:
        for name in ("uid_map", "gid_map"):
            with open("/proc/%d/%s" % (pod.pid, name), "w") as file:
                file.write("0 5000 100")
        spaces = staged.plan([("user", "/proc/%d/ns/user" % pod.pid), "mount"])
        run = staged.prepared(spaces)
        init = staged.init(run, ids)
        idmaps.host_write(plan([[0, 5000, 100]], None, spaces), run)
        with pytest.raises(StepFailure) as caught:
            idmaps.host_write(plan([[0, 5000, 99]], None, spaces), run)
        words = "user namespaces enabled, but both namespace path and non-matching mapping specified -- you may only provide one"
        assert caught.value.words == words and caught.value.hint == "it has 0 5000 100"
        assert init.go()[2] == [0, 0, 0]
        init.end()
    finally:
        pod.end()
