/* The compiled launcher: an interpreter that knows no file system.
 *
 * libpython and the whole package, as byte code, are in this executable; importers are those of built-in and frozen modules
 * only, so neither a directory nor a variable of the environment can add code. Before the interpreter starts, commands
 * whose row in cli.py says so are sealed (sealing.c): one start, not two. Linked statically nothing else of the host is
 * mapped either, and a container that gets hold of /proc/PID/map_files finds this file alone.
 *
 * Third-party packages and the slow half of the standard library run in the helper process (helper_process.py), by /usr/bin/python3. */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sealing.h"
#include "snapshot.h"

__asm__(".section .rodata\n.balign 16\nfrozen_code:\n.incbin \"" FROZEN_BIN "\"\n.byte 0\n.previous\n");
extern const unsigned char frozen_code[];
#include "frozen.h"

#define SELF "/proc/self/exe"
#define TRAINING (4 << 20)

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

/* A closed one would become the next file that is opened. */
static void fix_standard(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            die("cannot open /dev/null");
}

/* ---- where we are: an absolute path, with the links by which we were called, that is proven to lead to this file */

static char *absolute(const char *folder, size_t size, const char *name)
{
    static char cwd[4096];
    char *path;
    if (folder && (size == 0 || folder[0] != '/'))
        folder = NULL; /* an empty or relative element of PATH: not worth the trouble, the real path will do */
    else if (folder)
        return asprintf(&path, "%.*s/%s", (int)size, folder, name) < 0 ? NULL : path;
    if (name[0] == '/')
        return strdup(name);
    if (!getcwd(cwd, sizeof cwd) || cwd[0] != '/')
        return NULL;
    return asprintf(&path, "%s/%s", cwd, name) < 0 ? NULL : path;
}

static int is_us(const char *path)
{
    struct stat here, there;
    return path && !stat(SELF, &here) && !stat(path, &there) && here.st_dev == there.st_dev && here.st_ino == there.st_ino;
}

static char *search(const char *name)
{
    const char *path = getenv("PATH");
    while (path && *path) {
        size_t n = strcspn(path, ":");
        char *candidate = absolute(path, n, name);
        if (is_us(candidate))
            return candidate;
        free(candidate);
        path += n + (path[n] == ':');
    }
    return NULL;
}

/* argv[0] is the caller's word, and Go programs put any name there. When it does not lead here, the kernel's answer counts,
 * except for a sealed copy, which has no path: it was started by us, with the path we had found. */
static char *where(const char *name)
{
    static char real[4096];
    char *found = name && strchr(name, '/') ? absolute(NULL, 0, name) : name ? search(name) : NULL;
    if (is_us(found))
        return found;
    ssize_t n = readlink(SELF, real, sizeof real - 1);
    real[n > 0 ? n : 0] = 0;
    if (is_us(real))
        return real;
    return found ? found : real;
}

/* ---- the interpreter */

