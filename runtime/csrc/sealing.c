/* Sealing, see sealing.h. A file that is executed has passed the same check that a sealed process makes on itself, so there is no loop.
 * Rule: as in bare.h, because early.c calls this before the C library has started. */
#define _GNU_SOURCE
#include "sealing.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

#include "bare.h"

#define LINK_SIZE 32          /* "/proc/self/fd/" and a number */
#define CHUNK (1 << 30)       /* one sendfile(2) copies 2 GiB at most */
#define LOW_BITS 0xffffffffUL /* overlayfs with xino puts the number of the layer into the upper bits of an inode number */
#ifndef MFD_CLOEXEC
#define MFD_CLOEXEC 0x1U
#define MFD_ALLOW_SEALING 0x2U
#endif
#ifndef MFD_EXEC
#define MFD_EXEC 0x10U
#endif

static long open_file(int dir, const char *path, int flags, int mode)
{
    return bare_call(SYS_openat, dir, (long)path, flags | O_CLOEXEC, mode, 0);
}

static void close_file(long fd)
{
    bare_call(SYS_close, fd, 0, 0, 0, 0);
}

/* Reads the text of a link, terminated by a zero. Returns its length or a negative errno. */
static long read_link(const char *path, char *out)
{
    long n = bare_call(SYS_readlinkat, AT_FDCWD, (long)path, (long)out, PATH_MAX - 1, 0);
    if (n >= PATH_MAX - 1)
        return -ENAMETOOLONG;
    if (n >= 0)
        out[n] = 0;
    return n;
}

static void link_of(char *out, int fd)
{
    char digits[12];
    size_t at = bare_append(out, 0, LINK_SIZE, "/proc/self/fd/"), n = 0;
    for (unsigned left = (unsigned)fd; n == 0 || left; left /= 10)
        digits[n++] = (char)('0' + left % 10);
    while (n)
        out[at++] = digits[--n];
    out[at] = 0;
}

/* ---- is it safe? */

/* Whether the path that the kernel shows for the file leads to it. It does not for a file in a detached mount. */
static int has_path(int fd)
{
    char link[LINK_SIZE], path[PATH_MAX];
    struct stat here, there;
    link_of(link, fd);
    if (read_link(link, path) <= 0 || bare_call(SYS_fstat, fd, (long)&here, 0, 0, 0))
        return 1;
    return !bare_status(path, &there) && here.st_dev == there.st_dev && here.st_ino == there.st_ino;
}

int sealing_is_safe(int fd)
{
    struct statfs fs;
    struct stat st;
    long error = bare_call(SYS_fstatfs, fd, (long)&fs, 0, 0, 0);
    if (!error)
        error = bare_call(SYS_fstat, fd, (long)&st, 0, 0, 0);
    if (error)
        return (int)error;
    if (fs.f_type == TMPFS_MAGIC) {
        long seals = bare_call(SYS_fcntl, fd, F_GET_SEALS, 0, 0, 0);
        if (seals >= 0 && (seals & SEALS) == SEALS)
            return 1;
    }
    if (st.st_nlink == 0) /* the copy from sealing_open, whose writer is closed; or a program that was deleted while it runs */
        return 1;
    return fs.f_type == OVERLAYFS_SUPER_MAGIC && fs.f_flags & ST_RDONLY && !has_path(fd);
}

int sealing_is_done(void)
{
    long self = open_file(AT_FDCWD, SELF, O_RDONLY, 0);
    if (self < 0)
        return (int)self;
    int safe = sealing_is_safe((int)self);
    close_file(self);
    return safe;
}

/* ---- an overlay of two lower directories: without an upper one, its superblock can't be made writable */

/* Whether `path` is `folder` or a parent of it. */
static int is_above(const char *path, const char *folder)
{
    size_t n = bare_length(path);
    return bare_begins(folder, path) && (folder[n] == '/' || folder[n] == 0 || n == 1);
}

/* "FOLDER:OTHER" with some other directory that is neither above nor below it; colons and backslashes in FOLDER are escaped. */
static long layers(char *out, const char *folder)
{
    static const char *const others[] = {"/usr/lib", "/etc", "/var", "/run"};
    size_t at = 0;
    for (const char *c = folder; *c; c++) {
        if (at + LINK_SIZE >= PATH_MAX)
            return -ENAMETOOLONG;
        if (*c == ':' || *c == '\\')
            out[at++] = '\\';
        out[at++] = *c;
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (is_above(others[i], folder) || is_above(folder, others[i]))
            continue;
        out[at++] = ':';
        bare_append(out, at, PATH_MAX, others[i]);
        return 0;
    }
    return -EINVAL;
}

static long overlay_mount(const char *folder, const char **call)
{
    char lower[PATH_MAX];
    *call = "fsopen";
    long error = layers(lower, folder);
    if (error)
        return error;
    long context = bare_call(SYS_fsopen, (long)"overlay", FSOPEN_CLOEXEC, 0, 0, 0);
    if (context < 0)
        return context;
    *call = "fsconfig";
    long mount = bare_call(SYS_fsconfig, context, FSCONFIG_SET_STRING, (long)"lowerdir", (long)lower, 0);
    if (!mount)
        mount = bare_call(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, 0, 0, 0);
    if (!mount) {
        *call = "fsmount";
        mount = bare_call(SYS_fsmount, context, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, 0, 0);
    }
    close_file(context);
    return mount;
}

