#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "device/device.h"

namespace busbar {

/// The CPU as a chip. 0 threads: all that this process may use. `force_isa` "": the widest usable instruction set, else
/// its word. Throws Error{usage} if this processor or build does not have the set.
std::unique_ptr<Device> make_cpu(int threads = 0, std::string_view force_isa = "");

/// Words of the instruction sets that this processor can run, from plain to wide: "portable", "avx2", "avx512",
/// "avx512_bf16", "amx_bf16", "amx".
std::vector<std::string> usable_cpu_isas();

/// Measures what this chip can read and multiply with all its threads (about a third of a second) and enters both in
/// its profile: reads at the better of plain and prefetched over a buffer of several times the last cache, f32
/// multiply-adds on registers. `device` is one of make_cpu's.
void measure_roofs(Device& device);

}  // namespace busbar
