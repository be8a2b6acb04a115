/* Loads the container's seccomp filter, and checks its decision about the few calls that come after it.
 * Without no_new_privs, loading requires CAP_SYS_ADMIN. So CAPS keeps that capability; FILTER is the last operation before a process
 * reports and waits, or executes the program, and drops the capability itself. The calls that are still necessary then are looked up in
 * the filter first, because a denied call may kill the process:
 *
 *   capset           is left out. execve drops the capability in any case: a program's capabilities depend on the inheritable, bounding and
 *                    ambient sets, which are final before the filter is loaded.
 *   write, read and  are used by a created container to report and wait. If one is denied, the filter is loaded after the wait, and only
 *   close            the capability is kept until then (permitted, not effective).
 *   rt_sigaction     is left out: execve resets handlers.
 *   clone, setsid    create exec's second process and its session (spawn.c). If one is denied, that process loads the filter itself, with
 *                    the capability, unless the container's processes could trace it: then exec fails.
 * So execve(2) is the only call that the filter has to allow.
 * Rule: as in finish.c, no Python, no allocation, no lock. */
#define _GNU_SOURCE
#include "ops.h"

#include <errno.h>
#include <sched.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifdef __aarch64__
#define NATIVE_ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv)
#define NATIVE_ARCH AUDIT_ARCH_RISCV64
#else
#define NATIVE_ARCH AUDIT_ARCH_X86_64
#endif
#define WORDS 16 /* of a filter's scratch memory, BPF_MEMWORDS */

/* ---- a filter's decision: an interpreter for the instructions that seccomp(2) accepts */

static uint32_t arithmetic(uint16_t op, uint32_t a, uint32_t b)
{
    switch (BPF_OP(op)) {
    case BPF_ADD: return a + b;
    case BPF_SUB: return a - b;
    case BPF_MUL: return a * b;
    case BPF_DIV: return b ? a / b : 0;
    case BPF_AND: return a & b;
    case BPF_OR: return a | b;
    case BPF_XOR: return a ^ b;
    case BPF_LSH: return b < 32 ? a << b : 0;
    case BPF_RSH: return b < 32 ? a >> b : 0;
    case BPF_NEG: return -a;
    }
    return a;
}

static int holds(uint16_t op, uint32_t a, uint32_t b)
{
    switch (BPF_OP(op)) {
    case BPF_JEQ: return a == b;
    case BPF_JGT: return a > b;
    case BPF_JGE: return a >= b;
    case BPF_JSET: return (a & b) != 0;
    }
    return 0;
}

/* The action for a call; that of a filter which the kernel would not load is to kill. */
static uint32_t verdict(const struct sock_filter *code, size_t count, const struct seccomp_data *data)
{
    uint32_t a = 0, x = 0, memory[WORDS] = {0};
    for (size_t pc = 0; pc < count; pc++) {
        const struct sock_filter *at = &code[pc];
        uint32_t operand = BPF_SRC(at->code) == BPF_X ? x : at->k;
        switch (BPF_CLASS(at->code)) {
        case BPF_RET: return BPF_RVAL(at->code) == BPF_A ? a : at->k;
        case BPF_ALU: a = arithmetic(at->code, a, operand); break;
        case BPF_JMP:
            pc += BPF_OP(at->code) == BPF_JA ? at->k : holds(at->code, a, operand) ? at->jt : at->jf;
            break;
        case BPF_ST: memory[at->k % WORDS] = a; break;
        case BPF_STX: memory[at->k % WORDS] = x; break;
        case BPF_MISC:
            if (BPF_MISCOP(at->code) == BPF_TAX)
                x = a;
            else
                a = x;
            break;
        case BPF_LD:
            if (BPF_MODE(at->code) == BPF_ABS && at->k <= sizeof *data - sizeof a)
                memcpy(&a, (const char *)data + at->k, sizeof a);
            else
                a = BPF_MODE(at->code) == BPF_MEM ? memory[at->k % WORDS] : BPF_MODE(at->code) == BPF_LEN ? sizeof *data : at->k;
            break;
        case BPF_LDX: x = BPF_MODE(at->code) == BPF_MEM ? memory[at->k % WORDS] : BPF_MODE(at->code) == BPF_LEN ? sizeof *data : at->k; break;
        }
    }
    return SECCOMP_RET_KILL_PROCESS;
}

static int denies(const struct op *op, int number, int first)
{
    const struct seccomp_data data = {.nr = number, .arch = NATIVE_ARCH, .args = {(uint64_t)first}};
    uint32_t action = verdict((const struct sock_filter *)op->s[0], op->len[0] / sizeof(struct sock_filter), &data) & SECCOMP_RET_ACTION_FULL;
    return action != SECCOMP_RET_ALLOW && action != SECCOMP_RET_LOG;
}

unsigned filter_denies(const struct op *op, int status_fd, int gate_fd)
{
    unsigned denied = 0;
    if (denies(op, SYS_write, status_fd))
        denied |= DENIED_WRITE;
    if (denies(op, SYS_read, gate_fd))
        denied |= DENIED_READ;
    if (denies(op, SYS_close, status_fd))
        denied |= DENIED_CLOSE;
    if (denies(op, SYS_capset, 0))
        denied |= DENIED_CAPSET;
    if (denies(op, SYS_rt_sigaction, 1) || denies(op, SYS_rt_sigprocmask, 0))
        denied |= DENIED_SIGNALS;
    if (denies(op, SYS_clone3, 0))
        denied |= DENIED_CLONE3;
    if (denies(op, SYS_clone, CLONE_PARENT))
        denied |= DENIED_CLONE;
    if (denies(op, SYS_setsid, 0))
        denied |= DENIED_SETSID;
    if (denies(op, SYS_ioctl, 0))
        denied |= DENIED_IOCTL;
    return denied;
}

/* ---- capabilities */

int caps_read(struct caps *caps)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    return (int)syscall(SYS_capget, &header, caps);
}

int caps_write(const struct caps *caps)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    return (int)syscall(SYS_capset, &header, caps);
}

int filter_needs_admin(const struct plan *plan, size_t position)
{
    for (size_t i = 0; i < plan->count; i++) {
        if (plan->ops[i].code == OP_NNP)
            return 0;
        if (plan->ops[i].code == OP_FILTER)
            return i > position;
    }
    return 0;
}

/* ---- loading */

long filter_load(const struct op *op, unsigned denied, const char **call)
{
    struct sock_fprog program = {.len = (unsigned short)(op->len[0] / sizeof(struct sock_filter)),
                                 .filter = (struct sock_filter *)op->s[0]};
    struct caps raised = op_state.caps;
    *call = "capset";
    raised.low.permitted |= ADMIN_BIT;
    raised.low.effective |= ADMIN_BIT;
    if (op_state.admin_kept && caps_write(&raised))
        return -1;
    *call = "seccomp";
    long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, op->n[0], &program);
    if (result < 0)
        return -1;
    op_state.denied |= denied;
    *call = "capset";
    if (op_state.admin_kept && !(op_state.denied & DENIED_CAPSET) && caps_write(&op_state.caps))
        return -1;
    op_state.admin_kept = 0;
    return result;
}
