#pragma once
#include <cstddef>
#include <cstdint>

#include "chips/cpu/product.h"

namespace busbar::cpu {

/// Attention of a block of rows of one sequence with the query heads that share one key head, over positions begin ..
/// end (begin on a multiple of attention_range, end at most attention_range later). Query i = row * group + head. The
/// result per query is a partial softmax: maximum, sum of exponentials, and the weighted sum of values, unnormalised.
/// Its bits depend on the query's own q, position and window and on the positions it sees, on nothing else in the
/// block.
struct AttentionBlock {
    const float* q = nullptr;     ///< of the block's first row and first head of the group
    int64_t q_stride = 0;         ///< floats between rows of q
    int64_t rows = 0, group = 0;  ///< at most attention_rows; query heads per key head
    int64_t width = 0, value_width = 0;
    const int32_t* positions = nullptr;  ///< of the block's rows
    int64_t window = 0;                  ///< 0: all
    float scale = 1;
    int64_t begin = 0, end = 0;
    const int32_t* pages =
        nullptr;  ///< the sequence's row of the block table: page p holds positions 64 p .. 64 p + 63
    const std::byte* keys =
        nullptr;                ///< this key head in page 0: [width][64] elements, transposed so that scores need no
    size_t key_page_bytes = 0;  ///< sums across lanes; the next page is this many bytes on
    const std::byte* values = nullptr;  ///< likewise [64][value_width]
    size_t value_page_bytes = 0;
    const std::byte* after = nullptr;  ///< keys of a page that is read next, if that is known: asked for in time
    float* maximum = nullptr;          ///< rows * group
    float* sum = nullptr;
    float* weighted = nullptr;  ///< rows * group * value_width
    float* scratch = nullptr;   ///< attention_scratch(group) floats, 64-byte aligned
};

/// Positions whose softmax is folded together before the next: fixed, so that who computes what never shows.
constexpr int64_t attention_range = 512;
/// Rows per block, at most.
constexpr int64_t attention_rows = 16;
constexpr int64_t attention_scratch(int64_t group) {
    return attention_rows * group * (64 + 3);
}

/// How page elements are kept. The kernels' own small enum: they see no header with code in it.
enum class PageElement : int { f32, f16, bf16 };

/// All kernels of one instruction set: leaf loops on plain memory, one thread's share each. Which memory, whose share
/// and when is decided by the steps (step.h), which are compiled for the baseline.
struct Kernels {
    const char* name;                   ///< "avx2"
    bool tiles = false;                 ///< the processor has the tiles of product->tile_words
    const Bf16Kernels* bf16 = nullptr;  ///< one of product's, where the processor has it

    /// y[i] = a[i * step_a] op b[i * step_b]; steps are 0 or 1.
    using Binary = void (*)(const float* a, int64_t step_a, const float* b, int64_t step_b, float* y, int64_t n);
    Binary add, subtract, multiply, divide;
    using Unary = void (*)(const float* x, float* y, int64_t n);
    Unary exp, rsqrt, silu;
    void (*gated_silu)(const float* gate, const float* up, float* y, int64_t n);

    /// One row each. Sums are taken in double, in fixed lanes.
    float (*sum)(const float* x, int64_t n);
    float (*mean)(const float* x, int64_t n);
    float (*max)(const float* x, int64_t n);
    void (*softmax)(const float* x, float* y, int64_t n);
    void (*rms_norm)(const float* x, const float* weight, float* y, int64_t n, float epsilon);
    void (*add_rms_norm)(const float* x, const float* delta, const float* weight, float* sum, float* y, int64_t n,
                         float epsilon);
    /// One head of one row; y may be x.
    void (*rotate_half)(const float* x, const float* cos, const float* sin, float* y, int64_t angles, int64_t width);
    void (*rotate_interleaved)(const float* x, const float* cos, const float* sin, float* y, int64_t angles,
                               int64_t width);

    /// y[m][n] = sum_k a[m][k] b[k][n], k in order.
    void (*batch)(const float* a, const float* b, float* y, int64_t m, int64_t k, int64_t n);

    /// f32 to page elements, rounded to nearest even.
    void (*narrow)(PageElement to, const float* x, void* y, int64_t n);
    void (*attention)(PageElement keys, PageElement values, const AttentionBlock&);
    /// Folds the partial result (m, s, w) of later positions into the earlier one, element for element.
    void (*attention_merge)(float* maximum, float* sum, float* weighted, const float* later_maximum,
                            const float* later_sum, const float* later_weighted, int64_t queries, int64_t value_width);

    /// For the roofs: reads all bytes (plain, or prefetching ahead) and returns what keeps it from being optimised
    /// away.
    double (*read)(const void* data, size_t bytes, bool prefetch);
    /// Floating-point operations done.
    double (*multiply_add)(int64_t rounds, float* sink);

    const ProductKernels* product;  ///< the matrix products (product.h)
};

}  // namespace busbar::cpu
