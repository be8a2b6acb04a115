/* Whether a document needs a closer look. This is not a system call, but walking over a config and the schema's table was a twelfth of the
 * interpreter's work in create. The rules are data (oci/schema_table.py has their form); how a document is normalised, and what is
 * reported about one that breaks a rule, is decided in Python (oci/normalise.py, oci/validate.py). */
#include "syscalls.h"

/* All functions: 1, 0, or -1 with an exception set. `rule` is a tuple, and the first character of its kind is enough. */

static Py_UCS4 kind_of(PyObject *rule)
{
    return PyUnicode_ReadChar(PyTuple_GetItem(rule, 0), 0);
}

static int is_in_range(PyObject *value, PyObject *low, PyObject *high)
{
    if (!PyLong_CheckExact(value))
        return 0;
    int result = low == Py_None ? 1 : PyObject_RichCompareBool(value, low, Py_GE);
    return result == 1 && high ? PyObject_RichCompareBool(value, high, Py_LE) : result;
}

/* Like validate.matches: each unit (characters, least, most or None, whether these are excluded) takes as many as it can. */
static int is_of_form(PyObject *value, PyObject *units)
{
    if (!PyUnicode_CheckExact(value))
        return 0;
    Py_ssize_t at = 0, end = PyUnicode_GetLength(value);
    for (Py_ssize_t i = 0; i < PyTuple_Size(units); i++) {
        PyObject *unit = PyTuple_GetItem(units, i), *set = PyTuple_GetItem(unit, 0), *limit = PyTuple_GetItem(unit, 2);
        Py_ssize_t least = PyLong_AsSsize_t(PyTuple_GetItem(unit, 1)), start = at;
        Py_ssize_t most = limit == Py_None ? end : PyLong_AsSsize_t(limit);
        int excluded = PyTuple_GetItem(unit, 3) == Py_True;
        while (at < end && at - start < most) {
            Py_ssize_t found = PyUnicode_FindChar(set, PyUnicode_ReadChar(value, at), 0, PyUnicode_GetLength(set), 1);
            if (found == -2)
                return -1;
            if ((found >= 0) == excluded)
                break;
            at++;
        }
        if (at - start < least)
            return 0;
    }
    return at == end;
}

static int conforms(PyObject *value, PyObject *rule);

static int has_all(PyObject *object, PyObject *required)
{
    for (Py_ssize_t i = 0; i < PyTuple_Size(required); i++) {
        int found = PyDict_Contains(object, PyTuple_GetItem(required, i));
        if (found != 1)
            return found;
    }
    return 1;
}

/* A key that the table does not list: fine in a free map unless it is empty, and elsewhere it may be one in the wrong case. */
static int is_plain_key(PyObject *key, PyObject *properties, PyObject *rest)
{
    if (rest == Py_None)
        return PyDict_Size(properties) == 0;
    return PyUnicode_GetLength(key) > 0 && PyUnicode_ReadChar(key, 0) != '\n';
}

static int is_object(PyObject *value, PyObject *rule)
{
    if (!PyDict_CheckExact(value))
        return 0;
    PyObject *properties = PyTuple_GetItem(rule, 2), *rest = PyTuple_GetItem(rule, 3), *key, *member;
    int result = has_all(value, PyTuple_GetItem(rule, 1));
    for (Py_ssize_t at = 0; result == 1 && PyDict_Next(value, &at, &key, &member);) {
        if (!PyUnicode_CheckExact(key))
            return 0;
        PyObject *below = PyDict_GetItemWithError(properties, key);
        if (!below && PyErr_Occurred())
            return -1;
        if (!below) {
            if (!is_plain_key(key, properties, rest))
                return 0;
            if (rest == Py_None)
                continue;
            below = rest;
        } else if (member == Py_None || (PyList_CheckExact(member) && PyList_Size(member) == 0))
            return 0; /* may count as absent */
        result = conforms(member, below);
    }
    return result;
}

static int is_list(PyObject *value, PyObject *rule)
{
    if (!PyList_CheckExact(value) || PyList_Size(value) < PyLong_AsSsize_t(PyTuple_GetItem(rule, 2)))
        return 0;
    PyObject *below = PyTuple_GetItem(rule, 1);
    int result = 1;
    for (Py_ssize_t i = 0; result == 1 && i < PyList_Size(value); i++)
        result = conforms(PyList_GetItem(value, i), below);
    return result;
}

static int conforms(PyObject *value, PyObject *rule)
{
    switch (kind_of(rule)) {
    case 's':
        return PyUnicode_CheckExact(value);
    case 'b':
        return PyBool_Check(value);
    case 'i':
        return is_in_range(value, PyTuple_GetItem(rule, 1), PyTuple_GetItem(rule, 2));
    case 'n':
        return is_in_range(value, PyTuple_GetItem(rule, 1), NULL);
    case 'e':
        return PyUnicode_CheckExact(value) ? PySequence_Contains(PyTuple_GetItem(rule, 1), value) : 0;
    case 'p':
        return is_of_form(value, PyTuple_GetItem(rule, 2));
    case 'o':
        return is_object(value, rule);
    case 'a':
        return is_list(value, rule);
    case 'x':
        return 1;
    }
    return 0;
}

static PyObject *py_conforms(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *document, *rule;
    if (!PyArg_ParseTuple(args, "OO!:conforms", &document, &PyTuple_Type, &rule))
        return NULL;
    int result = conforms(document, rule);
    return result < 0 ? NULL : PyBool_FromLong(result);
}

PyMethodDef calls_schema[] = {
    {"conforms", py_conforms, METH_VARARGS,
     "conforms(document, rule): whether every value fits the table's rule, and no key or value is of the kinds that normalising changes or refuses"},
    {NULL, NULL, 0, NULL},
};
