// busbar verify: does a chip give the answers of the reference on this model? (docs/agreement.md, levels 2 and 3)
#include "agree/verify.h"

#include <fmt/format.h>

#include <random>

#include "agree/bisect.h"
#include "agree/identity.h"
#include "agree/reproduction.h"
#include "agree/requests.h"
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
    std::string against, text, ids, save, replay;
    int64_t positions = 2000;
    bool bisect = false;
};

constexpr int64_t window = 512, chunk = 128;

void for_verify(LoadOptions& load) {
    load.context = std::min(load.context, window);
    load.chunk = load.logit_rows = chunk;  // logits of every row
    load.sequences = 4;                    // level 4 wants neighbours
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

std::vector<int32_t> ids_of(const VerifyFlags& o, const OpenModel& m) {
    if (!o.ids.empty()) return parse_ids(read_text(o.ids), o.ids, m.loaded->vocabulary());
    const std::string text = o.text.empty() ? std::string(agree::verify_text()) : read_text(o.text);
    return open_tokenizer_of(m)->encode(text, true);
}

CommonOptions reference_of(const VerifyFlags& o) {
    CommonOptions reference = o.common;
    reference.chip = o.against.empty() ? std::string(fallback_chip()) : o.against;
    reference.numerics = "strict";
    reference.order = "invariant";
    reference.isa = reference.split = reference.kv = "";
    return reference;
}

int exit_code_of(agree::Verdict v) {
    return v == agree::Verdict::agrees           ? 0
           : v == agree::Verdict::does_not_agree ? static_cast<int>(ErrorCode::answer_is_no)
                                                 : static_cast<int>(ErrorCode::no_evidence);
}

struct Levels {
    agree::VerifyReport outputs;    ///< level 2
    agree::RequestReport requests;  ///< level 4
    std::string chips;
    int exit_code() const {
        return requests.passed() ? exit_code_of(outputs.verdict) : static_cast<int>(ErrorCode::answer_is_no);
    }
};

Levels levels_2_and_4(const VerifyFlags& o) {
    const CommonOptions reference = reference_of(o);
    const OpenModel chip = open_model(o.common, for_verify);
    print_placement(chip);
    std::optional<OpenModel> oracle;
    const std::function<LoadedModel&()> open_oracle = [&]() -> LoadedModel& {
        if (!oracle) oracle = open_model(reference, for_verify);
        return *oracle->loaded;
    };
    agree::VerifyOptions options;
    options.ids = ids_of(o, chip);
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
    options.against =
        fmt::format("{} ({}), strict, invariant", reference.chip, open_device(reference)->profile().detail);
    if (!o.common.no_cache) options.cache = agree::cache_folder("verify");
    Progress progress("verify", "positions");
    const char* last = "";
    options.progress = [&](const char* what, int64_t done, int64_t all) {
        if (what != last) detail("verify: {}", what);
        last = what;
        progress.update(static_cast<double>(done), static_cast<double>(all));
    };
    options.stop = [] { return interrupted(); };
    const std::string admitted = reference.chip == oracle_chip()
                                     ? ""
                                     : agree::check_oracle(
                                           open_oracle, [] { return open_chip(oracle_chip()); }, options.ids,
                                           options.model_hash, options.against, options.cache);
    agree::VerifyReport report = agree::verify(*chip.loaded, open_oracle, options);
    report.admitted = admitted;
    agree::RequestReport requests = agree::check_requests(*chip.loaded, options.ids);
    progress.clear();
    return {std::move(report), std::move(requests), options.chip};
}

int show_levels(const VerifyFlags& o) {
    const Levels levels = levels_2_and_4(o);
    if (o.common.json) {
        Json document = levels.outputs.json();
        document["requests"] = levels.requests.json();
        put_json(document);
    } else {
        put(levels.requests.text_form() + levels.outputs.text_form());
    }
    return levels.exit_code();
}

int level_3(const VerifyFlags& o) {
    const OpenModel chip = open_model(o.common, for_verify);
    print_placement(chip);
    const OpenModel against = open_model(reference_of(o), for_verify);
    agree::BisectOptions options;
    options.ids = ids_of(o, chip);
    options.chip = chips_of(chip);
    options.model_hash = hash_of_model(chip);
    options.save = o.save;
    options.seed = std::random_device{}();
    Progress progress("bisect", "nodes");
    options.progress = [&](const char*, int64_t done, int64_t all) {
        progress.update(static_cast<double>(done), static_cast<double>(all));
    };
    options.stop = [] { return interrupted(); };
    const std::unique_ptr<Device> oracle = open_chip(oracle_chip());
    const agree::BisectReport report = agree::bisect(*chip.loaded, *oracle, against.loaded.get(), options);
    progress.clear();
    Json head = {{"model", o.common.model},
                 {"model_hash", options.model_hash},
                 {"chip", options.chip},
                 {"detail", chip.chips.devices[0]->profile().detail},
                 {"driver", chip.chips.devices[0]->profile().driver},
                 {"numerics", o.common.numerics + ", " + o.common.order},
                 {"seed", options.seed}};
    head.update(report.json());
    if (o.common.json)
        put_json(head);
    else
        put(fmt::format("model      {}, sha256 {}\nchip       {}, {}\nnumerics   {}; seed {}\n{}", o.common.model,
                        options.model_hash.substr(0, 16), options.chip, head["detail"].get<std::string>(),
                        head["numerics"].get<std::string>(), options.seed, report.text_form()));
    return report.agrees() ? 0 : static_cast<int>(ErrorCode::answer_is_no);
}

int replay(const VerifyFlags& o) {
    const agree::Reproduction r = agree::load(o.replay);
    const std::unique_ptr<Device> chip = open_device(o.common), oracle = open_chip(oracle_chip());
    const std::vector<conform::CaseResult> results = agree::replay(r, *chip, *oracle);
    if (results.empty())
        throw chip_error(o.replay, "[replay] {} has no kernel row for {}", chip->profile().chip, r.c.op->name);
    bool good = true;
    Json all = Json::array();
    std::string text = fmt::format("{} {}, found on {}: {}\n", r.c.op->name, r.c.node, r.chip, r.why);
    for (const conform::CaseResult& c : results) {
        good = good && conform::is_good(c.verdict);
        all.push_back(Json(conform::to_json(c)));
        text += fmt::format("{:<12} {}: {:.0f} % of its bound{}{}\n", conform::name_of(c.verdict), c.row, 100 * c.share,
                            c.why.empty() ? "" : "; ", c.why);
    }
    if (o.common.json)
        put_json({{"replay", o.replay}, {"chip", chip->profile().chip}, {"agrees", good}, {"rows", all}});
    else
        put(text + fmt::format("{} {}\n", chip->profile().chip, good ? "agrees" : "does not agree"));
    return good ? 0 : static_cast<int>(ErrorCode::answer_is_no);
}

int verify_command(VerifyFlags o) {
    apply_common(o.common);
    o.common.gate = "off";  // what follows is the longer check, and must see a chip that the gate would refuse
    if (!o.replay.empty()) return replay(o);
    if (o.common.model.empty()) throw usage_error("[cli] expected MODEL, or --replay DIR");
    if (!o.text.empty() && !o.ids.empty()) throw usage_error("[cli] expected one of --text and --ids, got both");
    if (!o.save.empty() && !o.bisect) throw usage_error("[cli] --save goes with --bisect: it keeps what that finds");
    return o.bisect ? level_3(o) : show_levels(o);
}

}  // namespace

