// busbar verify: does a chip give the answers of the reference on this model? (docs/agreement.md, level 2)
#include "agree/verify.h"

#include <fmt/format.h>

#include "agree/identity.h"
#include "agree/teacher.h"
#include "base/error.h"
#include "common.h"
#include "flags.h"
#include "ids.h"
#include "progress.h"

namespace busbar {

namespace {

struct VerifyFlags {
    CommonOptions common;
    std::string against, text, ids;
    int64_t positions = 2000;
    bool no_cache = false;
};

constexpr int64_t window = 512, chunk = 128;

void for_verify(LoadOptions& load) {
    load.context = std::min(load.context, window);
    load.chunk = load.logit_rows = chunk;  // logits of every row
}

std::string chips_of(const OpenModel& m) {
    std::string words;
    for (const std::string& name : m.chips.names) words += (words.empty() ? "" : ",") + name;
    return words;
}

std::string hash_of_model(const OpenModel& m) {
    const std::string weights = agree::hash_of(import_model(m.file, window).files);
    return m.file.folder.empty() ? weights : agree::hash_of(weights + m.file.config.dump());
}

int verify_command(const VerifyFlags& o) {
    apply_common(o.common);
    if (!o.text.empty() && !o.ids.empty()) throw usage_error("[cli] expected one of --text and --ids, got both");
    CommonOptions reference = o.common;
    reference.chip = o.against.empty() ? std::string(fallback_chip()) : o.against;
    reference.numerics = "strict";
    reference.order = "invariant";
    reference.isa = reference.split = reference.kv = "";
    const OpenModel chip = open_model(o.common, for_verify);
    print_placement(chip);
    std::optional<OpenModel> oracle;
    const std::function<LoadedModel&()> open_oracle = [&]() -> LoadedModel& {
        if (!oracle) oracle = open_model(reference, for_verify);
        return *oracle->loaded;
    };
    const auto reference_device = open_device(reference);

    agree::VerifyOptions options;
    if (o.ids.empty())
        options.ids = open_tokenizer_of(chip)->encode(
            o.text.empty() ? std::string(agree::verify_text()) : read_text(o.text), true);
    else
        options.ids = parse_ids(read_text(o.ids), o.ids, chip.loaded->vocabulary());
    options.positions = o.positions;
    options.model = o.common.model;
    options.model_hash = hash_of_model(chip);
    options.text = o.text.empty() && o.ids.empty() ? "Busbar's own text" : o.text + o.ids;
    options.chip = chips_of(chip);
    const Profile& profile = chip.chips.devices[0]->profile();
    options.chip_detail = profile.detail;
    options.driver = profile.driver;
    options.numerics = fmt::format("{}, {}{}{}", o.common.numerics, o.common.order,
                                   o.common.kv.empty() ? "" : ", cache ", o.common.kv);
    options.against = fmt::format("{} ({}), strict, invariant", reference.chip, reference_device->profile().detail);
    if (!o.no_cache) options.cache = agree::cache_folder("verify");
    Progress progress("verify", "positions");
    const char* last = "";
    options.progress = [&](const char* what, int64_t done, int64_t all) {
        if (what != last) detail("verify: {}", what);
        last = what;
        progress.update(static_cast<double>(done), static_cast<double>(all));
    };
    options.stop = [] { return interrupted(); };
    const agree::VerifyReport report = agree::verify(*chip.loaded, open_oracle, options);
    progress.clear();
    if (o.common.json)
        put_json(report.json());
    else
        put(report.text_form());
    switch (report.verdict) {
        case agree::Verdict::agrees:
            return 0;
        case agree::Verdict::does_not_agree:
            return static_cast<int>(ErrorCode::answer_is_no);
        default:
            return static_cast<int>(ErrorCode::no_evidence);
    }
}

}  // namespace

void add_verify(CLI::App& app, int& exit_code) {
    auto o = std::make_shared<VerifyFlags>();
    CLI::App* sub = app.add_subcommand("verify", "does a chip give the reference's answers on this model?");
    sub->footer(
        "Exit code: 0 agrees, 1 does not agree, 6 not enough evidence.\n"
        "Examples:\n"
        "  busbar verify model.gguf --chip auto\n"
        "  busbar verify model.gguf --numerics fast --positions 5000 --json\n"
        "  busbar verify folder/ --text book.txt --against reference --positions 64");
    add_model(*sub, o->common);
    sub->add_option("--against", o->against, "the chip that is believed: strict, invariant; else the fallback chip")
        ->type_name("CHIP");
    sub->add_option("--text", o->text, "compare over this text, not the one that Busbar brings; - reads stdin")
        ->type_name("FILE");
    sub->add_option("--ids", o->ids, "a file of decimal ids, fed as they are")->type_name("FILE");
    sub->add_option("--positions", o->positions, "how many tokens of it")
        ->type_name("N")
        ->capture_default_str()
        ->check(whole_number(1, 1000000));
    sub->add_flag("--no-cache", o->no_cache, "neither use nor keep the oracle's outputs and the bar");
    add_common(*sub, o->common);
    sub->callback([o, &exit_code] { exit_code = verify_command(*o); });
}

}  // namespace busbar
