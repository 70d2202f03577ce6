/* What is done to rows one by one before they are multiplied. */
#ifndef DRAGOMAN_ROWS_H
#define DRAGOMAN_ROWS_H

#include "products.h"

#define LEAST 4e-37f /* smaller rows count as zeros: 127 / most would be infinite */

static void take_acts(Arena *a, Acts *x, int64_t rows, int width) {
    const int64_t padded = (width + GROUP - 1) / GROUP * GROUP;
    x->q = take(a, rows * padded);
    x->wide = WIDE ? take(a, rows * padded * 2) : NULL;
    x->scale = take(a, rows * 4);
    x->sum = take(a, rows * 4);
    x->sums = take(a, rows * (padded / GROUP) * 4);
}

static int wants_bytes(const Linear *w) { return w->kind >= BYTE; }

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
    if (most < LEAST) most = 0; /* what it stands for is beyond a float's range */
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

typedef struct {
    const Norm *norm; /* or NULL */
    const float *in, *up;
    int64_t ld;
    int activation, rows, width, bytes, grain;
    float *out;
    Acts *acts;
} Preparation;

static void preparation_task(void *work, int number, int thread) {
    const Preparation *p = work;
    (void)thread;
    for (int r = number * p->grain; r < MIN(p->rows, (number + 1) * p->grain); r++) {
        const float *x = p->in + r * p->ld;
        float *y = p->out + r * p->acts->ld;
        if (p->norm && p->norm->kind) normalise_row(p->norm, x, p->width, y);
        else if (p->up) gate_row(x, p->up + r * p->ld, p->width, p->activation, y);
        if (p->bytes) quantise_row(y, p->width, p->acts, r);
    }
}

/* Make rows ready to be multiplied: normalised, or gated, and quantised where `bytes` says so. Few rows
 * are made ready by the caller: telling others would take longer. */
static void prepare(int threads, const Norm *norm, const float *in, int64_t ld, const float *up, int activation,
                    int rows, int width, float *out, Acts *acts, int bytes) {
    Preparation p = {norm, in, up, ld, activation, rows, width, bytes, 1, out, acts};
    acts->f = out;
    acts->ld = out == in ? ld : width;
    acts->padded = (width + GROUP - 1) / GROUP * GROUP;
    if (!bytes && !up && !(norm && norm->kind)) return;
    p.grain = grain(threads, rows, 2 * (int64_t)width, 8);
    share(threads, (rows + p.grain - 1) / p.grain, preparation_task, &p);
}

#endif
