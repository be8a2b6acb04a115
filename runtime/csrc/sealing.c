/* pyrunc/seal.py in C, for the launcher: the same three ways and the same question, before an interpreter exists
 * (CVE-2019-5736). See there for the reasons; the first way is in early.c. Rule: what is executed has been asked the question before. */
#define _GNU_SOURCE
#include "sealing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "numbers.h"

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#ifndef MFD_EXEC
#define MFD_EXEC 0x10U
#endif

static int fill(int fd)
{
    int source = open(SELF, O_RDONLY | O_CLOEXEC);
    ssize_t n = -1;
    while (source >= 0 && (n = sendfile(fd, source, NULL, 1 << 30)) > 0)
        ;
    if (source >= 0)
        close(source);
    return n == 0 ? 0 : -1;
}

static int from_memfd(void)
{
    int fd = memfd_create("pyrunc", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("pyrunc", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd >= 0 && (fill(fd) || fcntl(fd, F_ADD_SEALS, SEALS))) {
        close(fd);
        return -1;
    }
    return fd;
}

static int from_unnamed(void)
{
    static const char *const folders[] = {"/run", "/dev/shm", "/tmp", "/var/tmp"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        struct statfs fs;
        char link[64];
        if (statfs(folders[i], &fs) || fs.f_flags & ST_NOEXEC)
            continue;
        int fd = open(folders[i], O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0500);
        if (fd < 0)
            continue;
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        int readable = fill(fd) ? -1 : open(link, O_RDONLY | O_CLOEXEC);
        close(fd); /* open for writing it would not be executed (ETXTBSY) */
        return readable;
    }
    return -1;
}

void seal_self(char **argv, char **environment)
{
    int (*const ways[])(void) = {from_overlay, from_memfd, from_unnamed};
    int self = open(SELF, O_RDONLY | O_CLOEXEC);
    if (self < 0)
        return;
    int done = is_safe(self);
    close(self);
    for (size_t i = 0; !done && i < sizeof ways / sizeof *ways; i++) {
        int fd = ways[i]();
        if (fd >= 0 && is_safe(fd))
            syscall(SYS_execveat, fd, "", argv, environment, AT_EMPTY_PATH);
        if (fd >= 0)
            close(fd);
    }
}
