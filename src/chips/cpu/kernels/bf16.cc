// Products of bf16 weights by the vector instruction that multiplies pairs of them. As in f32 an output is sixteen lane
// sums over rising inputs and one fixed tree, so its bits depend on its weights and its row of x alone.
#include "chips/cpu/kernels/bf16.h"

#include "chips/cpu/kernels/product_parts.h"

#if BUSBAR_LANES == 16

namespace busbar::cpu::BUSBAR_ISA {

namespace {

int64_t row_bytes(int64_t width) {
    return bf16_steps(width) * bf16_step * 2;
}

BUSBAR_INLINE Bf16Pairs load_pairs(const uint8_t* p) {
    return read<Bf16Pairs>(p);
}
/// The first `count`, zeros after them.
BUSBAR_INLINE Bf16Pairs load_pairs_part(const uint8_t* p, int64_t count) {
    Bf16Pairs v = {};
    memcpy(&v, p, 2 * count);
    return v;
}

/// Outputs n .. n + R - 1 of M rows of x from row m on. Rows past the last are the last one again, and thrown away.
template <int R, int M>
BUSBAR_INLINE void dot_stored(const Bf16Product& p, int64_t n, int64_t m) {
    const uint8_t *w[R], *x[M];
    Floats sum[R * M];
    unrolled<R>([&](auto r) BUSBAR_INLINE_LAMBDA { w[r] = (const uint8_t*)p.weight + (n + r) * p.width * 2; });
    unrolled<M>([&](auto i) BUSBAR_INLINE_LAMBDA {
        x[i] = (const uint8_t*)p.x + (m + i < p.rows ? m + i : p.rows - 1) * row_bytes(p.width);
    });
    unrolled<R * M>([&](auto i) BUSBAR_INLINE_LAMBDA { sum[i] = Floats{}; });
    // In the order of addresses, as far ahead as the next rows (product_rows.h).
    const int64_t group = R * p.width * 2;
    uintptr_t ahead = (uintptr_t)w[0] + (group < 4096 ? 4096 : group);
    const auto step = [&](int64_t at, const auto& load_weights) BUSBAR_INLINE_LAMBDA {
        Bf16Pairs weights[R];
        unrolled<R>([&](auto r) BUSBAR_INLINE_LAMBDA { weights[r] = load_weights(w[r] + at); });
        unrolled<M>([&](auto i) BUSBAR_INLINE_LAMBDA {
            const Bf16Pairs row = load_pairs(x[i] + at);
            unrolled<R>([&](auto r)
                            BUSBAR_INLINE_LAMBDA { sum[M * r + i] = dot_bf16(sum[M * r + i], weights[r], row); });
        });
    };
    const int64_t whole = p.width / bf16_step * 64, rest = p.width % bf16_step;
    for (int64_t at = 0; at < whole; at += 64, ahead += R * 64) {
        if (m == 0) unrolled<R>([&](auto r) BUSBAR_INLINE_LAMBDA { prefetch(ahead + 64 * r); });
        step(at, [](const uint8_t* from) BUSBAR_INLINE_LAMBDA { return load_pairs(from); });
    }
    if (rest > 0) step(whole, [&](const uint8_t* from) BUSBAR_INLINE_LAMBDA { return load_pairs_part(from, rest); });
    unrolled<M>([&](auto i) BUSBAR_INLINE_LAMBDA {
        const auto of = [&](int r) BUSBAR_INLINE_LAMBDA { return sum[M * (r < R ? r : R - 1) + i]; };
        const Floats4 four = sum_lanes(of(0), of(1), of(2), of(3));
        if (m + i < p.rows) memcpy(p.y + (m + i) * p.y_stride + n, &four, R * sizeof(float));
    });
}

template <int M>
void rows_from(const Bf16Product& p, int64_t m) {
    int64_t n = p.n_begin;
    for (; n + 4 <= p.n_end; n += 4) dot_stored<4, M>(p, n, m);
    for (; n < p.n_end; ++n) dot_stored<1, M>(p, n, m);
}

/// Six rows of x over all outputs, then the next six: they stay in the first level cache, the weights in the second.
/// Four outputs times six rows are 24 sums of 32 registers.
void bf16_product(const Bf16Product& p) {
    for (int64_t m = 0; m < p.rows; m += 6) switch (p.rows - m) {
            case 1:
                rows_from<1>(p, m);
                break;
            case 2:
                rows_from<2>(p, m);
                break;
            case 3:
            case 4:
                rows_from<4>(p, m);
                break;
            default:
                rows_from<6>(p, m);
        }
}

bool round_bf16_row(const float* x, int64_t width, int64_t row, int64_t, std::byte* all) {
    std::byte* const to = all + row * row_bytes(width);
    return round_to_bf16(
        x, width, [&](int64_t k, const uint16_t* numbers) BUSBAR_INLINE_LAMBDA { memcpy(to + 2 * k, numbers, 64); });
}
size_t bf16_rounded_bytes(int64_t rows, int64_t width) {
    return rows * row_bytes(width);
}
size_t bf16_scratch_floats() {
    return 0;
}

}  // namespace

const Bf16Kernels bf16_kernels = {bf16_rounded_bytes, round_bf16_row, bf16_product, bf16_scratch_floats};

}  // namespace busbar::cpu::BUSBAR_ISA

#endif
