"""parts/rdt over a tree that looks like resctrl (no such hardware here): plain files, so errors of the kernel are not covered."""

import json
import os

import pytest

import cgroup_tools as tools
from pyrunc import state_dir
from pyrunc.engine import usage
from pyrunc.errors import Refusal, StepFailure, Unsupported
from pyrunc.parts import rdt


@pytest.fixture
def resctrl(tmp_path, monkeypatch):
    root = tmp_path / "resctrl"
    for name in ("info/L3", "info/MB", "mon_groups", "mon_data/mon_L3_00"):
        (root / name).mkdir(parents=True)
    (root / "info/last_cmd_status").write_text("ok\n")
    (root / "schemata").write_text("    L3:0=fffff;1=fffff\n    MB:0=100;1=100\n")
    (root / "tasks").write_text("")
    for name, text in (("cbm_mask", "fffff"), ("min_cbm_bits", "1"), ("num_closids", "16")):
        (root / "info/L3" / name).write_text(text + "\n")
    monkeypatch.setattr(rdt.resctrl, "find_root", lambda: str(root))
    monkeypatch.setattr(rdt.resctrl, "in_resctrl", lambda fd: True)
    real = rdt.posix.mkdir

    def mkdir(name, mode, dir_fd):
        """Like the kernel: a new group comes with its files."""
        real(name, mode, dir_fd=dir_fd)
        for file in ("tasks", "schemata"):
            fd = rdt.posix.open("%s/%s" % (name, file), rdt.posix.O_CREAT | rdt.posix.O_WRONLY, dir_fd=dir_fd)
            rdt.posix.close(fd)

    def rmdir(name, dir_fd):
        for file in ("tasks", "schemata"):
            try:
                rdt.posix.unlink("%s/%s" % (name, file), dir_fd=dir_fd)
            except FileNotFoundError:
                continue
        rdt_rmdir(name, dir_fd=dir_fd)

    rdt_rmdir = rdt.posix.rmdir
    fake = type("posix", (), {**vars(rdt.posix), "mkdir": staticmethod(mkdir), "rmdir": staticmethod(rmdir)})
    monkeypatch.setattr(rdt, "posix", fake)
    return root


def plan(node):
    return rdt.plan({rdt.POINTER: node}, tools.make_ctx())


def run_of(entry):
    run = tools.Run({"rdt": entry})
    run.pid = 77
    return run


def test_absent_touches_nothing():
    assert rdt.plan({}, tools.make_ctx()) is None


def test_no_resctrl(monkeypatch):
    monkeypatch.setattr(rdt.resctrl, "find_root", lambda: None)
    with pytest.raises(Unsupported, match="intelRdt is specified in config, but Intel RDT is not enabled"):
        plan({})


@pytest.mark.parametrize(
    "node, pointer",
    [
        ({"closID": "../x"}, "closID"), ({"closID": "."}, "closID"), ({"closID": ".."}, "closID"), ({"closID": "a/b"}, "closID"),
        ({"closID": "info"}, "closID"), ({"closID": "a\nb"}, "closID"), ({"l3CacheSchema": "L3:0=f\nMB:0=1"}, "l3CacheSchema"),
        ({"l3CacheSchema": "MB:0=1"}, "l3CacheSchema"), ({"memBwSchema": "MB:0=1\n"}, "memBwSchema"),
        ({"memBwSchema": "L3:0=1"}, "memBwSchema"),
        ({"schemata": ["L3:0=f", "x\ny:1"]}, "schemata/1"), ({"schemata": ["nonsense"]}, "schemata/0"),
    ],
)  # fmt: skip
def test_refused(resctrl, node, pointer):
    with pytest.raises(Refusal) as e:
        plan(node)
    assert e.value.pointer == "/linux/intelRdt/" + pointer


@pytest.mark.parametrize("resource, key, word", [("L3", "l3CacheSchema", "CAT"), ("MB", "memBwSchema", "MBA")])
def test_hardware_without_it(resctrl, resource, key, word):
    for file in (resctrl / "info" / resource).iterdir():
        file.unlink()
    (resctrl / "info" / resource).rmdir()
    with pytest.raises(Unsupported) as e:
        plan({key: resource + ":0=1"})
    assert e.value.words == "intelRdt.%s is specified in config, but Intel RDT/%s is not enabled" % (key, word)


