"""diff ID: a new container shows no differences; changes made from outside are found, area by area; exit statuses 0, 1 and 2."""

import json
import os
import resource
import subprocess

import pytest

import harness
from pyrunc.engine import cgroup_preview, diff

pytestmark = pytest.mark.kernel

RICH = {
    "/linux/resources": {"pids": {"limit": 50}, "memory": {"limit": 64 << 20}, "cpu": {"shares": 512}},
    "/linux/maskedPaths": ["/proc/kcore", "/proc/keys", "/nothing"],
    "/linux/readonlyPaths": ["/proc/sys", "/proc/bus"],
    "/root/readonly": True,
    "/process/capabilities": {kind: ["CAP_KILL", "CAP_CHOWN"] for kind in ("bounding", "effective", "permitted")},
    "/process/noNewPrivileges": True,
    "/process/rlimits": [{"type": "RLIMIT_NOFILE", "soft": 500, "hard": 600}],
    "/process/oomScoreAdj": 700,
    "/process/user": {"uid": 5, "gid": 6, "additionalGids": [7, 8]},
}


RICH.update({
    "/domainname": "here",
    "/linux/sysctl": {"net.ipv4.ip_local_port_range": "2000 3000", "kernel.msgmax": "0x2001", "net/ipv4/conf/lo/forwarding": "1"},
    "/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
    "/linux/personality": {"domain": "LINUX32"},
    "/process/scheduler": {"policy": "SCHED_BATCH", "nice": 4},
    "/process/ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6},
})  # fmt: skip
ROOT = {key: value for key, value in RICH.items() if key != "/process/user"}  # setting limits of other processes needs CAP_SYS_RESOURCE


def differences(pyrunc, id, code):
    result = pyrunc.call("diff", "--format", "json", id)
    assert result.code == code, result
    found = json.loads(result.out)
    assert found["same"] is (code == 0) and found["id"] == id
    return found


def areas(found):
    return {(row["area"], row["what"].rpartition("/")[2]) for row in found["differences"]}


@pytest.mark.parametrize("changes", [{}, RICH], ids=["plain", "rich"])
def test_nothing_differs_at_first(pyrunc, make_bundle, changes, no_leaks):
    id = pyrunc.create(make_bundle(changes, args=harness.WAIT_FOR_TERM))
    assert differences(pyrunc, id, 0)["unread"] == []
    pyrunc.start(id)
    found = differences(pyrunc, id, 0)
    assert (found["differences"], found["unread"], found["status"]) == ([], [], "running")
    assert pyrunc.ok("diff", id).out == ""
    pyrunc.delete(id, "--force")


@pytest.mark.parametrize("name", ["everything", "userns", "readonly-hardened", "joined-namespaces", "cgroup-limits"])
def test_examples_do_not_differ(pyrunc, make_bundle, name):
    id = pyrunc.new_id()
    pyrunc.ok("create", "--bundle", make_bundle.example(name), id, cwd="/")
    found = json.loads(pyrunc.call("diff", "--format", "json", id).out)
    assert found["differences"] == [] and found["unread"] == [], found


def test_every_area_is_found(pyrunc, make_bundle, no_leaks):
    bundle = make_bundle(ROOT, args=harness.WAIT_FOR_TERM)
    id = pyrunc.started(bundle)
    pid = pyrunc.state(id)["pid"]
    plans = json.loads((pyrunc_dir(pyrunc, id) / "plan.json").read_text())
    row = next(r for r in cgroup_preview.files(plans) if r["file"].endswith("pids.max"))
    with open(row["file"], "w") as file:
        file.write("33")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (400, 600))
    with open("/proc/%d/oom_score_adj" % pid, "w") as file:
        file.write("800")
    enter = ["nsenter", "-t", str(pid), "-m", "--"]
    subprocess.run([*enter, "umount", "/dev/shm"], check=True)
    subprocess.run([*enter, "umount", "/proc/sys"], check=True)
    subprocess.run([*enter, "umount", "/proc/keys"], check=True)
    subprocess.run([*enter, "rm", "/dev/full"], check=True)
    bundle.patch({"/hostname": "other", "/process/env": ["PATH=/bin", "SECRET=hush"]})
    found = differences(pyrunc, id, 1)
    wanted = {
        ("cgroup", "pids.max"), ("limits", "RLIMIT_NOFILE"), ("limits", "oomScoreAdj"), ("mounts", "shm"), ("mounts", "sys"),
        ("mounts", "keys"),
        ("devices", "full"), ("config", "hostname"),
    }  # fmt: skip
    assert wanted <= areas(found), found
    assert not {area for area, _what in areas(found)} & {"namespaces", "capabilities", "user"}
    assert "hush" not in json.dumps(found)
    shown = pyrunc.call("diff", id)
    assert shown.code == 1 and "    - 50\n    + 33\n" in shown.out and "\x1b" not in shown.out, shown
    pyrunc.delete(id, "--force")


