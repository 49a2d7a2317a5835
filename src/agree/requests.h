#pragma once
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "run/loaded_model.h"

namespace busbar::agree {

/// One way in which a request was run beside others, against the same request alone.
struct RequestTrial {
    std::string name;  ///< "in a full batch" ...
    bool passed = true;
    bool bits = true;  ///< every logit had the same bits
    double worst = 0;  ///< largest difference as a share of the logits' size
    std::string detail;
};

struct RequestReport {
    bool must_be_bits = false;  ///< every kernel row used promises invariant order
    int64_t sequences = 0, logits = 0;
    std::vector<RequestTrial> trials;
    double seconds = 0;
    bool passed() const;
    std::string text_form() const;
    nlohmann::json json() const;
};

/// Level 4 of docs/agreement.md: requests cannot mix. One request - a prompt in chunks, then single tokens - runs
/// alone, in a full batch at every place in it, on pages that others left behind, and beside neighbours whose caches
/// hold NaN. Its logits must be bit-equal where the kernel rows promise invariant order, and as close as their rounding
/// elsewhere. `ids`: a text; neighbours get other stretches of it. The model: loaded for two or more sequences, its
/// cache free.
RequestReport check_requests(LoadedModel& model, std::span<const int32_t> ids);

}  // namespace busbar::agree
