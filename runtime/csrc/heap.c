/* The memory of the interpreter, while it is written down (snapshot.c) and after. One place in the executable's address space takes all
 * that is allocated until then; what a resumed interpreter allocates lies elsewhere. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "heap.h"

#define UNIT 16
#define HEADER 8
#define LARGE 1024
#define HEAP_SIZE (64 << 20)
#define FIRST_REGION (128 << 10)
#define REGION (512 << 10)

char snapshot_heap[HEAP_SIZE] __attribute__((section("snapshot_pages,\"aw\",@nobits" REMARK), aligned(PAGE)));
static size_t used;
static int is_recording;

/* Behind what is used begins, later, the C library's heap. */
static int is_recorded(const void *at)
{
    return (const char *)at >= snapshot_heap && (const char *)at < snapshot_heap + used;
}

static char *from_heap(size_t size, size_t alignment)
{
    used = (used + alignment - 1) / alignment * alignment;
    MUST(used + size <= HEAP_SIZE);
    used += size;
    return snapshot_heap + used - size;
}

/* ---- the C library's memory. The linker sends every call here (--wrap); a recorded block has its size in front and stays for ever. */

extern void *__real_malloc(size_t size);
extern void *__real_calloc(size_t count, size_t size);
extern void *__real_realloc(void *old, size_t size);
extern void __real_free(void *block);

/* Those given back while recording, from the last one on. They are cleared: nothing of them may be seen in the executable. */
struct spare {
    size_t size;
    struct spare *next;
};
static struct spare *spares, *spare_pages;

static void keep_spare(struct spare **list, void *block, size_t size, size_t cleared)
{
    struct spare *made = memset(block, 0, cleared);
    made->size = size;
    made->next = *list;
    *list = made;
}

/* The first that fits and is not much too large; with its size at its beginning, and clear behind. */
static void *take_spare(struct spare **list, size_t size, size_t most)
{
    for (struct spare **at = list; *at; at = &(*at)->next) {
        struct spare *found = *at;
        if (found->size < size || found->size > most)
            continue;
        *at = found->next;
        found->next = NULL;
        return found;
    }
    return NULL;
}

void *__wrap_malloc(size_t size)
{
    if (!is_recording)
        return __real_malloc(size);
    char *block = take_spare(&spares, size, 2 * size + 4 * UNIT);
    if (!block) {
        block = from_heap(UNIT + size, UNIT);
        *(size_t *)block = size;
    }
    return block + UNIT;
}

void *__wrap_calloc(size_t count, size_t size)
{
    size_t bytes;
    if (!is_recording)
        return __real_calloc(count, size);
    MUST(!__builtin_mul_overflow(count, size, &bytes));
    return __wrap_malloc(bytes); /* never used before, or cleared */
}

void __wrap_free(void *block)
{
    if (!is_recorded(block))
        __real_free(block);
    else if (is_recording) {
        size_t size = ((size_t *)block)[-2];
        keep_spare(&spares, (char *)block - UNIT, size, UNIT + size);
    }
}

void *__wrap_realloc(void *old, size_t size)
{
    if (!is_recorded(old) && !is_recording)
        return __real_realloc(old, size);
    size_t had = old ? *(size_t *)((char *)old - UNIT) : 0;
    void *block = __wrap_malloc(size);
    if (block && old)
        memcpy(block, old, had < size ? had : size);
    __wrap_free(old);
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
    if (is_recording) {
        struct spare *found = take_spare(&spare_pages, size, size);
        return found ? memset(found, 0, sizeof *found) : from_heap(size, PAGE);
    }
    void *block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return block == MAP_FAILED ? NULL : block;
}

static void unmap(void *Py_UNUSED(context), void *block, size_t size)
{
    if (!is_recorded(block))
        munmap(block, size);
    else if (is_recording)
        keep_spare(&spare_pages, block, size, size);
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
    if (is_recording) /* nothing of it may be seen in the executable */
        memset(data, 0, block->size - HEADER);
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

/* What is written to lies together. Code is: each instruction that is not specialised has a counter. */
void heap_of_code(int begins)
{
    region = begins && is_recording ? &regions[1] : regions;
}

/* ---- from when to when */

void heap_record(void)
{
    static PyObjectArenaAllocator pages = {NULL, map, unmap}; /* of the stacks of frames */
    static PyMemAllocatorEx blocks = {NULL, take, take_cleared, resize, give_back};
    is_recording = 1;
    PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &blocks);
    PyMem_SetAllocator(PYMEM_DOMAIN_MEM, &blocks);
    PyObject_SetArenaAllocator(&pages);
}

size_t heap_end(void)
{
    from_heap(0, PAGE);
    spares = spare_pages = NULL;
    memset(waiting, 0, sizeof waiting);
    memset(regions, 0, sizeof regions);
    is_recording = 0;
    return used;
}
