/* Shared by the files of the extension. Rule for all of them: arguments are passed to the kernel unchanged, and its result or a CallError
 * is returned; no default flags, no fallback, no retry. */
#ifndef PYRUNC_SYSCALLS_H
#define PYRUNC_SYSCALLS_H

#define _GNU_SOURCE
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030b0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#if PY_VERSION_HEX >= 0x030d0000
/* Headers since 3.13 use the old names of these functions. Under those, 3.11 and 3.12 read "#" as int: there, PY_SSIZE_T_CLEAN selects the
 * names below, which remain in the stable ABI. */
PyAPI_FUNC(int) _PyArg_ParseTuple_SizeT(PyObject *, const char *, ...);
PyAPI_FUNC(PyObject *) _Py_BuildValue_SizeT(const char *, ...);
#define PyArg_ParseTuple _PyArg_ParseTuple_SizeT
#define Py_BuildValue _Py_BuildValue_SizeT
#endif

#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "numbers.h"
#include "ops.h"

/* Raises errors.CallError(errno, text, path, call); returns NULL. errno must still be the call's. */
PyObject *call_failed(const char *call, PyObject *path);

/* Sets an attribute of the error that is being raised. Takes the reference to `value`; NULL is ignored. */
void add_to_error(const char *name, PyObject *value);

/* None, or `result` as an int; CallError if it is negative. `path` (may be NULL) is named in the error. */
PyObject *done(long result, const char *call, PyObject *path);
PyObject *done_int(long result, const char *call, PyObject *path);

/* O& converters: bytes, str or os.PathLike into a bytes object; the second also takes None and gives NULL. */
int to_path(PyObject *arg, void *out);
int to_path_or_none(PyObject *arg, void *out);
const char *path_text(PyObject *path); /* NULL stays NULL */

/* PyArg_ParseTuple for functions that are called often (METH_FASTCALL), with these formats alone: i I k K O&, and the name after a colon. It
 * takes a fraction of the time, and no tuple has to be made. */
int take_arguments(PyObject *const *args, Py_ssize_t count, const char *format, ...);

/* In a list for calls(): stands for the first descriptor that it has made; one less for the second, … */
#define FIRST_MADE (-1000)

/* O& converter for calls of untyped words: an int, None (0) or bytes (their address). */
int to_word(PyObject *arg, void *out);

/* Copies a sequence of strings into a NULL-terminated array in the plan's memory. NULL with an exception set. */
int plan_parse(struct plan *plan, PyObject *ops);
void plan_free(struct plan *plan);
void *plan_alloc(struct plan *plan, size_t size);
char **plan_strings(struct plan *plan, PyObject *sequence);

/* The type of what fstat() and fstatat() return, and what creates it: -1 with an exception set. The variable is in syscalls.c, because the
 * snapshot has no variables of the other files (snapshot.ld). */
extern PyTypeObject *stat_type;
int add_stat(PyObject *module);

extern PyMethodDef calls_mount[], calls_file[], calls_process[], calls_bpf[], calls_finish[], calls_spawn[], calls_procfs[], calls_json[],
    calls_schema[], calls_calls[], calls_mountinfo[];

#endif
