#include "run/convert.h"

#include <cstring>

#include "base/check.h"

namespace busbar {

std::vector<std::byte> as_real(std::span<const double> values, Element real) {
    BUSBAR_CHECK(real == Element::f32 || real == Element::f64);
    std::vector<std::byte> out(values.size() * bytes_of(real));
    if (real == Element::f64 && !values.empty()) std::memcpy(out.data(), values.data(), out.size());
    if (real == Element::f32)
        for (size_t i = 0; i < values.size(); ++i) {
            const auto x = static_cast<float>(values[i]);
            std::memcpy(out.data() + 4 * i, &x, 4);
        }
    return out;
}

std::vector<double> as_doubles(std::span<const std::byte> bytes, Element element) {
    const size_t width = bytes_of(element);
    std::vector<double> out(bytes.size() / width);
    for (size_t i = 0; i < out.size(); ++i) {
        const std::byte* at = bytes.data() + width * i;
        out[i] = element == Element::f64   ? load<double>(at)
                 : element == Element::i32 ? static_cast<double>(load<int32_t>(at))
                                           : static_cast<double>(load<float>(at));
    }
    return out;
}

}  // namespace busbar
