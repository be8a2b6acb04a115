/* spawn(): starts a process in a running container, without running any Python in it. `exec` uses it.
 *
 *   caller ── clone3 ──> A: non-dumpable, own memory of arguments and environment wiped
 *     │                  `before` operations (still in the host's namespaces: a write to cgroup.procs of version 1, to
 *     │                  /proc/thread-self/attr/exec) · setns one by one · stdio · all other descriptors closed
 *     │                  reports to the caller, whose spawn() returns A's pid
 *     │                  `ops` up to CLONE: everything that requires privileges, until A has only the container's
 *     │                  └─ clone3(CLONE_PARENT) ──> B: the rest of `ops`, ending in EXEC
 *     └── learns B's pid from a record on status_fd, after which A ends
 *
 * Why two: setns(CLONE_NEWPID) affects children only. CLONE_PARENT makes B the caller's child, so that the caller gets its exit status,
 * and its pid can't be reused before the caller has reaped it.
 *
 * Why CLONE comes late: A is never visible in the container's pid namespace, B is from its first instruction on, and a process of the
 * container with CAP_SYS_PTRACE may trace it (being non-dumpable does not help: ptrace(2), access mode checks). So B starts with the
 * capabilities, bounding set, ids and filter of the program.
 *
 * Why a SYNC before it: there A waits until the caller has answered on status_fd, which it does after spawn() has returned. So when a wait
 * in spawn() is given up, A is the only process, and killing it leaves none behind.
 *
 * B has nothing worth reading: its descriptors are those of the operations, the standard streams and the preserved ones; its environment
 * is zeroed; the caller's heap is not copied (MADV_WIPEONFORK), and everything around the few ranges that are kept is cleared (clear.c).
 * Until execve it uses the plan (mappings of ops.c), the stack, the thread's block and the data of the libraries.
 * CLONE's arguments: `strict`, 1 if it is an error when B would have to load a filter with CAP_SYS_ADMIN; `waits`, 1 if B waits for a
 * byte on status_fd before it continues.
 *
 * A failure of A is raised as a CallError with .op (index into OPS) and .detail; one of B is a record on status_fd, and end of
 * file there means that the program was executed. Linux 5.7 and later. */
#include "spawn.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define TICK_MS 1000
#define MAPS_SIZE (1 << 18) /* bytes of /proc/self/maps; ours is 4 KiB, that of a program with many libraries 100 KiB */

struct spawn {
    int cgroup_fd, status_fd, result_fd, pipe_fd;
    struct plan before, ops;
    char *args, *args_end; /* the kernel's view of argv and environment, for /proc/PID/cmdline and environ */
    struct hidden hidden;
};

/* ---- memory that the child must not see: runs in the caller, except wipe_arguments() */

static ssize_t read_all(const char *path, char *buffer, size_t size)
{
    size_t at = 0;
    ssize_t n = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && at < size - 1 && (n = read(fd, buffer + at, size - 1 - at)) > 0)
        at += (size_t)n;
    if (fd >= 0)
        close(fd);
    buffer[at] = 0;
    return n < 0 ? -1 : (ssize_t)at;
}

/* Fields 48 to 51 of proc_pid_stat(5); argv and environment are adjacent. */
static int find_arguments(struct spawn *spawn)
{
    char text[2048], *at;
    if (read_all("/proc/self/stat", text, sizeof text) < 0 || !(at = strrchr(text, ')')))
        return -1;
    for (int field = 2; field < 48 && at; field++) /* `at` is the space before the field */
        at = strchr(at + 1, ' ');
    unsigned long limits[4] = {0};
    for (int i = 0; at && i < 4; i++)
        limits[i] = strtoul(at, &at, 10);
    spawn->args = (char *)limits[0];
    spawn->args_end = (char *)(limits[3] > limits[1] ? limits[3] : limits[1]);
    return 0;
}

static void wipe_arguments(const struct spawn *spawn)
{
    if (!spawn->args)
        return;
    for (volatile char *at = spawn->args; at < spawn->args_end; at++)
        *at = 0;
}

