/* The compiled launcher: an interpreter that imports nothing from a file system.
 *
 * libpython and the whole package, as byte code, are part of this executable. It only has the importers for built-in and frozen modules, so
 * neither a directory nor an environment variable can add code. Commands that are marked as sealed (commands/__init__.py) are sealed before
 * the interpreter starts (sealing.c), so it starts once. If it is linked statically, the process also maps no other file of the host: a
 * container that gets access to /proc/PID/map_files finds only this executable.
 *
 * Third-party packages and the slow half of the standard library run in the helper process (helper_process.py), in /usr/bin/python3. */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <unistd.h>

#include "sealing.h"
#include "snapshot.h"
#include "tuning.h"

__asm__(".section .rodata\n.balign 16\nfrozen_code:\n.incbin \"" FROZEN_BIN "\"\n.byte 0\n.previous\n");
extern const unsigned char frozen_code[];
#include "frozen.h"

#define TRAINING (4 << 20)    /* bytes; train.py with its documents is a twentieth of that */
#define HASH_SEED 20131231    /* any number: the same sources make the same executable */
#define COLLECT_AFTER 50000   /* new objects; no command creates that many, so the collector does not run */
#define ASK_PERSONALITY 0xffffffff /* personality(2) changes nothing then */
#define PYTHON_SIG_IGN 1      /* _signal.SIG_IGN */
#define REALTIME_SIGNALS 32   /* the first one; nothing here treats them specially */

extern char **environ;

static _Noreturn void die(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    fputs("pyrunc: ", stderr);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    _exit(1);
}

/* The next file to be opened would get the number of a closed standard stream. */
static void fix_standard(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            die("cannot open /dev/null");
}

/* ---- our path: absolute, with the symbolic links of the call, and verified to lead to this file */

static char *absolute(const char *folder, size_t size, const char *name)
{
    static char cwd[PATH_MAX];
    char *path;
    if (folder && (size == 0 || folder[0] != '/'))
        folder = NULL; /* an empty or relative element of PATH is ignored; the kernel's path is used then */
    else if (folder)
        return asprintf(&path, "%.*s/%s", (int)size, folder, name) < 0 ? NULL : path;
    if (name[0] == '/')
        return strdup(name);
    if (!getcwd(cwd, sizeof cwd) || cwd[0] != '/')
        return NULL;
    return asprintf(&path, "%s/%s", cwd, name) < 0 ? NULL : path;
}

static char *search(const char *name)
{
    const char *path = getenv("PATH");
    while (path && *path) {
        size_t n = strcspn(path, ":");
        char *candidate = absolute(path, n, name);
        if (early_is_us(candidate))
            return candidate;
        free(candidate);
        path += n + (path[n] == ':');
    }
    return NULL;
}

/* The path that was executed, from the kernel. argv[0] is chosen by the caller, and Go programs put any name there; it is used only if the
 * kernel's path does not lead here: for a sealed copy, which we executed ourselves with the path that we had found. */
static char *where(const char *name)
{
    static char real[PATH_MAX];
    const char *executed = (const char *)getauxval(AT_EXECFN);
    char *first = executed && *executed ? absolute(NULL, 0, executed) : NULL;
    if (early_is_us(first))
        return first;
    char *found = name && strchr(name, '/') ? absolute(NULL, 0, name) : name ? search(name) : NULL;
    if (early_is_us(found))
        return found;
    ssize_t n = readlink(SELF, real, sizeof real - 1);
    real[n > 0 ? n : 0] = 0;
    if (early_is_us(real))
        return real;
    return found ? found : real;
}

/* ---- the interpreter */

static void start_python(void)
{
    PyPreConfig before;
    PyConfig config;
    PyPreConfig_InitIsolatedConfig(&before);
    before.utf8_mode = 1; /* regardless of the locale: paths are bytes with surrogateescape */
    PyStatus status = Py_PreInitialize(&before);
    if (PyStatus_Exception(status))
        die("python: %s", status.err_msg);
    PyImport_FrozenModules = frozen_modules;
    PyConfig_InitIsolatedConfig(&config);
    config.site_import = 0;
    config.write_bytecode = 0;
    config.pathconfig_warnings = 0;
    config.module_search_paths_set = 1;
    config.install_signal_handlers = 1;
#ifdef PYRUNC_SNAPSHOT
    config.use_hash_seed = 1;
    config.hash_seed = HASH_SEED;
#endif
#ifndef PYRUNC_SHARED
    config._init_main = 0; /* no path importer, no standard streams, no codecs package: half of the start-up */
#endif
    status = Py_InitializeFromConfig(&config);
    if (PyStatus_Exception(status))
        die("python: %s", status.err_msg);
}

#ifdef PYRUNC_SHARED
extern PyObject *PyInit__syscalls(void);