/* Whether `fd` has the contents of the running executable. Its directory may contain another file with that name: a bind mount over a
 * file is not part of an overlay of its directory, and a file may have been replaced. No process can set the change time. */
static int is_the_running_one(int fd)
{
    struct stat sealed, running;
    if (bare_call(SYS_fstat, fd, (long)&sealed, 0, 0, 0) || bare_status(SELF, &running))
        return 0;
    return sealed.st_size == running.st_size && sealed.st_mode == running.st_mode && sealed.st_uid == running.st_uid &&
           ((sealed.st_ino ^ running.st_ino) & LOW_BITS) == 0 && sealed.st_ctim.tv_sec == running.st_ctim.tv_sec &&
           sealed.st_ctim.tv_nsec == running.st_ctim.tv_nsec;
}

static long from_overlay(const char **call)
{
    char path[PATH_MAX];
    *call = "readlinkat";
    long n = read_link(SELF, path);
    if (n <= 0)
        return n ? n : -ENOENT;
    char *slash = NULL;
    for (char *c = path; *c; c++)
        if (*c == '/')
            slash = c;
    if (!slash)
        return -ENOENT;
    *slash = 0;
    long mount = overlay_mount(slash == path ? "/" : path, call);
    if (mount < 0)
        return mount;
    *call = "openat";
    long fd = open_file((int)mount, slash + 1, O_RDONLY | O_NOFOLLOW, 0);
    close_file(mount);
    if (fd >= 0 && !is_the_running_one((int)fd)) {
        close_file(fd);
        return -ESTALE;
    }
    return fd;
}

/* ---- copies */

static long fill(long fd, const char **call)
{
    *call = "openat";
    long source = open_file(AT_FDCWD, SELF, O_RDONLY, 0), n = source;
    if (source < 0)
        return source;
    *call = "sendfile";
    while ((n = bare_call(SYS_sendfile, fd, source, 0, CHUNK, 0)) > 0)
        ;
    close_file(source);
    return n;
}

static long from_memfd(const char **call)
{
    *call = "memfd_create";
    long fd = bare_call(SYS_memfd_create, (long)"pyrunc", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC, 0, 0, 0);
    if (fd == -EINVAL) /* a kernel before 6.3 does not know MFD_EXEC, and does not need it */
        fd = bare_call(SYS_memfd_create, (long)"pyrunc", MFD_CLOEXEC | MFD_ALLOW_SEALING, 0, 0, 0);
    if (fd < 0)
        return fd;
    long error = fill(fd, call);
    if (!error) {
        *call = "fcntl";
        error = bare_call(SYS_fcntl, fd, F_ADD_SEALS, SEALS, 0, 0);
    }
    if (error) {
        close_file(fd);
        return error;
    }
    return fd;
}

/* A file that never had a name and, because of O_EXCL, can't get one. */
static long from_unnamed(const char **call)
{
    static const char *const folders[] = {"/run", "/dev/shm", "/tmp", "/var/tmp"};
    long error = -EACCES;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        struct statfs fs;
        char link[LINK_SIZE];
        if (bare_call(SYS_statfs, (long)folders[i], (long)&fs, 0, 0, 0) || fs.f_flags & ST_NOEXEC)
            continue;
        *call = "openat";
        long fd = open_file(AT_FDCWD, folders[i], O_TMPFILE | O_RDWR | O_EXCL, S_IRUSR | S_IXUSR);
        if (fd < 0) {
            error = fd;
            continue;
        }
        error = fill(fd, call);
        link_of(link, (int)fd);
        long readable = error ? error : open_file(AT_FDCWD, link, O_RDONLY, 0);
        close_file(fd); /* while it is open for writing it cannot be executed (ETXTBSY) */
        return readable;
    }
    return error;
}

int sealing_open(enum sealing_way way, const char **call)
{
    switch (way) {
    case SEALING_OVERLAY: return (int)from_overlay(call);
    case SEALING_MEMFD: return (int)from_memfd(call);
    case SEALING_UNNAMED: return (int)from_unnamed(call);
    case SEALING_WAYS: break;
    }
    *call = "sealing_open";
    return -EINVAL;
}

int sealing_execute(int fd, char **argv, char **environment)
{
    return (int)bare_call(SYS_execveat, fd, (long)"", (long)argv, (long)environment, AT_EMPTY_PATH);
}

void seal_self(char **argv, char **environment)
{
    const char *call;
    if (sealing_is_done())
        return;
    for (int way = 0; way < SEALING_WAYS; way++) {
        int fd = sealing_open((enum sealing_way)way, &call);
        if (fd < 0)
            continue;
        if (sealing_is_safe(fd) > 0)
            sealing_execute(fd, argv, environment);
        close_file(fd);
    }
}
