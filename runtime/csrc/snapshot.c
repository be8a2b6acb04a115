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

#include "snapshot.h"

#define PAGE 4096
#define UNIT 16
#define HEADER 8
#define LARGE 1024
#define HEAP_SIZE (64 << 20)
#define FIRST_REGION (128 << 10)
#define REGION (512 << 10)
#define MUST(condition)                                                                                                \
    if (!(condition)) {                                                                                                \
        fprintf(stderr, "snapshot: %s\n", #condition);                                                                 \
        _exit(1);                                                                                                      \
    }

extern char snapshot_data[], snapshot_data_end[]; /* snapshot.ld */

static char heap[HEAP_SIZE] __attribute__((section("snapshot_heap,\"aw\",@nobits#"), aligned(PAGE)));
static size_t used;
static int is_recording, is_here;
static PyThreadState *thread;

/* Behind what is used begins, later, the C library's heap. */
static int is_recorded(const void *at)
{
    return (const char *)at >= heap && (const char *)at < heap + used;
}

static char *from_heap(size_t size, size_t alignment)
{
    used = (used + alignment - 1) / alignment * alignment;
    MUST(used + size <= HEAP_SIZE);
    used += size;
    return heap + used - size;
}

/* ---- the C library's memory. The linker sends every call here (--wrap); a recorded block has its size in front and stays for ever. */

extern void *__real_malloc(size_t size);
extern void *__real_calloc(size_t count, size_t size);
extern void *__real_realloc(void *old, size_t size);
extern void __real_free(void *block);

void *__wrap_malloc(size_t size)
{
    if (!is_recording)
        return __real_malloc(size);
    char *block = from_heap(UNIT + size, UNIT);
    *(size_t *)block = size;
    return block + UNIT;
}

void *__wrap_calloc(size_t count, size_t size)
{
    size_t bytes;
    if (!is_recording)
        return __real_calloc(count, size);
    MUST(!__builtin_mul_overflow(count, size, &bytes));
    return __wrap_malloc(bytes); /* never used before */
}

void __wrap_free(void *block)
{
    if (!is_recorded(block))
        __real_free(block);
}

void *__wrap_realloc(void *old, size_t size)
{
    if (!is_recorded(old) && !is_recording)
        return __real_realloc(old, size);
    size_t had = old ? *(size_t *)((char *)old - UNIT) : 0;
    void *block = __wrap_malloc(size);
    if (block && old)
        memcpy(block, old, had < size ? had : size);
    return block;
}

/* ---- the interpreter's memory, while recording and later. Small blocks are cut from a region in the order in which they are asked for,
 * so that what is used together lies together, and wait for the next of their size when given back. pymalloc has a page for each of
 * 32 sizes and a table of 128 KiB that it clears: 50 more page faults in a command that has 250. The program has no threads. */

struct block {
    size_t size; /* all of it, or 0 for one of malloc's */
    struct block *next;
};

struct region {
    char *at, *end;
};
static struct region regions[2]; /* [1]: of code, while recording */
static struct region *region = regions;
static struct block *waiting[(HEADER + LARGE) / UNIT + 2];

static void *map(void *Py_UNUSED(context), size_t size)
{
    if (is_recording)
        return from_heap(size, PAGE);
    void *block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return block == MAP_FAILED ? NULL : block;
}

static void unmap(void *Py_UNUSED(context), void *block, size_t size)
{
    if (!is_recorded(block))
        munmap(block, size);
}

static struct block *head(void *block)
{
    return (struct block *)((char *)block - HEADER);
}

static struct block *cut(size_t size)
{
    if ((size_t)(region->end - region->at) < size) {
        size_t more = region->at ? REGION : FIRST_REGION;
        char *start = map(NULL, more);
        if (!start)
            return NULL;
        region->at = start + HEADER; /* what follows a header is aligned to 16 */
        region->end = start + more;
    }
    struct block *made = (struct block *)region->at;
    region->at += size;
    made->size = size;
    return made;
}

static void *take(void *Py_UNUSED(context), size_t wanted)
{
    size_t size = (HEADER + wanted + UNIT - 1) / UNIT * UNIT;
    if (wanted > LARGE && (region == regions || wanted > REGION / 8)) {
        char *block = wanted <= PY_SSIZE_T_MAX ? __wrap_malloc(UNIT + wanted) : NULL;
        if (block)
            head(block + UNIT)->size = 0;
        return block ? block + UNIT : NULL;
    }
    struct block *found = region == regions ? waiting[size / UNIT] : NULL;
    if (found)
        waiting[size / UNIT] = found->next;
    else
        found = cut(size);
    return found ? (char *)found + HEADER : NULL;
}

static void *take_cleared(void *context, size_t count, size_t size)
{
    size_t bytes;
    void *block = __builtin_mul_overflow(count, size, &bytes) ? NULL : take(context, bytes);
    return block ? memset(block, 0, bytes) : NULL;
}

/* A recorded block is never used again: what a running command works with shall not lie in pages that its children see. */
static void give_back(void *Py_UNUSED(context), void *data)
{
    struct block *block = data ? head(data) : NULL;
    if (!block || (!is_recording && is_recorded(block)))
        return;
    if (block->size == 0) {
        __wrap_free((char *)data - UNIT);
        return;
    }
    if (block->size > HEADER + LARGE) /* code; no matter */
        return;
    block->next = waiting[block->size / UNIT];
    waiting[block->size / UNIT] = block;
}

static void *resize(void *context, void *data, size_t wanted)
{
    if (!data)
        return take(context, wanted);
    size_t had = head(data)->size;
    if (had == 0 && wanted > LARGE) {
        char *block = wanted <= PY_SSIZE_T_MAX ? __wrap_realloc((char *)data - UNIT, UNIT + wanted) : NULL;
        return block ? block + UNIT : NULL;
    }
    if (had && HEADER + wanted <= had && had <= 2 * (HEADER + wanted) + UNIT)
        return data;
    void *block = take(context, wanted);
    if (block) {
        memcpy(block, data, had && had - HEADER < wanted ? had - HEADER : wanted);
        give_back(context, data);
    }
    return block;
}

/* ---- what is written to lies together. Code is: each instruction that is not specialised has a counter. */

extern PyCodeObject *__real__PyCode_New(struct _PyCodeConstructor *how);

PyCodeObject *__wrap__PyCode_New(struct _PyCodeConstructor *how)
{
    region = is_recording ? &regions[1] : regions;
    PyCodeObject *code = __real__PyCode_New(how);
    region = regions;
    return code;
}

/* ---- writing */

void snapshot_begin(void)
{
    static PyObjectArenaAllocator pages = {NULL, map, unmap}; /* of the stacks of frames */
    static PyMemAllocatorEx blocks = {NULL, take, take_cleared, resize, give_back};
    is_recording = 1;
    PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &blocks);
    PyMem_SetAllocator(PYMEM_DOMAIN_MEM, &blocks);
    PyObject_SetArenaAllocator(&pages);
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

/* Pages of the heap become what a segment of the executable has; the file is `image`, `size` bytes of it. Its section is told too, so
 * that strip(1) knows that these bytes belong to it. */
static void patch(char *image, size_t size)
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
        if (s->p_vaddr == (size_t)heap) {
            s->p_offset = size;
            s->p_filesz = s->p_memsz = used;
            found |= 2;
        }
    }
    for (int i = 0; i < header->e_shnum; i++)
        if (sections[i].sh_addr == (size_t)heap) {
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

_Noreturn void snapshot_write(int fd)
{
    struct stat st;
    int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    MUST(self >= 0 && !fstat(self, &st));
    size_t size = ((size_t)st.st_size + PAGE - 1) / PAGE * PAGE;
    char *image = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(image != MAP_FAILED && pread(self, image, (size_t)st.st_size, 0) == st.st_size);
    PyUnstable_GC_VisitObjects(specialise_all, NULL);
    PyUnstable_GC_VisitObjects(immortalise_all, NULL);
    PyOS_BeforeFork();
    thread = PyThreadState_Get();
    from_heap(0, PAGE);
    memset(waiting, 0, sizeof waiting);
    memset(regions, 0, sizeof regions);
    is_recording = 0;
    is_here = 1;
    patch(image, size);
    put(fd, image, size);
    put(fd, heap, used);
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