static void before_python(void)
{
    if (Py_Version >> 16 != PY_VERSION_HEX >> 16)
        die("built for Python %d.%d, but libpython is %lu.%lu; build it again", PY_MAJOR_VERSION, PY_MINOR_VERSION,
            Py_Version >> 24, Py_Version >> 16 & 255);
    if (PyImport_AppendInittab("pyrunc.linux._syscalls", PyInit__syscalls))
        die("out of memory");
}

static void must(PyObject *object);

/* Debian's Python 3.11 has _json in a file next to its library: that directory is searched for this one module. Its importer finds built-in
 * modules only at the top level, but _syscalls is in a package. */
static void after_core(void)
{
#if PY_VERSION_HEX < 0x030c0000
    PyObject *bootstrap = PyImport_ImportModule("_frozen_importlib");
    must(bootstrap);
    PyObject *importer = PyObject_GetAttrString(bootstrap, "BuiltinImporter");
    must(importer);
    PyObject *spec = PyObject_CallMethod(bootstrap, "ModuleSpec", "sO", "pyrunc.linux._syscalls", importer);
    must(spec);
    must(PyObject_CallMethod(bootstrap, "_load", "O", spec));
#endif
#ifdef PYRUNC_JSON_IN
    PyObject *path = PySys_GetObject("path"), *folder = PyUnicode_FromString(PYRUNC_JSON_IN);
    if (!path || !folder || PyList_Append(path, folder) || !PyImport_ImportModule("_json") || PyList_SetSlice(path, 0, 1, NULL))
        die("no _json in %s; build it again", PYRUNC_JSON_IN);
#endif
}
#else

/* The parts of the skipped half of the initialisation that the package needs. Since 3.13 the codec registry must be created explicitly:
 * without it, each error handler that is looked up by name is a null pointer. It imports `encodings`, which is frozen/encodings.py. */
static void after_core(void)
{
#if PY_VERSION_HEX >= 0x030d0000
    extern PyStatus _PyCodec_InitRegistry(PyInterpreterState *);
    PyStatus status = _PyCodec_InitRegistry(PyInterpreterState_Get());
    if (PyStatus_Exception(status))
        die("python: %s", status.err_msg);
#endif
    /* KeyboardInterrupt for SIGINT; writing to a pipe without a reader fails instead of killing the process */
    extern int _PySignal_Init(int install_signal_handlers);
    if (_PySignal_Init(1))
        die("python: no signal handlers");
}
#endif

static void must(PyObject *object)
{
    if (!object)
        die("the interpreter could not be set up");
}

static PyObject *arguments(int argc, char **argv)
{
    PyObject *list = PyList_New(argc);
    must(list);
    for (int i = 0; i < argc; i++) {
        PyObject *word = PyUnicode_DecodeFSDefault(argv[i]);
        must(word);
        PyList_SetItem(list, i, word);
    }
    return list;
}

/* Sets up sys for the package. Nothing is printed through Python's streams. */
static void set_up_sys(PyObject *argv)
{
    PyObject *path = PyList_New(0), *executable = PyList_GetItem(argv, 0);
    must(path);
    PySys_SetObject("argv", argv);
    PySys_SetObject("path", path);
    PySys_SetObject("path_hooks", PyList_New(0));
    PySys_SetObject("executable", executable);
    PySys_SetObject("pyrunc_is_sealed", early_is_sealed ? Py_True : Py_False);
    PySys_SetObject("stdin", Py_None);
    PySys_SetObject("stdout", Py_None);
    PySys_SetObject("stderr", Py_None);
}

/* Commands are short and keep their objects until they exit: searching for cycles after every 2000 objects is a waste of time. */
static void set_up_collector(void)
{
    PyObject *module = PyImport_ImportModule("gc");
    must(module);
    must(PyObject_CallMethod(module, "set_threshold", "i", COLLECT_AFTER));
}

#ifdef PYRUNC_SNAPSHOT
/* ---- an interpreter that was started in the build, see snapshot.c */

/* Runs the byte code from standard input, which exercises what commands do (train.py). Empty input is allowed. */
static void train(void)
{
    PyObject *marshal = PyImport_ImportModule("marshal"), *name = PyUnicode_FromString("__main__"), *names = PyDict_New();
    size_t used = 0;
    ssize_t n;
    char *code = mmap(NULL, TRAINING, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); /* not the heap, which becomes the snapshot */
    must(marshal && name && names && code != MAP_FAILED ? names : NULL);
    while ((n = read(0, code + used, TRAINING - used)) > 0)
        used += (size_t)n;
    if (used) {
        PyObject *loaded = PyObject_CallMethod(marshal, "loads", "y#", code, (Py_ssize_t)used);
        PyDict_SetItemString(names, "__builtins__", PyEval_GetBuiltins());
        PyDict_SetItemString(names, "__name__", name);
        PyObject *result = loaded ? PyEval_EvalCode(loaded, names, names) : NULL;
        if (!result)
            PyErr_Print();
        must(result);
        PyDict_Clear(names);
        Py_XDECREF(loaded);
        Py_DECREF(result);
    }
    munmap(code, TRAINING);
    Py_DECREF(names);
    Py_DECREF(name);
    Py_DECREF(marshal);
}

