"""config.md#configLinuxProcess: oomScoreAdj, scheduler, ioPriority, execCPUAffinity; config-linux.md: memoryPolicy, personality."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oci_conformance.bundle import ABSENT
from oci_conformance.case import case

if TYPE_CHECKING:
    from oci_conformance.shapes import Json
    from oci_conformance.trial import Trial


CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}


def own(name: str) -> int:
    with open("/proc/self/" + name) as file:
        return int(file.read())


@case("oom-score.set", level="core")
def oom_set(t: Trial) -> None:
    """oomScoreAdj is applied: 1000 and smaller values."""
    floor = own("oom_score_adj")
    for value in (1000, max(100, floor)):
        t.equal(t.observe({"/process/oomScoreAdj": value}).get("oom_score_adj"), value, "oom_score_adj")


@case("oom-score.unset", level="core")
def oom_unset(t: Trial) -> None:
    """Without it, the caller's value is kept."""
    value = max(own("oom_score_adj"), 321)
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(str(value))
    t.equal(t.observe({"/process/oomScoreAdj": ABSENT}).get("oom_score_adj"), value, "oom_score_adj")


def scheduler(t: Trial, **values: Json) -> Json:
    changes = {"/process/scheduler": values}
    if t.machine.lacks("realtime-cgroup") is None:  # a cgroup without realtime budget refuses realtime policies
        changes["/linux/resources/cpu"] = {"realtimeRuntime": 10000, "realtimePeriod": 1000000}
    return t.observe(changes).get("scheduler", {})


@case("scheduler.policy", "scheduler.nice", needs=("probe", "sys-nice"))
def scheduler_normal(t: Trial) -> None:
    """Policies without priorities: OTHER and BATCH with a nice value, IDLE."""
    for policy, number, nice in (("SCHED_OTHER", 0, 5), ("SCHED_BATCH", 3, 7), ("SCHED_OTHER", 0, None)):
        seen = scheduler(t, policy=policy, **({} if nice is None else {"nice": nice}))
        t.equal(seen.get("policy"), number, "policy of %s" % policy, "scheduler.policy")
        t.equal(seen.get("nice"), nice or 0, "nice value with %s" % policy, "scheduler.nice")
    t.equal(scheduler(t, policy="SCHED_IDLE").get("policy"), 5, "policy of SCHED_IDLE", "scheduler.policy")


@case("scheduler.policy", "scheduler.priority", needs=("probe", "sys-nice"))
def scheduler_realtime(t: Trial) -> None:
    """FIFO and RR with a priority."""
    for policy, number, priority in (("SCHED_FIFO", 1, 10), ("SCHED_RR", 2, 42)):
        seen = scheduler(t, policy=policy, priority=priority)
        t.equal(seen.get("policy"), number, "policy of %s" % policy, "scheduler.policy")
        t.equal(seen.get("priority"), priority, "priority with %s" % policy, "scheduler.priority")


@case("scheduler.flags", needs=("probe", "sys-nice"))
def scheduler_flags(t: Trial) -> None:
    """SCHED_FLAG_RESET_ON_FORK is set when listed, and not otherwise."""
    seen = scheduler(t, policy="SCHED_OTHER", nice=1, flags=["SCHED_FLAG_RESET_ON_FORK"])
    t.equal((seen.get("flags") or 0) & 1, 1, "the flag when it is listed")
    seen = scheduler(t, policy="SCHED_OTHER", nice=1)
    t.equal((seen.get("flags") or 0) & 1, 0, "the flag when it is not listed")


@case("scheduler.deadline", needs=("probe", "sys-nice"))
def scheduler_deadline(t: Trial) -> None:
    """DEADLINE with its three times."""
    times = {"runtime": 10_000_000, "deadline": 100_000_000, "period": 200_000_000}
    seen = scheduler(t, policy="SCHED_DEADLINE", **times)
    t.equal(seen.get("policy"), 6, "policy")
    t.equal({name: seen.get(name) for name in times}, times, "times in nanoseconds")


@case("scheduler.policy", "values.name", needs="sys-nice")
def scheduler_unknown(t: Trial) -> None:
    """An unknown policy gives an error."""
    t.refused({"/process/scheduler": {"policy": "SCHED_NOSUCH"}}, at="start")


