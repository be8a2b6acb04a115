/* What a hostile process of a container does, as one static program. Built by conftest.py; it prints one line a finding and nothing else.
 *
 *   prober watch STOP        until the file STOP is there: of every other process, what can be reached through /proc
 *   prober personality A B   the system call with these arguments, and its errno
 *
 * Nothing is ever written: a descriptor that could be written to is the finding. A sealed memory file and an unlinked file are none.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HELD = 64, PIDS = 1 << 16 };

static int held[HELD], n_held;
static char reported[PIDS];
static const char *outside;  /* a path of the host that no process of a container may reach */

/* Descriptors of this process that lead to a file which the next user of the host would execute. */
static int writable_host_file(int fd)
{
    struct stat st, own;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_nlink == 0)
        return 0;
    int seals = fcntl(fd, F_GET_SEALS);
    if (seals > 0 && (seals & F_SEAL_WRITE))
        return 0;
    for (const char **p = (const char *[]){"/bin/busybox", "/bin/prober", NULL}; *p; p++)
        if (!stat(*p, &own) && own.st_dev == st.st_dev && own.st_ino == st.st_ino)
            return 0;
    return 1;
}

static void try_write(const char *path, const char *what, long pid)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return;
    if (writable_host_file(fd))
        printf("WRITABLE %s of %ld\n", what, pid);
    close(fd);
}

static void hold(long pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%ld/exe", pid);
    try_write(path, "exe", pid);
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return;
    struct stat st, own;
    if (fstat(fd, &st) || (!stat("/bin/busybox", &own) && st.st_ino == own.st_ino) || n_held == HELD) {
        close(fd);
        return;
    }
    held[n_held++] = fd;
}

/* The process may be gone by now, and the file no longer busy. */
static void reopen(void)
{
    char path[64];
    for (int i = 0; i < n_held; i++) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", held[i]);
        try_write(path, "held executable", i);
    }
}

/* Every name below /proc/PID that leads somewhere, and from there up and down to the host's file. */
static void try_reach(long pid)
{
    char path[8192], dir[64];
    for (const char **p = (const char *[]){"root", "cwd", NULL}; *p; p++) {
        snprintf(path, sizeof path, "/proc/%ld/%s/../../../../../../../../..%s", pid, *p, outside);
        if (!access(path, R_OK))
            printf("REACHED through %s of %ld\n", *p, pid);
    }
    snprintf(dir, sizeof dir, "/proc/%ld/fd", pid);
    DIR *fds = opendir(dir);
    if (!fds)
        return;
    for (struct dirent *e; (e = readdir(fds));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%ld/fd/%s/../../../../../../../../..%s", pid, e->d_name, outside);
        if (!access(path, R_OK))
            printf("REACHED through descriptor %s of %ld\n", e->d_name, pid);
        snprintf(path, sizeof path, "/proc/%ld/fd/%s", pid, e->d_name);
        try_write(path, "descriptor", pid);
    }
    closedir(fds);
}

static void try_secret(long pid)
{
    char path[64], text[1 << 16];
    snprintf(path, sizeof path, "/proc/%ld/environ", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n = read(fd, text, sizeof text);
    close(fd);
    if (n > 0 && memmem(text, n, "HOSTSECRET", 10))
        printf("SECRET in the environment of %ld\n", pid);
}

static int watch(const char *stop)
{
    long own = getpid();
    printf("WATCHING\n");
    fflush(stdout);
    while (access(stop, F_OK)) {
        DIR *proc = opendir("/proc");
        for (struct dirent *e; proc && (e = readdir(proc));) {
            long pid = atol(e->d_name);
            if (pid <= 1 || pid == own)
                continue;
            hold(pid);
            try_reach(pid);
            try_secret(pid);
            if (pid < PIDS && !reported[pid] && !ptrace(PTRACE_SEIZE, (pid_t)pid, 0, 0)) {
                reported[pid] = 1; /* SEIZE, as ATTACH may leave a stop behind when an execve comes between */
                ptrace(PTRACE_INTERRUPT, (pid_t)pid, 0, 0);
                waitpid(pid, NULL, __WALL);
                hold(pid);
                try_reach(pid);
                try_secret(pid);
                ptrace(PTRACE_DETACH, (pid_t)pid, 0, 0);
            }
        }
        if (proc)
            closedir(proc);
        if (n_held == HELD) {
            reopen();
            while (n_held)
                close(held[--n_held]);
        }
        fflush(stdout);
    }
    reopen();
    printf("END\n");
    return 0;
}

int main(int argc, char **argv)
{
    outside = getenv("OUTSIDE") ? getenv("OUTSIDE") : "/nowhere";
    if (argc == 3 && !strcmp(argv[1], "watch"))
        return watch(argv[2]);
    if (argc == 4 && !strcmp(argv[1], "personality")) {
        errno = 0;
        long result = syscall(SYS_personality, atol(argv[2]), atol(argv[3]), 0);
        printf("%ld %d\n", result, result < 0 ? errno : 0);
        return 0;
    }
    return 2;
}
