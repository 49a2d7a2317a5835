#pragma once
#include "agree/conform/suite.h"

namespace busbar::conform {

struct Place {
    int32_t sequence, position;
};

/// A step over paged caches: sequence s may have `lengths[s]` positions, in pages dealt at random with some left over;
/// one row per place.
Case paged_case(Random& random, const OpRow& op, std::string name, const std::vector<int64_t>& lengths,
                const std::vector<Place>& rows, int64_t spare_rows = 0);
/// A state whose numbers are exact in c.cache.
Input cache_state(Random& random, const Case& c, std::string name, StateRole role, int64_t heads, int64_t width,
                  double size = 1);
Input block_table_part(const Case& c);

}  // namespace busbar::conform
