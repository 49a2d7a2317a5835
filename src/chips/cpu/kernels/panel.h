#pragma once
#include "chips/cpu/kernels/product_rows.h"

// The panel product: weights are unpacked once into cache, then swept over many rows of x.
//
// The innermost tile holds 4 weight rows x tile_rows rows of x as vectors of lane sums along k: 12 (or 24) independent
// multiply-adds for 7 (10) loads. Lane sums are those of the vector product: same products, same order, same tree, so
// the same bits. Where K is cut, the vectors of sums themselves wait in memory, not their totals.

namespace busbar::cpu::BUSBAR_ISA {

constexpr int tile_rows = lanes == 16 ? 6 : lanes == 8 ? 3 : 2;
/// Weight rows unpacked together; K at most per cut, a multiple of every block; rows of x per pass.
/// Together they keep a cut of weights and the sums in half of a 512 KB second level cache, x streaming through.
constexpr int panel_rows = 32;
constexpr int64_t cut = 512;
constexpr int64_t pass_rows = 96;

/// Widths up to this are not cut.
constexpr int64_t whole = 1024;

BUSBAR_INLINE int64_t vectors(int64_t k) {
    return (k + lanes - 1) / lanes;
}

struct Tile {
    const float* w;  ///< vectors x 4 x lanes
    const float* x;  ///< first row, at the cut's beginning
    int64_t x_stride;
    int64_t full;      ///< whole vectors
    int part;          ///< elements in a last, partial one
    float* sums;       ///< tile_rows x 4 vectors; null if K is not cut
    bool first, last;  ///< cut
    float* y;
    int64_t y_stride;
    int outputs;  ///< of the four
};

template <int M>
BUSBAR_INLINE void multiply_tile(const Tile& t) {
    Floats sum[4 * M];
    unrolled<4 * M>([&](auto i) BUSBAR_INLINE_LAMBDA { sum[i] = t.first ? Floats{} : load(t.sums + i * lanes); });
    const float* w = t.w;
    const float* x[M];
    unrolled<M>([&](auto m) BUSBAR_INLINE_LAMBDA { x[m] = t.x + m * t.x_stride; });
    for (int64_t v = 0; v < t.full; ++v, w += 4 * lanes) {
        Floats row[M];
        unrolled<M>([&](auto m) BUSBAR_INLINE_LAMBDA { row[m] = load(x[m] + v * lanes); });
        unrolled<4>([&](auto n) BUSBAR_INLINE_LAMBDA {
            const Floats weight = load(w + n * lanes);
            unrolled<M>([&](auto m)
                            BUSBAR_INLINE_LAMBDA { sum[4 * m + n] = multiply_add(weight, row[m], sum[4 * m + n]); });
        });
    }
    if (t.part > 0)
        unrolled<M>([&](auto m) BUSBAR_INLINE_LAMBDA {
            const Floats row = load_part(x[m] + t.full * lanes, t.part);
            unrolled<4>([&](auto n) BUSBAR_INLINE_LAMBDA {
                sum[4 * m + n] = multiply_add(load(w + n * lanes), row, sum[4 * m + n]);
            });
        });
    if (!t.last) {
        unrolled<4 * M>([&](auto i) BUSBAR_INLINE_LAMBDA { store(t.sums + i * lanes, sum[i]); });
        return;
    }
    unrolled<M>([&](auto m) BUSBAR_INLINE_LAMBDA {
        const Floats4 four = sum_lanes(sum[4 * m], sum[4 * m + 1], sum[4 * m + 2], sum[4 * m + 3]);
        if (t.outputs == 4)
            memcpy(t.y + m * t.y_stride, &four, sizeof four);
        else
            for (int n = 0; n < t.outputs; ++n) t.y[m * t.y_stride + n] = four[n];
    });
}

template <int M>
void sweep_tile(const Tile& t, int rows) {
    if constexpr (M > 0) {
        if (rows == M) return multiply_tile<M>(t);
        sweep_tile<M - 1>(t, rows);
    }
}

/// Rows m_begin .. m_end with outputs n .. n + 4 over one cut.
inline void sweep_rows(const Product& p, Tile t, int64_t n, int64_t m_begin, int64_t m_end, int64_t k_begin) {
    for (int64_t m = m_begin; m < m_end; m += tile_rows) {
        const int rows = m_end - m < tile_rows ? m_end - m : tile_rows;
        t.x = p.x + m * p.x_stride + k_begin;
        t.y = p.y + m * p.y_stride + n;
        sweep_tile<tile_rows>(t, rows);
        t.sums += 4 * tile_rows * lanes;
    }
}

constexpr size_t panel_floats = panel_rows * (whole > cut ? whole : cut);
constexpr size_t sum_floats = (size_t)panel_rows * (pass_rows + tile_rows) * lanes;

/// `group` weight rows (a multiple of 4, at most panel_rows) are unpacked at a time.
inline void multiply_panels(const Product& p, int group) {
    const Format& format = format_of(*p.encoding);
    const int64_t length = p.width <= whole ? p.width : cut;
    float* const panel = p.scratch;
    float* const sums = panel + panel_floats;
    const int64_t sums_per_four = 4 * lanes * ((pass_rows + tile_rows - 1) / tile_rows * tile_rows);
    for (int64_t n_first = p.n_begin; n_first < p.n_end; n_first += group) {
        const int64_t n_last = n_first + group < p.n_end ? n_first + group : p.n_end;
        for (int64_t m_begin = 0; m_begin < p.rows; m_begin += pass_rows) {
            const int64_t m_end = m_begin + pass_rows < p.rows ? m_begin + pass_rows : p.rows;
            // A width of zero is an empty sum, not no output.
            for (int64_t k = 0; k == 0 || k < p.width; k += length) {
                const int64_t k_end = k + length < p.width ? k + length : p.width;
                const int64_t panel_step = 4 * lanes * vectors(k_end - k);
                const bool unpacked = m_begin > 0 && length >= p.width;
                Tile t = {};
                t.x_stride = p.x_stride, t.y_stride = p.y_stride;
                t.full = (k_end - k) / lanes, t.part = (k_end - k) % lanes;
                t.first = k == 0, t.last = k_end == p.width;
                for (int64_t n = n_first, i = 0; n < n_last; n += 4, ++i) {
                    float* const w = panel + i * panel_step;
                    t.outputs = n_last - n < 4 ? n_last - n : 4;
                    if (!unpacked) {
                        // Missing rows of the last four: zeros, so that what is thrown away is at least quickly made.
                        if (t.outputs < 4) memset(w, 0, sizeof(float) * panel_step);
                        format.unpack_four(weight_row(p, n), p.row_bytes, t.outputs, k, k_end, w);
                    }
                    t.w = w, t.sums = sums + i * sums_per_four;
                    sweep_rows(p, t, n, m_begin, m_end, k);
                }
                if (length == 0) break;
            }
        }
    }
}

}  // namespace busbar::cpu::BUSBAR_ISA
