"""store: the log of states, its notes, and the holder of the lock."""

import fcntl
import json
import os
import posix

import pytest

from pyrunc import jsonio, store
from pyrunc.errors import StateError
from pyrunc.linux import jsonbytes
from pyrunc.state_dir import VERSION

STATE = {
    "version": VERSION, "id": "one", "bundle": "/b", "rootfs": "/b/rootfs", "annotations": {}, "created": "2026-01-01T00:00:00Z",
    "status": "creating", "pid": 0, "start_time": 0, "boot_id": "x",
}  # fmt: skip


@pytest.fixture
def state_dir(tmp_path):
    root = tmp_path / "root"
    state_dir = store.reserve(str(root), "one")
    state_dir.state.update(STATE)
    yield state_dir
    state_dir.close()


def read(state_dir):
    return store.open_state_dir(os.path.dirname(state_dir.path), "one").load().state


def log(state_dir):
    return os.path.join(state_dir.path, "state.json")


def test_the_last_line_counts(state_dir):
    state_dir.save()
    state_dir.record("pid", 77)
    state_dir.record("status", "created")
    assert read(state_dir) == {**STATE, "pid": 77, "status": "created"}
    assert len(open(log(state_dir)).read().split()) == 3


def test_a_truncated_line_does_not_count(state_dir):
    state_dir.record("pid", 77)
    with open(log(state_dir), "a") as file:
        file.write('\n{"version": 1, "pid": 99')
    assert read(state_dir)["pid"] == 77
    state_dir.record("pid", 78)
    assert read(state_dir)["pid"] == 78


@pytest.mark.parametrize("text", ["", "\n", "{", "[]\n", '{"version": 1}\n'])
def test_damaged(state_dir, text):
    with open(log(state_dir), "w") as file:
        file.write(text)
    with pytest.raises(StateError, match="damaged"):
        read(state_dir)


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("pid", 1, "pid 1"), ("pid", -5, "pid -5"), ("pid", (1 << 22) + 1, "pid 4194305"), ("pid", 10**30, "pid of more than 20 digits"),
        ("start_time", -1, "start_time -1"), ("start_time", 1 << 64, "start_time 18446744073709551616"),
    ],
)  # fmt: skip
def test_numbers_that_no_kernel_gives(state_dir, key, value, said):
    state_dir.create("plan.json", b"{}")  # so it is the plan of this runtime
    state_dir.record(key, value)
    with pytest.raises(StateError, match="damaged: " + said):
        read(state_dir)


def test_an_integer_that_python_does_not_read(state_dir):
    with open(log(state_dir), "w") as file:
        file.write(json.dumps(STATE).replace('"pid": 0', '"pid": %s' % ("9" * 5000)) + "\n")
    with pytest.raises(StateError, match="damaged"):
        read(state_dir)


PLANS = {
    "meta": {"annotations": {'\n,"mounts":': "\n"}},
    "mounts": {"list": [1]},
    "cgroups": {"paths": {"": "/a\udcff"}},
    "paths": [],
    "é": 1,
}


def test_a_plan_without_unwanted_parts(state_dir):
    """Strings that look like the beginning of a part do not count: a line break in a string is written as an escape."""
    text = jsonbytes.by_lines(PLANS)
    state_dir.create("plan.json", text)
    assert json.loads(text.decode("utf-8", "surrogateescape")) == state_dir.plan() == PLANS
    assert state_dir.plan(("mounts", "paths", "nothing")) == {key: PLANS[key] for key in ("meta", "cgroups", "é")}
    assert state_dir.plan(("é",)) == {key: value for key, value in PLANS.items() if key != "é"}


@pytest.mark.parametrize("plans", [{}, {"meta": 1}, {"meta": {}, "mounts": None}])
def test_small_plans(state_dir, plans):
    state_dir.create("plan.json", jsonbytes.by_lines(plans))
    assert state_dir.plan() == plans and state_dir.plan(("mounts",)) == {key: value for key, value in plans.items() if key != "mounts"}


def test_a_reformatted_plan_is_read_completely(state_dir):
    state_dir.create("plan.json", json.dumps(PLANS, indent=1).encode())
    assert state_dir.plan(("mounts",)) == PLANS


def test_one_document_without_a_newline(state_dir):
    with open(log(state_dir), "w") as file:
        file.write(jsonio.dumps(STATE))
    assert read(state_dir) == STATE


def test_notes_are_not_states(state_dir):
    state_dir.save()
    assert state_dir.note("trace") is None
    state_dir.save({"trace": [1]})
    state_dir.save({"trace": [2]})
    assert read(state_dir) == STATE and state_dir.note("trace") == [2]


