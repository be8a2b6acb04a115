"""store: the log of states, its notes, and who holds the lock."""

import fcntl
import json
import os
import posix

import pytest

from pyrunc import store
from pyrunc.errors import StateError
from pyrunc.linux import jsonbytes

STATE = {
    "version": store.VERSION, "id": "one", "bundle": "/b", "rootfs": "/b/rootfs", "annotations": {}, "created": "2026-01-01T00:00:00Z",
    "status": "creating", "pid": 0, "start_time": 0, "boot_id": "x",
}  # fmt: skip


@pytest.fixture
def box(tmp_path):
    root = tmp_path / "root"
    box = store.reserve(str(root), "one")
    box.state = dict(STATE)
    yield box
    box.close()


def read(box):
    return store.open_box(os.path.dirname(box.path), "one").load().state


def log(box):
    return os.path.join(box.path, "state.json")


def test_the_last_line_counts(box):
    box.save()
    box.record("pid", 77)
    box.record("status", "created")
    assert read(box) == {**STATE, "pid": 77, "status": "created"}
    assert len(open(log(box)).read().split()) == 3


def test_a_line_that_was_cut_short_does_not(box):
    box.record("pid", 77)
    with open(log(box), "a") as file:
        file.write('\n{"version": 1, "pid": 99')
    assert read(box)["pid"] == 77
    box.record("pid", 78)
    assert read(box)["pid"] == 78


@pytest.mark.parametrize("text", ["", "\n", "{", "[]\n", '{"version": 1}\n'])
def test_damaged(box, text):
    with open(log(box), "w") as file:
        file.write(text)
    with pytest.raises(StateError, match="damaged"):
        read(box)


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("pid", 1, "pid 1"), ("pid", -5, "pid -5"), ("pid", (1 << 22) + 1, "pid 4194305"), ("pid", 10**30, "pid of more than 20 digits"),
        ("start_time", -1, "start_time -1"), ("start_time", 1 << 64, "start_time 18446744073709551616"),
    ],
)  # fmt: skip
def test_numbers_that_no_kernel_gives(box, key, value, said):
    box.create("plan.json", b"{}")  # so it is one of ours
    box.record(key, value)
    with pytest.raises(StateError, match="damaged: " + said):
        read(box)


def test_an_integer_that_python_does_not_read(box):
    with open(log(box), "w") as file:
        file.write(json.dumps(STATE).replace('"pid": 0', '"pid": %s' % ("9" * 5000)) + "\n")
    with pytest.raises(StateError, match="damaged"):
        read(box)


PLANS = {
    "meta": {"annotations": {'\n,"mounts":': "\n"}},
    "mounts": {"list": [1]},
    "cgroups": {"paths": {"": "/a\udcff"}},
    "paths": [],
    "é": 1,
}


def test_a_plan_without_what_is_not_wanted(box):
    """Strings that look like the beginning of a part do not count: a line break in a string is written as two characters."""
    text = jsonbytes.by_lines(PLANS)
    box.create("plan.json", text)
    assert json.loads(text.decode("utf-8", "surrogateescape")) == box.plan() == PLANS
    assert box.plan(("mounts", "paths", "nothing")) == {key: PLANS[key] for key in ("meta", "cgroups", "é")}
    assert box.plan(("é",)) == {key: value for key, value in PLANS.items() if key != "é"}


@pytest.mark.parametrize("plans", [{}, {"meta": 1}, {"meta": {}, "mounts": None}])
def test_small_plans(box, plans):
    box.create("plan.json", jsonbytes.by_lines(plans))
    assert box.plan() == plans and box.plan(("mounts",)) == {key: value for key, value in plans.items() if key != "mounts"}


def test_a_plan_that_somebody_has_laid_out_is_read_whole(box):
    box.create("plan.json", json.dumps(PLANS, indent=1).encode())
    assert box.plan(("mounts",)) == PLANS


def test_one_document_without_a_newline(box):
    with open(log(box), "w") as file:
        file.write(store.lean.dumps(STATE))
    assert read(box) == STATE


def test_notes_are_no_states(box):
    box.save()
    assert box.note("trace") is None
    box.save({"trace": [1]})
    box.save({"trace": [2]})
    assert read(box) == STATE and box.note("trace") == [2]


def test_a_long_log_begins_anew(box):
    box.state["annotations"] = {"long": "x" * 100_000}
    for _ in range(5):
        box.save()
        box.close_log()
    assert os.path.getsize(log(box)) < 4 * 100_200
    assert read(box)["annotations"] == box.state["annotations"]


def test_whole(box):
    """What `list -q` need not parse: a log that ends with a line of save()'s. All else is for load() to judge."""
    root = os.path.dirname(box.path)

    def whole():
        return store.whole(root, ["none", "one"])

    assert whole() == set()
    box.save()
    assert whole() == {"one"}
    box.save({"hooks": []})
    assert whole() == {"one"}
    good = open(log(box)).read()
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
        with open(log(box), "w") as file:
            file.write(text)
        assert whole() == set(), text[-60:]
    with open(log(box), "w") as file:
        file.write("\n%s\n" % ("x" * 70000) + good)
    assert whole() == set() and read(box) == STATE, "a long log is read by load()"


@pytest.mark.parametrize("kind", ["fifo", "directory", "link", "link of the directory"])
def test_whole_follows_no_link_and_waits_for_nothing(box, tmp_path, kind):
    root = os.path.dirname(box.path)
    box.save()
    if kind == "link of the directory":
        os.rename(box.path, tmp_path / "elsewhere")
        os.symlink(tmp_path / "elsewhere", box.path)
    else:
        os.rename(log(box), tmp_path / "elsewhere")
        {"fifo": os.mkfifo, "directory": os.mkdir, "link": lambda path: os.symlink(tmp_path / "elsewhere", path)}[kind](log(box))
    assert store.whole(root, store.ids(root)) == set()


def test_whole_without_a_root(tmp_path):
    assert store.whole(str(tmp_path / "none"), ["one"]) == set()


def test_holder(box):
    assert box.holder() == os.getpid()
    box.unlock()
    assert box.holder() is None
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        fd = os.open(box.path, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(ready[1], b"x")
        os.close(done[1])
        os.read(done[0], 1)
        os._exit(0)
    try:
        os.read(ready[0], 1)
        assert box.holder() == child
        with pytest.raises(StateError, match=r"held by pid %d \(" % child):
            box.lock(0)
    finally:
        os.close(done[1])
        os.waitpid(child, 0)
    for fd in (*ready, done[0]):
        os.close(fd)


def test_the_id_is_taken_once(box):
    with pytest.raises(StateError, match="already exists"):
        store.reserve(os.path.dirname(box.path), "one")


def test_the_plan_goes_last(tmp_path, monkeypatch):
    """By it a directory is known to be ours: a forget() that was cut short leaves it."""
    (tmp_path / "x").mkdir()
    for name in ("a", "plan.json", "state.json", "z"):
        (tmp_path / "x" / name).write_text("")
    gone, unlink = [], posix.unlink
    monkeypatch.setattr(posix, "unlink", lambda name, **k: (gone.append(name), unlink(name, **k)))
    store.open_box(str(tmp_path), "x").forget()
    assert gone[-1] == "plan.json" and not (tmp_path / "x").exists()


def test_a_directory_that_can_not_be_opened_goes_again(tmp_path, monkeypatch):
    """EMFILE after the mkdir: the id is as free as before."""
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
