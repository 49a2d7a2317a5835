// The integer products in tiles: the same sums, so the same bits, for many rows. A tile multiplies 16 rows of x with a
// panel's bytes at once, as deep as one scale reaches. Activations of 16 bits are two planes of bytes.
#include "chips/cpu/kernels/integer_product.h"
#include "chips/cpu/kernels/product_parts.h"
#include "chips/cpu/kernels/tiles.h"

#if defined(BUSBAR_TILES)

namespace busbar::cpu::BUSBAR_ISA {

/// Rows of x that a pair of tiles holds.
constexpr int64_t rows_in_tiles = 32;

struct TileWork {
    Unpacked<AsBytes> weights;
    alignas(64) int32_t dots[4][16 * panel_outputs];  ///< as the sums' tiles lie: rows 0 .. 15 high, low; 16 .. 31
    alignas(64) float sums[rows_in_tiles * panel_outputs];
};

// Tiles: 0 and 1 are sums of the high and the low plane for rows 0 .. 15, 2 and 3 those of rows 16 .. 31; 4 holds the
// weights of a group; 5 and 6 rows 0 .. 15 of both planes, 7 rows 16 .. 31 of one after the other.
constexpr int weights_tile = 4;

TileShapes shapes_for(int64_t rows, int group) {
    TileShapes s;
    const auto shape = [&](int tile, int64_t n, int bytes) {
        if (n > 0) s.rows[tile] = (uint8_t)n, s.row_bytes[tile] = (uint16_t)bytes;
    };
    const int64_t upper = rows < 16 ? rows : 16, lower = rows - upper;
    for (const int t : {0, 1}) shape(t, upper, 64);
    for (const int t : {2, 3}) shape(t, lower, 64);
    shape(weights_tile, group / 4, 64);
    for (const int t : {5, 6}) shape(t, upper, group);
    shape(7, lower, group);
    return s;
}

// Both planes lie one behind the other in a block.
static_assert(offsetof(PlaneBlock, high) == 0 && offsetof(PlaneBlock, low) == 32 && offsetof(ByteBlock, codes) == 0);

/// The sums of products of one group for `rows` rows of x, into work.dots. Bytes have one plane, which is the high one.
template <int planes>
BUSBAR_INLINE void multiply_group(const uint8_t* codes, const uint8_t* x, int64_t stride, int64_t rows,
                                  TileWork& work) {
    constexpr int64_t line = 4 * panel_outputs;
    tile_load<weights_tile>(codes, line);
    tile_load<5>(x, stride);
    tile_zero<0>();
    tile_dot<true, 0, 5, weights_tile>();
    if constexpr (planes == 2) {
        tile_load<6>(x + 32, stride);
        tile_zero<1>();
        tile_dot<false, 1, 6, weights_tile>();
    }
    if (rows > 16) {
        tile_load<7>(x + 16 * stride, stride);
        tile_zero<2>();
        tile_dot<true, 2, 7, weights_tile>();
        if constexpr (planes == 2) {
            tile_load<7>(x + 16 * stride + 32, stride);
            tile_zero<3>();
            tile_dot<false, 3, 7, weights_tile>();
        }
    }
    tile_store<0>(work.dots[0], line);
    if constexpr (planes == 2) tile_store<1>(work.dots[1], line);
    if (rows > 16) {
        tile_store<2>(work.dots[2], line);
        if constexpr (planes == 2) tile_store<3>(work.dots[3], line);
    }
}

/// `blocks` unpacked blocks of a panel for `rows` rows of x, added to work.sums.
template <int planes, const PanelLayout& L>
void sweep_tiles(const uint8_t* x, int64_t stride, int64_t rows, int64_t blocks, TileWork& work) {
    using Block = std::conditional_t<planes == 2, PlaneBlock, ByteBlock>;
    const uint8_t* codes = work.weights.codes;
    for (int64_t b = 0; b < blocks; ++b, x += sizeof(Block))
        for (int g = 0; g < L.groups(); ++g, codes += L.group * panel_outputs) {
            multiply_group<planes>(codes, x + g * L.group, stride, rows, work);
            const int64_t group = (b * L.groups() + g) * panel_outputs;
            unrolled<parts>([&](auto h) BUSBAR_INLINE_LAMBDA {
                const Floats scale = load(work.weights.scale + group + h * lanes);
                Floats least = {};
                if constexpr (L.minimum) least = load(work.weights.minimum + group + h * lanes);
                for (int64_t m = 0; m < rows; ++m) {
                    const ActivationSums& sums = ((const Block*)(x + m * stride))->sums;
                    const int64_t tile = m / 16 * 2, at = m % 16 * panel_outputs + h * lanes;
                    Ints dot = read<Ints>(work.dots[tile] + at);
                    if constexpr (planes == 2) dot = (dot << 8) + read<Ints>(work.dots[tile + 1] + at);
                    dot += less_offset(byte_offset<L>, sums, L.group, g);
                    float* const sum = work.sums + m * panel_outputs + h * lanes;
                    store(sum, add_group<L.minimum>(load(sum), dot, scale, least, sums, L.group, g));
                }
            });
        }
}

template <int planes, const PanelLayout& L>
void multiply_tiles(const IntegerProduct& p) {
    using Block = std::conditional_t<planes == 2, PlaneBlock, ByteBlock>;
    auto& work = *(TileWork*)p.scratch;
    constexpr int64_t cut = AsBytes::cut_blocks;
    const int64_t blocks = p.width / 32, panel_bytes = blocks / L.blocks() * L.bytes();
    int64_t shaped = 0;
    for (int64_t m0 = 0; m0 < p.rows; m0 += row_block) {
        const int64_t m1 = m0 + row_block < p.rows ? m0 + row_block : p.rows;
        for (int64_t b0 = 0; b0 < blocks || b0 == 0; b0 += cut) {
            const int64_t b1 = b0 + cut < blocks ? b0 + cut : blocks;
            for (int64_t n = p.n_begin; n < p.n_end; n += panel_outputs) {
                unpack_blocks<AsBytes, L>((const uint8_t*)p.panels + n / panel_outputs * panel_bytes, b0, b1,
                                          work.weights);
                const int64_t outputs = p.n_end - n < panel_outputs ? p.n_end - n : panel_outputs;
                for (int64_t m = m0; m < m1; m += rows_in_tiles) {
                    const int64_t rows = m1 - m < rows_in_tiles ? m1 - m : rows_in_tiles;
                    if (rows != shaped) tiles_begin(shapes_for(shaped = rows, L.group));
                    float* const y = p.y + m * p.y_stride + n;
                    memset(work.sums, 0, sizeof work.sums);
                    if (b0 > 0)
                        for (int64_t r = 0; r < rows; ++r)
                            memcpy(work.sums + r * panel_outputs, y + r * p.y_stride, sizeof(float) * outputs);
                    sweep_tiles<planes, L>((const uint8_t*)p.x + m * p.x_stride + b0 * sizeof(Block), p.x_stride, rows,
                                           b1 - b0, work);
                    for (int64_t r = 0; r < rows; ++r)
                        memcpy(y + r * p.y_stride, work.sums + r * panel_outputs, sizeof(float) * outputs);
                }
            }
        }
    }
    tiles_end();
}

template <int planes>
struct InTiles {
    template <const PanelLayout& L>
    static auto kernel() {
        return &multiply_tiles<planes, L>;
    }
};

template <int planes>
void tile_product(const IntegerProduct& p) {
    const auto kernel = kernel_for<InTiles<planes>>(*p.encoding);
    if (kernel == nullptr) product_lacks(*p.encoding);
    if (p.rows > 0) kernel(p);
}

size_t tile_scratch_floats() {
    return (sizeof(TileWork) + 63) / 64 * 16;
}

const IntegerKernels tile_word_kernels = {sizeof(PlaneBlock),  round_row<PlaneBlock, AsWords::largest>,
                                          tile_product<2>,     takes_panels<AsBytes>,
                                          tile_scratch_floats, multiply_freely<AsWords>};
const IntegerKernels tile_byte_kernels = {sizeof(ByteBlock),   round_row<ByteBlock, AsBytes::largest>,
                                          tile_product<1>,     takes_panels<AsBytes>,
                                          tile_scratch_floats, multiply_freely<AsBytes>};

}  // namespace busbar::cpu::BUSBAR_ISA

#endif
