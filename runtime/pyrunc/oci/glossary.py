"""What each property of config.json does, in one sentence, with the system calls and files involved. Data for `explain` and `spec
--explain`.

A row of WORDS: pointer (with * for a list's index or any key): (what it does, system calls or files; both may be empty). A property without
a row uses that of the nearest parent; test_glossary walks the schema. FILES: the control files of a limit in versions 1 and 2 of cgroups,
"" if that version has none. SECTIONS: the section of runtime-spec; the longest prefix applies.
"""

from __future__ import annotations

from pyrunc.oci import pointers, schema_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.oci.schema_table import Rule

SECTIONS = (
    ("", "config.md"), ("/ociVersion", "config.md#specification-version"), ("/root", "config.md#root"), ("/mounts", "config.md#mounts"),
    ("/process", "config.md#process"), ("/process/user", "config.md#posix-platform-user"), ("/process/rlimits", "config.md#posix-process"),
    ("/process/apparmorProfile", "config.md#linux-process"), ("/process/capabilities", "config.md#linux-process"),
    ("/process/noNewPrivileges", "config.md#linux-process"), ("/process/oomScoreAdj", "config.md#linux-process"),
    ("/process/selinuxLabel", "config.md#linux-process"), ("/process/scheduler", "config.md#linux-process"),
    ("/process/ioPriority", "config.md#linux-process"), ("/process/execCPUAffinity", "config.md#linux-process"),
    ("/hostname", "config.md#hostname"), ("/domainname", "config.md#domainname"), ("/hooks", "config.md#posix-platform-hooks"),
    ("/annotations", "config.md#annotations"), ("/linux", "config-linux.md"), ("/linux/namespaces", "config-linux.md#namespaces"),
    ("/linux/uidMappings", "config-linux.md#user-namespace-mappings"), ("/linux/gidMappings", "config-linux.md#user-namespace-mappings"),
    ("/linux/timeOffsets", "config-linux.md#offset-for-time-namespace"), ("/linux/devices", "config-linux.md#devices"),
    ("/linux/netDevices", "config-linux.md#network-devices"), ("/linux/cgroupsPath", "config-linux.md#cgroups-path"),
    ("/linux/resources", "config-linux.md#control-groups"), ("/linux/resources/devices", "config-linux.md#allowed-device-list"),
    ("/linux/resources/memory", "config-linux.md#memory"), ("/linux/resources/cpu", "config-linux.md#cpu"),
    ("/linux/resources/blockIO", "config-linux.md#block-io"), ("/linux/resources/hugepageLimits", "config-linux.md#huge-page-limits"),
    ("/linux/resources/network", "config-linux.md#network"), ("/linux/resources/pids", "config-linux.md#pids"),
    ("/linux/resources/rdma", "config-linux.md#rdma"), ("/linux/resources/unified", "config-linux.md#unified"),
    ("/linux/intelRdt", "config-linux.md#intelrdt"), ("/linux/memoryPolicy", "config-linux.md#memory-policy"),
    ("/linux/sysctl", "config-linux.md#sysctl"), ("/linux/seccomp", "config-linux.md#seccomp"),
    ("/linux/rootfsPropagation", "config-linux.md#rootfs-mount-propagation"), ("/linux/maskedPaths", "config-linux.md#masked-paths"),
    ("/linux/readonlyPaths", "config-linux.md#readonly-paths"), ("/linux/mountLabel", "config-linux.md#mount-label"),
    ("/linux/personality", "config-linux.md#personality"), ("/solaris", "config-solaris.md"), ("/windows", "config-windows.md"),
    ("/vm", "config-vm.md"), ("/zos", "config-zos.md"), ("/freebsd", "config-freebsd.md"),
)  # fmt: skip