static void keep(struct range range)
{
    range = whole_pages(range);
    madvise((void *)range.start, range.end - range.start, MADV_KEEPONFORK); /* holes in the range are reported, but are harmless */
}

/* Marks anonymous private memory: heap, arenas, mapped blocks, zero-filled data. "start-end rw-p offset dev inode [name]" */
static void mark_line(struct hidden *hidden, const char *line, int advice)
{
    char *at;
    unsigned long start = strtoul(line, &at, 16), end = strtoul(at + 1, &at, 16);
    if (at[0] != ' ' || at[2] != 'w' || at[4] != 'p')
        return;
    const char *inode = at;
    for (int i = 0; i < 3 && inode; i++)
        inode = strchr(inode + 1, ' ');
    if (!inode || strtoul(inode, &at, 10) != 0)
        return;
    if (strncmp(at + strspn(at, " "), "[stack]", 7) == 0) {
        hidden->stack[0] = start;
        hidden->stack[1] = end;
        return;
    }
    madvise((void *)start, end - start, advice);
}

#ifdef __SANITIZE_ADDRESS__
enum { SANITIZED = 1 }; /* its tables are also anonymous memory, and the child needs them */
#else
enum { SANITIZED = 0 };
#endif

/* Excludes the caller's heap from the child: its pages are zero there, except for the operations and what ops_kept() lists. */
int hide_memory(struct hidden *hidden, int advice)
{
    if (SANITIZED)
        return 0;
    static char maps[MAPS_SIZE]; /* kept, to mark the same lines again afterwards */
    ssize_t size = advice == MADV_WIPEONFORK ? read_all("/proc/self/maps", maps, sizeof maps) : 0;
    if (size == sizeof maps - 1)
        errno = EFBIG;
    if (size < 0 || size == sizeof maps - 1)
        return -1;
    ops_snapshot(advice == MADV_WIPEONFORK ? MADV_DONTFORK : MADV_DOFORK);
    for (char *line = maps; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL)
        mark_line(hidden, line, advice);
    if (advice != MADV_WIPEONFORK)
        return 0;
    for (int i = 0; i < 2; i++)
        for (const struct block *block = hidden->plans[i] ? hidden->plans[i]->blocks : NULL; block; block = block->next)
            keep((struct range){(uintptr_t)block, (uintptr_t)block + block->size});
    struct range kept[KEPT];
    ops_kept(kept);
    for (int i = 0; i < KEPT - 1; i++) /* all but the stack, which is not marked */
        keep(kept[i]);
    return 0;
}

void clear_memory(const struct hidden *hidden)
{
    struct range kept[KEPT];
    if (SANITIZED)
        return;
    ops_forget(hidden->stack, 2);
    ops_kept(kept);
    ops_clear_around(0, UINTPTR_MAX, kept);
}

/* ---- the children: from here on no Python, no malloc */

static void first(const void *data)
{
    const struct spawn *spawn = data;
    const struct record joined = {.kind = 'J', .op = OP_CLONE};
    int out = spawn->pipe_fd;
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
        ops_fail(out, OP_CLONE, 0, DETAIL_NONE, errno, "prctl");
    if (signals_reset())
        ops_fail(out, OP_RESET, 0, DETAIL_NONE, errno, "rt_sigaction");
    wipe_arguments(spawn);
    clear_memory(&spawn->hidden);
    ops_run(&spawn->before, out, -1);
    /* Entering a user namespace changes the credentials, which applies fs.suid_dumpable and clears the parent-death signal. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
        ops_fail(out, OP_CLONE, 0, DETAIL_NONE, errno, "prctl");
    const int also[] = {spawn->status_fd, spawn->result_fd, out};
    if (ops_close_others(&spawn->ops, 0, also, 3))
        ops_fail(out, OP_CLOSE, 0, DETAIL_NONE, errno, "close_range");
    ops_send(out, &joined);
    close(out);
    ops_run(&spawn->ops, spawn->status_fd, spawn->result_fd);
    _exit(1);
}

/* ---- the caller */

static PyObject *child_failed(const struct record *record)
{
    errno = record->error;
    call_failed(record->call, NULL);
    add_to_error("op", PyLong_FromLong(record->op));
    add_to_error("detail", PyLong_FromLong(record->detail));
    return NULL;
}

long clone_child(struct clone3_args *clone, void (*main)(const void *data), const void *data)
{
    uint64_t all = ~0ULL, old;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, SIGNAL_BYTES);
    long pid = syscall(SYS_clone3, clone, sizeof *clone);
    if (pid == 0)
        main(data);
    int error = errno;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, SIGNAL_BYTES);
    errno = error;
    return pid;
}

