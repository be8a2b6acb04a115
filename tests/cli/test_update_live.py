"""update --device-add, --device-remove and --rlimit: devices and limits of a running container, as seen from inside."""

import json
import os

import pytest

import harness

pytestmark = pytest.mark.kernel
SLEEP = ["/bin/sleep", "1000"]
MAP = [{"containerID": 0, "hostID": 100000, "size": 65536}]
USERNS = [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "user")]
FUSE = "c 10:229 r /dev/fuse"


@pytest.fixture
def running(pyrunc, make_bundle, no_leaks):
    """(id, bundle) of a container that sleeps."""
    bundle = make_bundle(args=SLEEP)
    yield pyrunc.started(bundle), bundle
    pyrunc.clean()


def inside(pyrunc, id, script):
    return pyrunc.call("exec", id, "/bin/sh", "-c", script)


def opens(pyrunc, id, path="/dev/fuse", how="<"):
    """The result of opening the file: "ok", "Operation not permitted", "no such file" (as busybox prints it)."""
    result = inside(pyrunc, id, "exec 3%s%s && echo ok" % (how, path))
    return result.out.strip() or result.err.strip().rpartition(": ")[2]


@pytest.fixture(scope="module")
def fuse():
    try:
        os.close(os.open("/dev/fuse", os.O_RDONLY))
    except OSError as e:
        pytest.skip("this machine has no /dev/fuse that root may open: %s" % e)


def node(pyrunc, id):
    """Creates a node for the device in the container's /dev, independently of the rules."""
    os.mknod("/proc/%d/root/dev/other" % pyrunc.state(id)["pid"], 0o20666, os.makedev(10, 229))


def plan(pyrunc, id):
    with open(os.path.join(pyrunc.root, id, "plan.json"), encoding="utf-8") as file:
        return json.load(file)


def test_rule_and_node(pyrunc, running, fuse):
    id, _bundle = running
    assert opens(pyrunc, id) == "no such file"
    result = pyrunc.ok("update", "--device-add", FUSE, id)
    assert (result.out, result.err) == ("", "")
    assert inside(pyrunc, id, "stat -c '%F %t:%T %a %u:%g' /dev/fuse").out == "character special file a:e5 666 0:0\n"
    assert opens(pyrunc, id) == "ok"
    assert opens(pyrunc, id, how=">") == "Operation not permitted"
    pyrunc.ok("update", "--device-remove", "c 10:229 r", id)
    assert opens(pyrunc, id) == "Operation not permitted"
    pyrunc.ok("update", "--device-remove", FUSE, id)
    assert opens(pyrunc, id) == "no such file"


def test_it_survives_other_updates(pyrunc, running, fuse):
    """An update by an engine contains "deny all", which is not applied; the plan keeps the added device."""
    id, _bundle = running
    pyrunc.ok("update", "--device-add", FUSE, id)
    body = {"devices": [{"allow": False, "access": "rwm"}], "pids": {"limit": 100}}
    pyrunc.ok("update", "--resources", "-", id, text=json.dumps(body))
    assert opens(pyrunc, id) == "ok"
    assert [True, "c", 10, 229, "r"] in plan(pyrunc, id)["resources"]["devices"]
    assert [n["path"] for n in plan(pyrunc, id)["devices"]["nodes"]].count("/dev/fuse") == 1
    pyrunc.ok("update", "--device-remove", FUSE, id)
    assert "/dev/fuse" not in [n["path"] for n in plan(pyrunc, id)["devices"]["nodes"]]


def test_several_at_once_and_no_growth(pyrunc, running, fuse):
    id, _bundle = running
    before = plan(pyrunc, id)["resources"]["devices"]
    for _ in range(3):
        pyrunc.ok("update", "--device-add", "c 10:229 rw", "--device-add", "b 7:* r", id)
        pyrunc.ok("update", "--device-remove", "c 10:229 rwm", "--device-remove", "b 7:* rwm", id)
    assert plan(pyrunc, id)["resources"]["devices"] == before


def test_node_in_a_directory_that_is_missing(pyrunc, running):
    id, _bundle = running
    pyrunc.ok("update", "--device-add", "b 7:3 rw /dev/block/new/loop3", id)
    assert inside(pyrunc, id, "stat -c '%F %t:%T' /dev/block/new/loop3").out == "block special file 7:3\n"


