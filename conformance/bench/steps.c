/* Counts the instructions that a program and its children execute in user mode, one by one, with ptrace(2), PTRACE_SINGLESTEP. The
 count is the same on a busy machine, and works in virtual machines without counters; it takes about ten microseconds per instruction.
 (A repeated string instruction counts once per iteration.) *
 *     steps REPORT PROGRAM [ARGUMENT...]
 * The number is written to REPORT when PROGRAM has exited. Children that are still running are detached; on SIGTERM it exits without
 * a report. The exit status is PROGRAM's. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 256
#define OPTIONS (PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC)

static pid_t tasks[MOST];
static int many;
static volatile sig_atomic_t is_asked_to_end;

static void die(const char *what)
{
    perror(what);
    exit(125);
}

static void forget(pid_t task)
{
    for (int i = 0; i < many; i++)
        if (tasks[i] == task)
            tasks[i--] = tasks[--many];
}

static void know(pid_t task)
{
    forget(task);
    if (many == MOST)
        is_asked_to_end = 1; /* more tasks than any runtime has */
    else
        tasks[many++] = task;
}

/* Whether a trap is pending behind the requested stop; it would kill a detached task. */
static int has_trap(pid_t task)
{
    struct __ptrace_peeksiginfo_args all = {.nr = 8};
    siginfo_t waiting[8];
    long n = ptrace(PTRACE_PEEKSIGINFO, task, &all, waiting);
    while (n > 0)
        if (waiting[--n].si_signo == SIGTRAP)
            return 1;
    return 0;
}

/* A task that is detached while it is single-stepped would die of the next trap, so it has to be stopped first. */
static void let_go(void)
{
    for (int i = 0; i < many; i++) {
        int status;
        pid_t task = tasks[i];
        if (ptrace(PTRACE_INTERRUPT, task, 0, 0) || waitpid(task, &status, __WALL) != task || !WIFSTOPPED(status))
            continue;
        if (status >> 16 && has_trap(task)) {
            ptrace(PTRACE_CONT, task, 0, 0);
            waitpid(task, &status, __WALL);
        }
        ptrace(PTRACE_DETACH, task, 0, 0);
    }
}

static pid_t begin(char **argv)
{
    int status;
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* otherwise a stopped task would remain */
        raise(SIGSTOP);
        execvp(argv[0], argv);
        die(argv[0]);
    }
    if (waitpid(pid, &status, WUNTRACED) != pid || ptrace(PTRACE_SEIZE, pid, 0, OPTIONS))
        die("ptrace");
    kill(pid, SIGCONT);
    return pid;
}

/* Runs until `first` exits, and returns its status. */
static int go(pid_t first, unsigned long long *count)
{
    int status, counting = 0;
    pid_t task, fresh = 0; /* a task that has just called execve: its next trap is from execve, not from an instruction */
    know(first);
    while ((task = waitpid(-1, &status, __WALL)) > 0 && !is_asked_to_end) {
        if (!WIFSTOPPED(status)) {
            forget(task);
            if (task == first)
                return status;
            continue;
        }
        int signal = WSTOPSIG(status), event = status >> 16;
        know(task);
        if (signal == SIGTRAP && event == 0) {
            *count += counting && task != fresh;
            fresh = task == fresh ? 0 : fresh;
        }
        if (event == PTRACE_EVENT_EXEC) {
            counting = 1; /* instructions before this belong to this program */
            fresh = task;
        }
        if (signal == SIGTRAP || event)
            signal = 0;
        ptrace(PTRACE_SINGLESTEP, task, 0, signal);
    }
    kill(first, SIGKILL);
    let_go();
    exit(125);
}

static void end(int number)
{
    (void)number;
    is_asked_to_end = 1;
}

int main(int argc, char **argv)
{
    if (argc < 3)
        return 125;
    unsigned long long count = 0;
    struct sigaction action = {.sa_handler = end}; /* without SA_RESTART: waitpid returns */
    pid_t first = begin(argv + 2);
    sigaction(SIGTERM, &action, NULL);
    int status = go(first, &count);
    let_go();
    FILE *report = fopen(argv[1], "w");
    if (!report || fprintf(report, "%llu\n", count) < 0 || fclose(report))
        die(argv[1]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