def test_names_and_settings(pyrunc, make_bundle, no_leaks):
    """A process in the container's namespaces reads what is only visible there."""
    id = pyrunc.started(make_bundle(RICH, args=harness.WAIT_FOR_TERM))
    pid = pyrunc.state(id)["pid"]
    write = "hostname other; echo there > /proc/sys/kernel/domainname; echo 100 > /proc/sys/kernel/msgmax; echo 0 > /proc/sys/net/ipv4/conf/lo/forwarding"
    subprocess.run(["nsenter", "-t", str(pid), "-u", "-n", "-i", "--", "sh", "-c", write], check=True)
    found = differences(pyrunc, id, 1)
    assert {(row["area"], row["what"], row["planned"], row["seen"], row["pointer"]) for row in found["differences"]} == {
        ("names", "hostname", "tested", "other", "/hostname"),
        ("names", "domainname", "here", "there", "/domainname"),
        ("sysctls", "kernel.msgmax", "0x2001", "100", "/linux/sysctl/kernel.msgmax"),
        ("sysctls", "net.ipv4.conf.lo.forwarding", "1", "0", "/linux/sysctl/net.ipv4.conf.lo.forwarding"),
    }
    assert found["unread"] == []
    pyrunc.delete(id, "--force")


def test_a_user_namespace_s_settings(pyrunc, make_bundle, no_leaks):
    maps = [{"containerID": 0, "hostID": 100000, "size": 1000}]
    changes = {
        "/linux/namespaces/-": {"type": "user"}, "/linux/uidMappings": maps, "/linux/gidMappings": maps,
        "/linux/sysctl": {"net.ipv4.ip_forward": "1", "user.max_user_namespaces": "3"},
    }  # fmt: skip
    id = pyrunc.started(make_bundle(changes, args=harness.WAIT_FOR_TERM))
    assert differences(pyrunc, id, 0)["unread"] == []
    pid = pyrunc.state(id)["pid"]
    for kind, name, value in (("-n", "net/ipv4/ip_forward", 0), ("-U", "user/max_user_namespaces", 4)):
        subprocess.run(["nsenter", "-t", str(pid), kind, "--", "sh", "-c", "echo %d > /proc/sys/%s" % (value, name)], check=True)
    found = differences(pyrunc, id, 1)
    assert areas(found) == {("sysctls", "net.ipv4.ip_forward"), ("sysctls", "user.max_user_namespaces")}
    assert {row["seen"] for row in found["differences"]} == {"0", "4"}
    pyrunc.delete(id, "--force")


def test_scheduling_from_outside(pyrunc, make_bundle, no_leaks):
    id = pyrunc.started(make_bundle(RICH, args=harness.WAIT_FOR_TERM))
    pid = pyrunc.state(id)["pid"]
    os.setpriority(os.PRIO_PROCESS, pid, 7)
    subprocess.run(["ionice", "-c", "2", "-n", "1", "-p", str(pid)], check=True)
    found = [(row["what"], row["planned"], row["seen"]) for row in differences(pyrunc, id, 1)["differences"]]
    assert found == [("nice", 4, 7), ("ioPriority", "IOPRIO_CLASS_BE 6", "IOPRIO_CLASS_BE 1")]
    os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))
    found = [(row["what"], row["planned"], row["seen"]) for row in differences(pyrunc, id, 1)["differences"]]
    assert ("policy", "SCHED_BATCH", "SCHED_OTHER") in found
    pyrunc.delete(id, "--force")


