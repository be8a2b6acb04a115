"""The table for test_hostile.py: what is wrong, how the config is changed, and where the error must point. Data only.

REFUSED: (name, changes or a function of the config, pointer).  ACCEPTED: unusual, but callers send it or the specification requires it.
BYTES: files that are not JSON documents. The pointer is part of the error message; "" means that the whole file is wrong.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from harness import ABSENT, BASE, patch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harness import Json, Option


N = ("pid", "network", "ipc", "uts", "mount")
ALL = [{"type": t} for t in N]
USERNS = [*ALL, {"type": "user"}]
MAP = [{"containerID": 0, "hostID": 100000, "size": 1000}]


def ns(*without: str, extra: Sequence[Json] = ()) -> dict[str, Json]:
    return {"/linux/namespaces": [{"type": t} for t in N if t not in without] + list(extra)}


def mount(
    destination: object = "/mnt", type: str = "tmpfs", source: object = "tmpfs", options: Sequence[object] = (), **more: Option
) -> Json:
    entry = {"destination": destination, "type": type, "source": source, "options": list(options), **more}
    return {"/mounts/-": {k: v for k, v in entry.items() if v is not ABSENT}}


def device(**kw: Option) -> Json:
    return {"/linux/devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3, **kw}]}


def seccomp(**kw: Option) -> Json:
    return {"/linux/seccomp": {"defaultAction": "SCMP_ACT_ALLOW", **kw}}


def rule(**kw: Option) -> Json:
    return seccomp(syscalls=[{"names": ["acct"], "action": "SCMP_ACT_ERRNO", **kw}])


def hook(**kw: Option) -> Json:
    return {"/hooks": {"createRuntime": [{"path": "/bin/true", **kw}]}}


def cap(**kw: Option) -> Json:
    return {"/process/capabilities": kw}


M = "/mounts/5"  # where `mount()` puts its entry
C = "/linux/resources"

REFUSED = [
    # ---- the document
    ("mounts is a number", {"/mounts": 5}, "/mounts"),
    ("linux is a list", {"/linux": []}, "/linux"),
    ("key in another case", {"/Process": {}}, "/Process"),
    ("key in another case, deep", {"/process/NONEWPRIVILEGES": False}, "/process/NONEWPRIVILEGES"),
    # ---- ociVersion, root, hostname
    ("no ociVersion", {"/ociVersion": ABSENT}, "/ociVersion"),
    ("ociVersion is a number", {"/ociVersion": 1}, "/ociVersion"),
    ("ociVersion is empty", {"/ociVersion": ""}, "/ociVersion"),
    ("ociVersion is a word", {"/ociVersion": "banana"}, "/ociVersion"),
    ("ociVersion of another major", {"/ociVersion": "2.0.0"}, "/ociVersion"),
    ("ociVersion before 1", {"/ociVersion": "0.9.0"}, "/ociVersion"),
    ("no root", {"/root": ABSENT}, "/root"),
    ("root path empty", {"/root/path": ""}, "/root/path"),
    ("root path missing", {"/root/path": "no/such"}, "/root/path"),
    ("root path is a file", {"/root/path": "config.json"}, "/root/path"),
    ("root path is a number", {"/root/path": 7}, "/root/path"),
    ("root path with NUL", {"/root/path": "root\0fs"}, "/root/path"),
    ("root readonly is a word", {"/root/readonly": "yes"}, "/root/readonly"),
    ("root readonly is a number", {"/root/readonly": 1}, "/root/readonly"),
    ("hostname too long", {"/hostname": "h" * 65}, "/hostname"),
    ("hostname with a newline", {"/hostname": "a\nb"}, "/hostname"),
    ("hostname with an escape", {"/hostname": "\x1b[2J"}, "/hostname"),
    ("hostname with NUL", {"/hostname": "a\0b"}, "/hostname"),
    ("hostname is a number", {"/hostname": 5}, "/hostname"),
    ("hostname without a uts namespace", ns("uts"), "/hostname"),
    ("domainname too long", {"/domainname": "d" * 65}, "/domainname"),
    # ---- process
    ("no args", {"/process/args": ABSENT}, "/process/args"),
    ("args empty", {"/process/args": []}, "/process/args"),
    ("args[0] empty", {"/process/args": [""]}, "/process/args"),
    ("args is a string", {"/process/args": "true"}, "/process/args"),
    ("args of numbers", {"/process/args": [1]}, "/process/args/0"),
    ("args of null", {"/process/args": ["true", None]}, "/process/args/1"),
    ("arg with NUL", {"/process/args": ["true", "a\0b"]}, "/process/args/1"),
    ("arg too long", {"/process/args": ["true", "x" * 200_000]}, "/process/args"),
    ("cwd missing", {"/process/cwd": ABSENT}, "/process/cwd"),
    ("cwd empty", {"/process/cwd": ""}, "/process/cwd"),
    ("cwd relative", {"/process/cwd": "tmp"}, "/process/cwd"),
    ("cwd is a number", {"/process/cwd": 1}, "/process/cwd"),
    ("cwd is a descriptor", {"/process/cwd": "/proc/self/fd/7"}, "/process/cwd"),
    ("cwd is a file", {"/process/cwd": "/etc/passwd"}, "/process/cwd"),
    ("cwd with NUL", {"/process/cwd": "/\0etc"}, "/process/cwd"),
    ("cwd too long", {"/process/cwd": "/" + "d" * 5000}, "/process/cwd"),
    ("env is a string", {"/process/env": "A=1"}, "/process/env"),
    ("env without =", {"/process/env": ["NOEQ"]}, "/process/env/0"),
    ("env without a name", {"/process/env": ["=x"]}, "/process/env/0"),
    ("env empty entry", {"/process/env": ["A=1", ""]}, "/process/env/1"),
    ("env of numbers", {"/process/env": [1]}, "/process/env/0"),
    ("env with NUL", {"/process/env": ["A=a\0b"]}, "/process/env/0"),
    ("uid null", {"/process/user/uid": None}, "/process/user"),
    ("uid negative", {"/process/user/uid": -1}, "/process/user/uid"),
    ("uid 2^32-1", {"/process/user/uid": 4294967295}, "/process/user/uid"),
    ("uid 2^32", {"/process/user/uid": 4294967296}, "/process/user/uid"),
    ("uid 2^63", {"/process/user/uid": 2**63}, "/process/user/uid"),
    ("uid 1.5", {"/process/user/uid": 1.5}, "/process/user/uid"),
    ("uid is a string", {"/process/user/uid": "1000"}, "/process/user/uid"),
    ("uid is true", {"/process/user/uid": True}, "/process/user/uid"),
    ("gid is a list", {"/process/user/gid": []}, "/process/user/gid"),
    ("additionalGids 2^32-1", {"/process/user/additionalGids": [4294967295]}, "/process/user/additionalGids"),
    ("additionalGids too many", {"/process/user/additionalGids": list(range(70_000))}, "/process/user/additionalGids"),
    ("additionalGids is a number", {"/process/user/additionalGids": 5}, "/process/user/additionalGids"),
    ("umask too large", {"/process/user/umask": 4095}, "/process/user/umask"),
    ("umask negative", {"/process/user/umask": -1}, "/process/user/umask"),
    ("umask is a string", {"/process/user/umask": "022"}, "/process/user/umask"),
    ("capabilities is a list", {"/process/capabilities": ["CAP_KILL"]}, "/process/capabilities"),
    ("capabilities of numbers", cap(bounding=[5]), "/process/capabilities/bounding/0"),
    ("effective beyond permitted", cap(bounding=["CAP_KILL"], effective=["CAP_KILL"], permitted=[]), "/process/capabilities/effective"),
    ("inheritable beyond bounding", cap(inheritable=["CAP_KILL"]), "/process/capabilities/inheritable"),
    ("rlimit unknown", {"/process/rlimits": [{"type": "RLIMIT_BOGUS", "soft": 1, "hard": 1}]}, "/process/rlimits/0/type"),
    ("rlimit twice", {"/process/rlimits": [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}] * 2}, "/process/rlimits/1"),
    ("rlimit soft over hard", {"/process/rlimits": [{"type": "RLIMIT_CORE", "soft": 5, "hard": 1}]}, "/process/rlimits/0"),
    ("rlimit negative", {"/process/rlimits": [{"type": "RLIMIT_CORE", "soft": -1, "hard": 1}]}, "/process/rlimits/0/soft"),
    ("rlimit 2^64", {"/process/rlimits": [{"type": "RLIMIT_CORE", "soft": 1, "hard": 2**64}]}, "/process/rlimits/0/hard"),
    ("rlimit is a string", {"/process/rlimits": [{"type": "RLIMIT_CORE", "soft": "10", "hard": 10}]}, "/process/rlimits/0/soft"),
    ("oomScoreAdj too large", {"/process/oomScoreAdj": 1001}, "/process/oomScoreAdj"),
    ("oomScoreAdj too small", {"/process/oomScoreAdj": -1001}, "/process/oomScoreAdj"),
    ("oomScoreAdj is a string", {"/process/oomScoreAdj": "5"}, "/process/oomScoreAdj"),
    ("noNewPrivileges is a word", {"/process/noNewPrivileges": "true"}, "/process/noNewPrivileges"),
    ("noNewPrivileges is an empty list", {"/process/noNewPrivileges": []}, "/process/noNewPrivileges"),
    ("root readonly is an empty list", {"/root/readonly": []}, "/root/readonly"),
    ("uid is an empty list", {"/process/user/uid": []}, "/process/user/uid"),
    ("noNewPrivileges is 0", {"/process/noNewPrivileges": 0}, "/process/noNewPrivileges"),
    ("terminal is a word", {"/process/terminal": "yes"}, "/process/terminal"),
    ("terminal without a socket", {"/process/terminal": True}, "/process/terminal"),
    ("consoleSize negative", {"/process/consoleSize": {"height": -1, "width": 1}}, "/process/consoleSize/height"),
    ("consoleSize too large", {"/process/terminal": True, "/process/consoleSize": {"height": 70000, "width": 1}}, "/process/"),
    ("scheduler unknown", {"/process/scheduler": {"policy": "SCHED_BOGUS"}}, "/process/scheduler/policy"),
    ("nice 99", {"/process/scheduler": {"policy": "SCHED_OTHER", "nice": 99}}, "/process/scheduler"),
    ("deadline without runtime", {"/process/scheduler": {"policy": "SCHED_DEADLINE"}}, "/process/scheduler"),
    ("ioPriority class", {"/process/ioPriority": {"class": "X", "priority": 1}}, "/process/ioPriority/class"),
    ("ioPriority 9", {"/process/ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 9}}, "/process/ioPriority/priority"),
    ("affinity is a word", {"/process/execCPUAffinity": {"initial": "banana"}}, "/process/execCPUAffinity/initial"),
    ("affinity reversed", {"/process/execCPUAffinity": {"initial": "3-1"}}, "/process/execCPUAffinity/initial"),
    ("apparmor where there is none", {"/process/apparmorProfile": "no-such-profile"}, "/process/apparmorProfile"),
    ("selinux where there is none", {"/process/selinuxLabel": "system_u:system_r:x_t:s0"}, "/process/selinuxLabel"),
    # ---- mounts
    ("destination missing", mount(destination=ABSENT), M),
    ("destination empty", mount(destination=""), M + "/destination"),
    ("destination is the root", mount(destination="/"), M + "/destination"),
    ("destination with NUL", mount(destination="/a\0b"), M + "/destination"),
    ("destination below a file", mount(destination="/bin/true/x"), M),
    ("destination with a long part", mount(destination="/" + "d" * 300), M),
    ("destination too long", mount(destination="/d" * 3000), M),
    ("destination inside /proc", mount(destination="/proc/sys"), M),
    ("type unknown", mount(type="nosuchfs"), M),
    ("option unknown to tmpfs", mount(options=["bogus=1"]), M),
    ("size is a word", mount(options=["size=banana"]), M),
    ("option with a newline", mount(options=["size=1m\nx"]), M + "/options/0"),
    ("option with NUL", mount(options=["a\0b"]), M + "/options/0"),
    ("option is a number", mount(options=[5]), M + "/options/0"),
    ("bind source missing", mount(type="bind", source=ABSENT, options=["bind"]), M),
    ("bind source is not there", mount(type="bind", source="/no/such/source", options=["bind"]), M),
    ("bind with file system options", mount(type="bind", source="/etc", options=["bind", "size=1"]), M),
    ("idmap without mappings", mount(type="bind", source="/etc", options=["bind", "idmap"]), M),
    ("mappings on a tmpfs", mount(uidMappings=MAP, gidMappings=MAP), M),
    ("propagation unknown", {"/linux/rootfsPropagation": "bogus"}, "/linux/rootfsPropagation"),
    ("tmpcopyup on a bind", mount(type="bind", source="/etc", options=["bind", "tmpcopyup"]), M),
    # ---- linux
    ("namespace twice", ns(extra=[{"type": "pid"}]), "/linux/namespaces/5"),
    ("namespace unknown", ns(extra=[{"type": "bogus"}]), "/linux/namespaces/5"),
    ("namespace path missing", ns("network", extra=[{"type": "network", "path": "/no/such"}]), "/linux/namespaces/4"),
    ("namespace path of another type", ns("network", extra=[{"type": "network", "path": "/proc/self/ns/uts"}]), "/linux/namespaces/4"),
    ("namespace path is a file", ns("network", extra=[{"type": "network", "path": "/etc/passwd"}]), "/linux/namespaces/4"),
    ("namespace path relative", ns("network", extra=[{"type": "network", "path": "ns/net"}]), "/linux/namespaces/4"),
    (
        "mounts in a user namespace without a mount namespace",
        {"/linux/namespaces": [{"type": "user"}], "/linux/uidMappings": MAP, "/linux/gidMappings": MAP, "/hostname": ABSENT},
        "/mounts",
    ),
    (
        "masked paths in a user namespace without a mount namespace",
        {
            "/linux/namespaces": [{"type": "user"}],
            "/linux/uidMappings": MAP,
            "/linux/gidMappings": MAP,
            "/mounts": [],
            "/hostname": ABSENT,
            "/linux/maskedPaths": ["/x"],
        },
        "/linux/maskedPaths",
    ),
    ("user namespace without maps", {"/linux/namespaces": USERNS}, "/linux/"),
    ("maps without a user namespace", {"/linux/uidMappings": MAP, "/linux/gidMappings": MAP}, "/linux/uidMappings"),
    (
        "map of size 0",
        {"/linux/namespaces": USERNS, "/linux/uidMappings": [{**MAP[0], "size": 0}], "/linux/gidMappings": MAP},
        "/linux/uidMappings/0",
    ),
    ("maps that overlap", {"/linux/namespaces": USERNS, "/linux/uidMappings": MAP * 2, "/linux/gidMappings": MAP}, "/linux/uidMappings"),
    (
        "map beyond 2^32",
        {
            "/linux/namespaces": USERNS,
            "/linux/uidMappings": [{"containerID": 0, "hostID": 4294967290, "size": 100}],
            "/linux/gidMappings": MAP,
        },
        "/linux/uidMappings/0",
    ),
    (
        "uid that is not mapped",
        {"/linux/namespaces": USERNS, "/linux/uidMappings": MAP, "/linux/gidMappings": MAP, "/process/user/uid": 5000},
        "/process/user",
    ),
    ("sysctl of the host", {"/linux/sysctl": {"kernel.panic": "1"}}, "/linux/sysctl"),
    ("sysctl without its namespace", {**ns("network"), "/linux/sysctl": {"net.ipv4.ip_forward": "1"}}, "/linux/sysctl"),
    ("sysctl that climbs", {"/linux/sysctl": {"net/../kernel/panic": "1"}}, "/linux/sysctl"),
    ("sysctl empty key", {"/linux/sysctl": {"": "1"}}, "/linux/sysctl"),
    ("sysctl is a number", {"/linux/sysctl": {"net.ipv4.ip_forward": 1}}, "/linux/sysctl/net.ipv4.ip_forward"),
    ("sysctl that is not there", {"/linux/sysctl": {"net.ipv4.nosuch": "1"}}, "/linux/sysctl/net.ipv4.nosuch"),
    ("sysctl value with NUL", {"/linux/sysctl": {"net.ipv4.ip_forward": "1\0"}}, "/linux/sysctl"),
    ("device type", device(type="q"), "/linux/devices/0/type"),
    ("device path relative", device(path="x"), "/linux/devices/0/path"),
    ("device path outside", device(path="/dev/../etc/x"), "/linux/devices/0/path"),
    ("device path is the root", device(path="/"), "/linux/devices/0/path"),
    ("device major negative", device(major=-1), "/linux/devices/0/major"),
    ("device major too large", device(major=2**40 + 1), "/linux/devices/0/major"),
    ("device without numbers", device(major=ABSENT), "/linux/devices/0"),
    ("device fileMode too large", device(fileMode=0o7777777), "/linux/devices/0/fileMode"),
    (
        "device twice with other numbers",
        {"/linux/devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": n} for n in (3, 5)]},
        "/linux/devices/1",
    ),
    ("default device with other numbers", device(path="/dev/null", minor=5), "/linux/devices/0"),
    ("masked path is a string", {"/linux/maskedPaths": "/x"}, "/linux/maskedPaths"),
    ("masked path relative", {"/linux/maskedPaths": ["x"]}, "/linux/maskedPaths/0"),
    ("masked path is the root", {"/linux/maskedPaths": ["/proc/kcore", "/"]}, "/linux/maskedPaths/1"),
    ("masked path that climbs", {"/linux/maskedPaths": ["/a/../../x"]}, "/linux/maskedPaths/0"),
    ("read-only path relative", {"/linux/readonlyPaths": ["x"]}, "/linux/readonlyPaths/0"),
    ("cgroupsPath climbs", {"/linux/cgroupsPath": "/a/../../x"}, "/linux/cgroupsPath"),
    ("cgroupsPath with a newline", {"/linux/cgroupsPath": "/a\nb"}, "/linux/cgroupsPath"),
    ("cgroupsPath with NUL", {"/linux/cgroupsPath": "/a\0b"}, "/linux/cgroupsPath"),
    ("cgroupsPath too long", {"/linux/cgroupsPath": "/" + "c" * 5000}, "/linux/cgroupsPath"),
    ("cgroupsPath is a number", {"/linux/cgroupsPath": 5}, "/linux/cgroupsPath"),
    ("cgroupsPath is the root", {"/linux/cgroupsPath": "/"}, "/linux/cgroupsPath"),
    ("cgroupsPath is the root by another name", {"/linux/cgroupsPath": "/.//./"}, "/linux/cgroupsPath"),
    ("memory limit that nothing fits into", {C + "/memory": {"limit": 4096}}, C + "/memory/limit"),
    ("memory reservation above the limit", {C + "/memory": {"limit": 1 << 26, "reservation": 1 << 27}}, C + "/memory/reservation"),
    ("memory swap without a limit", {C + "/memory": {"swap": 1 << 27}}, C + "/memory/swap"),
    ("memory swap below -1", {C + "/memory": {"limit": 1 << 26, "swap": -2}}, C + "/memory/swap"),
    ("memory swappiness above 100", {C + "/memory": {"swappiness": 101}}, C + "/memory/swappiness"),
    ("disableOOMKiller is a word", {C + "/memory": {"disableOOMKiller": "yes"}}, C + "/memory/disableOOMKiller"),
    ("cpu burst above the quota", {C + "/cpu": {"quota": 50000, "period": 100000, "burst": 60000}}, C + "/cpu/burst"),
    ("cpu period too long", {C + "/cpu": {"quota": 1000, "period": 10000000}}, C + "/cpu/period"),
    ("cpu quota 2^63", {C + "/cpu": {"quota": 2**63}}, C + "/cpu/quota"),
    ("cpu idle -1", {C + "/cpu": {"idle": -1}}, C + "/cpu/idle"),
    ("mems is a word", {C + "/cpu": {"mems": "banana"}}, C + "/cpu/mems"),
    ("mems that are not there", {C + "/cpu": {"mems": "63"}}, C + "/cpu/mems"),
    ("mems reversed", {C + "/cpu": {"mems": "1-0"}}, C + "/cpu/mems"),
    ("pids limit 2^63", {C + "/pids": {"limit": 2**63}}, C + "/pids/limit"),
    ("pids limit is a word", {C + "/pids": {"limit": "5"}}, C + "/pids/limit"),
    ("hugepages without a limit", {C + "/hugepageLimits": [{"pageSize": "2MB"}]}, C + "/hugepageLimits/0/limit"),
    ("hugepages in small letters", {C + "/hugepageLimits": [{"pageSize": "2mb", "limit": 0}]}, C + "/hugepageLimits/0/pageSize"),
    ("hugepages of less than nothing", {C + "/hugepageLimits": [{"pageSize": "2MB", "limit": -1}]}, C + "/hugepageLimits/0/limit"),
    ("rdma without a number", {C + "/rdma": {"mlx5_1": {}}}, C + "/rdma/mlx5_1"),
    ("rdma device that is not there", {C + "/rdma": {"nosuch0": {"hcaHandles": 3}}}, C + "/rdma"),
    (
        "throttle of a device that is not there",
        {C + "/blockIO": {"throttleReadBpsDevice": [{"major": 250, "minor": 99, "rate": 1000}]}},
        C + "/blockIO/throttleReadBpsDevice/0",
    ),
    (
        "throttle without a rate",
        {C + "/blockIO": {"throttleWriteIOPSDevice": [{"major": 250, "minor": 99}]}},
        C + "/blockIO/throttleWriteIOPSDevice/0/rate",
    ),
    ("blkio leaf weight", {C + "/blockIO": {"leafWeight": 5}}, C + "/blockIO/leafWeight"),
    ("blkio weight above 1000", {C + "/blockIO": {"weight": 1001}}, C + "/blockIO/weight"),
    (
        "blkio weight of a device",
        {C + "/blockIO": {"weightDevice": [{"major": 250, "minor": 0, "weight": 5}]}},
        C + "/blockIO/weightDevice/0/weight",
    ),
    ("network class 2^32", {C + "/network": {"classID": 2**32}}, C + "/network/classID"),
    ("network priority of no interface", {C + "/network": {"priorities": [{"name": "", "priority": 1}]}}, C + "/network/priorities"),
    ("unified that freezes", {C + "/unified": {"cgroup.freeze": "1"}}, C + "/unified"),
    ("unified without a key", {C + "/unified": {"": "1"}}, C + "/unified"),
    ("unified value is a number", {C + "/unified": {"memory.high": 1}}, C + "/unified/memory.high"),
    ("device rule without access", {C + "/devices": [{"allow": True, "type": "c", "major": 1, "minor": 3}]}, C + "/devices/0/access"),
    ("device rule without allow", {C + "/devices": [{"type": "c", "access": "r"}]}, C + "/devices/0/allow"),
    ("device rule major -2", {C + "/devices": [{"allow": True, "type": "c", "major": -2, "access": "r"}]}, C + "/devices/0/major"),
    ("device rule minor 2^40", {C + "/devices": [{"allow": True, "type": "c", "minor": 2**40, "access": "r"}]}, C + "/devices/0/minor"),
    ("resctrl name is a dot", {"/linux/intelRdt": {"closID": "."}}, "/linux/intelRdt"),
    ("resctrl schema of two lines", {"/linux/intelRdt": {"l3CacheSchema": "L3:0=f\nMB:0=1"}}, "/linux/intelRdt"),
    ("clock offset 2^63", {"/linux/timeOffsets": {"boottime": {"secs": 2**63}}}, "/linux/timeOffsets/boottime/secs"),
    ("mount label where there is no SELinux", {"/linux/mountLabel": "system_u:object_r:x_t:s0"}, "/linux/mountLabel"),
    (
        "seccomp that allows nothing known",
        seccomp(defaultAction="SCMP_ACT_ERRNO", syscalls=[{"names": ["nosuchcall"], "action": "SCMP_ACT_ALLOW"}]),
        "/linux/seccomp/syscalls/0/names",
    ),
    ("memory limit below -1", {C + "/memory": {"limit": -2}}, C + "/memory/limit"),
    ("memory limit 2^63", {C + "/memory": {"limit": 2**63}}, C + "/memory/limit"),
    ("memory limit is a word", {C + "/memory": {"limit": "1g"}}, C + "/memory/limit"),
    ("memory swap below the limit", {C + "/memory": {"limit": 67108864, "swap": 33554432}}, C + "/memory"),
    ("cpu shares negative", {C + "/cpu": {"shares": -1}}, C + "/cpu/shares"),
    ("cpu quota and period of 1", {C + "/cpu": {"quota": 1, "period": 1}}, C + "/cpu"),
    ("cpus is a word", {C + "/cpu": {"cpus": "banana"}}, C + "/cpu/cpus"),
    ("cpus that are not there", {C + "/cpu": {"cpus": "9999"}}, C + "/cpu/cpus"),
    ("cpus reversed", {C + "/cpu": {"cpus": "1-0"}}, C + "/cpu/cpus"),
    ("cpu idle 2", {C + "/cpu": {"idle": 2}}, C + "/cpu/idle"),
    ("hugepages of 3MB", {C + "/hugepageLimits": [{"pageSize": "3MB", "limit": 1}]}, C + "/hugepageLimits/0"),
    ("device rule access", {C + "/devices": [{"allow": True, "access": "rwq"}]}, C + "/devices/0/access"),
    ("device rule type", {C + "/devices": [{"allow": True, "type": "x", "access": "r"}]}, C + "/devices/0/type"),
    ("unified that climbs", {C + "/unified": {"../x": "1"}}, C + "/unified"),
    ("unified with a slash", {C + "/unified": {"a/b": "1"}}, C + "/unified"),
    ("unified that moves processes", {C + "/unified": {"cgroup.procs": "1"}}, C + "/unified"),
    ("blkio weight", {C + "/blockIO": {"weight": 5}}, C + "/blockIO/weight"),
    ("seccomp action", seccomp(defaultAction="SCMP_ACT_BOGUS"), "/linux/seccomp/defaultAction"),
    ("seccomp architecture", seccomp(architectures=["SCMP_ARCH_BOGUS"]), "/linux/seccomp/architectures/0"),
    ("seccomp flag", seccomp(flags=["SECCOMP_FILTER_FLAG_BOGUS"]), "/linux/seccomp/flags/0"),
    ("seccomp operator", rule(args=[{"index": 0, "value": 1, "op": "SCMP_CMP_BOGUS"}]), "/linux/seccomp/syscalls/0/args/0/op"),
    ("seccomp argument 6", rule(args=[{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]), "/linux/seccomp/syscalls/0/args/0/index"),
    ("seccomp errno", rule(errnoRet=5000), "/linux/seccomp/syscalls/0/errnoRet"),
    ("seccomp without names", rule(names=[]), "/linux/seccomp/syscalls/0/names"),
    ("seccomp notify without a listener", rule(action="SCMP_ACT_NOTIFY"), "/linux/seccomp"),
    ("seccomp notify of write", {**rule(names=["write"], action="SCMP_ACT_NOTIFY"), "/linux/seccomp/listenerPath": "/x"}, "/linux/seccomp"),
    ("seccomp notify as the default", seccomp(defaultAction="SCMP_ACT_NOTIFY", listenerPath="/x"), "/linux/seccomp/defaultAction"),
    ("resctrl name that climbs", {"/linux/intelRdt": {"closID": "../x"}}, "/linux/intelRdt"),
    ("personality", {"/linux/personality": {"domain": "LINUX99"}}, "/linux/personality/domain"),
    ("offsets without a time namespace", {"/linux/timeOffsets": {"boottime": {"secs": 1}}}, "/linux/timeOffsets"),
    ("memory policy", {"/linux/memoryPolicy": {"mode": "MPOL_BOGUS", "nodes": "0"}}, "/linux/memoryPolicy/mode"),
    ("memory policy nodes", {"/linux/memoryPolicy": {"mode": "MPOL_BIND", "nodes": "9999"}}, "/linux/memoryPolicy"),
    ("network device that is not there", {"/linux/netDevices": {"nosuch0": {}}}, "/linux/netDevices/nosuch0"),
    ("network device name too long", {"/linux/netDevices": {"lo": {"name": "n" * 16}}}, "/linux/netDevices/lo"),
    ("network device name with a line break", {"/linux/netDevices": {"0\n": {}}}, "/linux/netDevices/0\\n"),
    ("network device name with a slash", {"/linux/netDevices": {"lo": {"name": "a/b"}}}, "/linux/netDevices/lo"),
    # ---- hooks, annotations
    ("hook path relative", hook(path="bin/true"), "/hooks/createRuntime/0"),
    ("hook path missing", hook(path=ABSENT), "/hooks/createRuntime/0"),
    ("hook that is not there", hook(path="/no/such/hook"), "/hooks/createRuntime/0"),
    ("hook that is a directory", hook(path="/etc"), "/hooks/createRuntime/0"),
    ("hook that cannot be executed", hook(path="/etc/passwd"), "/hooks/createRuntime/0"),
    ("hook env without =", hook(env=["NOEQ"]), "/hooks/createRuntime/0/env/0"),
    ("hook timeout 0", hook(timeout=0), "/hooks/createRuntime/0/timeout"),
    ("hook timeout negative", hook(timeout=-1), "/hooks/createRuntime/0/timeout"),
    ("hook timeout is a string", hook(timeout="5"), "/hooks/createRuntime/0/timeout"),
    ("hook with NUL", hook(args=["a\0b"]), "/hooks/createRuntime/0/args/0"),
    ("hook that fails", hook(path="/bin/false"), "/hooks/createRuntime/0"),
    ("annotation is a number", {"/annotations": {"a": 1}}, "/annotations/a"),
    ("annotation is a list", {"/annotations": {"a": []}}, "/annotations/a"),
    ("annotation without a key", {"/annotations": {"": "x"}}, "/annotations"),
]

ACCEPTED = [
    ("unknown keys", {"/unknownKey": {"a": [1]}, "/linux/foo": 1, "/process/__proto__": "x"}),
    (
        "null for what is optional",
        {"/annotations": None, "/linux/sysctl": None, "/process/rlimits": None, "/hooks": None, "/linux/resources": None},
    ),
    ("null for lists", {"/process/env": None, "/linux/devices": None, "/linux/maskedPaths": None, "/process/user/additionalGids": None}),
    ("empty sections", {"/linux/resources": {"blockIO": {}, "memory": {}, "cpu": {}, "devices": []}, "/annotations": {}, "/hooks": {}}),
    ("sections of other platforms", {"/windows": {}, "/solaris": {}, "/vm": {}, "/zos": {}}),
    ("newer 1.x", {"/ociVersion": "1.99.0"}),
    ("development version", {"/ociVersion": "1.0.2-dev"}),
    ("short version", {"/ociVersion": "1.0"}),
    ("version with build", {"/ociVersion": "1.2.0-rc1+dev"}),
    ("root path by a detour", {"/root/path": "rootfs/../rootfs"}),
    ("cwd above the root", {"/process/cwd": "/../.."}),
    ("cwd that is not there", {"/process/cwd": "/made/for/you"}),
    ("env twice", {"/process/env": ["PATH=/bin", "A=1", "A=2"]}),
    ("env with a newline", {"/process/env": ["PATH=/bin", "A=one\ntwo"]}),
    ("large uid", {"/process/user": {"uid": 4294967294, "gid": 2147483648}}),
    ("groups twice", {"/process/user/additionalGids": [5, 5]}),
    (
        "capability of no kernel",
        cap(bounding=["CAP_KILL", "CAP_NO_SUCH", "cap_kill", "KILL"], permitted=["CAP_KILL"], effective=["CAP_KILL"]),
    ),
    ("ambient without inheritable", cap(**{k: ["CAP_KILL"] for k in ("bounding", "permitted", "effective", "ambient")})),
    ("permitted beyond bounding", cap(bounding=[], permitted=["CAP_KILL"])),
    ("console size without a terminal of 0", {"/process/consoleSize": {"height": 0, "width": 0}}),
    ("empty mount option", mount(options=["", "nosuid"])),
    ("contrary mount options", mount(options=["ro", "rw"])),
    ("two mounts on one place", {**mount(), "/hostname": "x"}),
    ("propagation on a tmpfs", mount(options=["rprivate", "nosuid"])),
    ("destination above the root", mount(destination="/../../../mnt")),
    ("destination with doubled slashes", mount(destination="//mnt//x//")),
    ("destination relative", mount(destination="mnt/relative")),
    ("propagation with r", {"/linux/rootfsPropagation": "rprivate"}),
    ("fileMode with type bits", device(fileMode=0o20666)),
    ("device as the default one", device(path="/dev/null")),
    ("device twice the same", {"/linux/devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}] * 2}),
    ("pids limit 0", {C + "/pids": {"limit": 0}}),
    ("pids limit -1", {C + "/pids": {"limit": -1}}),
    ("memory -1", {C + "/memory": {"limit": -1}}),
    ("masked path that is not there", {"/linux/maskedPaths": ["/no/such", "/proc/kcore", "/proc/kcore"]}),
    ("seccomp name of no kernel", rule(names=["no_such_call", "acct"])),
    ("seccomp name in two rules", seccomp(syscalls=[{"names": ["acct"], "action": "SCMP_ACT_ERRNO", "errnoRet": n} for n in (1, 1)])),
    ("time namespace without offsets", ns(extra=[{"type": "time"}])),
    ("hook kind of the future", {"/hooks": {"someday": [{"path": "/x"}]}}),
    ("masks of docker", {"/linux/maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/keys", "/sys/firmware"]}),
    ("swap in numbers of docker", {C + "/memory": {"limit": 67108864, "swap": 134217728, "disableOOMKiller": False}}),
]

GOOD = json.dumps(BASE).encode()


def text(changes: Json) -> bytes:
    return json.dumps(patch(BASE, changes)).encode()


BYTES = [
    ("empty", b"", ""),
    ("blanks", b" \n\t ", ""),
    ("trailing words", GOOD + b" xyz", ""),
    ("two documents", GOOD + GOOD, ""),
    ("a list", b"[]", ""),
    ("a string", b'"x"', ""),
    ("a number", b"1", ""),
    ("null", b"null", ""),
    ("byte order mark", b"\xef\xbb\xbf" + GOOD, ""),
    ("UTF-16", GOOD.decode().encode("utf-16"), ""),
    ("Latin-1", text({"/hostname": "x"}).replace(b'"x"', b'"\xe4"'), ""),
    ("invalid UTF-8", text({"/hostname": "x"}).replace(b'"x"', b'"\xff\xfe"'), ""),
    ("comment", b"// comment\n" + GOOD, ""),
    ("trailing comma", GOOD[:-1] + b",}", ""),
    ("single quotes", GOOD.replace(b'"', b"'"), ""),
    ("NaN", GOOD[:-1] + b',"x":NaN}', ""),
    ("Infinity", GOOD[:-1] + b',"x":-Infinity}', ""),
    ("NUL after the document", GOOD + b"\0\0", ""),
    ("lists without end", GOOD[:-1] + b',"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", ""),
    ("objects without end", GOOD[:-1] + b',"x":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}", ""),
    ("integer of 5000 digits", text({}).replace(b'"uid": 0', b'"uid": ' + b"9" * 5000), "/process/user/uid"),
    ("float as uid", text({}).replace(b'"uid": 0', b'"uid": 1e3'), "/process/user/uid"),
    ("key twice", text({}).replace(b'"uid": 0', b'"uid": 1000, "uid": 0'), "/process/user/uid"),
    ("section twice", GOOD[:-1] + b',"process":{}}', "/process"),
    ("lone surrogate", text({}).replace(b"/bin/true", b"\\ud800"), "/process/args/0"),
    ("50 MB of annotation", text({"/annotations": {"a": "x" * 50_000_000}}), ""),
]
