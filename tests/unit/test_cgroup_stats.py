"""cgroup/stats.py: from the kernel's files to the format of `events`; with ordinary directories."""

import json
import os

import pytest

from pyrunc import jsonio
from pyrunc.cgroup import fs, stats


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setattr(fs, "open_dir", lambda path, _key, flags=fs.O_DIR: os.open(path, flags))

    def make(**controllers):
        paths = {}
        for key, files in controllers.items():
            (tmp_path / key).mkdir()
            for name, text in files.items():
                (tmp_path / key / name).write_text(text)
            paths[key] = str(tmp_path / key)
        return paths

    return make


def test_v1(tree):
    paths = tree(
            cpuacct={
                "cpuacct.usage": "1234\n", "cpuacct.usage_percpu": "1000 234 \n", "cpuacct.stat": "user 7\nsystem 3\n",
                "cpuacct.usage_all": "cpu user system\n0 900 100\n1 200 34\n",
            },
            cpu={"cpu.stat": "nr_periods 5\nnr_throttled 2\nthrottled_time 99\n"},
            memory={
                "memory.stat": "cache 10\nrss 20\nhierarchical_memory_limit 30\n", "memory.usage_in_bytes": "50\n",
                "memory.max_usage_in_bytes": "60\n",
                "memory.limit_in_bytes": "100\n", "memory.failcnt": "0\n", "memory.memsw.usage_in_bytes": "55\n",
                "memory.memsw.limit_in_bytes": "200\n",
            },
            pids={"pids.current": "3\n", "pids.max": "max\n"},
            blkio={
                "blkio.bfq.io_service_bytes_recursive": "Total 0\n",
                "blkio.throttle.io_service_bytes_recursive": "8:0 Read 100\n8:0 Total 100\nTotal 100\n",
            },
            hugetlb={"hugetlb.2MB.usage_in_bytes": "4\n", "hugetlb.2MB.max_usage_in_bytes": "8\n", "hugetlb.2MB.failcnt": "1\n",
                "tasks": ""},
            cpuset={"cpuset.cpus": "0-1,3\n", "cpuset.mems": "0\n", "cpuset.cpu_exclusive": "1\n",
                "cpuset.sched_relax_domain_level": "-1\n"},
    )  # fmt: skip
    data = stats.collect(paths)
    assert data["cpu"] == {
        "usage": {
            "total": 1234, "percpu": [1000, 234], "percpu_kernel": [100, 34], "percpu_user": [900, 200], "kernel": 30_000_000,
            "user": 70_000_000,
        },
        "throttling": {"periods": 5, "throttledPeriods": 2, "throttledTime": 99},
    }  # fmt: skip
    assert data["memory"]["usage"] == {"limit": 100, "usage": 50, "max": 60, "failcnt": 0}
    assert data["memory"]["swap"] == {"limit": 200, "usage": 55, "failcnt": 0}
    assert data["memory"]["cache"] == 10 and data["memory"]["raw"]["rss"] == 20
    assert data["pids"] == {"current": 3}
    assert data["blkio"] == {
        "ioServiceBytesRecursive": [{"major": 8, "op": "Read", "value": 100}, {"major": 8, "op": "Total", "value": 100}]
    }
    assert data["hugetlb"] == {"2MB": {"usage": 4, "max": 8, "failcnt": 1}}
    assert data["cpuset"]["cpus"] == [0, 1, 3] and data["cpuset"]["mems"] == [0] and data["cpuset"]["cpu_exclusive"] == 1
    assert data["cpuset"]["sched_relax_domain_level"] == -1
    assert data["network_interfaces"] is None and data["intel_rdt"] == {}
    assert json.loads(jsonio.dumps(data)) == data
    same_in_brief(paths, data)


def same_in_brief(paths, data):
    """The short form, which is read for a table, agrees with the full statistics."""
    brief = stats.brief(paths)
    assert set(brief) == {"cpu", "memory", "pids", "blkio"}
    assert brief["cpu"]["usage"]["total"] == data["cpu"]["usage"]["total"]
    assert brief["memory"]["usage"] == {key: data["memory"]["usage"][key] for key in ("limit", "usage")}
    assert brief["pids"]["current"] == data["pids"]["current"]
    assert brief["blkio"] == {"ioServiceBytesRecursive": data["blkio"]["ioServiceBytesRecursive"]}


PSI = "some avg10=0.50 avg60=0.25 avg300=0.00 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=99\n"


def test_v2(tree):
    paths = tree(
            unified={
                "cpu.stat": "usage_usec 10\nuser_usec 6\nsystem_usec 4\nnr_periods 3\nnr_throttled 2\nthrottled_usec 5\n",
                "cpu.pressure": PSI,
                "memory.stat": "anon 1\nfile 7\n", "memory.current": "100\n", "memory.max": "max\n", "memory.peak": "150\n",
                "memory.swap.current": "20\n", "memory.swap.max": "50\n", "memory.events": "low 0\nmax 4\noom_kill 1\n",
                "pids.current": "2\n", "pids.max": "10\n", "io.stat": "8:0 rbytes=5 wbytes=6 rios=1 wios=2 dbytes=0 dios=0 cost.usage=70 cost.wait=8 cost.indebt=0 cost.indelay=9\n",
                "hugetlb.2MB.current": "0\n", "hugetlb.2MB.max": "max\n", "hugetlb.2MB.events": "max 3\n",
            }
    )  # fmt: skip
    data = stats.collect(paths)
    assert data["cpu"]["usage"] == {"total": 10_000, "kernel": 4000, "user": 6000}
    assert data["cpu"]["throttling"] == {"periods": 3, "throttledPeriods": 2, "throttledTime": 5000}
    assert data["cpu"]["psi"]["some"] == {"avg10": 0.5, "avg60": 0.25, "avg300": 0.0, "total": 12345}
    assert data["memory"]["cache"] == 7
    assert data["memory"]["usage"] == {"limit": 2**64 - 1, "usage": 100, "max": 150, "failcnt": 4}
    assert data["memory"]["swap"] == {"limit": 2**64 - 1, "usage": 120, "failcnt": 0}
    assert data["pids"] == {"current": 2, "limit": 10}
    for name, value in (("ioCostUsage", 70), ("ioCostWait", 8), ("ioCostIndelay", 9)):
        assert data["blkio"][name] == [{"major": 8, "op": "Count", "value": value}]
    assert data["blkio"]["ioServiceBytesRecursive"] == [{"major": 8, "op": "Read", "value": 5}, {"major": 8, "op": "Write", "value": 6}]
    assert data["blkio"]["ioServicedRecursive"] == [{"major": 8, "op": "Read", "value": 1}, {"major": 8, "op": "Write", "value": 2}]
    assert data["hugetlb"] == {"2MB": {"failcnt": 3}}
    assert json.loads(jsonio.dumps(data)) == data
    same_in_brief(paths, data)


def test_a_container_without_cgroups_still_has_an_event(tree):
    data = stats.collect({})
    assert data["pids"] == {} and data["memory"]["usage"] == {"limit": 0, "failcnt": 0}
    assert stats.collect({"memory": "/nowhere/at/all"})["memory"]["usage"]["limit"] == 0
    assert stats.brief({})["pids"] == {} and stats.brief({"unified": "/nowhere/at/all"})["memory"]["usage"]["limit"] == 0


@pytest.mark.parametrize("text, numbers", [("", []), ("0", [0]), ("0-2,7", [0, 1, 2, 7]), ("\n", [])])
def test_lists(text, numbers):
    assert stats.expand_list(text) == numbers
