/* Sealing by overlay, before the C library has started (CVE-2019-5736; pyrunc/seal.py has the reasons).
 *
 * A sealed command executes this program twice. A C library looks at the processor first (CPUID), which a virtual machine answers at
 * some 10 us a question: 0.3 ms a start. So the linker is told to begin here, and the first of the two starts needs no library at all.
 * What is unusual (closed standard streams, a name that leads nowhere, no overlay to be had) is left to launcher.c and sealing.c,
 * which begin from nothing.
 *
 * Rule: no function of the C library, no thread-local variable: neither is there yet. link.py gives the options for that. */
#define _GNU_SOURCE
#include "sealing.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

#include "commands.h"
#include "numbers.h"

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#define OVERLAY_MAGIC 0x794c7630
#define TMPFS_MAGIC_ 0x01021994
#define PATH_SIZE 4096

int early_is_sealed;

/* ---- system calls: the result, or the negative error */

#ifdef __x86_64__
static long call(long number, long a, long b, long c, long d, long e)
{
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
    return result;
}
#else
static long call(long number, long a, long b, long c, long d, long e)
{
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d, x4 __asm__("x4") = e;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
}
#endif

static int open_file(int dir, const char *path, int flags)
{
    return (int)call(SYS_openat, dir, (long)path, flags | O_CLOEXEC, 0, 0);
}

static void close_file(int fd)
{
    call(SYS_close, fd, 0, 0, 0, 0);
}

static int status_of(const char *path, struct stat *st)
{
    return (int)call(SYS_newfstatat, AT_FDCWD, (long)path, (long)st, 0, 0);
}

/* The link's text, ended by a zero; 0: none, or too long. */
static int read_link(const char *path, char *out)
{
    long n = call(SYS_readlinkat, AT_FDCWD, (long)path, (long)out, PATH_SIZE - 1, 0);
    if (n <= 0 || n >= PATH_SIZE - 1)
        return 0;
    out[n] = 0;
    return 1;
}

/* ---- words */

static size_t length(const char *text)
{
    size_t n = 0;
    while (text[n])
        n++;
    return n;
}

static int begins(const char *text, const char *with)
{
    while (*with)
        if (*text++ != *with++)
            return 0;
    return 1;
}

static const char *find(const char *text, char wanted)
{
    for (; *text; text++)
        if (*text == wanted)
            return text;
    return NULL;
}

static int in(const char *const *words, const char *word)
{
    for (; *words; words++)
        if (begins(word, *words) && length(*words) == length(word))
            return 1;
    return 0;
}

/* The rules of cli.parse for global options, as far as finding the command needs them. */
int is_sealed_command(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (word[0] != '-' || !word[1])
            return in(sealed_commands, word);
        if (word[1] == '-' && !word[2])
            return i + 1 < argc && in(sealed_commands, argv[i + 1]);
        while (*word == '-')
            word++;
        if (!find(word, '=') && in(options_with_value, word))
            i++;
    }
    return 0;
}

/* ---- is it safe? */

static int has_path(int fd)
{
    char link[32] = "/proc/self/fd/", path[PATH_SIZE], digits[12];
    struct stat here, there;
    size_t at = length(link), n = 0;
    for (unsigned left = (unsigned)fd; n == 0 || left; left /= 10)
        digits[n++] = (char)('0' + left % 10);
    while (n)
        link[at++] = digits[--n];
    link[at] = 0;
    if (!read_link(link, path) || call(SYS_fstat, fd, (long)&here, 0, 0, 0))
        return 1;
    return !status_of(path, &there) && here.st_dev == there.st_dev && here.st_ino == there.st_ino;
}

int is_safe(int fd)
{
    struct statfs fs;
    struct stat st;
    if (call(SYS_fstatfs, fd, (long)&fs, 0, 0, 0) || call(SYS_fstat, fd, (long)&st, 0, 0, 0))
        return 0;
    if (fs.f_type == TMPFS_MAGIC_) {
        long seals = call(SYS_fcntl, fd, F_GET_SEALS, 0, 0, 0);
        if (seals >= 0 && (seals & SEALS) == SEALS)
            return 1;
    }
    if (st.st_nlink == 0)
        return 1;
    return fs.f_type == OVERLAY_MAGIC && fs.f_flags & ST_RDONLY && !has_path(fd);
}

/* ---- an overlay of two lower directories */

/* Is `path` above `folder`, or the same? */
static int is_above(const char *path, const char *folder)
{
    size_t n = length(path);
    return begins(folder, path) && (folder[n] == '/' || folder[n] == 0 || n == 1);
}

