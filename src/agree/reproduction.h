#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "agree/conform/conform.h"

namespace busbar::agree {

/// One op with what it was given, what it answered and what is right: enough to run it alone on any chip.
struct Reproduction {
    conform::Case c;
    Rounding rounding;             ///< what the kernel row declares that it rounds
    Element real = Element::f32;   ///< element of the chip's values
    std::string row, chip, model;  ///< names of the kernel row, the chip, the model's hash
    std::string why;               ///< the verdict in words
    std::vector<Array> expected, got;
};

/// Writes DIR/case.json, and the numbers beside it: NumPy .npy (float64) for values, .bin for a weight's stored bytes.
/// Throws Error{bad_input} where the disk does not take it.
void save(const Reproduction& r, const std::string& folder);
/// Throws Error{bad_input} with file and field where the folder does not hold a whole reproduction, or one that a
/// kernel could not be given: extents that differ from their types, positions, pages or rows that there are not.
Reproduction load(const std::string& folder);

/// The bytes of a file beside case.json, by its name. Throws Error where there is none.
using Files = std::function<std::string(const std::string& name)>;
/// The same from case.json's text. Throws Error{bad_input}, its address at most a file's name, or what nlohmann-json
/// throws of a field that is missing or of another type.
Reproduction parse(std::string_view text, const Files& files);

/// Runs it on every kernel row of the chip that takes it, against the oracle, as `conform` does.
std::vector<conform::CaseResult> replay(const Reproduction& r, Device& chip, Device& oracle);

}  // namespace busbar::agree
