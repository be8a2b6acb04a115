/* The interpreter as it is after its start and all imports, written into the executable.
 *
 * A static executable has fixed addresses, so all that the interpreter has built can be written down and is there again when the
 * kernel maps the file: no start of Python, no import, and only pages that are touched are read at all. (Measured: a start costs
 * 3.3 ms and the modules of `create` another 8; resumed it is 0.3 ms.) In the build the executable is run once, and writes a copy of
 * itself with two things changed: the variables of libpython (gathered by snapshot.ld), and a segment for what was allocated.
 *
 * Rule: nothing of the C library is written down. Its variables stay as the linker made them, and it starts afresh; so no memory
 * that it has allocated, no thread-local variable and no descriptor may be part of the snapshot. The interpreter is told that it is
 * the child of a fork, which is what a resumed one comes closest to: new thread, new locks, same heap.
 *
 * Before, the interpreter practises (train.py), so that what a command runs is ready for what it will meet: a tenth less of a small
 * command's time, a twentieth of create's.
 *
 * What the environment of the build has left in there is nothing: it runs without variables and arguments, and with a fixed seed
 * of str hashes (a seed that is part of an executable is no secret; with 64 bits of SipHash it takes more than a long config to make
 * dictionaries slow). Memory of the running process never comes from the snapshot's segment. */
#define Py_BUILD_CORE 1
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#pragma GCC diagnostic ignored "-Wunused-parameter" /* in these headers */
#include "internal/pycore_code.h"
#include "internal/pycore_dict.h"
#include "internal/pycore_opcode_metadata.h"
#include "internal/pycore_pystate.h"
#include "internal/pycore_runtime.h"

#include <opcode.h>

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "heap.h"
#include "snapshot.h"

#define NO_HISTORY 0x5555 /* of a branch: taken every other time, as the compiler assumes it */

extern char snapshot_data[], snapshot_data_end[]; /* snapshot.ld */

static int is_here;
static PyThreadState *thread;

extern PyCodeObject *__real__PyCode_New(struct _PyCodeConstructor *how);

PyCodeObject *__wrap__PyCode_New(struct _PyCodeConstructor *how)
{
    heap_of_code(1);
    PyCodeObject *code = __real__PyCode_New(how);
    heap_of_code(0);
    return code;
}

void snapshot_begin(void)
{
    heap_record();
}

/* ---- names found before the first run. An instruction that loads a global, or an attribute of a module, is replaced after some runs by one
 * that finds it by its place in the dictionary, as long as that has the version it had. A command runs most of its code once. Here
 * everything is in its place already, so the interpreter's own function for it is called for each such instruction: fewer look-ups,
 * and no counter is written to, which would copy a page. */

static void specialise(PyCodeObject *code, PyObject *globals, PyObject *builtins)
{
    _Py_CODEUNIT *all = _PyCode_CODE(code);
    PyObject *module = NULL; /* what the last instruction has left on the stack */
    int before = 0;          /* of EXTENDED_ARG */
    for (Py_ssize_t i = 0; i < Py_SIZE(code);) {
        _Py_CODEUNIT *at = all + i;
        int opcode = _PyOpcode_Deopt[at->op.code], argument = before << 8 | at->op.arg;
        PyObject *left = NULL;
        if (at->op.code == LOAD_GLOBAL) {
            PyObject *name = PyTuple_GET_ITEM(code->co_names, argument >> 1), *value = PyDict_GetItemWithError(globals, name);
            if (value || PyDict_GetItemWithError(builtins, name))
                _Py_Specialize_LoadGlobal(globals, builtins, at, name);
            left = value && PyModule_CheckExact(value) && !(argument & 1) ? value : NULL;
        } else if (at->op.code == LOAD_ATTR && module) {
            PyObject *name = PyTuple_GET_ITEM(code->co_names, argument >> 1);
            if (PyDict_GetItemWithError(PyModule_GetDict(module), name))
                _Py_Specialize_LoadAttr(module, at, name);
        }
        MUST(!PyErr_Occurred());
        if (opcode >= POP_JUMP_IF_FALSE && opcode <= POP_JUMP_IF_TRUE)
            at[1].cache = NO_HISTORY;
        before = opcode == EXTENDED_ARG ? argument : 0;
        module = opcode == EXTENDED_ARG ? module : left;
        i += 1 + _PyOpcode_Caches[opcode];
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(code->co_consts); i++) /* functions that it makes */
        if (PyCode_Check(PyTuple_GET_ITEM(code->co_consts, i)))
            specialise((PyCodeObject *)PyTuple_GET_ITEM(code->co_consts, i), globals, builtins);
}

static int specialise_all(PyObject *object, void *Py_UNUSED(context))
{
    if (PyFunction_Check(object)) {
        PyFunctionObject *function = (PyFunctionObject *)object;
        if (PyDict_CheckExact(function->func_globals) && PyDict_CheckExact(function->func_builtins))
            specialise((PyCodeObject *)function->func_code, function->func_globals, function->func_builtins);
    }
    return 1;
}

/* ---- immortal objects: nobody counts references to them (3.12 and later), so reading them leaves their pages clean, which saves their
 * copies. What an object refers to is found as the collector does it, and by hand for code objects, which it does not know. */

