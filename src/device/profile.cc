#include "device/profile.h"

namespace busbar {

std::string_view name_of(Figure::Origin origin) {
    static constexpr std::string_view words[] = {"unknown", "datasheet", "driver", "measured"};
    return words[static_cast<int>(origin)];
}

const PackedForm* Profile::find_form(std::string_view name) const {
    for (const PackedForm& form : forms)
        if (form.name == name) return &form;
    return nullptr;
}

}  // namespace busbar
