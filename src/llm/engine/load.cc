#include "llm/engine/load.h"

#include <algorithm>

#include "base/trace.h"

namespace busbar {

namespace {

// One row for decoding, a few for small batches, a chunk for prompts.
std::vector<int64_t> buckets(const LoadOptions& o) {
    std::set<int64_t> rows = {1, std::min(o.chunk, std::max<int64_t>(1, o.sequences)), o.chunk};
    if (o.chunk > 16) rows.insert(16);
    return {rows.begin(), rows.end()};
}

}  // namespace

int64_t default_context(const DecoderConfig& config) {
    return static_cast<int64_t>(round_up(std::min<int64_t>(config.context, 8192), page_positions));
}

ReadyModel load_model(ImportedModel model, Device& device, const LoadOptions& options) {
    const Profile* chip = &device.profile();
    ReadyModel ready{std::move(model.config), std::move(model.end_ids), {}, nullptr};
    {
        const Span span("passes");
        ready.passes = run_passes(model.graph, {std::span(&chip, 1)}, options.skip_passes);
    }
    const auto context = static_cast<int64_t>(round_up(options.context, page_positions));
    std::vector<Plan> plans;
    for (const int64_t rows : buckets(options)) {
        const Span span("plan", LogLevel::details, rows);
        PlanOptions o;
        o.accuracy = options.accuracy;
        o.order = options.order;
        o.cache_element = options.cache_element;
        o.fallback_allowed = options.fallback_allowed;
        o.binding = {rows, std::min(rows, options.logit_rows), options.sequences, context};
        o.layout = StepLayout{options.chunk, options.logit_rows, options.sequences, context / page_positions};
        plans.push_back(make_plan(model.graph, std::span(&chip, 1), o));
    }
    const Span span("load");
    ready.loaded = std::make_unique<LoadedModel>(std::move(plans), std::move(model.files), device, options.cache_pages);
    return ready;
}

}  // namespace busbar
