#pragma once
#include <string>

#include "run/loaded_model.h"

namespace busbar::agree {

struct TableCheck {
    int tables = 0;
    int64_t numbers = 0;  ///< compared
    std::string wrong;    ///< the first one that differs, "" if none
};
/// Reads every row of the weights that a model only gathers from - an embedding that is not tied - back through the
/// chip's own gather_rows, and compares the bits with the file's definition.
TableCheck check_tables(LoadedModel& model);

}  // namespace busbar::agree
