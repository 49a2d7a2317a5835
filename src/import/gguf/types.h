#pragma once
#include <cstdint>
#include <string>

namespace busbar::gguf {

/// What a tensor type id of a GGUF file is called, known to this build or not: "IQ2_XXS (type 16)", "type 4 (Q4_2,
/// removed from the format)", "type 117 (of a fork)". For messages; what this build reads is the table of
/// dtype/encoding.h.
std::string type_name(uint32_t id);

/// "F32, F16, BF16, Q4_0 ...": the types this build reads.
std::string known_types();

}  // namespace busbar::gguf
