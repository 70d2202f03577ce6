/* Experts: a router picks two for each row, and each that is hit runs once on its rows. */
#ifndef DRAGOMAN_ROUTER_H
#define DRAGOMAN_ROUTER_H

/* Two experts for each row, and the rows of each expert side by side. chosen, share: [rows, 2] or NULL, what each row
 * chose. */
static void assign(const Layer *l, Work *w, int rows, int32_t *chosen, float *share) {
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
        w->gates[2 * r] = 1.0f / (1.0f + other);
        w->gates[2 * r + 1] = other / (1.0f + other);
        w->place[2 * r] = first;
        w->place[2 * r + 1] = second;
        w->start[first + 1]++;
        w->start[second + 1]++;
    }
    if (chosen) memcpy(chosen, w->place, rows * 2 * sizeof(int32_t));
    if (share) memcpy(share, w->gates, rows * 2 * sizeof(float));
    for (int e = 0; e < experts; e++) w->start[e + 1] += w->start[e];
    for (int i = 0; i < 2 * rows; i++) { /* start[e] moves to where e ends */
        const int at = w->start[w->place[i]]++;
        w->assigned[at] = i / 2;
        w->place[i] = at;
    }
    for (int e = experts; e > 0; e--) w->start[e] = w->start[e - 1];
    w->start[0] = 0;
}

/* Whether an expert's weights are in memory. */
static int resident(const Layer *l, int expert) { return l->expert_first[expert].data && l->expert_second[expert].data; }

/* Note the experts that have rows and have not run. Returns how many of them are not in memory. */
static int outstanding(const Layer *l, const Work *w, Pass *p) {
    int missing = 0;
    p->hits = 0;
    for (int e = 0; e < l->experts; e++) {
        if (w->start[e] == w->start[e + 1] || w->done[e]) continue;
        p->hit[p->hits++] = e;
        missing += !resident(l, e);
    }
    return missing;
}

/* Choose each row's experts, and tell who wants to know. */
static void route(int threads, const Stack *s, const Batch *b, const Layer *l, Work *w, const Pass *p) {
    Product router = plain(&l->router, &w->acts, w->logits, l->experts, b->rows);
    multiply(threads, &router, 1);
    assign(l, w, b->rows, p->chosen ? p->chosen + (int64_t)p->layer * b->rows * 2 : NULL,
           p->share ? p->share + (int64_t)p->layer * b->rows * 2 : NULL);
    memset(w->done, 0, l->experts);
    if (!p->visits) return;
    for (int e = 0; e < l->experts; e++) p->visits[p->layer * s->max_experts + e] += w->start[e + 1] - w->start[e];
}

/* Run experts that are in memory and have rows, from the number `from` on, as many as there is room for between their
 * two products. Their rows must be side by side: not those of one that has run, or is not there, between them. Returns
 * the number to go on from. */
static int run_some(int threads, const Stack *s, const Layer *l, Work *w, int from) {
    const int64_t inner = l->expert_first->outputs;
    int n = 0, first = 0, rows = 0, e = from;
    for (; e < l->experts; e++) {
        const int its = w->start[e + 1] - w->start[e];
        if (!its || w->done[e] || !resident(l, e)) continue;
        if (!n) first = w->start[e];
        else if (w->start[e] != first + rows || rows + its > w->inner_rows) break;
        w->products[n] = plain(l->expert_first + e, &w->acts, w->inner, inner, its);
        w->products[n].source = w->assigned + first;
        w->products[n].first = rows;
        w->products[n].activation = s->activation;
        w->which[n++] = e;
        rows += its;
    }
    if (!n) return e;
    multiply(threads, w->products, n);
    prepare(threads, NULL, w->inner, inner, NULL, 0, rows, inner, w->inner, &w->inner_acts, wants_bytes(l->expert_second));
    for (int i = 0; i < n; i++) {
        Product *p = w->products + i;
        const int at = p->first, its = p->rows;
        *p = plain(l->expert_second + w->which[i], &w->inner_acts, w->mixed + first * (int64_t)s->hidden, s->hidden, its);
        p->first = at;
        w->done[w->which[i]] = 1;
    }
    multiply(threads, w->products, n);
    return e;
}

typedef struct {
    const Stack *s;
    const Batch *b;
    const Work *w;
    float scale;
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
        const float g = w->gates[2 * r] * m->scale, h = w->gates[2 * r + 1] * m->scale;
        for (int64_t j = 0; j < hidden; j++) x[j] += one[j] * g + two[j] * h;
    }
}

/* The experts of a layer whose rows are routed. Returns whether the pass has to wait: some are not in memory. It does
 * so at once (`fresh`), so that they are read while others run, and again once all that are there have run. */
static int experts(int threads, const Stack *s, const Batch *b, const Layer *l, Work *w, Pass *p, int fresh) {
    if (outstanding(l, w, p) && fresh) return 1;
    for (int e = 0; e < l->experts;) e = run_some(threads, s, l, w, e);
    if (outstanding(l, w, p)) return 1;
    Mixing mixing = {s, b, w, l->expert_scale, grain(threads, b->rows, s->hidden, 8)};
    share(threads, (b->rows + mixing.grain - 1) / mixing.grain, mixing_task, &mixing);
    return 0;
}

#endif
