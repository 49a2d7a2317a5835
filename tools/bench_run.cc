// busbar bench: what is timed, and how far the numbers are from the reference arithmetic.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

#include "agree/figures.h"
#include "agree/identity.h"
#include "agree/teacher.h"
#include "base/error.h"
#include "base/threads.h"
#include "bench.h"
#include "llm/engine/engine.h"

namespace busbar::bench {

namespace {

// Tokens do not change the speed; these are spread over the vocabulary so that the gather is honest.
std::vector<int32_t> made_up_tokens(int64_t n, int64_t vocabulary) {
    std::vector<int32_t> ids(n);
    for (int64_t i = 0; i < n; ++i) ids[i] = static_cast<int32_t>((i * 2654435761ull + 12345) % vocabulary);
    return ids;
}

struct Times {
    double prefill = 0, decode = 0, first_token = 0;  ///< first_token: seconds since the program started
};

// One timed run: `batch` prompts of `prompt` tokens after `depth` others, then `tokens` steps of one token each.
Times run_once(LoadedModel& model, const Options& o, int64_t tokens) {
    Engine engine(model);
    double first = 0;
    int64_t started = 0;
    const double begin = seconds_since_start();
    for (int64_t b = 0; b < o.batch; ++b) {
        Request r;
        r.prompt = made_up_tokens(std::max<int64_t>(o.prompt + o.depth, 1), model.vocabulary());
        r.max_tokens = tokens + 1;  // the prompt's own first token is not decoding
        r.on_token = [&, counted = false](int32_t, const std::vector<TokenScore>&) mutable {
            if (!counted && ++started == o.batch) first = seconds_since_start();
            counted = true;
            return !interrupted();
        };
        engine.add(std::move(r));
    }
    while (engine.step()) {
    }
    const Times times{first - begin, seconds_since_start() - first, first};
    stop_if_interrupted();
    return times;
}

// Of one step with all sequences: weights once, and what each sequence has cached half way through.
double bytes_of_step(const LoadedModel& model, const Options& o) {
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

// Operations of the products of weights and activations, by what the planned rows multiply.
struct Work {
    double flops = 0, integer_ops = 0;
    double total() const { return flops + integer_ops; }
};

bool is_integer(Element e) {
    return e == Element::i16 || e == Element::i8;
}

Work work_of_prompt_token(const LoadedModel& model) {
    const Plan& plan = model.plans().back();
    Work work;
    for (const PlannedStep& s : plan.steps) {
        if (s.is_copy()) continue;
        const Node& n = plan.graph.nodes()[s.node];
        if ((n.op == &op_matmul || n.op == &op_multi_matmul) &&
            plan.graph.type_of(n.outputs[0]).shape[0] == Dim(Symbol::rows))
            (is_integer(s.row->rounding.activation) ? work.integer_ops : work.flops) +=
                s.cost.flops / static_cast<double>(plan.options.binding.rows);
    }
    return work;
}

// What must be the same for two runs to be compared. A chip with memory of its own is a part of the machine; what a
// processor's kernels are called is not.
Json machine_of(const OpenChips& chips) {
    Json devices = Json::array();
    for (const Profile* p : chips.profiles())
        devices.push_back(p->host_memory ? fmt::format("{}: {}", p->chip, p->maker)
                                         : fmt::format("{}: {}, {}", p->chip, p->maker, p->detail));
    return {{"devices", devices}, {"cpus", allowed_cpus()}};
}

std::string hash_of_model(const OpenModel& m) {
    const std::string weights = agree::hash_of(m.loaded->files());
    return m.file.folder.empty() ? weights : agree::hash_of(weights + m.file.config.dump());
}

struct Roofs {
    double bytes = 0, flops = 0, integer_ops = 0;  ///< a second; 0: not measured
};

Roofs measure_roofs_of(Device& device) {
    device.measure();
    const auto measured = [](const Figure& f) { return f.origin == Figure::Origin::measured ? f.value : 0.0; };
    const Profile& p = device.profile();
    return {measured(p.read_bytes_per_s), measured(p.flops_per_s), measured(p.integer_ops_per_s)};
}

double mean_of(double before, double after) {
    return (before + after) / 2;
}

// Seconds that the work takes where nothing but the roofs limits it; 0: a roof that it needs was not measured.
double seconds_at_roofs(const Work& work, double flops, double integer_ops) {
    if ((work.flops > 0 && flops <= 0) || (work.integer_ops > 0 && integer_ops <= 0)) return 0;
    return (work.flops > 0 ? work.flops / flops : 0) + (work.integer_ops > 0 ? work.integer_ops / integer_ops : 0);
}

std::vector<double> column(const Json& repeats, const char* key) {
    std::vector<double> values;
    for (const Json& r : repeats) values.push_back(r[key].get<double>());
    return values;
}

// Each run between two measurements of the roofs: a roof from another minute is no roof.
Json timed_runs(const OpenModel& model, const Options& o, double step_bytes, const Work& work) {
    const auto placed = model.loaded->plans().front().nodes_per_chip();
    const bool one_chip = placed.size() == 1 && placed.begin()->first == model.chips.devices[0]->profile().chip;
    Device& device = *model.chips.devices[0];
    Json repeats = Json::array();
    Roofs before = measure_roofs_of(device);
    for (int64_t i = 0; i < o.repeat; ++i) {
        const Times t = run_once(*model.loaded, o, o.tokens);
        const Roofs after = measure_roofs_of(device);
        // The roof of one chip says nothing about what two do in turns.
        const double roof_bytes = one_chip ? mean_of(before.bytes, after.bytes) : 0;
        const double roof_flops = one_chip ? mean_of(before.flops, after.flops) : 0;
        const double roof_integer = one_chip ? mean_of(before.integer_ops, after.integer_ops) : 0;
        before = after;
        const double gb_s = step_bytes * static_cast<double>(o.tokens) / t.decode / 1e9;
        const double prompt_s = static_cast<double>(o.batch * (o.prompt + o.depth)) / t.prefill;
        Json r = {{"prefill_tok_s", prompt_s},
                  {"decode_tok_s", static_cast<double>(o.batch * o.tokens) / t.decode},
                  {"decode_gb_s", gb_s},
                  {"prefill_gop_s", prompt_s * work.total() / 1e9},
                  {"roof_gb_s", roof_bytes / 1e9},
                  {"roof_gop_s", roof_flops / 1e9},
                  {"roof_integer_gop_s", roof_integer / 1e9}};
        r["decode_share"] = roof_bytes > 0 ? gb_s * 1e9 / roof_bytes : 0;
        r["prefill_share"] = roof_flops > 0 ? prompt_s * work.total() / roof_flops : 0;
        r["prefill_product_share"] = prompt_s * seconds_at_roofs(work, roof_flops, roof_integer);
        repeats.push_back(std::move(r));
        detail("bench: run {} of {}", i + 1, o.repeat);
    }
    return repeats;
}

void for_error(LoadOptions& load) {
    load.context = std::min<int64_t>(load.context, 512);
    load.chunk = load.logit_rows = 128;  // logits of every row
}

constexpr int64_t window = 512;

// A text and how it is cut.
struct ErrorText {
    std::string words;
    std::vector<int32_t> ids;
    std::vector<agree::Window> windows;

    int32_t after(const agree::Window& w, int64_t p) const { return p + 1 < w.begin + w.length ? ids[p + 1] : -1; }
    static bool in_second_half(const agree::Window& w, int64_t p) {
        return w.length == window && p - w.begin >= window / 2 && p - w.begin < window - 1;
    }
};

ErrorText read_error_text(const OpenModel& m, const Options& o) {
    ErrorText t;
    std::vector<int32_t> begin;
    try {
        const auto tokenizer = open_tokenizer_of(m);
        t.words = o.error_text.empty() ? "Busbar's own text" : o.error_text;
        t.ids =
            tokenizer->encode(o.error_text.empty() ? std::string(agree::verify_text()) : read_text(o.error_text), true);
        begin = tokenizer->encode("", true);
    } catch (const Error& error) {
        if (error.code() != ErrorCode::bad_input || !o.error_text.empty()) throw;
        t.ids = made_up_tokens(o.error_positions, m.loaded->vocabulary());
        t.words = "made-up tokens: the model has no tokenizer";
    }
    t.ids.resize(std::min<size_t>(o.error_positions, t.ids.size()));
    if (t.ids.empty()) throw bad_input(o.error_text, "[bench] expected a text of one token or more");
    const auto count = static_cast<int64_t>(t.ids.size()), longest = std::min(window, m.loaded->context());
    for (int64_t at = 0; at < count; at += longest) {
        t.windows.push_back({at, std::min(longest, count - at)});
        if (!begin.empty()) t.ids[at] = begin[0];  // each is a sequence of its own
    }
    return t;
}

}  // namespace

double median_of(std::vector<double> v) {
    if (v.empty()) return 0;
    std::ranges::sort(v);
    return (v[v.size() / 2] + v[(v.size() - 1) / 2]) / 2;
}

Json shape_of(const Options& o) {
    return {{"prompt", o.prompt}, {"tokens", o.tokens}, {"depth", o.depth}, {"batch", o.batch}};
}

Json logit_error(const Options& o) {
    CommonOptions reference = o.common, chip = o.common;
    reference.chip = std::string(fallback_chip());
    reference.numerics = "strict";
    reference.order = "invariant";
    reference.isa = reference.split = reference.kv = "";
    reference.gate = chip.gate = "off";  // the timed model passed it
    reference.no_fallback = false;
    std::string against;
    ErrorText text;
    std::optional<agree::Outputs> outputs;
    {
        const OpenModel m = open_model(reference, for_error);
        against = fmt::format("{} ({}), strict, invariant", m.chips.names[0], m.chips.devices[0]->profile().detail);
        text = read_error_text(m, o);
        outputs.emplace(static_cast<int64_t>(text.ids.size()), m.loaded->vocabulary());
        for (const agree::Window& w : text.windows)
            agree::teach(*m.loaded, text.ids, w, nullptr, [&](int64_t p, std::span<const float> logits) {
                outputs->set(p, logits, text.after(w, p));
                return !interrupted();
            });
        stop_if_interrupted();
    }
    const OpenModel m = open_model(chip, for_error);
    std::vector<double> kl, second;
    int64_t broken = 0, other_first = 0, equal = 0, other_second = 0;
    for (const agree::Window& w : text.windows)
        agree::teach(*m.loaded, text.ids, w, nullptr, [&](int64_t p, std::span<const float> logits) {
            const agree::Compared c = agree::compare(*outputs, p, logits, text.after(w, p));
            broken += c.broken ? 1 : 0;
            other_first += c.other_first ? 1 : 0;
            equal += c.equal ? 1 : 0;
            if (!c.broken) kl.push_back(c.equal ? 0 : c.kl);
            if (c.broken || !ErrorText::in_second_half(w, p)) return !interrupted();
            second.push_back(c.equal ? 0 : c.kl);
            other_second += c.other_first ? 1 : 0;
            return !interrupted();
        });
    stop_if_interrupted();
    const agree::Interval mean = kl.empty() ? agree::Interval{} : agree::bootstrap(kl, agree::mean_of, 1);
    const auto positions = static_cast<int64_t>(text.ids.size());
    return {{"mean_kl", mean.value},
            {"low", mean.low},
            {"high", mean.high},
            {"positions", positions},
            {"other_first", other_first},
            {"broken", broken},
            {"bit_equal", equal == positions},
            {"text", text.words},
            {"against", against},
            {"second_halves",
             {{"mean_kl", agree::mean_of(second)}, {"positions", second.size()}, {"other_first", other_second}}}};
}

Json measure(const Options& o) {
    CommonOptions common = o.common;
    common.context = std::max(common.context, o.prompt + o.depth + o.tokens + 2);
    Json run = {{"format", "busbar bench 1"}};
    {
        OpenModel model = open_model(common, [&](LoadOptions& load) {
            load.sequences = o.batch;
            load.logit_rows = o.batch;
            load.chunk = std::max<int64_t>(load.chunk, o.batch);
            load.speculate = load.programs_late = true;  // as `run` has it: one gate speaks for both
        });
        print_placement(model);
        const double ready = seconds_since_start();
        const Times warm = run_once(*model.loaded, o, 1);
        run["start"] = {{"ready_s", ready}, {"first_token_s", warm.first_token}};
        model.loaded->settle();  // the speed of a model in use; its start is measured above
        run["memory"] = memory_json(*model.loaded);  // measuring the roofs takes a large buffer of its own
        const MemoryUse use = model.loaded->memory();
        run["memory"]["planned"] = use.total();
        const double step_bytes = bytes_of_step(*model.loaded, o);
        const Work work = work_of_prompt_token(*model.loaded);
        run["prefill_integer_products"] = work.total() > 0 ? work.integer_ops / work.total() : 0;
        run["repeats"] = timed_runs(model, o, step_bytes, work);
        const Profile& chip = model.chips.devices[0]->profile();
        run["chip"] = fmt::format("{} ({})", chip.chip, chip.detail);
        run["threads"] = chip.threads;
        run["machine"] = machine_of(model.chips);
        run["model"] = o.common.model;
        run["model_hash"] = hash_of_model(model);
        run["decode_bytes_per_token"] = static_cast<int64_t>(step_bytes / static_cast<double>(o.batch));
    }
    run["shape"] = shape_of(o);
    run["numerics"] = fmt::format("{}, {}{}{}", o.common.numerics, o.common.order,
                                  o.common.kv.empty() ? "" : ", cache ", o.common.kv);
    run["build"] = agree::build_id();
    run["date"] = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                              fmt::gmtime(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())));
    for (const char* key : {"prefill_tok_s", "decode_tok_s", "decode_gb_s", "prefill_gop_s", "roof_gb_s", "roof_gop_s",
                            "roof_integer_gop_s", "decode_share", "prefill_share", "prefill_product_share"}) {
        const std::vector<double> values = column(run["repeats"], key);
        run[key] = median_of(values);
        run["spread"][key] = {std::ranges::min(values), std::ranges::max(values)};
    }
    if (o.error_positions > 0) run["logit_error"] = logit_error(o);
    return run;
}

}  // namespace busbar::bench
