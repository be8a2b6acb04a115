/* libseccomp, linked into the compiled launcher if its archive is available (link.py): helper/seccomp.py calls it instead of pyseccomp.
 * Rule: no policy. Numbers are passed on unchanged, and the program or libseccomp's error is returned; the caller decides which rules
 * there are, in which order, and what an error means to a user. helper/pyseccomp_calls.py has the same functions for the plain
 * launcher. */
#include "syscalls.h"

#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define ARGS_MAX 6 /* of a system call */

/* An OSError from libseccomp's negative result, with .call and .at, the index of the architecture or rule that caused it. */
static PyObject *refused(int answer, const char *call, Py_ssize_t at)
{
    errno = -answer;
    call_failed(call, NULL);
    add_to_error("at", PyLong_FromSsize_t(at));
    return NULL;
}

/* A new filter has the native architecture; it is exchanged for `token`. */
static int set_arch(scmp_filter_ctx filter, uint32_t token)
{
    uint32_t native = seccomp_arch_native();
    if (token == native)
        return 0;
    int answer = seccomp_arch_add(filter, token);
    if (answer < 0)
        return refused(answer, "seccomp_arch_add", -1) ? 0 : -1;
    answer = seccomp_arch_remove(filter, native);
    return answer < 0 ? (refused(answer, "seccomp_arch_remove", -1), -1) : 0;
}

static int add_rule(scmp_filter_ctx filter, PyObject *rule, Py_ssize_t at)
{
    struct scmp_arg_cmp compared[ARGS_MAX];
    unsigned action, count = 0;
    int number;
    PyObject *args;
    if (!PyArg_ParseTuple(rule, "IiO!:rule", &action, &number, &PyTuple_Type, &args))
        return -1;
    if (PyTuple_Size(args) > ARGS_MAX) {
        PyErr_SetString(PyExc_ValueError, "a rule has at most 6 comparisons");
        return -1;
    }
    for (; count < (unsigned)PyTuple_Size(args); count++) {
        unsigned index, operator;
        unsigned long long one, two;
        if (!PyArg_ParseTuple(PyTuple_GetItem(args, count), "IIKK:comparison", &index, &operator, &one, &two))
            return -1;
        compared[count] = (struct scmp_arg_cmp){index, operator, one, two};
    }
    int answer = seccomp_rule_add_array(filter, action, number, count, compared);
    return answer < 0 ? (refused(answer, "seccomp_rule_add", at), -1) : 0;
}

/* libseccomp before 2.6 can only write to a descriptor. */
static PyObject *exported(scmp_filter_ctx filter)
{
    struct stat st;
    PyObject *program = NULL;
    int fd = memfd_create("bpf", MFD_CLOEXEC);
    if (fd < 0)
        return call_failed("memfd_create", NULL);
    int answer = seccomp_export_bpf(filter, fd);
    if (answer < 0)
        refused(answer, "seccomp_export_bpf", -1);
    else if (fstat(fd, &st))
        call_failed("fstat", NULL);
    else {
        void *text = malloc((size_t)st.st_size + 1);
        if (text && pread(fd, text, (size_t)st.st_size, 0) == st.st_size)
            program = PyBytes_FromStringAndSize(text, st.st_size);
        else
            call_failed("pread", NULL);
        free(text);
    }
    close(fd);
    return program;
}

static PyObject *made(scmp_filter_ctx filter, uint32_t arch, PyObject *attributes, PyObject *rules)
{
    if (set_arch(filter, arch))
        return NULL;
    for (Py_ssize_t i = 0; i < PyTuple_Size(attributes); i++) {
        unsigned name, value, optional;
        if (!PyArg_ParseTuple(PyTuple_GetItem(attributes, i), "III:attribute", &name, &value, &optional))
            return NULL;
        int answer = seccomp_attr_set(filter, name, value);
        if (answer < 0 && !(optional && (answer == -EINVAL || answer == -EOPNOTSUPP)))
            return refused(answer, "seccomp_attr_set", i);
    }
    for (Py_ssize_t i = 0; i < PyTuple_Size(rules); i++)
        if (add_rule(filter, PyTuple_GetItem(rules, i), i))
            return NULL;
    return exported(filter);
}

static PyObject *py_program(PyObject *Py_UNUSED(self), PyObject *args)
{
    unsigned action, arch;
    PyObject *attributes, *rules;
    if (!PyArg_ParseTuple(args, "IIO!O!:program", &action, &arch, &PyTuple_Type, &attributes, &PyTuple_Type, &rules))
        return NULL;
    scmp_filter_ctx filter = seccomp_init(action);
    if (!filter)
        return refused(-EINVAL, "seccomp_init", -1);
    PyObject *program = made(filter, arch, attributes, rules);
    seccomp_release(filter);
    return program;
}

static PyObject *py_numbers(PyObject *Py_UNUSED(self), PyObject *args)
{
    unsigned token;
    PyObject *names;
    if (!PyArg_ParseTuple(args, "IO!:numbers", &token, &PyList_Type, &names))
        return NULL;
    PyObject *found = PyList_New(0);
    for (Py_ssize_t i = 0; found && i < PyList_Size(names); i++) {
        PyObject *name = PyUnicode_AsUTF8String(PyList_GetItem(names, i));
        PyObject *number = name ? PyLong_FromLong(seccomp_syscall_resolve_name_arch(token, PyBytes_AsString(name))) : NULL;
        if (!number || PyList_Append(found, number))
            Py_CLEAR(found);
        Py_XDECREF(number);
        Py_XDECREF(name);
    }
    return found;
}

static PyObject *py_native(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args))
{
    return PyLong_FromUnsignedLong(seccomp_arch_native());
}

static PyObject *py_version(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args))
{
    const struct scmp_version *v = seccomp_version();
    return PyUnicode_FromFormat("%u.%u.%u", v->major, v->minor, v->micro);
}

static PyMethodDef functions[] = {
    {"program", py_program, METH_VARARGS,
     "program(default, arch, attributes, rules) -> BPF for that architecture. attributes: ((name, value, optional), ...); "
     "rules: ((action, number, ((index, operator, value, value two), ...)), ...). OSError has .call and .at"},
    {"numbers", py_numbers, METH_VARARGS, "numbers(arch, [names]) -> [numbers], -1 for an unknown name, less for one that the arch lacks"},
    {"native", py_native, METH_NOARGS, "native() -> token of this machine"},
    {"version", py_version, METH_NOARGS, "version() -> '2.6.0'"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "pyrunc.linux._libseccomp", .m_doc = "libseccomp; policy-free.", .m_size = -1, .m_methods = functions,
};

PyMODINIT_FUNC PyInit__libseccomp(void)
{
    return PyModule_Create(&definition);
}