def test_a_group_for_the_container(resctrl):
    entry = plan({"l3CacheSchema": "L3:0=f", "memBwSchema": "MB:0=50", "schemata": ["L2:0=3"], "enableMonitoring": False})
    assert entry["group"] == "c1" and not entry["named"]
    run = run_of(entry)
    rdt.host_make(entry, run)
    assert run.records == [("rdt", {"made": True, "monitor": False})]
    rdt.host_place(entry, run)
    rdt.host_apply(entry, run)
    assert (resctrl / "c1/tasks").read_text() == "77"
    assert (resctrl / "c1/schemata").read_text() == "L3:0=f\nMB:0=50\nL2:0=3\n"
    rdt.undo_make(entry, run)
    rdt.undo_make(entry, run)
    assert not (resctrl / "c1").exists()


def test_a_named_class_without_a_schema_must_exist(resctrl):
    entry = plan({"closID": "gold"})
    with pytest.raises(StepFailure) as e:
        rdt.host_make(entry, run_of(entry))
    assert e.value.pointer == "/linux/intelRdt/closID" and not (resctrl / "gold").exists()


@pytest.mark.parametrize(
    "schema, fits",
    [
        ("L3:0=f;1=0ff", True),
        ("L3:1=ff;0=00f", True),
        ("L3:0=F", True),
        ("L3: 0 = f", True),
        ("L3:0=ff", False),
        ("L3:2=f", False),
        ("L2:0=f", False),
    ],
)
def test_a_named_class_is_compared_and_never_rewritten(resctrl, schema, fits):
    (resctrl / "gold").mkdir()
    (resctrl / "gold/tasks").write_text("")
    (resctrl / "gold/schemata").write_text("    L3:0=0000f;1=000ff\n    MB:0=100\n")
    entry = plan({"closID": "gold", "schemata": [schema]})
    run = run_of(entry)
    rdt.host_make(entry, run)
    if fits:
        rdt.host_apply(entry, run)
    else:
        with pytest.raises(StepFailure, match="has another schema"):
            rdt.host_apply(entry, run)
    assert (resctrl / "gold/schemata").read_text() == "    L3:0=0000f;1=000ff\n    MB:0=100\n"
    rdt.undo_make(entry, run)
    assert (resctrl / "gold").exists()


def test_a_named_class_that_we_made_gets_its_schema_and_stays(resctrl):
    entry = plan({"closID": "gold", "schemata": ["L3:0=f"]})
    run = run_of(entry)
    rdt.host_make(entry, run)
    rdt.host_apply(entry, run)
    rdt.undo_make(entry, run)
    assert (resctrl / "gold/schemata").read_text() == "L3:0=f\n"


def test_the_root_group(resctrl):
    entry = plan({"closID": "/"})
    run = run_of(entry)
    rdt.host_make(entry, run)
    rdt.host_place(entry, run)
    rdt.undo_make(entry, run)
    assert (resctrl / "tasks").read_text() == "77"


def test_monitoring(resctrl):
    (resctrl / "gold/mon_groups").mkdir(parents=True)
    (resctrl / "gold/tasks").write_text("")
    entry = plan({"closID": "gold", "enableMonitoring": True})
    run = run_of(entry)
    rdt.host_make(entry, run)
    rdt.host_place(entry, run)
    assert (resctrl / "gold/mon_groups/c1/tasks").read_text() == "77"
    rdt.undo_make(entry, run)
    assert (resctrl / "gold").exists() and not (resctrl / "gold/mon_groups/c1").exists()


def test_the_kernels_reason_is_shown(resctrl, monkeypatch):
    entry = plan({"schemata": ["L3:0=0"]})
    run = run_of(entry)
    rdt.host_make(entry, run)
    (resctrl / "info/last_cmd_status").write_text("Need at least 1 bits in the mask\n")
    real = rdt.resctrl.write

    def refuse(fd, name, text, path):
        if name == "schemata":
            raise OSError(22, "Invalid argument", path + "/schemata")
        real(fd, name, text, path)

    monkeypatch.setattr(rdt.resctrl, "write", refuse)
    with pytest.raises(StepFailure, match="Need at least 1 bits in the mask"):
        rdt.host_apply(entry, run)


