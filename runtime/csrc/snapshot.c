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

#include "internal/pycore_pystate.h"
#include "internal/pycore_runtime.h"

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
#define CLASSES 64
#define HEAP_SIZE (64 << 20)
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

/* ---- memory. The linker sends every malloc here (--wrap); only the recording gets it from the heap that is written down. A block has
 * its size in front; given back it waits for the next of exactly that size. */

extern void *__real_malloc(size_t size);
extern void *__real_calloc(size_t count, size_t size);
extern void *__real_realloc(void *old, size_t size);
extern void __real_free(void *block);

struct block {
    size_t size;
    struct block *next;
};
static struct block *waiting[CLASSES];

/* Behind what is used begins, later, the C library's heap. */
static int is_ours(const void *at)
{
    return (const char *)at >= heap && (const char *)at < heap + used;
}

static struct block *head(void *block)
{
    return (struct block *)((char *)block - UNIT);
}

static void *take(size_t size)
{
    size = (size + UNIT - 1) / UNIT * UNIT;
    size_t class = size / UNIT < CLASSES ? size / UNIT : 0; /* 0: all others */
    for (struct block **at = &waiting[class]; *at; at = &(*at)->next)
        if ((*at)->size == size) {
            struct block *found = *at;
            *at = found->next;
            return (char *)found + UNIT;
        }
    MUST(used + UNIT + size <= HEAP_SIZE);
    struct block *made = (struct block *)(heap + used);
    used += UNIT + size;
    made->size = size;
    return (char *)made + UNIT;
}

static void give_back(void *block)
{
    struct block *was = head(block);
    size_t class = was->size / UNIT < CLASSES ? was->size / UNIT : 0;
    was->next = waiting[class];
    waiting[class] = was;
}

void *__wrap_malloc(size_t size)
{
    return is_recording ? take(size ? size : 1) : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    size_t bytes;
    if (!is_recording)
        return __real_calloc(count, size);
    MUST(!__builtin_mul_overflow(count, size, &bytes));
    return memset(__wrap_malloc(bytes), 0, bytes);
}

void __wrap_free(void *block)
{
    if (!is_ours(block))
        __real_free(block);
    else if (is_recording)
        give_back(block);
}

void *__wrap_realloc(void *old, size_t size)
{
    if (old && !is_ours(old))
        return __real_realloc(old, size);
    size_t had = old ? head(old)->size : 0;
    if (old && size && size <= had)
        return old;
    void *block = __wrap_malloc(size);
    if (block && old) {
        memcpy(block, old, had < size ? had : size);
        __wrap_free(old);
    }
    return block;
}

/* Whole pages: pymalloc's arenas (it is not used while recording) and the stacks of frames. */
static void *map(void *Py_UNUSED(context), size_t size)
{
    if (is_recording) {
        used = (used + PAGE - 1) / PAGE * PAGE;
        MUST(used + size <= HEAP_SIZE);
        used += size;
        return heap + used - size;
    }
    void *block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return block == MAP_FAILED ? NULL : block;
}

static void unmap(void *Py_UNUSED(context), void *block, size_t size)
{
    if (!is_ours(block))
        munmap(block, size);
}

/* ---- writing. Malloc while recording, so that pymalloc is as new when the interpreter goes on: it takes what it does not know, the
 * blocks of the snapshot, for malloc's. */

static PyMemAllocatorEx objects, memory;

void snapshot_begin(void)
{
    static PyObjectArenaAllocator arenas = {NULL, map, unmap};
    PyMemAllocatorEx raw;
    is_recording = 1;
    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &raw);
    PyMem_GetAllocator(PYMEM_DOMAIN_OBJ, &objects);
    PyMem_GetAllocator(PYMEM_DOMAIN_MEM, &memory);
    PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &raw);
    PyMem_SetAllocator(PYMEM_DOMAIN_MEM, &raw);
    PyObject_SetArenaAllocator(&arenas);
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
    PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &objects);
    PyMem_SetAllocator(PYMEM_DOMAIN_MEM, &memory);
    PyOS_BeforeFork();
    thread = PyThreadState_Get();
    memset(waiting, 0, sizeof waiting);
    used = (used + PAGE - 1) / PAGE * PAGE;
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