static int immortalise(PyObject *object, void *Py_UNUSED(context))
{
    if (_Py_IsImmortal(object))
        return 0;
    object->ob_refcnt = _Py_IMMORTAL_REFCNT;
    if (PyUnicode_Check(object) || PyBytes_Check(object))
        PyObject_Hash(object);
    if (PyCode_Check(object)) {
        PyCodeObject *code = (PyCodeObject *)object;
        PyObject *const parts[] = {
            code->co_consts, code->co_names, code->co_exceptiontable, code->co_localsplusnames, code->co_localspluskinds,
            code->co_filename, code->co_name, code->co_qualname, code->co_linetable,
        };
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
            immortalise(parts[i], NULL);
    } else if (Py_TYPE(object)->tp_traverse)
        Py_TYPE(object)->tp_traverse(object, immortalise, NULL);
    return 0;
}

static int immortalise_all(PyObject *object, void *context)
{
    immortalise(object, context);
    if (PyType_Check(object))
        PyUnstable_Type_AssignVersionTag((PyTypeObject *)object);
    if (PyDict_Check(object))
        _PyDictKeys_GetVersionForCurrentState(PyInterpreterState_Get(), ((PyDictObject *)object)->ma_keys);
    if (Py_TYPE(object)->tp_traverse) /* one that was immortal before */
        Py_TYPE(object)->tp_traverse(object, immortalise, context);
    return 1;
}

/* The cache of what types have keeps, after training, names that the interpreter has made for one look-up, each alone in a page that
 * would be written to when another takes its place. */
static void forget_passing_names(void)
{
    struct type_cache *cache = &PyInterpreterState_Get()->types.type_cache;
    for (size_t i = 0; i < sizeof cache->hashtable / sizeof *cache->hashtable; i++) {
        struct type_cache_entry *entry = &cache->hashtable[i];
        if (entry->name && !_Py_IsImmortal(entry->name)) {
            Py_SETREF(entry->name, Py_None);
            entry->version = 0;
            entry->value = NULL;
        }
    }
}

/* What an executable that is made once more from the same sources would have otherwise: where the kernel has put the stack, and the
 * numbers of the thread, which a resumed interpreter sets as the child of a fork does. */
static void forget_the_process(void)
{
    unsigned long ident = PyThread_get_thread_ident();
    for (unsigned long *at = (unsigned long *)snapshot_data; at < (unsigned long *)snapshot_data_end; at++)
        if (*at == ident)
            *at = 0;
    thread->native_thread_id = 0;
    memset(thread->datastack_top, 0, (size_t)((char *)thread->datastack_limit - (char *)thread->datastack_top));
}

/* Pages of the heap become what a segment of the executable has; the file is `image`, `size` bytes of it. Its section is told too, so
 * that strip(1) knows that these bytes belong to it. */
static void patch(char *image, size_t size, size_t used)
{
    const Elf64_Ehdr *header = (Elf64_Ehdr *)image;
    Elf64_Phdr *segments = (Elf64_Phdr *)(image + header->e_phoff);
    Elf64_Shdr *sections = (Elf64_Shdr *)(image + header->e_shoff);
    size_t start = (size_t)snapshot_data, bytes = (size_t)(snapshot_data_end - snapshot_data);
    int found = 0;
    for (int i = 0; i < header->e_phnum; i++) {
        Elf64_Phdr *s = &segments[i];
        if (s->p_type != PT_LOAD)
            continue;
        if (s->p_vaddr <= start && start + bytes <= s->p_vaddr + s->p_filesz) {
            memcpy(image + s->p_offset + (start - s->p_vaddr), snapshot_data, bytes);
            found |= 1;
        }
        if (s->p_vaddr == (size_t)snapshot_heap) {
            s->p_offset = size;
            s->p_filesz = s->p_memsz = used;
            found |= 2;
        }
    }
    for (int i = 0; i < header->e_shnum; i++)
        if (sections[i].sh_addr == (size_t)snapshot_heap) {
            sections[i].sh_type = SHT_PROGBITS;
            sections[i].sh_offset = size;
            sections[i].sh_size = used;
        }
    MUST(found == 3);
}

static void put(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t n = write(fd, data, size);
        MUST(n > 0);
        data += n;
        size -= (size_t)n;
    }
}

void snapshot_prepare(void)
{
    PyUnstable_GC_VisitObjects(specialise_all, NULL);
}

_Noreturn void snapshot_write(int fd)
{
    struct stat st;
    int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    MUST(self >= 0 && !fstat(self, &st));
    size_t size = ((size_t)st.st_size + PAGE - 1) / PAGE * PAGE;
    char *image = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(image != MAP_FAILED && pread(self, image, (size_t)st.st_size, 0) == st.st_size);
    PyUnstable_GC_VisitObjects(specialise_all, NULL); /* once more: branches have a history again */
    PyUnstable_GC_VisitObjects(immortalise_all, NULL);
    forget_passing_names();
    PyOS_BeforeFork();
    thread = PyThreadState_Get();
    forget_the_process();
    size_t used = heap_end();
    is_here = 1;
    patch(image, size, used);
    put(fd, image, size);
    put(fd, snapshot_heap, used);
    _exit(0);
}

/* ---- going on */

int snapshot_is_here(void)
{
    return is_here;
}

void snapshot_resume(void)
{
    _Py_tss_tstate = thread;
    thread->thread_id = PyThread_get_thread_ident();
    PyOS_AfterFork_Child();
    PyThread_tss_set(&_PyRuntime.autoTSSkey, thread);
}
