/* See snapshot.c. */
#pragma once

int snapshot_is_here(void);               /* this executable was written by snapshot_write */
void snapshot_begin(void);                /* before Python starts: what it allocates from here on will be in the snapshot */
void snapshot_prepare(void);              /* everything is imported: names are found, before code runs */
_Noreturn void snapshot_write(int fd);    /* a copy of this executable, with the interpreter as it is now */
void snapshot_resume(void);               /* the interpreter goes on where it was written */
