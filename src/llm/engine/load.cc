#include "llm/engine/load.h"

#include <algorithm>
#include <map>

#include "base/check.h"
#include "base/trace.h"
#include "llm/engine/speculate.h"
#include "plan/placement.h"

namespace busbar {

namespace {

// One row for decoding, a few for small batches, a chunk for prompts.
std::vector<int64_t> buckets(const LoadOptions& o) {
    std::set<int64_t> rows = {1, o.chunk};
    // A bucket of its own for a step with drafts: the kernels of a larger one may add in another order.
    const int64_t drafted = o.speculate ? std::min(o.chunk, most_drafts + 1) : 1;
    rows.insert(drafted);
    if (o.sequences > drafted) rows.insert(std::min(o.chunk, o.sequences));
    if (o.chunk > 16) rows.insert(16);
    return {rows.begin(), rows.end()};
}

// A state lies on one chip whatever the bucket: where a chip takes its ops for few rows only, all buckets follow the
// one that had to go elsewhere.
std::vector<Plan> plan_buckets(const Graph& graph, std::span<const Profile* const> chips, PlanOptions o,
                               const LoadOptions& options) {
    std::vector<Plan> plans;
    bool settled = false;
    while (!settled) {
        settled = true;
        plans.clear();
        std::map<std::string, int> seen;
        for (const int64_t rows : buckets(options)) {
            const Span span("plan", LogLevel::details, rows);
            o.binding.rows = rows;
            o.binding.logit_rows = std::min(rows, o.layout->max_logit_rows);
            plans.push_back(make_plan(graph, chips, o));
            for (const PlannedState& s : plans.back().states) {
                const std::string& name = plans.back().graph.values()[s.value].name;
                const auto [at, is_new] = seen.emplace(name, s.chip);
                if (is_new || at->second == s.chip) continue;
                BUSBAR_CHECK(!o.states.contains(name), "a state that cannot be settled: " + name);
                o.states[name] = std::max(at->second, s.chip);
                settled = false;
            }
        }
    }
    return plans;
}

}  // namespace

int64_t default_context(const DecoderConfig& config) {
    return static_cast<int64_t>(round_up(std::min<int64_t>(config.context, 8192), page_positions));
}

ReadyModel load_model(ImportedModel model, Device& device, const LoadOptions& options) {
    return load_model(std::move(model), std::vector<Device*>{&device}, options);
}

ReadyModel load_model(ImportedModel model, const std::vector<Device*>& devices, const LoadOptions& options) {
    std::vector<const Profile*> chips;
    for (const Device* device : devices) chips.push_back(&device->profile());
    ReadyModel ready{std::move(model.config), std::move(model.end_ids), {}, {}, nullptr};
    {
        const Span span("passes");
        ready.passes = run_passes(model.graph, {chips}, options.skip_passes);
    }
    const auto context = static_cast<int64_t>(round_up(options.context, page_positions));
    PlanOptions o;
    o.accuracy = options.accuracy;
    o.order = options.order;
    o.cache_element = options.cache_element;
    o.fallback_allowed = options.fallback_allowed;
    o.asked = options.asked;
    const int64_t logit_rows =
        std::min(options.chunk, std::max<int64_t>(options.logit_rows, options.speculate ? most_drafts + 1 : 1));
    o.layout = StepLayout{options.chunk, logit_rows, options.sequences, context / page_positions};
    o.binding = {1, 1, options.sequences, context};
    o.layers = options.layers;
    if (o.layers.empty() && o.asked > 1) {
        const int64_t pages =
            options.cache_pages > 0 ? options.cache_pages : context / page_positions * options.sequences;
        Placement placement = place_layers(model.graph, chips, o, pages);
        o.layers = std::move(placement.layers);
        ready.placement = std::move(placement.why);
    }
    std::vector<Plan> plans = plan_buckets(model.graph, chips, o, options);
    const Span span("load");
    ready.loaded = std::make_unique<LoadedModel>(std::move(plans), std::move(model.files), devices, options.cache_pages,
                                                 options.programs_late, options.keep);
    return ready;
}

}  // namespace busbar
