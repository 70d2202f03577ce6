/* Vectors of 16 numbers for three kinds of processor, chosen when this file is compiled.
 *
 * F holds 16 floats, I 16 int32. W holds 64 weight bytes (16 outputs x 4 inputs) made ready for
 * products with signed activations, which are exact in all three: no intermediate sum saturates.
 * Built with -ffp-contract=off: only fma() fuses, so that what is rounded does not depend on the
 * compiler's mood.
 */
#ifndef DRAGOMAN_SIMD_H
#define DRAGOMAN_SIMD_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* Half precision, rounded to nearest and ties to even, in plain C. */
INLINE uint16_t to_half(float x) {
    uint32_t bits, sign;
    memcpy(&bits, &x, 4);
    sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits >= 0x7f800000) return (uint16_t)(sign | (bits > 0x7f800000 ? 0x7e00 : 0x7c00));
    if (bits >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
    if (bits < 0x38800000) { /* subnormal: a sum in which the last bit is worth 2^-24 */
        float y;
        memcpy(&y, &bits, 4);
        y += 0.5f;
        memcpy(&bits, &y, 4);
        return (uint16_t)(sign | (bits - 0x3f000000));
    }
    bits += 0xc8000fff + (bits >> 13 & 1);
    return (uint16_t)(sign | bits >> 13);
}

INLINE float from_half(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7fff, bits;
    float x;
    if (rest >= 0x7c00) {
        bits = sign | 0x7f800000 | (rest & 0x3ff) << 13;
    } else {
        bits = rest << 13; /* as a tiny float, then scaled by 2^112: right for subnormals too */
        memcpy(&x, &bits, 4);
        x *= 5.192296858534828e33f;
        memcpy(&bits, &x, 4);
        bits |= sign;
    }
    memcpy(&x, &bits, 4);
    return x;
}

/* The other half precision: the upper half of a float. */
INLINE float from_brain(uint16_t b) {
    const uint32_t bits = (uint32_t)b << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

/* A number of 12 bits is stored as what it is above the lowest; so is one of 8 bits, in the upper part. */
#define FINE_ZERO (128 * 16 + 8)

#ifdef __AVX2__
#include <immintrin.h>

/* Sixteen bytes in pieces of four, `apart` bytes from each other. */
INLINE __m128i pieces(const uint8_t *p, int apart) {
    int32_t a, b, c, d;
    memcpy(&a, p, 4);
    memcpy(&b, p + apart, 4);
    memcpy(&c, p + 2 * apart, 4);
    memcpy(&d, p + 3 * apart, 4);
    return _mm_setr_epi32(a, b, c, d);
}
/* Numbers of 12 bits from their upper eight and lower four. */
INLINE __m256i fine16(__m128i high, __m128i low) {
    __m256i x = _mm256_slli_epi16(_mm256_cvtepu8_epi16(high), 4);
    x = _mm256_or_si256(x, _mm256_cvtepu8_epi16(_mm_and_si128(low, _mm_set1_epi8(15))));
    return _mm256_sub_epi16(x, _mm256_set1_epi16(FINE_ZERO));
}
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__)

typedef __m512 F;
typedef __m512i I;