void pass_full_gate(const CommonOptions& common) {
    VerifyFlags o;
    o.common = common;
    o.common.gate = "off";
    o.positions = 500;
    const Levels levels = levels_2_and_4(o);
    if (levels.outputs.verdict == agree::Verdict::does_not_agree || !levels.requests.passed())
        throw chip_error(
            "", "[gate] --gate full: expected {} to give the reference's answers over {} positions, got\n{}{}",
            levels.chips, levels.outputs.positions, levels.requests.text_form(), levels.outputs.text_form());
    note("gate full: {} over {} positions", agree::name_of(levels.outputs.verdict), levels.outputs.positions);
}

void add_verify(CLI::App& app, int& exit_code) {
    auto o = std::make_shared<VerifyFlags>();
    CLI::App* sub = app.add_subcommand("verify", "does a chip give the reference's answers on this model?");
    sub->footer(
        "Exit code: 0 agrees, 1 does not agree, 6 not enough evidence.\n"
        "Examples:\n"
        "  busbar verify model.gguf --chip auto\n"
        "  busbar verify model.gguf --numerics fast --positions 5000 --json\n"
        "  busbar verify model.gguf --chip auto --bisect --save found     names the first kernel that is wrong\n"
        "  busbar verify --replay found --chip auto                       runs that kernel alone");
    add_model(*sub, o->common)->required(false);
    sub->add_option("--against", o->against, "the chip that is believed: strict, invariant; else the fallback chip")
        ->type_name("CHIP");
    sub->add_option("--text", o->text, "compare over this text, not the one that Busbar brings; - reads stdin")
        ->type_name("FILE");
    sub->add_option("--ids", o->ids, "a file of decimal ids, fed as they are")->type_name("FILE");
    sub->add_option("--positions", o->positions, "how many tokens of it")
        ->type_name("N")
        ->capture_default_str()
        ->check(whole_number(1, 1000000));
    sub->add_flag("--bisect", o->bisect,
                  "check every kernel on what it is given, as the model runs; name the first bad one");
    sub->add_option("--save", o->save, "with --bisect: keep the bad kernel with its inputs and outputs")
        ->type_name("DIR");
    sub->add_option("--replay", o->replay, "run a kernel kept by --save, on any chip")->type_name("DIR");
    add_common(*sub, o->common);
    sub->callback([o, &exit_code] { exit_code = verify_command(*o); });
}

}  // namespace busbar
