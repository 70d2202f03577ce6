/* The output layer: a rough pass over all tokens, and exact scores for the best of them. */
#ifndef DRAGOMAN_HEAD_H
#define DRAGOMAN_HEAD_H

#include "rows.h"
#include "tables.h"

#define BLOCK 32 /* panels whose exponentials are summed together, in a fixed order */
#define MOST_CANDIDATES 4096
#define POOLS (16 << 20) /* bytes */

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
    Candidate *best;
    int count, full; /* how many there are, and may be before they are thinned out */
    float least;     /* lower scores were left out */
} Pool;

/* Quickselect: the best `keep` of `count` candidates to the front. */
static void bring_forward(Candidate *best, int count, int keep) {
    int low = 0, high = count - 1;
    while (keep < count && low < high) {
        const Candidate pivot = best[(low + high) / 2];
        int i = low, j = high;
        while (i <= j) {
            while (better(best[i], pivot)) i++;
            while (better(pivot, best[j])) j--;
            if (i <= j) {
                Candidate t = best[i];
                best[i++] = best[j];
                best[j--] = t;
            }
        }
        if (keep - 1 <= j) high = j;
        else if (keep - 1 >= i) low = i;
        else break;
    }
}

static float lowest(const Candidate *best, int count) {
    float least = best[0].score;
    for (int i = 1; i < count; i++) least = MIN(least, best[i].score);
    return least;
}

/* Scores of `rows` rows of x, `ld` apart, against a row of a FINE table, which is read once. */
INLINE void fine_scores(const Matrix *m, int64_t row, const float *x, int64_t ld, const int rows, float *out, int64_t apart) {
    const uint8_t *high = fine_high(m, row), *low = fine_low(m, row);
    F s[4], t[4];
    for (int r = 0; r < rows; r++) s[r] = t[r] = f_set(0);
    for (int j = 0; j < m->columns; j += GROUP, high += GROUP * PANEL, low += GROUP / 2) {
        const int left = m->columns - j;
        F a, b;
        f_fine(high, 4 * PANEL, low, &a, &b);
        for (int r = 0; r < rows; r++) {
            const float *from = x + r * ld + j;
            float last[GROUP];
            if (left < GROUP) {
                memset(last, 0, sizeof last);
                memcpy(last, from, left * sizeof(float));
                from = last;
            }
            s[r] = f_fma(f_load(from), a, s[r]);
            t[r] = f_fma(f_load(from + 16), b, t[r]);
        }
    }
    for (int r = 0; r < rows; r++) out[r * apart] = f_sum(f_add(s[r], t[r])) * (m->scale[row] / 16);
}

static float exact_score(const Matrix *m, const float *x, int32_t token) {
    const int width = m->columns;
    if (m->kind == FLOAT) return dot(x, (const float *)m->data + token * m->stride, width);
    if (m->kind == FINE) {
        float score;
        fine_scores(m, token, x, 0, 1, &score, 0);
        return score;
    }
    const uint16_t *w = (const uint16_t *)m->data + token * m->stride;
    const int brain = m->kind == BRAIN;
    F s = f_set(0);
    int j = 0;
    for (; j + 16 <= width; j += 16) s = f_fma(f_load(x + j), brain ? f_brain(w + j) : f_half(w + j), s);
    float sum = f_sum(s);
    if (j < width) {
        uint16_t rest[16];
        float y[16];
        memset(rest, 0, sizeof rest);
        memset(y, 0, sizeof y);
        memcpy(rest, w + j, (width - j) * 2);
        memcpy(y, x + j, (width - j) * 4);
        sum += f_sum(f_mul(f_load(y), brain ? f_brain(rest) : f_half(rest)));
    }
    return sum;
}

static int is_banned(const uint8_t *banned, int32_t token) { return banned && banned[token >> 3] >> (token & 7) & 1; }

INLINE int token_of(const Head *h, int column) { return h->token ? h->token[column] : column; }

/* What a call of top() works on. */
typedef struct {
    const Head *h;
    const float *x;
    int rows, keep, wide, most, blocks, threads;
    const uint8_t *banned;
    const int32_t *extra, *start;
    Acts acts;
    float *highs, *sums; /* [blocks, rows]: the largest rough score, and the sum of exponentials against it */
    float *error;        /* what no error of a row's rough scores exceeds */
    Pool *pools;         /* [threads, rows] */
    float *scores, *spread;
    int32_t *tokens;
} Choice;

/* Candidates that are scored exactly before it is asked whether more are needed. */
static int at_once(int keep) { return MAX(64, 4 * keep); }

