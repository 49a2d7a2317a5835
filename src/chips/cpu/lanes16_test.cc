#include "chips/cpu/lanes16.h"
//
#include "chips/cpu/kernels/bf16.cc"
#include "chips/cpu/kernels/bf16_tiles.cc"
#include "chips/cpu/kernels/product.cc"
#include "chips/cpu/kernels/tile_product.cc"
