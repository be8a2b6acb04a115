/* Shared by finish.c, rights.c and find.c: the list of operations that is being executed, and the position in it. */
#ifndef PYRUNC_RUN_H
#define PYRUNC_RUN_H

#include "ops.h"

struct run {
    const struct plan *plan;
    int status_fd, result_fd;
    int position;
    const struct op *op;
};

/* Reports that the operation has failed, on the descriptor that is still open, and exits. */
_Noreturn void run_fail(const struct run *run, int detail, int error, const char *call);

/* The same if the result of a call is negative, with its errno. */
void run_check(const struct run *run, long result, const char *call);

/* Sends a record without an error to the host side. */
void run_say(const struct run *run, char kind, int extra);

/* Waits for one byte from the other side. If that has died, this process exits. */
void run_await(int fd);

/* rights.c */
void do_filter(const struct run *run);
void do_bound(const struct run *run);
void do_ids(const struct run *run);
void do_caps(const struct run *run);
void load_postponed(struct run *run); /* the FILTER that has to come right before execve, or before a list without EXEC returns */

/* find.c */
void do_chdir(const struct run *run);
void do_chdir_again(const struct run *run);
void do_find(const struct run *run);

#endif
