/* Attention: rows look at keys where these were written. */
#ifndef DRAGOMAN_ATTENTION_H
#define DRAGOMAN_ATTENTION_H

#include "rows.h"

static void rotate(float *x, const float *cosine, const float *sine, int half) {
    for (int j = 0; j < half; j++) {
        const float a = x[j], b = x[j + half];
        x[j] = a * cosine[j] - b * sine[j];
        x[j + half] = b * cosine[j] + a * sine[j];
    }
}

typedef struct {
    const Stack *s;
    const Batch *b;
    int layer, grain;
    float *q, *k, *v;
} Storing;

static void storing_task(void *work, int number, int thread) {
    const Storing *w = work;
    const Stack *s = w->s;
    const Batch *b = w->b;
    const int width = s->head_width, queries = s->heads * width, keys = s->key_heads * width;
    (void)thread;
    for (int r = number * w->grain; r < MIN(b->rows, (number + 1) * w->grain); r++) {
        float *key = w->k + (int64_t)r * keys;
        if (b->cosine) {
            const float *cosine = b->cosine + (int64_t)r * (width / 2), *sine = b->sine + (int64_t)r * (width / 2);
            for (int h = 0; h < s->heads; h++) rotate(w->q + (int64_t)r * queries + h * width, cosine, sine, width / 2);
            for (int h = 0; h < s->key_heads; h++) rotate(key + h * width, cosine, sine, width / 2);
        }
        float *to = b->write[r] + w->layer * b->write_stride[r];
        memcpy(to, key, keys * sizeof(float));
        memcpy(to + b->write_value[r], w->v + (int64_t)r * keys, keys * sizeof(float));
    }
}

/* Turn queries and keys, and put keys and values where they stay. */
static void store_keys(int threads, const Stack *s, const Batch *b, int layer, float *q, float *k, float *v) {
    Storing w = {s, b, layer, 1, q, k, v};
    w.grain = grain(threads, b->rows, (int64_t)(s->heads + 2 * s->key_heads) * s->head_width, 8);
    share(threads, (b->rows + w.grain - 1) / w.grain, storing_task, &w);
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

typedef struct {
    const Stack *s;
    const Span *spans;
    int count, layer, parts, units, grain, room;
    const float *q;
    float *out, *scores;
} Attention;

static void attention_task(void *work, int number, int thread) {
    const Attention *w = work;
    const int width = w->s->heads * w->s->head_width, heads = w->s->heads / w->parts;
    float *scores = w->scores + (int64_t)thread * w->s->heads * w->room;
    for (int u = number * w->grain; u < MIN(w->units, (number + 1) * w->grain); u++) {
        const int64_t r = u / w->parts;
        const int from = u % w->parts * heads;
        attend_row(w->s, w->spans + r * w->count, w->count, w->layer, w->q + r * width, w->out + r * width, from,
                   from + heads, scores, w->room);
    }
}

static void attend(int threads, const Stack *s, const Batch *b, const Span *spans, int count, int layer, const float *q,
                   float *out, float *scores, int room) {
    Attention w = {s, spans, count, layer, 1, 0, 1, room, q, out, scores};
    /* Few rows: cut each into parts of its heads. */
    while (b->rows * w.parts < 4 * threads && w.parts * 2 <= s->heads && s->heads % (w.parts * 2) == 0) w.parts *= 2;
    w.units = b->rows * w.parts;
    w.grain = grain(threads, w.units, (int64_t)s->heads / w.parts * s->head_width * room, 8);
    share(threads, (w.units + w.grain - 1) / w.grain, attention_task, &w);
}

#endif
