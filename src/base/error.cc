#include "base/error.h"

#include "base/utf8.h"

namespace busbar {

std::string with_commas(unsigned long long n) {
    std::string digits = std::to_string(n);
    for (int i = static_cast<int>(digits.size()) - 3; i > 0; i -= 3) digits.insert(digits.begin() + i, ',');
    return digits;
}

std::string quote(std::string_view text, size_t limit) {
    std::string out = "'";
    size_t i = 0;
    for (; i < text.size() && out.size() < limit; ) {
        const size_t length = utf8_length(text.substr(i));
        const unsigned char c = text[i];
        if (length == 0 || c < 0x20 || c == 0x7f) {
            out += fmt::format("\\x{:02x}", c);
            i += 1;
        } else {
            out += text.substr(i, length);
            i += length;
        }
    }
    if (i < text.size()) out += "...";
    return out + "'";
}

}  // namespace busbar
