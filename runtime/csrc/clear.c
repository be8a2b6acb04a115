/* Releases what a waiting init, or a process that joins a container, must not keep from the caller: descriptors and memory.
 * Rule: as in finish.c, no Python, no allocation, no lock. */
#define _GNU_SOURCE
#include "ops.h"

#include <errno.h>
#include <linux/close_range.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "numbers.h"

/* ---- memory. What C needs until execve is in the middle of what is released: in a static executable the thread's block is at the
 * beginning of the C library's heap. So whole pages around these ranges are released, and the rest of their first and last page is
 * cleared. */

/* The thread's block: errno and similar variables, and struct pthread with the stack protector's canary. Its size is 2304 to 2368 bytes
 * in glibc 2.36 to 2.41, and malloc puts one of its tables right after it. Our and Python's thread-local variables are not needed. */
#define THREAD_SIZE 2560
#define VARIABLES_SIZE 256 /* 240 bytes in a static executable */

/* The area of rseq(2), which belongs to the kernel until execve: Linux 7.2 kills a process that overwrites its fields there, as soon as it
 * is moved to another processor. In glibc 2.41 it is beyond the thread's variables, in 2.35 part of struct pthread; others have none. */
extern const ptrdiff_t __rseq_offset __attribute__((weak)); /* from the thread pointer */
extern const unsigned int __rseq_size __attribute__((weak)); /* what is used of it; 0 if it is not registered */
#define RSEQ_UNIT 32 /* the size that is registered is a multiple of it */

#if (defined(__aarch64__) || defined(__riscv)) && !defined(__PIC__)
/* In a static executable of aarch64 and riscv64 the block is the very beginning of the heap, and the page before it is not mapped. So its size must be
 * exact; the C library provides it for debuggers. */
extern const uint32_t _thread_db_sizeof_pthread;
#define THREAD_BELOW ((_thread_db_sizeof_pthread + 63) & ~(uintptr_t)63)
#else
#define THREAD_BELOW THREAD_SIZE
#endif

static struct range with(struct range range, uintptr_t start, uintptr_t size)
{
    if (start < range.start)
        range.start = start;
    if (start + size > range.end)
        range.end = start + size;
    return range;
}

static struct range thread_block(void)
{
    uintptr_t self = (uintptr_t)__builtin_thread_pointer();
#if defined(__aarch64__) || defined(__riscv) /* struct pthread is below the thread pointer, the variables are above */
    struct range block = {self - THREAD_BELOW, self + VARIABLES_SIZE};
#else
    struct range block = {self - VARIABLES_SIZE, self + THREAD_SIZE};
#endif
    block = with(block, (uintptr_t)&errno, sizeof errno);
    if (&__rseq_size && __rseq_size)
        block = with(block, self + (uintptr_t)__rseq_offset, (__rseq_size + RSEQ_UNIT - 1) & ~(uintptr_t)(RSEQ_UNIT - 1));
    return block;
}

void ops_kept(struct range kept[KEPT])
{
    kept[0] = thread_block();
    kept[1] = (struct range){(uintptr_t)&op_state, (uintptr_t)&op_state + sizeof op_state};
    kept[2] = (struct range){(uintptr_t)__builtin_frame_address(0) - STACK_BELOW, UINTPTR_MAX}; /* the used part of the stack */
}

struct range whole_pages(struct range range)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    range.start &= ~(page - 1);
    if (range.end <= UINTPTR_MAX - page)
        range.end = (range.end + page - 1) & ~(page - 1);
    return range;
}

/* Not memset(3): it reads variables of the C library that may have been released. */
static void clear(uintptr_t start, uintptr_t end)
{
    for (; start < end && start % sizeof(uint64_t); start++)
        *(volatile char *)start = 0;
    for (; start < end && end - start >= sizeof(uint64_t); start += sizeof(uint64_t))
        *(volatile uint64_t *)start = 0;
    for (; start < end; start++)
        *(volatile char *)start = 0;
}

static uintptr_t later(uintptr_t one, uintptr_t other)
{
    return one > other ? one : other;
}

static uintptr_t earlier(uintptr_t one, uintptr_t other)
{
    return one < other ? one : other;
}

/* Releases the memory between start and end, except the ranges in `kept`. */
static void drop(uintptr_t start, uintptr_t end, const struct range *kept, int count)
{
    if (start >= end)
        return;
    if (count == 0) {
        madvise((void *)start, end - start, MADV_DONTNEED); /* memory that can't be released is not an error */
        return;
    }
    struct range pages = whole_pages(*kept);
    drop(start, earlier(pages.start, end), kept + 1, count - 1);
    drop(later(pages.end, start), end, kept + 1, count - 1);
}

