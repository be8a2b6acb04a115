/* The suite's eyes inside a container: runs the operations of its command line and prints one JSON object a line for each.
 *
 *     probe OP [ARG...] [+ OP [ARG...]]...        operations, see the table at the end
 *
 * It is linked statically, so that it runs in an empty root, in the host's (as a hook), and under any limit. It needs neither /proc
 * nor a shell; what it cannot find out is left out. One file, longer than others here: it is built by one call of the compiler.
 * Bytes above 0x7f are printed as \u00XX, one for each, so that any name survives. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static char *text; /* the line that is being built */
static size_t used, room;

static void put(const char *s, size_t n)
{
    if (used + n + 1 > room) {
        room = (used + n + 1) * 2;
        text = realloc(text, room);
        if (!text)
            _exit(99);
    }
    memcpy(text + used, s, n);
    used += n;
    text[used] = 0;
}

static void puts_(const char *s) { put(s, strlen(s)); }

static void quoted(const char *s, size_t n)
{
    char esc[8];
    puts_("\"");
    for (size_t i = 0; i < n; i++) {
        unsigned char c = s[i];
        if (c == '"' || c == '\\' || c < 0x20 || c >= 0x7f) {
            snprintf(esc, sizeof esc, "\\u%04x", c);
            puts_(esc);
        } else {
            put(s + i, 1);
        }
    }
    puts_("\"");
}

static void key(const char *name)
{
    if (used && text[used - 1] != '{')
        puts_(", ");
    quoted(name, strlen(name));
    puts_(": ");
}

static void str(const char *name, const char *value) { key(name); quoted(value, strlen(value)); }

static void num(const char *name, long long value)
{
    char buffer[32];
    key(name);
    snprintf(buffer, sizeof buffer, "%lld", value);
    puts_(buffer);
}

static void big(const char *name, unsigned long long value)
{
    char buffer[32];
    key(name);
    snprintf(buffer, sizeof buffer, "%llu", value);
    puts_(buffer);
}

static void item(void) { if (used && text[used - 1] != '[') puts_(", "); }

static void begin(const char *op) { used = 0; puts_("{"); str("op", op); }

static void end(void)
{
    puts_("}\n");
    for (size_t done = 0; done < used;) {
        ssize_t n = write(1, text + done, used - done);
        if (n < 0 && errno != EINTR)
            _exit(98);
        done += n > 0 ? n : 0;
    }
}

static void fail(int error) { num("errno", error); }

static char *slurp(int fd, size_t *size)
{
    size_t have = 0, space = 1 << 16;
    char *data = malloc(space);
    for (;;) {
        ssize_t n = read(fd, data + have, space - have - 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && !have) {
            free(data);
            return NULL;
        }
        if (n <= 0)
            break;
        have += n;
        if (space - have < 2)
            data = realloc(data, space *= 2);
    }
    data[have] = 0;
    *size = have;
    return data;
}

/* ---- the process itself */

static void ids(void)
{
    uid_t r, e, s;
    gid_t groups[512];
    getresuid(&r, &e, &s);
    num("uid", r), num("euid", e), num("suid", s);
    getresgid(&r, &e, &s);
    num("gid", r), num("egid", e), num("sgid", s);
    int n = getgroups(512, groups);
    key("groups"), puts_("[");
    for (int i = 0; i < n; i++) {
        char buffer[16];
        item();
        snprintf(buffer, sizeof buffer, "%u", groups[i]);
        puts_(buffer);
    }
    puts_("]");
    num("pid", getpid()), num("ppid", getppid()), num("sid", getsid(0)), num("pgid", getpgid(0));
    mode_t mask = umask(0);
    umask(mask);
    num("umask", mask);
}

static void capabilities(void)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0}};
    unsigned long long bounding = 0, ambient = 0;
    syscall(SYS_capget, &head, data);
    for (int cap = 0; cap < 64; cap++) {
        int has = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
        if (has < 0)
            break;
        bounding |= (unsigned long long)has << cap;
        ambient |= (unsigned long long)(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, cap, 0, 0) > 0) << cap;
    }
    key("capabilities"), puts_("{");
    big("effective", data[0].effective | (unsigned long long)data[1].effective << 32);
    big("permitted", data[0].permitted | (unsigned long long)data[1].permitted << 32);
    big("inheritable", data[0].inheritable | (unsigned long long)data[1].inheritable << 32);
    big("bounding", bounding), big("ambient", ambient);
    puts_("}");
}

