/* Turns a tuple of tuples into the operations of ops.h, in memory that does not belong to the interpreter, and runs them.
 * The memory consists of anonymous mappings rather than malloc's: spawn() passes it to a child whose heap is empty
 * (spawn.c). */
#include "syscalls.h"

#include <string.h>
#include <sys/mman.h>

static const struct {
    const char *name, *args;
} table[] = {
#define OP_ROW(name, args) {#name, args},
    OP_TABLE(OP_ROW)
#undef OP_ROW
};

#define UNIT 16       /* alignment, as malloc's */
#define BLOCK 65536   /* one is enough for nearly all plans */
#define INSTRUCTION 8 /* bytes of a struct sock_filter */

void *plan_alloc(struct plan *plan, size_t size)
{
    size = (size + UNIT - 1) & ~(size_t)(UNIT - 1);
    struct block *block = plan->blocks;
    if (!block || block->size - block->used < size) {
        size_t head = (sizeof *block + UNIT - 1) & ~(size_t)(UNIT - 1);
        size_t total = (head + size + BLOCK - 1) & ~(size_t)(BLOCK - 1);
        block = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (block == MAP_FAILED) {
            PyErr_NoMemory();
            return NULL;
        }
        block->next = plan->blocks;
        block->size = total;
        block->used = head;
        plan->blocks = block;
    }
    void *result = (char *)block + block->used;
    block->used += size;
    return result;
}

void plan_free(struct plan *plan)
{
    for (struct block *block = plan->blocks, *next; block; block = next) {
        next = block->next;
        munmap(block, block->size);
    }
    plan->blocks = NULL;
}

static char *copy(struct plan *plan, const char *from, size_t size)
{
    char *to = plan_alloc(plan, size + 1);
    if (to) {
        memcpy(to, from, size);
        to[size] = 0;
    }
    return to;
}

/* bytes, str or PathLike without NUL, as a C string. */
static char *copy_string(struct plan *plan, PyObject *value, size_t *size)
{
    PyObject *encoded;
    if (!PyUnicode_FSConverter(value, &encoded))
        return NULL;
    *size = (size_t)PyBytes_Size(encoded);
    char *text = copy(plan, PyBytes_AsString(encoded), *size);
    Py_DECREF(encoded);
    return text;
}

char **plan_strings(struct plan *plan, PyObject *sequence)
{
    Py_ssize_t n = PySequence_Size(sequence);
    size_t size;
    char **out = n < 0 ? NULL : plan_alloc(plan, ((size_t)n + 1) * sizeof *out);
    for (Py_ssize_t i = 0; out && i < n; i++) {
        PyObject *item = PySequence_GetItem(sequence, i);
        out[i] = item ? copy_string(plan, item, &size) : NULL;
        Py_XDECREF(item);
        if (!out[i])
            return NULL;
    }
    if (out)
        out[n] = NULL;
    return out;
}

static int parse_argument(struct plan *plan, struct op *op, char kind, PyObject *value, int at[3])
{
    char *data;
    Py_ssize_t size;
    switch (kind) {
    case 'i':
        op->n[at[0]] = PyLong_AsLongLong(value);
        return op->n[at[0]++] == -1 && PyErr_Occurred() ? -1 : 0;
    case 'v':
        op->v[at[2]] = plan_strings(plan, value);
        return op->v[at[2]++] ? 0 : -1;
    case 'S':
    case 'B':
        if (value == Py_None) {
            at[1]++;
            return 0;
        }
        break;
    }
    if (kind == 's' || kind == 'S') {
        op->s[at[1]] = copy_string(plan, value, &op->len[at[1]]);
        return op->s[at[1]++] ? 0 : -1;
    }
    if (PyBytes_AsStringAndSize(value, &data, &size))
        return -1;
    op->len[at[1]] = (size_t)size;
    op->s[at[1]] = copy(plan, data, (size_t)size);
    return op->s[at[1]++] ? 0 : -1;
}

