/* Products of rows with packed weights: panel by panel, with all rows before the next panel is read. */
#ifndef DRAGOMAN_PRODUCTS_H
#define DRAGOMAN_PRODUCTS_H

#include "simd.h"
#include "structs.h"
#include "work.h"

#define VECTORS (PANEL / 16)
#define ROWS_AT_ONCE 120 /* rows that go through a panel before the next one is read */

/* Rows that are multiplied, as floats and where it is needed in 8 bits. */
typedef struct {
    const float *f;
    int64_t ld;
    int32_t padded;
    int8_t *q;
    int16_t *wide;
    float *scale;
    int32_t *sums; /* of each group of inputs, [rows, padded / GROUP]; */
    int32_t *sum;  /* of all of a row's inputs */
} Acts;

typedef struct {
    const Linear *w;
    const Acts *x;
    const int32_t *source; /* input row of each output row, or NULL */
    float *out;
    int64_t ld;
    int32_t first, rows, add, activation;
    float alpha;
} Product;

typedef struct {
    const void *row[8];
    const int16_t *wide[8];
    const int32_t *sums[8];
} Inputs;

/* Sums over inputs [from, to) for `m` rows and one panel, kept in acc [m][PANEL] (of 4 bytes). */

#define TILES(name, m_, nv_)                                                                       \
    static void __attribute__((noinline)) name##_##m_(const uint8_t *w, int from, int to,          \
                                                       const Inputs *x, void *acc, int first) {    \
        for (int v = 0; v < VECTORS; v += nv_) name##_body(w, from, to, x, acc, first, v, m_, nv_); \
    }

INLINE void float_tile_body(const uint8_t *w, int from, int to, const Inputs *x, void *acc, int first,
                            int v0, const int m, const int nv) {
    F sum[8][VECTORS];
    float *out = (float *)acc + 16 * v0;
    const float *data = (const float *)w + 16 * v0;
    for (int i = 0; i < m; i++)
        for (int v = 0; v < nv; v++) sum[i][v] = first ? f_set(0) : f_load(out + i * PANEL + 16 * v);
    for (int k = from; k < to; k++) {
        F b[VECTORS];
        for (int v = 0; v < nv; v++) b[v] = f_load(data + (int64_t)k * PANEL + 16 * v);
        for (int i = 0; i < m; i++) {
            F a = f_set(((const float *)x->row[i])[k]);
            for (int v = 0; v < nv; v++) sum[i][v] = f_fma(a, b[v], sum[i][v]);
        }
    }
    for (int i = 0; i < m; i++)
        for (int v = 0; v < nv; v++) f_store(out + i * PANEL + 16 * v, sum[i][v]);
}

INLINE void half_tile_body(const uint8_t *w, int from, int to, const Inputs *x, void *acc, int first,
                           int v0, const int m, const int nv) {
    F sum[8][VECTORS];
    float *out = (float *)acc + 16 * v0;
    const uint16_t *data = (const uint16_t *)w + 16 * v0;
    for (int i = 0; i < m; i++)
        for (int v = 0; v < nv; v++) sum[i][v] = first ? f_set(0) : f_load(out + i * PANEL + 16 * v);
    for (int k = from; k < to; k++) {
        F b[VECTORS];
        for (int v = 0; v < nv; v++) b[v] = f_half(data + (int64_t)k * PANEL + 16 * v);
        for (int i = 0; i < m; i++) {
            F a = f_set(((const float *)x->row[i])[k]);
            for (int v = 0; v < nv; v++) sum[i][v] = f_fma(a, b[v], sum[i][v]);
        }
    }
    for (int i = 0; i < m; i++)
        for (int v = 0; v < nv; v++) f_store(out + i * PANEL + 16 * v, sum[i][v]);
}

INLINE void byte_tile_body(const uint8_t *w, int from, int to, const Inputs *x, void *acc, int first,
                           int v0, const int m, const int nv) {
    I sum[8][VECTORS];
    int32_t *out = (int32_t *)acc + 16 * v0;
    const uint8_t *data = w + 64 * v0;
    for (int i = 0; i < m; i++)
        for (int v = 0; v < nv; v++) sum[i][v] = first ? i_set(0) : i_load(out + i * PANEL + 16 * v);
    for (int k = from; k < to; k += 4) {
        W b[VECTORS];
        for (int v = 0; v < nv; v++) b[v] = w_bytes(data + (int64_t)k * PANEL + 64 * v);
        for (int i = 0; i < m; i++) {
            const int8_t *q = (const int8_t *)x->row[i] + k;
            for (int v = 0; v < nv; v++) sum[i][v] = w_dot(sum[i][v], b[v], q, WIDE ? x->wide[i] + k : 0);
        }
    }
    for (int i = 0; i < m; i++)
        for (int v = 0; v < nv; v++) i_store(out + i * PANEL + 16 * v, sum[i][v]);
}