WORDS = {
    "/ociVersion": ("The version of the specification that the document is written for; any 1.x is accepted.", ""),
    "/annotations": ("Arbitrary texts, passed to state, hooks and seccomp agents. Some change behaviour: see docs/annotations.md.", ""),
    "/hostname": ("The host name that the container sees; needs a uts namespace.", "sethostname"),
    "/domainname": ("The NIS domain name that the container sees; needs a uts namespace.", "setdomainname"),
    "/root": ("The file system that the container sees as /.", "open_tree, move_mount, pivot_root"),
    "/root/path": ("Directory that becomes /; a relative path starts at the bundle.", "openat2, open_tree, move_mount, pivot_root"),
    "/root/readonly": ("The root is read-only; mounts on it keep their own flags.", "mount_setattr(MOUNT_ATTR_RDONLY)"),
    "/mounts": ("Mounted in this order, before the root is entered; missing mount points are created.", "open_tree, fsopen, fsconfig, fsmount, move_mount"),
    "/mounts/*/destination": ("The path in the container; links in the image are only followed inside its root.", "openat2(RESOLVE_IN_ROOT), mkdirat, move_mount"),
    "/mounts/*/source": ("What is mounted: a path on the host for bind mounts, else a name that the file system interprets.", "open_tree, fsconfig(source)"),
    "/mounts/*/type": ("Type of the file system; ignored for bind mounts (with the option bind or rbind).", "fsopen"),
    "/mounts/*/options": ("Flags (ro, nosuid, rro, …), propagation, and for new file systems data such as size=64k.", "fsconfig, mount_setattr"),
    "/mounts/*/uidMappings": ("User ids of the mount's files in the container (id-mapped mount).", "mount_setattr(MOUNT_ATTR_IDMAP)"),
    "/mounts/*/gidMappings": ("Group ids of the mount's files in the container.", "mount_setattr(MOUNT_ATTR_IDMAP)"),
    "/process": ("The program that start executes, and everything about its process.", "execve"),
    "/process/args": ("Program and arguments; a name without a slash is looked up in the PATH of env.", "execve"),
    "/process/cwd": ("Working directory, absolute; created if it is missing.", "chdir"),
    "/process/env": ("The whole environment, NAME=value; the caller's is not used. HOME is added if it is missing.", "execve"),
    "/process/terminal": ("The program gets a terminal of the container's own devpts as standard streams; its master is sent to --console-socket.", "open(/dev/ptmx), TIOCSCTTY"),
    "/process/consoleSize": ("Size of that terminal in characters.", "TIOCSWINSZ"),
    "/process/user": ("The user that the program runs as.", "setgroups, setresgid, setresuid"),
    "/process/user/uid": ("User id inside the container.", "setresuid"),
    "/process/user/gid": ("Group id inside the container.", "setresgid"),
    "/process/user/umask": ("Permission bits that are removed from new files; 0022 if absent.", "umask"),
    "/process/user/additionalGids": ("Supplementary groups; none if absent.", "setgroups"),
    "/process/user/username": ("For other platforms; ignored.", ""),
    "/process/capabilities": ("The five capability sets; those not given are empty.", "capset, prctl(PR_CAPBSET_DROP), prctl(PR_CAP_AMBIENT)"),
    "/process/capabilities/bounding": ("The maximum that any program in the container can ever get.", "prctl(PR_CAPBSET_DROP)"),
    "/process/capabilities/effective": ("What is in effect.", "capset"),
    "/process/capabilities/permitted": ("What the process may make effective.", "capset"),
    "/process/capabilities/inheritable": ("What a program with file capabilities may keep across execve.", "capset"),
    "/process/capabilities/ambient": ("What any program keeps across execve, even if it is not root.", "prctl(PR_CAP_AMBIENT_RAISE)"),
    "/process/noNewPrivileges": ("Set-user-ID programs and file capabilities no longer grant anything; the filter is then loaded last.", "prctl(PR_SET_NO_NEW_PRIVS)"),
    "/process/rlimits": ("Limits of the process, each with a soft and a hard value; those not given are the caller's.", "prlimit64"),
    "/process/rlimits/*/type": ("The limit: RLIMIT_NOFILE, RLIMIT_NPROC, …", "prlimit64"),
    "/process/rlimits/*/soft": ("The limit in effect; the program may raise it up to hard.", "prlimit64"),
    "/process/rlimits/*/hard": ("The maximum; raising it above the caller's requires CAP_SYS_RESOURCE.", "prlimit64"),
    "/process/apparmorProfile": ("AppArmor profile from execve on.", "/proc/self/attr/apparmor/exec"),
    "/process/selinuxLabel": ("SELinux label from execve on.", "/proc/self/attr/exec"),
    "/process/oomScoreAdj": ("How likely the kernel is to kill it when memory runs out, -1000 to 1000; a value below the caller's requires CAP_SYS_RESOURCE.", "/proc/PID/oom_score_adj"),
    "/process/scheduler": ("Scheduling policy and its parameters.", "sched_setattr"),
    "/process/scheduler/nice": ("-20 (first) to 19, for SCHED_OTHER and SCHED_BATCH.", "sched_setattr"),
    "/process/scheduler/priority": ("1 to 99, for SCHED_FIFO and SCHED_RR.", "sched_setattr"),
    "/process/ioPriority": ("Class and priority (0 to 7) of disk access.", "ioprio_set"),
    "/process/execCPUAffinity": ("CPUs of processes started by exec: initial before, and final after they are in the cgroup.", "sched_setaffinity"),
    "/process/commandLine": ("For Windows; ignored.", ""),
    "/hooks": ("Programs that run at fixed points of the container's life, with its state on standard input.", "clone, execve"),
    "/hooks/prestart": ("Deprecated: on the host, when the namespaces exist, before createRuntime.", "execve"),
    "/hooks/createRuntime": ("On the host, when namespaces and mounts exist, before the root is entered.", "execve"),
    "/hooks/createContainer": ("A program from the host in the container's namespaces, before the root is entered.", "execve"),
    "/hooks/startContainer": ("A program from the container, run inside it by start, before the container's program.", "execve"),
    "/hooks/poststart": ("On the host, when the program is running; a failure kills the container.", "execve"),
    "/hooks/poststop": ("On the host, after everything has been released; a failure is a warning.", "execve"),
    "/hooks/*/*/path": ("Absolute path of the program.", "execve"),
    "/hooks/*/*/args": ("Its arguments, starting with its name; only the path if absent.", "execve"),
    "/hooks/*/*/env": ("Its whole environment; the runtime's own if absent.", "execve"),
    "/hooks/*/*/timeout": ("Seconds after which its process group is killed and the operation fails.", "kill"),
    "/linux": ("Properties specific to Linux.", ""),
    "/linux/namespaces": ("Which namespaces of the container are separate; those not listed are the caller's.", "clone3, setns, unshare"),
    "/linux/namespaces/*/type": ("pid, network, mount, ipc, uts, user, cgroup or time.", "clone3, unshare"),
    "/linux/namespaces/*/path": ("Joins that namespace instead of creating a new one.", "setns"),
    "/linux/uidMappings": ("Maps user ids of the container to ids of the host; needs a user namespace.", "/proc/PID/uid_map, newuidmap"),
    "/linux/gidMappings": ("Maps group ids of the container to ids of the host; needs a user namespace.", "/proc/PID/gid_map, newgidmap"),
    "/linux/*/*/containerID": ("First id in the container.", ""),
    "/linux/*/*/hostID": ("First id on the host.", ""),
    "/linux/*/*/size": ("Number of ids.", ""),
    "/linux/timeOffsets": ("Offsets of the clocks in a new time namespace from the host's.", "/proc/PID/timens_offsets"),
    "/linux/devices": ("Nodes created below the root, in addition to those of every container (null, zero, full, random, urandom, tty).", "mknodat, or a bind in a user namespace"),
    "/linux/devices/*/path": ("The path in the container.", "mknodat"),
    "/linux/devices/*/type": ("c character, b block, u unbuffered character, p fifo.", "mknodat"),
    "/linux/devices/*/fileMode": ("Permission bits; 0666 if absent.", "fchmodat"),
    "/linux/netDevices": ("Network devices that are moved from the runtime's network namespace to the container's, with a new name if given.", "RTM_NEWLINK"),
    "/linux/cgroupsPath": ("The cgroup; SLICE:PREFIX:NAME with the systemd manager. Derived from the id if absent.", "mkdirat, cgroup.procs"),
    "/linux/resources": ("Limits for all processes together, written to the control files of the container's cgroup.", "cgroupfs"),
    "/linux/resources/devices": ("Which device nodes may be opened or created, in order; the default devices are always allowed.", "bpf(BPF_PROG_ATTACH), devices.allow"),
    "/linux/resources/pids": ("Number of tasks.", ""),
    "/linux/resources/memory": ("Memory.", ""),
    "/linux/resources/cpu": ("CPU time, and CPUs.", ""),
    "/linux/resources/blockIO": ("Disk access.", ""),
    "/linux/resources/network": ("Marks and priorities of packets; version 1 of cgroups only.", ""),
    "/linux/resources/pids/limit": ("Maximum number of tasks; 0 and -1 are unlimited.", ""),
    "/linux/resources/memory/limit": ("Maximum memory in bytes; -1 is unlimited. If it is exceeded, the kernel kills processes.", ""),
    "/linux/resources/memory/reservation": ("Memory that is protected when the host runs short.", ""),
    "/linux/resources/memory/swap": ("Limit of memory and swap together in bytes; -1 is unlimited.", ""),
    "/linux/resources/memory/swappiness": ("0 to 100: how likely the kernel is to swap.", ""),
    "/linux/resources/memory/disableOOMKiller": ("Processes wait for memory instead of being killed.", ""),
    "/linux/resources/memory/useHierarchy": ("Includes child cgroups; always the case in version 2.", ""),
    "/linux/resources/memory/kernel": ("Removed from the kernel; ignored with a warning.", ""),
    "/linux/resources/memory/kernelTCP": ("Removed from the kernel; ignored with a warning.", ""),
    "/linux/resources/memory/checkBeforeUpdate": ("update refuses a limit below the current usage.", ""),
    "/linux/resources/cpu/shares": ("Relative share when CPUs are busy, 2 to 262144; converted to a weight of 1 to 10000 in version 2.", ""),
    "/linux/resources/cpu/quota": ("Microseconds of CPU time per period; -1 is unlimited.", ""),
    "/linux/resources/cpu/period": ("Length of a period in microseconds, 1000 to 1000000.", ""),
    "/linux/resources/cpu/burst": ("Microseconds that may be saved up, at most the quota.", ""),
    "/linux/resources/cpu/realtimeRuntime": ("Microseconds of realtime CPU time in a realtime period.", ""),
    "/linux/resources/cpu/realtimePeriod": ("Length of a realtime period in microseconds.", ""),
    "/linux/resources/cpu/cpus": ("The allowed CPUs, such as 0-3,7.", ""),
    "/linux/resources/cpu/mems": ("The allowed memory nodes.", ""),
    "/linux/resources/cpu/idle": ("1: runs only when nothing else wants the CPUs.", ""),
    "/linux/resources/blockIO/weight": ("Relative share of disk time, 10 to 1000.", ""),
    "/linux/resources/blockIO/weightDevice": ("The same, for one device.", ""),
    "/linux/resources/blockIO/leafWeight": ("Share of the cgroup's own tasks compared to its children; only with the old CFQ scheduler.", ""),
    "/linux/resources/blockIO/throttleReadBpsDevice": ("Bytes read per second, for one device.", ""),
    "/linux/resources/blockIO/throttleWriteBpsDevice": ("Bytes written per second, for one device.", ""),
    "/linux/resources/blockIO/throttleReadIOPSDevice": ("Reads per second, for one device.", ""),
    "/linux/resources/blockIO/throttleWriteIOPSDevice": ("Writes per second, for one device.", ""),
    "/linux/resources/hugepageLimits": ("Maximum of huge pages of a size, in bytes.", ""),
    "/linux/resources/network/classID": ("Mark on packets, for tc(8).", ""),
    "/linux/resources/network/priorities": ("Priority of traffic on an interface.", ""),
    "/linux/resources/rdma": ("Handles and objects of an RDMA device.", ""),
    "/linux/resources/unified": ("Control files of version 2 by name, written last and unchanged.", ""),
    "/linux/intelRdt": ("Shares of cache and memory bandwidth (Intel RDT, AMD QoS): a group of resctrl.", "/sys/fs/resctrl"),
    "/linux/intelRdt/closID": ("Name of the group; an existing one is joined.", "/sys/fs/resctrl/CLOSID"),
    "/linux/intelRdt/schemata": ("Lines for its schemata, written unchanged.", "schemata"),
    "/linux/intelRdt/l3CacheSchema": ("The L3 lines of its schemata.", "schemata"),
    "/linux/intelRdt/memBwSchema": ("The MB line of its schemata.", "schemata"),
    "/linux/intelRdt/enableMonitoring": ("Creates a separate monitoring group.", "mon_groups"),
    "/linux/memoryPolicy": ("The memory nodes from which pages are allocated.", "set_mempolicy"),
    "/linux/sysctl": ("Settings in /proc/sys that belong to one of the container's own namespaces.", "/proc/sys"),
    "/linux/seccomp": ("Which system calls are allowed; compiled by libseccomp, and cached below --root.", "seccomp(SECCOMP_SET_MODE_FILTER)"),
    "/linux/seccomp/defaultAction": ("The action for calls without a rule.", "seccomp"),
    "/linux/seccomp/defaultErrnoRet": ("The errno of that action; EPERM if absent.", "seccomp"),
    "/linux/seccomp/architectures": ("Additional architectures whose calls are filtered; the native one always is.", "seccomp"),
    "/linux/seccomp/flags": ("How the filter is loaded.", "seccomp"),
    "/linux/seccomp/listenerPath": ("Socket that receives the notify descriptor of SCMP_ACT_NOTIFY.", "seccomp(NEW_LISTENER), sendmsg"),
    "/linux/seccomp/listenerMetadata": ("Text for the listener.", "sendmsg"),
    "/linux/seccomp/syscalls": ("Rules: names, the action, and conditions on arguments. `seccomp SYSCALL` shows the result.", "seccomp"),
    "/linux/rootfsPropagation": ("Whether later mounts on the host appear in the container, and vice versa.", "mount(MS_PRIVATE, …)"),
    "/linux/maskedPaths": ("Hidden: files by the null device, directories by an empty read-only tmpfs. Missing ones are skipped.", "open_tree, move_mount"),
    "/linux/readonlyPaths": ("Made read-only by bind-mounting them on themselves. Missing ones are skipped.", "open_tree, mount_setattr"),
    "/linux/mountLabel": ("SELinux context of the files of mounts.", "fsconfig(context)"),
    "/linux/personality": ("LINUX32: uname shows a 32-bit machine.", "personality"),
    "/solaris": ("For Solaris; ignored here.", ""),
    "/windows": ("For Windows; ignored here.", ""),
    "/vm": ("For virtual machines; ignored here.", ""),
    "/zos": ("For z/OS; ignored here.", ""),
    "/freebsd": ("For FreeBSD; ignored here.", ""),
}  # fmt: skip