INLINE F f_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void f_store(float *p, F x) { _mm512_storeu_ps(p, x); }
INLINE F f_set(float x) { return _mm512_set1_ps(x); }
INLINE F f_add(F a, F b) { return _mm512_add_ps(a, b); }
INLINE F f_mul(F a, F b) { return _mm512_mul_ps(a, b); }
INLINE F f_div(F a, F b) { return _mm512_div_ps(a, b); }
INLINE F f_max(F a, F b) { return _mm512_max_ps(a, b); }
INLINE F f_min(F a, F b) { return _mm512_min_ps(a, b); }
INLINE F f_fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
INLINE F f_half(const uint16_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
INLINE F f_brain(const uint16_t *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
INLINE void f_store_half(uint16_t *p, F x) {
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
INLINE F f_int(I x) { return _mm512_cvtepi32_ps(x); }
INLINE F f_short(__m256i x) { return _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(x)); }
INLINE float f_sum(F x) { return _mm512_reduce_add_ps(x); }
INLINE float f_top(F x) { return _mm512_reduce_max_ps(x); }
INLINE F f_abs(F x) { return _mm512_abs_ps(x); }
INLINE unsigned f_reaches(F x, float least) { return _mm512_cmp_ps_mask(x, f_set(least), _CMP_GE_OQ); }
INLINE I i_load(const int32_t *p) { return _mm512_loadu_si512(p); }
INLINE void i_store(int32_t *p, I x) { _mm512_storeu_si512(p, x); }
INLINE I i_set(int32_t x) { return _mm512_set1_epi32(x); }
INLINE int32_t i_sum(I x) { return _mm512_reduce_add_epi32(x); }
INLINE I i_add(I a, I b) { return _mm512_add_epi32(a, b); }
INLINE I i_round(F x) { return _mm512_cvtps_epi32(x); }
INLINE void i_store_bytes(int8_t *p, I x) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(x)); }