@case("io-priority.class", "io-priority.priority", needs="probe")
def io_priority(t: Trial) -> None:
    """Class and level of the I/O priority."""
    for name, level in (("IOPRIO_CLASS_BE", 6), ("IOPRIO_CLASS_IDLE", 0), ("IOPRIO_CLASS_RT", 3)):
        value = t.observe({"/process/ioPriority": {"class": name, "priority": level}}).get("ioprio", 0)
        t.equal(value >> 13, CLASSES[name], "class of %s" % name, "io-priority.class")
        t.equal(value & 0x1FFF, level, "level of %s" % name, "io-priority.priority")


@case("io-priority.range", "values.name")
def io_priority_invalid(t: Trial) -> None:
    """A level outside of 0 to 7 and an unknown class give an error."""
    changes = {"/process/ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 8}}
    t.refused(changes, "io-priority.range", at="start", what="create with level 8 gives an error")
    changes = {"/process/ioPriority": {"class": "IOPRIO_CLASS_NOSUCH", "priority": 1}}
    t.refused(changes, "values.name", at="start", what="create with an unknown class gives an error")


@case("affinity.not-init", needs=("probe", "two-cpus"))
def affinity(t: Trial) -> None:
    """execCPUAffinity does not affect the processors of the container process."""
    one = str(t.machine.cpus[0])
    seen = t.observe({"/process/execCPUAffinity": {"initial": one, "final": one}})
    t.equal(seen.get("cpus"), t.machine.cpus, "processors of the program")


def policy(t: Trial, mode: str, nodes: str | None = None, flags: list[str] | None = None) -> Json:
    wanted = {"mode": mode, **({} if nodes is None else {"nodes": nodes}), **({} if flags is None else {"flags": flags})}
    return t.observe({"/linux/memoryPolicy": wanted})


@case("memory-policy.mode", "memory-policy.nodes", needs=("probe", "numa"))
def memory_policy(t: Trial) -> None:
    """Modes with and without nodes."""
    for mode, number, nodes in (("MPOL_BIND", 2, "0"), ("MPOL_INTERLEAVE", 3, "0"), ("MPOL_PREFERRED", 1, "0"), ("MPOL_LOCAL", 4, None)):
        seen = policy(t, mode, nodes)
        t.equal(seen.get("mempolicy"), number, "mode of %s" % mode, "memory-policy.mode")
        t.equal(seen.get("memnodes"), 1 if nodes == "0" else 0, "nodes of %s" % mode, "memory-policy.nodes")


@case("memory-policy.flags", needs=("probe", "numa"))
def memory_policy_flags(t: Trial) -> None:
    """MPOL_F_STATIC_NODES is set."""
    seen = policy(t, "MPOL_BIND", "0", ["MPOL_F_STATIC_NODES"])
    t.equal(seen.get("mempolicy"), 2 | 1 << 15, "mode and flags")


@case("memory-policy.invalid")
def memory_policy_invalid(t: Trial) -> None:
    """An unknown mode, an unknown flag, nodes with MPOL_DEFAULT, and MPOL_BIND without any give an error."""
    for wanted in (
        {"mode": "MPOL_NOSUCH"},
        {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NOSUCH"]},
        {"mode": "MPOL_DEFAULT", "nodes": "0"},
        {"mode": "MPOL_BIND"},
    ):
        t.refused({"/linux/memoryPolicy": wanted}, at="start", what="create with %r gives an error" % wanted)


@case("personality.domain")
def personality(t: Trial) -> None:
    """LINUX32 shows a 32-bit machine, LINUX the real machine."""
    import os

    machine = os.uname().machine
    seen = t.observe({"/linux/personality": {"domain": "LINUX"}})
    t.equal(seen.get("machine"), machine, "machine with LINUX")
    seen = t.observe({"/linux/personality": {"domain": "LINUX32"}})
    t.check(seen.get("machine") != machine or not machine.endswith("64"), "machine with LINUX32", (), "a 32 bit one", seen.get("machine"))


@case("personality.invalid")
def personality_unknown(t: Trial) -> None:
    """An unknown domain gives an error."""
    t.refused({"/linux/personality": {"domain": "NOSUCH"}}, at="start")