_R = "/linux/resources"
FILES = {
    _R + "/pids/limit": ("pids.max", "pids.max"),
    _R + "/memory/limit": ("memory.limit_in_bytes", "memory.max"),
    _R + "/memory/reservation": ("memory.soft_limit_in_bytes", "memory.low"),
    _R + "/memory/swap": ("memory.memsw.limit_in_bytes", "memory.swap.max"),
    _R + "/memory/swappiness": ("memory.swappiness", ""),
    _R + "/memory/disableOOMKiller": ("memory.oom_control", ""),
    _R + "/memory/useHierarchy": ("memory.use_hierarchy", ""),
    _R + "/cpu/shares": ("cpu.shares", "cpu.weight"),
    _R + "/cpu/quota": ("cpu.cfs_quota_us", "cpu.max"),
    _R + "/cpu/period": ("cpu.cfs_period_us", "cpu.max"),
    _R + "/cpu/burst": ("cpu.cfs_burst_us", "cpu.max.burst"),
    _R + "/cpu/idle": ("cpu.idle", "cpu.idle"),
    _R + "/cpu/realtimeRuntime": ("cpu.rt_runtime_us", ""),
    _R + "/cpu/realtimePeriod": ("cpu.rt_period_us", ""),
    _R + "/cpu/cpus": ("cpuset.cpus", "cpuset.cpus"),
    _R + "/cpu/mems": ("cpuset.mems", "cpuset.mems"),
    _R + "/blockIO/weight": ("blkio.weight", "io.weight, io.bfq.weight"),
    _R + "/blockIO/weightDevice": ("blkio.weight_device", "io.weight, io.bfq.weight"),
    _R + "/blockIO/leafWeight": ("blkio.leaf_weight", ""),
    _R + "/blockIO/throttleReadBpsDevice": ("blkio.throttle.read_bps_device", "io.max"),
    _R + "/blockIO/throttleWriteBpsDevice": ("blkio.throttle.write_bps_device", "io.max"),
    _R + "/blockIO/throttleReadIOPSDevice": ("blkio.throttle.read_iops_device", "io.max"),
    _R + "/blockIO/throttleWriteIOPSDevice": ("blkio.throttle.write_iops_device", "io.max"),
    _R + "/hugepageLimits": ("hugetlb.SIZE.limit_in_bytes", "hugetlb.SIZE.max"),
    _R + "/network/classID": ("net_cls.classid", ""),
    _R + "/network/priorities": ("net_prio.ifpriomap", ""),
    _R + "/rdma": ("rdma.max", "rdma.max"),
    _R + "/devices": ("devices.allow, devices.deny", "a BPF program"),
    _R + "/unified": ("", "the file of that name"),
    "/linux/cgroupsPath": ("cgroup.procs", "cgroup.procs"),
}