/* A group: PANEL scales in half precision, then its nibbles: 16 outputs x 8 inputs in 64 bytes. */
#define NIBBLE_RECORD (PANEL * 2 + PANEL * GROUP / 2)

INLINE void nibble_tile_body(const uint8_t *w, int from, int to, const Inputs *x, void *acc, int first,
                             int v0, const int m, const int nv) {
    float *out = (float *)acc + 16 * v0;
    if (first)
        for (int i = 0; i < m; i++)
            for (int v = 0; v < nv; v++) f_store(out + i * PANEL + 16 * v, f_set(0));
    for (int g = from / GROUP; g < to / GROUP; g++) {
        const uint8_t *record = w + (int64_t)g * NIBBLE_RECORD;
        const uint8_t *data = record + PANEL * 2 + 64 * v0;
        /* Sums of 16 bits, where instructions have these, hold a group of GROUP weights of four bits: each is of two
         * products a round, and 8 * 2 * 15 * 127 is 30480. */
        S sum[8][VECTORS];
        for (int i = 0; i < m; i++)
            for (int v = 0; v < nv; v++) sum[i][v] = s_zero();
        for (int c = 0; c < GROUP / 8; c++) {
            N b[VECTORS];
            for (int v = 0; v < nv; v++) b[v] = w_nibbles(data + c * PANEL * 4 + 64 * v);
            const int k = g * GROUP + c * 8;
            for (int i = 0; i < m; i++)
                for (int v = 0; v < nv; v++)
                    sum[i][v] = s_dot4(sum[i][v], w_low(b[v]), (const int8_t *)x->row[i] + k);
            for (int v = 0; v < nv; v++) b[v] = w_high(b[v]);
            for (int i = 0; i < m; i++)
                for (int v = 0; v < nv; v++)
                    sum[i][v] = s_dot4(sum[i][v], b[v], (const int8_t *)x->row[i] + k + 4);
        }
        for (int v = 0; v < nv; v++) {
            F scale = f_half((const uint16_t *)record + 16 * (v0 + v));
            for (int i = 0; i < m; i++) {
                float *p = out + i * PANEL + 16 * v;
                const I all = i_add(s_wide(sum[i][v]), i_set(-8 * x->sums[i][g]));
                f_store(p, f_add(f_load(p), f_mul(f_int(all), scale)));
            }
        }
    }
}

#if defined(__AVX512F__)
#define EVERY(name) TILES(name, 1, 4) TILES(name, 2, 4) TILES(name, 3, 4) TILES(name, 4, 4) TILES(name, 5, 4) TILES(name, 6, 4)
#else /* half the registers */
#define EVERY(name) TILES(name, 1, 4) TILES(name, 2, 2) TILES(name, 3, 2) TILES(name, 4, 1) TILES(name, 5, 1) TILES(name, 6, 1)
#endif
EVERY(float_tile)
EVERY(half_tile)
EVERY(byte_tile)
EVERY(nibble_tile)

typedef void (*Tile)(const uint8_t *, int, int, const Inputs *, void *, int);
#define LIST(name) {0, name##_1, name##_2, name##_3, name##_4, name##_5, name##_6}
static const Tile TILE[5][7] = {{0}, LIST(float_tile), LIST(half_tile), LIST(byte_tile), LIST(nibble_tile)};

static int tile_rows(int kind, int left) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    /* Four rows of integers leave registers for one vector of weights only, which takes twice as long as two and two. */
    const int most = kind >= BYTE ? 3 : 6;
#else
    const int most = kind == NIBBLE || (kind == BYTE && WIDE) ? 5 : 6;
#endif
    if (left <= most) return left;
    return left < 2 * most ? (left + 1) / 2 : most; /* no lonely rows at the end */
}

static int64_t panel_bytes(const Linear *w) {
    switch (w->kind) {
    case FLOAT: return (int64_t)w->padded * PANEL * 4;
    case HALF: return (int64_t)w->padded * PANEL * 2;
    case BYTE: return (int64_t)w->padded * PANEL;
    default: return (int64_t)(w->padded / GROUP) * NIBBLE_RECORD;
    }
}

static int panels(const Linear *w) { return (w->outputs + PANEL - 1) / PANEL; }

INLINE F activate(F x, int activation) {
    if (activation == RELU) return f_max(x, f_set(0));
    if (activation == SILU) {
        float t[16], e[16];
        f_store(t, x);
        f_store(e, f_exp(f_mul(x, f_set(-1))));
        for (int j = 0; j < 16; j++) t[j] = t[j] / (1 + e[j]);
        return f_load(t);
    }
    if (activation == GELU) {
        float t[16];
        f_store(t, x);
        for (int j = 0; j < 16; j++) t[j] = 0.5f * t[j] * (1 + erff(t[j] * 0.70710678f));
        return f_load(t);
    }
    return x;
}

