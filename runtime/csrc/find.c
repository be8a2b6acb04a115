/* The operations that find the working directory and the program in the container: CHDIR, CHDIR2, FIND.
 * Rule: as in finish.c, no Python, no allocation, no lock. */
#define _GNU_SOURCE
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "numbers.h"

void do_chdir(const struct run *run)
{
    op_state.chdir_error = 0;
    if (!chdir(run->op->s[0]))
        return;
    if (errno != EACCES && errno != EPERM)
        run_fail(run, DETAIL_NONE, errno, "chdir");
    op_state.chdir_error = errno;
}

/* CVE-2024-21626: refuses a working directory outside the container that was reached through an inherited
 * descriptor. In that case, the kernel's result begins with "(unreachable)". */
void do_chdir_again(const struct run *run)
{
    static char where[PATH_MAX];
    if (op_state.chdir_error && chdir(run->op->s[0]))
        run_fail(run, DETAIL_NONE, errno, "chdir");
    if (syscall(SYS_getcwd, where, sizeof where) < 0)
        run_fail(run, errno == ENOENT ? DETAIL_BREAKOUT : DETAIL_NONE, errno, "getcwd");
    if (where[0] != '/')
        run_fail(run, DETAIL_BREAKOUT, ENOENT, "getcwd");
}

/* 0 if the file may be executed, otherwise a DETAIL_* and errno. A filter that we run under may not allow
 * faccessat2. */
static int probe(const char *path)
{
    struct stat st;
    if (stat(path, &st))
        return DETAIL_STAT;
    if (!S_ISREG(st.st_mode)) {
        errno = S_ISDIR(st.st_mode) ? EISDIR : EACCES;
        return S_ISDIR(st.st_mode) ? DETAIL_DIRECTORY : DETAIL_NO_EXEC;
    }
    if (!syscall(SYS_faccessat2, AT_FDCWD, path, X_OK, AT_EACCESS))
        return 0;
    if ((errno == ENOSYS || errno == EPERM) && !syscall(SYS_faccessat, AT_FDCWD, path, X_OK))
        return 0;
    return DETAIL_NO_EXEC;
}

/* Puts dir[0:n] + "/" + name into op_state.found; an empty element is the working directory. 0: too long. */
static int join(const char *dir, size_t n, const char *name)
{
    size_t len = strlen(name);
    if (n == 0)
        dir = ".", n = 1;
    if (n + 1 + len >= sizeof op_state.found)
        return 0;
    memcpy(op_state.found, dir, n);
    op_state.found[n] = '/';
    memcpy(op_state.found + n + 1, name, len + 1);
    return 1;
}

void do_find(const struct run *run)
{
    const char *name = run->op->s[0], *path = run->op->s[1];
    int detail, seen = 0;
    if (strchr(name, '/')) {
        if (strlen(name) >= sizeof op_state.found)
            run_fail(run, DETAIL_STAT, ENAMETOOLONG, "stat");
        memcpy(op_state.found, name, strlen(name) + 1);
        detail = probe(name);
        if (detail)
            run_fail(run, detail, errno, detail == DETAIL_NO_EXEC ? "faccessat" : "stat");
        return;
    }
    while (*name && path && *path) {
        const char *end = strchr(path, ':');
        size_t n = end ? (size_t)(end - path) : strlen(path);
        if (join(path, n, name)) {
            detail = probe(op_state.found);
            if (!detail)
                return;
            seen |= detail == DETAIL_NO_EXEC;
        }
        path += n;
        if (*path == ':' && !*++path && join("", 0, name) && !probe(op_state.found)) /* "a:" ends in an empty element */
            return;
    }
    op_state.found[0] = 0;
    if (seen)
        run_fail(run, DETAIL_NO_EXEC, EACCES, "faccessat");
    run_fail(run, DETAIL_NOT_FOUND, ENOENT, "stat");
}
