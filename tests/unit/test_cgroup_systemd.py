"""cgroup/systemd.py, unit_properties.py, gvariant.py: names, property texts, and limits as properties."""

import pytest

import cgroup_tools as tools
from pyrunc import jsonio
from pyrunc.cgroup import gvariant, hierarchies, systemd, unit_properties
from pyrunc.errors import Refusal
from pyrunc.linux import dbus, jsonbytes
from pyrunc.parts import cgroups

INF = 2**64 - 1


@pytest.mark.parametrize(
    "name, path",
    [
        ("a.slice", "/a.slice"),
        ("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice"),
        ("-.slice", "/"),
        ("kubepods-besteffort-podx.slice", "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podx.slice"),
    ],
)
def test_slices(name, path):
    assert systemd.expand(name) == path


@pytest.mark.parametrize("name", ["", ".slice", "a", "a.scope", "-a.slice", "a-.slice", "a--b.slice", "a/b.slice", "--.slice"])
def test_no_slices(name):
    with pytest.raises(Refusal, match="invalid slice name"):
        systemd.expand(name)


@pytest.fixture
def plan(monkeypatch):
    def call(path=None, kind="v2", annotations=None, **kw):
        monkeypatch.setattr(hierarchies, "layout", lambda: tools.layout(kind))
        ctx = tools.make_ctx(systemd_cgroup=True, plans={"meta": {"annotations": annotations or {}}}, **kw)
        return cgroups.plan({} if path is None else {"/linux/cgroupsPath": path}, ctx)

    return call


@pytest.mark.parametrize(
    "given, unit, below",
    [
        (None, "pyrunc-c1.scope", "/system.slice/pyrunc-c1.scope"),
        ("", "pyrunc-c1.scope", "/system.slice/pyrunc-c1.scope"),
        ("system.slice:docker:abc", "docker-abc.scope", "/system.slice/docker-abc.scope"),
        (":docker:abc", "docker-abc.scope", "/system.slice/docker-abc.scope"),
        ("machine.slice::abc", "abc.scope", "/machine.slice/abc.scope"),
        ("a-b.slice:cri:x", "cri-x.scope", "/a.slice/a-b.slice/cri-x.scope"),
        ("-.slice:p:n", "p-n.scope", "/p-n.scope"),
        ("a.slice:p:n.slice", "n.slice", "/a.slice/n.slice"),
        ("a.slice:p:x+y", "p-x\\x2by.scope", "/a.slice/p-x\\x2by.scope"),
    ],
)
def test_plan(plan, given, unit, below):
    entry = plan(given)
    assert entry["unit"]["name"] == unit
    assert entry["paths"] == {"unified": "/sys/fs/cgroup" + below}
    assert entry["manager"] == "systemd"


@pytest.mark.parametrize(
    "given", ["/a/b", "a", "a:b", "a:b:c:d", "::", "a.slice:p:", "nope:p:n", "a.slice:p:x/y", "a.slice:p/q:x", "a.slice:p:" + "x" * 250,
        "a--b.slice:p:n", "a.slice:p:-x.slice"]
)  # fmt: skip
def test_refused(plan, given):
    with pytest.raises(Refusal) as e:
        plan(given)
    assert e.value.pointer == "/linux/cgroupsPath"


def test_a_wrong_format_is_reported_in_runcs_words(plan):
    with pytest.raises(Refusal) as e:
        plan("/a/b")
    assert e.value.words == 'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, got "/a/b" instead'


@pytest.mark.parametrize("timeout_s, kept_ms", [(1.0, 1000), (0.5, 500), (0.0001, 1), (90000.0, 90_000_000)])
def test_the_timeout_is_readable_in_the_state(plan, timeout_s, kept_ms):
    """State and plan contain no numbers with a decimal point: such a document is damaged, and its container could not be deleted."""
    entry = plan(systemd_timeout=timeout_s)
    assert jsonio.loads(jsonbytes.dumps(entry), ours=True)["unit"]["timeout_ms"] == kept_ms


def test_rootless_goes_below_the_user_manager(plan):
    entry = plan(None, euid=1000)
    assert entry["unit"]["user"] and entry["unit"]["slice"] == "user.slice"
    assert entry["paths"]["unified"] == "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/user.slice/pyrunc-c1.scope"


def test_v1_has_all_hierarchies(plan):
    paths = plan("a.slice:p:n", "hybrid")["paths"]
    assert paths["memory"] == "/sys/fs/cgroup/memory/a.slice/p-n.scope"
    assert paths["unified"] == "/sys/fs/cgroup/unified/a.slice/p-n.scope"


# --- annotations


