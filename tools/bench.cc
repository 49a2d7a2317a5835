// busbar bench: prompt and generation speed, bytes per token, share of the roofs measured in the same run, logit error;
// and whether that is slower than a run before.
#include "bench.h"

#include <fmt/format.h>

#include "agree/identity.h"
#include "base/error.h"
#include "flags.h"

namespace busbar {

namespace {

int bench_command(const bench::Options& o) {
    apply_common(o.common);
    if (o.common.model.empty() == o.stored.empty())
        throw usage_error("[cli] expected MODEL, or --stored FILE to compare two runs that were kept; got {}",
                          o.stored.empty() ? "neither" : "both");
    if (!o.stored.empty() && o.against.empty()) throw usage_error("[cli] --stored goes with --against");
    // Before minutes of work: is there something to compare with?
    const Json before = o.against.empty() ? Json() : bench::read_stored(o.against);
    if (!o.against.empty() && o.stored.empty()) bench::check_shape(before, bench::shape_of(o), o.against);
    Json run = o.stored.empty() ? bench::measure(o) : bench::read_stored(o.stored);
    if (!o.save.empty() && !agree::keep(o.save, run.dump(1) + "\n"))
        throw bad_input(o.save, "[bench] cannot write the run: is the folder there, has the disk room?");
    std::string text = bench::text_of(run);
    int exit_code = 0;
    if (!o.against.empty()) {
        const Json comparison = bench::compare(before, run, o.against, o.margin);
        exit_code = bench::exit_code_of(comparison);
        text += bench::text_of_comparison(comparison);
        run["against"] = comparison;
    }
    if (o.common.json)
        put_json(run);
    else
        put(text);
    return exit_code;
}

}  // namespace

void add_bench(CLI::App& app, int& exit_code) {
    auto o = std::make_shared<bench::Options>();
    CLI::App* sub =
        app.add_subcommand("bench", "prompt and generation speed, bytes per token, share of the measured roofs");
    sub->footer(
        "Exit code with --against: 0 not slower, 1 slower beyond the noise, 6 too few repeats to say.\n"
        "Examples:\n"
        "  busbar bench model.gguf\n"
        "  busbar bench model.gguf -p 128 -n 32 --batch 4 --json\n"
        "  busbar bench model.gguf --save before.json        then change something, and:\n"
        "  busbar bench model.gguf --against before.json\n"
        "  busbar bench --stored after.json --against before.json");
    add_model(*sub, o->common)->required(false);
    const auto add = [&](const char* names, int64_t& value, const char* what, int64_t least, int64_t most) {
        sub->add_option(names, value, what)->type_name("N")->capture_default_str()->check(whole_number(least, most));
    };
    add("-p,--prompt", o->prompt, "tokens of the prompt", 1, 1 << 24);
    add("-n,--tokens", o->tokens, "tokens to generate", 1, 1 << 24);
    add("--depth", o->depth, "tokens before the prompt", 0, 1 << 24);
    add("--batch", o->batch, "sequences at once", 1, 512);
    add("--repeat", o->repeat, "timed runs", 1, 1000);
    add("--error-positions", o->error_positions, "tokens of text for the logit error; 0 leaves it out", 0, 1 << 20);
    sub->add_option("--error-text", o->error_text, "a text for the logit error, not the one that Busbar brings")
        ->type_name("FILE");
    sub->add_option("--save", o->save, "keep the run, to compare with it later")->type_name("FILE");
    sub->add_option("--against", o->against, "compare with a run that was kept on this machine")->type_name("FILE");
    sub->add_option("--stored", o->stored, "compare this kept run and run nothing")->type_name("FILE");
    sub->add_option("--margin", o->margin, "per cent that a run may be slower beyond the noise")
        ->type_name("X")
        ->capture_default_str()
        ->check(number(0, 100));
    add_common(*sub, o->common);
    sub->callback([o, &exit_code] { exit_code = bench_command(*o); });
}

}  // namespace busbar