/* Makes builds reproducible: the training depends on the random addresses of the stack and of the C library's heap, and the caller decides
 * which signals are ignored. If personality(2) is refused, the executable works as well, but is not identical. */
static void at_fixed_addresses(void)
{
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    int now = personality(ASK_PERSONALITY);
    if (now < 0 || now & ADDR_NO_RANDOMIZE || personality((unsigned long)now | ADDR_NO_RANDOMIZE) < 0)
        return;
    char *const no_words[] = {"cold", NULL}, *const no_variables[] = {NULL};
    execve(SELF, no_words, no_variables);
}

static _Noreturn void write_snapshot(void)
{
    must(PyImport_ImportModule("gc"));
    for (const struct _frozen *row = frozen_modules; row < frozen_modules + FROZEN_AT_ONCE; row++) {
        PyObject *module = PyImport_ImportModule(row->name);
        if (!module)
            PyErr_Print();
        must(module);
        Py_DECREF(module);
    }
    tuning_prepare();
    train();
    PyObject *module = PyImport_ImportModule("gc");
    must(PyObject_CallMethod(module, "collect", NULL));
    must(PyObject_CallMethod(module, "freeze", NULL));
    snapshot_write(1);
}

/* posix.environ was created when posix was imported, in the build. */
static void set_up_environ(void)
{
    PyObject *module = PyImport_ImportModule("posix");
    must(module);
    PyObject *variables = PyObject_GetAttrString(module, "environ");
    must(variables);
    for (char **at = environ; *at; at++) {
        const char *equals = strchr(*at, '=');
        if (!equals)
            continue;
        PyObject *name = PyBytes_FromStringAndSize(*at, equals - *at), *value = PyBytes_FromString(equals + 1);
        must(name);
        must(value);
        must(PyDict_SetDefault(variables, name, value)); /* the first of duplicates is used, as in getenv(3) */
    }
}

/* Does what an interpreter does when it starts: signals that the caller ignores remain ignored. */
static void set_up_signals(void)
{
    PyObject *module = PyImport_ImportModule("_signal");
    must(module);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* write(2) fails with EFBIG instead, which can be reported and undone */
    for (int number = 1; number < REALTIME_SIGNALS; number++) {
        struct sigaction now;
        if (number == SIGPIPE || number == SIGXFSZ || sigaction(number, NULL, &now))
            continue;
        if (now.sa_handler == SIG_IGN)
            must(PyObject_CallMethod(module, "signal", "ii", number, PYTHON_SIG_IGN));
        else if (number == SIGINT)
            must(PyObject_CallMethod(module, "signal", "iN", number, PyObject_GetAttrString(module, "default_int_handler")));
    }
}

static void begin(enum place place)
{
    if (!snapshot_is_here()) {
        at_fixed_addresses();
        snapshot_begin();
        heap_reserve(&code_groups);
        start_python();
        after_core();
        set_up_collector();
        write_snapshot();
    }
    heap_populate(place);
    snapshot_resume();
    set_up_environ();
    set_up_signals();
}
#else
static void begin(enum place Py_UNUSED(place))
{
#ifdef PYRUNC_SHARED
    before_python();
#endif
    start_python();
    after_core();
    set_up_collector();
}
#endif

static int call_main(PyObject *argv)
{
    PyObject *module = PyImport_ImportModule("pyrunc.cli");
    PyObject *words = PyList_GetSlice(argv, 1, PyList_Size(argv));
    PyObject *result = module && words ? PyObject_CallMethod(module, "main", "O", words) : NULL;
    long code = result ? PyLong_AsLong(result) : -1;
    if (!result || (code == -1 && PyErr_Occurred())) {
        if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) /* before main() handles it, or while main() ends */
            _exit(128 + SIGINT);
        PyObject *type, *value, *trace;
        PyErr_Fetch(&type, &value, &trace);
        PyObject *text = value ? PyObject_Str(value) : NULL;
        const char *words_of_it = text ? PyUnicode_AsUTF8(text) : NULL;
        die("internal error: %s", words_of_it ? words_of_it : "no reason known");
    }
    return (int)code;
}

/* Which pages are going to be written to. A sealed command other than exec is create, run or restore. */
static enum place place_of(const char *command)
{
    if (!command || !early_is_sealed)
        return PLACE_OTHERS;
    return strcmp(command, "exec") == 0 ? PLACE_EXEC : PLACE_BEFORE;
}

int main(int argc, char **argv)
{
    fix_standard();
    if (argc < 1)
        die("called without a name");
    argv[0] = where(argv[0]);
    const char *command = command_of(argc, argv);
    if (!early_is_sealed && is_sealed_command(command))
        seal_self(argv, environ);
    begin(place_of(command));
    PyObject *words = arguments(argc, argv);
    set_up_sys(words);
    _exit(call_main(words));
}