@pytest.mark.parametrize(
    "text, value",
    [
        ("true", ("b", True)), ("false", ("b", False)), ("5", ("i", 5)), ("-5", ("i", -5)), ("uint64 5", ("t", 5)), ("int64 -5", ("x", -5)),
        ("byte 0x1f", ("y", 31)), ("uint32 010", ("u", 8)), ("1.5", ("d", 1.5)), ("double 2", ("d", 2.0)), ("'a b'", ("s", "a b")),
        ('"a\\"b"', ("s", 'a"b')), ("'\\u00e9\\n'", ("s", "é\n")), ("objectpath '/a'", ("o", "/a")), ("['a', 'b']", ("as", ["a", "b"])),
        ("@as []", ("as", [])), ("@at [1, 2]", ("at", [1, 2])), ("[uint64 1, 2]", ("at", [1, 2])), ("('a', 5)", ("(si)", ("a", 5))),
        ("[('a', true)]", ("a(sb)", [("a", True)])), ("<5>", ("v", ("i", 5))), ("@a(sv) [('x', <true>)]", ("a(sv)", [("x", ("b", True))])),
        ("('a',)", ("(s)", ("a",))), (" uint64   7 ", ("t", 7)),
    ],
)  # fmt: skip
def test_gvariant(text, value):
    assert gvariant.parse(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "abc", "'a", "uint64", "uint64 -1", "uint64 18446744073709551616", "byte 256", "[1, 'a']", "[", "[]", "()", "(1", "5 6",
        "@zz []",
        "@as ['a', 5]", "int32 1.5", "0x", "08", "uint64 'a'", "boolean 5", "'\\q'", "'\\u12'", "1_000", "٣", "[" * 50, "--5", "<5",
        "'a\\u0000b'", "true1",
    ],
)  # fmt: skip
def test_no_gvariant(text):
    with pytest.raises(gvariant.Unreadable):
        gvariant.parse(text)


@pytest.mark.parametrize(
    "annotations, properties",
    [
        ({}, []),
        ({"x.y": "1"}, []),
        ({"org.systemd.property.KillSignal": "15"}, [["KillSignal", "i", 15]]),
        ({"org.systemd.property.TimeoutStopUSec": "uint64 10000000"}, [["TimeoutStopUSec", "t", 10000000]]),
        ({"org.systemd.property.TimeoutStopSec": "10"}, [["TimeoutStopUSec", "t", 10000000]]),
        ({"org.systemd.property.TimeoutStopSec": "1.5"}, [["TimeoutStopUSec", "t", 1500000]]),
        ({"org.systemd.property.CollectMode": "'inactive-or-failed'"}, [["CollectMode", "s", "inactive-or-failed"]]),
    ],
)
def test_properties_of_annotations(annotations, properties):
    assert systemd.properties_of(annotations) == properties


@pytest.mark.parametrize("name, text", [("ab", "1"), ("A_b", "1"), ("Memory1", "1"), ("", "1"), ("KillSignal", "oops"), ("Été", "1")])
def test_bad_annotations(name, text):
    with pytest.raises(Refusal) as e:
        systemd.properties_of({"org.systemd.property." + name: text})
    assert e.value.pointer.startswith("/annotations/org.systemd.property.")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("TimeoutStopSec", "1e999"),
        ("TimeoutStopSec", "-1e999"),
        ("TimeoutStopSec", "uint64 18446744073709551615"),
        ("TimeoutStopSec", "double 1e15"),
        ("CPUWeight", "1.5"),
        ("After", "[<1.5>]"),
        ("Description", "'\\ud800'"),
        ("Description", "'\\udc80'"),
        ("Description", "'\udc80'"),
        ("After", "[" * 100000),
        ("After", "<" * 100000),
        ("After", "(" * 100000),
        ("After", "uint64 " * 100000),
    ],
)
def test_values_that_cannot_be_represented(name, text):
    """They used to crash pyrunc, here or when the unit was created."""
    with pytest.raises(Refusal) as e:
        systemd.properties_of({"org.systemd.property." + name: text})
    assert e.value.pointer == "/annotations/org.systemd.property." + name and len(e.value.sentence()) < 400


@pytest.mark.parametrize("number", [1 << 63, (1 << 64) - 1])
def test_large_numbers_are_kept(number):
    found = systemd.properties_of({"org.systemd.property.TimeoutStopUSec": "uint64 %d" % number})
    assert found == [["TimeoutStopUSec", "t", number]]
    assert jsonio.loads(jsonbytes.dumps(found), ours=True) == found and jsonio.loads(jsonio.dumps(found)) == found
    out = dbus.marshal("(sv)", [("TimeoutStopUSec", ("t", number))], bytearray())
    assert dbus.unmarshal("(sv)", bytes(out)) == [("TimeoutStopUSec", ("t", number))]


def test_annotations_mean_nothing_to_cgroupfs(monkeypatch):
    monkeypatch.setattr(hierarchies, "layout", lambda: tools.layout("v2"))
    ctx = tools.make_ctx(plans={"meta": {"annotations": {"org.systemd.property.A": "oops"}}})
    assert "unit" not in cgroups.plan({}, ctx)


