/* The operations that drop privileges for good: FILTER, BOUND, IDS, CAPS. Each verifies what the kernel has done.
 * Rule: as in finish.c, no Python, no allocation, no lock. */
#define _GNU_SOURCE
#include "run.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LAST_CAP 63 /* the sets have 64 bits */

/* ---- the filter: when to load it, see filter.c */

/* The descriptor that a later WAIT reads, or -1. `reports` says whether a READY follows. */
static int gate_of(const struct run *run, int *reports)
{
    int gate = -1;
    for (size_t i = (size_t)run->position + 1; i < run->plan->count; i++) {
        *reports |= run->plan->ops[i].code == OP_READY;
        if (run->plan->ops[i].code == OP_WAIT)
            gate = (int)run->plan->ops[i].n[0];
    }
    return gate;
}

static void load(const struct run *run, unsigned denied)
{
    const char *call;
    long fd = filter_load(run->op, denied, &call);
    if (fd < 0)
        run_fail(run, DETAIL_NONE, errno, call);
    if (run->op->n[0] & SECCOMP_FILTER_FLAG_NEW_LISTENER) {
        run_say(run, 'L', (int)fd);
        run_await(run->status_fd);
        if (!(denied & DENIED_CLOSE)) /* else execve does it */
            close((int)fd);
    }
}

/* Whether a later CLONE is not possible under the filter: the first process reports, the second starts a session. */
static int bars_clone(const struct run *run, unsigned denied)
{
    unsigned clones = DENIED_CLONE | DENIED_CLONE3, others = DENIED_WRITE | DENIED_SETSID;
    if (run->plan->ops[ops_find(run->plan, OP_CLONE)].n[1])
        others |= DENIED_READ;
    size_t session = ops_find(run->plan, OP_SESSION);
    if (session < run->plan->count && run->plan->ops[session].n[0] >= 0)
        others |= DENIED_IOCTL;
    return (denied & clones) == clones || denied & others;
}

void do_filter(const struct run *run)
{
    int reports = 0, gate = gate_of(run, &reports), notifies = run->op->n[0] & SECCOMP_FILTER_FLAG_NEW_LISTENER;
    unsigned denied = filter_denies(run->op, run->status_fd, gate);
    size_t clone = ops_find(run->plan, OP_CLONE);
    int clones = clone < run->plan->count && clone > (size_t)run->position;
    int waits = (reports || gate >= 0) && denied & (DENIED_WRITE | DENIED_READ | DENIED_CLOSE);
    if (clones && (notifies || waits || bars_clone(run, denied))) {
        if (run->plan->ops[clone].n[0] && filter_needs_admin(run->plan, 0))
            run_fail(run, DETAIL_EXPOSED, EPERM, "seccomp");
        op_state.postponed = run->op;
    } else if (waits && !notifies)
        op_state.postponed = run->op;
    else
        load(run, denied);
}

/* Loads a postponed filter before execve, or before a list without execve returns. */
void load_postponed(struct run *run)
{
    const struct op *op = run->op;
    if (!op_state.postponed)
        return;
    run->op = op_state.postponed;
    op_state.postponed = NULL;
    load(run, filter_denies(run->op, -1, -1));
    run->op = op;
}

/* ---- capabilities and ids */

void do_bound(const struct run *run)
{
    for (int64_t cap = 0; cap <= run->op->n[1] && cap <= LAST_CAP; cap++) {
        if (run->op->n[0] >> cap & 1)
            continue;
        if (!prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
            continue;
        int error = errno, have = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
        if (have != 0 && !(have < 0 && errno == EINVAL)) /* neither already dropped nor above the kernel's last one */
            run_fail(run, DETAIL_NONE, error, "prctl");
    }
}

void do_ids(const struct run *run)
{
    uint32_t uid = (uint32_t)run->op->n[0], gid = (uint32_t)run->op->n[1], r, e, s;
    const char *groups = run->op->s[0];
    run_check(run, prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "prctl");
    if (groups && syscall(SYS_setgroups, run->op->len[0] / 4, groups))
        run_fail(run, DETAIL_NONE, errno, "setgroups");
    run_check(run, syscall(SYS_setresgid, gid, gid, gid), "setresgid");
    run_check(run, syscall(SYS_setresuid, uid, uid, uid), "setresuid");
    /* To the kernel, 4294967295 means "do not change": the call succeeds and the process remains root. */
    if (syscall(SYS_getresgid, &r, &e, &s) || r != gid || e != gid || s != gid)
        run_fail(run, DETAIL_VERIFY, EINVAL, "setresgid");
    if (syscall(SYS_getresuid, &r, &e, &s) || r != uid || e != uid || s != uid)
        run_fail(run, DETAIL_VERIFY, EINVAL, "setresuid");
    /* Changing the ids has applied fs.suid_dumpable; no process may trace this one until execve. */
    run_check(run, prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl");
}

void do_caps(const struct run *run)
{
    const int64_t *want = run->op->n; /* effective, permitted, inheritable, ambient */
    struct caps had, now, got;
    now.low.effective = (uint32_t)want[0], now.high.effective = (uint32_t)((uint64_t)want[0] >> 32);
    now.low.permitted = (uint32_t)want[1], now.high.permitted = (uint32_t)((uint64_t)want[1] >> 32);
    now.low.inheritable = (uint32_t)want[2], now.high.inheritable = (uint32_t)((uint64_t)want[2] >> 32);
    op_state.caps = now;
    run_check(run, caps_read(&had), "capget");
    if (filter_needs_admin(run->plan, (size_t)run->position) && had.low.permitted & ADMIN_BIT) {
        op_state.admin_kept = !(now.low.permitted & ADMIN_BIT && now.low.effective & ADMIN_BIT);
        now.low.permitted |= ADMIN_BIT;
    }
    run_check(run, caps_write(&now), "capset");
    run_check(run, caps_read(&got), "capget");
    const uint32_t *more = (const uint32_t *)&got, *asked = (const uint32_t *)&now;
    for (size_t i = 0; i < sizeof got / sizeof *more; i++)
        if (more[i] & ~asked[i])
            run_fail(run, DETAIL_VERIFY, EPERM, "capset");
    run_check(run, prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0), "prctl");
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) && errno != EINVAL)
        run_fail(run, DETAIL_NONE, errno, "prctl");
    for (int cap = 0; cap <= LAST_CAP; cap++)
        if ((uint64_t)want[3] >> cap & 1)
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0); /* fails if it is not permitted and inheritable; plan() has warned */
}
