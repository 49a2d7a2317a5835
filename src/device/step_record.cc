#include "device/step_record.h"

#include <algorithm>

namespace busbar {

int64_t StepLayout::offset_of(std::string_view name) const {
    if (name == "token_ids") return token_ids();
    if (name == "positions") return positions();
    if (name == "sequences") return sequences();
    if (name == "logit_rows") return logit_rows();
    if (name == "block_table") return block_table();
    return -1;
}

StepRecord::StepRecord(const StepLayout& layout) : layout_(layout), words_(layout.words(), 0) {
    std::fill(words_.begin() + layout.block_table(), words_.end(), -1);
}

}  // namespace busbar
