// The only file that names all chips. Roles are data here; tools and tests ask by role.
#include "chips/registry.h"

#include <algorithm>

#include "base/error.h"
#include "chips/cpu/cpu.h"
#include "chips/opencl/opencl.h"
#include "chips/plugin/plugin.h"
#include "chips/reference/reference.h"

namespace busbar {

namespace {

std::string listed(const auto& words) {
    std::string out;
    for (const auto& word : words) out += (out.empty() ? "" : ", ") + std::string(word);
    return out;
}

void refuse_detail(std::string_view word, const ChipOptions& options) {
    if (!options.detail.empty())
        throw usage_error("[chips] expected {} alone, got {} after the colon", word, quote(options.detail));
}

std::unique_ptr<Device> open_reference(const ChipOptions& options) {
    refuse_detail("reference", options);
    if (!options.isa.empty())
        throw usage_error("[chips] expected no instruction set for the reference, got {}", quote(options.isa));
    return make_reference();
}

std::unique_ptr<Device> open_cpu(const ChipOptions& options) {
    refuse_detail("cpu", options);
    if (options.isa.empty()) return make_cpu(options.threads);
    const std::vector<std::string> usable = usable_cpu_isas();
    if (std::find(usable.begin(), usable.end(), options.isa) == usable.end())
        throw usage_error("[chips] expected an instruction set of this machine ({}), got {}", listed(usable),
                          quote(options.isa));
    return make_cpu(options.threads, options.isa);
}

std::vector<std::string> cpu_isas() {
    std::vector<std::string> isas = usable_cpu_isas();
    std::reverse(isas.begin(), isas.end());
    return isas;
}

std::vector<std::string> no_isas() {
    return {""};
}

std::unique_ptr<Device> open_opencl(const ChipOptions& options) {
    if (!options.isa.empty())
        throw usage_error("[chips] expected no instruction set for opencl, got {}", quote(options.isa));
    return make_opencl(options.detail);
}

// None where no device is there: what goes over all chips then passes it by.
std::vector<std::string> opencl_isas() {
    return find_opencl(true).devices.empty() ? std::vector<std::string>{} : no_isas();
}

ChipFindings find_opencl_devices() {
    FoundOpenCl found = find_opencl(false);
    return {std::move(found.devices), std::move(found.why)};
}

std::unique_ptr<Device> open_plugin(const ChipOptions& options) {
    if (!options.isa.empty())
        throw usage_error("[chips] expected no instruction set for a plugin, got {}", quote(options.isa));
    return make_plugin(options.detail);
}

std::vector<std::string> needs_detail() {
    return {};
}

}  // namespace

const std::vector<ChipSpec>& chip_table() {
    static const std::vector<ChipSpec> table = {
        {"cpu", ChipRole::fallback, "SIMD kernels on all cores, compiled per instruction set and picked at start",
         cpu_isas, open_cpu},
        {"reference", ChipRole::oracle,
         "every op in plain loops and double precision: slow, obvious, what others are compared with", no_isas,
         open_reference},
        {"opencl", ChipRole::guest, "GPUs and other devices through the system's OpenCL, 1.2 or newer; :N picks one",
         opencl_isas, open_opencl, find_opencl_devices},
        {"plugin", ChipRole::guest, "a vendor's library, as plugin:PATH/libNAME.so?key=value (docs/add-a-chip.md)",
         needs_detail, open_plugin},
    };
    return table;
}

std::vector<std::string_view> known_chips() {
    std::vector<std::string_view> words;
    for (const ChipSpec& chip : chip_table()) words.push_back(chip.word);
    return words;
}

const ChipSpec* find_chip(std::string_view name) {
    const std::string_view word = name.substr(0, name.find(':'));
    for (const ChipSpec& chip : chip_table())
        if (chip.word == word) return &chip;
    return nullptr;
}

std::unique_ptr<Device> open_chip(std::string_view name, ChipOptions options) {
    const size_t colon = name.find(':');
    if (colon != std::string_view::npos) options.detail = name.substr(colon + 1);
    if (const ChipSpec* chip = find_chip(name)) return chip->open(options);
    throw usage_error("[chips] expected one of {}, got {}", listed(known_chips()), quote(name));
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

std::vector<Device*> OpenChips::pointers() const {
    std::vector<Device*> out;
    for (const auto& device : devices) out.push_back(device.get());
    return out;
}

std::vector<const Profile*> OpenChips::profiles() const {
    std::vector<const Profile*> out;
    for (const auto& device : devices) out.push_back(&device->profile());
    return out;
}

bool OpenChips::is_oracle() const {
    return std::ranges::all_of(names, [](const std::string& name) { return name == oracle_chip(); });
}

OpenChips open_chips(std::string_view list, const ChipOptions& options, bool with_fallback) {
    OpenChips chips;
    bool complete = false;  // somebody among them takes everything
    for (size_t begin = 0; begin <= list.size();) {
        const size_t end = std::min(list.find(',', begin), list.size());
        std::string name(list.substr(begin, end - begin));
        begin = end + 1;
        if (name == "auto") name = fallback_chip();
        if (std::ranges::find(chips.names, name) != chips.names.end())
            throw usage_error("[chips] expected each chip once, got {} twice", quote(name));
        complete |= name == fallback_chip() || name == oracle_chip();
        chips.names.push_back(std::move(name));
    }
    for (const std::string& name : chips.names) {
        const ChipSpec* spec = find_chip(name);
        const bool takes_isa = chips.names.size() == 1 || (spec != nullptr && spec->isas().size() > 1);
        chips.devices.push_back(open_chip(name, {options.threads, takes_isa ? options.isa : "", ""}));
    }
    if (!complete && with_fallback) chips.devices.push_back(open_chip(fallback_chip(), {options.threads, "", ""}));
    return chips;
}

}  // namespace busbar
