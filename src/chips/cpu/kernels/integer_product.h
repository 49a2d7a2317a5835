#pragma once
#include "chips/cpu/kernels/integer.h"
#include "chips/cpu/product.h"

// Products with activations as 16-bit integers. For an output and a group of inputs under one scale the sum of integer
// products is exact in 32 bits; those sums times both scales are added in f32, in the order of the inputs. So the bits
// of an output depend on its weights and its row of x alone, whatever kernel, tile or thread made it, and are the same
// on all instruction sets that fuse multiply and add.

namespace busbar::cpu::BUSBAR_ISA {

/// One output's sum so far, and a group's part: the one place where floats are added.
template <bool minimum>
BUSBAR_INLINE Floats add_group(Floats sum, Ints dot, Floats scale, Floats least, const ActivationBlock& x, int group,
                               int g) {
    sum = multiply_add(to_float(dot), scale * splat(x.step), sum);
    if constexpr (minimum) sum = multiply_add(least, splat(x.scaled_sum[group == 32 ? 2 : g]), sum);
    return sum;
}

/// Rows of x are `x_stride` blocks apart.
template <const PanelLayout& L, int M>
BUSBAR_INLINE void multiply_block(const uint8_t* block, const Halves<L>& halves, const ActivationBlock* x,
                                  int64_t x_stride, Floats* sums) {
    unrolled<L.groups()>([&](auto g) BUSBAR_INLINE_LAMBDA {
        Ints dot[M * parts];
        unrolled<M>([&](auto m) BUSBAR_INLINE_LAMBDA {
            const ActivationBlock& b = x[m * x_stride];
            Ints start = {};
            if constexpr (L.offset != 0)
                start = splat_int(-L.offset * (L.groups() == 1 ? b.sum[0] + b.sum[1] : b.sum[g]));
            unrolled<parts>([&](auto h) BUSBAR_INLINE_LAMBDA { dot[m * parts + h] = start; });
        });
        unrolled<L.group / 2>([&](auto i) BUSBAR_INLINE_LAMBDA {
            constexpr int pair = g * L.group / 2 + i;
            Pairs w[parts];
            unrolled<parts>([&](auto h) BUSBAR_INLINE_LAMBDA { w[h] = codes_of<L, pair>(block, h); });
            unrolled<M>([&](auto m) BUSBAR_INLINE_LAMBDA {
                const Pairs row = splat_pair(x[m * x_stride].codes + 2 * pair);
                unrolled<parts>([&](auto h) BUSBAR_INLINE_LAMBDA {
                    dot[m * parts + h] = dot_pairs(dot[m * parts + h], w[h], row);
                });
            });
        });
        unrolled<parts>([&](auto h) BUSBAR_INLINE_LAMBDA {
            const Floats scale = scale_of<L>(block, halves, g, h);
            Floats least = {};
            if constexpr (L.minimum) least = minimum_of<L>(block, halves, g, h);
            unrolled<M>([&](auto m) BUSBAR_INLINE_LAMBDA {
                sums[m * parts + h] = add_group<L.minimum>(sums[m * parts + h], dot[m * parts + h], scale, least,
                                                           x[m * x_stride], L.group, g);
            });
        });
    });
}

BUSBAR_INLINE void store_outputs(const Floats* sums, float* y, int64_t outputs) {
    if (outputs == panel_outputs)
        unrolled<parts>([&](auto h) BUSBAR_INLINE_LAMBDA { store(y + h * lanes, sums[h]); });
    else
        memcpy(y, sums, sizeof(float) * outputs);
}

/// M rows of x, from the panels straight: what reads each weight once and keeps nothing.
template <const PanelLayout& L, int M>
void few_rows(const IntegerProduct& p) {
    const int64_t supers = p.width / (32 * L.blocks());
    const uint8_t* w = (const uint8_t*)p.panels + p.n_begin / panel_outputs * supers * L.bytes();
    for (int64_t n = p.n_begin; n < p.n_end; n += panel_outputs) {
        Floats sums[M * parts] = {};
        const ActivationBlock* x = p.x;
        for (int64_t s = 0; s < supers; ++s) {
            const Halves<L> halves(w);
            w += L.header_bytes();
            for (int b = 0; b < L.blocks(); ++b, w += L.block_bytes(), ++x) {
                // Memory delivers one rising stream per core at full rate when asked early enough.
                unrolled<(L.block_bytes() + 63) / 64>(
                    [&](auto i) BUSBAR_INLINE_LAMBDA { prefetch((uintptr_t)w + 4096 + 64 * i); });
                multiply_block<L, M>(w, halves, x, p.x_stride, sums);
            }
        }
        const int64_t outputs = p.n_end - n < panel_outputs ? p.n_end - n : panel_outputs;
        for (int m = 0; m < M && m < p.rows; ++m) store_outputs(sums + m * parts, p.y + m * p.y_stride + n, outputs);
    }
}

// Many rows: a panel's integers are unpacked once for `row_block` rows
// ---------------------------------------------------

/// Inputs unpacked together: their integers and the rows of a tile stay in a first level cache of 32 KB.
constexpr int64_t cut_blocks = 16, cut_groups = 2 * cut_blocks;
/// Rows swept over one unpacking: their integers stay in the second level.
constexpr int64_t row_block = 96;
constexpr int integer_tile = lanes == 16 ? 8 : lanes == 8 ? 4 : 2;

struct Unpacked {
    alignas(64) int16_t codes[cut_blocks * 32 * panel_outputs];  ///< [pair][output][2], offset taken off
    alignas(64) float scale[cut_groups * panel_outputs], minimum[cut_groups * panel_outputs];
    alignas(64) float sums[integer_tile * panel_outputs];
};

template <const PanelLayout& L>
BUSBAR_INLINE void unpack_block(const uint8_t* block, const Halves<L>& halves, int64_t at, Unpacked& to) {
    unrolled<16>([&](auto i) BUSBAR_INLINE_LAMBDA {
        unrolled<parts>([&](auto h) BUSBAR_INLINE_LAMBDA {
            const Pairs w = codes_of<L, i>(block, h) - (int16_t)L.offset;
            memcpy(to.codes + ((at * 16 + i) * panel_outputs + h * lanes) * 2, &w, sizeof w);
        });
    });
    unrolled<L.groups()>([&](auto g) BUSBAR_INLINE_LAMBDA {
        unrolled<parts>([&](auto h) BUSBAR_INLINE_LAMBDA {
            const int64_t group = (at * L.groups() + g) * panel_outputs + h * lanes;
            store(to.scale + group, scale_of<L>(block, halves, g, h));
            if constexpr (L.minimum) store(to.minimum + group, minimum_of<L>(block, halves, g, h));
        });
    });
}

/// Blocks begin .. end of a panel.
template <const PanelLayout& L>
void unpack_blocks(const uint8_t* panel, int64_t begin, int64_t end, Unpacked& to) {
    const uint8_t* super = panel + begin / L.blocks() * L.bytes();
    for (int64_t b = begin; b < end; super += L.bytes()) {
        const Halves<L> halves(super);
        const uint8_t* block = super + L.header_bytes() + b % L.blocks() * L.block_bytes();
        do {
            unpack_block<L>(block, halves, b - begin, to);
            block += L.block_bytes();
        } while (++b < end && b % L.blocks() != 0);
    }
}

/// M rows over `blocks` unpacked blocks. The sums wait in memory between blocks: registers are for the integers.
template <int M, int group, bool minimum>
BUSBAR_INLINE void integer_sweep(const Unpacked& w, const ActivationBlock* x, int64_t x_stride, int64_t blocks,
                                 float* sums) {
    const int16_t* codes = w.codes;
    const float *scale = w.scale, *least = w.minimum;
    for (int64_t b = 0; b < blocks; ++b, ++x) {
        unrolled<32 / group>([&](auto g) BUSBAR_INLINE_LAMBDA {
            Ints dot[M * parts] = {};
            unrolled<group / 2>([&](auto i) BUSBAR_INLINE_LAMBDA {
                Pairs weights[parts];
                unrolled<parts>([&](auto h) BUSBAR_INLINE_LAMBDA {
                    weights[h] = read<Pairs>(codes + (i * panel_outputs + h * lanes) * 2);
                });
                unrolled<M>([&](auto m) BUSBAR_INLINE_LAMBDA {
                    const Pairs row = splat_pair(x[m * x_stride].codes + g * group + 2 * i);
                    unrolled<parts>([&](auto h) BUSBAR_INLINE_LAMBDA {
                        dot[m * parts + h] = dot_pairs(dot[m * parts + h], weights[h], row);
                    });
                });
            });
            unrolled<parts>([&](auto h) BUSBAR_INLINE_LAMBDA {
                const Floats s = load(scale + h * lanes);
                Floats l = {};
                if constexpr (minimum) l = load(least + h * lanes);
                unrolled<M>([&](auto m) BUSBAR_INLINE_LAMBDA {
                    float* const at = sums + m * panel_outputs + h * lanes;
                    store(at, add_group<minimum>(load(at), dot[m * parts + h], s, l, x[m * x_stride], group, g));
                });
            });
            codes += group * panel_outputs, scale += panel_outputs, least += panel_outputs;
        });
    }
}

template <int M, int group, bool minimum>
void integer_tile_of(Unpacked& w, const ActivationBlock* x, int64_t x_stride, int64_t blocks, bool first, float* y,
                     int64_t y_stride, int64_t outputs) {
    float* const sums = w.sums;
    for (int m = 0; m < M; ++m) {
        if (first)
            memset(sums + m * panel_outputs, 0, sizeof(float) * panel_outputs);
        else
            memcpy(sums + m * panel_outputs, y + m * y_stride, sizeof(float) * outputs);
    }
    integer_sweep<M, group, minimum>(w, x, x_stride, blocks, sums);
    for (int m = 0; m < M; ++m) memcpy(y + m * y_stride, sums + m * panel_outputs, sizeof(float) * outputs);
}

template <int group, bool minimum, int M>
BUSBAR_INLINE void run_tile(int rows, Unpacked& w, const ActivationBlock* x, int64_t x_stride, int64_t blocks,
                            bool first, float* y, int64_t y_stride, int64_t outputs) {
    if constexpr (M > 0) {
        if (rows == M) return integer_tile_of<M, group, minimum>(w, x, x_stride, blocks, first, y, y_stride, outputs);
        run_tile<group, minimum, M - 1>(rows, w, x, x_stride, blocks, first, y, y_stride, outputs);
    }
}

template <const PanelLayout& L>
void many_rows(const IntegerProduct& p) {
    auto& unpacked = *(Unpacked*)p.scratch;
    const int64_t blocks = p.width / 32, panel_bytes = blocks / L.blocks() * L.bytes();
    for (int64_t m0 = 0; m0 < p.rows; m0 += row_block) {
        const int64_t m1 = m0 + row_block < p.rows ? m0 + row_block : p.rows;
        for (int64_t b0 = 0; b0 < blocks || b0 == 0; b0 += cut_blocks) {
            const int64_t b1 = b0 + cut_blocks < blocks ? b0 + cut_blocks : blocks;
            for (int64_t n = p.n_begin; n < p.n_end; n += panel_outputs) {
                unpack_blocks<L>((const uint8_t*)p.panels + n / panel_outputs * panel_bytes, b0, b1, unpacked);
                const int64_t outputs = p.n_end - n < panel_outputs ? p.n_end - n : panel_outputs;
                for (int64_t m = m0; m < m1; m += integer_tile)
                    run_tile<L.group, L.minimum, integer_tile>(m1 - m < integer_tile ? m1 - m : integer_tile, unpacked,
                                                               p.x + m * p.x_stride + b0, p.x_stride, b1 - b0, b0 == 0,
                                                               p.y + m * p.y_stride + n, p.y_stride, outputs);
            }
        }
    }
}

/// The kernels of one layout.
struct IntegerFormat {
    void (*one)(const IntegerProduct&);
    void (*two)(const IntegerProduct&);
    void (*four)(const IntegerProduct&);  ///< three as well: a fourth is multiplied and thrown away
    void (*many)(const IntegerProduct&);
};
template <const PanelLayout& L>
constexpr IntegerFormat integer_format = {few_rows<L, 1>, few_rows<L, 2>, few_rows<L, 4>, many_rows<L>};

}  // namespace busbar::cpu::BUSBAR_ISA