def all_pointers() -> list[str]:
    """All properties of the schema: '/mounts', '/mounts/*', '/mounts/*/options', …, in the schema's order."""
    found = []
    pending: list[tuple[str, Rule]] = [("", schema_table.ROOTS["config"])]
    while pending:
        pointer, rule = pending.pop()
        found.append(pointer)
        below = []
        if rule[0] == "o":
            below = [(pointer + "/" + key, value) for key, value in rule[2].items()]
            below += [(pointer + "/*", rule[3])] if rule[3] else []
        elif rule[0] == "a":
            below = [(pointer + "/*", rule[1])]
        pending += reversed(below)
    return found[1:]


def canonical(pointer: str) -> tuple[str, Rule] | None:
    """'/mounts/3/options/0' -> ('/mounts/*/options/*', its rule), or None if the schema has no such place."""
    rule: Rule = schema_table.ROOTS["config"]
    out = ""
    for step in pointers.split(pointer):
        if rule[0] == "o" and step in rule[2]:
            rule = rule[2][step]
            out += "/" + step
        elif rule[0] == "o" and rule[3] and step:
            rule = rule[3]
            out += "/*"
        elif rule[0] == "a" and (step == "*" or step.isascii() and step.isdigit()):
            rule = rule[1]
            out += "/*"
        else:
            return None
    return out, rule


