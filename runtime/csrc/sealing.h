#ifndef PYRUNC_SEALING_H
#define PYRUNC_SEALING_H

#define SELF "/proc/self/exe"

/* Executes this program again from a file that nobody can write. Comes back if it runs from one already, or if no way works:
 * then pyrunc/seal.py asks the same question again, and fails in words. */
void seal_self(char **argv, char **environment);

/* Of early.c: whether a file can be written by nobody; a descriptor of this program in an overlay, or -1; whether the command line asks
 * for a command that runs sealed; whether that was so, and this process was sealed, when it began. */
int is_safe(int fd);
int from_overlay(void);
int is_sealed_command(int argc, char **argv);
extern int early_is_sealed;

#endif
