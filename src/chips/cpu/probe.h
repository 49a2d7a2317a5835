#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "chips/cpu/kernels.h"
#include "device/device.h"

namespace busbar::cpu {

/// One instruction set that this build has kernels for.
struct InstructionSet {
    const Kernels* kernels;
    std::string_view words;  ///< for people: "avx2+fma+f16c"
    bool usable;             ///< by this processor and its operating system
    bool pays = true;        ///< faster here than the one before, where that depends on the machine: measured
};
/// From plain to wide; the last usable one that pays is the choice.
const std::vector<InstructionSet>& instruction_sets();

/// This chip with the kernels of one of them, or of a test's own.
std::unique_ptr<Device> make_cpu_with(const InstructionSet& set, int threads);

/// "AMD EPYC", as the processor says itself; "unknown" if it does not.
std::string processor_name();
/// Memory that this process may still take: the system's estimate, cut by the cgroup's limit.
uint64_t available_memory();
/// The last level of cache, 32 MiB if the system does not say.
uint64_t last_cache_bytes();

}  // namespace busbar::cpu
