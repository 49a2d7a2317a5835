#pragma once
#include "chips/cpu/kernels/decode_super.h"
#include "chips/cpu/product.h"

// What depends on the format: the vector product of one row of x, and unpacking weight rows into memory. Everything
// else (panel.h) works on what `unpack` wrote.

namespace busbar::cpu::BUSBAR_ISA {

BUSBAR_INLINE const uint8_t* weight_row(const Product& p, int64_t n) {
    return (const uint8_t*)p.weight + n * p.row_bytes;
}

/// Asks for the bytes that R rows will need, in the order of their addresses, `ahead` bytes before they do: memory
/// delivers one rising stream per core at full rate, several at two thirds. A step covers `bytes` bytes.
template <int bytes>
BUSBAR_INLINE void prefetch_step(uintptr_t address) {
    unrolled<(bytes + 63) / 64>([&](auto i) BUSBAR_INLINE_LAMBDA { prefetch(address + 64 * i); });
}

/// Outputs n .. n + R - 1 of M rows of x from row m on: R M independent chains keep the multiply-add units busy. Each
/// chain is one vector of lane sums over rising k, as in the panel product. Rows past the last are the last one again,
/// and thrown away.
template <class D, int R, int M>
BUSBAR_INLINE void dot_rows(const Product& p, int64_t n, int64_t m) {
    const uint8_t* w[R];
    const float* x[M];
    Floats sum[R * M];
    unrolled<R>([&](auto r) BUSBAR_INLINE_LAMBDA { w[r] = weight_row(p, n + r); });
    unrolled<M>([&](auto i) BUSBAR_INLINE_LAMBDA { x[i] = p.x + (m + i < p.rows ? m + i : p.rows - 1) * p.x_stride; });
    unrolled<R * M>([&](auto i) BUSBAR_INLINE_LAMBDA { sum[i] = Floats{}; });
    // Far enough to cover all of the next rows while these are used, and never less than memory's latency.
    const size_t group = R * p.row_bytes;
    uintptr_t ahead = (uintptr_t)w[0] + (group < 4096 ? 4096 : group);
    int64_t at = 0;
    for (int64_t b = p.width / D::block; b > 0; --b) {
        if (m == 0) prefetch_step<R * D::bytes>(ahead);
        ahead += R * D::bytes;
        typename D::Scales scales[R];
        unrolled<R>([&](auto r) BUSBAR_INLINE_LAMBDA { scales[r] = D::scales(w[r]); });
        for (int g = 0; g < D::block / D::span; ++g, at += D::span)
            unrolled<R>([&](auto r) BUSBAR_INLINE_LAMBDA {
                D::decode(w[r], scales[r], g, [&](int k, Floats v) BUSBAR_INLINE_LAMBDA {
                    unrolled<M>([&](auto i) BUSBAR_INLINE_LAMBDA {
                        sum[M * r + i] = multiply_add(v, load(x[i] + at + k), sum[M * r + i]);
                    });
                });
            });
        unrolled<R>([&](auto r) BUSBAR_INLINE_LAMBDA { w[r] += D::bytes; });
    }
    if constexpr (D::plain) {
        for (int rest = p.width % D::block; rest > 0; rest -= lanes, at += lanes) {
            const int count = rest < lanes ? rest : lanes;
            unrolled<R>([&](auto r) BUSBAR_INLINE_LAMBDA {
                const Floats v = D::part(w[r], count);
                unrolled<M>([&](auto i) BUSBAR_INLINE_LAMBDA {
                    sum[M * r + i] = multiply_add(v, load_part(x[i] + at, count), sum[M * r + i]);
                });
                w[r] += lanes * D::size;
            });
        }
    }
    // Sums of four chains at once, of four rows of x or of up to four weight rows.
    if constexpr (M == 4) {
        unrolled<R>([&](auto r) BUSBAR_INLINE_LAMBDA {
            const Floats4 four = sum_lanes(sum[4 * r], sum[4 * r + 1], sum[4 * r + 2], sum[4 * r + 3]);
            for (int i = 0; i < 4 && m + i < p.rows; ++i) p.y[(m + i) * p.y_stride + n + r] = four[i];
        });
    } else {
        unrolled<M>([&](auto i) BUSBAR_INLINE_LAMBDA {
            const auto of = [&](int r) BUSBAR_INLINE_LAMBDA { return sum[M * (r < R ? r : R - 1) + i]; };
            const Floats4 four = sum_lanes(of(0), of(1), of(2), of(3));
            if (m + i < p.rows) memcpy(p.y + (m + i) * p.y_stride + n, &four, R * sizeof(float));
        });
    }
}

/// All rows of x, M at a time, over R weight rows before the next R: only the first M take them from memory.
template <class D, int R, int M>
void dot_all(const Product& p) {
    const auto rows_from = [&](auto r, int64_t n) BUSBAR_INLINE_LAMBDA {
        int64_t m = 0;
        for (; m + (M + 1) / 2 < p.rows; m += M) dot_rows<D, r, M>(p, n, m);
        if (m < p.rows) dot_rows<D, r, (M + 1) / 2>(p, n, m);
    };
    int64_t n = p.n_begin;
    for (; n + R <= p.n_end; n += R) rows_from(Index<R>{}, n);
    for (; n < p.n_end; ++n) rows_from(Index<1>{}, n);
}

/// Rows of x up to which blocks are decoded in registers for all of them. Past four each weight would be decoded again
/// for the next four: no matter for plain numbers, too much for blocks. One where it is minutes to compile and nobody
/// waits for the result.
#if BUSBAR_LANES == 4 || defined(BUSBAR_SANITIZED)
constexpr int64_t block_rows = 1;
#else
constexpr int64_t block_rows = 4;
#endif

/// Few rows of x. Three weight rows times four rows of x: with more of either, sums would not stay in the registers;
/// with two, loads are the limit (Zen 3: a tenth slower).
template <class D>
void vector_product(const Product& p) {
    if (p.rows == 1) return dot_all<D, 4, 1>(p);
    if constexpr (D::plain || block_rows > 1) {
        if (p.rows == 2)
            dot_all<D, 4, 2>(p);
        else
            dot_all<D, 3, 4>(p);
    }
}

/// Elements k_begin .. k_end of a row, as vectors `step` floats apart. k_begin is a multiple of a block. With `pad` the
/// last vector is filled up with zeros; without, nothing is written behind element k_end.
template <class D, int step, bool pad>
BUSBAR_INLINE void unpack_row(const uint8_t* row, int64_t k_begin, int64_t k_end, float* out) {
    const uint8_t* w = row + k_begin / D::block * D::bytes;
    for (int64_t b = (k_end - k_begin) / D::block; b > 0; --b, w += D::bytes) {
        prefetch_step<D::bytes>((uintptr_t)w + 2048);
        const typename D::Scales scales = D::scales(w);
        for (int g = 0; g < D::block / D::span; ++g, out += D::span / lanes * step)
            D::decode(w, scales, g, [&](int k, Floats v) BUSBAR_INLINE_LAMBDA { store(out + k / lanes * step, v); });
    }
    if constexpr (D::plain) {
        for (int rest = (k_end - k_begin) % D::block; rest > 0; rest -= lanes, w += lanes * D::size, out += step) {
            const int count = rest < lanes ? rest : lanes;
            const Floats v = D::part(w, count);
            memcpy(out, &v, pad ? sizeof v : sizeof(float) * count);
        }
    }
}

/// Four rows side by side, vector by vector: what the panel product reads in order.
template <class D>
void unpack_four(const uint8_t* row, size_t row_bytes, int rows, int64_t k_begin, int64_t k_end, float* out) {
    for (int r = 0; r < rows; ++r) unpack_row<D, 4 * lanes, true>(row + r * row_bytes, k_begin, k_end, out + r * lanes);
}

template <class D>
void decode_whole_row(const uint8_t* row, int64_t width, float* out) {
    unpack_row<D, lanes, false>(row, 0, width, out);
}

/// The functions of one format.
struct Format {
    void (*vector_product)(const Product&);
    void (*unpack_four)(const uint8_t* row, size_t row_bytes, int rows, int64_t k_begin, int64_t k_end, float* out);
    void (*decode_row)(const uint8_t* row, int64_t width, float* out);
};
template <class D>
constexpr Format format = {vector_product<D>, unpack_four<D>, decode_whole_row<D>};

BUSBAR_INLINE const Format& format_of(const Encoding& encoding) {
    switch (encoding.gguf_type) {
        case 0:
            return format<F32>;
        case 1:
            return format<F16>;
        case 2:
            return format<Q4_0>;
        case 3:
            return format<Q4_1>;
        case 6:
            return format<Q5_0>;
        case 7:
            return format<Q5_1>;
        case 8:
            return format<Q8_0>;
        case 10:
            return format<Q2_K>;
        case 11:
            return format<Q3_K>;
        case 12:
            return format<Q4_K>;
        case 13:
            return format<Q5_K>;
        case 14:
            return format<Q6_K>;
        case 20:
            return format<Iq4Nl>;
        case 23:
            return format<Iq4Xs>;
        case 30:
            return format<Bf16>;
        case 39:
            return format<Mxfp4>;
    }
    product_lacks(encoding);
}

}  // namespace busbar::cpu::BUSBAR_ISA
