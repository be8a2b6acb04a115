/* The built-in modules of the compiled launcher. This replaces libpython's own list: modules that are not named here are not linked. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#define MODULES(X)                                                                                                     \
    X(posix) X(errno) X(fcntl) X(select) X(time) X(gc) X(_socket) X(_signal) X(_struct) X(_json)  \
    X(_sha2) X(_weakref) X(_thread) X(_codecs) X(_imp)
#define FOR_THE_LIBRARY(X) /* what the frozen modules of the standard library import, see freeze.py */ \
    X(_abc) X(_collections) X(_functools) X(_operator) X(_sre) X(_stat) X(_typing) X(_string) X(itertools) X(_io) X(_datetime)

#define DECLARE(name) extern PyObject *PyInit_##name(void);
MODULES(DECLARE)
FOR_THE_LIBRARY(DECLARE)
extern PyObject *PyMarshal_Init(void);
extern PyObject *_PyWarnings_Init(void);
extern PyObject *PyInit__syscalls(void);
extern PyObject *PyInit__libseccomp(void); /* libseccomp.c, if its archive is linked in */

#define ROW(name) {#name, PyInit_##name},
struct _inittab _PyImport_Inittab[] = {
    MODULES(ROW)
    FOR_THE_LIBRARY(ROW)
    {"marshal", PyMarshal_Init},
    {"_warnings", _PyWarnings_Init},
    {"pyrunc.linux._syscalls", PyInit__syscalls},
#ifdef PYRUNC_LIBSECCOMP
    {"pyrunc.linux._libseccomp", PyInit__libseccomp},
#endif
    {"builtins", NULL},
    {"sys", NULL},
    {NULL, NULL},
};
