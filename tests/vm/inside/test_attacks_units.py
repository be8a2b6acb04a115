"""Attacks on the systemd driver: names that belong to other units, buses that fail in the middle, commands that race for one name."""

import contextlib
import itertools
import subprocess
import threading

import pytest

import buses
import guest
import harness
import hoststate
from guest import CGROUP, read, shown, systemctl

SYSTEMD = ("--systemd-cgroup",)
BUS = "/run/dbus/system_bus_socket"


@contextlib.contextmanager
def others_scope(unit, slice_name, path="/"):
    """A scope of somebody else, with one process; at the end of the block it must still be there."""
    argv = ["systemd-run", "--quiet", "--scope", "--unit=" + unit, "--slice=" + slice_name, "sleep", "1000"]
    other = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        guest.until(lambda: shown(unit, "ActiveState")["ActiveState"] == "active" and guest.cgroup_of(other.pid).name == unit, "the scope")
        yield other
        assert other.poll() is None and shown(unit, "ActiveState") == {"ActiveState": "active"}
    finally:
        other.kill()
        other.wait()
        guest.until(lambda: shown(unit, "ActiveState")["ActiveState"] != "active", "the scope's end")


def clean_failure(result):
    assert result.code == 1 and len(result.err.splitlines()) == 1, result
    assert "Traceback" not in result.err and "internal error" not in result.err, result
    return result


# ---- names


@pytest.mark.vm_short
def test_a_unit_of_that_name_in_another_slice(runtime, make_bundle, token, no_leaks):
    """The name of a unit is unique in the whole manager, so that the cgroup is unused does not show that the name is."""
    unit, bundle = "vm-%s.scope" % token, make_bundle({"/linux/cgroupsPath": "system.slice:vm:%s" % token})
    with others_scope(unit, "user.slice"):
        result = clean_failure(runtime.call("create", "--bundle", bundle, runtime.new_id(), globals=SYSTEMD))
        assert unit in result.err
    assert runtime.run(bundle, globals=SYSTEMD).code == 0


@pytest.mark.parametrize(
    "path, unit", [("system.slice::init", "init.scope"), (":x:system.slice", "system.slice"), (":x:-.slice", "-.slice")]
)
def test_units_of_the_system(runtime, make_bundle, no_leaks, path, unit):
    before = systemctl("show", "--property=ActiveState,ActiveEnterTimestampMonotonic", "--", unit)
    assert "ActiveState=active" in before
    clean_failure(runtime.call("create", "--bundle", make_bundle({"/linux/cgroupsPath": path}), runtime.new_id(), globals=SYSTEMD))
    assert systemctl("show", "--property=ActiveState,ActiveEnterTimestampMonotonic", "--", unit) == before


def test_a_slice_that_others_use(runtime, make_bundle, no_leaks, token):
    with others_scope("%s-other.scope" % token, "%s.slice" % token) as other:
        path = ":x:%s.slice" % token
        clean_failure(runtime.call("create", "--bundle", make_bundle({"/linux/cgroupsPath": path}), runtime.new_id(), globals=SYSTEMD))
        assert guest.cgroup_of(other.pid).parent.name == "%s.slice" % token
    systemctl("stop", "%s.slice" % token)


@pytest.mark.vm_short
@pytest.mark.parametrize("slice_name", ["system.slice", "user.slice"])
@pytest.mark.parametrize("shared", [False, True], ids=["own pids", "host's pids"])
def test_a_name_that_was_taken_after_the_end(runtime, make_bundle, token, no_leaks, slice_name, shared):
    """When the container has ended, its unit is gone, and its name is free for others: kill and delete leave them alone."""
    unit = "vm-%s.scope" % token
    kinds = [{"type": t} for t in ("network", "ipc", "uts", "mount") + (() if shared else ("pid",))]
    bundle = make_bundle({"/linux/cgroupsPath": "system.slice:vm:%s" % token, "/linux/namespaces": kinds}, args=harness.WAIT_FOR_TERM)
    id = runtime.create(bundle, globals=SYSTEMD)
    runtime.start(id)
    runtime.stopped(id)
    guest.until(lambda: shown(unit, "LoadState", "ActiveState")["ActiveState"] != "active", "the end of our scope")
    with others_scope(unit, slice_name):
        for words in (["kill", "--all", id, "KILL"], ["kill", id, "KILL"], ["delete", id], ["delete", "--force", id]):
            result = runtime.call(*words)
            assert "Traceback" not in result.err, result
        assert id not in hoststate.state_dirs(runtime.root)
    id = runtime.create(bundle, globals=SYSTEMD)  # the positive control: its own unit is stopped
    assert shown(unit, "ActiveState") == {"ActiveState": "active"}
    runtime.delete(id, "--force")
    assert shown(unit, "LoadState") == {"LoadState": "not-found"}


