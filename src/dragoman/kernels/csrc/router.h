/* Experts: a router picks two for each row, and each that is hit runs once on its rows. */
#ifndef DRAGOMAN_ROUTER_H
#define DRAGOMAN_ROUTER_H

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

/* The products of all experts that have rows. */
static int expert_products(const Layer *l, const Work *w, const Linear *weights, float *out, int64_t ld) {
    int n = 0;
    for (int e = 0; e < l->experts; e++) {
        const int rows = w->start[e + 1] - w->start[e];
        if (!rows) continue;
        w->products[n] = plain(weights + e, &w->acts, out, ld, rows);
        w->products[n++].first = w->start[e];
    }
    return n;
}

typedef struct {
    const Stack *s;
    const Batch *b;
    const Work *w;
    int grain;
} Mixing;

static void mixing_task(void *work, int number, int thread) {
    const Mixing *m = work;
    const Work *w = m->w;
    const int64_t hidden = m->s->hidden;
    (void)thread;
    for (int64_t r = number * m->grain; r < MIN(m->b->rows, (number + 1) * m->grain); r++) {
        float *x = m->b->x + r * hidden;
        const float *one = w->mixed + w->place[2 * r] * hidden, *two = w->mixed + w->place[2 * r + 1] * hidden;
        const float g = w->gates[2 * r], h = w->gates[2 * r + 1];
        for (int64_t j = 0; j < hidden; j++) x[j] += one[j] * g + two[j] * h;
    }
}

static void experts(int threads, const Stack *s, const Batch *b, const Layer *l, Work *w) {
    Product router = plain(&l->router, &w->acts, w->logits, l->experts, b->rows);
    multiply(threads, &router, 1);
    assign(l, w, b->rows);
    const int hit = expert_products(l, w, l->expert_first, w->inner, s->inner);
    for (int i = 0; i < hit; i++) {
        w->products[i].source = w->assigned;
        w->products[i].activation = s->activation;
    }
    multiply(threads, w->products, hit);
    prepare(threads, NULL, w->inner, s->inner, NULL, 0, 2 * b->rows, l->expert_first->outputs, w->inner, &w->acts,
            wants_bytes(l->expert_second));
    multiply(threads, w->products, expert_products(l, w, l->expert_second, w->mixed, s->hidden));
    Mixing mixing = {s, b, w, grain(threads, b->rows, s->hidden, 8)};
    share(threads, (b->rows + mixing.grain - 1) / mixing.grain, mixing_task, &mixing);
}

#endif
