/* A call's memory and its threads. */
#ifndef DRAGOMAN_WORK_H
#define DRAGOMAN_WORK_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "threads.h"

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define WORTH 16384 /* so many operations are worth another thread's while */

/* What is kept from call to call. */
typedef struct {
    int threads; /* at the most */
    char *arena;
    size_t size;
} Context;

/* Working memory, laid out twice: without a place to find out how much it is, then with one. */
typedef struct {
    char *at;
    size_t used;
} Arena;

static void *take(Arena *a, size_t bytes) {
    void *p = a->at ? a->at + a->used : NULL;
    a->used += (bytes + 63) & ~(size_t)63;
    return p;
}

/* Memory that begins where a line of the processor's cache does, or NULL. */
static void *reserve_bytes(size_t size) {
#ifdef _WIN32
    return _aligned_malloc(size, 64);
#else
    void *found;
    return posix_memalign(&found, 64, size) ? NULL : found;
#endif
}
static void release_bytes(void *bytes) {
#ifdef _WIN32
    _aligned_free(bytes);
#else
    free(bytes);
#endif
}

/* Memory for all that `a` has counted. 0, or -1 if there is none. */
static int reserve(Context *c, Arena *a) {
    if (a->used > c->size) {
        release_bytes(c->arena);
        c->size = 0;
        if (!(c->arena = reserve_bytes(a->used + a->used / 4))) return -1;
        c->size = a->used + a->used / 4;
    }
    a->at = c->arena;
    a->used = 0;
    return 0;
}

/* How many units of so many operations each go into a task: a few tasks for each thread, none too small. */
static int grain(int threads, int units, int64_t operations, int tasks) {
    const int64_t worth = WORTH / MAX(1, operations);
    return (int)MAX(MAX(1, units / (threads * tasks)), MIN(worth, MAX(1, units)));
}

#endif
