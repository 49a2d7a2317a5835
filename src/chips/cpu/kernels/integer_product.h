#pragma once
#include "chips/cpu/kernels/integer.h"
#include "chips/cpu/product.h"

// Products with activations as integers. For an output and a group of inputs under one scale the sum of integer
// products is exact in 32 bits; those sums times both scales are added in f32, in the order of the inputs. So the bits
// of an output depend on its weights and its row of x alone, whatever kernel, tile or thread made it, and are the same
// on all instruction sets that fuse multiply and add.
//
// AsWords and AsBytes say how codes and activations are multiplied; all else is one source for both.

namespace busbar::cpu::BUSBAR_ISA {

/// multiply(i, sums[m][h], w, row) for `steps` registers of codes w = code(i, h) and what x(m, i) points at as `row`.
template <class Codes, int M, int steps, class Sum, class Code, class X, class Multiply>
BUSBAR_INLINE void each_product(Sum* sums, const Code& code, const X& x, const Multiply& multiply) {
    unrolled<steps>([&](auto i) BUSBAR_INLINE_LAMBDA {
        Codes w[parts];
        unrolled<parts>([&](auto h) BUSBAR_INLINE_LAMBDA { w[h] = code(i, h); });
        unrolled<M>([&](auto m) BUSBAR_INLINE_LAMBDA {
            const auto row = splat_four<Codes>(x(m, i));
            unrolled<parts>([&](auto h) BUSBAR_INLINE_LAMBDA { multiply(i, sums[m * parts + h], w[h], row); });
        });
    });
}

/// Activations of 16 bits, two at a time.
struct AsWords {
    using Block = WordBlock;
    using Codes = Pairs;
    static constexpr int largest = 32767;
    static constexpr int inputs = 2;  ///< of an output, in a register
    static constexpr int code_bytes = 2;
    static constexpr int cut_blocks = 16;  ///< inputs / 32 unpacked together: a first level cache of 32 KB holds them
    static constexpr int tile = lanes == 16 ? 8 : 4;  ///< rows of x with sums in registers

    template <const PanelLayout& L>
    static constexpr bool takes = true;
    template <const PanelLayout& L>
    static constexpr int offset = L.offset;
    static constexpr bool unpacks_offset = true;  ///< taken off when unpacked, else from the sums
    template <const PanelLayout& L>
    static constexpr bool narrow = false;
    template <const PanelLayout& L, int i>
    BUSBAR_INLINE static Codes codes_of(const uint8_t* block, int part) {
        return pair_of<L, i>(block, part);
    }
    /// sums[m][h] += the products of `steps` registers of codes, code(i, h), with x(m, i).
    template <bool narrow, int M, int steps, class Code, class X>
    BUSBAR_INLINE static void dot(Ints* sums, const Code& code, const X& x) {
        each_product<Codes, M, steps>(sums, code, x, [](auto, Ints& sum, Codes w, Codes row) BUSBAR_INLINE_LAMBDA {
            sum = dot_pairs(sum, w, row);
        });
    }
};

/// Activations of 8 bits, four at a time.
struct AsBytes {
    using Block = ByteBlock;
    using Codes = Octets;
    static constexpr int largest = 127;
    static constexpr int inputs = 4;
    static constexpr int code_bytes = 1;
    static constexpr int cut_blocks = 32;
    static constexpr int tile = lanes == 16 ? 8 : 4;

