/* See heap.c. */
#pragma once

#include <stddef.h>

#ifdef __aarch64__
#define PAGE 65536 /* the largest that a kernel may have there, and what the linker aligns segments to */
#define REMARK "//" /* begins a remark in assembler */
#else
#define PAGE 4096
#define REMARK "#"
#endif
#define MUST(condition)                                                                                                \
    if (!(condition)) {                                                                                                \
        fprintf(stderr, "snapshot: %s\n", #condition);                                                                 \
        _exit(1);                                                                                                      \
    }

extern char snapshot_heap[];

void heap_record(void);         /* what Python and the C library allocate from here on is in the heap */
size_t heap_end(void);          /* no longer; bytes that are used, whole pages */
void heap_of_code(int begins);  /* what is allocated now is code, until this is called with 0 */
