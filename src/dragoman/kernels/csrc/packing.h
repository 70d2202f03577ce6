/* Weights as they are stored, put in the order in which the kernels read them. */
#ifndef DRAGOMAN_PACKING_H
#define DRAGOMAN_PACKING_H

#include <float.h>

#include "tables.h"

#define APART (AT_ONCE + 16) /* so that the numbers of a column don't crowd into a few sets of the cache */

/* The largest magnitude of a row; NaN if a number is NaN or infinite. */
static float row_top(const Matrix *m, int64_t row) {
    float piece[AT_ONCE], most = 0, sound = 0;
    F top = f_set(0), zero = f_set(0);
    for (int from = 0; from < m->columns; from += AT_ONCE) {
        const int count = MIN(AT_ONCE, m->columns - from);
        convert(m, row, from, count, piece);
        int j = 0;
        for (; j + 16 <= count; j += 16) {
            top = f_max(top, f_abs(f_load(piece + j)));
            zero = f_fma(f_load(piece + j), f_set(0), zero);
        }
        for (; j < count; j++) {
            most = MAX(most, fabsf(piece[j]));
            sound += piece[j] * 0.0f;
        }
    }
    sound += f_sum(zero);
    return sound == 0 ? MAX(most, f_top(top)) : NAN;
}

/* The scale of 32 weights that leaves the least squared error with levels -8 to 7: the largest goes
 * to -8 or near it. layers/packed_twin.py says the same in PyTorch. */
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

/* A group of 32 inputs of a panel, whose rows lie APART. */
static void pack_group(const float *rows, uint8_t *record) {
    for (int n = 0; n < PANEL; n++) {
        const F a = f_load(rows + n * APART), b = f_load(rows + n * APART + 16);
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

static void pack_bytes(const float *rows, int inputs, const float *scale, uint8_t *out) {
    for (int n = 0; n < PANEL; n++) {
        const F step = f_set(MAX(scale[n], FLT_MIN));
        for (int j = 0; j < inputs; j += 16) {
            int8_t bytes[16];
            const F level = f_max(f_min(f_div(f_load(rows + n * APART + j), step), f_set(127)), f_set(-127));
            i_store_bytes(bytes, i_add(i_round(level), i_set(128)));
            for (int four = 0; four < 4; four++) memcpy(out + ((j / 4 + four) * PANEL + n) * 4, bytes + 4 * four, 4);
        }
    }
}

/* As pack_bytes, and what is left of each number to `rest`, whose rows lie `stride` apart: four more bits. */
static void pack_fine(const float *rows, int count, int inputs, const float *scale, uint8_t *out, uint8_t *rest, int64_t stride) {
    for (int n = 0; n < PANEL; n++) {
        const F step = f_set(MAX(scale[n], FLT_MIN));
        for (int j = 0; j < inputs; j += 16) {
            int32_t number[16];
            const F level = f_max(f_min(f_div(f_load(rows + n * APART + j), step), f_set(127)), f_set(-127));
            i_store(number, i_add(i_round(f_mul(level, f_set(16))), i_set(FINE_ZERO)));
            for (int k = 0; k < 16; k++) out[((j + k) / 4 * PANEL + n) * 4 + k % 4] = (uint8_t)(number[k] >> 4);
            if (n >= count) continue;
            uint8_t *low = rest + n * stride + j / GROUP * 16;
            if (j % GROUP == 0)
                for (int k = 0; k < 16; k++) low[k] = number[k] & 15;
            else
                for (int k = 0; k < 16; k++) low[k] |= (uint8_t)((number[k] & 15) << 4);
        }
    }
}

static void pack_floats(const float *rows, int inputs, int kind, uint8_t *out) {
    float column[PANEL];
    for (int k = 0; k < inputs; k++) {
        for (int n = 0; n < PANEL; n++) column[n] = rows[n * APART + k];
        if (kind == FLOAT) memcpy((float *)out + k * PANEL, column, sizeof column);
        else
            for (int v = 0; v < PANEL; v += 16) f_store_half((uint16_t *)out + k * PANEL + v, f_load(column + v));
    }
}

typedef struct {
    const Matrix *m;
    Linear w; /* its kind may be NONE: then the matrix is measured and no more */
    uint8_t *out;
    float *scale; /* [panels * PANEL], kind BYTE */
    uint8_t *rest; /* [outputs, padded / 2], kind BYTE, if four more bits are to be kept; or NULL */
    float *tops;  /* of each panel: the largest magnitude, or NaN */
} Packing;

static void packing_task(void *work, int panel, int thread) {
    const Packing *p = work;
    const int rows = MIN(PANEL, p->m->rows - panel * PANEL), inputs = p->m->columns;
    float tops[PANEL], tile[PANEL * APART] __attribute__((aligned(64)));
    float most = 0;
    (void)thread;
    memset(tops, 0, sizeof tops);
    for (int n = 0; n < rows; n++) {
        tops[n] = row_top(p->m, (int64_t)panel * PANEL + n);
        most = tops[n] <= most ? most : tops[n]; /* a NaN stays */
        if (most != most) break;
    }
    p->tops[panel] = most;
    if (p->w.kind == NONE || most != most) return;
    if (p->w.kind == BYTE)
        for (int n = 0; n < PANEL; n++) p->scale[panel * PANEL + n] = tops[n] /= 127.0f;
    memset(tile, 0, sizeof tile);
    uint8_t *out = p->out + panel * panel_bytes(&p->w);
    const int64_t width = panel_bytes(&p->w) / p->w.padded; /* of an input; of a group in NIBBLE, whole ones only */
    for (int from = 0; from < p->w.padded; from += AT_ONCE) {
        const int count = MIN(AT_ONCE, inputs - from), wide = MIN(AT_ONCE, p->w.padded - from);
        for (int n = 0; n < rows; n++) {
            convert(p->m, (int64_t)panel * PANEL + n, from, count, tile + n * APART);
            for (int j = count; j < wide; j++) tile[n * APART + j] = 0;
        }
        if (p->w.kind == NIBBLE)
            for (int g = 0; g < wide; g += GROUP) pack_group(tile + g, out + (int64_t)((from + g) / GROUP) * NIBBLE_RECORD);
        else if (p->rest)
            pack_fine(tile, rows, wide, tops, out + from * width,
                      p->rest + (int64_t)panel * PANEL * (p->w.padded / 2) + from / 2, p->w.padded / 2);
        else if (p->w.kind == BYTE) pack_bytes(tile, wide, tops, out + from * width);
        else pack_floats(tile, wide, p->w.kind, out + from * width);
    }
}

#endif
