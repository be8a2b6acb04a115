/* Files and directories: the *at calls that posix lacks, statx, statfs, close_range, Landlock, sealing (sealing.c). */
#include "syscalls.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "sealing.h"

static PyObject *py_openat2(PyObject *Py_UNUSED(self), PyObject *args)
{
    int dir;
    PyObject *path;
    unsigned long long flags, mode, resolve;
    if (!PyArg_ParseTuple(args, "iO&KKK:openat2", &dir, to_path, &path, &flags, &mode, &resolve))
        return NULL;
    uint64_t how[3] = {flags, mode, resolve};
    PyObject *result = done_int(syscall(SYS_openat2, dir, path_text(path), how, sizeof how), "openat2", path);
    Py_DECREF(path);
    return result;
}

static PyObject *py_statx(PyObject *Py_UNUSED(self), PyObject *args)
{
    int dir, flags;
    unsigned int mask;
    PyObject *path;
    struct statx st;
    if (!PyArg_ParseTuple(args, "iO&iI:statx", &dir, to_path, &path, &flags, &mask))
        return NULL;
    long failed = syscall(SYS_statx, dir, path_text(path), flags, mask, &st);
    PyObject *result = failed ? call_failed("statx", path) : NULL;
    Py_DECREF(path);
    if (failed)
        return result;
    return Py_BuildValue("IIIIKIIIIKKK", st.stx_mask, (unsigned)st.stx_mode, st.stx_uid, st.stx_gid,
                         (unsigned long long)st.stx_ino, st.stx_dev_major, st.stx_dev_minor, st.stx_rdev_major,
                         st.stx_rdev_minor, (unsigned long long)st.stx_mnt_id, (unsigned long long)st.stx_attributes,
                         (unsigned long long)st.stx_size);
}

static PyObject *py_fstatfs(PyObject *Py_UNUSED(self), PyObject *args)
{
    int fd;
    struct statfs st;
    if (!PyArg_ParseTuple(args, "i:fstatfs", &fd))
        return NULL;
    if (fstatfs(fd, &st))
        return call_failed("fstatfs", NULL);
    return Py_BuildValue("kk", (unsigned long)st.f_type, (unsigned long)st.f_flags);
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

static PyObject *py_fchmodat2(PyObject *Py_UNUSED(self), PyObject *args)
{
    int dir;
    unsigned int mode, flags;
    PyObject *path;
    if (!PyArg_ParseTuple(args, "iO&II:fchmodat2", &dir, to_path, &path, &mode, &flags))
        return NULL;
    PyObject *result = done(syscall(SYS_fchmodat2, dir, path_text(path), mode, flags), "fchmodat2", path);
    Py_DECREF(path);
    return result;
}

static PyObject *py_renameat2(PyObject *Py_UNUSED(self), PyObject *args)
{
    int from, to;
    unsigned int flags;
    PyObject *old, *new;
    if (!PyArg_ParseTuple(args, "iO&iO&I:renameat2", &from, to_path, &old, &to, to_path, &new, &flags))
        return NULL;
    PyObject *result = done(syscall(SYS_renameat2, from, path_text(old), to, path_text(new), flags), "renameat2", new);
    Py_DECREF(old);
    Py_DECREF(new);
    return result;
}

static PyObject *py_close_range(PyObject *Py_UNUSED(self), PyObject *args)
{
    unsigned int first, last, flags;
    if (!PyArg_ParseTuple(args, "III:close_range", &first, &last, &flags))
        return NULL;
    return done(syscall(SYS_close_range, first, last, flags), "close_range", NULL);
}

static PyObject *py_getcwd_raw(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args))
{
    char path[4096];
    long n = syscall(SYS_getcwd, path, sizeof path);
    if (n < 0)
        return call_failed("getcwd", NULL);
    return PyBytes_FromStringAndSize(path, n - 1);
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

static PyObject *py_landlock_restrict_self(PyObject *Py_UNUSED(self), PyObject *args)
{
    int fd;
    unsigned int flags;
    if (!PyArg_ParseTuple(args, "iI:landlock_restrict_self", &fd, &flags))
        return NULL;
    return done(syscall(SYS_landlock_restrict_self, fd, flags), "landlock_restrict_self", NULL);
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
    {"openat2", py_openat2, METH_VARARGS, "openat2(dirfd, path, flags, mode, resolve) -> fd"},
    {"statx", py_statx, METH_VARARGS,
     "statx(dirfd, path, flags, mask) -> (mask, mode, uid, gid, ino, dev_major, dev_minor, rdev_major, rdev_minor, "
     "mnt_id, attributes, size)"},
    {"fstatfs", py_fstatfs, METH_VARARGS, "fstatfs(fd) -> (f_type, f_flags)"},
    {"statfs", py_statfs, METH_VARARGS, "statfs(path) -> (f_type, f_flags)"},
    {"fchownat", py_fchownat, METH_VARARGS, "fchownat(dirfd, path, uid, gid, flags)"},
    {"fchmodat2", py_fchmodat2, METH_VARARGS, "fchmodat2(dirfd, path, mode, flags)"},
    {"renameat2", py_renameat2, METH_VARARGS, "renameat2(olddir, old, newdir, new, flags)"},
    {"sealed_file", py_sealed_file, METH_VARARGS,
     "sealed_file(way) -> fd of the running executable in a file that nobody can write; 0: overlay, 1: memfd, 2: unnamed file"},
    {"is_sealed_file", py_is_sealed_file, METH_VARARGS, "is_sealed_file(fd) -> whether nobody can write this file"},
    {"close_range", py_close_range, METH_VARARGS, "close_range(first, last, flags)"},
    {"getcwd_raw", py_getcwd_raw, METH_NOARGS, "getcwd_raw() -> what getcwd(2) says, as bytes"},
    {"landlock_create_ruleset", py_landlock_create_ruleset, METH_VARARGS, "landlock_create_ruleset(attr, flags) -> fd or version"},
    {"landlock_add_rule", py_landlock_add_rule, METH_VARARGS, "landlock_add_rule(fd, type, attr)"},
    {"landlock_restrict_self", py_landlock_restrict_self, METH_VARARGS, "landlock_restrict_self(fd, flags)"},
    {NULL, NULL, 0, NULL},
};