INLINE F f_exp(F x) {
    x = _mm512_max_ps(_mm512_min_ps(x, f_set(88.0f)), f_set(-87.3f));
    F n = _mm512_roundscale_ps(_mm512_mul_ps(x, f_set(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    F r = _mm512_fnmadd_ps(n, f_set(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, f_set(-2.12194440e-4f), r);
    F p = f_set(1.9875691500e-4f);
    p = f_fma(p, r, f_set(1.3981999507e-3f));
    p = f_fma(p, r, f_set(8.3334519073e-3f));
    p = f_fma(p, r, f_set(4.1665795894e-2f));
    p = f_fma(p, r, f_set(1.6666665459e-1f));
    p = f_fma(p, r, f_set(5.0000001201e-1f));
    p = f_add(f_fma(p, f_mul(r, r), r), f_set(1.0f));
    return _mm512_scalef_ps(p, n);
}

#ifdef __AVX512VNNI__
#define ISA vnni
#define WIDE 0
typedef __m512i W;
INLINE W w_bytes(const uint8_t *p) { return _mm512_loadu_si512(p); }
INLINE W w_low(W w) { return _mm512_and_si512(w, _mm512_set1_epi8(15)); }
INLINE W w_high(W w) { return w_low(_mm512_srli_epi16(w, 4)); }
INLINE I w_dot(I sum, W w, const int8_t *q, const int16_t *wide) {
    (void)wide;
    int32_t four;
    memcpy(&four, q, 4);
    return _mm512_dpbusd_epi32(sum, w, _mm512_set1_epi32(four));
}
typedef I S;
INLINE S s_zero(void) { return i_set(0); }
INLINE S s_dot4(S sum, W w, const int8_t *q) { return w_dot(sum, w, q, 0); }
INLINE I s_wide(S sum) { return sum; }
INLINE W w_nibbles(const uint8_t *p) { return w_bytes(p); }
typedef W N;
#else
#define ISA avx512
#define WIDE 1
/* Without VNNI: bytes widened to 16 bits, inputs 0 and 2 of each four apart from 1 and 3. */
typedef struct { __m512i even, odd; } W;
typedef __m512i N;
INLINE W w_bytes(const uint8_t *p) {
    __m512i w = _mm512_loadu_si512(p);
    W r = {_mm512_and_si512(w, _mm512_set1_epi16(255)), _mm512_srli_epi16(w, 8)};
    return r;
}
INLINE N w_nibbles(const uint8_t *p) { return _mm512_loadu_si512(p); }
INLINE N w_low(N w) { return _mm512_and_si512(w, _mm512_set1_epi8(15)); }
INLINE N w_high(N w) { return w_low(_mm512_srli_epi16(w, 4)); }
INLINE I w_dot(I sum, W w, const int8_t *q, const int16_t *wide) {
    (void)q;
    int32_t two[2];
    memcpy(two, wide, 8);
    sum = i_add(sum, _mm512_madd_epi16(w.even, _mm512_set1_epi32(two[0])));
    return i_add(sum, _mm512_madd_epi16(w.odd, _mm512_set1_epi32(two[1])));
}
typedef __m512i S;
INLINE S s_zero(void) { return _mm512_setzero_si512(); }
INLINE S s_dot4(S sum, N w, const int8_t *q) {
    int32_t four;
    memcpy(&four, q, 4);
    return _mm512_add_epi16(sum, _mm512_maddubs_epi16(w, _mm512_set1_epi32(four)));
}
INLINE I s_wide(S sum) { return _mm512_madd_epi16(sum, _mm512_set1_epi16(1)); }
#endif

#elif defined(__AVX2__)
#define ISA avx2
#define WIDE 1

typedef struct { __m256 a, b; } F;
typedef struct { __m256i a, b; } I;

INLINE F f_make(__m256 a, __m256 b) { F r = {a, b}; return r; }
INLINE I i_make(__m256i a, __m256i b) { I r = {a, b}; return r; }
INLINE F f_load(const float *p) { return f_make(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)); }
INLINE void f_store(float *p, F x) { _mm256_storeu_ps(p, x.a); _mm256_storeu_ps(p + 8, x.b); }
INLINE F f_set(float x) { __m256 v = _mm256_set1_ps(x); return f_make(v, v); }
INLINE F f_add(F x, F y) { return f_make(_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)); }
INLINE F f_mul(F x, F y) { return f_make(_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)); }
INLINE F f_div(F x, F y) { return f_make(_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)); }
INLINE F f_max(F x, F y) { return f_make(_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)); }
INLINE F f_min(F x, F y) { return f_make(_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)); }
INLINE F f_fma(F x, F y, F z) { return f_make(_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)); }
INLINE F f_half(const uint16_t *p) {
    return f_make(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                  _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8))));
}
INLINE __m256 brain8(const uint16_t *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
INLINE F f_brain(const uint16_t *p) { return f_make(brain8(p), brain8(p + 8)); }
INLINE void f_store_half(uint16_t *p, F x) {
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    _mm_storeu_si128((__m128i *)(p + 8), _mm256_cvtps_ph(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
INLINE F f_int(I x) { return f_make(_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)); }
INLINE F f_short(__m256i x) {
    return f_make(_mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm256_castsi256_si128(x))),
                  _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm256_extracti128_si256(x, 1))));
}
INLINE float f_sum(F x) {
    __m256 s = _mm256_add_ps(x.a, x.b);
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_shuffle_ps(h, h, 1)));
}
INLINE float f_top(F x) {
    __m256 s = _mm256_max_ps(x.a, x.b);
    __m128 h = _mm_max_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    h = _mm_max_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_max_ss(h, _mm_shuffle_ps(h, h, 1)));
}
INLINE F f_abs(F x) {
    __m256 sign = _mm256_set1_ps(-0.0f);
    return f_make(_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b));
}
INLINE unsigned f_reaches(F x, float least) {
    __m256 t = _mm256_set1_ps(least);
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(x.a, t, _CMP_GE_OQ)) |
           (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(x.b, t, _CMP_GE_OQ)) << 8;
}
INLINE I i_load(const int32_t *p) {
    return i_make(_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)(p + 8)));
}
INLINE void i_store(int32_t *p, I x) {
    _mm256_storeu_si256((__m256i *)p, x.a);
    _mm256_storeu_si256((__m256i *)(p + 8), x.b);
}
INLINE I i_set(int32_t x) { __m256i v = _mm256_set1_epi32(x); return i_make(v, v); }
INLINE I i_add(I x, I y) { return i_make(_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)); }
INLINE int32_t i_sum(I x) {
    int32_t t[16], s = 0;
    i_store(t, x);
    for (int j = 0; j < 16; j++) s += t[j];
    return s;
}
INLINE I i_round(F x) { return i_make(_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)); }
INLINE void i_store_bytes(int8_t *p, I x) {
    int32_t t[16];
    i_store(t, x);
    for (int j = 0; j < 16; j++) p[j] = (int8_t)t[j];
}
INLINE __m256 exp8(__m256 x) {
    x = _mm256_max_ps(_mm256_min_ps(x, _mm256_set1_ps(88.0f)), _mm256_set1_ps(-87.3f));
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
    __m256 p = _mm256_set1_ps(1.9875691500e-4f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3981999507e-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3334519073e-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1665795894e-2f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666665459e-1f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.0000001201e-1f));
    p = _mm256_add_ps(_mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r), _mm256_set1_ps(1.0f));
    __m256i e = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(p, _mm256_castsi256_ps(e));
}
INLINE F f_exp(F x) { return f_make(exp8(x.a), exp8(x.b)); }

