/* proc_context(): a procfs of another pid namespace, for kernels without an option for the namespace (before Linux 6.18).
 *
 * fsopen(2) uses the pid namespace of the calling process, so the caller has to be in that namespace, where hostile processes can see it
 * and, with CAP_SYS_PTRACE, take it over. So that process has nothing worth taking over:
 *
 *   caller ── clone3 ──> A: not in the pid namespace. Clears the caller's memory, leaves its session keyring, covers the root of a mount
 *     │                  namespace with an empty file system, gives up its user and all capabilities, enters new namespaces (among them
 *     │                  a user namespace: fsopen requires CAP_SYS_ADMIN there), closes all descriptors but one
 *     │                  └─ clone3 ──> B: in the pid namespace. fsopen, sends the descriptor, exits
 *     └── receives the descriptor, and creates and mounts the file system with its own privileges
 *
 * What protects the host's files is the mount namespace, not the user: a process that takes B over or enters its namespaces can become
 * root in them, and even the host's root, if it may write the id maps of B's user namespace. chroot(2) alone would not hold either, since setns(2)
 * to B's own mount namespace leads to that namespace's root. So that root is covered, and the mount namespace of the new user namespace is a
 * copy, in which the cover can't be removed (mount_namespaces(7), "locked"). The network namespace is a new one because of abstract sockets.
 *
 * Invariant: mount.procfs_of() checks the received descriptor before it is used. */
#include "spawn.h"

#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>

#define NOBODY 65534
#define SECONDS 30 /* limit for a process that hostile processes may stop */

struct request {
    struct hidden hidden;
    int pid_ns, socket;
};

/* The message: 0 and the descriptor, or an errno and the name of the call. */
struct reply {
    int32_t error;
    char call[16];
};

static _Noreturn void give_up(int socket, const char *call)
{
    struct reply reply = {.error = errno};
    for (size_t i = 0; call[i] && i < sizeof reply.call - 1; i++)
        reply.call[i] = call[i];
    ssize_t n = write(socket, &reply, sizeof reply);
    _exit(n == (ssize_t)sizeof reply ? 1 : 2);
}

static void must(long result, int socket, const char *call)
{
    if (result < 0)
        give_up(socket, call);
}

static void must_unless(int tolerated, long result, int socket, const char *call)
{
    if (result < 0 && errno != tolerated)
        give_up(socket, call);
}

/* Possession of keys survives every change of ids (keyrings(7)). Kernels without keyrings return ENOSYS; a filter that we run under, EPERM,
 * and then B may not use any key either. */
static void leave_keyring(int socket)
{
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL, 0, 0, 0) < 0 && errno != ENOSYS && errno != EPERM)
        give_up(socket, "keyctl");
}

static void enter_empty_root(int socket)
{
    must(unshare(CLONE_NEWNS), socket, "unshare");
    must(syscall(SYS_mount, NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), socket, "mount");
    long context = syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
    must(context, socket, "fsopen");
    must(syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0), socket, "fsconfig");
    long top = syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV);
    must(top, socket, "fsmount");
    must(syscall(SYS_move_mount, top, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH), socket, "move_mount");
    must(fchdir((int)top), socket, "fchdir");
    must(chroot("."), socket, "chroot");
}

/* The user nobody, with the only capability that some hosts require for creating a user namespace. In a user namespace NOBODY may have no
 * mapping (EINVAL), and setgroups(2) may be denied (EPERM): then the ids stay, which are of no use without files and sockets. A caller that
 * lacks CAP_SETGID fails, since setresgid(2) returns EPERM as well. */
static void become_nobody(int socket)
{
    struct caps caps = {.low = {.effective = ADMIN_BIT, .permitted = ADMIN_BIT}};
    must(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), socket, "prctl");
    must_unless(EPERM, syscall(SYS_setgroups, 0, NULL), socket, "setgroups");
    must_unless(EINVAL, syscall(SYS_setresgid, NOBODY, NOBODY, NOBODY), socket, "setresgid");
    must_unless(EINVAL, syscall(SYS_setresuid, NOBODY, NOBODY, NOBODY), socket, "setresuid");
    must(caps_write(&caps), socket, "capset");
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), socket, "prctl");
    must(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), socket, "prctl");
    must(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), socket, "prctl"); /* a change of ids has cleared what was set before */
}

