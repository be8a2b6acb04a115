/* What a waiting init, or a process that has joined a container, does not keep: descriptors and memory of the caller.
 *
 * Same rule as finish.c: no Python, no allocation, no lock. */
#define _GNU_SOURCE
#include "ops.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "numbers.h"

/* Gives back what lies between start and end, without the windows in `keep`. */
static void drop(uintptr_t start, uintptr_t end, const uintptr_t (*keep)[2], int windows)
{
    if (start >= end)
        return;
    if (windows == 0) {
        madvise((void *)start, end - start, MADV_DONTNEED); /* what can't be dropped is no failure */
        return;
    }
    uintptr_t low = (*keep)[0] < end ? (*keep)[0] : end, high = (*keep)[1] > start ? (*keep)[1] : start;
    drop(start, low, keep + 1, windows - 1);
    drop(high, end, keep + 1, windows - 1);
}

/* The interpreter's heap is given back: a created container may wait for days. Two things that C needs lie in such memory too, most of
 * all in a static executable: thread-local storage, where errno is (the window is that of spawn.c), and what FIND has found. */
void ops_forget(const uint64_t *pairs, size_t count)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), self = (uintptr_t)__builtin_thread_pointer(), state = (uintptr_t)&op_state;
    const uintptr_t keep[2][2] = {
        {(self - 65536) & ~(page - 1), (self + 65536 + page - 1) & ~(page - 1)},
        {state & ~(page - 1), (state + sizeof op_state + page - 1) & ~(page - 1)},
    };
    for (size_t i = 0; i + 1 < count; i += 2)
        drop((uintptr_t)pairs[i], (uintptr_t)pairs[i + 1], keep, 2);
}

#define MAX_KEPT 32

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

int ops_close_others(const struct plan *plan, size_t position, int preserve, const int *also, size_t extra)
{
    int kept[MAX_KEPT], count = 0; /* in ascending order */
    unsigned first = 3 + (unsigned)preserve;
    for (size_t i = 0; i < extra; i++)
        count = insert(kept, count, also[i]);
    for (size_t i = position; i < plan->count; i++) {
        const struct op *op = &plan->ops[i];
        if (op->code == OP_WAIT || op->code == OP_SESSION || op->code == OP_WRITE || op->code == OP_SETNS ||
            op->code == OP_LANDLOCK)
            count = insert(kept, count, (int)op->n[0]);
        for (int n = 0; op->code == OP_STDIO && n < 3; n++)
            count = insert(kept, count, (int)op->n[n]);
    }
    if (count < 0) {
        errno = EMFILE;
        return -1;
    }
    for (int i = 0; i < count; i++) {
        if ((unsigned)kept[i] < first)
            continue;
        if ((unsigned)kept[i] > first && syscall(SYS_close_range, first, (unsigned)kept[i] - 1, 0))
            return -1;
        first = (unsigned)kept[i] + 1;
    }
    return (int)syscall(SYS_close_range, first, ~0U, 0);
}
