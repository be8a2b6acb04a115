/* Files and directories: the *at calls that posix lacks, statx, statfs, close_range, Landlock, sealing (sealing.c). */
#include "syscalls.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "sealing.h"

/* `made` (NULL: an exception is set) with these numbers in it. */
static PyObject *filled(PyObject *made, int (*set)(PyObject *, Py_ssize_t, PyObject *), const unsigned long long *numbers, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; made && i < count; i++) {
        PyObject *number = PyLong_FromUnsignedLongLong(numbers[i]);
        if (!number || set(made, i, number))
            Py_CLEAR(made);
    }
    return made;
}

static int set_field(PyObject *made, Py_ssize_t at, PyObject *number)
{
    PyStructSequence_SetItem(made, at, number);
    return 0;
}

static PyObject *py_openat2(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    int dir;
    PyObject *path;
    unsigned long long flags, mode, resolve;
    if (!take_arguments(args, count, "iO&KKK:openat2", &dir, to_path, &path, &flags, &mode, &resolve))
        return NULL;
    uint64_t how[3] = {flags, mode, resolve};
    PyObject *result = done_int(syscall(SYS_openat2, dir, path_text(path), how, sizeof how), "openat2", path);
    Py_DECREF(path);
    return result;
}

/* openat2 of a file that may be missing: an exception takes ten times as long as the call. */
static PyObject *py_find(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    int dir;
    PyObject *path;
    unsigned long long flags, resolve;
    if (!take_arguments(args, count, "iO&KK:find", &dir, to_path, &path, &flags, &resolve))
        return NULL;
    uint64_t how[3] = {flags, 0, resolve};
    long fd = syscall(SYS_openat2, dir, path_text(path), how, sizeof how);
    PyObject *result = fd < 0 && errno == ENOENT ? Py_NewRef(Py_None) : done_int(fd, "openat2", path);
    Py_DECREF(path);
    return result;
}

static PyObject *py_mount_id(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    int fd;
    struct statx st;
    if (!take_arguments(args, count, "i:mount_id", &fd))
        return NULL;
    if (syscall(SYS_statx, fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st))
        return call_failed("statx", NULL);
    return PyLong_FromUnsignedLongLong(st.stx_mnt_id);
}

static PyObject *py_statx(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    int dir, flags;
    unsigned int mask;
    PyObject *path;
    struct statx st;
    if (!take_arguments(args, count, "iO&iI:statx", &dir, to_path, &path, &flags, &mask))
        return NULL;
    long failed = syscall(SYS_statx, dir, path_text(path), flags, mask, &st);
    PyObject *result = failed ? call_failed("statx", path) : NULL;
    Py_DECREF(path);
    if (failed)
        return result;
    const unsigned long long found[] = {
        st.stx_mask, st.stx_mode, st.stx_uid, st.stx_gid, st.stx_ino, st.stx_dev_major, st.stx_dev_minor, st.stx_rdev_major,
        st.stx_rdev_minor, st.stx_mnt_id, st.stx_attributes, st.stx_size,
    };
    return filled(PyTuple_New(sizeof found / sizeof *found), PyTuple_SetItem, found, sizeof found / sizeof *found);
}

/* ---- fstat and fstatat. posix.stat_result has 19 fields, among them each time in three forms, and making them takes ten times as long as the
 * call. */

int add_stat(PyObject *module)
{
    static PyStructSequence_Field fields[] = {
        {"st_mode", NULL}, {"st_ino", NULL}, {"st_dev", NULL}, {"st_nlink", NULL}, {"st_uid", NULL}, {"st_gid", NULL}, {"st_size", NULL},
        {"st_rdev", NULL}, {NULL, NULL},
    };
    static PyStructSequence_Desc description = {"pyrunc.linux._syscalls.Stat", "stat(2) without times", fields, 8};
    stat_type = PyStructSequence_NewType(&description);
    return stat_type ? PyModule_AddObjectRef(module, "Stat", (PyObject *)stat_type) : -1;
}

static PyObject *made_stat(const struct stat *st)
{
    const unsigned long long found[] = {
        st->st_mode, st->st_ino, st->st_dev, st->st_nlink, st->st_uid, st->st_gid, (unsigned long long)st->st_size, st->st_rdev,
    };
    return filled(PyStructSequence_New(stat_type), set_field, found, sizeof found / sizeof *found);
}

static PyObject *py_fstat(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    int fd;
    struct stat st;
    if (!take_arguments(args, count, "i:fstat", &fd))
        return NULL;
    return fstat(fd, &st) ? call_failed("fstat", NULL) : made_stat(&st);
}

static PyObject *py_fstatat(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    int dir, flags;
    PyObject *path;
    struct stat st;
    if (!take_arguments(args, count, "iO&i:fstatat", &dir, to_path, &path, &flags))
        return NULL;
    PyObject *result = fstatat(dir, path_text(path), &st, flags) ? call_failed("fstatat", path) : made_stat(&st);
    Py_DECREF(path);
    return result;
}

static PyObject *py_fstatfs(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    int fd;
    struct statfs st;
    if (!take_arguments(args, count, "i:fstatfs", &fd))
        return NULL;
    if (fstatfs(fd, &st))
        return call_failed("fstatfs", NULL);
    const unsigned long long found[] = {(unsigned long)st.f_type, (unsigned long)st.f_flags};
    return filled(PyTuple_New(2), PyTuple_SetItem, found, 2);
}

