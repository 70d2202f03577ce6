/* Rows of tables: numbers as they are stored, or in 12 bits. */
#ifndef DRAGOMAN_TABLES_H
#define DRAGOMAN_TABLES_H

#include "products.h"

#define AT_ONCE 128 /* numbers of a row that are converted together */

/* Where a row of a FINE table begins: its upper bits in its panel, and the lower ones. */
static const uint8_t *fine_high(const Matrix *m, int64_t row) {
    return (const uint8_t *)m->data + row / PANEL * (m->stride * 2 * PANEL) + row % PANEL * 4;
}
static const uint8_t *fine_low(const Matrix *m, int64_t row) { return m->rest + row * m->stride; }

static void convert_fine(const Matrix *m, int64_t row, int from, int count, float *out) {
    const F unit = f_set(m->scale[row] / 16);
    const uint8_t *high = fine_high(m, row) + (int64_t)from * PANEL, *low = fine_low(m, row) + from / 2;
    for (int j = 0; j < count; j += GROUP, high += GROUP * PANEL, low += GROUP / 2) {
        float last[GROUP], *to = j + GROUP <= count ? out + j : last;
        F a, b;
        f_fine(high, 4 * PANEL, low, &a, &b);
        f_store(to, f_mul(a, unit));
        f_store(to + 16, f_mul(b, unit));
        if (to == last) memcpy(out + j, last, (count - j) * sizeof(float));
    }
}

/* `count` numbers of a row, as floats. FINE: `from` begins a group. */
static void convert(const Matrix *m, int64_t row, int from, int count, float *out) {
    int j = 0;
    if (m->kind == FINE) {
        convert_fine(m, row, from, count, out);
        return;
    }
    if (m->kind == FLOAT) {
        memcpy(out, (const float *)m->data + row * m->stride + from, count * sizeof(float));
        return;
    }
    const uint16_t *p = (const uint16_t *)m->data + row * m->stride + from;
    if (m->kind == HALF) {
        for (; j + 16 <= count; j += 16) f_store(out + j, f_half(p + j));
        for (; j < count; j++) out[j] = from_half(p[j]);
    } else {
        for (; j + 16 <= count; j += 16) f_store(out + j, f_brain(p + j));
        for (; j < count; j++) out[j] = from_brain(p[j]);
    }
}

typedef struct {
    const Matrix *m;
    const int64_t *rows;
    int count, grain;
    float scale, *out;
} Gathering;

static void gathering_task(void *work, int number, int thread) {
    const Gathering *g = work;
    const int width = g->m->columns;
    (void)thread;
    for (int i = number * g->grain; i < MIN(g->count, (number + 1) * g->grain); i++) {
        float *out = g->out + (int64_t)i * width;
        int j = 0;
        convert(g->m, g->rows[i], 0, width, out);
        for (; j + 16 <= width; j += 16) f_store(out + j, f_mul(f_load(out + j), f_set(g->scale)));
        for (; j < width; j++) out[j] *= g->scale;
    }
}

#endif
