/* The last part of a container's init: executes a list of operations that ops.c has copied into separate memory.
 * Rule: no Python header, no allocation, no lock. After the operation FILTER the container's filter applies to each call, so only
 * the calls that filter.c lists come after it. */
#define _GNU_SOURCE
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "numbers.h"

#define SIGNALS 64     /* 1 to 64, as the kernel counts them */
#define SIGNAL_BYTES 8 /* sizeof the kernel's sigset_t */
#define LAST_CAP 63    /* the sets have 64 bits */

struct op_state op_state;

void ops_send(int fd, const struct record *record)
{
    ssize_t n;
    do
        n = write(fd, record, sizeof *record);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof *record && record->kind != 'F')
        _exit(1); /* nobody is listening any more */
}

_Noreturn void ops_fail(int fd, int op, int position, int detail, int error, const char *call)
{
    struct record record = {.kind = 'F', .op = (uint8_t)op, .detail = (uint16_t)detail, .error = error, .extra = position};
    for (size_t i = 0; call[i] && i < sizeof record.call - 1; i++)
        record.call[i] = call[i];
    if (fd >= 0)
        ops_send(fd, &record);
    _exit(1);
}

static int report_fd(const struct run *run)
{
    return run->status_fd >= 0 && !op_state.status_gone ? run->status_fd : run->result_fd;
}

_Noreturn void run_fail(const struct run *run, int detail, int error, const char *call)
{
    ops_fail(report_fd(run), run->op->code, run->position, detail, error, call);
}

static void say(const struct run *run, char kind, int extra)
{
    struct record record = {.kind = kind, .op = (uint8_t)run->op->code, .extra = extra};
    if (run->status_fd < 0 || op_state.status_gone)
        run_fail(run, DETAIL_NONE, EBADF, "write");
    ops_send(run->status_fd, &record);
}

/* Waits for one byte from the other side; end of file means that it has died. */
static void await_byte(int fd)
{
    char byte;
    ssize_t n;
    do
        n = read(fd, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n != 1)
        _exit(1);
}

/* Uses raw calls because glibc hides the signals 32 and 33, which the caller may have ignored or blocked. */
int signals_reset(void)
{
    unsigned long action[4] = {0}; /* struct sigaction of the kernel: handler, flags, restorer, mask */
    for (int n = 1; n <= SIGNALS; n++)
        if (n != SIGKILL && n != SIGSTOP && syscall(SYS_rt_sigaction, n, action, NULL, SIGNAL_BYTES))
            return -1;
    uint64_t none = 0;
    return (int)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, SIGNAL_BYTES);
}

static void on_signal(int number)
{
    _exit(128 + number);
}

/* A signal with the default disposition does not terminate pid 1 of a namespace, so a waiting init needs handlers that do. */
static void do_signals(const struct run *run)
{
    static const int deadly[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE, SIGALRM};
    struct sigaction action;
    if (signals_reset())
        run_fail(run, DETAIL_NONE, errno, "rt_sigaction");
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++)
        if (sigaction(deadly[i], &action, NULL))
            run_fail(run, DETAIL_NONE, errno, "rt_sigaction");
}

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
        say(run, 'L', (int)fd);
        await_byte(run->status_fd);
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

static void do_filter(const struct run *run)
{
    int reports = 0, gate = gate_of(run, &reports), notifies = run->op->n[0] & SECCOMP_FILTER_FLAG_NEW_LISTENER;
    unsigned denied = filter_denies(run->op, run->status_fd, gate);
    size_t clone = ops_find(run->plan, OP_CLONE);
    int clones = clone < run->plan->count && clone > (size_t)run->position;
    int waits = (reports || gate >= 0) && denied & (DENIED_WRITE | DENIED_READ | DENIED_CLOSE);
    if (clones && (notifies || waits || bars_clone(run, denied))) {
        if (run->plan->ops[clone].n[0])
            run_fail(run, DETAIL_EXPOSED, EPERM, "seccomp");
        op_state.postponed = run->op;
    } else if (waits && !notifies)
        op_state.postponed = run->op;
    else
        load(run, denied);
}

