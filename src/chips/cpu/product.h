#pragma once
#include <cstddef>
#include <cstdint>

#include "chips/cpu/panel_layout.h"
#include "dtype/encoding.h"

namespace busbar::cpu {

/// One thread's share of y = x w^T: outputs n_begin..n_end of every row of x. Weights are read as stored, unaligned, in any encoding.
/// Each weight is decoded exactly as Encoding::decode does (same f32 value), then multiplied and added in f32.
/// Order (declared invariant): output (m, n) is a fixed number of lane sums over k, each in increasing k, then one fixed tree:
/// its bits depend on the width, the encoding and the instruction set alone - never on rows, n_begin, n_end or neighbours.
struct Product {
    const Encoding* encoding = nullptr;
    const std::byte* weight = nullptr;   ///< row 0 of the whole weight
    size_t row_bytes = 0;                ///< of one weight row
    int64_t width = 0;                   ///< inputs K, a multiple of encoding->block
    int64_t n_begin = 0, n_end = 0;
    const float* x = nullptr;            ///< rows x width
    int64_t x_stride = 0;                ///< floats between rows of x
    int64_t rows = 0;
    float* y = nullptr;                  ///< y[m * y_stride + n], n counted over the whole weight
    int64_t y_stride = 0;
    float* scratch = nullptr;            ///< the thread's own, product_scratch(width) floats, 64-byte aligned
};

/// The same of a weight in panels (panel_layout.h) and rows of x as integers: integer sums, exact, under each scale;
/// those times both scales added in f32 in the order of the inputs, fused. The bits depend on the weights, the row of x,
/// the width of its integers and whether the instruction set fuses alone.
struct IntegerProduct {
    const Encoding* encoding = nullptr;  ///< a quantised one
    const std::byte* panels = nullptr;   ///< of the whole weight
    int64_t width = 0;
    int64_t n_begin = 0, n_end = 0;      ///< n_begin a multiple of panel_outputs, n_end too or the weight's end
    const std::byte* x = nullptr;        ///< as round_row leaves it; memory for spare_rows more: what is in it is not used
    int64_t x_stride = 0;                ///< bytes between rows of x
    int64_t rows = 0;
    float* y = nullptr;                  ///< y[m * y_stride + n]
    int64_t y_stride = 0;
    float* scratch = nullptr;            ///< the thread's own, scratch_floats(), 64-byte aligned
};
/// Up to so many rows read the panels straight, all at once; more do so in turn, or unpack them first.
constexpr int64_t few_integer_rows = 4;
constexpr int64_t spare_rows = 7;
/// From so many rows on tiles are used where there are some: half of them would be idle below.
constexpr int64_t tile_integer_rows = 16;

/// Products of panels with activations rounded to integers of one width.
struct IntegerKernels {
    size_t block_bytes;  ///< of 32 rounded activations
    /// A row of x as integers in blocks of 32, to nearest, ties to even; false where they cannot hold it (NaN, infinity,
    /// numbers near the ends of f32's range), and `out` is then unfinished. width is a multiple of 32.
    bool (*round_row)(const float* x, int64_t width, std::byte* out);
    void (*product)(const IntegerProduct&);
    bool (*takes)(const Encoding&);
    size_t (*scratch_floats)();
    /// For the roof: multiply-adds that wait for nothing; operations done.
    double (*multiply)(int64_t rounds, int32_t* sink);
};

/// The same of a bf16 weight as stored with rows of x rounded to bf16. Sums are f32; subnormal numbers count as zero.
/// The bits depend on the weights, the row of x and the kernels alone.
struct Bf16Product {
    const std::byte* weight = nullptr;   ///< row 0 of the whole weight, unaligned
    int64_t width = 0;                   ///< inputs, any number of them
    int64_t n_begin = 0, n_end = 0;
    const std::byte* x = nullptr;        ///< all rows as round_row leaves them
    int64_t rows = 0;
    float* y = nullptr;                  ///< y[m * y_stride + n], n counted over the whole weight
    int64_t y_stride = 0;
    float* scratch = nullptr;            ///< the thread's own, scratch_floats(), 64-byte aligned
};
struct Bf16Kernels {
    size_t (*rounded_bytes)(int64_t rows, int64_t width);
    /// Row `row` of `rows` to its place in `all` (64-byte aligned), to nearest, ties to even; false where bf16 cannot
    /// stand for it (NaN, infinity, numbers near the ends of f32's range), and zeros are then in its place.
    bool (*round_row)(const float* x, int64_t width, int64_t row, int64_t rows, std::byte* all);
    void (*product)(const Bf16Product&);
    size_t (*scratch_floats)();
};

/// Kernels of one instruction set. All are compiled into every build of that architecture; the probe at start chooses one.
struct ProductKernels {
    /// Few rows (1 .. 8): unpacks in registers, bound by bandwidth.
    void (*vector)(const Product&);
    /// Many rows: unpacks a few weight rows once into scratch, then sweeps all rows of x. Same bits as `vector`.
    void (*panel)(const Product&);
    /// Decodes one weight row, or elements of it: for the embedding gather. Bit-equal to Encoding::decode.
    void (*decode_row)(const Encoding&, const std::byte* row, int64_t width, float* out);
    size_t (*scratch_floats)(int64_t width);
    /// nullptr where the instruction set has none that would pay.
    const IntegerKernels* words = nullptr;  ///< activations of 16 bits
    const IntegerKernels* bytes = nullptr;  ///< of 8 bits
    /// The same, bit for bit, of many rows by a unit that multiplies matrices, which not every processor of the
    /// instruction set has (Kernels::tiles). Activations lie in blocks of their own.
    const IntegerKernels* tile_words = nullptr;
    const IntegerKernels* tile_bytes = nullptr;
    /// For processors of the instruction set that multiply bf16 numbers (Kernels::bf16): with vectors, and in tiles,
    /// which add in an order of their own.
    const Bf16Kernels* bf16 = nullptr;
    const Bf16Kernels* tile_bf16 = nullptr;
};

/// By instruction set; nullptr where this build has no such set. The caller asks the processor first.
const ProductKernels* product_kernels_portable();
const ProductKernels* product_kernels_avx2();
const ProductKernels* product_kernels_avx512();

/// A weight came with an encoding that has no decoder in kernels/: a broken invariant, since all of them have one.
[[noreturn]] void product_lacks(const Encoding& encoding);

}  // namespace busbar::cpu