typedef struct { __m256i even[2], odd[2]; } W;
typedef I N;
INLINE W w_bytes(const uint8_t *p) {
    W r;
    for (int h = 0; h < 2; h++) {
        __m256i w = _mm256_loadu_si256((const __m256i *)(p + 32 * h));
        r.even[h] = _mm256_and_si256(w, _mm256_set1_epi16(255));
        r.odd[h] = _mm256_srli_epi16(w, 8);
    }
    return r;
}
INLINE I w_dot(I sum, W w, const int8_t *q, const int16_t *wide) {
    (void)q;
    int32_t two[2];
    memcpy(two, wide, 8);
    __m256i even = _mm256_set1_epi32(two[0]), odd = _mm256_set1_epi32(two[1]);
    sum.a = _mm256_add_epi32(sum.a, _mm256_madd_epi16(w.even[0], even));
    sum.b = _mm256_add_epi32(sum.b, _mm256_madd_epi16(w.even[1], even));
    sum.a = _mm256_add_epi32(sum.a, _mm256_madd_epi16(w.odd[0], odd));
    sum.b = _mm256_add_epi32(sum.b, _mm256_madd_epi16(w.odd[1], odd));
    return sum;
}
INLINE N w_nibbles(const uint8_t *p) { return i_load((const int32_t *)p); }
INLINE N w_low(N w) {
    __m256i m = _mm256_set1_epi8(15);
    return i_make(_mm256_and_si256(w.a, m), _mm256_and_si256(w.b, m));
}
INLINE N w_high(N w) { return w_low(i_make(_mm256_srli_epi16(w.a, 4), _mm256_srli_epi16(w.b, 4))); }
typedef I S;
INLINE S s_zero(void) { return i_set(0); }
INLINE S s_dot4(S sum, N w, const int8_t *q) {
    int32_t four;
    memcpy(&four, q, 4);
    __m256i x = _mm256_set1_epi32(four);
    return i_make(_mm256_add_epi16(sum.a, _mm256_maddubs_epi16(w.a, x)),
                  _mm256_add_epi16(sum.b, _mm256_maddubs_epi16(w.b, x)));
}
INLINE I s_wide(S sum) {
    __m256i one = _mm256_set1_epi16(1);
    return i_make(_mm256_madd_epi16(sum.a, one), _mm256_madd_epi16(sum.b, one));
}

#else /* plain C, which compilers turn into what the processor has */
#define ISA plain
#define WIDE 0

typedef struct { float v[16]; } F;
typedef struct { int32_t v[16]; } I;
typedef struct { uint8_t v[64]; } W;
typedef W N;
#define EACH for (int j = 0; j < 16; j++)