static void limits(void)
{
    static const char *names[] = {"CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS", "LOCKS",
                                  "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"};
    key("rlimits"), puts_("{");
    for (int i = 0; i < 16; i++) {
        struct { uint64_t soft, hard; } limit;
        if (syscall(SYS_prlimit64, 0, i, NULL, &limit))
            continue;
        key(names[i]), puts_("{");
        big("soft", limit.soft), big("hard", limit.hard);
        puts_("}");
    }
    puts_("}");
}

static void scheduling(void)
{
    struct { uint32_t size, policy; uint64_t flags; int32_t nice; uint32_t priority; uint64_t runtime, deadline, period; } a = {0};
    if (!syscall(SYS_sched_getattr, 0, &a, sizeof a, 0)) {
        key("scheduler"), puts_("{");
        num("policy", a.policy), num("flags", a.flags), num("nice", a.nice), num("priority", a.priority);
        big("runtime", a.runtime), big("deadline", a.deadline), big("period", a.period);
        puts_("}");
    }
    num("ioprio", syscall(SYS_ioprio_get, 1, 0));
    unsigned long mask[128] = {0}, nodes[64] = {0};
    if (syscall(SYS_sched_getaffinity, 0, sizeof mask, mask) > 0) {
        key("cpus"), puts_("[");
        for (int cpu = 0; cpu < 8192; cpu++)
            if (mask[cpu / 64] >> cpu % 64 & 1) {
                char buffer[16];
                item();
                snprintf(buffer, sizeof buffer, "%d", cpu);
                puts_(buffer);
            }
        puts_("]");
    }
    int mode = -1;
    if (!syscall(SYS_get_mempolicy, &mode, nodes, 4096UL, 0, 0))
        num("mempolicy", mode), big("memnodes", nodes[0]);
}

static void terminal(void)
{
    key("tty"), puts_("[");
    for (int fd = 0; fd < 3; fd++) {
        struct winsize size = {0};
        struct stat st;
        item();
        puts_("{");
        int is = isatty(fd);
        num("is", is);
        if (is && !ioctl(fd, TIOCGWINSZ, &size))
            num("rows", size.ws_row), num("columns", size.ws_col);
        if (!fstat(fd, &st))
            num("rdev", st.st_rdev), num("ino", st.st_ino), num("dev", st.st_dev), num("type", st.st_mode & S_IFMT);
        num("owner", is ? tcgetsid(fd) : -1);
        puts_("}");
    }
    puts_("]");
}

static void links(const char *name, const char *directory)
{
    DIR *dir = opendir(directory);
    if (!dir)
        return;
    key(name), puts_("{");
    for (struct dirent *entry; (entry = readdir(dir));) {
        char target[4096], number[16];
        ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof target);
        snprintf(number, sizeof number, "%d", dirfd(dir));
        if (n < 0 || !strcmp(entry->d_name, number))
            continue;
        key(entry->d_name);
        quoted(target, n);
    }
    puts_("}");
    closedir(dir);
}

static void file_number(const char *name, const char *path)
{
    char buffer[64] = "";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (read(fd, buffer, 63) > 0)
        num(name, atoll(buffer));
    close(fd);
}

extern char **environ;
static int main_argc;
static char **main_argv;

static void strings(const char *name, char **list, int count)
{
    key(name), puts_("[");
    for (int i = 0; count < 0 ? list[i] != NULL : i < count; i++) {
        item();
        quoted(list[i], strlen(list[i]));
    }
    puts_("]");
}

static void clocks(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    num("monotonic", t.tv_sec);
    clock_gettime(CLOCK_BOOTTIME, &t);
    num("boottime", t.tv_sec);
}

