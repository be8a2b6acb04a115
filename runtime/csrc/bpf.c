/* seccomp(2) and bpf(2), as far as a runtime needs them: filters, and device programs of cgroup v2. */
#include "syscalls.h"

#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>

#define MAX_PROGRAMS 256 /* attached to one cgroup; the kernel allows 64 */

static PyObject *py_seccomp(PyObject *Py_UNUSED(self), PyObject *args)
{
    unsigned int op, flags;
    const char *filter;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "IIz#:seccomp", &op, &flags, &filter, &size))
        return NULL;
    if (size % (Py_ssize_t)sizeof(struct sock_filter) || size / (Py_ssize_t)sizeof(struct sock_filter) > UINT16_MAX) { /* sock_fprog.len */
        PyErr_SetString(PyExc_ValueError, "not a BPF program");
        return NULL;
    }
    struct sock_fprog program = {(unsigned short)(size / (Py_ssize_t)sizeof(struct sock_filter)), (struct sock_filter *)filter};
    return done_int(syscall(SYS_seccomp, op, flags, filter ? &program : NULL), "seccomp", NULL);
}

static long bpf(int command, union bpf_attr *attr)
{
    return syscall(SYS_bpf, command, attr, sizeof *attr);
}

/* CallError with the verifier's messages as its log. */
static PyObject *load_failed(int error, const char *log)
{
    PyObject *lines = *log ? Py_BuildValue("(N)", PyUnicode_DecodeLatin1(log, (Py_ssize_t)strlen(log), NULL)) : NULL;
    errno = error;
    call_failed("bpf", NULL);
    add_to_error("log", lines);
    return NULL;
}

static PyObject *py_bpf_prog_load(PyObject *Py_UNUSED(self), PyObject *args)
{
    unsigned int type, log_size;
    const char *insns;
    Py_ssize_t size;
    const char *license, *name;
    if (!PyArg_ParseTuple(args, "Iy#ssI:bpf_prog_load", &type, &insns, &size, &license, &name, &log_size))
        return NULL;
    char *log = PyMem_Calloc(1, (size_t)log_size + 1);
    if (!log)
        return PyErr_NoMemory();
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.prog_type = type;
    attr.insns = (uintptr_t)insns;
    attr.insn_cnt = (uint32_t)((size_t)size / sizeof(struct bpf_insn));
    attr.license = (uintptr_t)license;
    strncpy(attr.prog_name, name, sizeof attr.prog_name - 1);
    if (log_size) {
        attr.log_level = 1;
        attr.log_size = log_size;
        attr.log_buf = (uintptr_t)log;
    }
    long fd = bpf(BPF_PROG_LOAD, &attr);
    PyObject *result = fd < 0 ? load_failed(errno, log) : PyLong_FromLong(fd);
    PyMem_Free(log);
    return result;
}

static PyObject *py_bpf_prog_attach(PyObject *Py_UNUSED(self), PyObject *args, PyObject *keywords)
{
    static char *names[] = {"target_fd", "prog_fd", "attach_type", "flags", "replace_fd", NULL};
    int target, program, replace = -1;
    unsigned int type, flags;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "iiII|i:bpf_prog_attach", names, &target, &program, &type, &flags, &replace))
        return NULL;
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.target_fd = (uint32_t)target;
    attr.attach_bpf_fd = (uint32_t)program;
    attr.attach_type = type;
    attr.attach_flags = flags;
    if (replace >= 0)
        attr.replace_bpf_fd = (uint32_t)replace;
    return done(bpf(BPF_PROG_ATTACH, &attr), "bpf", NULL);
}

static PyObject *py_bpf_prog_detach(PyObject *Py_UNUSED(self), PyObject *args)
{
    int target, program;
    unsigned int type;
    if (!PyArg_ParseTuple(args, "iiI:bpf_prog_detach", &target, &program, &type))
        return NULL;
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.target_fd = (uint32_t)target;
    attr.attach_bpf_fd = (uint32_t)program;
    attr.attach_type = type;
    return done(bpf(BPF_PROG_DETACH, &attr), "bpf", NULL);
}

static PyObject *py_bpf_prog_query(PyObject *Py_UNUSED(self), PyObject *args)
{
    int target;
    unsigned int type, flags;
    uint32_t ids[MAX_PROGRAMS];
    if (!PyArg_ParseTuple(args, "iII:bpf_prog_query", &target, &type, &flags))
        return NULL;
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.query.target_fd = (uint32_t)target;
    attr.query.attach_type = type;
    attr.query.query_flags = flags;
    attr.query.prog_ids = (uintptr_t)ids;
    attr.query.prog_cnt = sizeof ids / sizeof *ids;
    if (bpf(BPF_PROG_QUERY, &attr))
        return call_failed("bpf", NULL);
    PyObject *list = PyList_New(attr.query.prog_cnt);
    for (uint32_t i = 0; list && i < attr.query.prog_cnt; i++)
        if (PyList_SetItem(list, i, PyLong_FromUnsignedLong(ids[i])))
            Py_CLEAR(list);
    return list;
}

static PyObject *py_bpf_prog_get_fd_by_id(PyObject *Py_UNUSED(self), PyObject *args)
{
    unsigned int id;
    if (!PyArg_ParseTuple(args, "I:bpf_prog_get_fd_by_id", &id))
        return NULL;
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.prog_id = id;
    return done_int(bpf(BPF_PROG_GET_FD_BY_ID, &attr), "bpf", NULL);
}

PyMethodDef calls_bpf[] = {
    {"seccomp", py_seccomp, METH_VARARGS, "seccomp(op, flags, filter) -> int; a descriptor with NEW_LISTENER"},
    {"bpf_prog_load", py_bpf_prog_load, METH_VARARGS,
     "bpf_prog_load(prog_type, insns, license, name, log_size) -> fd; the error has .log"},
    {"bpf_prog_attach", (PyCFunction)(void (*)(void))py_bpf_prog_attach, METH_VARARGS | METH_KEYWORDS,
     "bpf_prog_attach(target_fd, prog_fd, attach_type, flags, replace_fd=-1)"},
    {"bpf_prog_detach", py_bpf_prog_detach, METH_VARARGS, "bpf_prog_detach(target_fd, prog_fd, attach_type)"},
    {"bpf_prog_query", py_bpf_prog_query, METH_VARARGS, "bpf_prog_query(target_fd, attach_type, query_flags) -> ids"},
    {"bpf_prog_get_fd_by_id", py_bpf_prog_get_fd_by_id, METH_VARARGS, "bpf_prog_get_fd_by_id(id) -> fd"},
    {NULL, NULL, 0, NULL},
};
