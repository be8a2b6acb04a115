#ifndef PYRUNC_SEALING_H
#define PYRUNC_SEALING_H

/* Executes this program again from a file that nobody can write. Comes back if it runs from one already, or if no way works:
 * then pyrunc/seal.py asks the same question again, and fails in words. */
void seal_self(char **argv, char **environment);

#endif