/* Loads a postponed filter before execve, or before a list without execve returns. */
static void load_postponed(struct run *run)
{
    const struct op *op = run->op;
    if (!op_state.postponed)
        return;
    run->op = op_state.postponed;
    op_state.postponed = NULL;
    load(run, filter_denies(run->op, -1, -1));
    run->op = op;
}

static void do_bound(const struct run *run)
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

static void do_ids(const struct run *run)
{
    uint32_t uid = (uint32_t)run->op->n[0], gid = (uint32_t)run->op->n[1], r, e, s;
    const char *groups = run->op->s[0];
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
        run_fail(run, DETAIL_NONE, errno, "prctl");
    if (groups && syscall(SYS_setgroups, run->op->len[0] / 4, groups))
        run_fail(run, DETAIL_NONE, errno, "setgroups");
    if (syscall(SYS_setresgid, gid, gid, gid))
        run_fail(run, DETAIL_NONE, errno, "setresgid");
    if (syscall(SYS_setresuid, uid, uid, uid))
        run_fail(run, DETAIL_NONE, errno, "setresuid");
    /* To the kernel, 4294967295 means "do not change": the call succeeds and the process remains root. */
    if (syscall(SYS_getresgid, &r, &e, &s) || r != gid || e != gid || s != gid)
        run_fail(run, DETAIL_VERIFY, EINVAL, "setresgid");
    if (syscall(SYS_getresuid, &r, &e, &s) || r != uid || e != uid || s != uid)
        run_fail(run, DETAIL_VERIFY, EINVAL, "setresuid");
    /* Changing the ids has applied fs.suid_dumpable; nobody may trace this process until execve. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
        run_fail(run, DETAIL_NONE, errno, "prctl");
}

static void do_caps(const struct run *run)
{
    const int64_t *want = run->op->n; /* effective, permitted, inheritable, ambient */
    struct caps had, now, got;
    now.low.effective = (uint32_t)want[0], now.high.effective = (uint32_t)((uint64_t)want[0] >> 32);
    now.low.permitted = (uint32_t)want[1], now.high.permitted = (uint32_t)((uint64_t)want[1] >> 32);
    now.low.inheritable = (uint32_t)want[2], now.high.inheritable = (uint32_t)((uint64_t)want[2] >> 32);
    op_state.caps = now;
    if (caps_read(&had))
        run_fail(run, DETAIL_NONE, errno, "capget");
    if (filter_needs_admin(run->plan, (size_t)run->position) && had.low.permitted & ADMIN_BIT) {
        op_state.admin_kept = !(now.low.permitted & ADMIN_BIT && now.low.effective & ADMIN_BIT);
        now.low.permitted |= ADMIN_BIT;
    }
    if (caps_write(&now))
        run_fail(run, DETAIL_NONE, errno, "capset");
    if (caps_read(&got))
        run_fail(run, DETAIL_NONE, errno, "capget");
    const uint32_t *more = (const uint32_t *)&got, *asked = (const uint32_t *)&now;
    for (size_t i = 0; i < sizeof got / sizeof *more; i++)
        if (more[i] & ~asked[i])
            run_fail(run, DETAIL_VERIFY, EPERM, "capset");
    if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0))
        run_fail(run, DETAIL_NONE, errno, "prctl");
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) && errno != EINVAL)
        run_fail(run, DETAIL_NONE, errno, "prctl");
    for (int cap = 0; cap <= LAST_CAP; cap++)
        if ((uint64_t)want[3] >> cap & 1)
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0); /* fails if it is not permitted and inheritable; plan() has warned */
}


