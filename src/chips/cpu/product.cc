#include "chips/cpu/product.h"

#include "base/check.h"

namespace busbar::cpu {

void product_lacks(const Encoding& encoding) {
    check_failed(__FILE__, __LINE__, "encoding",
                 "the cpu's products have no decoder for " + std::string(encoding.name));
}

#ifndef BUSBAR_HAS_AVX2
const ProductKernels* product_kernels_avx2() {
    return nullptr;
}
#endif
#ifndef BUSBAR_HAS_AVX512
const ProductKernels* product_kernels_avx512() {
    return nullptr;
}
#endif

}  // namespace busbar::cpu
