/* Does only what the kernel needs for a container: the physical limit of `run` and `create`.
 *
 *     floor ROOTFS NAME PROGRAM     prints the nanoseconds until the container would wait for start, and exits when PROGRAM has exited
 *
 * The work is that of the bundle `hello`: cgroups in every hierarchy with rules for devices, the same namespaces, the same mounts,
 * nodes, masks and capabilities, one process, the program, and the removal of everything. No configuration is read, nothing is
 * checked, no state is kept, no failure is undone: a real runtime takes longer. If a step fails, it prints a line and exits. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <linux/capability.h>
#include <time.h>
#include <unistd.h>
#include <grp.h>

#define MUST(what)                                                                                                     \
    do {                                                                                                               \
        if ((long)(what) < 0) {                                                                                        \
            fprintf(stderr, "floor: %s: %s\n", #what, strerror(errno));                                                \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)
#define MOST 32

static struct hierarchy {
    char mount[256], path[320];
    int is_v2, tasks;
} list[MOST];
static int count;

static long long now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void put(const char *folder, const char *file, const char *text)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    MUST(fd);
    MUST(write(fd, text, strlen(text)));
    close(fd);
}

/* On version 1 a new cpuset is empty, and accepts no process before it has the values of its parent. */
static void inherit(const struct hierarchy *h, const char *file)
{
    char path[700], text[4096];
    snprintf(path, sizeof path, "%s/%s", h->mount, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    put(h->path, file, text);
}

static void make_cgroups(const char *name)
{
    char line[1024], kind[32], point[256];
    FILE *mounts = fopen("/proc/self/mounts", "re");
    MUST(mounts ? 0 : -1);
    while (count < MOST && fgets(line, sizeof line, mounts)) {
        if (sscanf(line, "%*s %255s %31s", point, kind) != 2 || strncmp(kind, "cgroup", 6))
            continue;
        struct hierarchy *h = &list[count++];
        snprintf(h->mount, sizeof h->mount, "%s", point);
        snprintf(h->path, sizeof h->path, "%s/%s", point, name);
        h->is_v2 = kind[6] == '2';
        MUST(mkdir(h->path, 0755));
        if (!h->is_v2 && strstr(point, "cpuset")) {
            inherit(h, "cpuset.cpus");
            inherit(h, "cpuset.mems");
        }
        snprintf(line, sizeof line, "%s/%s", h->path, h->is_v2 ? "cgroup.procs" : "tasks");
        h->tasks = open(line, O_WRONLY | O_CLOEXEC);
        MUST(h->tasks);
    }
    fclose(mounts);
}

static void limit_devices(void)
{
    static const char *const rules[] = {"b *:* m", "c *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm",
                                        "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm"};
    for (int i = 0; i < count; i++) {
        if (list[i].is_v2 || !strstr(list[i].mount, "devices"))
            continue;
        put(list[i].path, "devices.deny", "a");
        for (size_t n = 0; n < sizeof rules / sizeof *rules; n++)
            put(list[i].path, "devices.allow", rules[n]);
    }
}

static void loopback(void)
{
    struct ifreq request = {.ifr_flags = IFF_UP, .ifr_name = "lo"};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    MUST(fd);
    MUST(ioctl(fd, SIOCSIFFLAGS, &request));
    close(fd);
}

static void nodes(void)
{
    static const struct {
        const char *name;
        int major, minor;
    } devices[] = {{"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0}};
    static const char *const links[][2] = {{"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"},
        {"/proc/self/fd/1", "dev/stdout"}, {"/proc/self/fd/2", "dev/stderr"}, {"pts/ptmx", "dev/ptmx"}};
    umask(0);
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        MUST(mknod(devices[i].name, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)));
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        MUST(symlink(links[i][0], links[i][1]));
    umask(022);
}

static void mounts(const char *root)
{
    const unsigned long usual = MS_NOSUID | MS_NOEXEC | MS_NODEV;
    char path[700];
    MUST(mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL));
    MUST(mount(root, root, NULL, MS_BIND | MS_REC, NULL));
    MUST(chdir(root));
    MUST(mount("proc", "proc", "proc", usual, NULL));
    MUST(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"));
    MUST(mkdir("dev/pts", 0755));
    MUST(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"));
    MUST(mkdir("dev/shm", 0755));
    MUST(mount("shm", "dev/shm", "tmpfs", usual, "mode=1777,size=65536k"));
    MUST(mkdir("dev/mqueue", 0755));
    MUST(mount("mqueue", "dev/mqueue", "mqueue", usual, NULL));
    MUST(mount("sysfs", "sys", "sysfs", usual | MS_RDONLY, NULL));
    MUST(mount("cgroup", "sys/fs/cgroup", "tmpfs", usual, "mode=755"));
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof path, "sys/fs/cgroup/%s", strrchr(list[i].mount, '/') + 1);
        MUST(mkdir(path, 0755));
        MUST(mount(list[i].path, path, NULL, MS_BIND, NULL));
        MUST(mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | usual, NULL));
    }
    nodes();
}

