// busbar bench: prompt and generation speed, bytes per token, share of the roofs measured in the same run.
#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "common.h"
#include "flags.h"
#include "llm/engine/engine.h"

namespace busbar {

namespace {

struct BenchOptions {
    CommonOptions common;
    int64_t prompt = 512, tokens = 64, depth = 0, batch = 1, repeat = 5;
};

struct Series {
    std::vector<double> values;
    double median() const {
        std::vector<double> v = values;
        std::ranges::sort(v);
        return v.empty() ? 0 : v[v.size() / 2];
    }
    Json spread() const { return {std::ranges::min(values), std::ranges::max(values)}; }
};

// Tokens do not change the speed; these are spread over the vocabulary so that the gather is honest.
std::vector<int32_t> made_up_tokens(int64_t n, int64_t vocabulary) {
    std::vector<int32_t> ids(n);
    for (int64_t i = 0; i < n; ++i) ids[i] = static_cast<int32_t>((i * 2654435761ull + 12345) % vocabulary);
    return ids;
}

// One timed run: `batch` prompts of `prompt` tokens after `depth` others, then `tokens` steps of one token each.
void run_once(LoadedModel& model, const BenchOptions& o, double& prefill_s, double& decode_s) {
    Engine engine(model);
    std::vector<int> numbers;
    double first = 0;
    int64_t started = 0;
    const double begin = seconds_since_start();
    for (int64_t b = 0; b < o.batch; ++b) {
        Request r;
        r.prompt = made_up_tokens(std::max<int64_t>(o.prompt + o.depth, 1), model.vocabulary());
        r.max_tokens = o.tokens + 1;  // the prompt's own first token is not decoding
        r.on_token = [&, counted = false](int32_t, const std::vector<TokenScore>&) mutable {
            if (!counted && ++started == o.batch) first = seconds_since_start();
            counted = true;
            return !interrupted();
        };
        numbers.push_back(engine.add(std::move(r)));
    }
    while (engine.step()) {
    }
    prefill_s = first - begin;
    decode_s = seconds_since_start() - first;
    stop_if_interrupted();
}

double decode_bytes(const LoadedModel& model, const BenchOptions& o) {
    const Plan* plan = &model.plans().front();
    for (const Plan& p : model.plans())
        if (p.options.binding.rows >= o.batch) {
            plan = &p;
            break;
        }
    double bytes = 0;
    for (const PlannedStep& s : plan->steps) {
        if (s.is_copy()) continue;
        const Node& n = plan->graph.nodes()[s.node];
        for (int v : n.inputs)
            if (const Place& place = plan->place(s.chip, v);
                place.where == Place::Where::weight && n.op != &op_gather_rows)
                bytes += static_cast<double>(place.bytes);
    }
    const double depth = static_cast<double>(o.prompt + o.depth) + static_cast<double>(o.tokens) / 2;
    return bytes + static_cast<double>(o.batch) * depth * static_cast<double>(model.page_bytes()) / page_positions;
}

double prefill_flops(const LoadedModel& model, const BenchOptions& o) {
    const Plan& plan = model.plans().back();
    double per_row = 0;
    for (const PlannedStep& s : plan.steps) {
        if (s.is_copy()) continue;
        const Node& n = plan.graph.nodes()[s.node];
        if ((n.op == &op_matmul || n.op == &op_multi_matmul) &&
            plan.graph.type_of(n.outputs[0]).shape[0] == Dim(Symbol::rows))
            per_row += s.cost.flops / static_cast<double>(plan.options.binding.rows);
    }
    return per_row * static_cast<double>(o.batch * (o.prompt + o.depth));
}

int bench(const BenchOptions& o) {
    apply_common(o.common);
    CommonOptions common = o.common;
    common.context = std::max(common.context, o.prompt + o.depth + o.tokens + 2);
    OpenModel model = open_model(common, [&](LoadOptions& load) {
        load.sequences = o.batch;
        load.logit_rows = o.batch;
        load.chunk = std::max<int64_t>(load.chunk, o.batch);
    });
    print_placement(model);
    Series prefill, decode, roof_bytes, roof_flops;
    double prefill_s, decode_s;
    BenchOptions warm = o;
    warm.tokens = 1;
    run_once(*model.loaded, warm, prefill_s, decode_s);
    const Json memory_before = memory_json(*model.loaded);  // measuring the roofs takes a large buffer of its own
    for (int64_t i = 0; i < o.repeat; ++i) {
        model.chips.devices[0]->measure();  // before each run: a roof from another minute is no roof
        roof_bytes.values.push_back(model.chips.devices[0]->profile().read_bytes_per_s.value);
        roof_flops.values.push_back(model.chips.devices[0]->profile().flops_per_s.value);
        run_once(*model.loaded, o, prefill_s, decode_s);
        prefill.values.push_back(static_cast<double>(o.batch * (o.prompt + o.depth)) / prefill_s);
        decode.values.push_back(static_cast<double>(o.batch * o.tokens) / decode_s);
    }
    const double bytes = decode_bytes(*model.loaded, o) / static_cast<double>(o.batch);
    const double gb_s = decode.median() * bytes / 1e9, gop_s = prefill.median() * prefill_flops(*model.loaded, o) /
                                                               static_cast<double>(o.batch * (o.prompt + o.depth)) /
                                                               1e9;
    const Profile& chip = model.chips.devices[0]->profile();
    const std::string chip_words = fmt::format("{} ({})", chip.chip, chip.detail);
    const MemoryUse memory = model.loaded->memory();
    if (o.common.json) {
        put(Json{{"prefill_tok_s", prefill.median()},
                 {"decode_tok_s", decode.median()},
                 {"decode_bytes_per_token", static_cast<int64_t>(bytes)},
                 {"decode_gb_s", gb_s},
                 {"roof_gb_s", roof_bytes.median() / 1e9},
                 {"prefill_gop_s", gop_s},
                 {"roof_gop_s", roof_flops.median() / 1e9},
                 {"threads", chip.threads},
                 {"chip", chip_words},
                 {"spread", {{"prefill_tok_s", prefill.spread()}, {"decode_tok_s", decode.spread()}}},
                 {"memory", memory_before}}
                .dump() +
            "\n");
        return 0;
    }
    put(fmt::format("{}, {} runs; medians (least .. most)\n", chip_words, o.repeat));
    put(fmt::format(
        "prompt    {:>6} tokens  {:>9.1f} tok/s ({:.1f} .. {:.1f})   {:.1f} GFLOP/s, {:.0f} % of the f32 roof {:.1f}\n",
        o.batch * (o.prompt + o.depth), prefill.median(), std::ranges::min(prefill.values),
        std::ranges::max(prefill.values), gop_s, 100 * gop_s / (roof_flops.median() / 1e9), roof_flops.median() / 1e9));
    put(
        fmt::format("generate  {:>6} tokens  {:>9.1f} tok/s ({:.1f} .. {:.1f})   {:.1f} GB/s, {:.0f} % of the read "
                    "roof {:.1f}; {:.1f} MB a token\n",
                    o.batch * o.tokens, decode.median(), std::ranges::min(decode.values),
                    std::ranges::max(decode.values), gb_s * static_cast<double>(1),
                    100 * gb_s / (roof_bytes.median() / 1e9), roof_bytes.median() / 1e9, bytes / 1e6));
    put(fmt::format("memory    weights {:.1f} MB, cache {:.1f} MB, scratch {:.1f} MB; peak {:.1f} MB\n",
                    static_cast<double>(memory.mapped_weights + memory.packed_weights) / 1e6,
                    static_cast<double>(memory.cache) / 1e6, static_cast<double>(memory.scratch) / 1e6,
                    memory_before["peak_rss"].get<double>() / 1e6));
    return 0;
}

}  // namespace

void add_bench(CLI::App& app, int& exit_code) {
    auto o = std::make_shared<BenchOptions>();
    CLI::App* sub =
        app.add_subcommand("bench", "prompt and generation speed, bytes per token, share of the measured roofs");
    sub->footer(
        "Examples:\n"
        "  busbar bench model.gguf\n"
        "  busbar bench model.gguf -p 128 -n 32 --batch 4 --json");
    add_model(*sub, o->common);
    const auto add = [&](const char* names, int64_t& value, const char* what, int64_t least, int64_t most) {
        sub->add_option(names, value, what)->type_name("N")->capture_default_str()->check(whole_number(least, most));
    };
    add("-p,--prompt", o->prompt, "tokens of the prompt", 1, 1 << 24);
    add("-n,--tokens", o->tokens, "tokens to generate", 1, 1 << 24);
    add("--depth", o->depth, "tokens before the prompt", 0, 1 << 24);
    add("--batch", o->batch, "sequences at once", 1, 512);
    add("--repeat", o->repeat, "timed runs", 1, 1000);
    add_common(*sub, o->common);
    sub->callback([o, &exit_code] { exit_code = bench(*o); });
}

}  // namespace busbar
