"""/process/scheduler, /process/ioPriority, /process/execCPUAffinity (runtime-spec, config.md#linux-process; sched(7), ioprio_set(2)).

Invariant: values that the kernel would silently misinterpret are refused, and values that were set are read back.
"""

from __future__ import annotations

import errno
import posix

from pyrunc import fileio
from pyrunc.errors import CallError, Refusal, StepFailure, Unsupported, errno_text, quote
from pyrunc.linux import _syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, TypedDict

    from pyrunc.parts.sides import Context, ExecRun, HostRun, InitRun, Run

    class GivenScheduler(TypedDict, total=False):
        policy: str
        nice: int
        priority: int
        flags: list[str]
        runtime: int
        deadline: int
        period: int

    GivenIoPriority = TypedDict(
        "GivenIoPriority",
        {"class": str, "priority": int},
        total=False,
    )

    class GivenAffinity(TypedDict, total=False):
        initial: str
        final: str

    Node = TypedDict(
        "Node",
        {"/process/scheduler": GivenScheduler, "/process/ioPriority": GivenIoPriority, "/process/execCPUAffinity": GivenAffinity},
        total=False,
    )

    class Entry(TypedDict):
        exec: bool
        scheduler: list[int] | None  # arguments of sched_setattr(2)
        ioprio: int | None
        initial: list[list[int]] | None  # [first, last]
        final: list[list[int]] | None


SCHED: Final = "/process/scheduler"
IOPRIO: Final = "/process/ioPriority"
AFFINITY: Final = "/process/execCPUAffinity"
POLICIES = {
    "SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_ISO": 4, "SCHED_IDLE": 5, "SCHED_DEADLINE": 6,
}  # fmt: skip
FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01, "SCHED_FLAG_RECLAIM": 0x02, "SCHED_FLAG_DL_OVERRUN": 0x04, "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10, "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20, "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}  # fmt: skip
KEEP_POLICY, CLAMP_MAX = 0x08, 0x40
UNCLAMPED = 1024  # SCHED_CAPACITY_SCALE
CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
WHO_PROCESS = 1  # the spec says process group; runc and crun set the process, and init is alone in its group
DEADLINE_MIN = 1024  # ns, kernel/sched/deadline.c
CPU_MAX = 8191  # the limit of CONFIG_NR_CPUS
POSSIBLE = "/sys/devices/system/cpu/possible"


def plan(node: Node, ctx: Context) -> Entry:
    """node: the three objects. entry: {"exec": bool, "scheduler": arguments of sched_setattr(2) | None, "ioprio": value | None,
    "initial", "final": [[first, last], …] | None}. Never None: init is always allowed to use all CPUs of its cpuset. Refused, each with its
    pointer: an unknown policy, flag or class; nice outside -20..19; a priority with a policy that has none, or outside 1..99; runtime,
    deadline and period without SCHED_DEADLINE, or against its rules; I/O priority outside 0..7; CPU lists that are malformed, or contain no
    CPU of this machine."""
    affinity = node.get(AFFINITY) or {}
    lists = []
    for name, text in (("initial", affinity.get("initial")), ("final", affinity.get("final"))):
        pointer = "%s/%s" % (AFFINITY, name)
        cpus = _ranges(text or "", pointer, CPU_MAX, "CPU")
        lists.append(cpus)
        if cpus and cpus[0][0] >= _possible():
            hint = "the highest here is %d" % (_possible() - 1)
            raise Unsupported("no-such-cpu", "CPU %d and above are not in this machine" % cpus[0][0], pointer, "more CPUs", hint)
    return {
        "exec": ctx.options.get("command") == "exec", "scheduler": _scheduler(node.get(SCHED), ctx),
        "ioprio": _ioprio(node.get(IOPRIO)), "initial": lists[0], "final": lists[1],
    }  # fmt: skip


