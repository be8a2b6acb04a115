/* Shared by finish.c and find.c: the list of operations that is being executed, and the position in
 * it. */
#ifndef PYRUNC_RUN_H
#define PYRUNC_RUN_H

#include "ops.h"

#define PATHS 4096 /* bytes of the longest path, PATH_MAX */

struct run {
    const struct plan *plan;
    int status_fd, result_fd;
    int position;
    const struct op *op;
};

/* Reports that the operation has failed, on the descriptor that is still open, and exits. */
_Noreturn void run_fail(const struct run *run, int detail, int error, const char *call);

void do_chdir(const struct run *run);
void do_chdir_again(const struct run *run);
void do_find(const struct run *run);

#endif
