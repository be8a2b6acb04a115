/* What spawn.c and procfs.c share: keeping the caller's memory out of a child that others may look into. */
#ifndef PYRUNC_SPAWN_H
#define PYRUNC_SPAWN_H

#include "syscalls.h"

struct hidden {
    const struct plan *plans[2]; /* operations that the child carries out; NULL: none */
    uint64_t stack[2];           /* where it begins and ends */
};

/* In the caller, before and after the clone: MADV_WIPEONFORK or MADV_KEEPONFORK for its heap. -1 with errno. */
int hide_memory(struct hidden *hidden, int advice);

/* In the child: clears what lies beside the few ranges that it keeps, and what earlier calls have left on the stack. */
void clear_memory(const struct hidden *hidden);

/* The first clone of a child that runs no Python: clone3(2) with every signal blocked, since a handler of Python's must not run in the child;
 * it calls main(data), which never returns. The pid, or -1 with errno. */
struct clone3_args;
long clone_child(struct clone3_args *clone, void (*main)(const void *data), const void *data);

#endif