def test_a_long_log_is_started_again(state_dir):
    state_dir.state["annotations"] = {"long": "x" * 100_000}
    for _ in range(5):
        state_dir.save()
        state_dir.close_log()
    assert os.path.getsize(log(state_dir)) < 4 * 100_200
    assert read(state_dir)["annotations"] == state_dir.state["annotations"]


def test_refresh_reads_what_others_have_written(state_dir):
    state_dir.save()
    state_dir.state["status"] = "ours"
    assert state_dir.refresh().state["status"] == "ours"  # nobody has written: nothing is read
    other = store.open_state_dir(os.path.dirname(state_dir.path), "one").load()
    other.record("pid", 78)
    assert (state_dir.refresh().state["pid"], state_dir.state["status"]) == (78, STATE["status"])
    state_dir.save()
    other.write("state.json", open(log(state_dir), "rb").read())  # replaced by one of the same size
    state_dir.state["status"] = "ours"
    assert state_dir.refresh().state["status"] == STATE["status"]
    other.close()


def test_whole(state_dir):
    """Logs that end with a line written by save(), which `list -q` need not parse. load() handles all others."""
    root = os.path.dirname(state_dir.path)

    def whole():
        return store.whole(root, ["none", "one"])

    assert whole() == set()
    state_dir.save()
    assert whole() == {"one"}
    state_dir.save({"hooks": []})
    assert whole() == {"one"}
    good = open(log(state_dir)).read()
    for text in (
        "",
        "\n",
        good[:-1],
        good + "\n{",
        good + "\n[]\n",
        good.replace('"id":"one"', '"id":"on"'),
        good.replace(":1,", ":2,"),
        "x" * 70000,
    ):
        with open(log(state_dir), "w") as file:
            file.write(text)
        assert whole() == set(), text[-60:]
    with open(log(state_dir), "w") as file:
        file.write("\n%s\n" % ("x" * 70000) + good)
    assert whole() == set() and read(state_dir) == STATE, "a long log is read by load()"


@pytest.mark.parametrize("kind", ["fifo", "directory", "link", "link of the directory"])
def test_whole_follows_no_link_and_waits_for_nothing(state_dir, tmp_path, kind):
    root = os.path.dirname(state_dir.path)
    state_dir.save()
    if kind == "link of the directory":
        os.rename(state_dir.path, tmp_path / "elsewhere")
        os.symlink(tmp_path / "elsewhere", state_dir.path)
    else:
        os.rename(log(state_dir), tmp_path / "elsewhere")
        {"fifo": os.mkfifo, "directory": os.mkdir, "link": lambda path: os.symlink(tmp_path / "elsewhere", path)}[kind](log(state_dir))
    assert store.whole(root, store.ids(root)) == set()


def test_whole_without_a_root(tmp_path):
    assert store.whole(str(tmp_path / "none"), ["one"]) == set()


def test_holder(state_dir):
    assert state_dir.holder() == os.getpid()
    state_dir.unlock()
    assert state_dir.holder() is None
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        fd = os.open(state_dir.path, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(ready[1], b"x")
        os.close(done[1])
        os.read(done[0], 1)
        os._exit(0)
    try:
        os.read(ready[0], 1)
        assert state_dir.holder() == child
        with pytest.raises(StateError, match=r"held by pid %d \(" % child):
            state_dir.lock(0)
    finally:
        os.close(done[1])
        os.waitpid(child, 0)
    for fd in (*ready, done[0]):
        os.close(fd)


def test_the_id_is_taken_once(state_dir):
    with pytest.raises(StateError, match="already exists"):
        store.reserve(os.path.dirname(state_dir.path), "one")


def test_the_plan_is_removed_last(tmp_path, monkeypatch):
    """It marks the directory as ours, so an interrupted forget() must leave it."""
    (tmp_path / "x").mkdir()
    for name in ("a", "plan.json", "state.json", "z"):
        (tmp_path / "x" / name).write_text("")
    gone, unlink = [], posix.unlink
    monkeypatch.setattr(posix, "unlink", lambda name, **k: (gone.append(name), unlink(name, **k)))
    store.open_state_dir(str(tmp_path), "x").forget()
    assert gone[-1] == "plan.json" and not (tmp_path / "x").exists()


def test_a_directory_that_cannot_be_opened_is_removed_again(tmp_path, monkeypatch):
    """EMFILE after the mkdir: the id is still free."""
    root = tmp_path / "state"
    store.reserve(str(root), "c0").close()
    real = store.posix.open

    def refused(path, *words, **more):
        if path == "c1":
            raise OSError(24, "no descriptor is left")
        return real(path, *words, **more)

    monkeypatch.setattr(store.posix, "open", refused)
    with pytest.raises(StateError):
        store.reserve(str(root), "c1")
    monkeypatch.undo()
    assert not (root / "c1").exists()
    store.reserve(str(root), "c1").close()