def test_a_builtin_device_can_be_removed(pyrunc, running):
    id, _bundle = running
    pyrunc.ok("update", "--device-remove", "c 1:5 rw", id)
    assert opens(pyrunc, id, "/dev/zero") == "Operation not permitted"
    assert opens(pyrunc, id, "/dev/null") == "ok"
    pyrunc.ok("update", "--device-add", "c 1:5 rwm", id)
    assert opens(pyrunc, id, "/dev/zero") == "ok"


def test_user_namespace(pyrunc, make_bundle, fuse, no_leaks):
    """Nodes cannot be created there: the node of the host is bound, and unmounted again."""
    bundle = make_bundle({"/linux/namespaces": USERNS, "/linux/uidMappings": MAP, "/linux/gidMappings": MAP}, args=SLEEP)
    bundle.rootfs.parent.chmod(0o755)
    id = pyrunc.started(bundle)
    pyrunc.ok("update", "--device-add", FUSE, id)
    assert (
        inside(pyrunc, id, "stat -c '%F %t:%T' /dev/fuse; grep -c /dev/fuse /proc/self/mountinfo").out == "character special file a:e5\n1\n"
    )
    pyrunc.ok("update", "--device-remove", FUSE, id)
    assert inside(pyrunc, id, "test -e /dev/fuse; echo $?; grep -c /dev/fuse /proc/self/mountinfo").out == "1\n0\n"
    pyrunc.delete(id, "--force")


def test_another_file_is_in_the_way(pyrunc, running, fuse):
    """No file of the container is replaced or removed, and the rule is not changed either."""
    id, _bundle = running
    inside(pyrunc, id, "echo mine > /dev/fuse")
    node(pyrunc, id)
    for words in (["--device-add", FUSE], ["--device-remove", "c 1:5 rwm /dev/fuse"]):
        result = pyrunc.call("update", *words, id)
        assert result.code == 1 and "/dev/fuse in the root is not the device" in result.err and words[0] in result.err, result
        assert result.err.count("\n") == 1
    assert inside(pyrunc, id, "cat /dev/fuse").out == "mine\n"
    assert opens(pyrunc, id, "/dev/other") == "Operation not permitted" and opens(pyrunc, id, "/dev/zero") == "ok"


def test_path_that_leads_out(pyrunc, running, scratch):
    id, bundle = running
    outside = scratch / "nodes"
    outside.mkdir()
    (bundle.rootfs / "out").symlink_to(outside)
    result = pyrunc.call("update", "--device-add", "c 10:229 r /out/fuse", id)
    assert result.code == 1 and "links are not followed" in result.err
    assert os.listdir(outside) == [] and not (bundle.rootfs / str(outside)[1:] / "fuse").exists()


WRONG_DEVICES = (
    "", "c", "c 1:2", "x 1:2 r", "c 1 r", "c 1:2 q", "c -1:2 r", "c 1:2:3 r", "c 4294967296:1 r", "c 1:* r /dev/x", "c 1:2 r dev/x",
    "c 1:2 r /dev/../x", "c 5000:1 r /dev/x", "p 1:2 r /dev/x", "a *:* rwm /dev/x",
)  # fmt: skip
WRONG_LIMITS = (
    "NOFILE", "NOFILE=", "NOFILE=1:", "NOFILE=2:1", "NOSUCH=1", "NOFILE=-2", "NOFILE=1:2:3", "NOFILE=18446744073709551616",
)  # fmt: skip
WRONG = [("device-add", text) for text in WRONG_DEVICES] + [("rlimit", text) for text in WRONG_LIMITS] + [("device-remove", "c 1 r")]


@pytest.mark.parametrize(("option", "text"), WRONG)
def test_errors_name_the_option(pyrunc, running, option, text):
    id, _bundle = running
    before = plan(pyrunc, id)
    result = pyrunc.call("update", "--" + option, text, "--pids-limit", "5", id)
    assert result.code == 1 and "invalid value for %s" % option in result.err, result
    assert result.err.count("\n") == 1
    assert plan(pyrunc, id) == before


# ---- rlimits


def limits_of(pid, name="open files"):
    with open("/proc/%d/limits" % pid, encoding="ascii") as file:
        line = next(line for line in file if line.lower().startswith("max " + name))
    return line.split()[-3:-1] if name == "open files" else line.split()[-2:]


