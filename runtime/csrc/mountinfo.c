/* Splits a mount table (proc_pid_mountinfo(5)), which has a line for each mount and each cgroup hierarchy of the host. Python takes ten times
 * as long for it. */
#include "syscalls.h"

#include <string.h>

enum { DEVICE = 2, ROOT, POINT, FIELDS }; /* of the part before " - " */

struct span {
    const char *at;
    size_t size;
};

/* Takes the text up to the next blank, or to the end, from `rest`. Its `at` is NULL if there is none. */
static struct span take_field(struct span *rest)
{
    struct span found = *rest;
    const char *blank = rest->at ? memchr(rest->at, ' ', rest->size) : NULL;
    if (blank)
        found.size = (size_t)(blank - found.at);
    rest->at = blank ? blank + 1 : NULL;
    rest->size = blank ? rest->size - found.size - 1 : 0;
    return found;
}

static PyObject *decoded(struct span text)
{
    return PyUnicode_DecodeUTF8(text.at, (Py_ssize_t)text.size, "surrogateescape");
}

static int is_octal(const char *at)
{
    return at[0] >= '0' && at[0] <= '3' && at[1] >= '0' && at[1] <= '7' && at[2] >= '0' && at[2] <= '7';
}

/* A path, in which the kernel writes blank, tab, line break and backslash in octal. */
static PyObject *decoded_path(struct span text)
{
    if (!memchr(text.at, '\\', text.size))
        return decoded(text);
    char *plain = PyMem_Malloc(text.size);
    if (!plain)
        return PyErr_NoMemory();
    struct span made = {plain, 0};
    for (size_t i = 0; i < text.size; i++) {
        plain[made.size] = text.at[i];
        if (text.at[i] == '\\' && text.size - i > 3 && is_octal(text.at + i + 1)) {
            plain[made.size] = (char)((text.at[i + 1] - '0') * 64 + (text.at[i + 2] - '0') * 8 + text.at[i + 3] - '0');
            i += 3;
        }
        made.size++;
    }
    PyObject *result = decoded(made);
    PyMem_Free(plain);
    return result;
}

/* The tuple of a line: `head` is what comes before " - ", `tail` what comes after it. */
static PyObject *row(struct span head, struct span tail)
{
    struct span fields[FIELDS];
    for (int i = 0; i < FIELDS; i++)
        fields[i] = take_field(&head);
    struct span kind = take_field(&tail), source = take_field(&tail);
    if (!fields[POINT].at || !source.at || !tail.at) {
        PyErr_SetString(PyExc_ValueError, "not a line of a mount table");
        return NULL;
    }
    PyObject *items[] = {decoded(fields[DEVICE]), decoded_path(fields[ROOT]), decoded_path(fields[POINT]), decoded(kind), decoded(tail)};
    PyObject *made = PyTuple_New(sizeof items / sizeof *items);
    for (size_t i = 0; i < sizeof items / sizeof *items; i++) {
        if (made && items[i])
            PyTuple_SetItem(made, (Py_ssize_t)i, items[i]);
        else {
            Py_XDECREF(items[i]);
            Py_CLEAR(made);
        }
    }
    return made;
}

static PyObject *py_mount_table(PyObject *Py_UNUSED(self), PyObject *const *args, Py_ssize_t count)
{
    PyObject *text, *wanted, *rows;
    if (!take_arguments(args, count, "O&O&:mount_table", to_path, &text, to_path, &wanted))
        return NULL;
    const char *line = PyBytes_AsString(text), *stop = line + PyBytes_Size(text), *type = PyBytes_AsString(wanted);
    size_t size = (size_t)PyBytes_Size(wanted);
    rows = PyList_New(0);
    for (const char *end; rows && line < stop; line = end + 1) {
        end = memchr(line, '\n', (size_t)(stop - line));
        end = end ? end : stop;
        const char *dash = memmem(line, (size_t)(end - line), " - ", 3);
        if (!dash || (size_t)(end - dash - 3) < size || memcmp(dash + 3, type, size))
            continue;
        PyObject *made = row((struct span){line, (size_t)(dash - line)}, (struct span){dash + 3, (size_t)(end - dash - 3)});
        if (!made || PyList_Append(rows, made))
            Py_CLEAR(rows);
        Py_XDECREF(made);
    }
    Py_DECREF(text);
    Py_DECREF(wanted);
    return rows;
}

PyMethodDef calls_mountinfo[] = {
    {"mount_table", (PyCFunction)(void (*)(void))py_mount_table, METH_FASTCALL,
     "mount_table(text, wanted) -> [(device, root, mount point, type, options of the file system)] of the lines whose type begins with `wanted`"},
    {NULL, NULL, 0, NULL},
};
