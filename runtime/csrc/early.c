/* Runs before the C library has started: checks that this file is complete, has it read in huge pages, then seals the program
 * (sealing.h).
 * A sealed command executes this program twice. A C library first queries the processor (CPUID), and in a virtual machine each query
 * takes some 10 us: 0.3 ms per start. So this is the linker's entry point, and the first of the two starts does not use the library.
 * Unusual cases (closed standard streams, a relative path, no overlay) are left to launcher.c, which starts from scratch.
 * Rule: as in bare.h. link.py has the compiler options for it. */
#define _GNU_SOURCE
#include "sealing.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bare.h"
#include "commands.h"
#include "heap.h"

int early_is_sealed;
static struct stat early_self; /* status of SELF; its inode number is 0 if it has not been read */

int early_is_us(const char *path)
{
    struct stat there;
    if (!early_self.st_ino && bare_status(SELF, &early_self))
        return 0;
    return path && !bare_status(path, &there) && early_self.st_dev == there.st_dev && early_self.st_ino == there.st_ino;
}

/* ---- the command line */

static int in(const char *const *words, const char *word)
{
    for (; *words; words++)
        if (bare_begins(word, *words) && bare_length(*words) == bare_length(word))
            return 1;
    return 0;
}

/* Parses like cli.parse, as far as is necessary to find the command after the global options. */
const char *command_of(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (word[0] != '-' || !word[1])
            return word;
        if (word[1] == '-' && !word[2])
            return i + 1 < argc ? argv[i + 1] : 0;
        while (*word == '-')
            word++;
        if (!bare_find(word, '=') && in(options_with_value, word))
            i++;
    }
    return 0;
}

int is_sealed_command(const char *command)
{
    return command && in(sealed_commands, command);
}

/* ---- an incomplete download */

#ifdef PYRUNC_EARLY
extern const Elf64_Ehdr __ehdr_start __attribute__((visibility("hidden"))); /* ld(1) */

static const Elf64_Phdr *segments(void)
{
    return (const Elf64_Phdr *)((const char *)&__ehdr_start + __ehdr_start.e_phoff);
}

/* The kernel starts a file whose end is missing, and the first access to the missing part is a SIGBUS. The check is at the beginning
 * of the file (snapshot.ld), and so are the strings that it uses: constants are further back. */
__asm__(".section .text.early_words,\"ax\",@progbits\n"
        ".globl early_self_path, early_complaint, early_complaint_end\n.hidden early_self_path, early_complaint, early_complaint_end\n"
        "early_self_path: .asciz \"" SELF "\"\n"
        "early_complaint: .ascii \"pyrunc: this executable is incomplete, its end is missing; download it again and compare it with "
        "SHA256SUMS\\n\"\nearly_complaint_end:\n.balign 16\n.previous\n");
extern const char early_self_path[], early_complaint[], early_complaint_end[] __attribute__((visibility("hidden")));

static int is_complete(const struct stat *self)
{
    for (int i = 0; i < __ehdr_start.e_phnum; i++)
        if (segments()[i].p_type == PT_LOAD && segments()[i].p_offset + segments()[i].p_filesz > (unsigned long)self->st_size)
            return 0;
    return 1;
}

static void must_be_complete(void)
{
    struct stat opened;
    if (bare_status(early_self_path, &early_self) || is_complete(&early_self)) /* without /proc, which is reported later */
        return;
    /* qemu's user emulation returns the status of its own file, but opens ours. */
    long fd = bare_call(SYS_openat, AT_FDCWD, (long)early_self_path, O_RDONLY | O_CLOEXEC, 0, 0);
    if (fd < 0 || bare_call(SYS_fstat, fd, (long)&opened, 0, 0, 0) || is_complete(&opened)) {
        bare_call(SYS_close, fd, 0, 0, 0, 0);
        return;
    }
    bare_call(SYS_write, STDERR_FILENO, (long)early_complaint, early_complaint_end - early_complaint, 0, 0);
    bare_call(SYS_exit_group, 1, 0, 0, 0, 0);
}

/* ---- huge pages */

/* If this file is in the page cache in pieces of 2 MiB, the kernel maps each with one entry of the page table where it can, and commands take
 * less time (docs/speed.md). It reads such pieces if asked before the first access to them (do_sync_mmap_readahead and filemap_map_pmd in Linux's
 * mm; on ext4 from Linux 6.16, on xfs from 5.18). So if any is missing, as after a boot, all are read at once, and without reading ahead: what
 * is read ahead for another start, which has not asked yet, would be read in small pieces.
 * To a user who may not write to the file, mincore(2) says that all is there.
 * Rule: until then only the header and this code are accessed; each is a segment of its own (snapshot.ld). */
