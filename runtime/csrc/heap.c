/* The interpreter's memory, while the snapshot is being created (snapshot.c) and afterwards. Everything that is allocated before the
 * snapshot is written comes from one fixed range of the executable's address space; a resumed interpreter allocates elsewhere. Nothing here
 * depends on the version of Python. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "heap.h"

#define UNIT 16                  /* what malloc(3) aligns to; sizes are multiples of it */
#define HEADER 8                 /* bytes in front of a small block, for its size */
#define LARGE 1024               /* larger blocks come from malloc: they are few, and would fragment the regions */
#define HEAP_SIZE (64 << 20)     /* address space, not memory; a snapshot uses about 9 MB of it */
#define FIRST_REGION (128 << 10) /* enough for most commands */
#define REGION (512 << 10)
#define MADV_POPULATE_WRITE_ 23  /* Linux 5.14 */
#define GROUPS 31                /* of code, see freeze.py */
#define LARGE_CODE (REGION / 8)  /* code objects up to this size are in the region for code, so that at most an eighth is lost */

char snapshot_heap[HEAP_SIZE] __attribute__((section(".bss.snapshot_pages"), aligned(PAGE)));
static size_t used;
static int is_recording;

/* The C library's heap may begin right after the used part. */
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

/* ---- the C library's memory. The linker redirects every call to these functions (--wrap). A recorded block is preceded by its size and is
 * never released. */

extern void *__real_malloc(size_t size);
extern void *__real_calloc(size_t count, size_t size);
extern void *__real_realloc(void *old, size_t size);
extern void __real_free(void *block);

/* Blocks freed while recording, the last one first. They are cleared, so that none of their contents end up in the executable. */
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

/* Takes the first one that is large enough and not larger than `most`. Its first word is its size, the rest is zero. */
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

/* Reusing a block may waste as much as was requested, and a little more for small ones. */
static size_t most_for(size_t size)
{
    return 2 * size + 4 * UNIT;
}

static size_t recorded_size(const void *block)
{
    return *(const size_t *)((const char *)block - UNIT);
}

void *__wrap_malloc(size_t size)
{
    if (!is_recording)
        return __real_malloc(size);
    char *block = take_spare(&spares, size, most_for(size));
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
    return __wrap_malloc(bytes); /* fresh, or cleared when it was freed */
}

void __wrap_free(void *block)
{
    if (!is_recorded(block))
        __real_free(block);
    else if (is_recording) {
        size_t size = recorded_size(block);
        keep_spare(&spares, (char *)block - UNIT, size, UNIT + size);
    } /* otherwise it is kept, to avoid writing to pages of the snapshot */
}

void *__wrap_realloc(void *old, size_t size)
{
    if (!is_recorded(old) && !is_recording)
        return __real_realloc(old, size);
    /* A block from before the recording does not have our header, but none of those is resized. */
    MUST(!old || is_recorded(old));
    void *block = __wrap_malloc(size);
    if (!block || !old)
        return block; /* on failure the old block is unchanged (realloc(3)) */
    size_t had = recorded_size(old);
    memcpy(block, old, had < size ? had : size);
    __wrap_free(old);
    return block;
}

/* Python 3.14 asks for the limits of the stack when it starts. The C library reads /proc/self/maps for that, into a buffer whose size depends
 * on the length of the executable's path. So it does not get recorded memory: the snapshot must be the same wherever it is built. */
extern int __real_pthread_getattr_np(pthread_t thread, pthread_attr_t *attributes);

int __wrap_pthread_getattr_np(pthread_t thread, pthread_attr_t *attributes)
{
    int was_recording = is_recording;
    is_recording = 0;
    int error = __real_pthread_getattr_np(thread, attributes);
    is_recording = was_recording;
    return error;
}

/* ---- Python's allocator, while recording and afterwards. Small blocks are cut from a region in the order of the requests, so that blocks
 * that are used together are adjacent; a freed block is kept for the next request of its size. pymalloc instead has a page for each of 32
 * sizes and a table of 128 KiB that it clears, which would be 50 more page faults in a command that has 250. The program has no threads. */

struct block {
    size_t size; /* including the header, or 0 for a block from malloc */
    struct block *next;
};

