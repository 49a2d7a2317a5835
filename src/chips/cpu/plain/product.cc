// Plain loops, until kernels/product.cc is there.
#include <stdint.h>

#include "chips/cpu/product.h"

namespace busbar::cpu::BUSBAR_ISA {

extern const ProductKernels product_kernels;

namespace {

void multiply(const Product& p) {
    for (int64_t n = p.n_begin; n < p.n_end; ++n) {
        p.encoding->decode(p.weight + n * p.row_bytes, p.scratch, p.width / p.encoding->block);
        for (int64_t m = 0; m < p.rows; ++m) {
            float lanes[16] = {}, *x = const_cast<float*>(p.x) + m * p.x_stride;
            for (int64_t k = 0; k < p.width; ++k) lanes[k % 16] += x[k] * p.scratch[k];
            for (int i = 1; i < 16; ++i) lanes[0] += lanes[i];
            p.y[m * p.y_stride + n] = lanes[0];
        }
    }
}

void decode_row(const Encoding& encoding, const std::byte* row, int64_t width, float* out) { encoding.decode(row, out, width / encoding.block); }
size_t scratch_floats(int64_t width) { return width; }

}  // namespace

const ProductKernels product_kernels = {multiply, multiply, decode_row, scratch_floats};

}  // namespace busbar::cpu::BUSBAR_ISA