V1_DEVICES = "/sys/fs/cgroup/devices"


@pytest.mark.skipif(not os.path.isdir(V1_DEVICES), reason="this machine has no devices hierarchy of cgroup v1")
def test_device_rules_of_v1(pyrunc, make_bundle, no_leaks):
    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"}]
    id = pyrunc.started(make_bundle({"/linux/resources/devices": rules}, args=harness.WAIT_FOR_TERM))
    assert differences(pyrunc, id, 0)["unread"] == []
    path = harness.saved_state(pyrunc, id)["cgroup_paths"]["devices"]
    for file, line in (("devices.deny", "c 10:229 w"), ("devices.deny", "c 1:3 rwm"), ("devices.allow", "c 10:237 rw")):
        with open(os.path.join(path, file), "w") as handle:
            handle.write(line)
    found = {(row["area"], row["what"], row["planned"], row["seen"]) for row in differences(pyrunc, id, 1)["differences"]}
    assert found == {
        ("devices", "rules: c 10:229", "c 10:229 rwm", "c 10:229 rm"), ("devices", "rules: c 1:3", "c 1:3 rwm", None),
        ("devices", "rules: c 10:237", None, "c 10:237 rw"),
    }  # fmt: skip
    for file, line in (("devices.deny", "c 10:237 rw"), ("devices.allow", "c 1:3 rwm")):
        with open(os.path.join(path, file), "w") as handle:
            handle.write(line)
    pyrunc.ok("update", "--device-remove", "c 10:229 rwm", id)
    assert differences(pyrunc, id, 0)["unread"] == []
    with open(os.path.join(path, "devices.allow"), "w") as handle:
        handle.write("a")
    found = differences(pyrunc, id, 1)["differences"]
    assert [(row["what"], row["planned"], row["seen"]) for row in found if row["area"] == "devices"] == [
        ("rules: all others", "denied", "allowed")
    ]
    pyrunc.delete(id, "--force")


def test_another_config(pyrunc, make_bundle, no_leaks):
    """--config: compares the kernel's state with what that config would produce, and shows the other differences between the configs."""
    bundle = make_bundle(RICH, args=harness.WAIT_FOR_TERM)
    id = pyrunc.started(bundle)
    file = bundle.path / "new.json"
    before = bundle.config
    file.write_text(json.dumps(before))
    result = pyrunc.call("diff", "--format", "json", "--config", "new.json", id, cwd=bundle.path)
    assert result.code == 0 and json.loads(result.out)["config"] == str(file), result
    changes = {
        "/linux/resources/pids/limit": 33, "/hostname": "new", "/linux/sysctl/kernel.msgmax": "99", "/process/scheduler/nice": 5,
        "/process/env": ["SECRET=hush"], "/process/args": ["/bin/false"], "/annotations": {"a": "b"},
        "/process/rlimits/0/soft": 444, "/linux/seccomp/defaultAction": "SCMP_ACT_LOG",
        "/mounts/-": {"destination": "/more", "type": "tmpfs", "source": "tmpfs"},
    }  # fmt: skip
    file.write_text(json.dumps(harness.patch(before, changes)))
    result = pyrunc.call("diff", "--format", "json", "--config", file, id)
    assert result.code == 1, result
    found = json.loads(result.out)
    by_area = {}
    for row in found["differences"]:
        by_area.setdefault(row["area"], {})[row["what"].rpartition("/")[2]] = (row["planned"], row["seen"])
    config = by_area.pop("config")
    assert by_area == {
        "cgroup": {"pids.max": ("33", "50")}, "names": {"hostname": ("new", "tested")}, "sysctls": {"kernel.msgmax": ("99", "8193")},
        "scheduling": {"nice": (5, 4)}, "limits": {"RLIMIT_NOFILE": ("444:600", "500:600")}, "mounts": {"more": ("tmpfs", None)},
    }  # fmt: skip
    pointers = {row["pointer"] for row in found["differences"] if row["area"] == "config"}
    assert {"/annotations", "/linux/seccomp/defaultAction", "/process/args/0", "/process/env/0"} <= pointers
    assert not {"/hostname", "/linux/resources/pids/limit", "/process/scheduler/nice"} & pointers and "hush" not in result.out
    assert config["defaultAction"] == ("SCMP_ACT_LOG", "SCMP_ACT_ALLOW")
    shown = pyrunc.call("diff", "--config", file, id)
    assert shown.code == 1 and "config (%s and saved)\n" % file in shown.out and "    - 33\n    + 50\n" in shown.out
    pyrunc.delete(id, "--force")


