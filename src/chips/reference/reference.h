#pragma once
#include <memory>

#include "device/device.h"

namespace busbar {

/// The oracle: every op in plain C++ and double precision, one thread, loops as a student would write them. Values
/// between ops and states are f64, weights are read as stored through Encoding::decode, a row at a time. Slow, obvious,
/// always right: what any other chip's numbers are compared with. A fused op is computed here directly, not by its
/// definition, so that the two can be compared with each other as well.
std::unique_ptr<Device> make_reference();

}  // namespace busbar
