/* Transformer layers on a CPU. This file is compiled once for each kind of processor.
 *
 * The caller goes from one piece of work to the next, and each is cut into tasks that threads take as
 * they come. But each number is computed in one fixed order by one thread: results depend neither on the
 * number of threads nor on what else is in a batch.
 */
#include "head.h"
#include "layers.h"
#include "packing.h"

/* All layers and the last norm over b->x. 0; or 1 if the pass has to wait for experts, which are then noted in `p`: once
 * some are there the same call goes on, with the same context, which nobody else may have used. -1 if memory ran out. */
int NAME(forward)(Context *c, const Stack *s, const Batch *b, Pass *p) {
    Arena a = {NULL, 0};
    Work *w;
    if (p->waits) w = (Work *)c->arena;
    else {
        Work counted;
        take(&a, sizeof(Work));
        lay_out(&a, &counted, s, b, c->threads);
        if (reserve(c, &a)) return -1;
        w = take(&a, sizeof(Work));
        lay_out(&a, w, s, b, c->threads);
    }
    const int threads = enter(c->threads);
    int waits = 0;
    while (p->layer < s->layers && !(waits = run_layer(threads, s, b, p, w))) p->layer++;
    if (!waits) prepare(threads, &s->last, b->x, s->hidden, NULL, 0, b->rows, s->hidden, b->x, &w->acts, 0);
    leave(threads);
    return waits;
}

/* out [rows, ld] = x [rows, inputs] through each of `count` linear layers, written side by side
 * `offset` apart. 0, or -1 if memory ran out. */
int NAME(linear)(Context *c, const Linear *w, int count, const float *x, int rows, float *out, int64_t ld, int64_t offset) {
    Arena a = {NULL, 0};
    Acts acts;
    Product *p;
    take_acts(&a, &acts, rows, w->inputs);
    take(&a, sizeof(Product) * count);
    if (reserve(c, &a)) return -1;
    take_acts(&a, &acts, rows, w->inputs);
    p = take(&a, sizeof(Product) * count);
    for (int i = 0; i < count; i++) p[i] = plain(w + i, &acts, out + i * offset, ld, rows);
    const int threads = enter(c->threads);
    prepare(threads, NULL, x, w->inputs, NULL, 0, rows, w->inputs, (float *)x, &acts, wants_bytes(w));
    multiply(threads, p, count);
    leave(threads);
    return 0;
}

/* The `keep` best tokens of each row, as log-probabilities over all of the head's tokens.
 *
 * x: [rows, hidden]; screen: candidates of which there is always a choice; banned: a bit for each token, or NULL; extra:
 * tokens that row r has besides the head's columns are extra[start[r]] to extra[start[r + 1]], NULL for none (needs
 * exact rows); scores, tokens: [rows, keep], best first. spread [rows, 2], for the caller to see whether the candidates
 * were enough: what the tokens that were left out scored roughly at the most, and what no error of a rough score
 * exceeds; this one is NaN if a number is none or too large. 0, or -1 if memory ran out.
 */
int NAME(top)(Context *c, const Head *h, const float *x, int rows, int keep, int screen, const uint8_t *banned,
              const int32_t *extra, const int32_t *start, float *scores, int32_t *tokens, float *spread) {
    const int wide = h->exact.kind ? MAX(keep, screen) : keep, some = at_once(keep);
    Choice whole = {.h = h, .x = x, .rows = rows, .keep = keep, .wide = wide,
                    .most = h->exact.kind ? (MAX(wide, MOST_CANDIDATES) + some - 1) / some * some : wide,
                    .blocks = (panels(&h->w) + BLOCK - 1) / BLOCK, .banned = banned, .extra = extra, .start = start,
                    .scores = scores, .tokens = tokens, .spread = spread};
    const int most = rows_at_once(&whole, c->threads);
    for (int first = 0; first < rows; first += most) {
        Choice choice = choice_of(&whole, first, MIN(most, rows - first));
        Arena a = {NULL, 0};
        lay_out_choice(&a, &choice, c->threads);
        if (reserve(c, &a)) return -1;
        lay_out_choice(&a, &choice, c->threads);
        const int threads = choice.threads = enter(c->threads);
        prepare(threads, NULL, choice.x, h->w.inputs, NULL, 0, choice.rows, h->w.inputs, (float *)choice.x, &choice.acts,
                wants_bytes(&h->w));
        share(threads, choice.rows, bounding_task, &choice);
        share(threads, choice.blocks, screening_task, &choice);
        share(threads, choice.rows, ranking_task, &choice);
        leave(threads);
    }
    return 0;
}