# --- limits as properties


@pytest.mark.parametrize(
    "resources, cgroup_version, version, properties",
    [
        ({"memory": {"limit": 5, "swap": 7, "reservation": 3}}, 2, 257, {"MemoryMax": 5, "MemorySwapMax": 2, "MemoryLow": 3}),
        ({"memory": {"limit": -1}}, 2, 257, {"MemoryMax": INF, "MemorySwapMax": INF}),
        ({"memory": {"limit": 5}}, 1, 257, {"MemoryLimit": 5}),
        ({"cpu": {"shares": 1024}}, 2, 257, {"CPUWeight": 100}),
        ({"cpu": {"shares": 1024}}, "hybrid", 257, {"CPUShares": 1024}),
        ({"cpu": {"idle": 1}}, 2, 257, {"CPUWeight": 0}),
        ({"cpu": {"idle": 1}}, 2, 251, {}),
        ({"cpu": {"quota": 50000, "period": 100000}}, 2, 257, {"CPUQuotaPeriodUSec": 100000, "CPUQuotaPerSecUSec": 500000}),
        ({"cpu": {"quota": 50000, "period": 100000}}, 2, 241, {"CPUQuotaPerSecUSec": 500000}),
        ({"cpu": {"quota": 33333, "period": 100000}}, 2, 241, {"CPUQuotaPerSecUSec": 340000}),
        ({"cpu": {"quota": -1}}, 2, 257, {"CPUQuotaPerSecUSec": INF}),
        ({"cpu": {"cpus": "0-3,9", "mems": "0"}}, 2, 257, {"AllowedCPUs": [15, 2], "AllowedMemoryNodes": [1]}),
        ({"cpu": {"cpus": "0-3,9"}}, 2, 243, {}),
        ({"pids": {"limit": 9}}, 2, 257, {"TasksMax": 9}),
        ({"pids": {"limit": -1}}, 2, 257, {"TasksMax": INF}),
        ({"blkio": {"weight": 500}}, 1, 257, {"BlockIOWeight": 500}),
        (
            {"unified": [["memory.high", "1G"], ["memory.low", "max"], ["memory.min", "odd"]]},
            2,
            257,
            {"MemoryHigh": 1 << 30, "MemoryLow": INF},
        ),
        ({"unified": [["pids.max", "0"]]}, 2, 257, {"TasksMax": 1}),
        ({"unified": [["cpu.max", "max 100000"]]}, 2, 257, {"CPUQuotaPeriodUSec": 100000, "CPUQuotaPerSecUSec": INF}),
        (
            {"unified": [["cpu.max", "5000"], ["cpu.weight", "7"], ["cpuset.cpus", "1"]]},
            2,
            240,
            {"CPUQuotaPerSecUSec": 50000, "CPUWeight": 7},
        ),
        ({"unified": [["io.latency", "8:0 target=1"]]}, 2, 257, {}),
    ],
)
def test_limits_as_properties(resources, cgroup_version, version, properties):
    found = unit_properties.of_resources(resources, cgroup_version, version)
    assert {name: value for name, kind, value in found if name != "CPUQuotaPeriodUSec" or version >= 242} == {
        **(
            {"CPUQuotaPeriodUSec": 100000}
            if "CPUQuotaPeriodUSec" not in properties and any(n == "CPUQuotaPeriodUSec" for n, _k, _v in found)
            else {}
        ),
        **properties,
    }
    for name, kind, value in found:
        dbus.marshal("(sv)", [(name, (kind, value))], bytearray())


@pytest.mark.parametrize(
    "quota, period, rounded", [(50000, 100000, 50000), (33333, 100000, 34000), (-1, 100000, -1), (1000, 0, 1000), (1001, 50000, 1500)]
)
def test_the_quota_follows_systemd(quota, period, rounded):
    assert unit_properties.rounded_quota(quota, period) == rounded


@pytest.mark.parametrize(
    "rules, version, properties",
    [
        ([], 257, [["DevicePolicy", "s", "strict"], ["DeviceAllow", "a(ss)", []], ["DeviceAllow", "a(ss)", []]]),
        ([[True, "a", -1, -1, "rwm"]], 257, [["DevicePolicy", "s", "auto"], ["DeviceAllow", "a(ss)", []]]),
        (
            [[True, "c", 1, 3, "rw"], [True, "b", 8, -1, "r"], [True, "c", -1, -1, "m"], [True, "c", -1, 7, "r"]],
            257,
            [
                ["DevicePolicy", "s", "strict"],
                ["DeviceAllow", "a(ss)", []],
                ["DeviceAllow", "a(ss)", [("block-8", "r"), ("char-*", "m"), ("/dev/char/1:3", "rw")]],
            ],
        ),
    ],
)
def test_device_rules_as_properties(rules, version, properties):
    assert unit_properties.of_devices(rules, version) == properties
