/* Attributes of processes: clone3, capabilities, prctl, keyrings, limits, scheduling, memory policy, execveat. */
#include "syscalls.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "heap.h"

#pragma weak heap_populate /* null but in the compiled launcher */

/* Uses clone(2), for a process under a filter that denies clone3: seccomp cannot inspect its arguments, so
 * docker's profile returns ENOSYS, and startContainer hooks may run under such a profile. Fails if clone3 is
 * really necessary. */
static long plain_clone(const struct clone3_args *wanted, int *pidfd)
{
    if (wanted->flags > UINT32_MAX || wanted->flags & CSIGNAL) {
        errno = ENOSYS;
        return -1;
    }
    return syscall(SYS_clone, wanted->flags | wanted->exit_signal, NULL, pidfd, NULL, NULL);
}

static PyObject *py_clone3(PyObject *Py_UNUSED(self), PyObject *args, PyObject *keywords)
{
    static char *names[] = {"flags", "exit_signal", "cgroup_fd", "is_init", NULL};
    unsigned long long flags;
    int exit_signal = SIGCHLD, cgroup_fd = -1, is_init = 0, pidfd = -1;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "K|iip:clone3", names, &flags, &exit_signal, &cgroup_fd, &is_init))
        return NULL;
    struct clone3_args clone = {.flags = flags | CLONE_PIDFD, .pidfd = (uintptr_t)&pidfd, .exit_signal = (uint64_t)exit_signal};
    if (cgroup_fd >= 0) {
        clone.flags |= CLONE_INTO_CGROUP_;
        clone.cgroup = (uint64_t)cgroup_fd;
    }
    PyOS_BeforeFork();
    long pid = syscall(SYS_clone3, &clone, sizeof clone);
    int error = errno;
    if (pid < 0 && (error == ENOSYS || error == EPERM))
        pid = plain_clone(&clone, &pidfd);
    if (pid >= 0 && is_init && heap_populate)
        heap_populate(pid == 0 ? PLACE_INIT : PLACE_HOST);
    if (pid == 0) {
        PyOS_AfterFork_Child();
        return Py_BuildValue("ii", 0, -1);
    }
    PyOS_AfterFork_Parent();
    errno = error;
    if (pid < 0)
        return call_failed("clone3", NULL);
    return Py_BuildValue("li", pid, pidfd);
}

static PyObject *py_pidfd_getfd(PyObject *Py_UNUSED(self), PyObject *args)
{
    int pidfd, fd;
    unsigned int flags;
    if (!PyArg_ParseTuple(args, "iiI:pidfd_getfd", &pidfd, &fd, &flags))
        return NULL;
    return done_int(syscall(SYS_pidfd_getfd, pidfd, fd, flags), "pidfd_getfd", NULL);
}

static int to_limit(PyObject *value, uint64_t *out)
{
    *out = PyLong_AsUnsignedLongLong(value);
    return !(*out == (uint64_t)-1 && PyErr_Occurred());
}

static PyObject *py_prlimit(PyObject *Py_UNUSED(self), PyObject *args)
{
    int pid, resource;
    PyObject *soft, *hard;
    uint64_t new[2], old[2];
    if (!PyArg_ParseTuple(args, "iiOO:prlimit", &pid, &resource, &soft, &hard))
        return NULL;
    int set = soft != Py_None || hard != Py_None;
    if (set && (!to_limit(soft, &new[0]) || !to_limit(hard, &new[1])))
        return NULL;
    if (syscall(SYS_prlimit64, pid, resource, set ? new : NULL, old))
        return call_failed("prlimit64", NULL);
    return Py_BuildValue("KK", (unsigned long long)old[0], (unsigned long long)old[1]);
}

static PyObject *py_capget(PyObject *Py_UNUSED(self), PyObject *args)
{
    int pid;
    if (!PyArg_ParseTuple(args, "i:capget", &pid))
        return NULL;
    uint32_t header[2] = {_LINUX_CAPABILITY_VERSION_3, (uint32_t)pid}, data[6];
    if (syscall(SYS_capget, header, data))
        return call_failed("capget", NULL);
    unsigned long long sets[3];
    for (int i = 0; i < 3; i++)
        sets[i] = data[i] | (unsigned long long)data[i + 3] << 32;
    return Py_BuildValue("KKK", sets[0], sets[1], sets[2]);
}

static PyObject *py_prctl(PyObject *Py_UNUSED(self), PyObject *args)
{
    int op;
    unsigned long a[4] = {0};
    if (!PyArg_ParseTuple(args, "i|O&O&O&O&:prctl", &op, to_word, &a[0], to_word, &a[1], to_word, &a[2], to_word, &a[3]))
        return NULL;
    return done_int(syscall(SYS_prctl, op, a[0], a[1], a[2], a[3]), "prctl", NULL);
}

