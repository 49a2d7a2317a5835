#include "chips/cpu/kernels/parts.h"

#define BUSBAR_STRING_OF(word) #word
#define BUSBAR_STRING(word) BUSBAR_STRING_OF(word)

namespace busbar::cpu::BUSBAR_ISA {

extern const ProductKernels product_kernels;  // kernels/product.cc
extern const Kernels kernels;

const Kernels kernels = {
    .name = BUSBAR_STRING(BUSBAR_ISA),
    .add = add,
    .subtract = subtract,
    .multiply = multiply,
    .divide = divide,
    .exp = exp,
    .rsqrt = rsqrt,
    .silu = silu,
    .gated_silu = gated_silu,
    .sum = sum,
    .mean = mean,
    .max = max,
    .softmax = softmax,
    .rms_norm = rms_norm,
    .add_rms_norm = add_rms_norm,
    .rotate_half = rotate_half,
    .rotate_interleaved = rotate_interleaved,
    .batch = batch,
    .narrow = narrow,
    .attention = attention,
    .attention_merge = attention_merge,
    .read = read,
    .multiply_add = multiply_add,
    .product = &product_kernels,
};

}  // namespace busbar::cpu::BUSBAR_ISA