static int op_self(int argc, char **argv)
{
    struct utsname name;
    char path[4096] = "";
    struct stat st;
    (void)argc, (void)argv;
    ids(), capabilities(), limits(), scheduling(), terminal();
    num("no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    num("dumpable", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
    num("personality", personality(0xffffffff));
    if (!uname(&name))
        str("hostname", name.nodename), str("domainname", name.domainname), str("machine", name.machine);
    if (syscall(SYS_getcwd, path, sizeof path) > 0)
        str("cwd", path);
    if (!stat("/", &st))
        num("root_dev", st.st_dev), num("root_ino", st.st_ino);
    strings("args", main_argv, main_argc);
    strings("env", environ, -1);
    links("fds", "/proc/self/fd");
    links("ns", "/proc/self/ns");
    file_number("oom_score_adj", "/proc/self/oom_score_adj");
    clocks();
    return 0;
}

/* ---- files */

static void kind(const struct stat *st)
{
    const char *names[] = {"?", "fifo", "char", "?", "dir", "?", "block", "?", "file", "?", "link", "?", "socket"};
    int type = st->st_mode >> 12 & 15;
    str("type", type < 13 ? names[type] : "?");
    num("mode", st->st_mode & 07777), num("uid", st->st_uid), num("gid", st->st_gid), num("size", st->st_size);
    num("dev", st->st_dev), num("ino", st->st_ino), num("major", major(st->st_rdev)), num("minor", minor(st->st_rdev));
}

static int op_stat(int argc, char **argv)
{
    struct stat st;
    char target[4096];
    (void)argc;
    str("path", argv[1]);
    int follow = !strcmp(argv[0], "follow");
    int error = (follow ? stat : lstat)(argv[1], &st) ? errno : 0;
    fail(error);
    if (error)
        return 0;
    kind(&st);
    ssize_t n = readlink(argv[1], target, sizeof target);
    if (n >= 0)
        key("target"), quoted(target, n);
    return 0;
}

static int op_statfs(int argc, char **argv)
{
    struct statfs fs;
    (void)argc;
    str("path", argv[1]);
    int error = statfs(argv[1], &fs) ? errno : 0;
    fail(error);
    if (!error)
        big("type", (unsigned long)fs.f_type & 0xffffffffUL), big("flags", fs.f_flags), num("blocks", fs.f_blocks), num("bsize", fs.f_bsize);
    return 0;
}

static int op_read(int argc, char **argv)
{
    size_t size;
    (void)argc;
    str("path", argv[1]);
    int fd = open(argv[1], O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    char *data = fd < 0 ? NULL : slurp(fd, &size);
    fail(data ? 0 : errno);
    if (data)
        key("text"), quoted(data, size);
    free(data);
    if (fd >= 0)
        close(fd);
    return 0;
}

static int op_open(int argc, char **argv)
{
    const char *how = argc > 2 ? argv[2] : "r";
    int flags = !strcmp(how, "r") ? O_RDONLY : !strcmp(how, "w") ? O_WRONLY : !strcmp(how, "rw") ? O_RDWR : O_WRONLY | O_CREAT;
    str("path", argv[1]), str("how", how);
    int fd = open(argv[1], flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0644);
    fail(fd < 0 ? errno : 0);
    if (fd >= 0)
        close(fd);
    return 0;
}

static int op_write(int argc, char **argv)
{
    (void)argc;
    str("path", argv[1]);
    int fd = open(argv[1], O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    fail(fd < 0 || write(fd, argv[2], strlen(argv[2])) < 0 ? errno : 0);
    if (fd >= 0)
        close(fd);
    return 0;
}

static int op_list(int argc, char **argv)
{
    DIR *dir = opendir(argv[1]);
    (void)argc;
    str("path", argv[1]);
    fail(dir ? 0 : errno);
    if (!dir)
        return 0;
    key("names"), puts_("[");
    for (struct dirent *entry; (entry = readdir(dir));)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) {
            item();
            quoted(entry->d_name, strlen(entry->d_name));
        }
    puts_("]");
    closedir(dir);
    return 0;
}

static int op_mknod(int argc, char **argv)
{
    mode_t type = argv[2][0] == 'c' ? S_IFCHR : argv[2][0] == 'b' ? S_IFBLK : S_IFIFO;
    str("path", argv[1]);
    fail(mknod(argv[1], type | 0600, argc > 4 ? makedev(atoi(argv[3]), atoi(argv[4])) : 0) ? errno : 0);
    return 0;
}

static int op_mkdir(int argc, char **argv) { (void)argc; str("path", argv[1]); fail(mkdir(argv[1], 0777) ? errno : 0); return 0; }

static int op_mount(int argc, char **argv)
{
    str("path", argv[2]);
    fail(mount(argv[1], argv[2], argv[3], strtoul(argv[4], NULL, 0), argc > 5 ? argv[5] : NULL) ? errno : 0);
    return 0;
}

/* ---- system calls and processes */

static const struct { const char *name; long number; } calls[] = {
    {"getpid", SYS_getpid}, {"getppid", SYS_getppid}, {"uname", SYS_uname}, {"getcwd", SYS_getcwd}, {"fchdir", SYS_fchdir},
    {"sethostname", SYS_sethostname}, {"setdomainname", SYS_setdomainname}, {"personality", SYS_personality}, {"sync", SYS_sync},
    {"umask", SYS_umask}, {"getpriority", SYS_getpriority}, {"setpriority", SYS_setpriority}, {"unshare", SYS_unshare},
    {"shmget", SYS_shmget}, {"msgget", SYS_msgget}, {"dup", SYS_dup}, {"getsid", SYS_getsid},
    {"socket", SYS_socket}, {"setns", SYS_setns}, {"keyctl", SYS_keyctl}, {"prctl", SYS_prctl}, {"mlockall", SYS_mlockall},
    {"kill", SYS_kill}, {"fchmod", SYS_fchmod}, {"swapoff", SYS_swapoff}, {"acct", SYS_acct}, {"getrandom", SYS_getrandom},
};

static int op_call(int argc, char **argv)
{
    unsigned long a[6] = {0};
    struct { long ret; int error; } answer = {0, -1};
    int ends[2], status = 0;
    long number = -1;
    str("name", argv[1]);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (!strcmp(calls[i].name, argv[1]))
            number = calls[i].number;
    for (int i = 2; i < argc && i < 8; i++)
        a[i - 2] = argv[i][0] == '=' ? (unsigned long)(argv[i] + 1) : strtoul(argv[i], NULL, 0);
    if (number < 0 || pipe(ends))
        return num("known", 0), 0;
    pid_t pid = fork(); /* the filter may kill the caller */
    if (!pid) {
        errno = 0;
        answer.ret = syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
        answer.error = answer.ret == -1 ? errno : 0;
        _exit(write(ends[1], &answer, sizeof answer) == sizeof answer ? 0 : 97);
    }
    close(ends[1]);
    ssize_t got = read(ends[0], &answer, sizeof answer);
    close(ends[0]);
    waitpid(pid, &status, 0);
    num("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    if (got == sizeof answer)
        num("ret", answer.ret), fail(answer.error);
    return 0;
}

static int op_run(int argc, char **argv)
{
    int ends[2], error = 0, status = 0;
    char line[4096];
    (void)argc;
    snprintf(line, sizeof line, "%s", argv[1]);
    if (pipe2(ends, O_CLOEXEC))
        return num("errno", errno), 0;
    pid_t pid = fork();
    if (!pid) {
        execv(argv[1], argv + 1);
        error = errno;
        _exit(write(ends[1], &error, sizeof error) == sizeof error ? 127 : 126);
    }
    close(ends[1]);
    if (read(ends[0], &error, sizeof error) != sizeof error)
        error = 0;
    close(ends[0]);
    waitpid(pid, &status, 0);
    str("path", line);
    num("exit", WIFEXITED(status) ? WEXITSTATUS(status) : -1), num("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    fail(error);
    return 0;
}

/* How many more processes can exist, up to LIMIT: they wait at a pipe until all are counted. */
static int op_forks(int argc, char **argv)
{
    int ends[2], made = 0, error = 0;
    char byte;
    (void)argc;
    if (pipe(ends))
        return num("errno", errno), 0;
    for (int limit = atoi(argv[1]); made < limit; made++) {
        pid_t pid = fork();
        if (pid < 0) {
            error = errno;
            break;
        }
        if (!pid) {
            close(ends[1]);
            _exit(read(ends[0], &byte, 1) < 0);
        }
    }
    close(ends[1]), close(ends[0]);
    while (wait(NULL) > 0)
        ;
    num("made", made), fail(error);
    return 0;
}

static int op_interfaces(int argc, char **argv)
{
    struct ifaddrs *list, *i;
    struct if_nameindex *names = if_nameindex();
    (void)argc, (void)argv;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    key("interfaces"), puts_("{");
    for (int n = 0; names && names[n].if_index; n++) {
        struct ifreq request = {0};
        snprintf(request.ifr_name, IFNAMSIZ, "%s", names[n].if_name);
        ioctl(fd, SIOCGIFFLAGS, &request);
        key(names[n].if_name), puts_("{");
        num("up", !!(request.ifr_flags & IFF_UP));
        key("addresses"), puts_("[");
        if (!getifaddrs(&list)) {
            for (i = list; i; i = i->ifa_next) {
                char address[INET6_ADDRSTRLEN] = "";
                if (!i->ifa_addr || strcmp(i->ifa_name, names[n].if_name))
                    continue;
                int family = i->ifa_addr->sa_family;
                const void *data = family == AF_INET ? (void *)&((struct sockaddr_in *)i->ifa_addr)->sin_addr
                                                     : (void *)&((struct sockaddr_in6 *)i->ifa_addr)->sin6_addr;
                if ((family == AF_INET || family == AF_INET6) && inet_ntop(family, data, address, sizeof address))
                    item(), quoted(address, strlen(address));
            }
            freeifaddrs(list);
        }
        puts_("]}");
    }
    puts_("}");
    return 0;
}

/* ---- time and signals */

/* Reports that it is ready, then every signal that arrives; on TERM it exits with status 0. */
static int op_wait(int argc, char **argv)
{
    sigset_t all;
    (void)argc, (void)argv;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    num("ready", getpid());
    end();
    for (;;) {
        int number = sigwaitinfo(&all, NULL);
        if (number < 0 || number == SIGCHLD || number == SIGCONT)
            continue;
        begin("signal");
        num("signal", number);
        if (number == SIGTERM)
            return 0;
        end();
    }
}

static int op_sleep(int argc, char **argv) { (void)argc; poll(NULL, 0, atoi(argv[1])); return 0; }

static int op_say(int argc, char **argv) { (void)argc; str("text", argv[1]); return 0; }

static int op_exit(int argc, char **argv) { (void)argc; end(); _exit(atoi(argv[1])); }

static int op_die(int argc, char **argv)
{
    (void)argc;
    end();
    signal(atoi(argv[1]), SIG_DFL);
    kill(getpid(), atoi(argv[1]));
    poll(NULL, 0, 2000); /* pid 1 of a pid namespace does not die of its own signals */
    _exit(95);
}

static int hinted; /* the pid in the state that a hook received */

/* `to FILE LABEL`: for hooks. All further output is appended to FILE; the standard input is also printed. */
static int op_to(int argc, char **argv)
{
    size_t size = 0;
    (void)argc;
    char *data = slurp(0, &size);
    int fd = open(argv[1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0 || dup2(fd, 1) < 0)
        _exit(96);
    close(fd);
    str("label", argv[2]);
    if (data)
        key("stdin"), quoted(data, size);
    const char *pid = data ? strstr(data, "\"pid\"") : NULL;
    hinted = pid && strchr(pid, ':') ? atoi(strchr(pid, ':') + 1) : 0;
    return 0;
}

/* `peek NAME`: a file in /proc of the process named in the state on standard input. */
static int op_peek(int argc, char **argv)
{
    char path[256];
    char *words[] = {"read", path, NULL};
    snprintf(path, sizeof path, "/proc/%d/%s", hinted, argv[1]);
    return op_read(argc, words);
}

static const struct { const char *name; int least; int (*run)(int, char **); } operations[] = {
    {"self", 0, op_self},   {"stat", 1, op_stat},   {"follow", 1, op_stat}, {"statfs", 1, op_statfs}, {"read", 1, op_read},
    {"open", 1, op_open},   {"write", 2, op_write}, {"list", 1, op_list},   {"mknod", 2, op_mknod},   {"mkdir", 1, op_mkdir},
    {"mount", 4, op_mount}, {"call", 1, op_call},   {"run", 1, op_run},     {"forks", 1, op_forks},   {"interfaces", 0, op_interfaces},
    {"wait", 0, op_wait},   {"sleep", 1, op_sleep}, {"say", 1, op_say},     {"exit", 1, op_exit},     {"die", 1, op_die},
    {"to", 2, op_to},       {"peek", 1, op_peek},
};

int main(int argc, char **argv)
{
    char *list[256];
    main_argc = argc, main_argv = argv;
    for (int at = 1; at < argc; at++) {
        int n = 0;
        while (at < argc && strcmp(argv[at], "+") && n < 255)
            list[n++] = argv[at++];
        list[n] = NULL;
        begin(n ? list[0] : "");
        for (size_t i = 0; n && i < sizeof operations / sizeof *operations; i++)
            if (!strcmp(operations[i].name, list[0]) && n > operations[i].least)
                operations[i].run(n, list);
        end();
    }
    return 0;
}
