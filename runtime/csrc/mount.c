/* Mounts and namespaces: mount(2), the file-descriptor mount calls of Linux 5.2 and 5.12, unshare, setns. */
#include "syscalls.h"

#include <sys/mount.h>

static PyObject *py_unshare(PyObject *Py_UNUSED(self), PyObject *args)
{
    unsigned long flags;
    if (!PyArg_ParseTuple(args, "k:unshare", &flags))
        return NULL;
    return done(syscall(SYS_unshare, flags), "unshare", NULL);
}

static PyObject *py_setns(PyObject *Py_UNUSED(self), PyObject *args)
{
    int fd, type;
    if (!PyArg_ParseTuple(args, "ii:setns", &fd, &type))
        return NULL;
    return done(syscall(SYS_setns, fd, type), "setns", NULL);
}

static PyObject *py_pivot_root(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *new_root, *put_old;
    if (!PyArg_ParseTuple(args, "O&O&:pivot_root", to_path, &new_root, to_path, &put_old))
        return NULL;
    PyObject *result = done(syscall(SYS_pivot_root, path_text(new_root), path_text(put_old)), "pivot_root", new_root);
    Py_DECREF(new_root);
    Py_DECREF(put_old);
    return result;
}

static PyObject *py_mount(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *source, *target, *type, *data;
    unsigned long flags;
    if (!PyArg_ParseTuple(args, "O&O&O&kO&:mount", to_path_or_none, &source, to_path, &target, to_path_or_none, &type,
                          &flags, to_path_or_none, &data))
        return NULL;
    long result = mount(path_text(source), path_text(target), path_text(type), flags, path_text(data));
    PyObject *answer = done(result, "mount", target);
    Py_XDECREF(source);
    Py_DECREF(target);
    Py_XDECREF(type);
    Py_XDECREF(data);
    return answer;
}

static PyObject *py_umount2(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *target;
    int flags;
    if (!PyArg_ParseTuple(args, "O&i:umount2", to_path, &target, &flags))
        return NULL;
    PyObject *result = done(umount2(path_text(target), flags), "umount2", target);
    Py_DECREF(target);
    return result;
}

static PyObject *py_open_tree(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    int dir;
    PyObject *path;
    unsigned int flags;
    if (!take_arguments(args, count, "iO&I:open_tree", &dir, to_path, &path, &flags))
        return NULL;
    PyObject *result = done_int(syscall(SYS_open_tree, dir, path_text(path), flags), "open_tree", path);
    Py_DECREF(path);
    return result;
}

static PyObject *py_move_mount(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    int from, to;
    PyObject *from_path, *to_path_;
    unsigned int flags;
    if (!take_arguments(args, count, "iO&iO&I:move_mount", &from, to_path, &from_path, &to, to_path, &to_path_, &flags))
        return NULL;
    long result = syscall(SYS_move_mount, from, path_text(from_path), to, path_text(to_path_), flags);
    PyObject *answer = done(result, "move_mount", to_path_);
    Py_DECREF(from_path);
    Py_DECREF(to_path_);
    return answer;
}

static PyObject *py_fsopen(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    PyObject *type;
    unsigned int flags;
    if (!take_arguments(args, count, "O&I:fsopen", to_path, &type, &flags))
        return NULL;
    PyObject *result = done_int(syscall(SYS_fsopen, path_text(type), flags), "fsopen", type);
    Py_DECREF(type);
    return result;
}

static PyObject *py_fsconfig(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    int fd, aux;
    unsigned int command;
    PyObject *key, *value;
    if (!take_arguments(args, count, "iIO&O&i:fsconfig", &fd, &command, to_path_or_none, &key, to_path_or_none, &value, &aux))
        return NULL;
    long result = syscall(SYS_fsconfig, fd, command, path_text(key), path_text(value), aux);
    PyObject *answer = done(result, "fsconfig", key);
    Py_XDECREF(key);
    Py_XDECREF(value);
    return answer;
}

static PyObject *py_fsmount(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    int fd;
    unsigned int flags, attributes;
    if (!take_arguments(args, count, "iII:fsmount", &fd, &flags, &attributes))
        return NULL;
    return done_int(syscall(SYS_fsmount, fd, flags, attributes), "fsmount", NULL);
}

static PyObject *py_fspick(PyObject *Py_UNUSED(self), PyObject *args)
{
    int dir;
    PyObject *path;
    unsigned int flags;
    if (!PyArg_ParseTuple(args, "iO&I:fspick", &dir, to_path, &path, &flags))
        return NULL;
    PyObject *result = done_int(syscall(SYS_fspick, dir, path_text(path), flags), "fspick", path);
    Py_DECREF(path);
    return result;
}

static PyObject *py_mount_setattr(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    int dir;
    PyObject *path;
    unsigned int flags;
    uint64_t attr[4]; /* struct mount_attr: attr_set, attr_clr, propagation, userns_fd */
    unsigned long long set, clear, propagation;
    int userns;
    if (!take_arguments(args, count, "iO&IKKKi:mount_setattr", &dir, to_path, &path, &flags, &set, &clear, &propagation, &userns))
        return NULL;
    attr[0] = set, attr[1] = clear, attr[2] = propagation, attr[3] = userns < 0 ? 0 : (uint64_t)userns;
    PyObject *result =
        done(syscall(SYS_mount_setattr, dir, path_text(path), flags, attr, sizeof attr), "mount_setattr", path);
    Py_DECREF(path);
    return result;
}

PyMethodDef calls_mount[] = {
    {"unshare", py_unshare, METH_VARARGS, "unshare(flags)"},
    {"setns", py_setns, METH_VARARGS, "setns(fd, nstype)"},
    {"pivot_root", py_pivot_root, METH_VARARGS, "pivot_root(new, old)"},
    {"mount", py_mount, METH_VARARGS, "mount(source, target, fstype, flags, data)"},
    {"umount2", py_umount2, METH_VARARGS, "umount2(target, flags)"},
    {"open_tree", (PyCFunction)(void (*)(void))py_open_tree, METH_FASTCALL, "open_tree(dirfd, path, flags) -> fd"},
    {"move_mount", (PyCFunction)(void (*)(void))py_move_mount, METH_FASTCALL, "move_mount(from_fd, from_path, to_fd, to_path, flags)"},
    {"fsopen", (PyCFunction)(void (*)(void))py_fsopen, METH_FASTCALL, "fsopen(fstype, flags) -> fd"},
    {"fsconfig", (PyCFunction)(void (*)(void))py_fsconfig, METH_FASTCALL, "fsconfig(fd, cmd, key, value, aux)"},
    {"fsmount", (PyCFunction)(void (*)(void))py_fsmount, METH_FASTCALL, "fsmount(fd, flags, attr) -> fd"},
    {"fspick", py_fspick, METH_VARARGS, "fspick(dirfd, path, flags) -> fd"},
    {"mount_setattr", (PyCFunction)(void (*)(void))py_mount_setattr, METH_FASTCALL,
     "mount_setattr(dirfd, path, flags, attr_set, attr_clr, propagation, userns_fd); userns_fd -1: none"},
    {NULL, NULL, 0, NULL},
};
