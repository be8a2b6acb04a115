/* pyrunc/seal.py in C, for the launcher: the same three ways and the same question, before an interpreter exists
 * (CVE-2019-5736). See there for the reasons. Rule: what is executed has been asked the question before. */
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

#define SELF "/proc/self/exe"
#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#define OVERLAY_MAGIC 0x794c7630
#define TMPFS_MAGIC_ 0x01021994
#ifndef MFD_EXEC
#define MFD_EXEC 0x10U
#endif

static int has_path(int fd)
{
    char link[64], path[4096];
    struct stat here, there;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0 || fstat(fd, &here))
        return 1;
    path[n] = 0;
    return !stat(path, &there) && here.st_dev == there.st_dev && here.st_ino == there.st_ino;
}

static int is_safe(int fd)
{
    struct statfs fs;
    struct stat st;
    if (fstatfs(fd, &fs) || fstat(fd, &st))
        return 0;
    if (fs.f_type == TMPFS_MAGIC_) {
        int seals = fcntl(fd, F_GET_SEALS);
        if (seals >= 0 && (seals & SEALS) == SEALS)
            return 1;
    }
    if (st.st_nlink == 0)
        return 1;
    return fs.f_type == OVERLAY_MAGIC && fs.f_flags & ST_RDONLY && !has_path(fd);
}

/* Is `path` above `folder`, or the same? */
static int is_above(const char *path, const char *folder)
{
    size_t n = strlen(path);
    return strncmp(path, folder, n) == 0 && (folder[n] == '/' || folder[n] == 0 || n == 1);
}

/* lowerdir=FOLDER:OTHER, with colons and backslashes of the former escaped. 0: too long. */
static int layers(char *out, size_t size, const char *folder)
{
    static const char *const others[] = {"/usr/lib", "/etc", "/var", "/run"};
    size_t at = 0;
    for (const char *c = folder; *c; c++) {
        if (at + 3 >= size)
            return 0;
        if (*c == ':' || *c == '\\')
            out[at++] = '\\';
        out[at++] = *c;
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (!is_above(others[i], folder) && !is_above(folder, others[i]))
            return snprintf(out + at, size - at, ":%s", others[i]) < (int)(size - at);
    return 0;
}

static int overlay_mount(const char *folder)
{
    char lower[4096];
    if (!layers(lower, sizeof lower, folder))
        return -1;
    int context = (int)syscall(SYS_fsopen, "overlay", 1 /* FSOPEN_CLOEXEC */);
    if (context < 0)
        return -1;
    int mount = -1;
    if (!syscall(SYS_fsconfig, context, 1 /* SET_STRING */, "lowerdir", lower, 0) &&
        !syscall(SYS_fsconfig, context, 6 /* CMD_CREATE */, NULL, NULL, 0))
        mount = (int)syscall(SYS_fsmount, context, 1 /* FSMOUNT_CLOEXEC */, 1 | 2 | 4 /* RDONLY, NOSUID, NODEV */);
    close(context);
    return mount;
}

static int from_overlay(void)
{
    char path[4096];
    ssize_t n = readlink(SELF, path, sizeof path - 1);
    if (n <= 0)
        return -1;
    path[n] = 0;
    char *slash = strrchr(path, '/');
    if (!slash)
        return -1;
    *slash = 0;
    int mount = overlay_mount(slash == path ? "/" : path);
    if (mount < 0)
        return -1;
    int fd = openat(mount, slash + 1, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    close(mount);
    return fd;
}

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
