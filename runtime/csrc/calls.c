/* calls(): a sequence of system calls in one go, for init, which makes hundreds of them with little in between.
 * Rule: no branch and no default. The sequence ends at the first call that fails, and the error names it. A check is an operation that
 * fails if something is not what the caller expects. */
#include "syscalls.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* One line per operation: its name, the kernel's name for it, then one letter per argument. d descriptor, i integer, s string, S string or
 * None. Names are looked up in this order, so frequent ones come first. */
#define CALLS_TABLE(X)                                                                                                          \
    X(OPENAT, "openat", "dsi")               /* directory, path, flags; makes a descriptor                                   */ \
    X(IS_FS, "fstatfs", "dis")               /* check: magic number of the file system, else ENODEV for this path            */ \
    X(FSCONFIG, "fsconfig", "diSSi")         /* descriptor, command, key, value, number                                      */ \
    X(OPENAT2, "openat2", "dsii")            /* directory, path, flags, RESOLVE_*; makes a descriptor                        */ \
    X(SAME_MOUNT, "statx", "dds")            /* check: two descriptors are on the same mount, else ESTALE for this path      */ \
    X(MKDIRAT, "mkdirat", "dsi")             /* directory, name, mode                                                        */ \
    X(MOVE_MOUNT, "move_mount", "ddi")       /* mount, where to, flags                                                       */ \
    X(SYMLINKAT, "symlinkat", "dss")         /* directory, name, what it leads to                                            */ \
    X(MKNODAT, "mknodat", "dsii")            /* directory, name, type and mode, number of the device                         */ \
    X(IS_FILE, "fstat", "diis")              /* check: type of the file, number of the device, else ESTALE for this path     */ \
    X(FCHOWN, "fchownat", "dii")             /* descriptor, also with O_PATH, user, group                                    */ \
    X(FCHMOD, "fchmodat2", "di")             /* descriptor, also with O_PATH, mode                                           */ \
    X(FSMOUNT, "fsmount", "dii")             /* descriptor, flags, attributes; makes a descriptor                            */

enum code {
#define CALLS_ENUM(name, call, letters) name,
    CALLS_TABLE(CALLS_ENUM)
#undef CALLS_ENUM
};

static const struct {
    const char *name, *call, *letters;
} table[] = {
#define CALLS_ROW(name, call, letters) {#name, call, letters},
    CALLS_TABLE(CALLS_ROW)
#undef CALLS_ROW
};

#define OPERATIONS (int)(sizeof table / sizeof *table)
#define MADE_MOST 8       /* descriptors that one sequence may make */

struct made {
    int fds[MADE_MOST];
    int count;
};

struct arguments {
    long n[5];
    const char *s[2];
    PyObject *held[2]; /* what `s` points into, where the text had to be converted */
};

static int makes_descriptor(enum code code)
{
    return code == FSMOUNT || code == OPENAT || code == OPENAT2;
}

/* ASCII, as nearly all text is, is the same in all codecs of file names and is used in place. */
static const char *take_text(PyObject *value, PyObject **held)
{
    Py_ssize_t size;
    const char *text = PyUnicode_Check(value) ? PyUnicode_AsUTF8AndSize(value, &size) : NULL;
    if (text && size == PyUnicode_GetLength(value) && strlen(text) == (size_t)size)
        return text;
    PyErr_Clear();
    return PyUnicode_FSConverter(value, held) ? PyBytes_AsString(*held) : NULL;
}

/* Replaces a number that stands for a descriptor; 0 with an exception set if there is no such descriptor. */
static int take_descriptor(const struct made *made, long *number)
{
    if (*number > FIRST_MADE)
        return 1;
    if (FIRST_MADE - *number >= made->count) {
        PyErr_SetString(PyExc_ValueError, "no operation has made this descriptor yet");
        return 0;
    }
    *number = made->fds[FIRST_MADE - *number];
    return 1;
}

/* The operation of a tuple, with its arguments; -1 with an exception set. */
static int take_operation(PyObject *item, const struct made *made, struct arguments *out)
{
    int code = 0, n = 0, s = 0;
    PyObject *name = PyTuple_Check(item) ? PyTuple_GetItem(item, 0) : NULL;
    const char *text = name ? PyUnicode_AsUTF8AndSize(name, NULL) : NULL;
    while (text && code < OPERATIONS && strcmp(text, table[code].name))
        code++;
    if (!text || code == OPERATIONS || (size_t)PyTuple_Size(item) != strlen(table[code].letters) + 1) {
        PyErr_Format(PyExc_ValueError, "not an operation: %R", item);
        return -1;
    }
    if (makes_descriptor((enum code)code) && made->count == MADE_MOST) {
        PyErr_SetString(PyExc_ValueError, "a sequence makes at most 8 descriptors");
        return -1;
    }
    for (const char *letter = table[code].letters; *letter; letter++) {
        PyObject *value = PyTuple_GetItem(item, letter - table[code].letters + 1);
        if (*letter == 'd' || *letter == 'i') {
            out->n[n] = PyLong_AsLong(value);
            if (out->n[n] == -1 && PyErr_Occurred())
                return -1;
            if (*letter == 'd' && !take_descriptor(made, &out->n[n]))
                return -1;
            n++;
        } else if (value == Py_None && *letter == 'S') {
            out->s[s++] = NULL;
        } else {
            out->s[s] = take_text(value, &out->held[s]);
            if (!out->s[s++])
                return -1;
        }
    }
    return code;
}