INLINE F f_load(const float *p) { F r; memcpy(r.v, p, 64); return r; }
INLINE void f_store(float *p, F x) { memcpy(p, x.v, 64); }
INLINE F f_set(float x) { F r; EACH r.v[j] = x; return r; }
INLINE F f_add(F a, F b) { EACH a.v[j] += b.v[j]; return a; }
INLINE F f_mul(F a, F b) { EACH a.v[j] *= b.v[j]; return a; }
INLINE F f_div(F a, F b) { EACH a.v[j] /= b.v[j]; return a; }
INLINE F f_min(F a, F b) { EACH a.v[j] = a.v[j] < b.v[j] ? a.v[j] : b.v[j]; return a; }
INLINE F f_max(F a, F b) { EACH a.v[j] = a.v[j] > b.v[j] ? a.v[j] : b.v[j]; return a; }
INLINE F f_fma(F a, F b, F c) { EACH c.v[j] += a.v[j] * b.v[j]; return c; }
INLINE F f_half(const uint16_t *p) { F r; EACH r.v[j] = from_half(p[j]); return r; }
INLINE F f_brain(const uint16_t *p) { F r; EACH r.v[j] = from_brain(p[j]); return r; }
INLINE void f_store_half(uint16_t *p, F x) { EACH p[j] = to_half(x.v[j]); }
INLINE F f_int(I x) { F r; EACH r.v[j] = (float)x.v[j]; return r; }
INLINE float f_sum(F x) { float s = 0; EACH s += x.v[j]; return s; }
INLINE float f_top(F x) { float s = x.v[0]; EACH s = s > x.v[j] ? s : x.v[j]; return s; }
INLINE F f_abs(F x) { EACH x.v[j] = fabsf(x.v[j]); return x; }
INLINE unsigned f_reaches(F x, float least) { unsigned m = 0; EACH m |= (unsigned)(x.v[j] >= least) << j; return m; }
INLINE I i_load(const int32_t *p) { I r; memcpy(r.v, p, 64); return r; }
INLINE void i_store(int32_t *p, I x) { memcpy(p, x.v, 64); }
INLINE I i_set(int32_t x) { I r; EACH r.v[j] = x; return r; }
INLINE I i_add(I a, I b) { EACH a.v[j] += b.v[j]; return a; }
INLINE int32_t i_sum(I x) { int32_t s = 0; EACH s += x.v[j]; return s; }
INLINE I i_round(F x) { I r; EACH r.v[j] = (int32_t)lrintf(x.v[j]); return r; }
INLINE void i_store_bytes(int8_t *p, I x) { EACH p[j] = (int8_t)x.v[j]; }
INLINE F f_exp(F x) { EACH x.v[j] = expf(x.v[j] < -87.3f ? -87.3f : x.v[j]); return x; }
INLINE W w_bytes(const uint8_t *p) { W r; memcpy(r.v, p, 64); return r; }
INLINE N w_nibbles(const uint8_t *p) { return w_bytes(p); }
INLINE N w_low(N w) { for (int j = 0; j < 64; j++) w.v[j] &= 15; return w; }
INLINE N w_high(N w) { for (int j = 0; j < 64; j++) w.v[j] >>= 4; return w; }
typedef I S;
INLINE S s_zero(void) { return i_set(0); }
INLINE I s_wide(S sum) { return sum; }
INLINE S s_dot4(S sum, N w, const int8_t *q) {
    EACH sum.v[j] += w.v[4 * j] * q[0] + w.v[4 * j + 1] * q[1] + w.v[4 * j + 2] * q[2] + w.v[4 * j + 3] * q[3];
    return sum;
}
INLINE I w_dot(I sum, W w, const int8_t *q, const int16_t *wide) { (void)wide; return s_dot4(sum, w, q); }
#endif

/* 32 numbers of 12 bits, as whole numbers: the upper bits in eight pieces of four bytes, `apart` bytes from each other,
 * the lower ones in 16 bytes, of which the low nibbles are those of the first 16 numbers. */
INLINE void f_fine(const uint8_t *high, int apart, const uint8_t *low, F *a, F *b) {
#ifdef __AVX2__
    const __m128i rest = _mm_loadu_si128((const __m128i *)low);
    *a = f_short(fine16(pieces(high, apart), rest));
    *b = f_short(fine16(pieces(high + 4 * apart, apart), _mm_srli_epi16(rest, 4)));
#else
    EACH {
        const int at = j / 4 * apart + j % 4;
        a->v[j] = (float)(high[at] * 16 + (low[j] & 15) - FINE_ZERO);
        b->v[j] = (float)(high[at + 4 * apart] * 16 + (low[j] >> 4) - FINE_ZERO);
    }
#endif
}

#define PASTE2(a, b) a##_##b
#define PASTE(a, b) PASTE2(a, b)
#define NAME(x) PASTE(x, ISA)

#endif