static void start_python(void)
{
    PyPreConfig before;
    PyConfig config;
    PyPreConfig_InitIsolatedConfig(&before);
    before.utf8_mode = 1; /* whatever the locale says: paths are bytes with surrogateescape */
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
    config.use_hash_seed = 1; /* the same executable from the same sources */
    config.hash_seed = 20131231;
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

static void after_core(void)
{
}
#else

/* What the main half of the initialisation would have done and the package relies on. Without the registry every error
 * handler that is looked up by name would be a null pointer; it imports `encodings`, which is frozen/encodings.py. */
static void after_core(void)
{
    extern PyStatus _PyCodec_InitRegistry(PyInterpreterState *);
    PyStatus status = _PyCodec_InitRegistry(PyInterpreterState_Get());
    if (PyStatus_Exception(status))
        die("python: %s", status.err_msg);
    /* KeyboardInterrupt for SIGINT; a pipe without a reader is an error, not a death */
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

/* sys as the package expects it. Nothing prints through Python's streams. */
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

/* Commands are short, and what they make lives until their end: looking for cycles after every 2000 objects is lost time. */
static void set_up_collector(void)
{
    PyObject *module = PyImport_ImportModule("gc");
    must(module);
    must(PyObject_CallMethod(module, "set_threshold", "i", 50000));
}

#ifdef PYRUNC_SNAPSHOT
/* ---- an interpreter that has been started before, see snapshot.c */

/* Standard input has byte code that makes the interpreter ready for what commands do, see train.py; empty: nothing. */
static void train(void)
{
    PyObject *marshal = PyImport_ImportModule("marshal"), *name = PyUnicode_FromString("__main__"), *names = PyDict_New();
    size_t used = 0;
    ssize_t n;
    char *code = mmap(NULL, TRAINING, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); /* the heap would keep its place */
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

/* Where the kernel puts the stack by chance, or the C library its thread, comparisons of their addresses are practised by chance; and
 * which signals are ignored is a matter of who builds. Where this is refused the executable is as good, but not the same one. */
static void at_fixed_addresses(void)
{
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    int now = personality(0xffffffff);
    if (now < 0 || now & ADDR_NO_RANDOMIZE || personality((unsigned long)now | ADDR_NO_RANDOMIZE) < 0)
        return;
    char *const no_words[] = {"cold", NULL}, *const no_variables[] = {NULL};
    execve(SELF, no_words, no_variables);
}

static _Noreturn void write_snapshot(void)
{
    must(PyImport_ImportModule("gc"));
    for (const struct _frozen *row = frozen_modules; row->name; row++) {
        PyObject *module = PyImport_ImportModule(row->name);
        if (!module)
            PyErr_Print();
        must(module);
        Py_DECREF(module);
    }
    snapshot_prepare();
    train();
    PyObject *module = PyImport_ImportModule("gc");
    must(PyObject_CallMethod(module, "collect", NULL));
    must(PyObject_CallMethod(module, "freeze", NULL));
    snapshot_write(1);
}

/* posix.environ is made when posix is imported. */
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
        must(PyDict_SetDefault(variables, name, value)); /* the first one counts, as in getenv(3) */
    }
}

/* What an interpreter finds out at its start: the signals that the caller ignores stay ignored. */
static void set_up_signals(void)
{
    PyObject *module = PyImport_ImportModule("_signal");
    must(module);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* EFBIG then, which can be undone and told */
    for (int number = 1; number < 32; number++) { /* realtime ones are nobody's business here */
        struct sigaction now;
        if (number == SIGPIPE || number == SIGXFSZ || sigaction(number, NULL, &now))
            continue;
        if (now.sa_handler == SIG_IGN)
            must(PyObject_CallMethod(module, "signal", "ii", number, 1));
        else if (number == SIGINT)
            must(PyObject_CallMethod(module, "signal", "iN", number, PyObject_GetAttrString(module, "default_int_handler")));
    }
}

static void begin(void)
{
    if (!snapshot_is_here()) {
        at_fixed_addresses();
        snapshot_begin();
        start_python();
        after_core();
        set_up_collector();
        write_snapshot();
    }
    snapshot_resume();
    set_up_environ();
    set_up_signals();
}
#else
static void begin(void)
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
        if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) /* it came before main() listened, or while it ended */
            _exit(128 + SIGINT);
        PyObject *type, *value, *trace;
        PyErr_Fetch(&type, &value, &trace);
        PyObject *text = value ? PyObject_Str(value) : NULL;
        const char *words_of_it = text ? PyUnicode_AsUTF8(text) : NULL;
        die("internal error: %s", words_of_it ? words_of_it : "no reason known");
    }
    return (int)code;
}

int main(int argc, char **argv)
{
    fix_standard();
    if (argc < 1)
        die("called without a name");
    argv[0] = where(argv[0]);
    if (!early_is_sealed && is_sealed_command(argc, argv))
        seal_self(argv, environ);
    begin();
    PyObject *words = arguments(argc, argv);
    set_up_sys(words);
    _exit(call_main(words));
}
