"""Many containers: two hundred life cycles, four at a time, leave nothing behind; many at once are listed; ids do not affect each other."""

import concurrent.futures
import json
import os
import time

import pytest

import harness

pytestmark = pytest.mark.kernel

LIVES = 200
AT_ONCE = 4


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def key_users():
    """The keys of root, as counted by /proc/key-users: the session keyring of each container must disappear with it."""
    with open("/proc/key-users") as file:
        return int(next(line for line in file if line.split()[0] == "0:").split()[1])


@pytest.mark.slow
def test_many_lives(runtime, workshop, cgroup, no_leaks):
    """create, start, state, exec, kill, delete; every result is checked. Bundles are used again in turn, cgroups are not."""
    bundles = [workshop.bundle({"/linux/cgroupsPath": "%s-many%d" % (cgroup, n)}, args=harness.WAIT_FOR_TERM) for n in range(AT_ONCE)]
    ids = [runtime.new_id() for _ in range(LIVES)]

    def lives(worker):
        done = 0
        for id in ids[worker::AT_ONCE]:
            runtime.ok("create", "--bundle", bundles[worker], id)
            runtime.ok("start", id)
            pid = runtime.state(id)["pid"]
            if done % 5 == 0:
                assert runtime.ok("exec", id, "/bin/echo", id).out == id + "\n"
            with harness.Watched(pid) as watched:
                if done % 2:  # killed and waited for, or deleted while running
                    runtime.ok("kill", id, "KILL")
                    watched.wait()
            runtime.ok("delete", *(() if done % 2 else ("--force",)), id)
            done += 1
        return done

    before = descriptors(), key_users()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        assert sum(pool.map(lives, range(AT_ONCE))) == LIVES
    assert descriptors() == before[0]
    end = time.monotonic() + harness.WATCHDOG
    while key_users() > before[1] + LIVES // 4:  # others on the machine have keys too; a leak would show two hundred
        assert time.monotonic() < end, "keyrings are left: %d now, %d before" % (key_users(), before[1])
        time.sleep(0.1)  # the kernel frees them some time after their last process has exited, without any notification


@pytest.mark.slow
def test_many_at_once(runtime, workshop, cgroup, no_leaks):
    """Forty created containers at the same time: list shows each of them, and ending one does not affect the others."""
    bundle = workshop.bundle(args=harness.WAIT_FOR_TERM)
    ids = []
    for number in range(40):
        bundle.patch({"/linux/cgroupsPath": "%s-at%d" % (cgroup, number)})
        ids.append(runtime.create(bundle))
    rows = json.loads(runtime.ok("list", "--format", "json").out)
    assert sorted(row["id"] for row in rows) == sorted(ids)
    assert {row["status"] for row in rows} == {"created"}
    for id in ids[::2]:
        runtime.start(id)
    statuses = {row["id"]: row["status"] for row in json.loads(runtime.ok("list", "--format", "json").out)}
    assert [statuses[id] for id in ids] == ["running", "created"] * 20
    for id in ids:
        runtime.ok("delete", "--force", id)
    assert runtime.ok("list", "-q").out == ""


def test_many_creates_of_one_id(runtime, workshop, cgroup, no_leaks):
    """Twelve creates of one id at once: one succeeds, and the others report that the id exists and leave that container alone."""
    import subprocess

    bundles = [workshop.bundle({"/linux/cgroupsPath": "%s-one%d" % (cgroup, n)}, args=harness.WAIT_FOR_TERM) for n in range(12)]
    id = runtime.new_id()
    captures = [harness.Capture() for _ in bundles]
    calls = [
        subprocess.Popen(runtime.argv("create", "--bundle", b, id), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=c.file)
        for b, c in zip(bundles, captures, strict=True)
    ]
    codes = [call.wait(harness.WATCHDOG) for call in calls]
    assert sorted(codes) == [0] + [1] * 11
    for code, capture in zip(codes, captures, strict=True):
        assert code == 0 or "already exists" in capture.text()
        capture.file.close()
    runtime.start(id)
    assert runtime.status(id) == "running"
    runtime.ok("delete", "--force", id)


def test_create_against_delete(pyrunc, waiting, no_leaks):
    """The same id is created and deleted by force at the same time, again and again: each call succeeds or reports its own error."""
    import subprocess

    for _ in range(10):
        id = pyrunc.new_id()
        create = subprocess.Popen(
            pyrunc.argv("create", "--bundle", waiting, id), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        delete = subprocess.Popen(
            pyrunc.argv("delete", "--force", id), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        assert create.wait(harness.WATCHDOG) in (0, 1)
        assert delete.wait(harness.WATCHDOG) in (0, 1)
        pyrunc.ok("delete", "--force", id)
