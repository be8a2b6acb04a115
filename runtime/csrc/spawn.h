/* Shared by spawn.c and procfs.c: keeping the caller's memory out of a child that other processes may inspect. */
#ifndef PYRUNC_SPAWN_H
#define PYRUNC_SPAWN_H

#include "syscalls.h"

struct hidden {
    const struct plan *plans[2]; /* operations that the child carries out; NULL: none */
    uint64_t stack[2];           /* start and end */
};

/* In the caller, before and after the clone: MADV_WIPEONFORK or MADV_KEEPONFORK for its heap. -1 with errno. */
int hide_memory(struct hidden *hidden, int advice);

/* In the child: clears all memory except the few ranges that it needs, and the remains of earlier calls on the stack. */
void clear_memory(const struct hidden *hidden);

/* The first clone of a child that runs no Python: clone3(2) with every signal blocked, since Python's handlers must not
 * run in the child; it calls main(data), which never returns. The pid, or -1 with errno. */
struct clone3_args;
long clone_child(struct clone3_args *clone, void (*main)(const void *data), const void *data);

#endif