static void keep_only(int socket)
{
    if (socket > 0)
        must(syscall(SYS_close_range, 0, (unsigned)socket - 1, 0), socket, "close_range");
    must(syscall(SYS_close_range, (unsigned)socket + 1, ~0U, 0), socket, "close_range");
}

static _Noreturn void open_and_send(int socket)
{
    struct reply reply = {0};
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec part = {&reply, sizeof reply};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    must(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), socket, "prctl");
    int fd = (int)syscall(SYS_fsopen, "proc", FSOPEN_CLOEXEC);
    must(fd, socket, "fsopen");
    control.head = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
    *(int *)(void *)CMSG_DATA(&control.head) = fd;
    _exit(sendmsg(socket, &message, 0) < 0);
}

static void outside(const void *data)
{
    const struct request *request = data;
    int socket = request->socket, pid_ns = request->pid_ns;
    struct clone3_args clone = {.exit_signal = SIGCHLD};
    clear_memory(&request->hidden);
    must(syscall(SYS_setns, pid_ns, CLONE_NEWPID), socket, "setns");
    leave_keyring(socket);
    enter_empty_root(socket);
    become_nobody(socket);
    must(unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS), socket, "unshare");
    keep_only(socket);
    long pid = syscall(SYS_clone3, &clone, sizeof clone);
    must(pid, socket, "clone3");
    if (pid == 0)
        open_and_send(socket);
    while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR)
        ;
    _exit(0);
}

static int received(int socket, struct reply *reply)
{
    union {
        struct cmsghdr head;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec part = {reply, sizeof *reply};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_LEN(sizeof(int))}; /* CMSG_SPACE has room for two */
    ssize_t n;
    do
        n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    struct cmsghdr *head = n == (ssize_t)sizeof *reply ? CMSG_FIRSTHDR(&message) : NULL;
    if (n != (ssize_t)sizeof *reply) { /* it was killed or stopped */
        *reply = (struct reply){.error = n < 0 ? ETIMEDOUT : ESRCH, .call = "fsopen"};
        return -1;
    }
    reply->call[sizeof reply->call - 1] = 0;
    if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS && head->cmsg_len == CMSG_LEN(sizeof(int)))
        return *(int *)(void *)CMSG_DATA(head);
    if (!reply->error)
        reply->error = EPROTO;
    return -1;
}

static PyObject *py_proc_context(PyObject *Py_UNUSED(self), PyObject *args)
{
    int ends[2];
    struct request request = {0};
    struct clone3_args clone = {.exit_signal = SIGCHLD};
    struct reply reply = {0};
    const struct timeval limit = {.tv_sec = SECONDS};
    if (!PyArg_ParseTuple(args, "i:proc_context", &request.pid_ns))
        return NULL;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
        return call_failed("socketpair", NULL);
    request.socket = ends[1];
    (void)setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    int fd = -1;
    long pid = -1;
    const char *failed = "clone3";
    if (hide_memory(&request.hidden, MADV_WIPEONFORK))
        failed = "read /proc/self/maps";
    else
        pid = clone_child(&clone, outside, &request);
    int error = errno;
    hide_memory(&request.hidden, MADV_KEEPONFORK);
    close(ends[1]);
    if (pid > 0) {
        fd = received(ends[0], &reply);
        failed = reply.call[0] ? reply.call : "fsopen";
        error = reply.error;
        char more;
        if (fd < 0 || recv(ends[0], &more, 1, 0) != 0) /* no end of file, since one of the two still runs */
            kill((pid_t)pid, SIGKILL);
        while (waitpid((pid_t)pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    close(ends[0]);
    errno = error;
    return fd < 0 ? call_failed(failed, NULL) : PyLong_FromLong(fd);
}

PyMethodDef calls_procfs[] = {
    {"proc_context", py_proc_context, METH_VARARGS, "proc_context(pid_ns) -> fd of fsopen(2) for a procfs of that pid namespace"},
    {NULL, NULL, 0, NULL},
};