static unsigned long first_page(const Elf64_Phdr *segment)
{
    return segment->p_vaddr & ~(PAGE - 1UL);
}

static unsigned long next_piece(unsigned long at)
{
    return (at | (HUGE_PAGE - 1)) + 1;
}

static int is_large(const Elf64_Phdr *segment)
{
    return segment->p_type == PT_LOAD && segment->p_filesz >= HUGE_PAGE / 2;
}

static int is_missing(const Elf64_Phdr *segment)
{
    unsigned char is_cached;
    for (unsigned long at = first_page(segment); at < segment->p_vaddr + segment->p_filesz; at = next_piece(at))
        if (!bare_call(SYS_mincore, (long)at, 1, (long)&is_cached, 0, 0) && !(is_cached & 1))
            return 1;
    return 0;
}

static void read_pieces(const Elf64_Phdr *segment)
{
    unsigned long start = first_page(segment), end = segment->p_vaddr + segment->p_filesz;
    bare_call(SYS_madvise, (long)start, (long)(end - start), MADV_HUGEPAGE, 0, 0);
    bare_call(SYS_madvise, (long)start, (long)(end - start), MADV_RANDOM, 0, 0);
    for (unsigned long at = segment->p_vaddr; at < end; at = next_piece(at))
        (void)*(const volatile char *)at;
    bare_call(SYS_madvise, (long)start, (long)(end - start), MADV_NORMAL, 0, 0);
}

static void must_be_cached(void)
{
    int missing = 0;
    for (int i = 0; i < __ehdr_start.e_phnum && !missing; i++)
        missing = is_large(&segments()[i]) && is_missing(&segments()[i]);
    for (int i = 0; i < __ehdr_start.e_phnum && missing; i++)
        if (is_large(&segments()[i]))
            read_pieces(&segments()[i]);
}
#endif

/* ---- the first start */

/* The path that was executed, which the kernel puts after the environment. NULL if it is not absolute, or leads to another file. */
static char *place(char **environment)
{
    while (*environment)
        environment++;
    for (const unsigned long *pair = (unsigned long *)(environment + 1); pair[0] != AT_NULL; pair += 2)
        if (pair[0] == AT_EXECFN) {
            char *path = (char *)pair[1];
            return path[0] == '/' && early_is_us(path) ? path : NULL;
        }
    return NULL;
}

void early(long *stack)
{
    int argc = (int)stack[0];
    char **argv = (char **)(stack + 1), **environment = argv + argc + 1;
#ifdef PYRUNC_EARLY
    must_be_complete();
    must_be_cached();
#endif
    if (argc < 1 || !is_sealed_command(command_of(argc, argv)))
        return;
    for (int fd = 0; fd < 3; fd++)
        if (bare_call(SYS_fcntl, fd, F_GETFD, 0, 0, 0) < 0)
            return;
    int done = sealing_is_done();
    early_is_sealed = done > 0;
    char *name = done ? NULL : place(environment), *given = argv[0];
    const char *call;
    int fd = name ? sealing_open(SEALING_OVERLAY, &call) : -1;
    if (fd < 0)
        return;
    if (sealing_is_safe(fd) > 0) {
        argv[0] = name;
        sealing_execute(fd, argv, environment);
        argv[0] = given;
    }
    bare_call(SYS_close, fd, 0, 0, 0, 0);
}

#ifdef PYRUNC_EARLY /* the entry point (link.py: -e): early(stack), then the C library's start */
#ifdef __x86_64__
__asm__(".text\n.globl pyrunc_entry\n.type pyrunc_entry, @function\npyrunc_entry:\n"
        "    endbr64\n    xor %ebp, %ebp\n    mov %rsp, %rbx\n    mov %rdx, %r12\n    mov %rsp, %rdi\n    call early\n"
        "    mov %rbx, %rdi\n    call libc_start\n    mov %rbx, %rsp\n    mov %r12, %rdx\n    jmp _start\n");
#elif defined(__riscv)
__asm__(".text\n.globl pyrunc_entry\n.type pyrunc_entry, @function\npyrunc_entry:\n"
        "    .option push\n    .option norelax\n    la gp, __global_pointer$\n    .option pop\n"
        "    mv s0, a0\n    mv a0, sp\n    call early\n    mv a0, s0\n    tail _start\n");
#else
__asm__(".text\n.globl pyrunc_entry\n.type pyrunc_entry, @function\npyrunc_entry:\n"
        "    mov x29, #0\n    mov x30, #0\n    mov x19, x0\n    mov x0, sp\n    bl early\n    mov x0, x19\n    b _start\n");
#endif
#endif
