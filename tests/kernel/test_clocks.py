"""clocks: the values that a process in the new time namespace reads."""

import errno
import time

import pytest

import staged
from fakes.hand import Ctx
from pyrunc.errors import StepFailure
from pyrunc.parts import clocks, namespaces

pytestmark = pytest.mark.kernel
DAY = 86400


def read(run):
    namespaces.init_join(run.plans["namespaces"], run)
    with open("/proc/uptime") as file:
        uptime = float(file.read().split()[0])
    with open("/proc/self/timens_offsets") as file:
        offsets = {line.split()[0]: [int(n) for n in line.split()[1:]] for line in file}
    return {
        "monotonic": time.clock_gettime(time.CLOCK_MONOTONIC), "boottime": time.clock_gettime(time.CLOCK_BOOTTIME),
        "realtime": time.time(), "uptime": uptime, "offsets": offsets, "time": staged.inode("time"),
    }  # fmt: skip


def seen(kinds, value, linux=None):
    entry = staged.plan(kinds, linux)
    run = staged.prepared(entry)
    offsets = clocks.plan({"/linux/timeOffsets": value}, Ctx(plans={"namespaces": entry}))
    if offsets is not None:
        clocks.host_offsets(offsets, run)
    init = staged.init(run, read)
    if linux:
        for name in ("uid_map", "gid_map"):
            with open("/proc/%d/%s" % (run.pid, name), "w") as file:
                file.write("0 100000 1000")
    try:
        return init.go()
    finally:
        init.end()


@pytest.mark.parametrize("kinds", [["time"], ["time", "pid", "mount"], ["time", "user", "pid", "mount"]], ids="-".join)
def test_offsets(kinds):
    linux = {"uidMappings": [{}], "gidMappings": [{}]} if "user" in kinds else None
    before = time.clock_gettime(time.CLOCK_MONOTONIC), time.clock_gettime(time.CLOCK_BOOTTIME)
    there = seen(kinds, {"monotonic": {"secs": DAY, "nanosecs": 5}, "boottime": {"secs": 7 * DAY}}, linux)
    after = time.clock_gettime(time.CLOCK_MONOTONIC), time.clock_gettime(time.CLOCK_BOOTTIME)
    assert there["offsets"] == {"monotonic": [DAY, 5], "boottime": [7 * DAY, 0]}
    assert before[0] <= there["monotonic"] - DAY <= after[0] + 1 and before[1] <= there["boottime"] - 7 * DAY <= after[1]
    assert abs(there["uptime"] - there["boottime"]) < DAY and abs(there["realtime"] - time.time()) < DAY
    assert there["time"] != staged.inode("time"), "and our own clock has not changed"
    with open("/proc/self/timens_offsets") as file:
        assert [line.split()[1:] for line in file] == [["0", "0"], ["0", "0"]]


def test_a_negative_offset():
    up = int(time.clock_gettime(time.CLOCK_BOOTTIME))
    there = seen(["time"], {"boottime": {"secs": 1 - up}})
    assert there["boottime"] < 60 + time.clock_gettime(time.CLOCK_BOOTTIME) - up


def test_a_new_time_namespace_without_offsets():
    there = seen(["time", "mount"], {})
    assert there["time"] != staged.inode("time") and there["offsets"] == {"monotonic": [0, 0], "boottime": [0, 0]}


def test_the_kernel_refuses_a_clock_before_zero():
    with pytest.raises(StepFailure) as caught:
        seen(["time"], {"monotonic": {"secs": -DAY * 36500}})
    assert caught.value.errno == errno.ERANGE and caught.value.call == "write" and caught.value.pointer == "/linux/timeOffsets"
    assert caught.value.words == "cannot set the clocks of the new time namespace: numerical result out of range"