static int parse_op(struct plan *plan, struct op *op, PyObject *item)
{
    int at[3] = {0}; /* the next integer, string and list */
    if (item == Py_None) { /* a row of the timetable with nothing to do */
        op->code = OP_COUNT;
        return 0;
    }
    if (!PyTuple_Check(item) || PyTuple_Size(item) < 1 || !PyUnicode_Check(PyTuple_GetItem(item, 0))) {
        PyErr_SetString(PyExc_TypeError, "an operation is None or a tuple that begins with its name");
        return -1;
    }
    PyObject *name = PyTuple_GetItem(item, 0);
    const char *text = PyUnicode_AsUTF8AndSize(name, NULL); /* made once and kept: comparing the str with each name takes longer */
    if (!text)
        return -1;
    for (op->code = 0; op->code < OP_COUNT; op->code++)
        if (!strcmp(text, table[op->code].name))
            break;
    if (op->code == OP_COUNT) {
        PyErr_Format(PyExc_ValueError, "no such operation: %R", name);
        return -1;
    }
    const char *args = table[op->code].args;
    if ((size_t)PyTuple_Size(item) != strlen(args) + 1) {
        PyErr_Format(PyExc_TypeError, "%U takes %d arguments", name, (int)strlen(args));
        return -1;
    }
    for (Py_ssize_t i = 0; args[i]; i++)
        if (parse_argument(plan, op, args[i], PyTuple_GetItem(item, i + 1), at))
            return -1;
    return 0;
}

/* An ascending array without 0, 1 and 2 */
static int are_descriptors(const int *fds, size_t size)
{
    int last = 2;
    for (size_t i = 0; i < size / sizeof *fds; last = fds[i++])
        if (fds[i] <= last)
            return 0;
    return size % sizeof *fds == 0;
}

static const char *check_op(const struct op *op)
{
    if (op->code == OP_FILTER && (op->len[0] % INSTRUCTION || op->len[0] == 0 || op->len[0] / INSTRUCTION > UINT16_MAX))
        return "FILTER: not a BPF program";
    if (op->code == OP_IDS && op->len[0] % sizeof(uint32_t))
        return "IDS: groups are an array of uint32";
    if (op->code == OP_IDS && (op->n[0] < 0 || op->n[0] > UINT32_MAX || op->n[1] < 0 || op->n[1] > UINT32_MAX))
        return "IDS: not an id";
    if (op->code == OP_EXEC && !op->v[0][0])
        return "EXEC: argv is empty";
    if (op->code == OP_CLOSE && !are_descriptors((const int *)op->s[0], op->len[0]))
        return "CLOSE: descriptors are an ascending array of int32, from 3 on";
    if (op->code == OP_MEMPOLICY && op->len[0] * 8 + 1 < (size_t)op->n[1])
        return "MEMPOLICY: maxnode is larger than the mask";
    return NULL;
}

int plan_parse(struct plan *plan, PyObject *ops)
{
    Py_ssize_t count = PySequence_Size(ops);
    if (count < 0)
        return -1;
    plan->ops = plan_alloc(plan, (size_t)count * sizeof *plan->ops + 1);
    if (!plan->ops)
        return -1;
    memset(plan->ops, 0, (size_t)count * sizeof *plan->ops);
    plan->count = (size_t)count;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PySequence_GetItem(ops, i);
        int failed = !item || parse_op(plan, &plan->ops[i], item);
        Py_XDECREF(item);
        if (failed)
            return -1;
        const char *wrong = check_op(&plan->ops[i]);
        if (wrong) {
            PyErr_SetString(PyExc_ValueError, wrong);
            return -1;
        }
    }
    return 0;
}

static PyObject *py_finish(PyObject *Py_UNUSED(self), PyObject *args, PyObject *keywords)
{
    static char *names[] = {"ops", "status_fd", "result_fd", NULL};
    PyObject *ops;
    int status_fd, result_fd = -1;
    struct plan plan = {0};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "Oi|i:finish", names, &ops, &status_fd, &result_fd))
        return NULL;
    if (!plan_parse(&plan, ops)) {
        ops_run(&plan, status_fd, result_fd);
        Py_INCREF(Py_None);
        ops = Py_None;
    } else {
        ops = NULL;
    }
    plan_free(&plan);
    return ops;
}

PyMethodDef calls_finish[] = {
    {"finish", (PyCFunction)(void (*)(void))py_finish, METH_VARARGS | METH_KEYWORDS,
     "finish(ops, status_fd, result_fd=-1): carries the operations out; returns only if they do not end in EXEC"},
    {NULL, NULL, 0, NULL},
};
