/* The operations of finish() and spawn(), and the record that says which of them failed.
 * There is no Python here: the last part of a container's init, and the processes of spawn(), run only what this header declares,
 * so neither can use an interpreter whose memory or files can no longer be trusted. */
#ifndef PYRUNC_OPS_H
#define PYRUNC_OPS_H

#include <linux/limits.h>
#include <stddef.h>
#include <stdint.h>

/* One line per operation: its name, then one letter per argument. i integer, b bytes, B bytes or None, s string, S string or None,
 * v tuple of strings. The index in this list is the number in a record (_syscalls.OPS). */
#define OP_TABLE(X)                                                                                                    \
    X(FILTER, "bi")     /* program, flags of seccomp(2); see filter.c                                              */ \
    X(BOUND, "ii")      /* mask that stays, last capability                                                        */ \
    X(IDS, "iiB")       /* uid, gid, groups as uint32 array or None: not touched                                   */ \
    X(CAPS, "iiii")     /* effective, permitted, inheritable, ambient; keeps CAP_SYS_ADMIN for FILTER             */ \
    X(NNP, "")          /*                                                                                         */ \
    X(UMASK, "i")       /*                                                                                         */ \
    X(PDEATHSIG, "ii")  /* signal, expected parent (0: not checked)                                                */ \
    X(CHDIR, "s")       /* EACCES and EPERM are remembered for CHDIR2                                              */ \
    X(CHDIR2, "s")      /* the second try, then getcwd(2) must be reachable                                        */ \
    X(FIND, "sS")       /* argv[0], PATH or None                                                                   */ \
    X(SIGNALS, "")      /* handlers that end a waiting pid 1                                                       */ \
    X(RESET, "")        /* all dispositions to default, empty mask                                                 */ \
    X(READY, "")        /* record R, then the status descriptor is closed                                          */ \
    X(WAIT, "i")        /* one byte from this descriptor                                                           */ \
    X(CLOSE, "b")       /* marks all but 0 to 2 and these to be closed by execve: int32 array, ascending, from 3   */ \
    X(EXEC, "vv")       /* argv, environment; runs what FIND found                                                 */ \
    X(SYNC, "")         /* record S, then one byte is awaited on the status descriptor                             */ \
    X(WRITE, "isb")     /* directory descriptor, path below it, bytes: one write(2)                                */ \
    X(KEYRING, "s")     /* joins the session keyring of this name                                                  */ \
    X(PERSONALITY, "i") /*                                                                                         */ \
    X(MEMPOLICY, "ibi") /* mode, node mask, maxnode                                                                */ \
    X(SESSION, "i")     /* setsid; the descriptor (or -1) becomes the controlling terminal                         */ \
    X(SETNS, "ii")      /* descriptor, type                                                                        */ \
    X(STDIO, "iii")     /* what becomes 0, 1 and 2 (-1: unchanged)                                                 */ \
    X(PRUNE, "")        /* closes at once what no later operation uses, except 0 to 2 and what CLOSE keeps         */ \
    X(FORGET, "b")      /* pairs of uint64, start and end: memory that is no longer needed                         */ \
    X(LANDLOCK, "ii")   /* ruleset, flags of landlock_restrict_self(2); the ruleset is closed                      */ \
    X(CHROOT, "i")      /* descriptor of the directory that becomes the root, and the working directory            */ \
    X(CLONE, "ii")      /* a second process does the operations that follow; strict, waits (see spawn.c)           */

#define OP_ENUM(name, args) OP_##name,
enum op_code { OP_TABLE(OP_ENUM) OP_COUNT };
#undef OP_ENUM

/* record.detail */
enum {
    DETAIL_NONE = 0,
    DETAIL_BREAKOUT = 1,   /* the working directory is outside the root */
    DETAIL_NOT_FOUND = 2,  /* FIND: no PATH element has it */
    DETAIL_NO_EXEC = 3,    /* FIND: not executable */
    DETAIL_DIRECTORY = 4,  /* FIND: a directory */
    DETAIL_STAT = 5,       /* FIND: stat(2) failed */
    DETAIL_VERIFY = 6,     /* the kernel reported success and did something else */
    DETAIL_ORPHAN = 7,     /* the parent has died */
    DETAIL_SHORT = 8,      /* WRITE: not all bytes were written */
    DETAIL_EXPOSED = 9,    /* FILTER: it denies calls before execve, and a process that can trace this one would get CAP_SYS_ADMIN */
};

