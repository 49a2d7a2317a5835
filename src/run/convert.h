#pragma once
#include <span>
#include <vector>

#include "base/bytes.h"
#include "dtype/element.h"

namespace busbar {

/// Numbers as a chip keeps them between ops (f32 or f64), and back; i32 back only.
std::vector<std::byte> as_real(std::span<const double> values, Element real);
std::vector<double> as_doubles(std::span<const std::byte> bytes, Element element);

}  // namespace busbar