static PyObject *py_statfs(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *path, *result;
    struct statfs st;
    if (!PyArg_ParseTuple(args, "O&:statfs", to_path, &path))
        return NULL;
    if (statfs(path_text(path), &st))
        result = call_failed("statfs", path);
    else
        result = Py_BuildValue("kk", (unsigned long)st.f_type, (unsigned long)st.f_flags);
    Py_DECREF(path);
    return result;
}

static PyObject *py_fchownat(PyObject *Py_UNUSED(self), PyObject *args)
{
    int dir, flags;
    unsigned long uid, gid;
    PyObject *path;
    if (!PyArg_ParseTuple(args, "iO&kki:fchownat", &dir, to_path, &path, &uid, &gid, &flags))
        return NULL;
    PyObject *result = done(fchownat(dir, path_text(path), (uid_t)uid, (gid_t)gid, flags), "fchownat", path);
    Py_DECREF(path);
    return result;
}

static PyObject *py_close_range(PyObject *Py_UNUSED(self), PyObject *args)
{
    unsigned int first, last, flags;
    if (!PyArg_ParseTuple(args, "III:close_range", &first, &last, &flags))
        return NULL;
    return done(syscall(SYS_close_range, first, last, flags), "close_range", NULL);
}

static PyObject *py_landlock_create_ruleset(PyObject *Py_UNUSED(self), PyObject *args)
{
    const char *attr;
    Py_ssize_t size;
    unsigned int flags;
    if (!PyArg_ParseTuple(args, "z#I:landlock_create_ruleset", &attr, &size, &flags))
        return NULL;
    return done_int(syscall(SYS_landlock_create_ruleset, attr, size, flags), "landlock_create_ruleset", NULL);
}

static PyObject *py_landlock_add_rule(PyObject *Py_UNUSED(self), PyObject *args)
{
    int fd, type;
    const char *attr;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "iiy#:landlock_add_rule", &fd, &type, &attr, &size))
        return NULL;
    return done(syscall(SYS_landlock_add_rule, fd, type, attr, 0), "landlock_add_rule", NULL);
}

static PyObject *sealing_failed(int result, const char *call)
{
    errno = -result;
    return call_failed(call, NULL);
}

static PyObject *py_sealed_file(PyObject *Py_UNUSED(self), PyObject *args)
{
    int way;
    const char *call = "openat";
    if (!PyArg_ParseTuple(args, "i:sealed_file", &way))
        return NULL;
    int fd = sealing_open((enum sealing_way)way, &call);
    return fd < 0 ? sealing_failed(fd, call) : PyLong_FromLong(fd);
}

static PyObject *py_is_sealed_file(PyObject *Py_UNUSED(self), PyObject *args)
{
    int fd;
    if (!PyArg_ParseTuple(args, "i:is_sealed_file", &fd))
        return NULL;
    int safe = sealing_is_safe(fd);
    return safe < 0 ? sealing_failed(safe, "fstatfs") : PyBool_FromLong(safe);
}

PyMethodDef calls_file[] = {
    {"openat2", (PyCFunction)(void (*)(void))py_openat2, METH_FASTCALL, "openat2(dirfd, path, flags, mode, resolve) -> fd"},
    {"find", (PyCFunction)(void (*)(void))py_find, METH_FASTCALL, "find(dirfd, path, flags, resolve) -> fd from openat2(2), or None if ENOENT"},
    {"mount_id", (PyCFunction)(void (*)(void))py_mount_id, METH_FASTCALL, "mount_id(fd) -> mnt_id from statx(2)"},
    {"statx", (PyCFunction)(void (*)(void))py_statx, METH_FASTCALL,
     "statx(dirfd, path, flags, mask) -> (mask, mode, uid, gid, ino, dev_major, dev_minor, rdev_major, rdev_minor, "
     "mnt_id, attributes, size)"},
    {"fstat", (PyCFunction)(void (*)(void))py_fstat, METH_FASTCALL, "fstat(fd) -> Stat"},
    {"fstatat", (PyCFunction)(void (*)(void))py_fstatat, METH_FASTCALL, "fstatat(dirfd, path, flags) -> Stat"},
    {"fstatfs", (PyCFunction)(void (*)(void))py_fstatfs, METH_FASTCALL, "fstatfs(fd) -> (f_type, f_flags)"},
    {"statfs", py_statfs, METH_VARARGS, "statfs(path) -> (f_type, f_flags)"},
    {"fchownat", py_fchownat, METH_VARARGS, "fchownat(dirfd, path, uid, gid, flags)"},
    {"sealed_file", py_sealed_file, METH_VARARGS,
     "sealed_file(way) -> fd of the running executable in a file that nobody can write; 0: overlay, 1: memfd, 2: unnamed file"},
    {"is_sealed_file", py_is_sealed_file, METH_VARARGS, "is_sealed_file(fd) -> whether nobody can write this file"},
    {"close_range", py_close_range, METH_VARARGS, "close_range(first, last, flags)"},
    {"landlock_create_ruleset", py_landlock_create_ruleset, METH_VARARGS, "landlock_create_ruleset(attr, flags) -> fd or version"},
    {"landlock_add_rule", py_landlock_add_rule, METH_VARARGS, "landlock_add_rule(fd, type, attr)"},
    {NULL, NULL, 0, NULL},
};
