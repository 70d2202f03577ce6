/* What Python hands over; kernels/structs.py mirrors it field by field. */
#ifndef DRAGOMAN_STRUCTS_H
#define DRAGOMAN_STRUCTS_H

#include <stdint.h>

#define PANEL 64 /* outputs that lie side by side in packed weights */
#define GROUP 32 /* inputs that share a scale in 4-bit weights */

/* BRAIN (bfloat16) and FINE (12 bits: those of BYTE and four more) are kinds of tables only. */
enum { NONE = 0, FLOAT = 1, HALF = 2, BYTE = 3, NIBBLE = 4, BRAIN = 5, FINE = 6 };
enum { RELU = 1, GELU = 2, SILU = 3 };

/* A table. FLOAT, HALF, BRAIN: numbers as they are stored, rows `stride` of them apart. FINE: panels as in BYTE, and
 * what they leave of each number in four bits, rows `stride` bytes apart (kernels/fine.py says how). */
typedef struct {
    const void *data;
    int64_t stride;
    int32_t kind, rows, columns;
    const uint8_t *rest; /* [rows, stride], FINE */
    const float *scale;  /* [rows up to whole panels], FINE */
} Matrix;

/* y = x W^T + bias, W packed in panels (kernels/packing.py says how). */
typedef struct {
    int32_t kind, outputs, inputs, padded; /* padded: inputs rounded up as the kind needs */
    const uint8_t *data;
    const float *scale; /* [outputs up to whole panels], kind BYTE */
    const float *bias;  /* [outputs] or NULL */
} Linear;

typedef struct {
    int32_t kind; /* 0 none, 1 layer norm, 2 root mean square */
    float eps;
    const float *weight, *bias;
} Norm;

/* A language module's two thin products for one projection; a.kind NONE where it has none. */
typedef struct {
    Linear a, b;
} Adapter;

enum { Q, K, V, O, GATE, UP, DOWN, PROJECTIONS };

typedef struct {
    Norm self_norm, cross_norm, ffn_norm;
    Linear q, k, v, o;
    Linear cross_q, cross_o;
    Linear gate, up, down; /* without experts; gate is the first product, up only where it is gated */
    Linear router;
    int32_t experts;
    float expert_scale;
    const Linear *expert_first, *expert_second;
    const Adapter *adapters; /* [modules][PROJECTIONS] or NULL */
} Layer;

typedef struct {
    int32_t layers, hidden, heads, key_heads, head_width, inner, activation, gated;
    int32_t max_experts, max_rank;
    float query_scale;
    const Layer *layer;
    Norm last;
} Stack;

/* Keys a row may look at: key t is at `key + layer * layer_stride + (t * step + slot[t]) * width`,
 * its value `value_offset` further. */
typedef struct {
    const float *key;
    int64_t layer_stride, value_offset;
    const int32_t *slot; /* NULL: 0 for all */
    int32_t count, step;
} Span;

typedef struct {
    int32_t rows, spans; /* spans: of self-attention, for each row */
    float *x;            /* [rows, hidden], changed in place */
    const Span *self;    /* [rows, spans] */
    const Span *cross;   /* [rows] or NULL */
    float *const *write; /* [rows], where the row's own key goes */
    const int64_t *write_stride, *write_value;
    const float *cosine, *sine; /* [rows, head_width / 2] or NULL */
    int32_t routes;             /* row ranges with a language module */
    const int32_t *route_start, *route_stop, *route_module;
    const float *route_scale;
} Batch;

/* A pass through a stack, which may stop behind a router until experts are there, and then goes on. */
typedef struct {
    int32_t layer;   /* where the pass is; it begins at 0 */
    int32_t waits;   /* whether this layer's rows have their experts, some of which have not run yet */
    int32_t hits;    /* how many those are; */
    int32_t *hit;    /* which: [hits] of [max_experts] */
    int32_t *visits; /* [layers, max_experts] or NULL: how many rows each expert got is added there */
    int32_t *chosen; /* [layers, rows, 2] or NULL: each row's experts, the first choice first, */
    float *share;    /* and what they count, before a layer's factor */
} Pass;

/* The output layer. */
typedef struct {
    Linear w;
    Matrix exact;         /* [tokens, hidden]: candidates are scored anew with these rows; of the kind NONE: not */
    const int32_t *token; /* which token a column is; NULL: its own number */
    float gap, norm;      /* the largest distance of a packed row to the exact one, and the longest exact row */
} Head;

#endif
