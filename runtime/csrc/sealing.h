/* Sealing: executes this program again from a file that no process can write to (CVE-2019-5736). pyrunc/seal.py explains the reasons; the
 * implementation is sealing.c. Its callers are early.c (before the C library has started), launcher.c (before Python has) and the
 * extension, for seal.py and the plain launcher. */
#ifndef PYRUNC_SEALING_H
#define PYRUNC_SEALING_H

#define SELF "/proc/self/exe"
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* In the order in which they are tried. */
enum sealing_way { SEALING_OVERLAY, SEALING_MEMFD, SEALING_UNNAMED, SEALING_WAYS };

/* A descriptor of a file with the contents of the running executable that no process can write to, or a negative errno and the call that
 * failed. */
int sealing_open(enum sealing_way way, const char **call);

/* 1 if no process can write to this file, 0 if one can, or a negative errno. */
int sealing_is_safe(int fd);

/* The same for the running executable. */
int sealing_is_done(void);

/* Executes the file. Returns only on failure, with a negative errno. */
int sealing_execute(int fd, char **argv, char **environment);

/* launcher.c: tries all methods. Returns if the program already runs from a sealed file, or if no method works: seal.py then checks
 * again and fails with a message. */
void seal_self(char **argv, char **environment);

/* early.c: the command on the command line, NULL if there is none. */
const char *command_of(int argc, char **argv);

/* early.c: whether a command (or NULL) runs sealed. */
int is_sealed_command(const char *command);
extern int early_is_sealed; /* the command runs sealed, and this process was sealed when it began */

/* early.c: whether a path (or NULL) leads to the running executable. */
int early_is_us(const char *path);

#endif