def test_a_cgroup_that_was_made_again(runtime, make_bundle, token, no_leaks):
    """The same with cgroupfs: somebody removed the cgroup of a container that has ended, and uses the path."""
    bundle = make_bundle({"/linux/cgroupsPath": "/" + token}, args=harness.WAIT_FOR_TERM)
    id = runtime.started(bundle)
    group = guest.cgroup_of(runtime.state(id)["pid"])
    runtime.stopped(id)
    guest.until(lambda: read(group / "cgroup.procs") == "", "its end")
    group.rmdir()
    group.mkdir()
    other = subprocess.Popen(["sleep", "1000"])
    try:
        (group / "cgroup.procs").write_text(str(other.pid))
        for words in (["kill", "--all", id, "KILL"], ["delete", id]):
            runtime.call(*words)
        assert other.poll() is None and id not in hoststate.state_dirs(runtime.root)
    finally:
        other.kill()
        other.wait()
        guest.until(lambda: read(group / "cgroup.procs") == "", "the other's end")
        group.rmdir()


def test_a_failed_unit_of_that_name_in_another_slice(runtime, make_bundle, token, no_leaks):
    unit = "vm-%s.scope" % token
    argv = ["systemd-run", "--quiet", "--scope", "--slice=user.slice", "--unit=" + unit, "--property=RuntimeMaxSec=1"]
    guest.told(*argv, "--property=TimeoutStopSec=1", "sh", "-c", "trap '' TERM; sleep 1000", check=False)
    assert shown(unit, "ActiveState") == {"ActiveState": "failed"}
    id = runtime.create(make_bundle({"/linux/cgroupsPath": "system.slice:vm:%s" % token}), globals=SYSTEMD)
    assert guest.cgroup_of(runtime.state(id)["pid"]) == CGROUP / "system.slice" / unit
    runtime.delete(id, "--force")
    assert shown(unit, "LoadState") == {"LoadState": "not-found"}


# ---- races


@pytest.mark.bound(600)
def test_creates_race_for_one_unit(runtime, make_bundle, token, no_leaks):
    """One of three gets the name, and its container lives on when the others are undone."""
    unit, won = "vm-%s.scope" % token, 0
    bundle = make_bundle({"/linux/cgroupsPath": "system.slice:vm:%s" % token}, args=harness.WAIT_FOR_TERM)
    for _ in range(8):
        ids = [runtime.new_id() for _ in range(3)]
        null = subprocess.DEVNULL
        running = [
            subprocess.Popen(
                runtime.argv("create", "--bundle", bundle, id, globals=SYSTEMD), stdin=null, stdout=null, stderr=null, env=runtime.env
            )
            for id in ids
        ]
        codes = [process.wait(2 * harness.WATCHDOG) for process in running]
        made = [id for id, code in zip(ids, codes, strict=True) if code == 0]
        assert len(made) == 1, codes
        won += 1
        pid = runtime.state(made[0])["pid"]
        assert runtime.status(made[0]) == "created" and guest.cgroup_of(pid).name == unit
        assert hoststate.state_dirs(runtime.root) == set(made)
        runtime.delete(made[0], "--force")
        assert shown(unit, "LoadState") == {"LoadState": "not-found"}
    assert won == 8