/* No two ranges share a page: op_state has its own pages, and the stack and the thread's block are apart. */
void ops_clear_around(uintptr_t start, uintptr_t end, const struct range *kept)
{
    for (int i = 0; i < KEPT; i++) {
        struct range pages = whole_pages(kept[i]);
        clear(later(pages.start, start), earlier(kept[i].start, end));
        clear(later(kept[i].end, start), earlier(pages.end, end));
    }
}

void ops_forget(const uint64_t *pairs, size_t count)
{
    struct range kept[KEPT];
    ops_kept(kept);
    for (size_t i = 0; i + 1 < count; i += 2) {
        drop((uintptr_t)pairs[i], (uintptr_t)pairs[i + 1], kept, KEPT);
        ops_clear_around((uintptr_t)pairs[i], (uintptr_t)pairs[i + 1], kept);
    }
}

/* ---- the interpreter inside the compiled launcher (snapshot.c): its heap and its variables are pages of the executable, of which a
 * command modifies about a hundred. Operations need none of them. In other builds these names are null. */

extern char snapshot_data[] __attribute__((weak)), snapshot_data_end[] __attribute__((weak));
extern char *heap_of_snapshot(size_t *size) __attribute__((weak));

void ops_snapshot(int advice)
{
    if (!heap_of_snapshot)
        return;
    size_t size, page = (size_t)sysconf(_SC_PAGESIZE);
    char *heap = heap_of_snapshot(&size);
    uintptr_t start = ((uintptr_t)snapshot_data + page - 1) & ~(page - 1), end = (uintptr_t)snapshot_data_end & ~(page - 1);
    madvise(heap, size, advice); /* advice that is not accepted is not an error */
    if (start < end)
        madvise((void *)start, end - start, advice);
}

/* ---- descriptors */

#define MAX_KEPT 32 /* descriptors; a list of operations uses about ten at most */

static int insert(int *kept, int count, int fd)
{
    int at = count;
    if (fd < 0 || count < 0)
        return count;
    for (; at > 0 && kept[at - 1] >= fd; at--)
        if (kept[at - 1] == fd)
            return count;
    if (count == MAX_KEPT)
        return -1;
    memmove(kept + at + 1, kept + at, (size_t)(count - at) * sizeof *kept);
    kept[at] = fd;
    return count + 1;
}

/* close_range(2) with these flags for all that lies above stdio and is in neither of the ascending lists. */
static int close_around(const int *one, size_t ones, const int *two, size_t twos, unsigned flags)
{
    unsigned first = 3;
    while (ones || twos) {
        int from_one = ones && (!twos || *one <= *two);
        unsigned next = (unsigned)(from_one ? *one++ : *two++);
        *(from_one ? &ones : &twos) -= 1;
        if (next < first)
            continue;
        if (next > first && syscall(SYS_close_range, first, next - 1, flags))
            return -1;
        first = next + 1;
    }
    return (int)syscall(SYS_close_range, first, ~0U, flags);
}

int ops_mark_others(const struct op *op)
{
    return close_around(NULL, 0, (const int *)op->s[0], op->len[0] / sizeof(int), CLOSE_RANGE_CLOEXEC);
}

int ops_close_others(const struct plan *plan, size_t position, const int *also, size_t extra)
{
    int kept[MAX_KEPT], count = 0; /* in ascending order */
    size_t close = ops_find(plan, OP_CLOSE);
    const struct op *agreed = close < plan->count ? &plan->ops[close] : NULL;
    for (size_t i = 0; i < extra; i++)
        count = insert(kept, count, also[i]);
    for (size_t i = position; i < plan->count; i++) {
        const struct op *op = &plan->ops[i];
        if (op->code == OP_WAIT || op->code == OP_SESSION || op->code == OP_WRITE || op->code == OP_SETNS ||
            op->code == OP_LANDLOCK || op->code == OP_CHROOT)
            count = insert(kept, count, (int)op->n[0]);
        for (int n = 0; op->code == OP_STDIO && n < 3; n++)
            count = insert(kept, count, (int)op->n[n]);
    }
    if (count < 0) {
        errno = EMFILE;
        return -1;
    }
    return close_around(kept, (size_t)count, agreed ? (const int *)agreed->s[0] : NULL, agreed ? agreed->len[0] / sizeof(int) : 0, 0);
}