static PyObject *py_keyctl(PyObject *Py_UNUSED(self), PyObject *args)
{
    int op;
    unsigned long a[4] = {0};
    if (!PyArg_ParseTuple(args, "i|O&O&O&O&:keyctl", &op, to_word, &a[0], to_word, &a[1], to_word, &a[2], to_word, &a[3]))
        return NULL;
    return done_int(syscall(SYS_keyctl, op, a[0], a[1], a[2], a[3]), "keyctl", NULL);
}

static PyObject *py_keyctl_describe(PyObject *Py_UNUSED(self), PyObject *args)
{
    int serial;
    char text[4096 + 128]; /* "type;uid;gid;permissions;description"; the description is one page at most */
    if (!PyArg_ParseTuple(args, "i:keyctl_describe", &serial))
        return NULL;
    long size = syscall(SYS_keyctl, KEYCTL_DESCRIBE, serial, text, sizeof text, 0);
    if (size < 0)
        return call_failed("keyctl", NULL);
    return PyBytes_FromStringAndSize(text, (size > (long)sizeof text ? (long)sizeof text : size) - 1);
}

static PyObject *py_join_session_keyring(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *name;
    if (!PyArg_ParseTuple(args, "O&:join_session_keyring", to_path_or_none, &name))
        return NULL;
    PyObject *result = done_int(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, path_text(name), 0, 0, 0), "keyctl", NULL);
    Py_XDECREF(name);
    return result;
}

/* struct sched_attr of <linux/sched/types.h>; newer C libraries define their own under that name */
struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
    uint32_t util_min, util_max;
};

static PyObject *py_sched_setattr(PyObject *Py_UNUSED(self), PyObject *args)
{
    int pid, nice;
    unsigned int policy, priority, util_min, util_max;
    unsigned long long flags, runtime, deadline, period;
    if (!PyArg_ParseTuple(args, "iIKiIKKKII:sched_setattr", &pid, &policy, &flags, &nice, &priority, &runtime, &deadline,
                          &period, &util_min, &util_max))
        return NULL;
    struct scheduling attr = {sizeof attr, policy, flags, nice, priority, runtime, deadline, period, util_min, util_max};
    return done(syscall(SYS_sched_setattr, pid, &attr, 0), "sched_setattr", NULL);
}

static PyObject *py_sched_getattr(PyObject *Py_UNUSED(self), PyObject *args)
{
    int pid;
    struct scheduling a;
    if (!PyArg_ParseTuple(args, "i:sched_getattr", &pid))
        return NULL;
    memset(&a, 0, sizeof a);
    if (syscall(SYS_sched_getattr, pid, &a, sizeof a, 0))
        return call_failed("sched_getattr", NULL);
    return Py_BuildValue("IKiIKKKII", a.policy, (unsigned long long)a.flags, a.nice, a.priority,
                         (unsigned long long)a.runtime, (unsigned long long)a.deadline, (unsigned long long)a.period,
                         a.util_min, a.util_max);
}

static PyObject *py_ioprio_set(PyObject *Py_UNUSED(self), PyObject *args)
{
    int which, who, value;
    if (!PyArg_ParseTuple(args, "iii:ioprio_set", &which, &who, &value))
        return NULL;
    return done(syscall(SYS_ioprio_set, which, who, value), "ioprio_set", NULL);
}

static PyObject *py_ioprio_get(PyObject *Py_UNUSED(self), PyObject *args)
{
    int which, who;
    if (!PyArg_ParseTuple(args, "ii:ioprio_get", &which, &who))
        return NULL;
    return done_int(syscall(SYS_ioprio_get, which, who), "ioprio_get", NULL);
}

static PyObject *py_set_mempolicy(PyObject *Py_UNUSED(self), PyObject *args)
{
    int mode;
    const char *mask;
    Py_ssize_t size;
    unsigned long maxnode;
    if (!PyArg_ParseTuple(args, "iz#k:set_mempolicy", &mode, &mask, &size, &maxnode))
        return NULL;
    if ((unsigned long)size * 8 + 1 < maxnode) {
        PyErr_SetString(PyExc_ValueError, "maxnode is larger than the mask");
        return NULL;
    }
    return done(syscall(SYS_set_mempolicy, mode, size ? mask : NULL, maxnode), "set_mempolicy", NULL);
}

static PyObject *py_get_mempolicy(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args))
{
    int mode = 0;
    char mask[128] = {0};
    if (syscall(SYS_get_mempolicy, &mode, mask, sizeof mask * 8, NULL, 0))
        return call_failed("get_mempolicy", NULL);
    return Py_BuildValue("iy#", mode, mask, (Py_ssize_t)sizeof mask);
}