/* What no error of a row's rough scores exceeds, by Cauchy and Schwarz: with x' and w' as the rough pass has
 * them, x w - x' w' = x' (w - w') + (x - x') w. And what is rounded on the way is added. */
static float most_error(const Choice *c, int r) {
    const Head *h = c->h;
    const float *x = c->x + (int64_t)r * h->w.inputs;
    const int8_t *q = c->acts.q + (int64_t)r * c->acts.padded;
    double given = 0, used = 0, apart = 0;
    for (int k = 0; k < h->w.inputs; k++) {
        const double rough = h->w.kind >= BYTE ? (double)q[k] * c->acts.scale[r] : x[k];
        given += (double)x[k] * x[k];
        used += rough * rough;
        apart += (x[k] - rough) * (x[k] - rough);
    }
    const double rounded = 1.2e-7 * (h->w.inputs / (h->w.kind >= BYTE ? 16 : 1) + 64);
    const double bound = sqrt(used) * h->gap + sqrt(apart) * h->norm + rounded * sqrt(MAX(given, used)) * (h->norm + h->gap);
    return (float)(bound * 1.000001);
}

static void bounding_task(void *work, int r, int thread) {
    const Choice *c = work;
    (void)thread;
    c->error[r] = c->h->exact.kind ? most_error(c, r) : 0;
}

/* Leave the `wide` best of a row's candidates, and those that may be among the best `keep` all the same, as what is
 * rough about their scores may hide it: up to `most`. */
static void thin_out(const Choice *c, Pool *p, float error) {
    if (p->count <= c->wide) return;
    Candidate *best = p->best;
    int count = c->wide;
    bring_forward(best, p->count, count);
    p->least = lowest(best, count);
    bring_forward(best, count, c->keep);
    const float may = lowest(best, c->keep) - 2.0001f * error;
    if (may < p->least) { /* not if it is no number */
        for (int i = count; i < p->count; i++)
            if (best[i].score >= may) {
                const Candidate t = best[count];
                best[count++] = best[i];
                best[i] = t;
            }
        p->least = may;
        if (count > c->most) {
            bring_forward(best, count, c->most);
            p->least = lowest(best, count = c->most);
        }
    }
    p->count = count;
    p->full = MAX(3 * c->wide, 2 * count);
}

/* One row's rough scores of a panel: into the sum of its block, and the best among the thread's candidates. */
static void consider(const Choice *c, int panel, float *y, float *most, float *sum, Pool *pool, float error) {
    const int columns = MIN(PANEL, c->h->w.outputs - panel * PANEL);
    for (int n = columns; n < PANEL; n++) y[n] = -INFINITY;
    F top = f_load(y);
    for (int v = 16; v < PANEL; v += 16) top = f_max(top, f_load(y + v));
    const float high = f_top(top);
    if (high > *most) {
        *sum *= *most == -INFINITY ? 0 : expf(*most - high);
        *most = high;
    }
    F e = f_set(0);
    for (int v = 0; v < PANEL; v += 16) e = f_add(e, f_exp(f_add(f_load(y + v), f_set(-*most))));
    *sum += f_sum(e);
    if (high < pool->least) return;
    for (int v = 0; v < columns; v += 16)
        for (unsigned hits = f_reaches(f_load(y + v), pool->least); hits; hits &= hits - 1) {
            const int n = v + __builtin_ctz(hits);
            if (n >= columns) break;
            const Candidate found = {y[n], token_of(c->h, panel * PANEL + n)};
            if (is_banned(c->banned, found.token)) continue;
            pool->best[pool->count++] = found;
            if (pool->count == pool->full) thin_out(c, pool, error);
        }
}

static void screening_task(void *work, int block, int thread) {
    const Choice *c = work;
    const Product product = plain(&c->h->w, &c->acts, NULL, 0, c->rows);
    float tile[ROWS_AT_ONCE * PANEL] __attribute__((aligned(64)));
    float *highs = c->highs + (int64_t)block * c->rows, *sums = c->sums + (int64_t)block * c->rows;
    Pool *pools = c->pools + (int64_t)thread * c->rows;
    for (int r = 0; r < c->rows; r++) highs[r] = -INFINITY, sums[r] = 0;
    for (int panel = block * BLOCK; panel < MIN(panels(&c->h->w), (block + 1) * BLOCK); panel++)
        for (int first = 0; first < c->rows; first += ROWS_AT_ONCE) {
            const int these = MIN(ROWS_AT_ONCE, c->rows - first);
            panel_sums(&product, panel, first, these, tile);
            for (int i = 0; i < these; i++) {
                const int r = first + i;
                consider(c, panel, tile + i * PANEL, highs + r, sums + r, pools + r, c->error[r]);
            }
        }
}

