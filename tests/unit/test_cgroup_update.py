"""cgroup/limits_update.py: merging stored and new limits, and undoing a write."""

import errno

import pytest

import cgroup_tools as tools
from pyrunc.cgroup import limits_update
from pyrunc.errors import Refusal, StepFailure
from pyrunc.parts import resources


@pytest.mark.parametrize(
    "stored, new, merged",
    [
        ({"memory": {"limit": 5, "swap": 9}}, {"memory": {"limit": 6}}, {"memory": {"limit": 6, "swap": 9}}),
        ({"memory": {"limit": 5, "swap": 9}}, {"memory": {"limit": -1}}, {"memory": {"limit": -1}}),
        ({"memory": {"limit": 5, "swap": 9}}, {"memory": {"limit": -1, "swap": 10}}, {"memory": {"limit": -1, "swap": 10}}),
        ({"cpu": {"quota": 5, "shares": 7}}, {"cpu": {"period": 6}}, {"cpu": {"quota": 5, "shares": 7, "period": 6}}),
        ({"cpu": {"shares": 7}}, {"cpu": {"idle": 1}}, {"cpu": {"idle": 1}}),
        ({"pids": {"limit": 5}}, {}, {"pids": {"limit": 5}}),
        ({}, {"pids": {"limit": 33}}, {"pids": {"limit": 33}}),
        ({"unified": [["a.b", "1"], ["c.d", "2"]]}, {"unified": [["a.b", "3"]]}, {"unified": [["a.b", "3"], ["c.d", "2"]]}),
        ({"hugetlb": [["2MB", 1]]}, {"hugetlb": [["1GB", 2]]}, {"hugetlb": [["1GB", 2], ["2MB", 1]]}),
    ],
)
def test_merge(stored, new, merged):
    before = repr(stored)
    assert limits_update.merge(stored, new) == {**merged, "asked": True}
    assert repr(stored) == before


def test_device_rules_stay_as_they_are_stored():
    merged = limits_update.merge({"devices": [[True, "c", 1, 3, "rwm"]], "in_userns": False}, {"pids": {"limit": 1}, "asked": True})
    assert merged["devices"] == [[True, "c", 1, 3, "rwm"]] and "devices" not in limits_update.to_write(merged, {"pids": {"limit": 1}})


@pytest.mark.parametrize(
    "stored, new, written",
    [
        ({"memory": {"limit": 5, "swap": 9, "reservation": 3}}, {"memory": {"limit": 6}}, {"memory": {"limit": 6, "swap": 9}}),
        ({"memory": {"limit": 5, "swap": 9}}, {"memory": {"reservation": 3}}, {"memory": {"reservation": 3}}),
        ({"cpu": {"quota": 5, "period": 8, "shares": 2}}, {"cpu": {"quota": 6}}, {"cpu": {"quota": 6, "period": 8}}),
        ({"cpu": {"quota": 5}}, {"cpu": {"shares": 6}}, {"cpu": {"shares": 6}}),
    ],
)
def test_only_new_values_and_their_partners_are_written(stored, new, written):
    assert limits_update.to_write(limits_update.merge(stored, new), new) == written


@pytest.mark.parametrize(
    "name, value, old, text",
    [
        ("pids.max", "5", "max\n", "max"),
        ("cpu.max", "1 2", "max 100000\n", "max 100000"),
        ("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n", "0"),
        ("memory.oom_control", "1", "oom_kill_disable 1\nunder_oom 0\n", "1"),
        ("cpuset.cpus", "0", "\n", "\n"),
        ("cpuset.cpus", "0", "0-1\n", "0-1"),
        ("blkio.throttle.read_bps_device", "8:0 5", "8:0 3\n8:16 4\n", "8:0 3"),
        ("blkio.throttle.read_bps_device", "8:32 5", "8:0 3\n", "8:32 0"),
        ("io.max", "8:0 rbps=1", "8:0 rbps=9 wbps=max riops=max wiops=max\n", "8:0 rbps=9 wbps=max riops=max wiops=max"),
        ("io.max", "8:0 rbps=1", "", "8:0 rbps=max wbps=max riops=max wiops=max"),
        ("io.weight", "200", "default 100\n8:0 50\n", "default 100"),
        ("io.weight", "8:0 200", "default 100\n8:0 50\n", "8:0 50"),
        ("io.bfq.weight", "8:16 200", "default 100\n", "8:16 default"),
        ("rdma.max", "mlx5_0 hca_handle=1", "mlx5_0 hca_handle=max hca_object=max\n", "mlx5_0 hca_handle=max hca_object=max"),
        ("net_prio.ifpriomap", "lo 5", "lo 0\neth0 3\n", "lo 0"),
        ("memory.high", "5", None, None),
    ],
)
def test_what_undoes_a_write(name, value, old, text):
    assert limits_update.former(name, value, old) == text


class Store(tools.Files):
    """A group whose files outlive the object, as those of a directory do."""

    all = {}

    def __init__(self, path, key):
        super().__init__({}, {}, key)
        self.path, self.files, self.refuse = path, self.all, Store.refused  # type: ignore[attr-defined]
        self.written = Store.log  # type: ignore[attr-defined]
        self.notes = None

    def put(self, name, value):
        old = self.look(name)
        super().put(name, value)
        if self.notes is not None:
            self.notes.append((self.path, self.key, name, value, old))

    def close(self):
        pass


@pytest.fixture
def store(monkeypatch):
    Store.all, Store.refused, Store.log = {}, {}, []  # type: ignore[attr-defined]
    monkeypatch.setattr(limits_update, "Group", Store)
    return Store


def test_a_failed_update_writes_the_old_values_back(store):
    store.all.update({"memory.limit_in_bytes": "100", "memory.memsw.limit_in_bytes": "200", "pids.max": "max", "cpu.shares": "1024"})
    store.refused = {("pids.max", "7"): errno.EINVAL}
    with pytest.raises(StepFailure) as e:
        limits_update.apply(
            {c: "/" + c for c in ("memory", "cpu", "pids")},
            {"memory": {"limit": 300, "swap": 400}, "cpu": {"shares": 5}, "pids": {"limit": 7}},
            1,
        )
    assert e.value.pointer == "/linux/resources/pids/limit"
    assert store.all == {"memory.limit_in_bytes": "100", "memory.memsw.limit_in_bytes": "200", "pids.max": "max", "cpu.shares": "1024"}
    names = [line.partition("=")[0] for line in store.log[-3:]]
    assert names == ["cpu.shares", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]  # in the opposite order of raising the limits


def test_values_that_cannot_be_restored_are_reported(store):
    store.all.update({"memory.limit_in_bytes": "100", "pids.max": "max"})
    store.refused = {("pids.max", "7"): errno.EINVAL, ("memory.limit_in_bytes", "100"): errno.EBUSY}
    with pytest.raises(StepFailure) as e:
        limits_update.apply({c: "/" + c for c in ("memory", "pids")}, {"memory": {"limit": 300}, "pids": {"limit": 7}}, 1)
    assert "could not be written back: /memory/memory.limit_in_bytes" in e.value.hint


def test_new_values_must_fit_the_stored_ones():
    run = tools.Run({"cgroups": {"version": 2, "manager": "cgroupfs", "paths": {}, "mounts": {}}})
    with pytest.raises(Refusal) as e:
        resources.update({"memory": {"swap": 5}}, {"memory": {"limit": 9}}, run)
    assert e.value.pointer == "/linux/resources/memory/swap"
    with pytest.raises(Refusal, match="unable to set swap limit without memory limit"):
        resources.update({"memory": {"swap": 5}}, {}, run)
