// What the product files of one instruction set show to product.cc, which makes the table of them.
#pragma once
#include "chips/cpu/product.h"

namespace busbar::cpu::BUSBAR_ISA {

extern const IntegerKernels word_kernels, byte_kernels, tile_word_kernels, tile_byte_kernels;
extern const Bf16Kernels bf16_kernels, bf16_tile_kernels;

}  // namespace busbar::cpu::BUSBAR_ISA
