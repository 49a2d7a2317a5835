// The same with activations as bytes.
#include "chips/cpu/kernels/integer_product.h"
#include "chips/cpu/kernels/product_parts.h"

#if BUSBAR_LANES >= 8

namespace busbar::cpu::BUSBAR_ISA {

const IntegerKernels byte_kernels = integer_kernels<AsBytes>;

}  // namespace busbar::cpu::BUSBAR_ISA

#endif
