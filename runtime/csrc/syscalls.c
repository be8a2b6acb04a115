/* The extension pyrunc.linux._syscalls: one function per system call that Python lacks, calls(), finish(), spawn() and json().
 *
 * The tables of functions are in mount.c, file.c, process.c, bpf.c, ops.c (finish), spawn.c, procfs.c, json.c, schema.c, calls.c and
 * mountinfo.c; this file combines them. It uses the limited API of 3.11, so that one file works with every later interpreter. The program has
 * no threads, and none of these calls releases the interpreter's lock. */
#include "syscalls.h"

#include <stdarg.h>
#include <string.h>

/* pyrunc.errors.CallError. Fetched when the module is loaded: init can import nothing. */
static PyObject *call_error;

PyTypeObject *stat_type;

PyObject *call_failed(const char *call, PyObject *path)
{
    int error = errno;
    PyObject *text = path ? PyUnicode_DecodeFSDefaultAndSize(PyBytes_AsString(path), PyBytes_Size(path)) : NULL;
    PyErr_Clear();
    PyObject *exc = PyObject_CallFunction(call_error, "isOs", error, strerror(error), text ? text : Py_None, call);
    Py_XDECREF(text);
    if (exc)
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    Py_XDECREF(exc);
    return NULL;
}

void add_to_error(const char *name, PyObject *value)
{
    PyObject *type, *error, *trace;
    PyErr_Fetch(&type, &error, &trace);
    PyErr_NormalizeException(&type, &error, &trace);
    if (value && error && PyObject_SetAttrString(error, name, value))
        PyErr_Clear();
    Py_XDECREF(value);
    PyErr_Restore(type, error, trace);
}

PyObject *done(long result, const char *call, PyObject *path)
{
    if (result < 0)
        return call_failed(call, path);
    Py_RETURN_NONE;
}

PyObject *done_int(long result, const char *call, PyObject *path)
{
    if (result < 0)
        return call_failed(call, path);
    return PyLong_FromLong(result);
}

int to_path(PyObject *arg, void *out)
{
    return PyUnicode_FSConverter(arg, out);
}

int to_path_or_none(PyObject *arg, void *out)
{
    PyObject **slot = out;
    if (!arg) { /* called to clean up, because a later argument was refused */
        Py_CLEAR(*slot);
        return 1;
    }
    if (arg == Py_None) {
        *slot = NULL;
        return Py_CLEANUP_SUPPORTED;
    }
    return PyUnicode_FSConverter(arg, out);
}

const char *path_text(PyObject *path)
{
    return path ? PyBytes_AsString(path) : NULL;
}

static int take_int(PyObject *arg, int *out)
{
    long number = PyLong_AsLong(arg);
    if (number == -1 && PyErr_Occurred())
        return 0;
    *out = (int)number;
    if (number == *out)
        return 1;
    PyErr_SetString(PyExc_OverflowError, "the number does not fit into an int");
    return 0;
}

static int take_one(PyObject *arg, char letter, void *out)
{
    if (letter == 'i')
        return take_int(arg, out);
    if (letter == 'K')
        *(unsigned long long *)out = PyLong_AsUnsignedLongLongMask(arg);
    else if (letter == 'k')
        *(unsigned long *)out = PyLong_AsUnsignedLongMask(arg);
    else
        *(unsigned int *)out = (unsigned int)PyLong_AsUnsignedLongMask(arg);
    return !PyErr_Occurred();
}

int take_arguments(PyObject *const *args, Py_ssize_t count, const char *format, ...)
{
    PyObject **made[8]; /* by converters: to be released if a later argument is refused */
    int many = 0, good = 1;
    Py_ssize_t at = 0;
    va_list outs;
    va_start(outs, format);
    for (; good && *format != ':'; format++, at++) {
        if (at == count)
            break;
        if (*format != 'O') {
            good = take_one(args[at], *format, va_arg(outs, void *));
            continue;
        }
        int (*converter)(PyObject *, void *) = va_arg(outs, int (*)(PyObject *, void *));
        made[many] = va_arg(outs, PyObject **);
        good = converter(args[at], made[many]) != 0;
        many += good;
        format++; /* the & */
    }
    va_end(outs);
    if (good && (*format != ':' || at != count)) {
        PyErr_Format(PyExc_TypeError, "%s() got the wrong number of arguments: %zd", strchr(format, ':') + 1, count);
        good = 0;
    }
    while (!good && many)
        Py_CLEAR(*made[--many]);
    return good;
}

int to_word(PyObject *arg, void *out)
{
    unsigned long *word = out;
    if (arg == Py_None) {
        *word = 0;
        return 1;
    }
    if (PyBytes_Check(arg)) {
        *word = (unsigned long)PyBytes_AsString(arg);
        return 1;
    }
    *word = PyLong_AsUnsignedLongMask(arg);
    return !(*word == (unsigned long)-1 && PyErr_Occurred());
}

static int add_ops(PyObject *module)
{
#define OP_NAME(name, args) #name,
    static const char *const names[] = {OP_TABLE(OP_NAME)};
#undef OP_NAME
    PyObject *ops = PyTuple_New(OP_COUNT);
    for (int i = 0; ops && i < OP_COUNT; i++) {
        PyObject *name = PyUnicode_FromString(names[i]);
        if (!name || PyTuple_SetItem(ops, i, name)) {
            Py_CLEAR(ops);
            return -1;
        }
    }
    int result = ops ? PyObject_SetAttrString(module, "OPS", ops) : -1;
    Py_XDECREF(ops);
    return result;
}

static int fill(PyObject *module)
{
    PyMethodDef *const tables[] = {calls_mount, calls_file, calls_process, calls_bpf, calls_finish, calls_spawn, calls_procfs, calls_json, calls_schema, calls_calls, calls_mountinfo};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (PyModule_AddFunctions(module, tables[i]))
            return -1;
    if (PyModule_AddIntConstant(module, "RECORD_SIZE", sizeof(struct record)))
        return -1;
    if (PyModule_AddIntConstant(module, "FIRST", FIRST_MADE) || PyModule_AddIntConstant(module, "SECOND", FIRST_MADE - 1))
        return -1;
    if (PyModule_AddStringConstant(module, "RECORD_FORMAT", "=cBHii16s"))
        return -1;
    PyObject *errors = PyImport_ImportModule("pyrunc.errors");
    if (!errors)
        return -1;
    call_error = PyObject_GetAttrString(errors, "CallError");
    Py_DECREF(errors);
    return call_error && !add_stat(module) ? add_ops(module) : -1;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, fill}, {0, NULL}};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pyrunc.linux._syscalls",
    .m_doc = "System calls that Python lacks; policy-free. Errors are pyrunc.errors.CallError.",
    .m_size = 0,
    .m_slots = slots,
};

PyMODINIT_FUNC PyInit__syscalls(void)
{
    return PyModuleDef_Init(&definition);
}