static void hide(void)
{
    static const char *const readonly[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
    static const char *const masked[] = {"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
        "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"};
    for (size_t i = 0; i < sizeof readonly / sizeof *readonly; i++)
        if (!mount(readonly[i], readonly[i], NULL, MS_BIND | MS_REC, NULL))
            MUST(mount(NULL, readonly[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL));
    for (size_t i = 0; i < sizeof masked / sizeof *masked; i++) {
        struct stat st;
        if (stat(masked[i], &st))
            continue;
        if (S_ISDIR(st.st_mode))
            MUST(mount("tmpfs", masked[i], "tmpfs", MS_RDONLY, "nr_blocks=1,nr_inodes=1"));
        else
            MUST(mount("/dev/null", masked[i], NULL, MS_BIND, NULL));
    }
}

static void rights(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{1 << 5 | 1 << 10 | 1 << 29, 1 << 5 | 1 << 10 | 1 << 29, 0}};
    for (int cap = 0; cap < 41; cap++)
        if (cap != 5 && cap != 10 && cap != 29)
            prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    MUST(setgroups(0, NULL));
    MUST(setresgid(0, 0, 0));
    MUST(setresuid(0, 0, 0));
    MUST(syscall(SYS_capset, &header, data));
    MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

static _Noreturn void container(const char *root, const char *program, int socket)
{
    char byte = 'r';
    for (int i = 0; i < count; i++) {
        MUST(write(list[i].tasks, "0", 1));
        close(list[i].tasks);
    }
    MUST(setsid());
    loopback();
    mounts(root);
    int old = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    MUST(syscall(SYS_pivot_root, ".", "."));
    MUST(fchdir(old));
    MUST(mount(NULL, ".", NULL, MS_SLAVE | MS_REC, NULL));
    MUST(umount2(".", MNT_DETACH));
    MUST(chdir("/"));
    MUST(sethostname("hello", 5));
    hide();
    rights();
    MUST(write(socket, &byte, 1));
    MUST(read(socket, &byte, 1));
    execl(program, program, (char *)NULL);
    MUST(-1);
    _exit(1);
}

int main(int argc, char **argv)
{
    long long began = now();
    int pair[2], status;
    char byte;
    if (argc != 4)
        return 2;
    make_cgroups(argv[2]);
    MUST(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
    uint64_t how[11] = {CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS, [4] = SIGCHLD};
    pid_t pid = (pid_t)syscall(SYS_clone3, how, sizeof how);
    MUST(pid);
    if (pid == 0)
        container(argv[1], argv[3], pair[1]);
    close(pair[1]);
    limit_devices();
    if (read(pair[0], &byte, 1) != 1)
        return 1;
    printf("%lld\n", now() - began);
    MUST(write(pair[0], &byte, 1));
    MUST(waitpid(pid, &status, 0));
    for (int i = 0; i < count; i++)
        MUST(rmdir(list[i].path));
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
