#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "import/arch/family.h"
#include "import/config.h"

namespace busbar {

namespace {

constexpr std::string_view kinds[] = {"default", "linear", "dynamic", "llama3", "yarn"};
constexpr double pi = 3.14159265358979323846;

// Llama 3.1: long wavelengths are slowed by `factor`, short ones kept, a linear ramp between.
void llama3(const RopeConfig& rope, double original, std::vector<double>& f) {
    for (double& radians : f) {
        const double wavelength = 2 * pi / radians;
        if (wavelength < original / rope.high_freq_factor) continue;
        if (wavelength > original / rope.low_freq_factor) {
            radians /= rope.factor;
            continue;
        }
        const double s =
            (original / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
        radians = (1 - s) * radians / rope.factor + s * radians;
    }
}

// YaRN [Peng et al. 2023]: a ramp over the pair's index between two numbers of full turns within the original context.
double yarn(const RopeConfig& rope, double original, int64_t width, std::vector<double>& f) {
    const auto d = static_cast<double>(width);
    const auto pair_of_turns = [&](double turns) {
        return d * std::log(original / (turns * 2 * pi)) / (2 * std::log(rope.theta));
    };
    double low = pair_of_turns(rope.beta_fast), high = pair_of_turns(rope.beta_slow);
    if (rope.truncate) low = std::floor(low), high = std::ceil(high);
    low = std::max(low, 0.0);
    high = std::min(high, d - 1);
    if (low == high) high += 0.001;
    for (size_t i = 0; i < f.size(); ++i) {
        const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
        f[i] = f[i] / rope.factor * ramp + f[i] * (1 - ramp);
    }
    const auto m = [&](double k) { return rope.factor <= 1 ? 1.0 : 0.1 * k * std::log(rope.factor) + 1; };
    if (rope.attention_factor) return *rope.attention_factor;
    if (rope.mscale && rope.mscale_all_dim) return m(*rope.mscale) / m(*rope.mscale_all_dim);
    return m(1);
}

}  // namespace

std::string known_rope_kinds() {
    return fmt::format("{}", fmt::join(kinds, ", "));
}

RotaryFrequencies rotary_frequencies(const RopeConfig& rope, int64_t width, int64_t trained_context, int64_t context,
                                     const std::string& address) {
    if (std::ranges::find(kinds, rope.kind) == std::end(kinds))
        throw bad_input(address,
                        "[rope] kind {} is not one this build knows. Known: {}. Running without it would give wrong "
                        "text.",
                        quote(rope.kind), known_rope_kinds());
    RotaryFrequencies out;
    const auto d = static_cast<double>(width);
    const double original = rope.original_context > 0 ? rope.original_context : static_cast<double>(trained_context);
    double theta = rope.theta;
    if (rope.kind == "dynamic" && static_cast<double>(context) > original)
        theta *= std::pow(rope.factor * static_cast<double>(context) / original - (rope.factor - 1), d / (d - 2));
    for (int64_t i = 0; i < width / 2; ++i) out.radians.push_back(std::pow(theta, -2 * static_cast<double>(i) / d));
    if (rope.kind == "linear") {
        for (double& f : out.radians) f /= rope.factor;
    } else if (rope.kind == "llama3") {
        llama3(rope, original, out.radians);
    } else if (rope.kind == "yarn") {
        out.scale = yarn(rope, original, width, out.radians);
    }
    return out;
}

}  // namespace busbar
