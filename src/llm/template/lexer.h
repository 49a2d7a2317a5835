#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "llm/template/value.h"

namespace busbar::jinja {

enum class Token : uint8_t {
    data,
    variable_begin,
    variable_end,
    block_begin,
    block_end,
    name,
    string,
    integer,
    real,
    op,
    end
};

struct Lexeme {
    Token kind;
    int line;
    std::string text;  ///< data, name, the value of a string, the spelling of an operator
    Integer integer = 0;
    double real = 0;
};

/// Cuts a template into tokens with trim_blocks and lstrip_blocks on; comments and raw markers are gone, their
/// whitespace rules applied. Throws Error{bad_input} with the line.
std::vector<Lexeme> tokenize(std::string_view source, const std::string& address);

}  // namespace busbar::jinja