/* Raw sums of `rows` rows and one panel into floats [rows][PANEL] with scales and bias applied. */
static void panel_sums(const Product *p, int panel, int first, int rows, float *tile) {
    const Linear *w = p->w;
    const Acts *x = p->x;
    const uint8_t *data = w->data + panel * panel_bytes(w);
    /* A piece of a panel that stays in the second-level cache while all rows pass. */
    const int block = w->kind == FLOAT ? 1024 : w->kind == HALF ? 2048 : 4096;
    const int inputs = w->kind >= BYTE ? w->padded : w->inputs;
    for (int from = 0; from < inputs; from += block) {
        const int to = MIN(inputs, from + block);
        for (int r = 0; r < rows;) {
            const int m = tile_rows(w->kind, rows - r);
            Inputs in;
            for (int i = 0; i < m; i++) {
                const int64_t row = p->source ? p->source[first + r + i] : first + r + i;
                in.row[i] = w->kind >= BYTE ? (const void *)(x->q + row * x->padded) : (const void *)(x->f + row * x->ld);
                in.wide[i] = WIDE ? x->wide + row * x->padded : 0;
                in.sums[i] = x->sums + row * (x->padded / GROUP);
            }
            TILE[w->kind][m](data, from, to, &in, tile + r * PANEL, from == 0);
            r += m;
        }
    }
    if (w->kind < BYTE && !w->bias) return;
    const int columns = MIN(PANEL, w->outputs - panel * PANEL);
    float bias[PANEL];
    memset(bias, 0, sizeof bias);
    if (w->bias) memcpy(bias, w->bias + panel * PANEL, columns * sizeof(float));
    for (int r = 0; r < rows; r++) {
        const int64_t row = p->source ? p->source[first + r] : first + r;
        for (int v = 0; v < PANEL; v += 16) {
            float *at = tile + r * PANEL + v;
            F y;
            if (w->kind == BYTE) {
                I sum = i_add(i_load((const int32_t *)at), i_set(-128 * x->sum[row]));
                y = f_mul(f_mul(f_int(sum), f_load(w->scale + panel * PANEL + v)), f_set(x->scale[row]));
            } else if (w->kind == NIBBLE) {
                y = f_mul(f_load(at), f_set(x->scale[row]));
            } else {
                y = f_load(at);
            }
            f_store(at, f_add(y, f_load(bias + v)));
        }
    }
}

static void product_task(const Product *p, int panel, int first, int rows, float *tile) {
    const Linear *w = p->w;
    panel_sums(p, panel, first, rows, tile);
    const int columns = MIN(PANEL, w->outputs - panel * PANEL);
    for (int r = 0; r < rows; r++) {
        float *from = tile + r * PANEL, *to = p->out + (first + r) * p->ld + panel * PANEL;
        if (p->activation || p->alpha != 1.0f)
            for (int v = 0; v < PANEL; v += 16)
                f_store(from + v, f_mul(activate(f_load(from + v), p->activation), f_set(p->alpha)));
        if (columns == PANEL) {
            for (int v = 0; v < PANEL; v += 16)
                f_store(to + v, p->add ? f_add(f_load(to + v), f_load(from + v)) : f_load(from + v));
        } else {
            for (int n = 0; n < columns; n++) to[n] = p->add ? to[n] + from[n] : from[n];
        }
    }
}

static int tasks_of(const Product *p) {
    return p->rows ? panels(p->w) * ((p->rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE) : 0;
}

static Product plain(const Linear *w, const Acts *x, float *out, int64_t ld, int rows) {
    Product p = {w, x, NULL, out, ld, 0, rows, 0, 0, 1.0f};
    return p;
}

typedef struct {
    const Product *products;
    int total, grain;
} Products;

static void products_task(void *work, int number, int thread) {
    const Products *all = work;
    float tile[ROWS_AT_ONCE * PANEL] __attribute__((aligned(64)));
    const Product *p = all->products;
    int task = number * all->grain, before = 0;
    (void)thread;
    for (int end = MIN(all->total, task + all->grain); task < end; task++) {
        while (task - before >= tasks_of(p)) before += tasks_of(p++);
        const int at = task - before, blocks = (p->rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
        const int first = p->first + at % blocks * ROWS_AT_ONCE;
        product_task(p, at / blocks, first, MIN(ROWS_AT_ONCE, p->first + p->rows - first), tile);
    }
}

static void multiply(int threads, const Product *p, int count) {
    Products all = {p, 0, 1};
    int64_t operations = 0;
    for (int i = 0; i < count; i++) {
        all.total += tasks_of(p + i);
        operations += (int64_t)tasks_of(p + i) * PANEL * p[i].w->inputs * MIN(p[i].rows, ROWS_AT_ONCE);
    }
    if (!all.total) return;
    all.grain = grain(threads, all.total, operations / all.total, 16);
    share(threads, (all.total + all.grain - 1) / all.grain, products_task, &all);
}

#endif