static long clone_first(const struct spawn *spawn, int *pidfd)
{
    struct clone3_args clone = {.flags = CLONE_PIDFD, .pidfd = (uintptr_t)pidfd, .exit_signal = SIGCHLD};
    if (spawn->cgroup_fd >= 0) {
        clone.flags |= CLONE_INTO_CGROUP_;
        clone.cgroup = (uint64_t)spawn->cgroup_fd;
    }
    return clone_child(&clone, first, spawn);
}

/* Waits for the report of A. As it may be frozen in the cgroup that it has entered, a signal ends the wait. -1 with an exception of
 * `check`, a function without arguments or NULL. */
static int wait_for(int fd, PyObject *check)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    while (poll(&ready, 1, TICK_MS) <= 0) {
        if (PyErr_CheckSignals())
            return -1;
        PyObject *answer = check ? PyObject_CallNoArgs(check) : NULL;
        if (check && !answer)
            return -1;
        Py_XDECREF(answer);
    }
    return 0;
}

/* Kills and reaps A. If it is frozen, it dies when it is thawed, which is not waited for. */
static void end_first(pid_t pid, int pidfd)
{
    struct pollfd gone = {.fd = pidfd, .events = POLLIN};
    kill(pid, SIGKILL);
    if (poll(&gone, 1, TICK_MS) > 0)
        waitpid(pid, NULL, 0); /* does not block; no child if our caller ignores SIGCHLD */
}

/* (pid, pidfd) of A once it has joined; otherwise NULL, and A has ended. */
static PyObject *await_first(pid_t pid, int pidfd, int fd, PyObject *check)
{
    struct record record = {0};
    ssize_t n;
    int failed = wait_for(fd, check);
    do
        n = failed ? 0 : read(fd, &record, sizeof record);
    while (n < 0 && errno == EINTR);
    if (n == sizeof record && record.kind == 'J')
        return Py_BuildValue("ii", (int)pid, pidfd);
    end_first(pid, pidfd);
    if (failed)
        return NULL;
    if (n != sizeof record) { /* killed from outside, for example by the memory limit of its cgroup */
        record.error = ESRCH;
        record.op = OP_CLONE;
        memcpy(record.call, "clone3", 7);
    }
    return child_failed(&record);
}

static PyObject *run(struct spawn *spawn, PyObject *check)
{
    int ends[2], pidfd = -1;
    if (pipe2(ends, O_CLOEXEC))
        return call_failed("pipe2", NULL);
    spawn->pipe_fd = ends[1];
    long pid = -1;
    PyObject *result = NULL;
    if (find_arguments(spawn) || hide_memory(&spawn->hidden, MADV_WIPEONFORK))
        result = call_failed("read /proc/self/maps", NULL);
    else if ((pid = clone_first(spawn, &pidfd)) < 0)
        result = call_failed("clone3", NULL);
    hide_memory(&spawn->hidden, MADV_KEEPONFORK);
    close(ends[1]);
    if (pid > 0)
        result = await_first((pid_t)pid, pidfd, ends[0], check);
    if (!result && pidfd >= 0)
        close(pidfd);
    close(ends[0]);
    return result;
}

