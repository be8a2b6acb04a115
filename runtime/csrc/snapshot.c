/* The started interpreter, with everything imported, as a segment of the executable.
 * A static executable has fixed addresses, so everything that the interpreter has built can be written to a file, and is restored when
 * the kernel maps that file: Python does not start, nothing is imported, and pages that are never accessed are never read. (Measured:
 * starting costs 3.3 ms and the modules of `create` another 8; resuming costs 0.3 ms.) The build runs the executable once, and it writes
 * a copy of itself with two differences: the variables of libpython (which snapshot.ld gathers), and a segment with what was allocated
 * (heap.c).
 * Rule: nothing of the C library is saved. It starts normally, with the initial values of its variables. So no memory that it has
 * allocated, no thread-local variable and no descriptor may be part of the snapshot. A resumed interpreter is treated like the child of a
 * fork, which is what it resembles most: a new thread, new locks, the same heap.
 * This file, heap.c and launcher.c only use what Python 3.12 and later have in common. What makes a particular version faster is in
 * tuning_313.c and similar files, and is optional.
 * The environment of the build does not become part of it: the executable runs there without variables and arguments, and with a fixed
 * seed for the hashes of str. (A seed inside an executable is not secret. With 64 bits of SipHash, slowing dictionaries down takes more
 * than a long config.) A running command never allocates from the snapshot's segment. */
#define Py_BUILD_CORE 1
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#pragma GCC diagnostic ignored "-Wunused-parameter" /* in these headers */
#include "internal/pycore_pystate.h"
#include "internal/pycore_runtime.h"

#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "snapshot.h"
#include "tuning.h"

#if PY_VERSION_HEX < 0x030c0000
#error "a snapshot takes Python 3.12 or later"
#endif

#define STACK (8 << 20) /* the usual limit of a stack */

extern char snapshot_data[], snapshot_data_end[]; /* snapshot.ld */

static int is_here;
static PyThreadState *thread;

void snapshot_begin(void)
{
    heap_record();
}

/* From Python 3.14 on, the limit of recursion in C is an address on the stack, which is a different one in each process. (The interpreter
 * would ask the C library, which reads /proc/self/maps.) A quarter of the stack is left for arguments and environment. */
static void set_stack_limits(uintptr_t here, size_t size)
{
#if PY_VERSION_HEX >= 0x030e0000
    _PyThreadStateImpl *state = (_PyThreadStateImpl *)thread;
    uintptr_t base = here - size / 4 * 3;
    state->c_stack_top = here;
    state->c_stack_hard_limit = here ? base + _PyOS_STACK_MARGIN_BYTES : 0;
    state->c_stack_soft_limit = here ? base + _PyOS_STACK_MARGIN_BYTES * 2 : 0;
#else
    (void)here, (void)size;
#endif
}

/* Clears what would differ between builds of the same sources: the address of the stack, and the ids of the thread. A resumed interpreter
 * sets them again, like the child of a fork. */
static void forget_the_process(void)
{
    unsigned long ident = PyThread_get_thread_ident();
    for (unsigned long *at = (unsigned long *)snapshot_data; at < (unsigned long *)snapshot_data_end; at++)
        if (*at == ident)
            *at = 0;
    thread->native_thread_id = 0;
    set_stack_limits(0, 0);
    memset(thread->datastack_top, 0, (size_t)((char *)thread->datastack_limit - (char *)thread->datastack_top));
}

/* Makes the pages of the heap the contents of their segment. `image` is the file, which is `size` bytes long; the heap is appended to it.
 * The section header is also changed, so that strip(1) keeps these bytes, and their alignment. */
static void patch(char *image, size_t size, size_t used)
{
    const Elf64_Ehdr *header = (Elf64_Ehdr *)image;
    Elf64_Phdr *segments = (Elf64_Phdr *)(image + header->e_phoff);
    Elf64_Shdr *sections = (Elf64_Shdr *)(image + header->e_shoff);
    size_t start = (size_t)snapshot_data, bytes = (size_t)(snapshot_data_end - snapshot_data);
    int has_data = 0, has_heap = 0;
    for (int i = 0; i < header->e_phnum; i++) {
        Elf64_Phdr *s = &segments[i];
        if (s->p_type != PT_LOAD)
            continue;
        if (s->p_vaddr <= start && start + bytes <= s->p_vaddr + s->p_filesz) {
            memcpy(image + s->p_offset + (start - s->p_vaddr), snapshot_data, bytes);
            has_data = 1;
        }
        if (s->p_vaddr == (size_t)snapshot_heap) {
            s->p_offset = size;
            s->p_filesz = s->p_memsz = used;
            s->p_align = HUGE_PAGE;
            has_heap = 1;
        }
    }
    for (int i = 0; i < header->e_shnum; i++)
        if (sections[i].sh_addr == (size_t)snapshot_heap) {
            sections[i].sh_type = SHT_PROGBITS;
            sections[i].sh_offset = size;
            sections[i].sh_size = used;
            sections[i].sh_addralign = HUGE_PAGE;
        }
    MUST(has_data && has_heap);
}

static void put(int fd, const char *data, size_t size)
{
    while (size) {
        ssize_t n = write(fd, data, size);
        MUST(n > 0);
        data += n;
        size -= (size_t)n;
    }
}

_Noreturn void snapshot_write(int fd)
{
    struct stat st;
    int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    MUST(self >= 0 && !fstat(self, &st));
    size_t size = ((size_t)st.st_size + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    char *image = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(image != MAP_FAILED && pread(self, image, (size_t)st.st_size, 0) == st.st_size);
    tuning_finish();
    PyOS_BeforeFork();
    thread = PyThreadState_Get();
    forget_the_process();
    size_t used = heap_end();
    is_here = 1;
    patch(image, size, used);
    put(fd, image, size);
    put(fd, snapshot_heap, used);
    _exit(0);
}

/* ---- the interpreter's lock. There is only one thread, so nothing waits for it. The linker redirects these calls (--wrap), which
 * Python's own modules make around each system call; releasing and taking the lock takes 400 instructions. */

PyThreadState *__wrap_PyEval_SaveThread(void)
{
    return PyThreadState_Get();
}

void __wrap_PyEval_RestoreThread(PyThreadState *Py_UNUSED(state))
{
}

/* ---- resuming */

int snapshot_is_here(void)
{
    return is_here;
}

void snapshot_resume(void)
{
    _Py_tss_tstate = thread;
    thread->thread_id = PyThread_get_thread_ident();
#if PY_VERSION_HEX >= 0x030e0000
    struct rlimit limit;
    int is_small = !getrlimit(RLIMIT_STACK, &limit) && limit.rlim_cur < STACK;
    set_stack_limits((uintptr_t)__builtin_frame_address(0), is_small ? (size_t)limit.rlim_cur : STACK);
#endif
    PyOS_AfterFork_Child();
    PyThread_tss_set(&_PyRuntime.autoTSSkey, thread);
}
