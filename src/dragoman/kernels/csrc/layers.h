/* A transformer's layers, from its first norm to its last product. */
#ifndef DRAGOMAN_LAYERS_H
#define DRAGOMAN_LAYERS_H

#include "attention.h"

#define FEW 256 /* rows that go through their experts together, whatever their number */

/* Working memory of a pass. */
typedef struct {
    float *normed, *q, *k, *v, *context, *inner, *up, *thin, *mixed, *scores, *logits, *gates;
    int32_t *assigned, *place, *start, *which;
    uint8_t *done; /* experts that have run */
    Product *products;
    Acts acts, inner_acts, thin_acts; /* inner: of experts, whose inputs must last until all have run */
    int room, inner_rows;
} Work;

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
    w->inner_rows = (int)MAX(rows, MIN(visits, FEW));
    w->inner = take(a, (int64_t)w->inner_rows * s->inner * 4);
    w->up = take(a, (s->gated ? rows * s->inner : 0) * 4);
    w->thin = take(a, rows * s->max_rank * 3 * 4);
    w->scores = take(a, (int64_t)threads * s->heads * room * 4);
    w->mixed = take(a, (s->max_experts ? visits * s->hidden : 0) * 4);
    w->logits = take(a, rows * s->max_experts * 4);
    w->gates = take(a, visits * 4);
    w->assigned = take(a, visits * 4);
    w->place = take(a, visits * 4);
    w->start = take(a, (s->max_experts + 1) * 4);
    w->which = take(a, s->max_experts * 4);
    w->done = take(a, s->max_experts);
    w->products = take(a, (s->max_experts + 4 * (int64_t)b->routes) * sizeof(Product));
    take_acts(a, &w->acts, rows, MAX(MAX(s->hidden, s->inner), (int)queries));
    take_acts(a, &w->inner_acts, s->max_experts ? w->inner_rows : 0, s->inner);
    take_acts(a, &w->thin_acts, rows, s->max_rank * 3);
}

#include "adapters.h"
#include "router.h"

static void feed_forward(int threads, const Stack *s, const Batch *b, const Layer *l, Work *w) {
    const int rows = b->rows;
    float *outs[3] = {w->inner, w->up, b->x};
    const int64_t inner = l->gate.outputs, lds[3] = {inner, inner, s->hidden};
    Product p[2] = {plain(&l->gate, &w->acts, w->inner, inner, rows), plain(&l->up, &w->acts, w->up, inner, rows)};
    if (!s->gated) p[0].activation = s->activation;
    multiply(threads, p, s->gated ? 2 : 1);
    if (s->gated) {
        const int both[2] = {GATE, UP};
        adapt(threads, s, b, l, w, both, 2, &w->acts, outs, lds);
    }
    prepare(threads, NULL, w->inner, inner, s->gated ? w->up : NULL, s->activation, rows, inner, w->inner, &w->acts,
            wants_bytes(&l->down));
    Product down = plain(&l->down, &w->acts, b->x, s->hidden, rows);
    down.add = 1;
    multiply(threads, &down, 1);
    const int last[1] = {DOWN};
    adapt(threads, s, b, l, w, last, 1, &w->acts, outs + 2, lds + 2);
}

static void attention(int threads, const Stack *s, const Batch *b, int layer, Work *w) {
    const Layer *l = s->layer + layer;
    const int rows = b->rows, hidden = s->hidden;
    const int64_t queries = (int64_t)s->heads * s->head_width, keys = (int64_t)s->key_heads * s->head_width;
    prepare(threads, &l->self_norm, b->x, hidden, NULL, 0, rows, hidden, w->normed, &w->acts, wants_bytes(&l->q));
    Product qkv[3] = {plain(&l->q, &w->acts, w->q, queries, rows), plain(&l->k, &w->acts, w->k, keys, rows),
                      plain(&l->v, &w->acts, w->v, keys, rows)};
    multiply(threads, qkv, 3);
    float *outs[4] = {w->q, w->k, w->v, b->x};
    const int64_t lds[4] = {queries, keys, keys, hidden};
    const int reads[3] = {Q, K, V}, writes[1] = {O};
    adapt(threads, s, b, l, w, reads, 3, &w->acts, outs, lds);
    store_keys(threads, s, b, layer, w->q, w->k, w->v);
    attend(threads, s, b, b->self, b->spans, layer, w->q, w->context, w->scores, w->room);
    prepare(threads, NULL, w->context, queries, NULL, 0, rows, queries, w->context, &w->acts, wants_bytes(&l->o));
    Product o = plain(&l->o, &w->acts, b->x, hidden, rows);
    o.add = 1;
    multiply(threads, &o, 1);
    adapt(threads, s, b, l, w, writes, 1, &w->acts, outs + 3, lds + 3);
    if (b->cross) {
        prepare(threads, &l->cross_norm, b->x, hidden, NULL, 0, rows, hidden, w->normed, &w->acts, wants_bytes(&l->cross_q));
        Product q = plain(&l->cross_q, &w->acts, w->q, queries, rows);
        multiply(threads, &q, 1);
        attend(threads, s, b, b->cross, 1, layer, w->q, w->context, w->scores, w->room);
        prepare(threads, NULL, w->context, queries, NULL, 0, rows, queries, w->context, &w->acts, wants_bytes(&l->cross_o));
        o = plain(&l->cross_o, &w->acts, b->x, hidden, rows);
        o.add = 1;
        multiply(threads, &o, 1);
    }
}

/* The layer that the pass is at, or what is left of it. Returns whether the pass has to wait for experts. */
static int run_layer(int threads, const Stack *s, const Batch *b, Pass *p, Work *w) {
    const Layer *l = s->layer + p->layer;
    const int fresh = !p->waits;
    if (fresh) {
        const Linear *reader = l->experts ? l->expert_first : &l->gate;
        attention(threads, s, b, p->layer, w);
        prepare(threads, &l->ffn_norm, b->x, s->hidden, NULL, 0, b->rows, s->hidden, w->normed, &w->acts, wants_bytes(reader));
        if (!l->experts) {
            feed_forward(threads, s, b, l, w);
            return 0;
        }
        route(threads, s, b, l, w, p);
    }
    return p->waits = experts(threads, s, b, l, w, p, fresh);
}

#endif
