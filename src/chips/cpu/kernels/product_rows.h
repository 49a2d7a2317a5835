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

/// R outputs of one row of x: R independent chains keep the multiply-add units busy. Each chain is one vector of lane
/// sums over rising k, as in the panel product.
template <class D, int R>
BUSBAR_INLINE void dot_rows(const Product& p, int64_t n, float* y) {
    const uint8_t* w[R];
    Floats sum[R];
    unrolled<R>([&](auto r) BUSBAR_INLINE_LAMBDA {
        w[r] = weight_row(p, n + r);
        sum[r] = Floats{};
    });
    const float* x = p.x;
    // Far enough to cover all of the next rows while these are used, and never less than memory's latency.
    const size_t group = R * p.row_bytes;
    uintptr_t ahead = (uintptr_t)w[0] + (group < 4096 ? 4096 : group);
    for (int64_t b = p.width / D::block; b > 0; --b) {
        prefetch_step<R * D::bytes>(ahead);
        ahead += R * D::bytes;
        typename D::Scales scales[R];
        unrolled<R>([&](auto r) BUSBAR_INLINE_LAMBDA { scales[r] = D::scales(w[r]); });
        for (int g = 0; g < D::block / D::span; ++g, x += D::span)
            unrolled<R>([&](auto r) BUSBAR_INLINE_LAMBDA {
                D::decode(w[r], scales[r], g,
                          [&](int k, Floats v) BUSBAR_INLINE_LAMBDA { sum[r] = multiply_add(v, load(x + k), sum[r]); });
            });
        unrolled<R>([&](auto r) BUSBAR_INLINE_LAMBDA { w[r] += D::bytes; });
    }
    if constexpr (D::plain) {
        for (int rest = p.width % D::block; rest > 0; rest -= lanes, x += lanes) {
            const int count = rest < lanes ? rest : lanes;
            const Floats part = load_part(x, count);
            unrolled<R>([&](auto r) BUSBAR_INLINE_LAMBDA {
                sum[r] = multiply_add(D::part(w[r], count), part, sum[r]);
                w[r] += lanes * D::size;
            });
        }
    }
    if constexpr (R == 4) {
        const Floats4 four = sum_lanes(sum[0], sum[1], sum[2], sum[3]);
        memcpy(y, &four, sizeof four);
    } else {
        unrolled<R>([&](auto r) BUSBAR_INLINE_LAMBDA { y[r] = sum_lanes(sum[r], sum[r], sum[r], sum[r])[0]; });
    }
}

template <class D>
void vector_product(const Product& p) {
    int64_t n = p.n_begin;
    for (; n + 4 <= p.n_end; n += 4) dot_rows<D, 4>(p, n, p.y + n);
    for (; n < p.n_end; ++n) dot_rows<D, 1>(p, n, p.y + n);
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
