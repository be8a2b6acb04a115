/* Writes JSON. This is not a system call, but create spent most of its interpreter time on it: the encoder of `_json`
 * creates a str for each token and joins them, and the state is written six times. Here the bytes are appended to one
 * buffer, in UTF-8. */
#include "syscalls.h"

#include <stdint.h>
#include <string.h>

enum { FIRST = 4096 }; /* bytes: most documents fit */
enum { DEEP = 200 }; /* levels of nesting; documents that are read have at most 128 */

struct text {
    char *start;
    size_t size, room;
};

/* 1: written. 0: left to Python (a lone surrogate, a float, a key that is not a str, too deep). -1: an exception is set. */
static int write_value(struct text *out, PyObject *value, int depth, const char *between);

static int grow(struct text *out, size_t size)
{
    size_t room = out->room + out->room / 2 + size;
    char *start = PyMem_Realloc(out->start, room);
    if (!start) {
        PyErr_NoMemory();
        return 0;
    }
    out->start = start;
    out->room = room;
    return 1;
}

/* Where `size` bytes can be written, or NULL. */
static inline char *more(struct text *out, size_t size)
{
    return out->room - out->size >= size || grow(out, size) ? out->start + out->size : NULL;
}

static inline int put(struct text *out, const char *data, size_t size)
{
    char *at = more(out, size);
    if (!at)
        return -1;
    memcpy(at, data, size);
    out->size += size;
    return 1;
}

#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

/* Whether eight bytes can be written unchanged: no control character, no `"`, no `\`. May also be 0 for other bytes that follow one of these. */
static inline int is_plain_word(uint64_t word)
{
    uint64_t quote = word ^ EACH('"'), slash = word ^ EACH('\\');
    return !((((word - EACH(' ')) & ~word) | ((quote - EACH(1)) & ~quote) | ((slash - EACH(1)) & ~slash)) & EACH(0x80));
}

static inline uint64_t word_at(const char *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return word;
}

/* The same for a whole string: eight bytes at a time; the last two blocks may overlap. A short one is padded with blanks. */
static int is_plain(const char *text, size_t size)
{
    if (size < sizeof(uint64_t)) {
        uint64_t word = EACH(' ');
        memcpy(&word, text, size);
        return is_plain_word(word);
    }
    for (size_t i = 0; i + sizeof(uint64_t) < size; i += sizeof(uint64_t))
        if (!is_plain_word(word_at(text + i)))
            return 0;
    return is_plain_word(word_at(text + size - sizeof(uint64_t)));
}

/* One character in at most six bytes -> where the next one goes. */
static char *escaped(char *at, unsigned char c)
{
    static const char names[] = "btn?fr", digits[] = "0123456789abcdef"; /* \b to \r */
    if (c >= ' ' && c != '"' && c != '\\') {
        *at++ = (char)c;
        return at;
    }
    *at++ = '\\';
    if (c >= ' ')
        *at++ = (char)c;
    else if (c >= '\b' && c <= '\r' && c != '\v')
        *at++ = names[c - '\b'];
    else {
        memcpy(at, "u00", 3);
        at[3] = digits[c >> 4];
        at[4] = digits[c & 15];
        at += 5;
    }
    return at;
}

static int write_string(struct text *out, PyObject *value)
{
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(value, &length);
    if (!text) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
            return -1;
        PyErr_Clear();
        return 0;
    }
    size_t size = (size_t)length;
    char *at = more(out, 6 * size + 2), *start = at;
    if (!at)
        return -1;
    *at++ = '"';
    if (is_plain(text, size)) {
        memcpy(at, text, size);
        at += size;
    } else
        for (size_t i = 0; i < size; i++)
            at = escaped(at, (unsigned char)text[i]);
    *at++ = '"';
    out->size += (size_t)(at - start);
    return 1;
}

static int write_number(struct text *out, PyObject *value)
{
    char digits[24], *at = digits + sizeof digits;
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (number == -1 && PyErr_Occurred())
        return -1;
    unsigned long long rest = number < 0 ? 0 - (unsigned long long)number : (unsigned long long)number;
    if (overflow) { /* up to 2^64 - 1, which some documents have for "no limit" */
        if (overflow < 0)
            return 0;
        rest = PyLong_AsUnsignedLongLong(value);
        if (PyErr_Occurred()) {
            PyErr_Clear();
            return 0;
        }
        number = 0;
    }
    do
        *--at = (char)('0' + rest % 10);
    while (rest /= 10);
    if (number < 0)
        *--at = '-';
    return put(out, at, (size_t)(digits + sizeof digits - at));
}

static int write_object(struct text *out, PyObject *value, int depth, const char *between)
{
    PyObject *key, *item;
    Py_ssize_t at = 0;
    int done = put(out, "{", 1), first = 1;
    while (done > 0 && PyDict_Next(value, &at, &key, &item)) {
        if (!PyUnicode_CheckExact(key))
            return 0;
        if (!first)
            done = put(out, between, strlen(between));
        first = 0;
        if (done > 0)
            done = write_string(out, key);
        if (done > 0)
            done = put(out, ":", 1);
        if (done > 0)
            done = write_value(out, item, depth, ",");
    }
    return done > 0 ? put(out, "}", 1) : done;
}

static int write_list(struct text *out, PyObject *value, int depth)
{
    int list = PyList_CheckExact(value), done = put(out, "[", 1);
    Py_ssize_t count = list ? PyList_Size(value) : PyTuple_Size(value);
    for (Py_ssize_t i = 0; done > 0 && i < count; i++) {
        if (i)
            done = put(out, ",", 1);
        if (done > 0)
            done = write_value(out, list ? PyList_GetItem(value, i) : PyTuple_GetItem(value, i), depth, ",");
    }
    return done > 0 ? put(out, "]", 1) : done;
}

static int write_value(struct text *out, PyObject *value, int depth, const char *between)
{
    if (PyUnicode_CheckExact(value))
        return write_string(out, value);
    if (PyLong_CheckExact(value))
        return write_number(out, value);
    if (value == Py_None)
        return put(out, "null", 4);
    if (value == Py_True)
        return put(out, "true", 4);
    if (value == Py_False)
        return put(out, "false", 5);
    if (depth >= DEEP)
        return 0;
    if (PyDict_CheckExact(value))
        return write_object(out, value, depth + 1, between);
    if (PyList_CheckExact(value) || PyTuple_CheckExact(value))
        return write_list(out, value, depth + 1);
    return 0;
}

static PyObject *py_json(PyObject *Py_UNUSED(self), PyObject *args)
{
    PyObject *value, *result = NULL;
    const char *between;
    if (!PyArg_ParseTuple(args, "Os:json", &value, &between))
        return NULL;
    struct text out = {PyMem_Malloc(FIRST), 0, FIRST};
    if (!out.start)
        return PyErr_NoMemory();
    int done = write_value(&out, value, 0, between);
    if (done > 0)
        result = PyBytes_FromStringAndSize(out.start, (Py_ssize_t)out.size);
    else if (!done)
        result = Py_NewRef(Py_None);
    PyMem_Free(out.start);
    return result;
}

PyMethodDef calls_json[] = {
    {"json", py_json, METH_VARARGS,
     "json(value, between) -> UTF-8, `between` standing between the members of the outermost object; None: left to Python"},
    {NULL, NULL, 0, NULL},
};