def words(place: str) -> tuple[str, str]:
    """Canonical pointer -> (what it does, calls): its own row, or that of the nearest parent."""
    while place:
        for key in (place, *(k for k in WORDS if "*" in k and _fits(place, k))):
            if key in WORDS:
                return WORDS[key]
        place = place.rpartition("/")[0]
    return "", ""


def _fits(place: str, pattern: str) -> bool:
    a, b = place.split("/"), pattern.split("/")
    return len(a) == len(b) and all(y in ("*", x) for x, y in zip(a, b, strict=True))


def files(place: str) -> tuple[str, str] | None:
    """Canonical pointer -> (files of version 1, of version 2), or None if it is not a limit."""
    while place:
        if place in FILES:
            return FILES[place]
        place = place.rpartition("/")[0]
    return None


def section(place: str) -> str:
    """Canonical pointer -> 'config-linux.md#memory'"""
    best = max((p for p, _ in SECTIONS if place == p or place.startswith(p + "/")), key=len)
    return dict(SECTIONS)[best]


def by_name(name: str) -> list[str]:
    """'noNewPrivileges', 'memory.limit', 'memory/limit' -> the canonical pointers that end with it."""
    tail = "/" + name.strip("/").replace(".", "/")
    return [p for p in all_pointers() if p.endswith(tail) or p.replace("/*", "").endswith(tail) and not p.endswith("/*")]