    template <const PanelLayout& L>
    static constexpr int offset = byte_offset<L>;
    static constexpr bool unpacks_offset = false;
    /// All products of a group fit 16 bits together, as pairs of them that vpmaddubsw adds up.
    template <const PanelLayout& L>
    static constexpr bool narrow = 127 * 2 * 8 * largest_byte<L> <= 32767;
#if defined(BUSBAR_AVX2)
    /// Four products fit 16 bits. For more the words are as fast.
    template <const PanelLayout& L>
    static constexpr bool takes = 127 * 4 * largest_byte<L> <= 32767;
#else
    template <const PanelLayout& L>
    static constexpr bool takes = true;
#endif
    template <const PanelLayout& L, int i>
    BUSBAR_INLINE static Codes codes_of(const uint8_t* block, int part) {
        return four_of<L, i>(block, part);
    }

#if defined(BUSBAR_AVX2)
    BUSBAR_INLINE static __m256i products(Octets w, Octets x) {
        return _mm256_maddubs_epi16((__m256i)w, (__m256i)x);
    }
    /// a + b in 16 bits, and the compiler may not put it off (see dot_pairs).
    BUSBAR_INLINE static __m256i added(__m256i a, __m256i b) {
        a = _mm256_add_epi16(a, b);
        asm("" : "+x"(a));
        return a;
    }
    BUSBAR_INLINE static Ints widened(Ints sum, __m256i part) {
        return dot_pairs(sum, (Pairs)part, Pairs{} + 1);
    }
    template <bool narrow, int M, int steps, class Code, class X>
    BUSBAR_INLINE static void dot(Ints* sums, const Code& code, const X& x) {
        if constexpr (narrow) {
            __m256i part[M * parts];
            each_product<Codes, M, steps>(part, code, x,
                                          [](auto i, __m256i& sum, Codes w, Codes row) BUSBAR_INLINE_LAMBDA {
                                              if constexpr (i == 0)
                                                  sum = products(w, row);
                                              else
                                                  sum = added(sum, products(w, row));
                                          });
            unrolled<M * parts>([&](auto j) BUSBAR_INLINE_LAMBDA { sums[j] = widened(sums[j], part[j]); });
        } else {
            unrolled<steps / 2>([&](auto i) BUSBAR_INLINE_LAMBDA {
                Codes w[2 * parts];
                unrolled<2 * parts>(
                    [&](auto j) BUSBAR_INLINE_LAMBDA { w[j] = code(Index<2 * i + j / parts>{}, Index<j % parts>{}); });
                unrolled<M>([&](auto m) BUSBAR_INLINE_LAMBDA {
                    const auto first = splat_four<Codes>(x(m, 2 * i)), second = splat_four<Codes>(x(m, 2 * i + 1));
                    unrolled<parts>([&](auto h) BUSBAR_INLINE_LAMBDA {
                        const __m256i both = _mm256_add_epi16(products(w[h], first), products(w[parts + h], second));
                        sums[m * parts + h] = widened(sums[m * parts + h], both);
                    });
                });
            });
        }
    }
#else
    template <bool narrow, int M, int steps, class Code, class X>
    BUSBAR_INLINE static void dot(Ints* sums, const Code& code, const X& x) {
        each_product<Codes, M, steps>(sums, code, x, [](auto, Ints& sum, Codes w, Codes row) BUSBAR_INLINE_LAMBDA {
            sum = dot_fours(sum, w, row);
        });
    }
#endif
};

/// One output's sum so far, and a group's part: the one place where floats are added.
template <bool minimum>
BUSBAR_INLINE Floats add_group(Floats sum, Ints dot, Floats scale, Floats least, const ActivationSums& x, int group,
                               int g) {
    sum = multiply_add(to_float(dot), scale * splat(x.step), sum);
    if constexpr (minimum) sum = multiply_add(least, splat(x.scaled_sum[group == 32 ? 2 : g]), sum);
    return sum;
}

/// What the sums of group g start from, so that the offset is off in the end. Sums of spare rows may be any numbers,
/// which without sign may overflow.
BUSBAR_INLINE Ints less_offset(int offset, const ActivationSums& x, int group, int g) {
    const uint32_t sum = group == 32 ? (uint32_t)x.sum[0] + (uint32_t)x.sum[1] : (uint32_t)x.sum[g];
    return splat_int((int32_t)(0u - (uint32_t)offset * sum));
}

/// Row m of x, whose rows are `stride` bytes apart.
template <class Block>
BUSBAR_INLINE const Block& row_of(const Block* x, int64_t stride, int64_t m) {
    return *(const Block*)((const uint8_t*)x + m * stride);
}

template <class As, const PanelLayout& L, int M>
BUSBAR_INLINE void multiply_block(const uint8_t* block, const Halves<L>& halves, const typename As::Block* x,
                                  int64_t stride, Floats* sums) {
    constexpr int steps = L.group / As::inputs;
    unrolled<L.groups()>([&](auto g) BUSBAR_INLINE_LAMBDA {
        Ints dot[M * parts] = {};
        if constexpr (As::template offset<L> != 0)
            unrolled<M * parts>([&](auto j) BUSBAR_INLINE_LAMBDA {
                dot[j] = less_offset(As::template offset<L>, row_of(x, stride, j / parts).sums, L.group, g);
            });
        As::template dot<As::template narrow<L>, M, steps>(
            dot, [&](auto i, auto h) BUSBAR_INLINE_LAMBDA { return As::template codes_of<L, g * steps + i>(block, h); },
            [&](int m, int i)
                BUSBAR_INLINE_LAMBDA { return row_of(x, stride, m).codes + g * L.group + i * As::inputs; });
        unrolled<parts>([&](auto h) BUSBAR_INLINE_LAMBDA {
            const Floats scale = scale_of<L>(block, halves, g, h);
            Floats least = {};
            if constexpr (L.minimum) least = minimum_of<L>(block, halves, g, h);
            unrolled<M>([&](auto m) BUSBAR_INLINE_LAMBDA {
                sums[m * parts + h] = add_group<L.minimum>(sums[m * parts + h], dot[m * parts + h], scale, least,
                                                           row_of(x, stride, m).sums, L.group, g);
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
template <class As, const PanelLayout& L, int M>
void few_rows(const IntegerProduct& p) {
    const int64_t supers = p.width / (32 * L.blocks());
    const uint8_t* w = (const uint8_t*)p.panels + p.n_begin / panel_outputs * supers * L.bytes();
    for (int64_t n = p.n_begin; n < p.n_end; n += panel_outputs) {
        Floats sums[M * parts] = {};
        auto* x = (const typename As::Block*)p.x;
        for (int64_t s = 0; s < supers; ++s) {
            const Halves<L> halves(w);
            w += L.header_bytes();
            for (int b = 0; b < L.blocks(); ++b, w += L.block_bytes(), ++x) {
                // Memory delivers one rising stream per core at full rate when asked early enough.
                unrolled<(L.block_bytes() + 63) / 64>(
                    [&](auto i) BUSBAR_INLINE_LAMBDA { prefetch((uintptr_t)w + 4096 + 64 * i); });
                multiply_block<As, L, M>(w, halves, x, p.x_stride, sums);
            }
        }
        const int64_t outputs = p.n_end - n < panel_outputs ? p.n_end - n : panel_outputs;
        for (int m = 0; m < M && m < p.rows; ++m) store_outputs(sums + m * parts, p.y + m * p.y_stride + n, outputs);
    }
}

// Many rows: a panel's integers are unpacked once for `row_block` rows.

/// Rows swept over one unpacking: their integers stay in the second level cache.
constexpr int64_t row_block = 96;

template <class As>
struct Unpacked {
    static constexpr int64_t groups = 2 * As::cut_blocks;
    alignas(64) uint8_t codes[As::cut_blocks * 32 * panel_outputs * As::code_bytes];  ///< [step][output][inputs]
    alignas(64) float scale[groups * panel_outputs], minimum[groups * panel_outputs];
    alignas(64) float sums[As::tile * panel_outputs];
};

template <class As, const PanelLayout& L>
BUSBAR_INLINE void unpack_block(const uint8_t* block, const Halves<L>& halves, int64_t at, Unpacked<As>& to) {
    constexpr int steps = 32 / As::inputs;
    unrolled<steps>([&](auto i) BUSBAR_INLINE_LAMBDA {
        unrolled<parts>([&](auto h) BUSBAR_INLINE_LAMBDA {
            auto w = As::template codes_of<L, i>(block, h);
            if constexpr (As::unpacks_offset) w -= (int16_t)As::template offset<L>;
            memcpy(to.codes + ((at * steps + i) * panel_outputs + h * lanes) * 4, &w, sizeof w);
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
template <class As, const PanelLayout& L>
void unpack_blocks(const uint8_t* panel, int64_t begin, int64_t end, Unpacked<As>& to) {
    const uint8_t* super = panel + begin / L.blocks() * L.bytes();
    for (int64_t b = begin; b < end; super += L.bytes()) {
        const Halves<L> halves(super);
        const uint8_t* block = super + L.header_bytes() + b % L.blocks() * L.block_bytes();
        do {
            unpack_block<As, L>(block, halves, b - begin, to);
            block += L.block_bytes();
        } while (++b < end && b % L.blocks() != 0);
    }
}

/// M rows over `blocks` unpacked blocks. The sums wait in memory between blocks: registers are for the integers.
template <class As, int M, int group, bool minimum, bool narrow>
BUSBAR_INLINE void sweep(const Unpacked<As>& w, const typename As::Block* x, int64_t stride, int64_t blocks, int offset,
                         float* sums) {
    constexpr int steps = group / As::inputs;
    const uint8_t* codes = w.codes;
    const float *scale = w.scale, *least = w.minimum;
    for (int64_t b = 0; b < blocks; ++b, ++x) {
        unrolled<32 / group>([&](auto g) BUSBAR_INLINE_LAMBDA {
            Ints dot[M * parts] = {};
            if constexpr (!As::unpacks_offset)
                unrolled<M * parts>([&](auto j) BUSBAR_INLINE_LAMBDA {
                    dot[j] = less_offset(offset, row_of(x, stride, j / parts).sums, group, g);
                });
            As::template dot<narrow, M, steps>(
                dot,
                [&](int i, int h) BUSBAR_INLINE_LAMBDA {
                    return read<typename As::Codes>(codes + (i * panel_outputs + h * lanes) * 4);
                },
                [&](int m, int i)
                    BUSBAR_INLINE_LAMBDA { return row_of(x, stride, m).codes + g * group + i * As::inputs; });
            unrolled<parts>([&](auto h) BUSBAR_INLINE_LAMBDA {
                const Floats s = load(scale + h * lanes);
                Floats l = {};
                if constexpr (minimum) l = load(least + h * lanes);
                unrolled<M>([&](auto m) BUSBAR_INLINE_LAMBDA {
                    float* const at = sums + m * panel_outputs + h * lanes;
                    store(at,
                          add_group<minimum>(load(at), dot[m * parts + h], s, l, row_of(x, stride, m).sums, group, g));
                });
            });
            codes += group * panel_outputs * As::code_bytes, scale += panel_outputs, least += panel_outputs;
        });
    }
}

/// A tile's part of one cut of the inputs: `rows` of it count.
template <class As, int M, int group, bool minimum, bool narrow>
void sweep_tile(int64_t rows, Unpacked<As>& w, const typename As::Block* x, int64_t stride, int64_t blocks, int offset,
                bool first, float* y, int64_t y_stride, int64_t outputs) {
    float* const sums = w.sums;
    for (int m = 0; m < rows; ++m) {
        if (first)
            memset(sums + m * panel_outputs, 0, sizeof(float) * panel_outputs);
        else
            memcpy(sums + m * panel_outputs, y + m * y_stride, sizeof(float) * outputs);
    }
    sweep<As, M, group, minimum, narrow>(w, x, stride, blocks, offset, sums);
    for (int m = 0; m < rows; ++m) memcpy(y + m * y_stride, sums + m * panel_outputs, sizeof(float) * outputs);
}

template <class As, const PanelLayout& L>
void many_rows(const IntegerProduct& p) {
    auto& unpacked = *(Unpacked<As>*)p.scratch;
    constexpr int64_t cut = As::cut_blocks, tile = As::tile;
    constexpr auto whole = sweep_tile<As, tile, L.group, L.minimum, As::template narrow<L>>,
                   half = sweep_tile<As, tile / 2, L.group, L.minimum, As::template narrow<L>>;
    const int64_t blocks = p.width / 32, panel_bytes = blocks / L.blocks() * L.bytes();
    for (int64_t m0 = 0; m0 < p.rows; m0 += row_block) {
        const int64_t m1 = m0 + row_block < p.rows ? m0 + row_block : p.rows;
        for (int64_t b0 = 0; b0 < blocks || b0 == 0; b0 += cut) {
            const int64_t b1 = b0 + cut < blocks ? b0 + cut : blocks;
            for (int64_t n = p.n_begin; n < p.n_end; n += panel_outputs) {
                unpack_blocks<As, L>((const uint8_t*)p.panels + n / panel_outputs * panel_bytes, b0, b1, unpacked);
                const int64_t outputs = p.n_end - n < panel_outputs ? p.n_end - n : panel_outputs;
                for (int64_t m = m0; m < m1; m += tile) {
                    const int64_t rows = m1 - m < tile ? m1 - m : tile;
                    const auto* x = (const typename As::Block*)(p.x + m * p.x_stride) + b0;
                    (rows > tile / 2 ? whole : half)(rows, unpacked, x, p.x_stride, b1 - b0, As::template offset<L>,
                                                     b0 == 0, p.y + m * p.y_stride + n, p.y_stride, outputs);
                }
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
    int64_t straight;  ///< up to so many rows, four at a time from the panel are faster than unpacking it
};
/// Where codes are a shift and a mask away, unpacking them for each four rows costs less than writing them down once.
template <const PanelLayout& L>
constexpr int64_t straight_rows = lanes == 8 && L.high_bits == 0 && L.group == 32 ? 16 : few_integer_rows;
template <class As, const PanelLayout& L>
constexpr IntegerFormat integer_format = {few_rows<As, L, 1>, few_rows<As, L, 2>, few_rows<As, L, 4>, many_rows<As, L>,
                                          straight_rows<L>};

/// Kernels::kernel<layout of the encoding>(), nullptr of its type for an encoding that has no panels.
template <class Kernels>
auto kernel_for(const Encoding& encoding) -> decltype(Kernels::template kernel<panel_q4_0>()) {
    switch (encoding.gguf_type) {
        case 2:
            return Kernels::template kernel<panel_q4_0>();
        case 13:
            return Kernels::template kernel<panel_q5_k>();
        case 14:
            return Kernels::template kernel<panel_q6_k>();
        case 39:
            return Kernels::template kernel<panel_mxfp4>();
#ifndef BUSBAR_SANITIZED  // minutes to compile with checks; those above are one of each kind
        case 3:
            return Kernels::template kernel<panel_q4_1>();
        case 6:
            return Kernels::template kernel<panel_q5_0>();
        case 7:
            return Kernels::template kernel<panel_q5_1>();
        case 8:
            return Kernels::template kernel<panel_q8_0>();
        case 10:
            return Kernels::template kernel<panel_q2_k>();
        case 11:
            return Kernels::template kernel<panel_q3_k>();
        case 12:
            return Kernels::template kernel<panel_q4_k>();
        case 20:
            return Kernels::template kernel<panel_iq4_nl>();
        case 23:
            return Kernels::template kernel<panel_iq4_xs>();
#endif
    }
    return nullptr;
}
template <class As>
struct InRegisters {
    template <const PanelLayout& L>
    static const IntegerFormat* kernel() {
        if constexpr (As::template takes<L>)
            return &integer_format<As, L>;
        else
            return nullptr;
    }
};

template <class As>
void integer_product(const IntegerProduct& p) {
    const IntegerFormat* const known = kernel_for<InRegisters<As>>(*p.encoding);
    if (known == nullptr) product_lacks(*p.encoding);
    const IntegerFormat& format = *known;
    if (p.rows > format.straight) return format.many(p);
    const auto few = [&](const IntegerProduct& part) {
        (part.rows == 1 ? format.one : part.rows == 2 ? format.two : format.four)(part);
    };
    if (p.rows > few_integer_rows) {
        // Panel by panel: it is read from memory once.
        for (int64_t n = p.n_begin; n < p.n_end; n += panel_outputs)
            for (int64_t m = 0; m < p.rows; m += few_integer_rows) {
                IntegerProduct part = p;
                part.n_begin = n, part.n_end = n + panel_outputs < p.n_end ? n + panel_outputs : p.n_end;
                part.x += m * p.x_stride, part.y += m * p.y_stride;
                part.rows = p.rows - m < few_integer_rows ? p.rows - m : few_integer_rows;
                few(part);
            }
    } else if (p.rows > 0) {
        few(p);
    }
}

template <class As>
bool takes_panels(const Encoding& encoding) {
    return kernel_for<InRegisters<As>>(encoding) != nullptr;
}
template <class As>
size_t integer_scratch_floats() {
    return (sizeof(Unpacked<As>) + 63) / 64 * 16;
}

typedef int16_t Codes16 __attribute__((vector_size(32)));
typedef int8_t Signed16 __attribute__((vector_size(16)));
/// Sixteen integers that fit into 16 bits. In registers all the way: what is stored in two parts is read back late.
BUSBAR_INLINE Codes16 narrowed(const Ints* v) {
#if defined(BUSBAR_AVX2)
    return (Codes16)_mm256_permute4x64_epi64(_mm256_packs_epi32((__m256i)v[0], (__m256i)v[1]), 0xD8);
#else
    Codes16 codes;
    for (int i = 0; i < 16 / lanes; ++i) {
        typedef int16_t Part __attribute__((vector_size(2 * lanes)));
        const Part part = __builtin_convertvector(v[i], Part);
        memcpy((int16_t*)&codes + i * lanes, &part, sizeof part);
    }
    return codes;
#endif
}
/// In the order of byte_place().
BUSBAR_INLINE Codes16 placed(Codes16 c) {
    return __builtin_shufflevector(c, c, 0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15);
}
// Codes at .. at + 15 of a block.
BUSBAR_INLINE void put_codes(Codes16 codes, int at, WordBlock& out) {
    memcpy(out.codes + at, &codes, 32);
}
BUSBAR_INLINE void put_codes(Codes16 codes, int at, ByteBlock& out) {
    const auto bytes = __builtin_convertvector(placed(codes), Signed16);
    memcpy(out.codes + at, &bytes, 16);
}
BUSBAR_INLINE void put_codes(Codes16 codes, int at, PlaneBlock& out) {
    const auto high = __builtin_convertvector(placed(codes) >> 8, Signed16),
               low = __builtin_convertvector(placed(codes), Signed16);
    memcpy(out.high + at, &high, 16);
    memcpy(out.low + at, &low, 16);
}

template <class Block, int largest_code>
bool round_row(const float* x, int64_t width, std::byte* to) {
    auto* out = (Block*)to;
    for (int64_t k = 0; k < width; k += 32, ++out) {
        Ints largest = {};  // of the bits without sign, which order as the numbers do, NaN above all
        unrolled<32 / lanes>([&](auto i) BUSBAR_INLINE_LAMBDA {
            const Ints bits = (Ints)load(x + k + i * lanes) & 0x7FFFFFFF;
            largest = bits > largest ? bits : largest;
        });
        const int32_t top = folded(largest, [](auto a, auto b) BUSBAR_INLINE_LAMBDA { return a > b ? a : b; });
        const float amax = read<float>(&top);
        // Steps would be subnormal, or nothing finite would come of it.
        if (top != 0 && !(amax >= 1e-30f && amax <= 1e38f)) return false;
        const float inverse = top == 0 ? 0 : largest_code / amax;
        ActivationSums& sums = out->sums;
        for (int half = 0; half < 2; ++half) {
            Ints codes[16 / lanes], total = {};
            unrolled<16 / lanes>([&](auto i) BUSBAR_INLINE_LAMBDA {
                codes[i] = round_to_int(load(x + k + 16 * half + i * lanes) * splat(inverse));
                total += codes[i];
            });
            sums.sum[half] = folded(total, [](auto a, auto b) BUSBAR_INLINE_LAMBDA { return a + b; });
            put_codes(narrowed(codes), 16 * half, *out);
        }
        sums.step = amax / largest_code;
        for (int half = 0; half < 2; ++half) sums.scaled_sum[half] = sums.step * (float)sums.sum[half];
        sums.scaled_sum[2] = sums.step * (float)(sums.sum[0] + sums.sum[1]);
    }
    return true;
}

/// A tile's products without unpacking and scales: sums that wait for nothing but themselves.
template <class As>
double multiply_freely(int64_t rounds, int32_t* sink) {
    constexpr int steps = 32 / As::inputs;
    Ints sums[As::tile * parts] = {};
    typename As::Codes codes[parts], x[As::tile];
    for (auto& c : codes) c = (typename As::Codes)splat_int(sink[0]);
    for (auto& row : x) row = (typename As::Codes)splat_int(sink[1]);
    for (int64_t r = 0; r < rounds; ++r) {
        asm volatile("" ::"r"(x) : "memory");  // rows that are alike are not to be multiplied once for all
        As::template dot<true, As::tile, steps>(
            sums,
            [&](int, int h) BUSBAR_INLINE_LAMBDA {
                seems_new(codes[h]);
                return codes[h];
            },
            [&](int m, int) BUSBAR_INLINE_LAMBDA { return x + m; });
    }
    for (int i = 1; i < As::tile * parts; ++i) sums[0] += sums[i];
    sink[0] = sums[0][0];
    return 2.0 * As::tile * panel_outputs * 32 * (double)rounds;
}

template <class As>
constexpr IntegerKernels integer_kernels = {sizeof(typename As::Block), round_row<typename As::Block, As::largest>,
                                            integer_product<As>,        takes_panels<As>,
                                            integer_scratch_floats<As>, multiply_freely<As>};

}  // namespace busbar::cpu::BUSBAR_ISA
