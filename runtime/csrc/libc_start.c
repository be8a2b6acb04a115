/* The start of glibc 2.41 on x86-64, without querying the processor. The library executes CPUID some thirty times, to choose between variants
 * of memcpy(3) and the like; in a virtual machine each one is an exit to the hypervisor, 2 to 10 us. This start makes the same calls
 * in the same order as the library's (csu/libc-start.c) except that one, so the variants for any x86-64 are chosen, and the same executable
 * does the same on all processors.
 *
 * Rule: as in bare.h until the library has started. With another version or architecture, or if anything is unusual, the library's own start
 * is used: the functions and variables below are private to it, and are therefore weak references. */
#include <features.h>

#if defined(__x86_64__) && defined(__GLIBC__) && __GLIBC__ == 2 && __GLIBC_MINOR__ == 41

#include <elf.h>
#include <stddef.h>
#include <stdlib.h>

#define LIBRARY __attribute__((weak, visibility("hidden"))) /* of the library, or of the linker */
#define NON_TEMPORAL 0xc0000 /* bytes; as for an unknown processor: three quarters of its assumed cache */

extern char **__environ;
extern void *__libc_stack_end LIBRARY, *_dl_random LIBRARY;
extern long __x86_shared_non_temporal_threshold LIBRARY, __x86_rep_movsb_stop_threshold LIBRARY, __x86_memset_non_temporal_threshold LIBRARY;
extern void _dl_aux_init(Elf64_auxv_t *) LIBRARY, __tunables_init(char **) LIBRARY, __libc_setup_tls(void) LIBRARY;
extern void __libc_early_init(_Bool) LIBRARY, __libc_init_first(int, char **, char **) LIBRARY;
extern const Elf64_Rela __rela_iplt_start[] LIBRARY, __rela_iplt_end[] LIBRARY;

typedef void initialiser(int, char **, char **);
extern initialiser *__preinit_array_start[] LIBRARY, *__preinit_array_end[] LIBRARY, *__init_array_start[] LIBRARY, *__init_array_end[] LIBRARY;
extern void _init(void) LIBRARY;

extern int main(int, char **);

static int is_known(void)
{
    return &_dl_random && &__libc_stack_end && _dl_aux_init && __tunables_init && __libc_setup_tls &&
           __libc_early_init && __libc_init_first && &__x86_shared_non_temporal_threshold && &__x86_rep_movsb_stop_threshold &&
           &__x86_memset_non_temporal_threshold && __rela_iplt_start && _init;
}

static Elf64_auxv_t *auxiliary(char **environment)
{
    while (*environment)
        environment++;
    return (Elf64_auxv_t *)(environment + 1);
}

static int is_usual(const Elf64_auxv_t *pair)
{
    for (; pair->a_type != AT_NULL; pair++)
        if (pair->a_type == AT_SECURE)
            return !pair->a_un.a_val;
    return 0;
}

/* The variants that the resolvers choose: the processor's features are still unknown. */
static int choose_variants(void)
{
    for (const Elf64_Rela *row = __rela_iplt_start; row < __rela_iplt_end; row++) {
        if (ELF64_R_TYPE(row->r_info) != R_X86_64_IRELATIVE)
            return 0;
        *(void **)row->r_offset = ((void *(*)(void))row->r_addend)();
    }
    __x86_shared_non_temporal_threshold = NON_TEMPORAL;
    __x86_rep_movsb_stop_threshold = NON_TEMPORAL;
    __x86_memset_non_temporal_threshold = (long)(~0UL >> 1);
    return 1;
}

/* Returns if the library's own start must do it. stack: as the kernel has left it. */
void libc_start(long *stack)
{
    int argc = (int)stack[0];
    char **argv = (char **)(stack + 1), **environment = argv + argc + 1;
    Elf64_auxv_t *pairs = auxiliary(environment);
    if (!is_known() || !is_usual(pairs))
        return;
    __environ = environment;
    __libc_stack_end = stack;
    _dl_aux_init(pairs);
    __tunables_init(environment);
    if (!choose_variants())
        return;
    __libc_setup_tls();
    __asm__ volatile("mov %0, %%fs:0x28" ::"r"(((unsigned long *)_dl_random)[0] & ~0xffUL)); /* of the stack protector */
    __asm__ volatile("mov %0, %%fs:0x30" ::"r"(((unsigned long *)_dl_random)[1]));           /* of pointers */
    __libc_early_init(1);
    __libc_init_first(argc, argv, environment);
    for (initialiser **at = __preinit_array_start; at < __preinit_array_end; at++)
        (*at)(argc, argv, environment);
    _init();
    for (initialiser **at = __init_array_start; at < __init_array_end; at++)
        (*at)(argc, argv, environment);
    exit(main(argc, argv));
}

#else

void libc_start(long *stack)
{
    (void)stack;
}

#endif