def test_update(resctrl):
    entry = plan({"l3CacheSchema": "L3:0=f", "schemata": ["L2:0=3"]})
    run = run_of(entry)
    rdt.host_make(entry, run)
    new = rdt.update(entry, "L3:0=3", None, run)
    assert new["schemata"] == ["L3:0=3", "L2:0=3"] and (resctrl / "c1/schemata").read_text() == "L3:0=3\n"
    assert rdt.updatable(entry) is entry
    with pytest.raises(Refusal, match="updating a non-existent Intel RDT configuration is not supported"):
        rdt.updatable(None)


def test_stats(resctrl):
    data = resctrl / "c1/mon_data/mon_L3_00"
    data.mkdir(parents=True)
    (resctrl / "c1/schemata").write_text("L3:0=f\n")
    for name, text in (("llc_occupancy", "5"), ("mbm_total_bytes", "7"), ("mbm_local_bytes", "Unavailable")):
        (data / name).write_text(text + "\n")
    found = rdt.stats(plan({}))
    assert found["l3_cache_schema"] == "L3:0=f" and found["l3_cache_schema_root"] == "L3:0=fffff;1=fffff"
    assert found["l3_cache_info"] == {"cbm_mask": "fffff", "min_cbm_bits": 1, "num_closids": 16}
    assert found["cmt_stats"] == [{"llc_occupancy": 5}] and found["mbm_stats"] == [{"mbm_total_bytes": 7}]


def test_events_contain_the_statistics(resctrl, tmp_path):
    """What `events` and `stats --format json` print; a container without a plan for RDT is the control."""
    data = resctrl / "c1/mon_data/mon_L3_00"
    data.mkdir(parents=True)
    (resctrl / "c1/schemata").write_text("L3:0=f\n")
    (data / "llc_occupancy").write_text("5\n")
    for plans, wanted in (({"rdt": plan({})}, [{"llc_occupancy": 5}]), ({}, None)):
        (tmp_path / "plan.json").write_text(json.dumps(plans))
        stored = state_dir.StateDir("c1", str(tmp_path), os.open(tmp_path, os.O_RDONLY))
        try:
            assert usage.full(stored)["intel_rdt"].get("cmt_stats") == wanted
        finally:
            stored.close()


class Drift:
    """What engine.diff passes to parts/drift."""

    def __init__(self, entry, pid_files):
        self.plans = {"rdt": entry}
        self.pid_files = pid_files
        self.rows = []

    def differs(self, area, what, planned, seen, pointer=None):
        self.rows.append((area, what, planned, seen, pointer))

    def proc(self, name):
        if name not in self.pid_files:
            raise FileNotFoundError(2, "No such file or directory")
        return self.pid_files[name]


def test_what_differs(resctrl):
    from pyrunc.parts.drift import rdt as drift_rdt

    (resctrl / "info/MB/bandwidth_gran").write_text("10\n")
    entry = plan({"closID": "one", "l3CacheSchema": "L3:0=f;1=ff", "memBwSchema": "MB:0=15;1=20"})

    def differences(**pid_files):
        drift = Drift(entry, pid_files)
        drift_rdt.compare(entry, drift)
        return drift.rows

    assert differences() == [("resctrl", "group", "/one", None, "/linux/intelRdt")]
    (resctrl / "one").mkdir()
    (resctrl / "one/schemata").write_text("    L3:0=0000f;1=000ff\n    MB:0=  20;1=  20\n")
    assert differences() == differences(cpu_resctrl_groups="res:/one\nmon:\n") == []
    assert [row[:4] for row in differences(cpu_resctrl_groups="res:/\nmon:/\n")] == [("resctrl", "group", "/one", "/")]
    (resctrl / "one/schemata").write_text("    L3:0=0000f;1=0000f\n    MB:0=  30\n")
    assert [row[1:4] for row in differences()] == [("L3:1", "ff", "f"), ("MB:0", "15", "30"), ("MB:1", "20", None)]
