#pragma once
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "agree/figures.h"
#include "run/loaded_model.h"

namespace busbar::agree {

/// What is compared and how much of it; the words go into the report as they are.
struct VerifyOptions {
    std::vector<int32_t> ids;      ///< the text, tokenized
    int64_t positions = 2000;      ///< at most as many as there are ids
    int64_t bar_positions = 2048;  ///< of these, for the bar: short windows spread over the text where it is longer
    int seeds = 4;                 ///< runs under noise
    std::string model, model_hash, text, chip, chip_detail, driver, numerics, against;
    std::string cache;  ///< folder for the oracle's outputs and the bar; "" = none
    /// "oracle", "noise" or "chip", and how far it is.
    std::function<void(const char* what, int64_t done, int64_t all)> progress;
    std::function<bool()> stop;  ///< true ends with Error{interrupted}
};

struct VerifyReport {
    VerifyOptions asked;
    Verdict verdict = Verdict::not_enough_evidence;
    bool too_few = false;  ///< no figure speaks against the chip, but there are too few positions to speak for it
    bool exact = false;    ///< every number compared is bit-equal
    int64_t positions = 0, broken = 0, other_first = 0;
    int64_t first_broken = -1;
    double mean_nll = 0;  ///< signed, chip minus oracle
    std::vector<Figure> figures;
    Bar bar;
    bool oracle_was_kept = false, bar_was_kept = false;
    double oracle_seconds = 0, bar_seconds = 0, chip_seconds = 0;
    std::string admitted;  ///< how the oracle itself was checked
    std::vector<std::string> not_tested;

    std::string text_form() const;
    nlohmann::json json() const;
};

/// Level 2 of docs/agreement.md: the same text, teacher-forced, through both. `oracle` is opened only where its outputs
/// or the bar are not in the cache. Throws Error{bad_input} for an empty text.
VerifyReport verify(LoadedModel& chip, const std::function<LoadedModel&()>& oracle, const VerifyOptions& options);

}  // namespace busbar::agree