def _scheduler(value: GivenScheduler | None, ctx: Context) -> list[int] | None:
    if value is None:
        return None
    policy = value.get("policy")
    if policy not in POLICIES:
        raise Refusal(
            "unknown-policy",
            "scheduler policy is required" if not policy else "unknown scheduler policy %s" % quote(policy, 60),
            SCHED + "/policy",
        )
    if policy == "SCHED_ISO":
        raise Unsupported("reserved-policy", "SCHED_ISO is reserved and in no kernel", SCHED + "/policy", "a kernel that has it")
    nice, priority = value.get("nice", 0), value.get("priority", 0)
    if not -20 <= nice <= 19:
        raise Refusal("nice-range", "invalid scheduler.nice: %d" % nice, SCHED + "/nice", "-20 to 19")
    if nice and policy not in ("SCHED_OTHER", "SCHED_BATCH"):
        ctx.warn(SCHED + "/nice", "has no effect with %s" % policy)
    if policy in ("SCHED_FIFO", "SCHED_RR"):
        if not 1 <= priority <= 99:
            raise Refusal("priority-range", "scheduler.priority %d: %s takes 1 to 99" % (priority, policy), SCHED + "/priority")
    elif priority:
        raise Refusal("needless-priority", "scheduler.priority can only be specified for SchedFIFO or SchedRR policy", SCHED + "/priority")
    flags = 0
    for index, flag in enumerate(value.get("flags") or ()):
        if flag not in FLAGS:
            raise Refusal("unknown-flag", "unknown scheduler flag %s" % quote(flag, 60), "%s/flags/%d" % (SCHED, index))
        flags |= FLAGS[flag]
    times = value.get("runtime", 0), value.get("deadline", 0), value.get("period", 0)
    _deadline(policy, *times)
    return [POLICIES[policy], flags, nice, priority, *times, 0, UNCLAMPED if flags & CLAMP_MAX else 0]


def _deadline(policy: str, runtime: int, deadline: int, period: int) -> None:
    if policy != "SCHED_DEADLINE":
        for name, value in (("runtime", runtime), ("deadline", deadline), ("period", period)):
            if value:
                raise Refusal(
                    "needless-deadline",
                    "scheduler runtime/deadline/period can only be specified for SchedDeadline policy",
                    "%s/%s" % (SCHED, name),
                )
        return
    if runtime < DEADLINE_MIN:
        raise Refusal(
            "deadline-runtime",
            "scheduler.runtime %d ns: SCHED_DEADLINE takes %d and more" % (runtime, DEADLINE_MIN),
            SCHED + "/runtime",
        )
    if deadline < runtime:
        raise Refusal("deadline-order", "scheduler.deadline %d ns is less than runtime %d" % (deadline, runtime), SCHED + "/deadline")
    if period and period < deadline:
        raise Refusal("deadline-order", "scheduler.period %d ns is less than deadline %d" % (period, deadline), SCHED + "/period")
    if (period or deadline) >> 63:
        raise Refusal("deadline-period", "scheduler.period %d ns is too long" % (period or deadline), SCHED + "/period")


def _ioprio(value: GivenIoPriority | None) -> int | None:
    if value is None:
        return None
    kind, priority = value.get("class"), value.get("priority", 0)
    if kind not in CLASSES:
        raise Refusal(
            "unknown-io-class",
            "invalid ioPriority.Class: %s" % quote(kind or "", 60),
            IOPRIO + "/class",
            "one of " + ", ".join(CLASSES),
        )
    if not 0 <= priority <= 7:
        raise Refusal("io-priority-range", "invalid ioPriority.Priority: %d" % priority, IOPRIO + "/priority", "0 to 7")
    return CLASSES[kind] << 13 | priority


def _ranges(text: str, pointer: str, highest: int, what: str) -> list[list[int]] | None:
    """'0-3, 7' -> [[0, 3], [7, 7]], in order; None for an empty string. Spaces and empty elements are allowed."""
    found = []
    for part in text.split(","):
        part = part.strip(" ")
        if not part:
            continue
        low, dash, high = part.partition("-")
        bounds = [low.strip(" "), high.strip(" ") if dash else low.strip(" ")]
        if not all(b.isascii() and b.isdigit() and len(b) < 10 for b in bounds):
            raise Refusal("bad-list", "%s is not a list of %ss" % (quote(text, 60), what), pointer, "numbers and ranges: 0-3,7")
        first, last = int(bounds[0]), int(bounds[1])
        if first > last:
            raise Refusal("empty-range", "%s: the range %d-%d is empty" % (quote(text, 60), first, last), pointer)
        if last > highest:
            raise Refusal("number-too-high", "%s: no kernel has a %s %d" % (quote(text, 60), what, last), pointer, "%d at most" % highest)
        found.append([first, last])
    if text.strip(" ,") == "" and text.strip(" ") != "":
        raise Refusal("empty-list", "%s does not name any %s" % (quote(text, 60), what), pointer)
    return sorted(found) or None


def _numbers(ranges: list[list[int]]) -> list[int]:
    return [n for first, last in ranges for n in range(first, last + 1)]


def _possible() -> int:
    """The number of CPUs that this machine can have, including those that can be added."""
    try:
        text = fileio.read_file(POSSIBLE, 4096)
    except OSError:
        return 1024  # without sysfs; the cpuset limits it in any case
    return int(text.strip().rpartition(b",")[2].rpartition(b"-")[2]) + 1


