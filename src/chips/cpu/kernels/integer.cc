// Products of panels with activations as words, of one instruction set. With vectors of four lanes they would be slower
// than the products of stored blocks in f32: there are none.
#include "chips/cpu/kernels/integer_product.h"
#include "chips/cpu/kernels/product_parts.h"

#if BUSBAR_LANES >= 8

namespace busbar::cpu::BUSBAR_ISA {

const IntegerKernels word_kernels = integer_kernels<AsWords>;

}  // namespace busbar::cpu::BUSBAR_ISA

#endif
