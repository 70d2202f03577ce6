/* Transformer layers on a CPU. This file is compiled once for each kind of processor.
 *
 * A call runs in one parallel region. Work is cut into tasks that threads take as they come, but
 * each number is computed in one fixed order by one thread: results depend neither on the number
 * of threads nor on what else is in a batch.
 */
#include "simd.h"
#include "structs.h"

#include <stdlib.h>

#ifdef _OPENMP
#include <omp.h>
#define BARRIER _Pragma("omp barrier")
#else
#define BARRIER
static int omp_get_thread_num(void) { return 0; }
static int omp_get_num_threads(void) { return 1; }
#endif

#define VECTORS (PANEL / 16)
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define ROWS_AT_ONCE 120 /* rows that go through a panel before the next one is read */

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
    int threads;
    char *arena;
    size_t size;
    int32_t *counters;
    int32_t counters_size;
} Context;

/* ---- memory ---- */

typedef struct {
    char *at;
    size_t used;
} Arena;

static void *take(Arena *a, size_t bytes) {
    void *p = a->at ? a->at + a->used : NULL;
    a->used += (bytes + 63) & ~(size_t)63;
    return p;
}

/* ---- matrix products ---- */

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
        I sum[8][VECTORS];
        for (int i = 0; i < m; i++)
            for (int v = 0; v < nv; v++) sum[i][v] = i_set(-8 * x->sums[i][g]);
        for (int c = 0; c < GROUP / 8; c++) {
            N b[VECTORS];
            for (int v = 0; v < nv; v++) b[v] = w_nibbles(data + c * PANEL * 4 + 64 * v);
            const int k = g * GROUP + c * 8;
            for (int i = 0; i < m; i++)
                for (int v = 0; v < nv; v++)
                    sum[i][v] = w_dot4(sum[i][v], w_low(b[v]), (const int8_t *)x->row[i] + k);
            for (int v = 0; v < nv; v++) b[v] = w_high(b[v]);
            for (int i = 0; i < m; i++)
                for (int v = 0; v < nv; v++)
                    sum[i][v] = w_dot4(sum[i][v], b[v], (const int8_t *)x->row[i] + k + 4);
        }
        for (int v = 0; v < nv; v++) {
            F scale = f_half((const uint16_t *)record + 16 * (v0 + v));
            for (int i = 0; i < m; i++) {
                float *p = out + i * PANEL + 16 * v;
                f_store(p, f_add(f_load(p), f_mul(f_int(sum[i][v]), scale)));
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
    const int most = kind == NIBBLE || (kind == BYTE && WIDE) ? 5 : 6;
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

typedef struct {
    Context *c;
    int phase, thread, threads;
} Team;

/* A counter of its own for each phase, so that none has to be set back. */
static int32_t *next_counter(Team *t) { return t->c->counters + 16 * t->phase++; }

static int grab(int32_t *counter, int count) { return __atomic_fetch_add(counter, count, __ATOMIC_RELAXED); }

/* All products; every thread calls this with equal arguments. */
static void multiply(Team *team, const Product *p, int count) {
    int32_t *counter = next_counter(team);
    float tile[ROWS_AT_ONCE * PANEL] __attribute__((aligned(64)));
    int total = 0;
    for (int i = 0; i < count; i++) total += tasks_of(p + i);
    const int grain = MAX(1, total / (team->threads * 16));
    int product = 0, before = 0;
    for (;;) {
        int task = grab(counter, grain);
        if (task >= total) break;
        for (int end = MIN(total, task + grain); task < end; task++) {
            while (task - before >= tasks_of(p + product)) before += tasks_of(p + product++);
            const Product *mine = p + product;
            const int at = task - before, blocks = (mine->rows + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
            const int first = mine->first + at % blocks * ROWS_AT_ONCE;
            product_task(mine, at / blocks, first, MIN(ROWS_AT_ONCE, mine->first + mine->rows - first), tile);
        }
    }
    BARRIER
}

/* ---- rows ---- */

static void quantise_row(const float *x, int width, Acts *out, int64_t row) {
    F top = f_set(0), zero = f_set(0);
    int j = 0;
    for (; j + 16 <= width; j += 16) {
        top = f_max(top, f_abs(f_load(x + j)));
        zero = f_fma(f_load(x + j), f_set(0), zero);
    }
    float most = f_top(top), sound = f_sum(zero);
    for (; j < width; j++) {
        most = fabsf(x[j]) > most ? fabsf(x[j]) : most;
        sound += x[j] * 0.0f;
    }
    if (sound != 0) { /* a NaN or an infinity: the row's results shall be NaN, and nothing worse */
        memset(out->q + row * out->padded, 0, out->padded);
        if (WIDE) memset(out->wide + row * out->padded, 0, out->padded * sizeof(int16_t));
        memset(out->sums + row * (out->padded / GROUP), 0, out->padded / GROUP * sizeof(int32_t));
        out->sum[row] = 0;
        out->scale[row] = NAN;
        return;
    }
    const float inverse = most > 0 ? 127.0f / most : 0.0f;
    int8_t *q = out->q + row * out->padded;
    int32_t *sums = out->sums + row * (out->padded / GROUP), all = 0;
    for (int g = 0; g < out->padded / GROUP; g++) {
        I part = i_set(0);
        for (int h = 0; h < GROUP; h += 16) {
            const int at = g * GROUP + h;
            float tail[16];
            const float *from = x + at;
            if (at + 16 > width) {
                memset(tail, 0, sizeof tail);
                if (at < width) memcpy(tail, from, (width - at) * sizeof(float));
                from = tail;
            }
            I v = i_round(f_mul(f_load(from), f_set(inverse)));
            i_store_bytes(q + at, v);
            part = i_add(part, v);
        }
        sums[g] = i_sum(part);
        all += sums[g];
    }
    out->sum[row] = all;
    out->scale[row] = most > 0 ? most / 127.0f : 0.0f;
#if WIDE
    int16_t *wide = out->wide + row * out->padded;
    for (int k = 0; k < out->padded; k += 4) {
        wide[k] = q[k];
        wide[k + 1] = q[k + 2];
        wide[k + 2] = q[k + 1];
        wide[k + 3] = q[k + 3];
    }
#endif
}

static float dot(const float *a, const float *b, int width) {
    F s0 = f_set(0), s1 = f_set(0);
    int j = 0;
    for (; j + 32 <= width; j += 32) {
        s0 = f_fma(f_load(a + j), f_load(b + j), s0);
        s1 = f_fma(f_load(a + j + 16), f_load(b + j + 16), s1);
    }
    for (; j + 16 <= width; j += 16) s0 = f_fma(f_load(a + j), f_load(b + j), s0);
    float s = f_sum(f_add(s0, s1));
    for (; j < width; j++) s += a[j] * b[j];
    return s;
}

static void normalise_row(const Norm *n, const float *x, int width, float *out) {
    float m = 0;
    F s0 = f_set(0), s1 = f_set(0);
    int j = 0;
    if (n->kind == 1) {
        for (; j + 32 <= width; j += 32) {
            s0 = f_add(s0, f_load(x + j));
            s1 = f_add(s1, f_load(x + j + 16));
        }
        m = f_sum(f_add(s0, s1));
        for (; j < width; j++) m += x[j];
        m /= width;
    }
    s0 = s1 = f_set(0);
    for (j = 0; j + 32 <= width; j += 32) {
        F d = f_add(f_load(x + j), f_set(-m)), e = f_add(f_load(x + j + 16), f_set(-m));
        s0 = f_fma(d, d, s0);
        s1 = f_fma(e, e, s1);
    }
    double square = f_sum(f_add(s0, s1));
    for (; j < width; j++) square += (x[j] - m) * (x[j] - m);
    const float inverse = (float)(1.0 / sqrt(square / width + n->eps));
    for (j = 0; j + 16 <= width; j += 16) {
        F y = f_mul(f_mul(f_add(f_load(x + j), f_set(-m)), f_set(inverse)), f_load(n->weight + j));
        f_store(out + j, n->bias ? f_add(y, f_load(n->bias + j)) : y);
    }
    for (; j < width; j++) out[j] = (x[j] - m) * inverse * n->weight[j] + (n->bias ? n->bias[j] : 0);
}

static void gate_row(const float *gate, const float *up, int width, int activation, float *out) {
    int j = 0;
    for (; j + 16 <= width; j += 16) f_store(out + j, f_mul(activate(f_load(gate + j), activation), f_load(up + j)));
    if (j < width) {
        float g[16], u[16];
        memset(g, 0, sizeof g);
        memset(u, 0, sizeof u);
        memcpy(g, gate + j, (width - j) * sizeof(float));
        memcpy(u, up + j, (width - j) * sizeof(float));
        f_store(g, f_mul(activate(f_load(g), activation), f_load(u)));
        memcpy(out + j, g, (width - j) * sizeof(float));
    }
}

/* Make rows ready to be multiplied: normalised, or gated, and quantised where `bytes` says so. */
static void prepare(Team *team, const Norm *norm, const float *in, int64_t ld, const float *up, int activation,
                    int rows, int width, float *out, Acts *acts, int bytes) {
    int32_t *counter = next_counter(team);
    acts->f = out;
    acts->ld = out == in ? ld : width;
    acts->padded = (width + GROUP - 1) / GROUP * GROUP;
    const int grain = MAX(1, rows / (team->threads * 8));
    for (int r; (r = grab(counter, grain)) < rows;)
        for (int end = MIN(rows, r + grain); r < end; r++) {
            const float *x = in + r * ld;
            float *y = out + r * acts->ld;
            if (norm && norm->kind) normalise_row(norm, x, width, y);
            else if (up) gate_row(x, up + r * ld, width, activation, y);
            if (bytes) quantise_row(y, width, acts, r);
        }
    BARRIER
}

/* ---- attention ---- */

static void rotate(float *x, const float *cosine, const float *sine, int half) {
    for (int j = 0; j < half; j++) {
        const float a = x[j], b = x[j + half];
        x[j] = a * cosine[j] - b * sine[j];
        x[j + half] = b * cosine[j] + a * sine[j];
    }
}

/* Turn queries and keys, and put keys and values where they stay. */
static void store_keys(Team *team, const Stack *s, const Batch *b, int layer, float *q, float *k, float *v) {
    int32_t *counter = next_counter(team);
    const int width = s->head_width, queries = s->heads * width, keys = s->key_heads * width;
    for (int r; (r = grab(counter, 1)) < b->rows;) {
        float *key = k + (int64_t)r * keys;
        if (b->cosine) {
            const float *cosine = b->cosine + (int64_t)r * (width / 2), *sine = b->sine + (int64_t)r * (width / 2);
            for (int h = 0; h < s->heads; h++) rotate(q + (int64_t)r * queries + h * width, cosine, sine, width / 2);
            for (int h = 0; h < s->key_heads; h++) rotate(key + h * width, cosine, sine, width / 2);
        }
        float *to = b->write[r] + layer * b->write_stride[r];
        memcpy(to, key, keys * sizeof(float));
        memcpy(to + b->write_value[r], v + (int64_t)r * keys, keys * sizeof(float));
    }
    BARRIER
}

INLINE const float *key_at(const Span *s, int64_t base, int t, int width) {
    return s->key + base + ((int64_t)t * s->step + (s->slot ? s->slot[t] : 0)) * width;
}

/* One row's heads [from, to) over all its spans. scores: room for (to - from) * keys. */
static void attend_row(const Stack *s, const Span *spans, int count, int layer, const float *q, float *out,
                       int from, int to, float *scores, int room) {
    const int width = s->head_width, keys = s->key_heads * width, share = s->heads / s->key_heads;
    int total = 0;
    for (int i = 0; i < count; i++) {
        const int64_t base = layer * spans[i].layer_stride;
        for (int t = 0; t < spans[i].count; t++, total++) {
            const float *key = key_at(spans + i, base, t, keys);
            for (int h = from; h < to; h++)
                scores[(h - from) * room + total] = dot(q + h * width, key + h / share * width, width) * s->query_scale;
        }
    }
    for (int h = from; h < to; h++) {
        float *w = scores + (h - from) * room, most = -INFINITY, sum = 0;
        for (int t = 0; t < total; t++) most = w[t] > most ? w[t] : most;
        int t = 0;
        F sums = f_set(0);
        for (; t + 16 <= total; t += 16) {
            F e = f_exp(f_add(f_load(w + t), f_set(-most)));
            sums = f_add(sums, e);
            f_store(w + t, e);
        }
        sum = f_sum(sums);
        if (t < total) {
            float rest[16];
            for (int j = 0; j < 16; j++) rest[j] = t + j < total ? w[t + j] - most : -100.0f;
            f_store(rest, f_exp(f_load(rest)));
            for (int j = 0; t + j < total; j++) sum += w[t + j] = rest[j];
        }
        const float inverse = total ? 1.0f / sum : 0.0f;
        for (t = 0; t < total; t++) w[t] *= inverse;
    }
    memset(out + from * width, 0, (to - from) * width * sizeof(float));
    total = 0;
    for (int i = 0; i < count; i++) {
        const int64_t base = layer * spans[i].layer_stride + spans[i].value_offset;
        for (int t = 0; t < spans[i].count; t++, total++) {
            const float *value = key_at(spans + i, base, t, keys);
            for (int h = from; h < to; h++) {
                const float w = scores[(h - from) * room + total], *v = value + h / share * width;
                float *o = out + h * width;
                int j = 0;
                for (; j + 16 <= width; j += 16) f_store(o + j, f_fma(f_set(w), f_load(v + j), f_load(o + j)));
                for (; j < width; j++) o[j] += w * v[j];
            }
        }
    }
}

static void attend(Team *team, const Stack *s, const Batch *b, const Span *spans, int count, int layer,
                   const float *q, float *out, float *scores, int room) {
    int32_t *counter = next_counter(team);
    const int width = s->heads * s->head_width;
    /* Few rows: cut each into parts of its heads. */
    int parts = 1;
    while (b->rows * parts < 4 * team->threads && parts * 2 <= s->heads && s->heads % (parts * 2) == 0) parts *= 2;
    const int heads = s->heads / parts, units = b->rows * parts, grain = MAX(1, units / (team->threads * 8));
    float *mine = scores + (int64_t)team->thread * s->heads * room;
    for (int u; (u = grab(counter, grain)) < units;)
        for (int end = MIN(units, u + grain); u < end; u++) {
            const int r = u / parts, from = u % parts * heads;
            attend_row(s, spans + (int64_t)r * count, count, layer, q + (int64_t)r * width, out + (int64_t)r * width,
                       from, from + heads, mine, room);
        }
    BARRIER
}

/* ---- a pass ---- */

typedef struct {
    float *normed, *q, *k, *v, *context, *inner, *up, *thin, *mixed, *scores, *logits, *gates;
    int32_t *assigned, *place, *start;
    Product *products;
    Acts acts, thin_acts;
    int room;
} Work;

static void take_acts(Arena *a, Acts *x, int64_t rows, int width) {
    const int64_t padded = (width + GROUP - 1) / GROUP * GROUP;
    x->q = take(a, rows * padded);
    x->wide = WIDE ? take(a, rows * padded * 2) : NULL;
    x->scale = take(a, rows * 4);
    x->sum = take(a, rows * 4);
    x->sums = take(a, rows * (padded / GROUP) * 4);
}

static void lay_out(Arena *a, Work *w, const Stack *s, const Batch *b, int threads) {
    const int64_t rows = b->rows, queries = (int64_t)s->heads * s->head_width, keys = (int64_t)s->key_heads * s->head_width;
    const int64_t visits = s->max_experts ? 2 * rows : rows;
    int room = 1;
    for (int64_t r = 0; r < rows; r++) {
        int count = 0;
        for (int i = 0; i < b->spans; i++) count += b->self[r * b->spans + i].count;
        room = MAX(room, count);
        if (b->cross) room = MAX(room, b->cross[r].count);
    }
    w->room = room;
    w->normed = take(a, rows * s->hidden * 4);
    w->q = take(a, rows * queries * 4);
    w->k = take(a, rows * keys * 4);
    w->v = take(a, rows * keys * 4);
    w->context = take(a, rows * queries * 4);
    w->inner = take(a, visits * s->inner * 4);
    w->up = take(a, (s->gated ? rows * s->inner : 0) * 4);
    w->thin = take(a, rows * s->max_rank * 3 * 4);
    w->scores = take(a, (int64_t)threads * s->heads * room * 4);
    w->mixed = take(a, (s->max_experts ? visits * s->hidden : 0) * 4);
    w->logits = take(a, rows * s->max_experts * 4);
    w->gates = take(a, visits * 4);
    w->assigned = take(a, visits * 4);
    w->place = take(a, visits * 4);
    w->start = take(a, (s->max_experts + 1) * 4);
    w->products = take(a, (s->max_experts + 16 + 6 * (int64_t)b->routes) * sizeof(Product));
    take_acts(a, &w->acts, visits, MAX(MAX(s->hidden, s->inner), (int)queries));
    take_acts(a, &w->thin_acts, rows, s->max_rank * 3);
}

static int wants_bytes(const Linear *w) { return w->kind >= BYTE; }

static Product plain(const Linear *w, const Acts *x, float *out, int64_t ld, int rows) {
    Product p = {w, x, NULL, out, ld, 0, rows, 0, 0, 1.0f};
    return p;
}

/* The language modules' products, added to what `projections` gave. All have the input `x`. */
static void adapt(Team *team, const Stack *s, const Batch *b, const Layer *l, Work *w, const int *projections, int count,
                  const Acts *x, float *const *outs, const int64_t *lds) {
    if (!b->routes || !l->adapters) return;
    Product first[3 * 16], second[3 * 16];
    for (int base = 0; base < b->routes; base += 16) {
        int n = 0, bytes = 0;
        const int end = MIN(b->routes, base + 16);
        const int64_t ld = 3 * (int64_t)s->max_rank;
        for (int i = base; i < end; i++)
            for (int j = 0; j < count; j++) {
                const Adapter *a = l->adapters + (int64_t)b->route_module[i] * PROJECTIONS + projections[j];
                if (a->a.kind == NONE) continue;
                first[n] = plain(&a->a, x, w->thin + (int64_t)j * s->max_rank, ld, b->route_stop[i] - b->route_start[i]);
                first[n].first = b->route_start[i];
                bytes |= wants_bytes(&a->b);
                n++;
            }
        multiply(team, first, n);
        /* Each projection's thin rows are quantised apart: their sizes differ. */
        for (int j = 0; j < count; j++) {
            Acts *t = &w->thin_acts;
            float *thin = w->thin + (int64_t)j * s->max_rank;
            int m = 0, width = 0;
            for (int i = base; i < end; i++) {
                const Adapter *a = l->adapters + (int64_t)b->route_module[i] * PROJECTIONS + projections[j];
                if (a->a.kind == NONE) continue;
                width = MAX(width, a->a.outputs);
                second[m] = plain(&a->b, t, outs[j], lds[j], b->route_stop[i] - b->route_start[i]);
                second[m].first = b->route_start[i];
                second[m].add = 1;
                second[m++].alpha = b->route_scale[i];
            }
            if (!m) continue;
            if (bytes) {
                if (team->thread == 0) t->padded = (width + GROUP - 1) / GROUP * GROUP;
                BARRIER
                /* Each row as wide as its own module's rank: beyond lies what others left there. */
                for (int i = base; i < end; i++) {
                    const Adapter *a = l->adapters + (int64_t)b->route_module[i] * PROJECTIONS + projections[j];
                    if (a->a.kind == NONE) continue;
                    for (int r = b->route_start[i] + team->thread; r < b->route_stop[i]; r += team->threads)
                        quantise_row(thin + r * ld, a->a.outputs, t, r);
                }
            }
            if (team->thread == 0) t->f = thin, t->ld = ld;
            BARRIER
            multiply(team, second, m);
        }
    }
}

/* Two experts for each row, and the rows of each expert side by side. */
static void assign(const Layer *l, Work *w, int rows) {
    const int experts = l->experts;
    memset(w->start, 0, (experts + 1) * sizeof(int32_t));
    for (int r = 0; r < rows; r++) {
        const float *x = w->logits + (int64_t)r * experts;
        int first = 0, second = -1;
        for (int e = 1; e < experts; e++)
            if (x[e] > x[first]) first = e;
        for (int e = 0; e < experts; e++)
            if (e != first && (second < 0 || x[e] > x[second])) second = e;
        /* The softmax's denominator cancels out: the two weights add up to one. */
        const float other = expf(x[second] - x[first]);
        w->gates[2 * r] = 1.0f / (1.0f + other) * l->expert_scale;
        w->gates[2 * r + 1] = other / (1.0f + other) * l->expert_scale;
        w->place[2 * r] = first;
        w->place[2 * r + 1] = second;
        w->start[first + 1]++;
        w->start[second + 1]++;
    }
    for (int e = 0; e < experts; e++) w->start[e + 1] += w->start[e];
    for (int i = 0; i < 2 * rows; i++) { /* start[e] moves to where e ends */
        const int at = w->start[w->place[i]]++;
        w->assigned[at] = i / 2;
        w->place[i] = at;
    }
    for (int e = experts; e > 0; e--) w->start[e] = w->start[e - 1];
    w->start[0] = 0;
}

static void experts(Team *team, const Stack *s, const Batch *b, const Layer *l, Work *w) {
    Product router = plain(&l->router, &w->acts, w->logits, l->experts, b->rows);
    multiply(team, &router, 1);
    int hit = 0;
    if (team->thread == 0) assign(l, w, b->rows);
    BARRIER
    Product *p = w->products;
    for (int e = 0; e < l->experts; e++) hit += w->start[e + 1] > w->start[e];
    if (team->thread == 0) {
        int n = 0;
        for (int e = 0; e < l->experts; e++) {
            const int rows = w->start[e + 1] - w->start[e];
            if (!rows) continue;
            p[n] = plain(&l->expert_first[e], &w->acts, w->inner, s->inner, rows);
            p[n].first = w->start[e];
            p[n].source = w->assigned;
            p[n++].activation = s->activation;
        }
    }
    BARRIER
    multiply(team, p, hit);
    prepare(team, NULL, w->inner, s->inner, NULL, 0, 2 * b->rows, l->expert_first->outputs, w->inner, &w->acts,
            wants_bytes(l->expert_second));
    if (team->thread == 0) {
        int n = 0;
        for (int e = 0; e < l->experts; e++) {
            const int rows = w->start[e + 1] - w->start[e];
            if (!rows) continue;
            p[n] = plain(&l->expert_second[e], &w->acts, w->mixed, s->hidden, rows);
            p[n++].first = w->start[e];
        }
    }
    BARRIER
    multiply(team, p, hit);
    int32_t *counter = next_counter(team);
    for (int r; (r = grab(counter, 1)) < b->rows;) {
        float *x = b->x + (int64_t)r * s->hidden;
        const float *one = w->mixed + (int64_t)w->place[2 * r] * s->hidden;
        const float *two = w->mixed + (int64_t)w->place[2 * r + 1] * s->hidden;
        const float g = w->gates[2 * r], h = w->gates[2 * r + 1];
        for (int j = 0; j < s->hidden; j++) x[j] += one[j] * g + two[j] * h;
    }
    BARRIER
}

static void feed_forward(Team *team, const Stack *s, const Batch *b, const Layer *l, Work *w) {
    const int rows = b->rows;
    const Linear *reader = l->experts ? l->expert_first : &l->gate;
    prepare(team, &l->ffn_norm, b->x, s->hidden, NULL, 0, rows, s->hidden, w->normed, &w->acts, wants_bytes(reader));
    if (l->experts) {
        experts(team, s, b, l, w);
        return;
    }
    float *outs[3] = {w->inner, w->up, b->x};
    const int64_t inner = l->gate.outputs, lds[3] = {inner, inner, s->hidden};
    Product p[2] = {plain(&l->gate, &w->acts, w->inner, inner, rows), plain(&l->up, &w->acts, w->up, inner, rows)};
    if (!s->gated) p[0].activation = s->activation;
    multiply(team, p, s->gated ? 2 : 1);
    if (s->gated) {
        const int both[2] = {GATE, UP};
        adapt(team, s, b, l, w, both, 2, &w->acts, outs, lds);
    }
    prepare(team, NULL, w->inner, inner, s->gated ? w->up : NULL, s->activation, rows, inner, w->inner, &w->acts,
            wants_bytes(&l->down));
    Product down = plain(&l->down, &w->acts, b->x, s->hidden, rows);
    down.add = 1;
    multiply(team, &down, 1);
    const int last[1] = {DOWN};
    adapt(team, s, b, l, w, last, 1, &w->acts, outs + 2, lds + 2);
}

static void run_layer(Team *team, const Stack *s, const Batch *b, int layer, Work *w) {
    const Layer *l = s->layer + layer;
    const int rows = b->rows, hidden = s->hidden;
    const int64_t queries = (int64_t)s->heads * s->head_width, keys = (int64_t)s->key_heads * s->head_width;
    prepare(team, &l->self_norm, b->x, hidden, NULL, 0, rows, hidden, w->normed, &w->acts, wants_bytes(&l->q));
    Product qkv[3] = {plain(&l->q, &w->acts, w->q, queries, rows), plain(&l->k, &w->acts, w->k, keys, rows),
                      plain(&l->v, &w->acts, w->v, keys, rows)};
    multiply(team, qkv, 3);
    float *outs[4] = {w->q, w->k, w->v, b->x};
    const int64_t lds[4] = {queries, keys, keys, hidden};
    const int reads[3] = {Q, K, V}, writes[1] = {O};
    adapt(team, s, b, l, w, reads, 3, &w->acts, outs, lds);
    store_keys(team, s, b, layer, w->q, w->k, w->v);
    attend(team, s, b, b->self, b->spans, layer, w->q, w->context, w->scores, w->room);
    prepare(team, NULL, w->context, queries, NULL, 0, rows, queries, w->context, &w->acts, wants_bytes(&l->o));
    Product o = plain(&l->o, &w->acts, b->x, hidden, rows);
    o.add = 1;
    multiply(team, &o, 1);
    adapt(team, s, b, l, w, writes, 1, &w->acts, outs + 3, lds + 3);
    if (b->cross) {
        prepare(team, &l->cross_norm, b->x, hidden, NULL, 0, rows, hidden, w->normed, &w->acts, wants_bytes(&l->cross_q));
        Product q = plain(&l->cross_q, &w->acts, w->q, queries, rows);
        multiply(team, &q, 1);
        attend(team, s, b, b->cross, 1, layer, w->q, w->context, w->scores, w->room);
        prepare(team, NULL, w->context, queries, NULL, 0, rows, queries, w->context, &w->acts, wants_bytes(&l->cross_o));
        o = plain(&l->cross_o, &w->acts, b->x, hidden, rows);
        o.add = 1;
        multiply(team, &o, 1);
    }
    feed_forward(team, s, b, l, w);
}

static int reserve(Context *c, size_t bytes, int phases) {
    if (bytes > c->size) {
        free(c->arena);
        c->size = 0;
        if (posix_memalign((void **)&c->arena, 64, bytes + bytes / 4)) {
            c->arena = NULL;
            return -1;
        }
        c->size = bytes + bytes / 4;
    }
    if (phases > c->counters_size) {
        free(c->counters);
        c->counters_size = 0;
        if (posix_memalign((void **)&c->counters, 64, (size_t)phases * 64)) {
            c->counters = NULL;
            return -1;
        }
        c->counters_size = phases;
    }
    memset(c->counters, 0, (size_t)phases * 64);
    return 0;
}

/* All layers and the last norm over b->x. 0, or -1 if memory ran out. */
int NAME(forward)(Context *c, const Stack *s, const Batch *b) {
    Arena a = {NULL, 0};
    Work w;
    lay_out(&a, &w, s, b, c->threads);
    const int rounds = (b->routes + 15) / 16;
    if (reserve(c, a.used, s->layers * (40 + 40 * rounds) + 8)) return -1;
    a.at = c->arena;
    a.used = 0;
    lay_out(&a, &w, s, b, c->threads);
#pragma omp parallel num_threads(c->threads)
    {
        Team team = {c, 0, omp_get_thread_num(), omp_get_num_threads()};
        for (int layer = 0; layer < s->layers; layer++) run_layer(&team, s, b, layer, &w);
        if (s->last.kind) {
            int32_t *counter = next_counter(&team);
            for (int r; (r = grab(counter, 1)) < b->rows;)
                normalise_row(&s->last, b->x + (int64_t)r * s->hidden, s->hidden, b->x + (int64_t)r * s->hidden);
        }
    }
    return 0;
}

/* out [rows, ld] = x [rows, inputs] through each of `count` linear layers, written side by side
 * `offset` apart. */
int NAME(linear)(Context *c, const Linear *w, int count, const float *x, int rows, float *out, int64_t ld, int64_t offset) {
    Arena a = {NULL, 0};
    Acts acts;
    take_acts(&a, &acts, rows, w->inputs);
    take(&a, sizeof(Product) * count);
    if (reserve(c, a.used, 8)) return -1;
    a.at = c->arena;
    a.used = 0;
    take_acts(&a, &acts, rows, w->inputs);
    Product *p = take(&a, sizeof(Product) * count);
    for (int i = 0; i < count; i++) p[i] = plain(w + i, &acts, out + i * offset, ld, rows);
#pragma omp parallel num_threads(c->threads)
    {
        Team team = {c, 0, omp_get_thread_num(), omp_get_num_threads()};
        Acts mine = acts;
        prepare(&team, NULL, x, w->inputs, NULL, 0, rows, w->inputs, (float *)x, &mine, wants_bytes(w));
        if (team.thread == 0) acts.f = mine.f, acts.ld = mine.ld, acts.padded = mine.padded;
        BARRIER
        multiply(&team, p, count);
    }
    return 0;
}

/* ---- the output layer ---- */

#define BLOCK 32 /* panels whose exponentials are summed together, in a fixed order */

typedef struct {
    float score;
    int32_t token;
} Candidate;

/* Higher scores first, then lower tokens: an order without ties. */
INLINE int better(Candidate a, Candidate b) { return a.score > b.score || (a.score == b.score && a.token < b.token); }

static int compare(const void *a, const void *b) {
    const Candidate x = *(const Candidate *)a, y = *(const Candidate *)b;
    return better(x, y) ? -1 : better(y, x) ? 1 : 0;
}

typedef struct {
    Candidate *best; /* [2 * keep] */
    int count;
    float least;
} Pool;

static void settle(Pool *p, int keep) {
    if (p->count <= keep) return;
    /* Quickselect: the best `keep` to the front. */
    int low = 0, high = p->count - 1;
    while (low < high) {
        const Candidate pivot = p->best[(low + high) / 2];
        int i = low, j = high;
        while (i <= j) {
            while (better(p->best[i], pivot)) i++;
            while (better(pivot, p->best[j])) j--;
            if (i <= j) {
                Candidate t = p->best[i];
                p->best[i++] = p->best[j];
                p->best[j--] = t;
            }
        }
        if (keep - 1 <= j) high = j;
        else if (keep - 1 >= i) low = i;
        else break;
    }
    p->count = keep;
    p->least = p->best[0].score;
    for (int i = 1; i < keep; i++) p->least = MIN(p->least, p->best[i].score);
}

static float exact_score(const Head *h, const float *x, int32_t token, int width) {
    if (h->exact_kind == FLOAT) return dot(x, (const float *)h->exact + (int64_t)token * width, width);
    const uint16_t *w = (const uint16_t *)h->exact + (int64_t)token * width;
    F s = f_set(0);
    int j = 0;
    for (; j + 16 <= width; j += 16) s = f_fma(f_load(x + j), f_half(w + j), s);
    float sum = f_sum(s);
    if (j < width) {
        uint16_t rest[16];
        float y[16];
        memset(rest, 0, sizeof rest);
        memset(y, 0, sizeof y);
        memcpy(rest, w + j, (width - j) * 2);
        memcpy(y, x + j, (width - j) * 4);
        sum += f_sum(f_mul(f_load(y), f_half(rest)));
    }
    return sum;
}

/* The `keep` best tokens of each row, as log-probabilities over all of the head's tokens.
 *
 * x: [rows, hidden]; banned: a bit for each token, or NULL; extra: tokens that row r has besides the
 * head's columns are extra[start[r]] to extra[start[r + 1]], NULL for none (needs exact rows);
 * scores, tokens: [rows, keep], best first; spread [rows, 2]: the last candidate's rough score
 * and the standard error of rough scores against exact ones, for the caller to see whether the
 * screen was wide enough.
 */
int NAME(top)(Context *c, const Head *h, const float *x, int rows, int keep, int screen, const uint8_t *banned,
              const int32_t *extra, const int32_t *start, float *scores, int32_t *tokens, float *spread) {
    const Linear *w = &h->w;
    const int count = panels(w), blocks = (count + BLOCK - 1) / BLOCK, wide = h->exact_kind ? MAX(keep, screen) : keep;
    Arena a = {NULL, 0};
    Acts acts;
    float *most = NULL, *sums = NULL;
    Pool *pools = NULL;
    Candidate *room = NULL;
    for (int pass = 0; pass < 2; pass++) {
        take_acts(&a, &acts, rows, w->inputs);
        most = take(&a, (size_t)blocks * rows * 4);
        sums = take(&a, (size_t)blocks * rows * 4);
        pools = take(&a, (size_t)c->threads * rows * sizeof(Pool));
        room = take(&a, (size_t)c->threads * rows * wide * 3 * sizeof(Candidate));
        if (pass == 0) {
            if (reserve(c, a.used, 8)) return -1;
            a.at = c->arena;
            a.used = 0;
        }
    }
    for (int i = 0; i < c->threads * rows; i++) {
        Pool p = {room + (int64_t)i * wide * 3, 0, -INFINITY};
        pools[i] = p;
    }
    Product product = plain(w, &acts, NULL, 0, rows);
#pragma omp parallel num_threads(c->threads)
    {
        Team team = {c, 0, omp_get_thread_num(), omp_get_num_threads()};
        Acts mine = acts;
        prepare(&team, NULL, x, w->inputs, NULL, 0, rows, w->inputs, (float *)x, &mine, wants_bytes(w));
        if (team.thread == 0) acts.f = mine.f, acts.ld = mine.ld, acts.padded = mine.padded;
        BARRIER
        int32_t *counter = next_counter(&team);
        float tile[ROWS_AT_ONCE * PANEL] __attribute__((aligned(64)));
        for (int block; (block = grab(counter, 1)) < blocks;) {
            float *m = most + (int64_t)block * rows, *s = sums + (int64_t)block * rows;
            for (int r = 0; r < rows; r++) m[r] = -INFINITY, s[r] = 0;
            for (int panel = block * BLOCK; panel < MIN(count, (block + 1) * BLOCK); panel++) {
                const int columns = MIN(PANEL, w->outputs - panel * PANEL);
                for (int first = 0; first < rows; first += ROWS_AT_ONCE) {
                    const int these = MIN(ROWS_AT_ONCE, rows - first);
                    panel_sums(&product, panel, first, these, tile);
                    for (int i = 0; i < these; i++) {
                        const int r = first + i;
                        float *y = tile + i * PANEL;
                        for (int n = columns; n < PANEL; n++) y[n] = -INFINITY;
                        F top = f_load(y);
                        for (int v = 16; v < PANEL; v += 16) top = f_max(top, f_load(y + v));
                        const float high = f_top(top);
                        if (high > m[r]) {
                            s[r] *= m[r] == -INFINITY ? 0 : expf(m[r] - high);
                            m[r] = high;
                        }
                        F e = f_set(0);
                        for (int v = 0; v < PANEL; v += 16) e = f_add(e, f_exp(f_add(f_load(y + v), f_set(-m[r]))));
                        s[r] += f_sum(e);
                        Pool *pool = pools + (int64_t)team.thread * rows + r;
                        if (high < pool->least) continue;
                        for (int v = 0; v < columns; v += 16)
                            for (unsigned hits = f_reaches(f_load(y + v), pool->least); hits; hits &= hits - 1) {
                                const int n = v + __builtin_ctz(hits);
                                if (n >= columns) break;
                                const int column = panel * PANEL + n, token = h->token ? h->token[column] : column;
                                if (banned && banned[token >> 3] >> (token & 7) & 1) continue;
                                Candidate found = {y[n], token};
                                pool->best[pool->count++] = found;
                                if (pool->count == 3 * wide) settle(pool, wide);
                            }
                    }
                }
            }
        }
        BARRIER
        counter = next_counter(&team);
        for (int r; (r = grab(counter, 1)) < rows;) {
            Pool all = pools[r];
            for (int t = 1; t < team.threads; t++) {
                const Pool *other = pools + (int64_t)t * rows + r;
                for (int i = 0; i < other->count; i++) {
                    if (all.count == 3 * wide) settle(&all, wide);
                    all.best[all.count++] = other->best[i];
                }
            }
            settle(&all, wide);
            float top = -INFINITY;
            for (int block = 0; block < blocks; block++) top = MAX(top, most[(int64_t)block * rows + r]);
            double sum = 0;
            for (int block = 0; block < blocks; block++)
                sum += sums[(int64_t)block * rows + r] * exp((double)most[(int64_t)block * rows + r] - top);
            if (h->exact_kind) {
                /* Exact scores for the candidates, also within the sum; in an order that threads don't decide. */
                qsort(all.best, all.count, sizeof(Candidate), compare);
                float rough = INFINITY, errors = 0;
                for (int i = 0; i < all.count; i++) {
                    Candidate *one = all.best + i;
                    const float before = one->score;
                    rough = MIN(rough, before);
                    one->score = exact_score(h, x + (int64_t)r * w->inputs, one->token, w->inputs);
                    if (!(one->score > -INFINITY)) one->score = -INFINITY; /* no NaN among what is sorted */
                    sum += exp((double)one->score - top) - exp((double)before - top);
                    errors += (one->score - before) * (one->score - before);
                }
                spread[2 * r] = rough;
                spread[2 * r + 1] = all.count ? sqrtf(errors / all.count) : 0;
            }
            if (extra)
                for (int i = start[r]; i < start[r + 1]; i++) {
                    Candidate more = {exact_score(h, x + (int64_t)r * w->inputs, extra[i], w->inputs), extra[i]};
                    sum += exp((double)more.score - top);
                    if (banned && banned[more.token >> 3] >> (more.token & 7) & 1) continue;
                    if (all.count == 3 * wide) settle(&all, wide);
                    all.best[all.count++] = more;
                }
            qsort(all.best, all.count, sizeof(Candidate), compare);
            const float total = top + (float)log(sum);
            for (int i = 0; i < keep; i++) {
                const int real = i < all.count;
                scores[(int64_t)r * keep + i] = real ? all.best[i].score - total : -INFINITY;
                tokens[(int64_t)r * keep + i] = real ? all.best[i].token : 0;
            }
            if (h->exact_kind) spread[2 * r] -= total;
        }
    }
    return 0;
}

/* Exact scores alone: out [rows, count]. tokens: [count], the same for all rows, or [rows, count] if
 * `apart`; NULL stands for 0, 1, ... */
void NAME(exact)(Context *c, const Head *h, const float *x, int rows, const int32_t *tokens, int count, int apart,
                 float *out) {
    const int width = h->w.inputs;
#pragma omp parallel for num_threads(c->threads) schedule(dynamic, 64)
    for (int i = 0; i < count; i++)
        for (int r = 0; r < rows; r++) {
            const int32_t token = !tokens ? i : tokens[apart ? (int64_t)r * count + i : i];
            out[(int64_t)r * count + i] = exact_score(h, x + (int64_t)r * width, token, width);
        }
}

/* ---- packing ---- */

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

/* Rows [count * PANEL, inputs], inputs a multiple of GROUP, as panels of 4-bit records. */
void NAME(pack_nibbles)(Context *c, const float *rows, int count, int inputs, uint8_t *out) {
    const int groups = inputs / GROUP;
#pragma omp parallel for num_threads(c->threads) collapse(2)
    for (int panel = 0; panel < count; panel++)
        for (int g = 0; g < groups; g++) {
            uint8_t *record = out + ((int64_t)panel * groups + g) * NIBBLE_RECORD;
            for (int n = 0; n < PANEL; n++) {
                const float *w = rows + ((int64_t)panel * PANEL + n) * inputs + g * GROUP;
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
}

void *NAME(context)(int threads) {
    Context *c = calloc(1, sizeof(Context));
    if (c) c->threads = threads;
    return c;
}

void NAME(release)(Context *c) {
    if (!c) return;
    free(c->arena);
    free(c->counters);
    free(c);
}
