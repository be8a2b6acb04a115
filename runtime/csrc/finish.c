/* The last part of a container's init: executes a list of operations that ops.c has copied into separate memory.
 * Rule: no Python header, no allocation, no lock. After the operation FILTER the container's filter applies to each call, so only
 * the calls that filter.c lists come after it. */
#define _GNU_SOURCE
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/openat2.h>
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

#define SIGNALS 64 /* 1 to 64, as the kernel counts them */

struct op_state op_state;

void ops_send(int fd, const struct record *record)
{
    ssize_t n;
    do
        n = write(fd, record, sizeof *record);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof *record && record->kind != 'F')
        _exit(1); /* no process is listening any more */
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

void run_check(const struct run *run, long result, const char *call)
{
    if (result < 0)
        run_fail(run, DETAIL_NONE, errno, call);
}

void run_say(const struct run *run, char kind, int extra)
{
    struct record record = {.kind = kind, .op = (uint8_t)run->op->code, .extra = extra};
    if (run->status_fd < 0 || op_state.status_gone)
        run_fail(run, DETAIL_NONE, EBADF, "write");
    ops_send(run->status_fd, &record);
}

void run_await(int fd)
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
    run_check(run, signals_reset(), "rt_sigaction");
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++)
        run_check(run, sigaction(deadly[i], &action, NULL), "rt_sigaction");
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
    static char line[PATH_MAX + 128]; /* the path and the words around it */
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
    run_check(run, prctl(PR_SET_PDEATHSIG, run->op->n[0], 0, 0, 0), "prctl");
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
    run_check(run, fchdir((int)run->op->n[0]), "fchdir");
    run_check(run, chroot("."), "chroot");
    close((int)run->op->n[0]);
}

static void do_session(const struct run *run)
{
    run_check(run, setsid(), "setsid");
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
        run_say(run, 'P', (int)pid);
        _exit(0);
    }
    if (run->op->n[1])
        run_await(run->status_fd);
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
    run_check(run, ops_close_others(run->plan, (size_t)run->position, also, 2), "close_range");
}

static void one(struct run *run)
{
    const struct op *op = run->op;
    switch (op->code) {
    case OP_FILTER: do_filter(run); break;
    case OP_BOUND: do_bound(run); break;
    case OP_IDS: do_ids(run); break;
    case OP_CAPS: do_caps(run); break;
    case OP_NNP: run_check(run, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl"); break;
    case OP_UMASK: umask((mode_t)op->n[0]); break;
    case OP_PDEATHSIG: do_pdeathsig(run); break;
    case OP_CHDIR: do_chdir(run); break;
    case OP_CHDIR2: do_chdir_again(run); break;
    case OP_FIND: do_find(run); break;
    case OP_SIGNALS: do_signals(run); break;
    case OP_RESET:
        if (!(op_state.denied & DENIED_SIGNALS))
            run_check(run, signals_reset(), "rt_sigaction");
        break;
    case OP_READY:
        run_say(run, 'R', 0);
        if (!(op_state.denied & DENIED_CLOSE)) /* else execve does it */
            close(run->status_fd);
        op_state.status_gone = 1;
        break;
    case OP_WAIT: run_await((int)op->n[0]); break;
    case OP_CLOSE: run_check(run, ops_mark_others(op), "close_range"); break;
    case OP_EXEC:
        load_postponed(run);
        do_exec(run);
    case OP_SYNC:
        run_say(run, 'S', 0);
        run_await(run->status_fd);
        break;
    case OP_WRITE: do_write(run); break;
    case OP_KEYRING: run_check(run, syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, op->s[0], 0, 0, 0), "keyctl"); break;
    case OP_PERSONALITY: run_check(run, syscall(SYS_personality, op->n[0]), "personality"); break;
    case OP_MEMPOLICY: run_check(run, syscall(SYS_set_mempolicy, op->n[0], op->len[0] ? op->s[0] : NULL, op->n[1]), "set_mempolicy"); break;
    case OP_SESSION: do_session(run); break;
    case OP_SETNS: run_check(run, syscall(SYS_setns, op->n[0], op->n[1]), "setns"); break;
    case OP_STDIO: do_stdio(run); break;
    case OP_PRUNE: do_prune(run); break;
    case OP_FORGET:
        ops_forget((const uint64_t *)op->s[0], op->len[0] / sizeof(uint64_t));
        ops_snapshot(MADV_DONTNEED);
        break;
    case OP_LANDLOCK:
        run_check(run, syscall(SYS_landlock_restrict_self, op->n[0], op->n[1]), "landlock_restrict_self");
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
