#pragma once
#include <string>
#include <string_view>

#include "llm/template/runtime.h"

namespace busbar::jinja {

/// One field of Python's format mini-language: [[fill]align][sign][z][#][0][width][grouping][.precision][type].
struct FormatSpec {
    std::string fill = " ";
    char align = 0;  ///< 0: the type's own
    char sign = '-';
    bool alternate = false, negative_zero = false;
    size_t width = 0;
    char grouping = 0;
    int precision = -1;
    char type = 0;
};

FormatSpec parse_spec(Runtime& rt, std::string_view text);
/// The digits of a number, with sign and prefix apart (zero padding goes between).
struct Digits {
    std::string sign, prefix, digits;
};
Digits integer_digits(Runtime& rt, Integer value, const FormatSpec& spec);
Digits real_digits(Runtime& rt, double value, const FormatSpec& spec);
void append_number(Builder& out, const Digits& number, FormatSpec spec, bool trusted);
void append_padded(Builder& out, Runtime& rt, const Text& text, const FormatSpec& spec);

}  // namespace busbar::jinja
