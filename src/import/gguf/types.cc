#include "import/gguf/types.h"

#include <fmt/format.h>

#include <cctype>

#include "dtype/encoding.h"

namespace busbar::gguf {

namespace {

struct Name {
    uint32_t id;
    const char* name;
};

// formats.md 4.3: only what has no row in the encoding table.
constexpr Name other_types[] = {
    {9, "Q8_1"},   {15, "Q8_K"},  {16, "IQ2_XXS"}, {17, "IQ2_XS"}, {18, "IQ3_XXS"}, {19, "IQ1_S"},
    {21, "IQ3_S"}, {22, "IQ2_S"}, {24, "I8"},      {25, "I16"},    {26, "I32"},     {27, "I64"},
    {28, "F64"},   {29, "IQ1_M"}, {34, "TQ1_0"},   {35, "TQ2_0"},  {40, "NVFP4"},   {41, "Q1_0"},
};

constexpr Name removed_types[] = {
    {4, "Q4_2"},      {5, "Q4_3"},        {31, "Q4_0_4_4"},   {32, "Q4_0_4_8"},
    {33, "Q4_0_8_8"}, {36, "IQ4_NL_4_4"}, {37, "IQ4_NL_4_8"}, {38, "IQ4_NL_8_8"},
};

std::string upper(std::string_view text) {
    std::string out(text);
    for (char& c : out) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    return out;
}

}  // namespace

std::string type_name(uint32_t id) {
    if (id <= INT32_MAX)
        if (const Encoding* e = find_gguf_encoding(static_cast<int>(id)))
            return fmt::format("{} (type {})", upper(e->name), id);
    for (const Name& t : other_types)
        if (t.id == id) return fmt::format("{} (type {})", t.name, id);
    for (const Name& t : removed_types)
        if (t.id == id) return fmt::format("type {} ({}, removed from the format)", id, t.name);
    return id >= 100 ? fmt::format("type {} (of a fork)", id) : fmt::format("type {} (unknown)", id);
}

std::string known_types() {
    std::string out;
    for (const Encoding* e : encodings()) out += (out.empty() ? "" : ", ") + upper(e->name);
    return out;
}

}  // namespace busbar::gguf