static long is_same_mount(int a, int b)
{
    struct statx one, other;
    if (syscall(SYS_statx, a, "", AT_EMPTY_PATH, STATX_MNT_ID, &one) || syscall(SYS_statx, b, "", AT_EMPTY_PATH, STATX_MNT_ID, &other))
        return -1;
    errno = ESTALE;
    return one.stx_mnt_id == other.stx_mnt_id ? 0 : -1;
}

static long is_file(int fd, mode_t type, dev_t device)
{
    struct stat st;
    if (fstat(fd, &st))
        return -1;
    errno = ESTALE;
    return (st.st_mode & S_IFMT) == type && st.st_rdev == device ? 0 : -1;
}

static long is_fs(int fd, long magic)
{
    struct statfs st;
    if (fstatfs(fd, &st))
        return -1;
    errno = ENODEV;
    return (long)st.f_type == magic ? 0 : -1;
}

static long run(enum code code, const struct arguments *a)
{
    const long *n = a->n;
    uint64_t how[3] = {0}; /* struct open_how */
    switch (code) {
    case FSCONFIG:
        return syscall(SYS_fsconfig, n[0], n[1], a->s[0], a->s[1], n[2]);
    case FSMOUNT:
        return syscall(SYS_fsmount, n[0], n[1], n[2]);
    case OPENAT:
        return openat((int)n[0], a->s[0], (int)n[1], 0);
    case OPENAT2:
        how[0] = (uint64_t)n[1], how[2] = (uint64_t)n[2];
        return syscall(SYS_openat2, n[0], a->s[0], how, sizeof how);
    case SAME_MOUNT:
        return is_same_mount((int)n[0], (int)n[1]);
    case MOVE_MOUNT:
        return syscall(SYS_move_mount, n[0], "", n[1], "", n[2]);
    case MKDIRAT:
        return mkdirat((int)n[0], a->s[0], (mode_t)n[1]);
    case SYMLINKAT:
        return symlinkat(a->s[1], (int)n[0], a->s[0]);
    case MKNODAT:
        return mknodat((int)n[0], a->s[0], (mode_t)n[1], (dev_t)n[2]);
    case IS_FS:
        return is_fs((int)n[0], n[1]);
    case IS_FILE:
        return is_file((int)n[0], (mode_t)n[1], (dev_t)n[2]);
    case FCHMOD:
        return syscall(SYS_fchmodat2, n[0], "", n[1], AT_EMPTY_PATH);
    case FCHOWN:
        return fchownat((int)n[0], "", (uid_t)n[1], (gid_t)n[2], AT_EMPTY_PATH);
    }
    errno = ENOSYS;
    return -1;
}

/* Carries out one operation; 0 with an exception set. */
static int carry_out(PyObject *item, struct made *made)
{
    struct arguments arguments = {0};
    int code = take_operation(item, made, &arguments);
    long result = code < 0 ? -1 : run((enum code)code, &arguments);
    if (code >= 0 && result < 0) {
        PyObject *path = arguments.s[0] ? PyBytes_FromString(arguments.s[0]) : NULL;
        call_failed(table[code].call, path);
        Py_XDECREF(path);
    } else if (code >= 0 && makes_descriptor((enum code)code)) {
        made->fds[made->count++] = (int)result;
    }
    Py_XDECREF(arguments.held[0]);
    Py_XDECREF(arguments.held[1]);
    return result >= 0;
}

static int to_list(PyObject *arg, void *out)
{
    if (!PyList_Check(arg)) {
        PyErr_SetString(PyExc_TypeError, "operations are in a list");
        return 0;
    }
    *(PyObject **)out = Py_NewRef(arg);
    return 1;
}

static PyObject *py_calls(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    struct made made = {.count = 0};
    PyObject *list;
    int keep;
    if (!take_arguments(args, count, "O&i:calls", to_list, &list, &keep))
        return NULL;
    Py_ssize_t at = 0, many = PyList_Size(list);
    long kept = keep;
    while (at < many && carry_out(PyList_GetItem(list, at), &made))
        at++;
    Py_DECREF(list);
    int good = at == many && take_descriptor(&made, &kept);
    for (int i = 0; i < made.count; i++)
        if (!good || made.fds[i] != kept)
            close(made.fds[i]);
    if (good)
        return PyLong_FromLong(kept);
    add_to_error("at", PyLong_FromSsize_t(at));
    return NULL;
}

PyMethodDef calls_calls[] = {
    {"calls", (PyCFunction)(void (*)(void))py_calls, METH_FASTCALL,
     "calls(operations, keep) -> fd: carries out a list of tuples (name, arguments …) as csrc/calls.c lists them. A descriptor argument of FIRST "
     "is the first one that the list has made, SECOND the second one; all are closed at the end, except `keep` (-1: none), which is returned. "
     "CallError has `at`, the index of the operation that failed; what the others have done stays."},
    {NULL, NULL, 0, NULL},
};
