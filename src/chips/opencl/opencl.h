#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "device/device.h"

namespace busbar {

/// Device number `detail` ("" is 0) of the system's OpenCL. Throws Error{usage} for a number that is none or too large,
/// Error{chip} with what to install where there is no library, no driver or a driver that hangs or dies.
std::unique_ptr<Device> make_opencl(std::string_view detail = "");

/// What the system's OpenCL has, asked in a process apart since drivers may hang or die, and kept in the user's cache.
/// `may_remember`: what was found before will do, as long as no library or driver changed since.
/// BUSBAR_PROBE_SECONDS: how long drivers may take (20).
struct FoundOpenCl {
    std::vector<std::string> devices;  ///< "0: NAME, VERSION", in the order of their numbers
    std::string why;                   ///< why there is none; "" if there is any
};
FoundOpenCl find_opencl(bool may_remember);

}  // namespace busbar
