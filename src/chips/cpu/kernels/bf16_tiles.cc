// Products of bf16 weights in tiles. The weights are taken as they lie: 16 outputs times 32 inputs, multiplied with
// activations that lie in pairs, 32 inputs of up to 16 rows of x. A tile adds those 32 products on its own and then to
// the sum so far, in the order of the inputs, wherever it stands: an output's bits depend on its weights and its row of
// x alone. For any number of rows, since vectors would add in another order.
#include "chips/cpu/kernels/bf16.h"

#include "chips/cpu/kernels/product_parts.h"
#include "chips/cpu/kernels/tiles.h"

#if defined(BUSBAR_TILES)

namespace busbar::cpu::BUSBAR_ISA {

namespace {

/// Outputs of a tile of weights; rows of x of one of activations.
constexpr int64_t side = 16;

struct Bf16Work {
    alignas(64) uint8_t weights[2][side][64];  ///< the last inputs of rows that are no multiple of 32 wide
    alignas(64) float sums[4][side * side];    ///< [output][row of x]
};

// Tiles 0 .. 3 are sums: of the first and the second 16 rows with the first 16 outputs, then with the second; 4 and 5
// weights, 6 and 7 activations.
constexpr int weights_at = 4, rows_at = 6;

/// Of up to 2 x 16 outputs and 2 x 16 rows.
struct Cover {
    int64_t outputs, rows;
    bool operator==(const Cover&) const = default;
};

TileShapes shapes_of(const Cover& c) {
    TileShapes s;
    for (int o = 0; o < 2; ++o)
        for (int r = 0; r < 2; ++r) {
            const auto part = [](int64_t all, int i) { return all - i * side < side ? all - i * side : side; };
            const int64_t outputs = part(c.outputs, o), rows = part(c.rows, r);
            if (outputs <= 0 || rows <= 0) continue;
            const auto shape = [&](int tile, int64_t n, int64_t bytes) {
                s.rows[tile] = (uint8_t)n, s.row_bytes[tile] = (uint16_t)bytes;
            };
            shape(2 * o + r, outputs, 4 * rows);
            shape(weights_at + o, outputs, 64);
            shape(rows_at + r, bf16_step / 2, 4 * rows);
        }
    return s;
}

/// Row m's group of 16 and its place among them; the last group has rows only as many as there are.
struct Group {
    Group(int64_t m, int64_t rows) : first(m / side * side), count(rows - first < side ? rows - first : side) {}
    int64_t first, count;
    int64_t step_bytes() const { return bf16_step / 2 * 4 * count; }
    const std::byte* in(const std::byte* all, int64_t width) const { return all + first * bf16_steps(width) * 64; }
};

/// 32 inputs, of both operands in memory.
struct Operands {
    const uint8_t *weights[2], *x[2];
    int64_t weights_stride, x_stride[2];
};
template <bool more_outputs, bool more_rows>
BUSBAR_INLINE void multiply_step(const Operands& at) {
    tile_load<weights_at>(at.weights[0], at.weights_stride);
    tile_load<rows_at>(at.x[0], at.x_stride[0]);
    if constexpr (more_outputs) tile_load<weights_at + 1>(at.weights[1], at.weights_stride);
    if constexpr (more_rows) tile_load<rows_at + 1>(at.x[1], at.x_stride[1]);
    tile_dot_bf16<0, weights_at, rows_at>();
    if constexpr (more_rows) tile_dot_bf16<1, weights_at, rows_at + 1>();
    if constexpr (more_outputs) tile_dot_bf16<2, weights_at + 1, rows_at>();
    if constexpr (more_outputs && more_rows) tile_dot_bf16<3, weights_at + 1, rows_at + 1>();
}

/// The sums of a cover from output n and row m on, into work.sums.
template <bool more_outputs, bool more_rows>
void multiply_cover(const Bf16Product& p, int64_t n, int64_t m, const Cover& c, Bf16Work& work) {
    const int64_t row_bytes = 2 * p.width;
    Operands at = {};  // what is not there moves on with the rest, by nothing
    at.weights_stride = row_bytes;
    for (int i = 0; i < 2; ++i) {
        at.weights[i] = (const uint8_t*)p.weight + (n + i * side) * row_bytes;
        if (i > 0 && !more_rows) continue;
        const Group group(m + i * side, p.rows);
        at.x[i] = (const uint8_t*)group.in(p.x, p.width);
        at.x_stride[i] = 4 * group.count;
    }
    unrolled<4>([](auto t) BUSBAR_INLINE_LAMBDA {
        if constexpr ((t < 2 || more_outputs) && (t % 2 == 0 || more_rows)) tile_zero<t>();
    });
    // Sixteen rows of weights are as many streams: the next ones are asked for in the order of their addresses.
    constexpr int64_t outputs = more_outputs ? 2 * side : side;
    uintptr_t ahead = (uintptr_t)at.weights[0] + outputs * row_bytes;
    for (int64_t k = 0; k + bf16_step <= p.width; k += bf16_step) {
        if (m == 0)
            for (int64_t line = 0; line < outputs; ++line, ahead += 64)
                __builtin_prefetch((const void*)ahead, 0, 2);  // into the second level cache: they are many
        multiply_step<more_outputs, more_rows>(at);
        for (int i = 0; i < 2; ++i) at.weights[i] += 64, at.x[i] += 16 * at.x_stride[i];
    }
    if (const int64_t rest = p.width % bf16_step; rest > 0) {
        for (int64_t o = 0; o < c.outputs; ++o) {
            uint8_t* const to = work.weights[o / side][o % side];
            memset(to, 0, 64);
            memcpy(to, at.weights[0] + o * row_bytes, 2 * rest);
        }
        for (int i = 0; i < 2; ++i) at.weights[i] = work.weights[i][0];
        at.weights_stride = 64;
        multiply_step<more_outputs, more_rows>(at);
    }
    unrolled<4>([&](auto t) BUSBAR_INLINE_LAMBDA {
        if constexpr ((t < 2 || more_outputs) && (t % 2 == 0 || more_rows)) tile_store<t>(work.sums[t], side * 4);
    });
}

/// Lanes of b where `step` is set in their number, shifted by it, beside those of a where it is not; and the rest.
template <int step>
BUSBAR_INLINE void exchange(Floats& a, Floats& b) {
#define BUSBAR_LOW(c) (((c)&step) != 0 ? 16 + (c)-step : (c))
#define BUSBAR_HIGH(c) (((c)&step) != 0 ? 16 + (c) : (c) + step)
#define BUSBAR_LANES_OF(f) \
    f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7), f(8), f(9), f(10), f(11), f(12), f(13), f(14), f(15)
    const Floats low = __builtin_shufflevector(a, b, BUSBAR_LANES_OF(BUSBAR_LOW));
    b = __builtin_shufflevector(a, b, BUSBAR_LANES_OF(BUSBAR_HIGH));
    a = low;
#undef BUSBAR_LANES_OF
#undef BUSBAR_HIGH
#undef BUSBAR_LOW
}
template <int step>
BUSBAR_INLINE void exchange_all(Floats* lines) {
    unrolled<16>([&](auto i) BUSBAR_INLINE_LAMBDA {
        if constexpr ((i & step) == 0) exchange<step>(lines[i], lines[i + step]);
    });
}

/// A tile of sums to its place in y, where a row of x is a line.
void store_transposed(const float* sums, int64_t outputs, int64_t rows, float* y, int64_t y_stride) {
    Floats lines[16];
    for (int i = 0; i < 16; ++i) lines[i] = load(sums + i * side);
    exchange_all<8>(lines);
    exchange_all<4>(lines);
    exchange_all<2>(lines);
    exchange_all<1>(lines);
    for (int64_t m = 0; m < rows; ++m)
        if (outputs == side)
            store(y + m * y_stride, lines[m]);
        else
            memcpy(y + m * y_stride, lines + m, sizeof(float) * outputs);
}

void bf16_tile_product(const Bf16Product& p) {
    auto& work = *(Bf16Work*)p.scratch;
    Cover shaped = {};
    for (int64_t m = 0; m < p.rows; m += 2 * side)
        for (int64_t n = p.n_begin; n < p.n_end; n += 2 * side) {
            const Cover c = {p.n_end - n < 2 * side ? p.n_end - n : 2 * side,
                             p.rows - m < 2 * side ? p.rows - m : 2 * side};
            if (!(c == shaped)) tiles_begin(shapes_of(shaped = c));
            const bool more_outputs = c.outputs > side, more_rows = c.rows > side;
            (more_outputs ? (more_rows ? multiply_cover<true, true> : multiply_cover<true, false>)
                          : (more_rows ? multiply_cover<false, true> : multiply_cover<false, false>))(p, n, m, c, work);
            for (int64_t t = 0; t < 4; ++t) {
                const int64_t o = t / 2 * side, r = t % 2 * side;
                if (o >= c.outputs || r >= c.rows) continue;
                store_transposed(work.sums[t], c.outputs - o < side ? c.outputs - o : side,
                                 c.rows - r < side ? c.rows - r : side, p.y + (m + r) * p.y_stride + n + o, p.y_stride);
            }
        }
    tiles_end();
}

bool round_bf16_column(const float* x, int64_t width, int64_t row, int64_t rows, std::byte* all) {
    const Group group(row, rows);
    auto* const to = const_cast<std::byte*>(group.in(all, width)) + 4 * (row - group.first);
    return round_to_bf16(x, width, [&](int64_t k, const uint16_t* numbers) BUSBAR_INLINE_LAMBDA {
        std::byte* const step = to + k / bf16_step * group.step_bytes();
        for (int64_t pair = 0; pair < bf16_step / 2; ++pair)
            memcpy(step + pair * 4 * group.count, numbers + 2 * pair, 4);
    });
}
size_t bf16_columns_bytes(int64_t rows, int64_t width) {
    return rows * bf16_steps(width) * bf16_step * 2;
}
size_t bf16_tile_scratch_floats() {
    return sizeof(Bf16Work) / sizeof(float);
}

}  // namespace

const Bf16Kernels bf16_tile_kernels = {bf16_columns_bytes, round_bf16_column, bf16_tile_product,
                                       bf16_tile_scratch_floats};

}  // namespace busbar::cpu::BUSBAR_ISA

#endif
