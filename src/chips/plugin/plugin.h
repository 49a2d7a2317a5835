#pragma once
#include <memory>
#include <string_view>

#include "device/device.h"

namespace busbar {

/// A vendor's shared library as a device (include/busbar_chip.h). `detail`: PATH?key=value&key=value, the host's own
/// keys being device=N, timeout=MS, guards=each and isolate; the others go to the chip. Throws Error{usage} for what
/// cannot be read, Error{chip} where the library is no chip of this contract, hangs, dies or refuses its options.
std::unique_ptr<Device> make_plugin(std::string_view detail);

}  // namespace busbar