static PyObject *py_personality(PyObject *Py_UNUSED(self), PyObject *args)
{
    unsigned long value;
    if (!PyArg_ParseTuple(args, "k:personality", &value))
        return NULL;
    return done_int(syscall(SYS_personality, value), "personality", NULL);
}

static PyObject *py_setdomainname(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *name;
    if (!PyArg_ParseTuple(args, "O&:setdomainname", to_path, &name))
        return NULL;
    PyObject *result = done(syscall(SYS_setdomainname, path_text(name), PyBytes_Size(name)), "setdomainname", NULL);
    Py_DECREF(name);
    return result;
}

static PyObject *py_sethostname(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *name;
    if (!PyArg_ParseTuple(args, "O&:sethostname", to_path, &name))
        return NULL;
    PyObject *result = done(syscall(SYS_sethostname, path_text(name), PyBytes_Size(name)), "sethostname", NULL);
    Py_DECREF(name);
    return result;
}

static PyObject *py_execveat(PyObject *Py_UNUSED(self), PyObject *args)
{
    int dir, flags;
    PyObject *path, *argv, *env;
    struct plan plan = {0};
    if (!PyArg_ParseTuple(args, "iO&OOi:execveat", &dir, to_path, &path, &argv, &env, &flags))
        return NULL;
    char **words = plan_strings(&plan, argv), **variables = words ? plan_strings(&plan, env) : NULL;
    PyObject *result = NULL;
    if (variables && dir == AT_FDCWD && !flags) /* a filter may allow only the older call */
        result = done(syscall(SYS_execve, path_text(path), words, variables), "execve", path);
    else if (variables)
        result = done(syscall(SYS_execveat, dir, path_text(path), words, variables, flags), "execveat", path);
    plan_free(&plan);
    Py_DECREF(path);
    return result;
}

static PyObject *py_reset_signals(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args))
{
    return done(signals_reset(), "rt_sigaction", NULL);
}

PyMethodDef calls_process[] = {
    {"clone3", (PyCFunction)(void (*)(void))py_clone3, METH_VARARGS | METH_KEYWORDS,
     "clone3(flags, exit_signal=17, cgroup_fd=-1, is_init=False) -> (pid, pidfd), in the child (0, -1)\n"
     "is_init: a container's init is made, so the launcher copies at once the pages that both sides are going to write to."},
    {"pidfd_getfd", py_pidfd_getfd, METH_VARARGS, "pidfd_getfd(pidfd, fd, flags) -> fd"},
    {"prlimit", py_prlimit, METH_VARARGS, "prlimit(pid, resource, soft, hard) -> (old_soft, old_hard); None, None: only read"},
    {"capget", py_capget, METH_VARARGS, "capget(pid) -> (effective, permitted, inheritable)"},
    {"prctl", py_prctl, METH_VARARGS, "prctl(op, a2=0, a3=0, a4=0, a5=0) -> int; a word is an int, bytes or None"},
    {"keyctl", py_keyctl, METH_VARARGS, "keyctl(op, a2=0, a3=0, a4=0, a5=0) -> int; a word is an int, bytes or None"},
    {"keyctl_describe", py_keyctl_describe, METH_VARARGS, "keyctl_describe(serial) -> b\"type;uid;gid;permissions;description\""},
    {"join_session_keyring", py_join_session_keyring, METH_VARARGS, "join_session_keyring(name) -> serial"},
    {"sched_setattr", py_sched_setattr, METH_VARARGS,
     "sched_setattr(pid, policy, flags, nice, priority, runtime, deadline, period, util_min, util_max)"},
    {"sched_getattr", py_sched_getattr, METH_VARARGS, "sched_getattr(pid) -> what sched_setattr takes after the pid"},
    {"ioprio_set", py_ioprio_set, METH_VARARGS, "ioprio_set(which, who, value)"},
    {"ioprio_get", py_ioprio_get, METH_VARARGS, "ioprio_get(which, who) -> value"},
    {"set_mempolicy", py_set_mempolicy, METH_VARARGS, "set_mempolicy(mode, nodemask, maxnode)"},
    {"get_mempolicy", py_get_mempolicy, METH_NOARGS, "get_mempolicy() -> (mode, nodemask)"},
    {"personality", py_personality, METH_VARARGS, "personality(value) -> old value; 0xffffffff: only read"},
    {"setdomainname", py_setdomainname, METH_VARARGS, "setdomainname(name)"},
    {"sethostname", py_sethostname, METH_VARARGS, "sethostname(name)"},
    {"execveat", py_execveat, METH_VARARGS, "execveat(dirfd, path, argv, env, flags); AT_FDCWD and no flags: execve"},
    {"reset_signals", py_reset_signals, METH_NOARGS, "reset_signals(): all dispositions to default, empty mask"},
    {NULL, NULL, 0, NULL},
};