/* Put the threads' candidates of a row together. */
static Pool gather(const Choice *c, int r) {
    Pool all = c->pools[r];
    for (int t = 1; t < c->threads; t++) {
        const Pool *other = c->pools + (int64_t)t * c->rows + r;
        all.least = MAX(all.least, other->least);
        for (int i = 0; i < other->count; i++) {
            if (all.count == all.full) thin_out(c, &all, c->error[r]);
            all.best[all.count++] = other->best[i];
        }
    }
    const float least = all.least;
    thin_out(c, &all, c->error[r]);
    all.least = MAX(all.least, least);
    return all;
}

/* Put the candidates from `sorted` on in order, as many as will probably be wanted. Returns how many are now. */
static int sort_more(const Pool *all, int sorted, int some) {
    const int more = MIN(all->count - sorted, MAX(some, sorted));
    bring_forward(all->best + sorted, all->count - sorted, more);
    qsort(all->best + sorted, more, sizeof(Candidate), compare);
    return sorted + more;
}

/* Add candidates that are scored exactly to `scored`, of which the best `keep` stay. Returns whether none of those that
 * are left can be one of them: they score `rough` at the most. */
static int is_settled(Pool *scored, const Candidate *more, int count, int keep, float rough, float error) {
    memcpy(scored->best + scored->count, more, count * sizeof(Candidate));
    bring_forward(scored->best, scored->count + count, keep);
    scored->count = keep;
    return lowest(scored->best, keep) >= rough + error;
}

/* Exact scores for a row's candidates, also within the sum of exponentials against `top`, in an order that threads don't
 * decide; until the rest, which is dropped, can't be among the best. Returns whether all are numbers. */
static int score_candidates(const Choice *c, const float *x, float error, float top, double *sum, Pool *all) {
    const int some = at_once(c->keep);
    Pool scored = {all->best + all->count, 0, 0, 0}; /* the pool has room behind its candidates */
    int sound = 1;
    for (int i = 0, sorted = 0; i < all->count; i++) {
        if (i == sorted) sorted = sort_more(all, sorted, some);
        if (i && i % some == 0 && is_settled(&scored, all->best + i - some, some, c->keep, all->best[i].score, error)) {
            all->least = all->best[i].score;
            all->count = i;
            break;
        }
        Candidate *one = all->best + i;
        const float before = one->score;
        one->score = exact_score(&c->h->exact, x, one->token);
        *sum += exp((double)one->score - top) - exp((double)before - top);
        if (!(one->score > -INFINITY)) one->score = -INFINITY, sound = 0; /* no NaN among what is sorted */
    }
    return sound;
}

static void ranking_task(void *work, int r, int thread) {
    const Choice *c = work;
    const Head *h = c->h;
    const float *x = c->x + (int64_t)r * h->w.inputs, error = c->error[r];
    Pool all = gather(c, r);
    float top = -INFINITY;
    double sum = 0;
    int sound = 1;
    (void)thread;
    for (int block = 0; block < c->blocks; block++) top = MAX(top, c->highs[(int64_t)block * c->rows + r]);
    for (int block = 0; block < c->blocks; block++)
        sum += c->sums[(int64_t)block * c->rows + r] * exp((double)c->highs[(int64_t)block * c->rows + r] - top);
    if (h->exact.kind) sound = score_candidates(c, x, error, top, &sum, &all);
    if (c->extra)
        for (int i = c->start[r]; i < c->start[r + 1]; i++) {
            const Candidate more = {exact_score(&h->exact, x, c->extra[i]), c->extra[i]};
            sum += exp((double)more.score - top);
            if (!(more.score > -INFINITY)) sound = 0;
            else if (!is_banned(c->banned, more.token)) {
                if (all.count == c->most) {
                    bring_forward(all.best, all.count, c->keep);
                    all.count = c->keep;
                }
                all.best[all.count++] = more;
            }
        }
    bring_forward(all.best, all.count, c->keep);
    qsort(all.best, MIN(all.count, c->keep), sizeof(Candidate), compare);
    const float total = top + (float)log(sum);
    for (int i = 0; i < c->keep; i++) {
        const int real = i < all.count;
        c->scores[(int64_t)r * c->keep + i] = real ? all.best[i].score - total : -INFINITY;
        c->tokens[(int64_t)r * c->keep + i] = real ? all.best[i].token : 0;
    }
    c->spread[2 * r] = h->exact.kind ? all.least - total : -INFINITY;
    c->spread[2 * r + 1] = sound && isfinite(total) ? error : NAN;
}

