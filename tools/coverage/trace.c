/* Called by the extension's basic blocks when it is compiled with -fsanitize-coverage=trace-pc
 * (tools/coverage): sets a byte of the map, at the offset of the call in the shared object. The map
 * has a fixed address, so that it is found after init has released its memory. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE (1UL << 20)
#define MAP ((volatile uint8_t *)0x5f0000000000UL)

extern const char __ehdr_start[] __attribute__((visibility("hidden")));

__attribute__((constructor, no_sanitize_coverage)) static void begin(void)
{
    int fd = open(COVERAGE_MAP, O_RDWR | O_CLOEXEC), kind = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    mmap((void *)MAP, SIZE, PROT_READ | PROT_WRITE, kind | MAP_FIXED, fd, 0);
    if (fd >= 0)
        close(fd);
}

__attribute__((no_sanitize_coverage, visibility("hidden"))) void __sanitizer_cov_trace_pc(void)
{
    uintptr_t at = (uintptr_t)__builtin_return_address(0) - (uintptr_t)__ehdr_start;
    if (at < SIZE)
        MAP[at] = 1;
}