struct region {
    char *at, *end, *start;
};
static struct region regions[2 + GROUPS]; /* while recording, [1] is for code, and what follows for groups of it */
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
    if (region > &regions[1] && (size_t)(region->end - region->at) < size)
        region = &regions[1];
    if ((size_t)(region->end - region->at) < size) {
        size_t more = region->at ? REGION : FIRST_REGION;
        char *start = map(NULL, more);
        if (!start)
            return NULL;
        *region = (struct region){start + HEADER, start + more, start}; /* the data after a header is aligned to 16 */
    }
    struct block *made = (struct block *)region->at;
    region->at += size;
    made->size = size;
    return made;
}

static __attribute__((noinline)) void *take_large(size_t wanted)
{
    char *block = wanted <= PY_SSIZE_T_MAX ? __wrap_malloc(UNIT + wanted) : NULL;
    if (block)
        head(block + UNIT)->size = 0;
    return block ? block + UNIT : NULL;
}

static __attribute__((noinline)) void *take_new(size_t size)
{
    struct block *found = cut(size);
    return found ? (char *)found + HEADER : NULL;
}

static void *take(void *Py_UNUSED(context), size_t wanted)
{
    size_t size = (HEADER + wanted + UNIT - 1) / UNIT * UNIT;
    if (wanted > LARGE && (region == regions || wanted > LARGE_CODE))
        return take_large(wanted);
    struct block *found = region == regions ? waiting[size / UNIT] : NULL;
    if (!found)
        return take_new(size);
    waiting[size / UNIT] = found->next;
    return (char *)found + HEADER;
}

static void *take_cleared(void *context, size_t count, size_t size)
{
    size_t bytes;
    void *block = __builtin_mul_overflow(count, size, &bytes) ? NULL : take(context, bytes);
    return block ? memset(block, 0, bytes) : NULL;
}

/* After recording, a block of the snapshot is never reused: init and processes that join a container also map the snapshot's pages, so no
 * data of a running command may be put there. */
static void give_back(void *Py_UNUSED(context), void *data)
{
    if (!data)
        return;
    struct block *block = head(data);
    if (is_recording) {
        if (block->size) /* its contents must not end up in the executable */
            memset(data, 0, block->size - HEADER);
    } else if (is_recorded(block))
        return;
    size_t size = block->size;
    if (size - 1 < HEADER + LARGE) {
        block->next = waiting[size / UNIT];
        waiting[size / UNIT] = block;
    } else if (!size)
        __wrap_free((char *)data - UNIT);
    /* large code is too rare to be worth a list */
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

/* Code is written to while it runs: each branch keeps its history, and each instruction that is not specialised has a counter. So it gets
 * pages of its own, and what runs in the same processes lies together. */
void heap_of_code(int group)
{
    region = group >= 0 && is_recording ? &regions[1 + group] : regions;
}

static struct groups groups; /* they begin at `hot` */
static char *hot;

void heap_reserve(const struct groups *given)
{
    size_t total = 0;
    MUST(given->count <= GROUPS);
    groups = *given;
    for (int i = 0; i < groups.count; i++)
        total += groups.sizes[i];
    char *start = hot = from_heap(total, PAGE);
    for (int i = 0; i < groups.count; start += groups.sizes[i++])
        regions[2 + i] = (struct region){start + HEADER, start + groups.sizes[i], start};
}

/* Makes these pages the process's own. */
static void copy(char *start, char *end)
{
    char *first = (char *)((uintptr_t)start & ~(uintptr_t)(PAGE - 1));
    if (first < end)
        madvise(first, (size_t)(end - first), MADV_POPULATE_WRITE_); /* before Linux 5.14 the pages are copied one by one */
}

/* Writing to a page that has been read costs 1.4 us in a virtual machine, and 0.4 us if many are copied at once. */
void heap_populate(enum place place)
{
    size_t start = 0, end = 0, at = 0; /* start and end: of what is to be copied next */
    for (int i = 0; i < groups.count; at += groups.sizes[i++]) {
        if (!(groups.places[place] >> i & 1))
            continue;
        if (at / PAGE > (end + PAGE - 1) / PAGE) {
            copy(hot + start, hot + end);
            start = at;
        }
        end = at + groups.sizes[i];
    }
    copy(hot + start, hot + end);
    if (regions->at) /* what was allocated last, by now shared with the other side of a clone */
        copy(regions->start, regions->at);
}

/* For clear.c: the memory of the snapshot, without the interpreter's variables. */
char *heap_of_snapshot(size_t *size)
{
    *size = used;
    return snapshot_heap;
}

/* ---- recording */

void heap_record(void)
{
    static PyObjectArenaAllocator pages = {NULL, map, unmap}; /* for the stacks of frames */
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