/* lowerdir=FOLDER:OTHER, with colons and backslashes of the former escaped. 0: too long. */
static int layers(char *out, const char *folder)
{
    static const char *const others[] = {"/usr/lib", "/etc", "/var", "/run"};
    size_t at = 0;
    for (const char *c = folder; *c; c++) {
        if (at + 16 >= PATH_SIZE)
            return 0;
        if (*c == ':' || *c == '\\')
            out[at++] = '\\';
        out[at++] = *c;
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (is_above(others[i], folder) || is_above(folder, others[i]))
            continue;
        out[at++] = ':';
        for (const char *c = others[i]; *c; c++)
            out[at++] = *c;
        out[at] = 0;
        return 1;
    }
    return 0;
}

static int overlay_mount(const char *folder)
{
    char lower[PATH_SIZE];
    if (!layers(lower, folder))
        return -1;
    int context = (int)call(SYS_fsopen, (long)"overlay", 1 /* FSOPEN_CLOEXEC */, 0, 0, 0);
    if (context < 0)
        return -1;
    int mount = -1;
    if (!call(SYS_fsconfig, context, 1 /* SET_STRING */, (long)"lowerdir", (long)lower, 0) &&
        !call(SYS_fsconfig, context, 6 /* CMD_CREATE */, 0, 0, 0))
        mount = (int)call(SYS_fsmount, context, 1 /* FSMOUNT_CLOEXEC */, 1 | 2 | 4 /* RDONLY, NOSUID, NODEV */, 0, 0);
    close_file(context);
    return mount;
}

int from_overlay(void)
{
    char path[PATH_SIZE];
    if (!read_link(SELF, path))
        return -1;
    char *slash = NULL;
    for (char *c = path; *c; c++)
        if (*c == '/')
            slash = c;
    if (!slash)
        return -1;
    *slash = 0;
    int mount = overlay_mount(slash == path ? "/" : path);
    if (mount < 0)
        return -1;
    int fd = open_file(mount, slash + 1, O_RDONLY | O_NOFOLLOW);
    close_file(mount);
    return fd < 0 ? -1 : fd;
}

/* ---- the first start */

static int is_us(const char *path)
{
    struct stat here, there;
    return !status_of(SELF, &here) && !status_of(path, &there) && here.st_dev == there.st_dev && here.st_ino == there.st_ino;
}

/* What launcher.c's where() would find, for the two usual ways of being called: an absolute path, a word that is found in PATH. */
static char *place(char *name, char **environment, char *out)
{
    if (name[0] == '/')
        return is_us(name) ? name : NULL;
    const char *path = NULL;
    for (; !path && *environment; environment++)
        if (begins(*environment, "PATH="))
            path = *environment + 5;
    while (path && *path && !find(name, '/')) {
        size_t n = 0;
        for (; path[n] && path[n] != ':'; n++)
            if (n < PATH_SIZE)
                out[n] = path[n];
        if (n && path[0] == '/' && n + 1 + length(name) < PATH_SIZE) {
            out[n] = '/';
            for (size_t i = 0; i <= length(name); i++)
                out[n + 1 + i] = name[i];
            if (is_us(out))
                return out;
        }
        path += n + (path[n] == ':');
    }
    return NULL;
}

void early(long *stack)
{
    char found[PATH_SIZE];
    int argc = (int)stack[0];
    char **argv = (char **)(stack + 1), **environment = argv + argc + 1;
    if (argc < 1 || !is_sealed_command(argc, argv))
        return;
    for (int fd = 0; fd < 3; fd++)
        if (call(SYS_fcntl, fd, F_GETFD, 0, 0, 0) < 0)
            return;
    int self = open_file(AT_FDCWD, SELF, O_RDONLY);
    if (self < 0)
        return;
    early_is_sealed = is_safe(self);
    close_file(self);
    char *name = early_is_sealed ? NULL : place(argv[0], environment, found), *given = argv[0];
    int fd = name ? from_overlay() : -1;
    if (fd < 0)
        return;
    if (is_safe(fd)) {
        argv[0] = name;
        call(SYS_execveat, fd, (long)"", (long)argv, (long)environment, AT_EMPTY_PATH);
        argv[0] = given;
    }
    close_file(fd);
}

#ifdef PYRUNC_EARLY /* the address where the linker lets the program begin: early(stack), then the C library as ever */
__asm__(".text\n.globl pyrunc_entry\n.type pyrunc_entry, @function\npyrunc_entry:\n"
        "    xor %ebp, %ebp\n    mov %rsp, %rbx\n    mov %rdx, %r12\n    mov %rsp, %rdi\n    call early\n"
        "    mov %rbx, %rsp\n    mov %r12, %rdx\n    jmp _start\n");
#endif