/* 28 bytes, native byte order: struct format "=cBHii16s". */
struct record {
    char kind; /* F failed, R ready, L listener, S sync, J the first process of spawn() has joined, P the pid of the second */
    uint8_t op;
    uint16_t detail;
    int32_t error; /* errno */
    int32_t extra; /* L: the descriptor; F: position in the list of operations; P: the pid */
    char call[16];
};
_Static_assert(sizeof(struct record) == 28, "the record is read by struct format =cBHii16s");

struct op {
    enum op_code code;
    int64_t n[4];
    const char *s[2]; /* strings and byte strings, in order */
    size_t len[2];
    char **v[2];
};

struct block {
    struct block *next;
    size_t size;
    size_t used;
};

struct plan {
    struct op *ops;
    size_t count;
    struct block *blocks; /* everything the operations point to: anonymous mappings, never malloc */
};

/* Runs the operations. A failure is reported to status_fd, or to result_fd after READY has closed the former, and the process
 * exits. Returns if the list does not end in EXEC. */
void ops_run(const struct plan *plan, int status_fd, int result_fd);

size_t ops_find(const struct plan *plan, enum op_code code); /* plan->count if there is none */

_Noreturn void ops_fail(int fd, int op, int position, int detail, int error, const char *call);
void ops_send(int fd, const struct record *record);
#define SIGNAL_BYTES 8 /* sizeof the kernel's sigset_t */
int signals_reset(void);

/* Closes all descriptors above stdio, except those that the plan's CLOSE keeps, those in `also` (-1: none) and those that the operations
 * from `position` on use. -1 with errno if there are too many of the latter, or the kernel refuses. */
int ops_close_others(const struct plan *plan, size_t position, const int *also, size_t count);
int ops_mark_others(const struct op *close); /* what CLOSE does */

/* Releases anonymous memory: pairs of start and end. After this, the process does not use its heap. */
void ops_forget(const uint64_t *pairs, size_t count);

/* madvise(2) for the memory that the compiled launcher's interpreter has in pages of the executable; does nothing in the plain
 * one. */
void ops_snapshot(int advice);

/* Parts of such memory that operations need: the thread's block, op_state, and the used part of the stack. */
struct range {
    uintptr_t start, end;
};
#define KEPT 3
#define STACK_BELOW 4096 /* below the frame of the caller, for the functions that it calls */
void ops_kept(struct range kept[KEPT]);
struct range whole_pages(struct range range);

/* Clears the rest of the first and last page of each range, as far as it is between start and end. */
void ops_clear_around(uintptr_t start, uintptr_t end, const struct range *kept);

/* The sets for capset(2): 64 bits each, in two halves. */
struct caps {
    struct {
        uint32_t effective, permitted, inheritable;
    } low, high;
};
#define ADMIN_BIT (1U << 21) /* CAP_SYS_ADMIN in `low` */
int caps_read(struct caps *caps);
int caps_write(const struct caps *caps);

/* filter.c: calls after a filter that it denies. */
enum {
    DENIED_WRITE = 1, DENIED_READ = 2, DENIED_CLOSE = 4, DENIED_CAPSET = 8, DENIED_SIGNALS = 16,
    DENIED_CLONE3 = 32, DENIED_CLONE = 64, DENIED_SETSID = 128, DENIED_IOCTL = 256,
};
unsigned filter_denies(const struct op *op, int status_fd, int gate_fd);

/* Whether this position is followed by a FILTER that requires CAP_SYS_ADMIN because no NNP precedes it. */
int filter_needs_admin(const struct plan *plan, size_t position);

/* Loads the filter and drops what CAPS has kept for it. Returns the result of seccomp(2), or -1 with errno and the call. */
long filter_load(const struct op *op, unsigned denied, const char **call);

#ifdef __aarch64__
#define STATE_ALIGNMENT 65536 /* the largest page there */
#else
#define STATE_ALIGNMENT 4096
#endif

/* What operations store for later ones. It has separate pages, which are the only variables that operations need (clear.c). */
extern struct op_state {
    char found[PATH_MAX];       /* the path from FIND, or empty */
    struct caps caps;           /* the sets that CAPS was given */
    const struct op *postponed; /* a FILTER that is loaded right before EXEC, or at the end */
    unsigned denied;            /* DENIED_* of the loaded filters */
    int admin_kept;             /* CAP_SYS_ADMIN is permitted beyond `caps`, for FILTER */
    int chdir_error;            /* the errno that CHDIR stored */
    int status_gone;            /* READY has closed the status descriptor */
} __attribute__((aligned(STATE_ALIGNMENT))) op_state;

#endif
