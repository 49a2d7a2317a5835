#pragma once
#include <stdint.h>

// What 4-bit codes stand for. Included by kernels that are compiled for one instruction set each, so constants only.

namespace busbar {

/// Of IQ4_NL and IQ4_XS: steps that are finer near zero, where weights are dense.
constexpr int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/// E2M1 doubled, so that the values are whole numbers; the scale is halved in return (half_of_e8m0).
constexpr int8_t e2m1_doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

}  // namespace busbar