static void append(char *line, size_t size, const char *text, int lower)
{
    size_t at = strlen(line);
    for (; *text && at + 1 < size; text++, at++, lower = 0)
        line[at] = lower && *text >= 'A' && *text <= 'Z' ? (char)(*text - 'A' + 'a') : *text;
    line[at] = 0;
}

static const char *error_text(int error)
{
#ifdef __GLIBC__
    const char *text = strerrordesc_np(error); /* no locale, no allocation */
    return text ? text : "unknown error";
#else
    return strerror(error);
#endif
}

static _Noreturn void do_exec(const struct run *run)
{
    static char line[PATHS + 128]; /* the path and the words around it */
    const char *path = op_state.found[0] ? op_state.found : run->op->v[0][0];
    execve(path, run->op->v[0], run->op->v[1]);
    int error = errno;
    if (report_fd(run) == run->result_fd && run->result_fd >= 0) {
        line[0] = 0; /* the caller of create has exited: only the container's stderr is still read */
        append(line, sizeof line, "exec ", 0);
        append(line, sizeof line, path, 0);
        append(line, sizeof line, ": ", 0);
        append(line, sizeof line, error_text(error), 1);
        append(line, sizeof line, "\n", 0);
        ssize_t n = write(2, line, strlen(line));
        (void)n;
    }
    run_fail(run, DETAIL_NONE, error, "execve");
}

static void do_pdeathsig(const struct run *run)
{
    if (prctl(PR_SET_PDEATHSIG, run->op->n[0], 0, 0, 0))
        run_fail(run, DETAIL_NONE, errno, "prctl");
    if (run->op->n[1] && getppid() != run->op->n[1]) /* died before the signal was armed */
        run_fail(run, DETAIL_ORPHAN, ESRCH, "getppid");
}

static void do_write(const struct run *run)
{
    const struct op *op = run->op;
    struct open_how how = {
        .flags = O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };
    long fd = syscall(SYS_openat2, op->n[0], op->s[0], &how, sizeof how);
    if (fd < 0)
        run_fail(run, DETAIL_NONE, errno, "openat2");
    ssize_t n = write((int)fd, op->s[1], op->len[1]);
    if (n < 0)
        run_fail(run, DETAIL_NONE, errno, "write");
    if ((size_t)n != op->len[1])
        run_fail(run, DETAIL_SHORT, EIO, "write");
    close((int)fd);
}

static void do_chroot(const struct run *run)
{
    if (fchdir((int)run->op->n[0]))
        run_fail(run, DETAIL_NONE, errno, "fchdir");
    if (chroot("."))
        run_fail(run, DETAIL_NONE, errno, "chroot");
    close((int)run->op->n[0]);
}

static void do_session(const struct run *run)
{
    if (setsid() < 0)
        run_fail(run, DETAIL_NONE, errno, "setsid");
    if (run->op->n[0] >= 0 && ioctl((int)run->op->n[0], TIOCSCTTY, 0))
        run_fail(run, DETAIL_NONE, errno, "ioctl");
}

/* From here on a second process, a child of our parent, carries out the operations. The container's filter may return ENOSYS for clone3,
 * whose arguments it can't inspect, but allow clone. */
static void do_clone(const struct run *run)
{
    struct clone3_args clone = {.flags = CLONE_PARENT};
    long pid = op_state.denied & DENIED_CLONE3 ? syscall(SYS_clone, (unsigned long)CLONE_PARENT, 0, 0, 0, 0)
                                               : syscall(SYS_clone3, &clone, sizeof clone);
    if (pid < 0)
        run_fail(run, DETAIL_NONE, errno, "clone");
    if (pid > 0) {
        say(run, 'P', (int)pid);
        _exit(0);
    }
    if (run->op->n[1])
        await_byte(run->status_fd);
}