def host_affinity(entry: Entry, run: Run) -> None:
    """Host, when run.pid is in its cgroup. Init, and an exec'ed process without execCPUAffinity, may use all CPUs of the cpuset. `final` is
    set; if there is only `initial`, it is kept. If the affinity may not be reset, the inherited one remains, as with runc."""
    if entry["exec"] and entry["final"]:
        _affinity(run.pid, _numbers(entry["final"]), "final")
    elif not (entry["exec"] and entry["initial"]):
        try:
            posix.sched_setaffinity(run.pid, range(_possible()))
        except OSError as e:
            if e.errno not in (errno.EPERM, errno.EINVAL):
                raise


def init_affinity(entry: Entry, run: InitRun) -> None:
    """Init, in its cgroup: all CPUs, as in host_affinity."""
    host_affinity(entry, run)


def exec_initial(entry: Entry, run: ExecRun) -> None:
    """Host side of exec, before the clone: sets `initial` for this process, so that the child never runs on another CPU."""
    if entry["initial"]:
        _affinity(0, _numbers(entry["initial"]), "initial")


def _affinity(pid: int, cpus: list[int], name: str) -> None:
    try:
        posix.sched_setaffinity(pid, cpus)
    except OSError as e:
        words = "cannot set the CPU affinity (%s): %s" % (name, errno_text(e.errno))
        hint = "the cpuset of the container allows none of them" if e.errno == errno.EINVAL else None
        raise StepFailure(
            "affinity-not-set", words, pointer="%s/%s" % (AFFINITY, name), call="sched_setaffinity", errno=e.errno, hint=hint
        ) from e


def init_set(entry: Entry, run: InitRun) -> None:
    """Init, while it is privileged (CAP_SYS_NICE). Sets and verifies the values, which children inherit. Uses run.config for a hint. If init
    is outside of the pid namespace, host_set does it for its child."""
    if not run.plans.get("namespaces", {}).get("outside"):
        set_for(0, entry, run)


def host_set(entry: Entry, run: HostRun) -> None:
    """Host side, if the program's process is a child of init (op_clone): the same for run.pid, while it waits."""
    set_for(run.pid, entry, run)


def exec_waits(entry: Entry) -> bool:
    """Whether host_set has anything to do, for which the process must wait."""
    return entry["scheduler"] is not None or entry["ioprio"] is not None


def set_for(pid: int, entry: Entry, run: Run) -> None:
    """Sets scheduler and I/O priority of a process; 0 is the calling process."""
    wanted = entry["scheduler"]
    if wanted is not None:
        try:
            _syscalls.sched_setattr(pid, *wanted)
        except OSError as e:
            raise _refused(e, run) from e
        if not wanted[1] & KEEP_POLICY and _syscalls.sched_getattr(pid)[0] != wanted[0]:
            raise StepFailure(
                "scheduler-not-kept", "the kernel did not take the scheduler policy", pointer=SCHED + "/policy", call="sched_setattr"
            )
    if entry["ioprio"] is not None:
        try:
            _syscalls.ioprio_set(WHO_PROCESS, pid, entry["ioprio"])
        except OSError as e:
            hint = "IOPRIO_CLASS_RT takes CAP_SYS_NICE or CAP_SYS_ADMIN in the initial user namespace" if e.errno == errno.EPERM else None
            raise StepFailure(
                "io-priority-not-set",
                "error setting ioPriority: " + errno_text(e.errno),
                pointer=IOPRIO,
                call=CallError.of(e).call,
                errno=e.errno,
                hint=hint,
            ) from e
        if _syscalls.ioprio_get(WHO_PROCESS, pid) != entry["ioprio"]:
            raise StepFailure("io-priority-not-kept", "the kernel did not take the I/O priority", pointer=IOPRIO, call="ioprio_set")


def _refused(e: OSError, run: Run) -> StepFailure:
    words, hint = "error setting scheduler: " + errno_text(e.errno), None
    if e.errno == errno.EPERM:
        hint = "real-time policies take CAP_SYS_NICE in the initial user namespace"
        cpu = ((run.config.get("linux") or {}).get("resources") or {}).get("cpu") or {}
        if cpu.get("cpus"):
            words, hint = "process scheduler can't be used together with AllowedCPUs", "SCHED_DEADLINE needs all CPUs of its root domain"
    elif e.errno == errno.EBUSY:
        hint = "the bandwidth that SCHED_DEADLINE asks for is not available"
    return StepFailure("scheduler-not-set", words, pointer=SCHED, call=CallError.of(e).call, errno=e.errno, hint=hint)