/* Exact scores alone: out [rows, count]. tokens: [count], the same for all rows, or [rows, count] if
 * `apart`; NULL stands for 0, 1, ... */
void NAME(exact)(Context *c, const Head *h, const float *x, int rows, const int32_t *tokens, int count, int apart,
                 float *out) {
    Exactly e = {h, x, tokens, rows, count, apart, 1, out};
    const int threads = enter(c->threads);
    e.grain = grain(threads, count, (int64_t)rows * h->w.inputs, 64);
    share(threads, (count + e.grain - 1) / e.grain, exact_task, &e);
    leave(threads);
}

/* found: the largest distance of a packed row of the output layer to the exact one, and the longest exact
 * row. 0, or -1 if memory ran out. */
int NAME(measure)(Context *c, const Head *h, float *found) {
    Arena a = {NULL, 0};
    const int count = panels(&h->w);
    Measuring m = {h, NULL, NULL};
    take(&a, (size_t)count * 4);
    take(&a, (size_t)count * 4);
    if (reserve(c, &a)) return -1;
    m.gaps = take(&a, (size_t)count * 4);
    m.norms = take(&a, (size_t)count * 4);
    const int threads = enter(c->threads);
    share(threads, count, measuring_task, &m);
    leave(threads);
    found[0] = found[1] = 0;
    for (int i = 0; i < count; i++) {
        found[0] = MAX(found[0], m.gaps[i]);
        found[1] = MAX(found[1], m.norms[i]);
    }
    return 0;
}

/* Put a matrix in the order of w, whose data (and scale, in BYTE) are filled; with kind NONE it is measured and no
 * more. rest: in BYTE, where four more bits of each number go, or NULL. most: its largest magnitude, or NaN if a
 * number is NaN or infinite, and then nothing can be said of what was written. 0, or -1 if memory ran out. */
int NAME(pack)(Context *c, const Matrix *m, const Linear *w, uint8_t *rest, float *most) {
    Arena a = {NULL, 0};
    const int count = (m->rows + PANEL - 1) / PANEL;
    take(&a, (size_t)count * 4);
    if (reserve(c, &a)) return -1;
    Packing p = {m, *w, (uint8_t *)w->data, (float *)w->scale, rest, take(&a, (size_t)count * 4)};
    const int threads = enter(c->threads);
    share(threads, count, packing_task, &p);
    leave(threads);
    *most = 0;
    for (int i = 0; i < count && *most == *most; i++) *most = p.tops[i] <= *most ? *most : p.tops[i];
    return 0;
}

/* Rows of a table times `scale`: out [count, columns]. 0, or -1 if there is no such row; nothing is written then. */
int NAME(gather)(Context *c, const Matrix *m, const int64_t *rows, int count, float scale, float *out) {
    for (int i = 0; i < count; i++)
        if (rows[i] < 0 || rows[i] >= m->rows) return -1;
    Gathering g = {m, rows, count, 1, scale, out};
    const int threads = enter(c->threads);
    g.grain = grain(threads, count, m->columns, 8);
    share(threads, (count + g.grain - 1) / g.grain, gathering_task, &g);
    leave(threads);
    return 0;
}

void *NAME(context)(int threads) {
    Context *c = calloc(1, sizeof(Context));
    if (c) c->threads = MIN(MAX(threads, 1), MOST_THREADS);
    return c;
}

void NAME(release)(Context *c) {
    if (!c) return;
    release_bytes(c->arena);
    free(c);
}
