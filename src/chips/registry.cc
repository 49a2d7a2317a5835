// The only file that names all chips. Roles are data here; tools and tests ask by role.
#include "chips/registry.h"

#include "chips/reference/reference.h"
#if __has_include("chips/cpu/cpu.h")
#include "chips/cpu/cpu.h"
#define BUSBAR_HAS_CPU 1
#endif

namespace busbar {

namespace {

std::string listed(const auto& words) {
    std::string out;
    for (const auto& word : words) out += (out.empty() ? "" : ", ") + std::string(word);
    return out;
}

std::unique_ptr<Device> open_reference(const ChipOptions& options) {
    if (!options.isa.empty())
        throw usage_error("[chips] expected no instruction set for the reference, got {}", quoted(options.isa));
    return make_reference();
}

}  // namespace

const std::vector<ChipSpec>& chip_table() {
    static const std::vector<ChipSpec> table = {
        {"reference", ChipRole::oracle,
         "every op in plain loops and double precision: slow, obvious, what others are compared with",
         [] { return std::vector<std::string>{""}; }, open_reference},
    };
    return table;
}

std::vector<std::string_view> known_chips() {
    std::vector<std::string_view> words;
    for (const ChipSpec& chip : chip_table()) words.push_back(chip.word);
    return words;
}

std::unique_ptr<Device> open_chip(std::string_view word, const ChipOptions& options) {
    for (const ChipSpec& chip : chip_table())
        if (chip.word == word) return chip.open(options);
    throw usage_error("[chips] expected one of {}, got {}", listed(known_chips()), quoted(word));
}

static std::string_view word_of(ChipRole role) {
    for (const ChipSpec& chip : chip_table())
        if (chip.role == role) return chip.word;
    return chip_table().front().word;
}

std::string_view oracle_chip() {
    return word_of(ChipRole::oracle);
}
std::string_view fallback_chip() {
    return word_of(ChipRole::fallback);
}

}  // namespace busbar
