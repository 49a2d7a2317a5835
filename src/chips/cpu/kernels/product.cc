// The matrix products of one instruction set.
#include "chips/cpu/product.h"

#include "chips/cpu/kernels/panel.h"
#include "chips/cpu/kernels/product_parts.h"
#include "chips/cpu/kernels/tiles.h"

namespace busbar::cpu::BUSBAR_ISA {

static void vector(const Product& p) {
    if (p.rows == 0) return;
    const bool plain = p.encoding->block == 1;
    if (p.rows <= block_rows || plain)
        format_of(*p.encoding).vector_product(p);
    else
        multiply_panels(p);
}

static void panel(const Product& p) {
    multiply_panels(p);
}

static void decode_row(const Encoding& encoding, const std::byte* row, int64_t width, float* out) {
    format_of(encoding).decode_row((const uint8_t*)row, width, out);
}

static size_t scratch_floats(int64_t) {
    return panel_floats + block_floats + sum_floats;
}

extern const ProductKernels product_kernels;
const ProductKernels product_kernels = {
    vector,
    panel,
    decode_row,
    scratch_floats,
#if BUSBAR_LANES >= 8
    &word_kernels,
    &byte_kernels,
#endif
#if defined(BUSBAR_TILES)
    &tile_word_kernels,
    &tile_byte_kernels,
    &bf16_kernels,
    &bf16_tile_kernels,
#endif
};

}  // namespace busbar::cpu::BUSBAR_ISA

#define BUSBAR_JOIN_WORDS(a, b) a##b
#define BUSBAR_JOIN(a, b) BUSBAR_JOIN_WORDS(a, b)

const busbar::cpu::ProductKernels* busbar::cpu::BUSBAR_JOIN(product_kernels_, BUSBAR_ISA)() {
    return &BUSBAR_ISA::product_kernels;
}
