#pragma once
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "device/device.h"
#include "import/model.h"
#include "passes/pass.h"
#include "run/loaded_model.h"

namespace busbar {

struct LoadOptions {
    Accuracy accuracy = Accuracy::accurate;
    Order order = Order::free;
    std::string cache_element;   ///< as in PlanOptions
    int64_t context = 4096;      ///< positions per sequence; rounded up to whole pages
    int64_t sequences = 1;       ///< that may be in one step
    int64_t cache_pages = 0;     ///< in all; 0 = enough for every sequence to fill its context
    int64_t chunk = 512;         ///< rows of the largest bucket
    int64_t logit_rows = 1;      ///< rows whose logits one step may ask for
    bool speculate = false;      ///< drafts may be verified: a bucket of few rows, with logits of all of them
    bool programs_late = false;  ///< prepared at the first step of each bucket: an answer begins sooner
    std::set<std::string> skip_passes;
    KeepPacked keep;  ///< where packed weights are kept between runs
    bool fallback_allowed = true;
    size_t asked = 1;         ///< so many of the chips were asked for; the others take what these refuse
    std::vector<int> layers;  ///< chip of each layer by hand, see parse_split(); empty: the planner's choice
};

/// What to plan for where nobody says: what the model was trained for, at most 8,192 positions, in whole pages.
int64_t default_context(const DecoderConfig& config);

/// A model ready to generate, with what its file says about it.
struct ReadyModel {
    DecoderConfig config;
    std::vector<int64_t> end_ids;  ///< from the model's own files, besides the tokenizer's
    std::vector<PassReport> passes;
    std::vector<std::string> placement;  ///< why layers went where, where there was a choice
    std::unique_ptr<LoadedModel> loaded;
};

/// The middle of the river in one place: passes, a plan per bucket of rows, load. The devices must outlive the result;
/// the first options.asked of them were asked for.
ReadyModel load_model(ImportedModel model, const std::vector<Device*>& devices, const LoadOptions& options);
ReadyModel load_model(ImportedModel model, Device& device, const LoadOptions& options);

}  // namespace busbar
