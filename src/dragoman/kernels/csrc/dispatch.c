/* Which of the builds of native.c this processor can run, best first. */
#ifdef __x86_64__
int supports(int isa) {
    __builtin_cpu_init();
    const int avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    switch (isa) {
    case 0: return avx512 && __builtin_cpu_supports("avx512vnni");
    case 1: return avx512;
    case 2: return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    default: return isa == 3;
    }
}
#else
int supports(int isa) { return isa == 3; }
#endif
