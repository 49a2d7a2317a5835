// busbar show STAGE MODEL: prints a stage of the river.
#include <fmt/format.h>

#include <numeric>

#include "base/error.h"
#include "common.h"
#include "flags.h"
#include "plan/placement.h"
#include "support.h"

namespace busbar {

namespace {

struct ShowOptions {
    CommonOptions common;
    std::string stage;
    int64_t rows = 1;
    bool markdown = false;
};

std::string metadata_text(const gguf::Value& value) {
    if (const auto* i = std::get_if<int64_t>(&value)) return std::to_string(*i);
    if (const auto* d = std::get_if<double>(&value)) return fmt::format("{}", *d);
    if (const auto* b = std::get_if<bool>(&value)) return *b ? "true" : "false";
    if (const auto* s = std::get_if<std::string_view>(&value)) return quote(*s, 100);
    const auto& array = std::get<gguf::Array>(value);
    return std::visit([](const auto& items) { return fmt::format("[{} items]", items.size()); }, array.items);
}

void show_file(const ShowOptions& o, const ModelFile& file) {
    const DecoderConfig c = read_config(file);
    Json out = {{"path", file.path},
                {"container", file.gguf ? fmt::format("gguf v{}", file.gguf->version()) : std::string("safetensors")},
                {"family", c.family},
                {"layers", c.layers},
                {"hidden", c.hidden},
                {"heads", c.heads},
                {"kv_heads", c.kv_heads},
                {"head_dim", c.head_dim},
                {"intermediate", c.intermediate},
                {"vocabulary", c.vocabulary},
                {"context", c.context},
                {"norm_epsilon", c.norm_epsilon},
                {"tied", c.tied},
                {"rope", c.rope.kind},
                {"rope_theta", c.rope.theta},
                {"rope_factor", c.rope.factor},
                {"pairing", c.pairing},
                {"tensors", file.tensors.size()}};
    int64_t parameters = 0, bytes = 0;
    for (const auto& [name, t] : file.tensors) parameters += t.count(), bytes += static_cast<int64_t>(t.bytes.size());
    out["parameters"] = parameters;
    out["bytes"] = bytes;
    Json metadata = Json::object();
    if (file.gguf)
        for (const auto& [key, value] : file.gguf->metadata()) metadata[key] = metadata_text(value);
    else
        metadata = file.config;
    if (o.common.json) {
        out["metadata"] = metadata;
        put_json(out);
        return;
    }
    for (const auto& [key, value] : out.items())
        put(fmt::format("{:<14} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump()));
    put("metadata\n");
    for (const auto& [key, value] : metadata.items())
        put(fmt::format("  {:<44} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump()));
}

void show_tensors(const ShowOptions& o, const ModelFile& file) {
    Json rows = Json::array();
    for (const auto& [name, t] : file.tensors) {
        if (o.common.json)
            rows.push_back({{"name", name},
                            {"encoding", t.encoding->name},
                            {"shape", t.shape},
                            {"bytes", t.bytes.size()},
                            {"offset", t.offset},
                            {"file", t.file ? t.file->path() : ""}});
        else
            put(fmt::format("{:<44} {:<8} {:<20} {:>14} bytes at {}\n", quote(name, 60), t.encoding->name,
                            fmt::format("[{}]", fmt::join(t.shape, ", ")), with_commas(t.bytes.size()),
                            with_commas(t.offset)));
    }
    if (o.common.json) put_json(rows);
}

void show_passes(const CommonOptions& common, const std::vector<PassReport>& reports) {
    Json rows = Json::array();
    for (const PassReport& r : reports) {
        rows.push_back({{"pass", r.name},
                        {"why", r.why},
                        {"skipped", r.skipped},
                        {"changes", r.changes},
                        {"nodes_before", r.nodes_before},
                        {"nodes_after", r.nodes_after},
                        {"seconds", r.seconds}});
        if (!common.json)
            put(fmt::format("{:<22} {:>4} changes  {:>5} -> {:>5} nodes  {:>7.2f} ms{}\n    {}\n", r.name, r.changes,
                            r.nodes_before, r.nodes_after, 1e3 * r.seconds, r.skipped ? "  (skipped)" : "", r.why));
    }
    if (common.json) put_json(rows);
}

Json plan_json(const Plan& plan) {
    Json steps = Json::array();
    for (const PlannedStep& s : plan.steps) {
        if (s.is_copy()) {
            steps.push_back({{"op", "copy"},
                             {"value", plan.graph.values()[s.value].name},
                             {"from", plan.chips[s.from]->chip},
                             {"chip", plan.chips[s.chip]->chip},
                             {"bytes", s.cost.bytes},
                             {"seconds", s.seconds}});
            continue;
        }
        const Node& n = plan.graph.nodes()[s.node];
        steps.push_back({{"op", n.op->name},
                         {"node", n.name},
                         {"row", s.row->name},
                         {"chip", plan.chips[s.chip]->chip},
                         {"flops", s.cost.flops},
                         {"bytes", s.cost.bytes},
                         {"seconds", s.seconds}});
    }
    return {{"title", plan.graph.title},
            {"rows", plan.options.binding.rows},
            {"chip", plan.chips[0]->chip},
            {"numerics", name_of(plan.options.accuracy)},
            {"order", name_of(plan.options.order)},
            {"steps", steps},
            {"scratch_bytes", std::accumulate(plan.scratch_bytes.begin(), plan.scratch_bytes.end(), uint64_t{0})},
            {"scratch_unshared", plan.scratch_unshared},
            {"predicted_s", plan.seconds()},
            {"copies", plan.copies()}};
}

int show(const ShowOptions& o) {
    apply_common(o.common);
    if (o.stage == "support") {
        put(o.common.json ? support_json().dump() + "\n" : o.markdown ? support_markdown() : support_text());
        return 0;
    }
    if (o.stage == "ops") {
        put(o.common.json ? ops_json().dump() + "\n" : ops_text());
        return 0;
    }
    if (o.common.model.empty()) throw usage_error("[cli] show {}: expected MODEL, got none", o.stage);
    const ModelFile file = open_model_file(o.common.model);
    if (o.stage == "file") {
        show_file(o, file);
    } else if (o.stage == "tensors") {
        show_tensors(o, file);
    } else {
        const int64_t context = choose_context(o.common, read_config(file));
        ImportedModel model = import_model(file, context);
        if (o.stage == "graph") {
            if (o.common.json)
                put_json({{"graph", model.graph.print()}});
            else
                put(model.graph.print());
            return 0;
        }
        const OpenChips chips = open_chips(o.common);
        const std::vector<const Profile*> profiles = chips.profiles();
        const std::vector<PassReport> reports =
            run_passes(model.graph, {profiles}, {o.common.skip_passes.begin(), o.common.skip_passes.end()});
        if (o.stage == "passes") {
            show_passes(o.common, reports);
            return 0;
        }
        PlanOptions options;
        options.accuracy = *parse_accuracy(o.common.numerics);
        options.order = *parse_order(o.common.order);
        options.cache_element = o.common.kv;
        options.binding = {o.rows, 1, 1, context};
        options.asked = chips.asked();
        options.fallback_allowed = !o.common.no_fallback;
        if (!o.common.split.empty()) {
            options.layers = parse_split(o.common.split, chips.names, layers_of(model.graph));
        } else {
            PlanOptions one = options;
            one.binding.rows = 1;
            Placement placement = place_layers(model.graph, profiles, one, context / page_positions);
            for (const std::string& why : placement.why) note("{}", why);
            options.layers = std::move(placement.layers);
        }
        const Plan plan = make_plan(model.graph, profiles, options);
        if (o.common.json)
            put_json(plan_json(plan));
        else
            put(plan.print());
    }
    return 0;
}

}  // namespace

void add_show(CLI::App& app, int& exit_code) {
    auto o = std::make_shared<ShowOptions>();
    CLI::App* sub = app.add_subcommand(
        "show", "a stage of the river: file, tensors, graph, passes, plan; or a table: ops, support");
    sub->footer(
        "Examples:\n"
        "  busbar show plan model.gguf --rows 1\n"
        "  busbar show tensors model.gguf\n"
        "  busbar show support");
    const std::vector<std::string> stages = {"file", "tensors", "graph", "passes", "plan", "ops", "support"};
    sub->add_option("STAGE", o->stage, fmt::format("{}", fmt::join(stages, ", ")))->required()->check(one_of(stages));
    add_model(*sub, o->common)->required(false);
    sub->add_option("--rows", o->rows, "plan: rows of the bucket")
        ->type_name("N")
        ->capture_default_str()
        ->check(whole_number(1, 65536));
    sub->add_flag("--markdown", o->markdown, "support: as a Markdown table");
    add_common(*sub, o->common);
    sub->callback([o, &exit_code] { exit_code = show(*o); });
}

}  // namespace busbar