def test_rlimit(pyrunc, make_bundle, no_leaks):
    """It applies to init, its children, later children, and a later exec."""
    bundle = make_bundle(args=["/bin/sh", "-c", "sleep 1000 & sleep 1000 & echo up > /gate; wait"])
    gate = harness.fifo(bundle.rootfs / "gate")
    id = pyrunc.started(bundle)
    harness.lines_of(gate)
    pids = json.loads(pyrunc.ok("ps", "--format", "json", id).out)
    hard = int(limits_of(pids[0])[1])
    assert len(pids) == 3
    pyrunc.ok("update", "--rlimit", "nofile=100:%d" % (hard - 1), "--rlimit", "RLIMIT_CORE=0", id)
    assert [limits_of(pid) for pid in pids] == [["100", str(hard - 1)]] * 3
    assert inside(pyrunc, id, "ulimit -Sn; ulimit -Hn; ulimit -c").out.split() == ["100", str(hard - 1), "0"]
    pyrunc.ok("update", "--rlimit", "nofile=50", id)
    assert inside(pyrunc, id, "ulimit -Sn; ulimit -Hn; ulimit -c").out.split() == ["50", "50", "0"]
    pyrunc.delete(id, "--force")


def test_rlimit_that_is_refused(pyrunc, running):
    """A hard limit above the present one needs CAP_SYS_RESOURCE; limits that were set before the refusal are restored."""
    id, _bundle = running
    pid = pyrunc.state(id)["pid"]
    before = limits_of(pid)
    with open("/proc/self/status", encoding="ascii") as file:
        caps = next(line for line in file if line.startswith("CapEff"))
    if int(caps.split()[1], 16) >> 24 & 1:
        pytest.skip("root has CAP_SYS_RESOURCE here, nothing is refused")
    result = pyrunc.call("update", "--rlimit", "nofile=10:%s" % before[1], "--rlimit", "MEMLOCK=unlimited", id)
    if result.code == 0:
        pytest.skip("the hard limit is already unlimited")
    assert "cannot set RLIMIT_MEMLOCK" in result.err and "CAP_SYS_RESOURCE" in result.err and result.err.count("\n") == 1
    assert limits_of(pid) == before


def test_stopped(pyrunc, running):
    id, _bundle = running
    pyrunc.stopped(id)
    for words in (["--device-add", FUSE], ["--rlimit", "nofile=5"]):
        result = pyrunc.call("update", *words, id)
        assert result.code == 1 and "container not running" in result.err


def test_without_cgroups(pyrunc, make_bundle):
    """No rules are in force: a node can be added, but nothing can be denied."""
    id = pyrunc.new_id()
    bundle = make_bundle(args=SLEEP)
    pyrunc.ok("create", "--bundle", bundle, id, globals=("--cgroup-manager", "disabled"))
    pyrunc.ok("update", "--rlimit", "nofile=33", id)
    assert limits_of(pyrunc.state(id)["pid"])[0] == "33"
    pyrunc.ok("update", "--device-add", "c 10:229 r /dev/added", id)
    assert inside(pyrunc, id, "stat -c %t:%T /dev/added").out == "a:e5\n"
    result = pyrunc.call("update", "--device-remove", "c 10:229 r", id)
    assert result.code == 1 and "cannot deny a device" in result.err
    pyrunc.delete(id, "--force")


def test_help_names_the_options(pyrunc):
    text = pyrunc.ok("update", "--help").out
    assert all(name in text for name in ("--device-add", "--device-remove", "--rlimit"))


def test_privileged(pyrunc, make_bundle, fuse, no_leaks):
    """Everything is allowed; one device is removed and added again."""
    bundle = make_bundle({"/linux/resources/devices": [{"allow": True, "access": "rwm"}]}, args=SLEEP)
    id = pyrunc.started(bundle)
    node(pyrunc, id)
    assert opens(pyrunc, id, "/dev/other") == "ok"
    pyrunc.ok("update", "--device-remove", "c 10:229 rw", id)
    assert opens(pyrunc, id, "/dev/other") == "Operation not permitted" and opens(pyrunc, id, "/dev/zero") == "ok"
    pyrunc.ok("update", "--device-add", "c 10:229 r", id)
    assert opens(pyrunc, id, "/dev/other") == "ok"
    pyrunc.delete(id, "--force")
