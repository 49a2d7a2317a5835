#pragma once
#include "chips/opencl/step.h"

namespace busbar::opencl {

/// Bytes and floating-point operations in a second: reading a buffer of up to 256 MB end to end, multiply-adds on
/// registers, and bringing a buffer to the host. About half a second.
struct Roofs {
    double read_bytes_per_s = 0, flops_per_s = 0, link_bytes_per_s = 0;
};
Roofs measure_roofs(Context& context);

}  // namespace busbar::opencl