static void do_stdio(const struct run *run)
{
    for (int i = 0; i < 3; i++) {
        int fd = (int)run->op->n[i];
        if (fd < 0)
            continue;
        /* dup2 of a descriptor onto itself does not clear close-on-exec */
        if (fd == i ? fcntl(fd, F_SETFD, 0) < 0 : dup2(fd, i) < 0)
            run_fail(run, DETAIL_NONE, errno, fd == i ? "fcntl" : "dup2");
    }
}

static void do_prune(const struct run *run)
{
    const int also[] = {op_state.status_gone ? -1 : run->status_fd, run->result_fd};
    if (ops_close_others(run->plan, (size_t)run->position, also, 2))
        run_fail(run, DETAIL_NONE, errno, "close_range");
}

static void check(const struct run *run, long result, const char *call)
{
    if (result < 0)
        run_fail(run, DETAIL_NONE, errno, call);
}

static void one(struct run *run)
{
    const struct op *op = run->op;
    switch (op->code) {
    case OP_FILTER: do_filter(run); break;
    case OP_BOUND: do_bound(run); break;
    case OP_IDS: do_ids(run); break;
    case OP_CAPS: do_caps(run); break;
    case OP_NNP: check(run, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl"); break;
    case OP_UMASK: umask((mode_t)op->n[0]); break;
    case OP_PDEATHSIG: do_pdeathsig(run); break;
    case OP_CHDIR: do_chdir(run); break;
    case OP_CHDIR2: do_chdir_again(run); break;
    case OP_FIND: do_find(run); break;
    case OP_SIGNALS: do_signals(run); break;
    case OP_RESET:
        if (!(op_state.denied & DENIED_SIGNALS))
            check(run, signals_reset(), "rt_sigaction");
        break;
    case OP_READY:
        say(run, 'R', 0);
        if (!(op_state.denied & DENIED_CLOSE)) /* else execve does it */
            close(run->status_fd);
        op_state.status_gone = 1;
        break;
    case OP_WAIT: await_byte((int)op->n[0]); break;
    case OP_CLOSE: check(run, ops_mark_others(op), "close_range"); break;
    case OP_EXEC:
        load_postponed(run);
        do_exec(run);
    case OP_SYNC:
        say(run, 'S', 0);
        await_byte(run->status_fd);
        break;
    case OP_WRITE: do_write(run); break;
    case OP_KEYRING: check(run, syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, op->s[0], 0, 0, 0), "keyctl"); break;
    case OP_PERSONALITY: check(run, syscall(SYS_personality, op->n[0]), "personality"); break;
    case OP_MEMPOLICY: check(run, syscall(SYS_set_mempolicy, op->n[0], op->len[0] ? op->s[0] : NULL, op->n[1]), "set_mempolicy"); break;
    case OP_SESSION: do_session(run); break;
    case OP_SETNS: check(run, syscall(SYS_setns, op->n[0], op->n[1]), "setns"); break;
    case OP_STDIO: do_stdio(run); break;
    case OP_PRUNE: do_prune(run); break;
    case OP_FORGET:
        ops_forget((const uint64_t *)op->s[0], op->len[0] / sizeof(uint64_t));
        ops_snapshot(MADV_DONTNEED);
        break;
    case OP_LANDLOCK:
        check(run, syscall(SYS_landlock_restrict_self, op->n[0], op->n[1]), "landlock_restrict_self");
        close((int)op->n[0]);
        break;
    case OP_CHROOT: do_chroot(run); break;
    case OP_CLONE: do_clone(run); break;
    case OP_COUNT: break;
    }
}

size_t ops_find(const struct plan *plan, enum op_code code)
{
    size_t i = 0;
    while (i < plan->count && plan->ops[i].code != code)
        i++;
    return i;
}

void ops_run(const struct plan *plan, int status_fd, int result_fd)
{
    struct run run = {.plan = plan, .status_fd = status_fd, .result_fd = result_fd};
    for (size_t i = 0; i < plan->count; i++) {
        run.position = (int)i;
        run.op = &plan->ops[i];
        one(&run);
    }
    load_postponed(&run);
}
