/* Which of the builds of native.c this processor can run, best first; and what the library was built from. */
#include "structs.h"

#ifdef __x86_64__
#include <cpuid.h>

/* Not every compiler lets __builtin_cpu_supports ask for it. */
static int has_f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

int supports(int isa) {
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    const int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    switch (isa) {
    case 0: return avx512 && __builtin_cpu_supports("avx512vnni");
    case 1: return avx512;
    case 2: return avx2;
    default: return isa == 3;
    }
}
#else
int supports(int isa) { return isa == 3; }
#endif

/* kernels/build.py's fingerprint of the sources. */
#ifndef DRAGOMAN_SOURCES
#define DRAGOMAN_SOURCES ""
#endif
const char *sources(void) { return DRAGOMAN_SOURCES; }

/* Bytes of a shared structure, in the order of SHARED in kernels/structs.py. */
int size(int structure) {
    const int sizes[] = {sizeof(Linear), sizeof(Norm), sizeof(Adapter), sizeof(Layer),
                         sizeof(Stack),  sizeof(Span), sizeof(Batch),   sizeof(Head), sizeof(Matrix),
                         sizeof(Pass)};
    return structure < (int)(sizeof sizes / sizeof *sizes) ? sizes[structure] : 0;
}
