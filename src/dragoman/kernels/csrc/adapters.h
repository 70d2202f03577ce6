/* Language modules: two thin products beside each of a layer's. */
#ifndef DRAGOMAN_ADAPTERS_H
#define DRAGOMAN_ADAPTERS_H

/* The module of route `i` for a projection, or NULL where it has none. */
static const Adapter *adapter_of(const Batch *b, const Layer *l, int i, int projection) {
    const Adapter *a = l->adapters + (int64_t)b->route_module[i] * PROJECTIONS + projection;
    return a->a.kind == NONE ? NULL : a;
}

typedef struct {
    const Batch *b;
    const Layer *l;
    int projection, grain;
    Acts *thin;
} Thinning;

/* Each row as wide as its own module's rank: beyond lies what others left there. */
static void thinning_task(void *work, int number, int thread) {
    const Thinning *w = work;
    const Batch *b = w->b;
    const int from = number * w->grain, to = from + w->grain;
    (void)thread;
    for (int i = 0; i < b->routes; i++) {
        const Adapter *a = adapter_of(b, w->l, i, w->projection);
        if (!a) continue;
        for (int r = MAX(from, b->route_start[i]); r < MIN(to, b->route_stop[i]); r++)
            quantise_row(w->thin->f + r * w->thin->ld, a->a.outputs, w->thin, r);
    }
}

/* The modules' products, added to what `projections` gave (three at the most). All have the input `x`. */
static void adapt(int threads, const Stack *s, const Batch *b, const Layer *l, Work *w, const int *projections, int count,
                  const Acts *x, float *const *outs, const int64_t *lds) {
    if (!b->routes || !l->adapters) return;
    Product *first = w->products, *second = first + 3 * (int64_t)b->routes;
    const int64_t ld = 3 * (int64_t)s->max_rank;
    int n = 0;
    for (int i = 0; i < b->routes; i++)
        for (int j = 0; j < count; j++) {
            const Adapter *a = adapter_of(b, l, i, projections[j]);
            if (!a) continue;
            first[n] = plain(&a->a, x, w->thin + (int64_t)j * s->max_rank, ld, b->route_stop[i] - b->route_start[i]);
            first[n++].first = b->route_start[i];
        }
    multiply(threads, first, n);
    /* Each projection's thin rows are quantised apart: their sizes differ. */
    for (int j = 0; j < count; j++) {
        Acts *t = &w->thin_acts;
        int m = 0, width = 0, bytes = 0;
        t->f = w->thin + (int64_t)j * s->max_rank;
        t->ld = ld;
        for (int i = 0; i < b->routes; i++) {
            const Adapter *a = adapter_of(b, l, i, projections[j]);
            if (!a) continue;
            width = MAX(width, a->a.outputs);
            bytes |= wants_bytes(&a->b);
            second[m] = plain(&a->b, t, outs[j], lds[j], b->route_stop[i] - b->route_start[i]);
            second[m].first = b->route_start[i];
            second[m].add = 1;
            second[m++].alpha = b->route_scale[i];
        }
        if (!m) continue;
        t->padded = (width + GROUP - 1) / GROUP * GROUP;
        if (bytes) {
            Thinning thinning = {b, l, projections[j], 1, t};
            thinning.grain = grain(threads, b->rows, 2 * (int64_t)width, 8);
            share(threads, (b->rows + thinning.grain - 1) / thinning.grain, thinning_task, &thinning);
        }
        multiply(threads, second, m);
    }
}

#endif
