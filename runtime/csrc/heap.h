/* See heap.c. */
#pragma once

#include <stddef.h>

#define PAGE 4096
#define MUST(condition)                                                                                                \
    if (!(condition)) {                                                                                                \
        fprintf(stderr, "snapshot: %s\n", #condition);                                                                 \
        _exit(1);                                                                                                      \
    }

extern char snapshot_heap[];

void heap_record(void);         /* what Python and the C library allocate from here on is in the heap */
size_t heap_end(void);          /* no longer; bytes that are used, whole pages */
void heap_of_code(int begins);  /* what is allocated now is code, until this is called with 0 */
