// The splatting kernels once more, by hand in AVX-512: what a compiled extension would buy.
//
// Written from the definition in src/roundview/splat/render.py; one camera, colour without
// directions, one thread. `splat_cpu.py` compiles it, checks it and times it beside numba. Because
// there are no threads, gradients are added straight to the ellipse's line, without slots.
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

typedef __m512 V;
typedef __mmask16 M;

static inline V all(float x) { return _mm512_set1_ps(x); }
static inline V get(const float* p) { return _mm512_loadu_ps(p); }
static inline void put(float* p, V v) { _mm512_storeu_ps(p, v); }
static inline V pick(M m, V yes, V no) { return _mm512_mask_blend_ps(m, no, yes); }
static inline V least(V a, V b) { return _mm512_min_ps(a, b); }
static inline V most(V a, V b) { return _mm512_max_ps(a, b); }
static inline V root(V a) { return _mm512_sqrt_ps(a); }
static inline M ge(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
static inline M gt(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
static inline M le(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
static inline M lt(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }

static const float BLUR = 0.3f, NEAR = 0.01f, MARGIN = 1.3f, ALPHA_MAX = 0.99f;
static const float ALPHA_MIN = 1.0f / 255, T_MIN = 1e-4f, SLACK = 1e-3f;
enum { MX, MY, SHEAR, SX, SY, OP, RED, GREEN, BLUE, DEPTH, REACH_X, REACH_Y, POWER };

static V exponential(V x) {
    V n = _mm512_roundscale_ps(x * all(1.44269504f), 8);
    V r = _mm512_fnmadd_ps(n, all(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, all(-2.12194440e-4f), r);
    V p = all(1.f / 720);
    p = p * r + all(1.f / 120);
    p = p * r + all(1.f / 24);
    p = p * r + all(1.f / 6);
    p = p * r + all(0.5f);
    p = p * r + all(1);
    p = p * r + all(1);
    return _mm512_scalef_ps(p, n);
}

static V logarithm(V x) {
    V n = _mm512_getexp_ps(x), m = _mm512_getmant_ps(x, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_zero);
    M big = gt(m, all(1.41421356f));
    m = pick(big, m * all(0.5f), m);
    n = pick(big, n + all(1), n);
    V t = (m - all(1)) / (m + all(1)), u = t * t;
    V p = all(2.f / 9) * u + all(2.f / 7);
    p = p * u + all(2.f / 5);
    p = p * u + all(2.f / 3);
    p = p * u + all(2);
    return p * t + n * all(0.693147181f);
}

// exp(-s) on 0 <= s <= 6, beyond which nothing is opaque enough to be seen.
static inline V exp_minus(V s) {
    V u = least(s, all(6)) * all(0.125f);
    V e = all(-0.00569394f) * u + all(0.03951277f);
    e = e * u + all(-0.16581965f);
    e = e * u + all(0.49984518f);
    e = e * u + all(-0.99998935f);
    e = e * u + all(0.99999988f);
    e = e * e;
    e = e * e;
    return e * e;
}

static void transpose(V r[16]) {
    V t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        for (int k = 0; k < 2; k++) {
            __m512d a = _mm512_castps_pd(t[i + k]), b = _mm512_castps_pd(t[i + k + 2]);
            r[i + 2 * k] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
            r[i + 2 * k + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
        }
    }
    for (int i = 0; i < 16; i += 8) {
        for (int k = 0; k < 4; k++) {
            t[i + k] = _mm512_shuffle_f32x4(r[i + k], r[i + k + 4], 0x88);
            t[i + k + 4] = _mm512_shuffle_f32x4(r[i + k], r[i + k + 4], 0xdd);
        }
    }
    for (int k = 0; k < 8; k++) {
        r[k] = _mm512_shuffle_f32x4(t[k], t[k + 8], 0x88);
        r[k + 8] = _mm512_shuffle_f32x4(t[k], t[k + 8], 0xdd);
    }
}

struct Scene {
    int64_t g, h, w;
    const float *centre, *log_scale, *quat, *logit, *sh, *cam, *background;
};

static std::vector<float> records, light, lines;
static std::vector<uint32_t> order, listed, pairs, keys, other_order, other_keys;
static std::vector<int64_t> bounds, cursors;
static int64_t seen;

struct Ellipse {
    V x, y, z, scale[3], turn[9], w, i, j, k, length, opacity, power;
    V across[3], down[3], ax[3], ay[3], xx, xy, yy, det, slope_x, slope_y;
    M free_x, free_y;
};

static inline void look_at(const Scene& s, int64_t first, Ellipse& e) {
    __m512i at = _mm512_add_epi32(_mm512_set1_epi32((int)first),
                                  _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0));
    at = _mm512_min_epi32(at, _mm512_set1_epi32((int)s.g - 1));
    __m512i three = _mm512_mullo_epi32(at, _mm512_set1_epi32(3)), four = _mm512_slli_epi32(at, 2);
    V c[3];
    for (int k = 0; k < 3; k++) {
        c[k] = _mm512_i32gather_ps(three, s.centre + k, 4);
        e.scale[k] = exponential(_mm512_i32gather_ps(three, s.log_scale + k, 4));
    }
    V q[4];
    for (int k = 0; k < 4; k++) q[k] = _mm512_i32gather_ps(four, s.quat + k, 4);
    e.opacity = all(1) / (all(1) + exponential(-_mm512_i32gather_ps(at, s.logit, 4)));
    e.power = logarithm(e.opacity * all(255));
    const float* m = s.cam;
    e.x = all(m[0]) * c[0] + all(m[1]) * c[1] + all(m[2]) * c[2] + all(m[9]);
    e.y = all(m[3]) * c[0] + all(m[4]) * c[1] + all(m[5]) * c[2] + all(m[10]);
    e.z = all(m[6]) * c[0] + all(m[7]) * c[1] + all(m[8]) * c[2] + all(m[11]);
    e.length = most(root(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3]), all(1e-12f));
    V inverse = all(1) / e.length;
    V w = q[0] * inverse, x = q[1] * inverse, y = q[2] * inverse, z = q[3] * inverse;
    e.w = w, e.i = x, e.j = y, e.k = z;
    V two = all(2), one = all(1);
    e.turn[0] = one - two * (y * y + z * z), e.turn[1] = two * (x * y - w * z);
    e.turn[2] = two * (x * z + w * y), e.turn[3] = two * (x * y + w * z);
    e.turn[4] = one - two * (x * x + z * z), e.turn[5] = two * (y * z - w * x);
    e.turn[6] = two * (x * z - w * y), e.turn[7] = two * (y * z + w * x);
    e.turn[8] = one - two * (x * x + y * y);
}

static inline void flatten(const Scene& s, Ellipse& e) {
    const float* m = s.cam;
    V limit_x = all(MARGIN * 0.5f * s.w / m[15]), limit_y = all(MARGIN * 0.5f * s.h / m[15]);
    V inverse = all(1) / e.z, zoom = all(m[15]) * inverse;
    e.slope_x = least(most(e.x * inverse, -limit_x), limit_x);
    e.slope_y = least(most(e.y * inverse, -limit_y), limit_y);
    e.free_x = lt(_mm512_abs_ps(e.slope_x), limit_x), e.free_y = lt(_mm512_abs_ps(e.slope_y), limit_y);
    for (int k = 0; k < 3; k++) {
        e.across[k] = zoom * (all(m[k]) - e.slope_x * all(m[6 + k]));
        e.down[k] = zoom * (all(m[3 + k]) - e.slope_y * all(m[6 + k]));
    }
    V hx[3], hy[3];
    for (int k = 0; k < 3; k++) {
        e.ax[k] = e.across[0] * e.turn[k] + e.across[1] * e.turn[3 + k] + e.across[2] * e.turn[6 + k];
        e.ay[k] = e.down[0] * e.turn[k] + e.down[1] * e.turn[3 + k] + e.down[2] * e.turn[6 + k];
        hx[k] = e.ax[k] * e.scale[k], hy[k] = e.ay[k] * e.scale[k];
    }
    V xx = hx[0] * hx[0] + hx[1] * hx[1] + hx[2] * hx[2];
    V yy = hy[0] * hy[0] + hy[1] * hy[1] + hy[2] * hy[2];
    e.xy = hx[0] * hy[0] + hx[1] * hy[1] + hx[2] * hy[2];
    V a = hx[1] * hy[2] - hx[2] * hy[1], b = hx[2] * hy[0] - hx[0] * hy[2];
    V c = hx[0] * hy[1] - hx[1] * hy[0];
    e.det = a * a + b * b + c * c + all(BLUR) * (xx + yy) + all(BLUR * BLUR);
    e.xx = xx + all(BLUR), e.yy = yy + all(BLUR);
}

static void project(const Scene& s) {
    V zero = all(0), half = all(0.5f), width = all((float)s.w), height = all((float)s.h);
    V focal = all(s.cam[15]), infinite = all(INFINITY);
    for (int64_t first = 0; first < s.g; first += 16) {
        Ellipse e;
        look_at(s, first, e);
        flatten(s, e);
        V r[16], inverse = all(1) / e.z;
        r[MX] = focal * e.x * inverse + half * width, r[MY] = focal * e.y * inverse + half * height;
        V power = most(e.power, zero);
        r[REACH_X] = root(all(2) * power * e.xx), r[REACH_Y] = root(all(2) * power * e.yy);
        M in = gt(r[MX] + r[REACH_X], zero) & lt(r[MX] - r[REACH_X], width);
        in &= gt(r[MY] + r[REACH_Y], zero) & lt(r[MY] - r[REACH_Y], height);
        in &= gt(e.z, all(NEAR)) & ge(e.power, zero) & lt(e.det, infinite);
        r[SHEAR] = e.xy / e.yy, r[SX] = root(half * e.yy / e.det), r[SY] = root(half / e.yy);
        r[OP] = e.opacity, r[DEPTH] = pick(in, e.z, infinite), r[POWER] = e.power;
        r[RED] = r[GREEN] = r[BLUE] = r[13] = r[14] = r[15] = zero;
        transpose(r);
        int count = (int)std::min<int64_t>(16, s.g - first);
        for (int i = 0; i < count; i++) {
            float* line = &records[(first + i) * 16];
            put(line, r[i]);
            for (int k = 0; k < 3; k++)
                line[RED + k] = std::max(0.5f + 0.28209479177f * s.sh[(first + i) * 3 + k], 0.f);
        }
    }
}

static void sort_by_depth(int64_t g) {
    uint32_t low = 0x7f800000, high = 0;
    seen = 0;
    for (int64_t i = 0; i < g; i++) {
        uint32_t key;
        memcpy(&key, &records[i * 16 + DEPTH], 4);
        keys[seen] = key, order[seen] = (uint32_t)i;
        bool in = key < 0x7f800000;
        seen += in;
        low = in ? std::min(low, key) : low, high = in ? std::max(high, key) : high;
    }
    for (int shift = 0; seen && ((uint64_t)(high - low) >> shift) > 0; shift += 11) {
        uint32_t starts[2048] = {0}, before = 0;
        for (int64_t j = 0; j < seen; j++) starts[((keys[j] - low) >> shift) & 2047]++;
        for (auto& start : starts) {
            uint32_t count = start;
            start = before, before += count;
        }
        for (int64_t j = 0; j < seen; j++) {
            uint32_t at = starts[((keys[j] - low) >> shift) & 2047]++;
            other_order[at] = order[j], other_keys[at] = keys[j];
        }
        order.swap(other_order), keys.swap(other_keys);
    }
}

static void list_tiles(const Scene& s) {
    int64_t across = (s.w + 7) / 8, tiles = across * ((s.h + 7) / 8), count = 0;
    cursors.assign(tiles, 0), bounds.resize(tiles + 1);
    // Even rows in the lower half, odd ones in the upper: the halves make bands.
    const V rows = _mm512_set_ps(15, 13, 11, 9, 7, 5, 3, 1, 14, 12, 10, 8, 6, 4, 2, 0);
    for (int64_t j = 0; j < seen; j++) {
        const float* r = &records[order[j] * 16ll];
        float h = (float)s.h, w = (float)s.w;
        int top = (int)std::max(r[MY] - r[REACH_Y], 0.f) / 8;
        int bottom = ((int)std::ceil(std::min(r[MY] + r[REACH_Y], h)) + 7) / 8;
        int left = (int)std::max(r[MX] - r[REACH_X], 0.f) / 8;
        int right = ((int)std::ceil(std::min(r[MX] + r[REACH_X], w)) + 7) / 8;
        if ((int64_t)pairs.size() < count + 2 + 2ll * (bottom - top + 2) * (right - left))
            pairs.resize(2 * pairs.size() + 2ll * (bottom - top + 2) * (right - left) + 4096);
        for (int row = top; row < bottom; row += 2) {
            V y = rows + all(row * 8 + 0.5f), dy = y - all(r[MY]), q = dy * all(r[SY]);
            V over = all(r[POWER] + SLACK) - q * q;
            M in = ge(over, all(0)) & lt(y, all(h));
            V half = root(most(over, all(0))) * all(1 / r[SX]);
            V middle = all(r[MX] - 0.5f) + all(r[SHEAR]) * dy;
            V low = pick(in, middle - half, all(1e9f)), high = pick(in, middle + half, all(-1e9f));
            __m256 l = _mm256_min_ps(_mm512_castps512_ps256(low), _mm512_extractf32x8_ps(low, 1));
            __m256 u = _mm256_max_ps(_mm512_castps512_ps256(high), _mm512_extractf32x8_ps(high, 1));
            for (int column = left; column < right; column++) {
                uint32_t bits = _mm256_cmp_ps_mask(l, _mm256_set1_ps(column * 8 + 7.f), _CMP_LE_OQ) &
                                _mm256_cmp_ps_mask(u, _mm256_set1_ps(column * 8.f), _CMP_GE_OQ);
                for (int k = 0; k < 2 && row + k < bottom; k++, bits >>= 4) {
                    int64_t tile = (row + k) * across + column;
                    uint32_t m = bits & 15;
                    uint32_t first = __builtin_ctz(m | 16) & 3, last = 32 - __builtin_clz(m | 1);
                    pairs[count] = (uint32_t)tile;
                    pairs[count + 1] = order[j] << 6 | last << 2 | first;
                    cursors[tile] += m > 0;
                    count += m > 0 ? 2 : 0;
                }
            }
        }
    }
    int64_t before = 0;
    for (int64_t t = 0; t < tiles; t++) {
        bounds[t] = before;
        before += cursors[t];
        cursors[t] = bounds[t];
    }
    bounds[tiles] = before;
    if ((int64_t)listed.size() < before) listed.resize(before + before / 4);
    for (int64_t p = 0; p < count; p += 2) listed[cursors[pairs[p]]++] = pairs[p + 1];
}

struct Shape {
    V x, y, shear, sx, sy, opacity;
};
static const V COLUMNS = _mm512_set_ps(7, 6, 5, 4, 3, 2, 1, 0, 7, 6, 5, 4, 3, 2, 1, 0);
static const V ROWS = _mm512_set_ps(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);

static inline Shape shape_of(const float* r, float left, float top) {
    return {all(left + 0.5f - r[MX]) + COLUMNS, all(top + 0.5f - r[MY]) + ROWS, all(r[SHEAR]),
            all(r[SX]), all(r[SY]), all(r[OP])};
}

static inline V alpha_at(const Shape& s, int band, V& raw, V& p, V& q) {
    V dy = s.y + all(2.f * band);
    p = (s.x - s.shear * dy) * s.sx, q = dy * s.sy;
    raw = s.opacity * exp_minus(p * p + q * q);
    V a = least(raw, all(ALPHA_MAX));
    return _mm512_maskz_mov_ps(ge(a, all(ALPHA_MIN)), a);
}

static inline bool any_light(const float* t) {
    V zero = all(0);
    return gt(get(t), zero) | gt(get(t + 16), zero) | gt(get(t + 32), zero) | gt(get(t + 48), zero);
}

static void start_tile(float* t, int64_t h, int64_t w, int planes) {
    memset(t, 0, planes * 256);
    for (int r = 0; r < 8; r++)
        for (int c = 0; c < 8; c++) t[r * 8 + c] = r < h && c < w ? 1.f : -1.f;
}

extern "C" void splat_forward(const Scene* scene, float* rgb, float* alpha, float* depth) {
    const Scene& s = *scene;
    records.resize((s.g + 16) * 16);
    order.resize(s.g + 1), keys.resize(s.g + 1), other_order.resize(s.g + 1), other_keys.resize(s.g + 1);
    project(s);
    sort_by_depth(s.g);
    list_tiles(s);
    int64_t across = (s.w + 7) / 8, tiles = (int64_t)bounds.size() - 1;
    light.resize(tiles * 6 * 64);
    for (int64_t tile = 0; tile < tiles; tile++) {
        int64_t top = tile / across * 8, left = tile % across * 8;
        int64_t rows = std::min<int64_t>(8, s.h - top), columns = std::min<int64_t>(8, s.w - left);
        float* t = &light[tile * 6 * 64];
        start_tile(t, rows, columns, 6);
        for (int64_t at = bounds[tile]; at < bounds[tile + 1]; at++) {
            uint32_t bits = listed[at];
            const float* r = &records[(bits >> 6) * 16ll];
            Shape shape = shape_of(r, left, top);
            V red = all(r[RED]), green = all(r[GREEN]), blue = all(r[BLUE]), z = all(r[DEPTH]);
            for (int band = bits & 3, last = bits >> 2 & 15; band < last; band++) {
                float* here = t + band * 16;
                V raw, p, q, a = alpha_at(shape, band, raw, p, q);
                V before = get(here), took = a * before, after = before - took;
                M live = ge(after, all(T_MIN));
                V share = _mm512_maskz_mov_ps(live, took);
                put(here, pick(live, after, -_mm512_abs_ps(before)));
                put(here + 64, get(here + 64) + share * red);
                put(here + 128, get(here + 128) + share * green);
                put(here + 192, get(here + 192) + share * blue);
                put(here + 256, get(here + 256) + share * z);
                put(here + 320, get(here + 320) + share);
            }
            if ((at & 7) == 7 && !any_light(t)) break;
        }
        for (int y = 0; y < rows; y++)
            for (int x = 0; x < columns; x++) {
                int64_t to = (top + y) * s.w + left + x;
                const float* l = t + y * 8 + x;
                for (int k = 0; k < 3; k++)
                    rgb[3 * to + k] = l[64 + 64 * k] + (1 - l[320]) * s.background[k];
                alpha[to] = l[320];
                depth[to] = l[320] > 0 ? l[256] / l[320] : 0;
            }
    }
}

static const __m512i EVENS =
    _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
static const __m512i ODDS =
    _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
static inline V sums(V a, V b) {
    return _mm512_permutex2var_ps(a, EVENS, b) + _mm512_permutex2var_ps(a, ODDS, b);
}

static void tile_backward(const Scene& s, int64_t tile, const float* d_rgb, const float* d_alpha,
                          const float* d_depth) {
    int64_t across = (s.w + 7) / 8, top = tile / across * 8, left = tile % across * 8;
    int64_t rows = std::min<int64_t>(8, s.h - top), columns = std::min<int64_t>(8, s.w - left);
    const float* t = &light[tile * 6 * 64];
    alignas(64) float state[7 * 64];
    start_tile(state, rows, columns, 7);
    for (int y = 0; y < rows; y++)
        for (int x = 0; x < columns; x++) {
            int64_t from = (top + y) * s.w + left + x;
            int i = y * 8 + x;
            float alpha = t[i + 320], gain = d_alpha[from], coming = 0;
            for (int k = 0; k < 3; k++) {
                float d = d_rgb[3 * from + k];
                gain -= d * s.background[k], state[i + 128 + 64 * k] = d;
                coming += d * t[i + 64 + 64 * k];
            }
            if (alpha > 0) {
                float of_sum = d_depth[from] / alpha;
                state[i + 320] = of_sum;
                gain -= of_sum * t[i + 256] / alpha, coming += of_sum * t[i + 256];
            }
            state[i + 384] = gain, state[i + 64] = coming + gain * alpha;
        }
    V zero = all(0), one = all(1);
    for (int64_t at = bounds[tile]; at < bounds[tile + 1]; at++) {
        uint32_t bits = listed[at];
        const float* r = &records[(bits >> 6) * 16ll];
        Shape shape = shape_of(r, left, top);
        V red = all(r[RED]), green = all(r[GREEN]), blue = all(r[BLUE]), z = all(r[DEPTH]);
        V m = zero, mp = zero, mq = zero, mpp = zero, mpq = zero, mqq = zero;
        V mr = zero, mg = zero, mb = zero, mz = zero;
        for (int band = bits & 3, last = bits >> 2 & 15; band < last; band++) {
            float* here = state + band * 16;
            V raw, p, q, a = alpha_at(shape, band, raw, p, q);
            V before = get(here), took = a * before, after = before - took;
            M live = ge(after, all(T_MIN));
            V share = _mm512_maskz_mov_ps(live, took);
            put(here, pick(live, after, -_mm512_abs_ps(before)));
            V dr = get(here + 128), dg = get(here + 192), db = get(here + 256), dz = get(here + 320);
            V gain = dr * red + dg * green + db * blue + dz * z + get(here + 384);
            V own = share * gain, coming = get(here + 64) - own;
            put(here + 64, coming);
            V d = a * coming / (one - a) - own;
            d = _mm512_maskz_mov_ps(live & le(raw, all(ALPHA_MAX)), d);
            V dp = d * p, dq = d * q;
            m += d, mp += dp, mq += dq, mpp += dp * p, mpq += dp * q, mqq += dq * q;
            mr += share * dr, mg += share * dg, mb += share * db, mz += share * dz;
        }
        V eight = sums(sums(sums(m, mp), sums(mq, mpp)), sums(sums(mpq, mqq), sums(mr, mg)));
        float* line = &lines[(bits >> 6) * 16ll];
        put(line, get(line) + sums(eight, sums(sums(sums(mb, mz), zero), zero)));
        if ((at & 7) == 7 && !any_light(state)) break;
    }
}

extern "C" void splat_backward(const Scene* scene, const float* d_rgb, const float* d_alpha,
                               const float* d_depth, float* d_centre, float* d_log_scale,
                               float* d_quat, float* d_logit, float* d_sh) {
    const Scene& s = *scene;
    lines.assign((s.g + 16) * 16, 0.f);
    for (int64_t tile = 0; tile + 1 < (int64_t)bounds.size(); tile++)
        tile_backward(s, tile, d_rgb, d_alpha, d_depth);
    const float* c = s.cam;
    V two = all(2), half = all(0.5f);
    for (int64_t first = 0; first < s.g; first += 16) {
        V r[16];
        for (int i = 0; i < 16; i++) r[i] = get(&lines[(first + i) * 16]);
        transpose(r);
        Ellipse e;
        look_at(s, first, e);
        alignas(64) float depth[16];
        for (int i = 0; i < 16; i++) depth[i] = records[(first + i) * 16 + DEPTH];
        M in = lt(get(depth), all(INFINITY));
        e.z = pick(in, e.z, all(1));
        flatten(s, e);
        V v = e.det / e.yy, shear = e.xy / e.yy, sx = root(half / v), sy = root(half / e.yy);
        V d_shear = -two * root(e.yy / v) * r[4], d_xx = -r[3] / v;
        V d_xy = d_shear / e.yy - two * shear * d_xx;
        V d_yy = shear * shear * d_xx - (r[5] + d_shear * shear) / e.yy;
        V d_mx = -two * sx * r[1], d_my = two * (sx * shear * r[1] - sy * r[2]);
        V x[3], y[3], lean[3], out[14];
        for (int k = 0; k < 3; k++) {
            x[k] = two * d_xx * e.ax[k] + d_xy * e.ay[k], y[k] = d_xy * e.ax[k] + two * d_yy * e.ay[k];
        }
        for (int k = 0; k < 3; k++)
            lean[k] = x[(k + 1) % 3] * e.ax[k] + y[(k + 1) % 3] * e.ay[k];
        for (int k = 0; k < 3; k++) {
            V square = e.scale[k] * e.scale[k];
            x[k] = x[k] * square, y[k] = y[k] * square;
            out[3 + k] = x[k] * e.ax[k] + y[k] * e.ay[k];
        }
        V da[3], dd[3];
        for (int k = 0; k < 3; k++) {
            da[k] = e.turn[3 * k] * x[0] + e.turn[3 * k + 1] * x[1] + e.turn[3 * k + 2] * x[2];
            dd[k] = e.turn[3 * k] * y[0] + e.turn[3 * k + 1] * y[1] + e.turn[3 * k + 2] * y[2];
        }
        V inverse = all(1) / e.z, zoom = all(c[15]) * inverse;
        V ahead_x = da[0] * all(c[6]) + da[1] * all(c[7]) + da[2] * all(c[8]);
        V ahead_y = dd[0] * all(c[6]) + dd[1] * all(c[7]) + dd[2] * all(c[8]);
        V dx = d_mx * zoom - _mm512_maskz_mov_ps(e.free_x, zoom * ahead_x) * inverse;
        V dy = d_my * zoom - _mm512_maskz_mov_ps(e.free_y, zoom * ahead_y) * inverse;
        V dz = da[0] * e.across[0] + da[1] * e.across[1] + da[2] * e.across[2];
        dz += dd[0] * e.down[0] + dd[1] * e.down[1] + dd[2] * e.down[2];
        dz = r[9] - (dx * e.x + dy * e.y + dz) * inverse;
        for (int k = 0; k < 3; k++) out[k] = dx * all(c[k]) + dy * all(c[3 + k]) + dz * all(c[6 + k]);
        V s0 = e.scale[0], s1 = e.scale[1], s2 = e.scale[2];
        V p = (s1 - s2) * (s1 + s2) * lean[1], q = (s2 - s0) * (s2 + s0) * lean[2];
        V o = (s0 - s1) * (s0 + s1) * lean[0], factor = two / e.length;
        out[6] = factor * (-p * e.i - q * e.j - o * e.k);
        out[7] = factor * (p * e.w - q * e.k + o * e.j);
        out[8] = factor * (p * e.k + q * e.w - o * e.i);
        out[9] = factor * (-p * e.j + q * e.i + o * e.w);
        out[10] = (e.opacity - all(1)) * r[0];
        alignas(64) float plane[14][16];
        for (int k = 0; k < 11; k++) put(plane[k], _mm512_maskz_mov_ps(in, out[k]));
        for (int k = 0; k < 3; k++) put(plane[11 + k], _mm512_maskz_mov_ps(in, r[6 + k]));
        int count = (int)std::min<int64_t>(16, s.g - first);
        for (int i = 0; i < count; i++) {
            int64_t at = first + i;
            for (int k = 0; k < 3; k++) {
                d_centre[3 * at + k] = plane[k][i], d_log_scale[3 * at + k] = plane[3 + k][i];
                bool free = 0.5f + 0.28209479177f * s.sh[3 * at + k] >= 0;
                d_sh[3 * at + k] = free ? 0.28209479177f * plane[11 + k][i] : 0.f;
            }
            for (int k = 0; k < 4; k++) d_quat[4 * at + k] = plane[6 + k][i];
            d_logit[at] = plane[10][i];
        }
    }
}
