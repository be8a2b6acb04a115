/* The interpreter as part of the executable: see snapshot.c. */
#pragma once

#include "heap.h"

int snapshot_is_here(void);            /* whether snapshot_write made this executable */
void snapshot_begin(void);             /* before Python starts: what it allocates from now on is part of the snapshot */
_Noreturn void snapshot_write(int fd); /* writes a copy of this executable with the interpreter as it is now, and exits */
void snapshot_resume(void);            /* continues where the interpreter was written */
