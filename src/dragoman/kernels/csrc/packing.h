/* Weights in 4 bits. */
#ifndef DRAGOMAN_PACKING_H
#define DRAGOMAN_PACKING_H

#include "products.h"

/* The scale of 32 weights that leaves the least squared error with levels -8 to 7: the largest goes
 * to -8 or near it. kernels/packing.py says the same in PyTorch. */
static uint16_t best_scale(F a, F b) {
    static const float ENDS[] = {-7.0f, -7.4f, -7.7f, -8.0f, -8.4f, -8.8f, 7.0f};
    float values[32], largest = 0, least = INFINITY;
    uint16_t found = 0;
    f_store(values, a);
    f_store(values + 16, b);
    for (int j = 0; j < 32; j++)
        if (fabsf(values[j]) > fabsf(largest)) largest = values[j];
    for (unsigned e = 0; e < sizeof ENDS / sizeof *ENDS; e++) {
        const uint16_t half = to_half(largest / ENDS[e]);
        const float scale = from_half(half);
        const F step = f_set(scale == 0 ? 1 : scale), low = f_set(-8), high = f_set(7), no = f_set(-1);
        F d = f_fma(f_max(f_min(f_int(i_round(f_div(a, step))), high), low), step, f_mul(a, no));
        F sum = f_mul(d, d);
        d = f_fma(f_max(f_min(f_int(i_round(f_div(b, step))), high), low), step, f_mul(b, no));
        const float error = f_sum(f_fma(d, d, sum));
        if (error < least) least = error, found = half;
    }
    return found;
}

static void pack_group(const float *rows, int inputs, int g, uint8_t *record) {
    for (int n = 0; n < PANEL; n++) {
        const float *w = rows + (int64_t)n * inputs + g * GROUP;
        const F a = f_load(w), b = f_load(w + 16);
        const uint16_t half = best_scale(a, b);
        memcpy(record + 2 * n, &half, 2);
        const float scale = from_half(half);
        const F step = f_set(scale == 0 ? 1 : scale);
        int32_t level[32];
        i_store(level, i_round(f_max(f_min(f_div(a, step), f_set(7)), f_set(-8))));
        i_store(level + 16, i_round(f_max(f_min(f_div(b, step), f_set(7)), f_set(-8))));
        for (int eight = 0; eight < 4; eight++)
            for (int j = 0; j < 4; j++)
                record[PANEL * 2 + eight * PANEL * 4 + n * 4 + j] =
                    (uint8_t)((level[eight * 8 + j] + 8) | (level[eight * 8 + 4 + j] + 8) << 4);
    }
}

typedef struct {
    const float *rows;
    int inputs, total, grain;
    uint8_t *out;
} Packing;

static void packing_task(void *work, int number, int thread) {
    const Packing *p = work;
    const int groups = p->inputs / GROUP;
    (void)thread;
    for (int at = number * p->grain; at < MIN(p->total, (number + 1) * p->grain); at++)
        pack_group(p->rows + (int64_t)(at / groups) * PANEL * p->inputs, p->inputs, at % groups,
                   p->out + (int64_t)at * NIBBLE_RECORD);
}

#endif
