#pragma once
#include "chips/cpu/kernels/product_rows.h"

// The panel product: weights are unpacked once into cache, then swept over many rows of x.
//
// The innermost tile holds 4 weight rows x tile_rows rows of x as vectors of lane sums along k: 12 (or 24) independent
// multiply-adds for 7 (10) loads. Lane sums are those of the vector product: same products, same order, same tree, so
// the same bits. Where K is cut, the vectors of sums themselves wait in memory, not their totals.
//
// Rows of x are copied side by side as well before they are swept: widths are mostly multiples of 1024, so rows lie 4
// KB apart or a multiple of it, and then all of them compete for the same few lines of the first level cache.

namespace busbar::cpu::BUSBAR_ISA {

constexpr int tile_rows = lanes == 16 ? 6 : lanes == 8 ? 3 : 2;

/// Weight rows unpacked together: half of a 512 KB second level cache. A tile's rows of x stay in the first level while
/// the weights stream by. (Measured on Zen 3: 48 or 64 rows alike, two tiles' rows of x 3 % slower, rows of x where
/// they lie 10 % slower at K = 3072.)
constexpr int panel_rows = 64;
/// K is cut where it is longer than `whole`. The sums of `pass_rows` rows of x then wait beside the weights.
constexpr int64_t whole = 1024, cut = 512, pass_rows = 96;
static_assert(pass_rows % tile_rows == 0 && whole % 256 == 0 && cut % 256 == 0);

struct Tile {
    const float* w;  ///< [vectors][4][lanes]
    const float* x;  ///< [vectors][rows of the tile][lanes]
    int64_t vectors;
    float* sums;       ///< 4 x rows vectors; unused if K is not cut
    bool first, last;  ///< cut
    float* y;
    int64_t y_stride;
    int outputs;  ///< of the four
};

template <int M>
BUSBAR_INLINE void multiply_tile(const Tile& t) {
    Floats sum[4 * M];
    unrolled<4 * M>([&](auto i) BUSBAR_INLINE_LAMBDA { sum[i] = t.first ? Floats{} : load(t.sums + i * lanes); });
    const float *w = t.w, *x = t.x;
    for (int64_t v = t.vectors; v > 0; --v, w += 4 * lanes, x += M * lanes) {
        Floats row[M];
        unrolled<M>([&](auto m) BUSBAR_INLINE_LAMBDA { row[m] = load(x + m * lanes); });
        unrolled<4>([&](auto n) BUSBAR_INLINE_LAMBDA {
            const Floats weight = load(w + n * lanes);
            unrolled<M>([&](auto m)
                            BUSBAR_INLINE_LAMBDA { sum[4 * m + n] = multiply_add(weight, row[m], sum[4 * m + n]); });
        });
    }
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

/// A tile of 1 .. M rows of x.
template <int M>
void multiply_tile_of(const Tile& t, int rows) {
    if constexpr (M > 0) {
        if (rows == M) return multiply_tile<M>(t);
        multiply_tile_of<M - 1>(t, rows);
    }
}

/// Copies rows of x side by side, vector by vector, the last one filled up with zeros.
template <int M>
void pack_rows(const float* x, int64_t x_stride, int rows, int64_t width, float* out) {
    if constexpr (M > 0) {
        if (rows != M) return pack_rows<M - 1>(x, x_stride, rows, width, out);
        int64_t k = 0;
        for (; k + lanes <= width; k += lanes)
            unrolled<M>([&](auto m) BUSBAR_INLINE_LAMBDA {
                store(out, load(x + m * x_stride + k));
                out += lanes;
            });
        if (k < width)
            unrolled<M>([&](auto m) BUSBAR_INLINE_LAMBDA {
                store(out, load_part(x + m * x_stride + k, width - k));
                out += lanes;
            });
    }
}

constexpr int64_t longest_cut = whole > cut ? whole : cut;
constexpr size_t panel_floats = panel_rows * longest_cut;
constexpr size_t block_floats = tile_rows * longest_cut;
constexpr size_t sum_floats = (size_t)panel_rows * pass_rows * lanes;

/// One cut of K and one panel of weights, as unpacked: outputs n_begin .. n_end.
struct Panel {
    int64_t n_begin, n_end, k_begin, k_end;
    const float* weights;
    float* block;  ///< for rows of x
    float* sums;
    int64_t vectors() const { return (k_end - k_begin + lanes - 1) / lanes; }
};

/// Asks for a sixteenth of the next tile's rows of x. Only where K is cut: runs of 2 KB are too short for the processor
/// to see that they will be read, and there is room for a second tile in the first level cache. (Zen 3, A B B A: 2 %
/// faster at K = 3072; where K is whole it costs 4 % at 1024 and 2 % at 576.)
BUSBAR_INLINE void prefetch_share(const Product& p, const Panel& panel, int64_t m, int rows, int64_t group) {
    constexpr int64_t line = 16, share = cut / (panel_rows / 4);
    for (int r = 0; r < rows; ++r) {
        const uintptr_t at = (uintptr_t)(p.x + (m + r) * p.x_stride + panel.k_begin + group * share);
        unrolled<share / line>([&](auto i) BUSBAR_INLINE_LAMBDA { prefetch(at + 4 * line * i); });
    }
}

/// Sweeps rows m_begin .. m_end of x over a panel.
inline void sweep(const Product& p, const Panel& panel, int64_t m_begin, int64_t m_end) {
    Tile t;
    t.x = panel.block, t.vectors = panel.vectors(), t.y_stride = p.y_stride, t.sums = panel.sums;
    t.first = panel.k_begin == 0, t.last = panel.k_end == p.width;
    for (int64_t m = m_begin; m < m_end; m += tile_rows) {
        const int rows = m_end - m < tile_rows ? m_end - m : tile_rows;
        pack_rows<tile_rows>(p.x + m * p.x_stride + panel.k_begin, p.x_stride, rows, panel.k_end - panel.k_begin,
                             panel.block);
        t.w = panel.weights, t.y = p.y + m * p.y_stride + panel.n_begin;
        const int64_t left = p.width > whole ? m_end - m - rows : 0;
        const int next_rows = left < tile_rows ? left : tile_rows;
        for (int64_t n = panel.n_begin, group = 0; n < panel.n_end; n += 4, ++group, t.y += 4) {
            t.outputs = panel.n_end - n < 4 ? panel.n_end - n : 4;
            prefetch_share(p, panel, m + rows, next_rows, group);
            multiply_tile_of<tile_rows>(t, rows);
            t.w += 4 * lanes * t.vectors, t.sums += 4 * tile_rows * lanes;
        }
    }
}

inline void unpack_panel(const Product& p, const Format& format, const Panel& panel, float* out) {
    for (int64_t n = panel.n_begin; n < panel.n_end; n += 4, out += 4 * lanes * panel.vectors()) {
        const int rows = panel.n_end - n < 4 ? panel.n_end - n : 4;
        // Rows missing in the last four: zeros, since they are multiplied and thrown away.
        if (rows < 4) memset(out, 0, sizeof(float) * 4 * lanes * panel.vectors());
        format.unpack_four(weight_row(p, n), p.row_bytes, rows, panel.k_begin, panel.k_end, out);
    }
}

inline void multiply_panels(const Product& p) {
    const Format& format = format_of(*p.encoding);
    float* const weights = p.scratch;
    const bool is_cut = p.width > whole;
    const int64_t length = is_cut ? cut : p.width, pass = is_cut ? pass_rows : p.rows;
    Panel panel;
    panel.weights = weights, panel.block = weights + panel_floats, panel.sums = panel.block + block_floats;
    for (int64_t n = p.n_begin; n < p.n_end; n += panel_rows) {
        panel.n_begin = n, panel.n_end = n + panel_rows < p.n_end ? n + panel_rows : p.n_end;
        for (int64_t m = 0; m < p.rows; m += pass) {
            panel.k_begin = 0;
            do {  // once at least: the sum over no inputs is 0
                panel.k_end = panel.k_begin + length < p.width ? panel.k_begin + length : p.width;
                unpack_panel(p, format, panel, weights);
                sweep(p, panel, m, m + pass < p.rows ? m + pass : p.rows);
                panel.k_begin = panel.k_end;
            } while (panel.k_begin < p.width);
        }
    }
}

}  // namespace busbar::cpu::BUSBAR_ISA
