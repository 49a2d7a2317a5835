#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "device/device.h"

namespace busbar {

/// What a chip is used for besides being chosen by name. Data, so that no other room knows a chip's word.
enum class ChipRole : uint8_t {
    oracle,    ///< whose numbers are the truth
    fallback,  ///< serves what another chip cannot, and is the one used where none is named
    guest,     ///< neither
};

struct ChipOptions {
    int threads = 0;  ///< 0: as many as the machine has
    std::string isa;  ///< instruction set, "" = the best that this machine has
    /// What --chip gives after the word and a colon: a device's number, or a library's path and its ?options.
    std::string detail;
};

/// What a search found that cannot be taken for granted to be there.
struct ChipFindings {
    std::vector<std::string> devices;  ///< by number: what comes after the word and a colon
    std::string why;                   ///< why there is none; "" if there is any
};

struct ChipSpec {
    std::string_view word;  ///< of --chip
    ChipRole role;
    std::string_view doc;  ///< one line for help and `busbar chips`
    /// Instruction sets that can run on this machine, the best first; {""} where there is no choice. Empty: the word
    /// alone names no chip of this machine; open() needs a detail, or find() says why there is none.
    std::vector<std::string> (*isas)();
    std::unique_ptr<Device> (*open)(const ChipOptions&);
    /// Null: always there. Else: which devices this machine has. Never throws for want of one.
    ChipFindings (*find)() = nullptr;
};

/// Every chip of this build, in the order of its printed table.
const std::vector<ChipSpec>& chip_table();
std::vector<std::string_view> known_chips();
/// By the word before any colon; nullptr if there is no such chip.
const ChipSpec* find_chip(std::string_view name);
/// `name` is a word of the table, or word:detail. Throws Error{usage} that lists the known chips, or the instruction
/// sets that this machine can run.
std::unique_ptr<Device> open_chip(std::string_view name, ChipOptions options = {});

/// The chips that a list names, in that order, and behind them the one that serves what they refuse.
struct OpenChips {
    std::vector<std::unique_ptr<Device>> devices;
    std::vector<std::string> names;  ///< as the list has them, of those asked for
    size_t asked() const { return names.size(); }
    std::vector<Device*> pointers() const;
    std::vector<const Profile*> profiles() const;
    /// True if only the oracle was asked for: what is the truth for others is not measured against itself.
    bool is_oracle() const;
};
/// `list`: names with commas between them; "auto" is the fallback chip. options.isa goes to the chips that have a
/// choice. Throws what open_chip throws, and Error{usage} for a chip named twice.
OpenChips open_chips(std::string_view list, const ChipOptions& options, bool with_fallback);

std::string_view oracle_chip();
std::string_view fallback_chip();

}  // namespace busbar
