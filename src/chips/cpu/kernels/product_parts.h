// What the product files of one instruction set show to product.cc, which makes the table of them.
#pragma once
#include "chips/cpu/product.h"

namespace busbar::cpu::BUSBAR_ISA {

bool round_row(const float* x, int64_t width, ActivationBlock* out);
void integer_product(const IntegerProduct& p);
bool has_panels(const Encoding& encoding);
size_t integer_scratch_floats();
double multiply_pairs(int64_t rounds, int32_t* sink);

}  // namespace busbar::cpu::BUSBAR_ISA
