/* The memory that becomes the snapshot: see heap.c. */
#pragma once

#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#ifdef __aarch64__
#define PAGE 65536 /* the largest page of an aarch64 kernel, and the alignment of segments there */
#else
#define PAGE 4096
#endif
#define HUGE_PAGE ((size_t)2 << 20) /* code and snapshot are aligned to it in memory and in the file (snapshot.ld), for early.c */

/* Aborts the build of a snapshot and reports the condition that does not hold. */
#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "snapshot: %s:%d: %s does not hold\n", __FILE_NAME__, __LINE__, #condition);               \
            _exit(1);                                                                                                  \
        }                                                                                                              \
    } while (0)
#ifndef __FILE_NAME__ /* gcc before 12 */
#define __FILE_NAME__ __FILE__
#endif

extern char snapshot_heap[];

void heap_record(void);         /* from here on, what Python and the C library allocate is part of the snapshot */
size_t heap_end(void);          /* recording ends; returns the number of bytes used, in whole pages */

/* Groups of code: what runs in the same places lies side by side. The order of the places is that of hot.txt. */
enum place { PLACE_BEFORE, PLACE_HOST, PLACE_INIT, PLACE_EXEC, PLACE_OTHERS, PLACES };
struct groups {
    int count;
    unsigned sizes[32];         /* bytes of each group */
    unsigned places[PLACES];    /* bits, one for each group that runs there */
};
void heap_reserve(const struct groups *groups);
void heap_populate(enum place place); /* copies the pages of the code that runs there, which would be copied one by one */
void heap_of_code(int group);   /* what is allocated from here on is code of a group, or of none (0); -1: it is not code */