/* How many candidates a pool has room for: as many as are left of it, and as many more, or the least number that it is
 * thinned out at; and what `score_candidates` needs. */
static size_t pool_room(const Choice *c) { return MAX(3 * c->wide, 2 * c->most) + c->keep + at_once(c->keep); }

/* Some of the rows. */
static Choice choice_of(const Choice *all, int first, int rows) {
    Choice c = *all;
    c.x += (int64_t)first * c.h->w.inputs;
    c.rows = rows;
    if (c.start) c.start += first;
    c.scores += (int64_t)first * c.keep;
    c.tokens += (int64_t)first * c.keep;
    c.spread += 2 * (int64_t)first;
    return c;
}

/* How many rows there is room for: candidates of all threads together take POOLS bytes, unless that is too little for
 * the rows that a panel is worth reading for. */
static int rows_at_once(const Choice *c, int threads) {
    return (int)MAX(32, POOLS / (threads * pool_room(c) * sizeof(Candidate)));
}

static void lay_out_choice(Arena *a, Choice *c, int threads) {
    Candidate *room;
    take_acts(a, &c->acts, c->rows, c->h->w.inputs);
    c->highs = take(a, (size_t)c->blocks * c->rows * 4);
    c->sums = take(a, (size_t)c->blocks * c->rows * 4);
    c->error = take(a, (size_t)c->rows * 4);
    c->pools = take(a, (size_t)threads * c->rows * sizeof(Pool));
    room = take(a, (size_t)threads * c->rows * pool_room(c) * sizeof(Candidate));
    if (!a->at) return;
    for (int64_t i = 0; i < (int64_t)threads * c->rows; i++) {
        Pool p = {room + i * pool_room(c), 0, 3 * c->wide, -INFINITY};
        c->pools[i] = p;
    }
}

typedef struct {
    const Head *h;
    const float *x;
    const int32_t *tokens;
    int rows, count, apart, grain;
    float *out;
} Exactly;

static void exact_task(void *work, int number, int thread) {
    const Exactly *e = work;
    const Matrix *m = &e->h->exact;
    const int64_t width = m->columns;
    (void)thread;
    for (int i = number * e->grain; i < MIN(e->count, (number + 1) * e->grain); i++) {
        int r = 0;
        if (m->kind == FINE && !e->apart)
            for (; r + 4 <= e->rows; r += 4)
                fine_scores(m, e->tokens ? e->tokens[i] : i, e->x + r * width, width, 4, e->out + (int64_t)r * e->count + i, e->count);
        for (; r < e->rows; r++) {
            const int32_t token = !e->tokens ? i : e->tokens[e->apart ? (int64_t)r * e->count + i : i];
            e->out[(int64_t)r * e->count + i] = exact_score(m, e->x + r * width, token);
        }
    }
}

/* One packed weight as the rough pass has it. */
static float packed_weight(const Linear *w, int column, int input) {
    const uint8_t *panel = w->data + column / PANEL * panel_bytes(w);
    const int n = column % PANEL;
    if (w->kind == FLOAT) return ((const float *)panel)[(int64_t)input * PANEL + n];
    if (w->kind == HALF) return from_half(((const uint16_t *)panel)[(int64_t)input * PANEL + n]);
    return (panel[((int64_t)(input / 4) * PANEL + n) * 4 + input % 4] - 128) * w->scale[column];
}

typedef struct {
    const Head *h;
    float *gaps, *norms; /* of each panel the largest */
} Measuring;

static void measuring_task(void *work, int panel, int thread) {
    const Measuring *m = work;
    const Head *h = m->h;
    const int inputs = h->w.inputs;
    double gap = 0, norm = 0;
    (void)thread;
    for (int column = panel * PANEL; column < MIN(h->w.outputs, (panel + 1) * PANEL); column++) {
        float exact[AT_ONCE];
        double apart = 0, all = 0;
        for (int k = 0; k < inputs; k++) {
            if (k % AT_ONCE == 0) convert(&h->exact, token_of(h, column), k, MIN(AT_ONCE, inputs - k), exact);
            const double one = exact[k % AT_ONCE], d = one - packed_weight(&h->w, column, k);
            apart += d * d;
            all += one * one;
        }
        gap = MAX(gap, apart);
        norm = MAX(norm, all);
    }
    m->gaps[panel] = (float)(sqrt(gap) * 1.000001);
    m->norms[panel] = (float)(sqrt(norm) * 1.000001);
}

#endif