@pytest.mark.bound(900)
@pytest.mark.parametrize("driver_words", [SYSTEMD, ()], ids=["systemd", "cgroupfs"])
def test_commands_race_for_one_id(runtime, make_bundle, token, no_leaks, driver_words):
    """Whoever loses gets one line; at the end there is neither a unit nor a cgroup, process or state."""
    path = "system.slice:vm:%s" % token if driver_words else "/" + token
    bundle = make_bundle({"/linux/cgroupsPath": path}, args=harness.WAIT_FOR_TERM)
    id = runtime.new_id()
    said: list = []
    succeeded: dict[str, int] = {}

    def again(count, *words, globals=()):
        for _ in range(count):
            result = runtime.call(*words, globals=globals)
            said.append(result)
            succeeded[words[0]] = succeeded.get(words[0], 0) + (result.code == 0)

    jobs = [
        (again, (12, "create", "--bundle", bundle, id), {"globals": driver_words}),
        (again, (12, "create", "--bundle", bundle, id), {"globals": driver_words}),
        (again, (12, "update", "--pids-limit", "50", id), {}),
        (again, (6, "exec", id, "/bin/true"), {}),
        (again, (6, "pause", id), {}),
        (again, (6, "kill", "--all", id, "KILL"), {}),
        (again, (14, "delete", "--force", id), {}),
    ]
    threads = [threading.Thread(target=target, args=args, kwargs=kw) for target, args, kw in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in said:
        assert "Traceback" not in result.err and "internal error" not in result.err and len(result.err.splitlines()) <= 1, result
    assert succeeded["create"] and succeeded["delete"], succeeded
    assert runtime.call("delete", "--force", id).code == 0
    assert hoststate.state_dirs(runtime.root) == set() and not list(CGROUP.rglob("*%s*" % token.split("-")[0]))
    if driver_words:
        assert shown("vm-%s.scope" % token, "LoadState") == {"LoadState": "not-found"}
    runtime.create(bundle, id, globals=driver_words)  # the id and the name can be used again
    runtime.delete(id, "--force")


# ---- a bus that fails


class Broken:
    """call(words) runs a command of the runtime whose system bus is a Proxy."""

    def __init__(self, runtime, folder):
        self.runtime, self.folder, self.numbers = runtime, folder, itertools.count()

    def call(self, count, kind, *words, globals=()):
        path = self.folder / ("bus%d" % next(self.numbers))
        hidden = 'mount --bind "$1" %s && mount -t tmpfs none /run/systemd && shift && exec "$@"' % BUS
        argv = ["unshare", "-m", "sh", "-c", hidden, "sh", str(path), *self.runtime.argv(*words, globals=globals)]
        with buses.Proxy(path, BUS, count, kind) as proxy, harness.Capture() as out, harness.Capture() as err:
            code = guest.wait_for(argv, out.file, err.file, env=self.runtime.env)
            return harness.Result(argv, code, out.text(), err.text()), proxy.broken


@pytest.mark.bound(1800)
@pytest.mark.parametrize("kind", buses.KINDS)
def test_a_bus_that_fails_in_the_middle_of_create(runtime, make_bundle, token, no_leaks, tmp_path, kind):
    unit, broken = "vm-%s.scope" % token, Broken(runtime, tmp_path)
    bundle = make_bundle({"/linux/cgroupsPath": "system.slice:vm:%s" % token}, args=harness.WAIT_FOR_TERM)
    failed = 0
    for count in range(40):
        id = runtime.new_id()
        result, cut = broken.call(count, kind, "create", "--bundle", bundle, id, globals=[*SYSTEMD, "--systemd-timeout", "1s"])
        failed += result.code != 0
        if result.code:
            clean_failure(result)
        runtime.ok("delete", "--force", id)
        guest.until(lambda: shown(unit, "LoadState") == {"LoadState": "not-found"}, "the end of the unit")
        assert not list((CGROUP / "system.slice").glob(unit)) and hoststate.state_dirs(runtime.root) == set()
        if not cut:
            assert result.code == 0, "an unbroken proxy is not noticed"
            break
    assert not cut and failed > 3, "the last one is the positive control"


@pytest.mark.bound(1800)
@pytest.mark.parametrize("kind", buses.KINDS)
def test_a_bus_that_fails_in_the_middle_of_update_and_delete(runtime, make_bundle, token, no_leaks, tmp_path, kind):
    unit, broken = "vm-%s.scope" % token, Broken(runtime, tmp_path)
    bundle = make_bundle({"/linux/cgroupsPath": "system.slice:vm:%s" % token}, args=harness.WAIT_FOR_TERM)

    def created():
        return runtime.create(bundle, globals=[*SYSTEMD, "--systemd-timeout", "1s"])

    id, cut = created(), 1
    for count in range(40):
        result, cut = broken.call(count, kind, "update", "--pids-limit", str(100 + count), id)
        if result.code:
            clean_failure(result)
            assert read(CGROUP / "system.slice" / unit / "pids.max") != str(100 + count) or kind == "deaf"
        assert runtime.status(id) == "created"
        if not cut:
            break
    assert not cut and result.code == 0
    for words in (["kill", id, "KILL"],):  # needs no bus
        assert broken.call(0, kind, *words)[0].code == 0
    runtime.delete(id, "--force")
    for count in range(40):
        id = created()
        result, cut = broken.call(count, kind, "delete", "--force", id)
        if result.code:
            clean_failure(result)
            runtime.ok("delete", "--force", id)
        guest.until(lambda: shown(unit, "LoadState") == {"LoadState": "not-found"}, "the end of the unit")
        assert hoststate.state_dirs(runtime.root) == set()
        if not cut:
            break
    assert not cut and result.code == 0