def test_a_config_that_cannot_be_planned(pyrunc, waiting):
    id = pyrunc.started(waiting)
    file = waiting.path / "new.json"
    for text, said in (
        ('{"ociVersion": "1.2.0"', "new.json"),
        (json.dumps(harness.patch(waiting.config, {"/process/cwd": "relative"})), "/process/cwd"),
        (json.dumps(harness.patch(waiting.config, {"/linux/sysctl": {"vm.swappiness": "1"}})), "vm.swappiness"),
    ):
        file.write_text(text)
        result = pyrunc.call("diff", "--config", file, id)
        assert result.code == 2 and result.err.count("\n") == 1 and said in result.err, result
    assert pyrunc.call("diff", "--config", "/nothing", id).code == 2


def pyrunc_dir(pyrunc, id):
    import pathlib

    return pathlib.Path(pyrunc.root) / id


def test_update_makes_no_difference(pyrunc, make_bundle):
    """Changes made by pyrunc are in the plan."""
    id = pyrunc.started(make_bundle(ROOT, args=harness.WAIT_FOR_TERM))
    pyrunc.ok("update", "--pids-limit", "40", "--memory", "96m", "--rlimit", "NOFILE=300:500", id)
    found = json.loads(pyrunc.call("diff", "--format", "json", id).out)
    assert not [row for row in found["differences"] if row["area"] != "config"], found


def test_another_process(pyrunc, make_bundle):
    """Called as a function: the plan of a container is compared with an unrelated process."""
    id = pyrunc.started(make_bundle(RICH, args=harness.WAIT_FOR_TERM))
    plans = json.loads((pyrunc_dir(pyrunc, id) / "plan.json").read_text())
    found = diff.Drift(plans, {"pid": os.getpid()}, True).look()
    assert {"namespaces", "capabilities", "user", "mounts", "limits"} <= {row["area"] for row in found.rows}, found.rows
    assert ("namespaces", "pid") in {(row["area"], row["what"]) for row in found.rows}


def test_bundle_that_is_gone_is_a_note(pyrunc, make_bundle):
    bundle = make_bundle(args=harness.WAIT_FOR_TERM)
    id = pyrunc.started(bundle)
    (bundle.path / "config.json").unlink()
    found = differences(pyrunc, id, 0)
    assert [row["area"] for row in found["unread"]] == ["config"]


def test_a_plan_that_was_tampered_with(pyrunc, waiting):
    id = pyrunc.started(waiting)
    path = pyrunc_dir(pyrunc, id) / "plan.json"
    plans = json.loads(path.read_text())
    plans.update(namespaces={"new": 5}, mounts={"list": [{}]}, capabilities={"nnp": "yes"}, user="root")
    path.write_text(json.dumps(plans))
    result = pyrunc.call("diff", "--format", "json", id)
    assert result.code in (0, 1) and {"namespaces", "mounts", "capabilities"} <= {
        row["area"] for row in json.loads(result.out)["unread"]
    }, result
    path.write_text(json.dumps(dict(plans, mounts=None)))  # so that delete works


def test_errors_end_with_2(pyrunc, waiting):
    id = pyrunc.started(waiting)
    pyrunc.stopped(id)
    for words, text in (
        ([id], "not running"),
        (["nobody"], "container does not exist"),
        ([], "requires exactly 1"),
        (["--format", "x", id], "format"),
    ):
        result = pyrunc.call("diff", *words)
        assert result.code == 2 and result.err.count("\n") == 1 and text in result.err, result
