#pragma once
// The products with sixteen lanes in portable vectors, and tiles modelled: the logic of AVX-512 and of AMX runs,
// slowly, on machines that lack them. Tested by product_test.cc, panels_test.cc and bf16_test.cc; in two files, since
// they take half a minute to compile.
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
