/* System calls and strings without the C library, for code that runs before it has started (early.c, sealing.c).
 *
 * Rule: no function of the C library, no thread-local variable; errors are returned, not put into errno. */
#ifndef PYRUNC_BARE_H
#define PYRUNC_BARE_H

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "numbers.h"

/* Returns what the kernel returns: a result, or a negative errno. */
#ifdef __x86_64__
static inline long bare_call(long number, long a, long b, long c, long d, long e)
{
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e;
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
    return result;
}
#elif defined(__riscv)
static inline long bare_call(long number, long a, long b, long c, long d, long e)
{
    register long a7 __asm__("a7") = number, a0 __asm__("a0") = a, a1 __asm__("a1") = b, a2 __asm__("a2") = c;
    register long a3 __asm__("a3") = d, a4 __asm__("a4") = e;
    __asm__ volatile("ecall" : "+r"(a0) : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4) : "memory");
    return a0;
}
#else
static inline long bare_call(long number, long a, long b, long c, long d, long e)
{
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d, x4 __asm__("x4") = e;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
}
#endif

static inline long bare_status(const char *path, struct stat *st)
{
    return bare_call(SYS_newfstatat, AT_FDCWD, (long)path, (long)st, 0, 0);
}

static inline size_t bare_length(const char *text)
{
    size_t n = 0;
    while (text[n])
        n++;
    return n;
}

static inline int bare_begins(const char *text, const char *with)
{
    while (*with)
        if (*text++ != *with++)
            return 0;
    return 1;
}

/* The first `wanted` in the text, or NULL. */
static inline const char *bare_find(const char *text, char wanted)
{
    for (; *text; text++)
        if (*text == wanted)
            return text;
    return NULL;
}

/* Appends to `out`, which has `used` of `size` bytes; returns the new length, or 0 if it does not fit. */
static inline size_t bare_append(char *out, size_t used, size_t size, const char *text)
{
    size_t n = bare_length(text);
    if (used + n >= size)
        return 0;
    for (size_t i = 0; i <= n; i++)
        out[used + i] = text[i];
    return used + n;
}

#endif