/* `before`, then the joins, then stdio, as one list of operations */
static PyObject *first_ops(PyObject *before, PyObject *ns_fds, PyObject *stdio)
{
    PyObject *list = PySequence_List(before);
    Py_ssize_t joins = list ? PySequence_Size(ns_fds) : -1;
    PyObject *item;
    for (Py_ssize_t i = 0; i < joins; i++) {
        int fd, type;
        PyObject *pair = PySequence_GetItem(ns_fds, i);
        int good = pair && PyTuple_Check(pair) && PyArg_ParseTuple(pair, "ii;pairs of descriptor and type", &fd, &type);
        item = good ? Py_BuildValue("(sii)", "SETNS", fd, type) : NULL;
        if (!good && !PyErr_Occurred())
            PyErr_SetString(PyExc_TypeError, "ns_fds are tuples of descriptor and type");
        good = item && !PyList_Append(list, item);
        Py_XDECREF(item);
        Py_XDECREF(pair);
        if (!good)
            goto failed;
    }
    int fds[3];
    if (joins < 0 || !PyArg_ParseTuple(stdio, "iii;stdio is a tuple of three descriptors", &fds[0], &fds[1], &fds[2]))
        goto failed;
    item = Py_BuildValue("(siii)", "STDIO", fds[0], fds[1], fds[2]);
    if (item && !PyList_Append(list, item)) {
        Py_DECREF(item);
        return list;
    }
    Py_XDECREF(item);
failed:
    Py_XDECREF(list);
    return NULL;
}

static int in_order(const struct plan *ops)
{
    size_t sync = ops_find(ops, OP_SYNC), clone = ops_find(ops, OP_CLONE);
    return sync < clone && clone < ops->count && ops->ops[ops->count - 1].code == OP_EXEC;
}

static PyObject *py_spawn(PyObject *Py_UNUSED(self), PyObject *args, PyObject *keywords)
{
    static char *names[] = {"cgroup_fd", "ns_fds", "ops", "status_fd", "result_fd", "stdio", "before", "check", NULL};
    struct spawn spawn = {.result_fd = -1};
    PyObject *ns_fds, *ops, *result = NULL, *none = PyTuple_New(0), *stdio = Py_BuildValue("iii", -1, -1, -1);
    PyObject *before = none, *std = stdio, *check = NULL;
    if (PyArg_ParseTupleAndKeywords(args, keywords, "iOOi|iOOO:spawn", names, &spawn.cgroup_fd, &ns_fds, &ops,
                                    &spawn.status_fd, &spawn.result_fd, &std, &before, &check)) {
        PyObject *list = first_ops(before, ns_fds, std);
        check = check == Py_None ? NULL : check;
        if (list && !plan_parse(&spawn.before, list) && !plan_parse(&spawn.ops, ops)) {
            if (!in_order(&spawn.ops))
                PyErr_SetString(PyExc_ValueError, "the operations of spawn have a SYNC, then a CLONE, and end in EXEC");
            else {
                spawn.hidden.plans[0] = &spawn.before;
                spawn.hidden.plans[1] = &spawn.ops;
                result = run(&spawn, check);
            }
        }
        Py_XDECREF(list);
        plan_free(&spawn.before);
        plan_free(&spawn.ops);
    }
    Py_XDECREF(none);
    Py_XDECREF(stdio);
    return result;
}

static PyObject *py_wipe_environ(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args))
{
    struct spawn spawn = {0};
    if (find_arguments(&spawn))
        return call_failed("read /proc/self/stat", NULL);
    wipe_arguments(&spawn);
    static const char name[] = "pyrunc init"; /* for ps(1), which otherwise shows a question mark */
    if (spawn.args && (size_t)(spawn.args_end - spawn.args) >= sizeof name)
        memcpy(spawn.args, name, sizeof name);
    Py_RETURN_NONE;
}

PyMethodDef calls_spawn[] = {
    {"spawn", (PyCFunction)(void (*)(void))py_spawn, METH_VARARGS | METH_KEYWORDS,
     "spawn(cgroup_fd, ns_fds, ops, status_fd, result_fd=-1, stdio=(-1, -1, -1), before=(), check=None) -> (pid, pidfd)\n"
     "The process that joins; the pid of the one that becomes the program is in a record. cgroup_fd: directory of cgroup v2 or -1; "
     "ns_fds: ((fd, nstype), ...); check(): called while it waits; an exception raised by it kills the process."},
    {"wipe_environ", py_wipe_environ, METH_NOARGS,
     "wipe_environ(): argv and environment of this process, as /proc shows them, become zeroes after the name of a waiting init"},
    {NULL, NULL, 0, NULL},
};
