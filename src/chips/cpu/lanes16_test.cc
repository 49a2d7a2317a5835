// The products with sixteen lanes in portable vectors, and tiles modelled: the logic of AVX-512 and of AMX runs,
// slowly, on machines that lack them. Tested by product_test.cc and panels_test.cc.
#include "chips/cpu/product.h"

namespace busbar::cpu {
const ProductKernels* product_kernels_lanes16();
}

#define BUSBAR_ISA lanes16
#define BUSBAR_LANES 16
#ifndef BUSBAR_SANITIZED
#define BUSBAR_SANITIZED  // speed is no matter here, and forced inlining takes a minute to compile
#endif
#define BUSBAR_TILE_MODEL
#undef __AVX2__
#undef __AVX512F__
#include "chips/cpu/kernels/bf16.cc"
#include "chips/cpu/kernels/bf16_tiles.cc"
#include "chips/cpu/kernels/integer.cc"
#include "chips/cpu/kernels/integer_bytes.cc"
#include "chips/cpu/kernels/product.cc"
#include "chips/cpu/kernels/tile_product.cc"
