// busbar conform: does a chip's every kernel meet its bound? (docs/agreement.md, level 1)
#include "agree/conform/conform.h"

#include <fmt/format.h>

#include "common.h"
#include "flags.h"
#include "progress.h"

namespace busbar {

namespace {

struct ConformFlags {
    CommonOptions common;
    std::string op, encoding, waivers, seed;
    bool quick = false;
    int64_t deadline = 20;
};

int conform_command(const ConformFlags& o) {
    apply_common(o.common);
    conform::Options options;
    options.op = o.op;
    options.encoding = o.encoding;
    options.quick = o.quick;
    options.case_deadline = std::chrono::seconds(o.deadline);
    options.first_deadline = std::chrono::seconds(std::max<int64_t>(6 * o.deadline, 20));
    options.open_deadline = std::max(options.open_deadline, options.first_deadline);
    if (!o.seed.empty()) conform::set_seed(std::stoull(o.seed));
    if (!o.waivers.empty()) options.waivers = conform::parse_waivers(read_text(o.waivers), o.waivers);
    Progress progress("conform", "cases");
    options.progress = [&](int64_t done, int64_t all) {
        progress.update(static_cast<double>(done), static_cast<double>(all));
    };
    options.stop = [] { return interrupted(); };
    const conform::Report report =
        conform::run([&] { return open_device(o.common); }, [] { return open_chip(oracle_chip()); }, options);
    progress.clear();
    if (o.common.json)
        put_json(report.json());
    else
        put(report.text(o.common.verbose > 0));
    return static_cast<int>(report.conforms() ? 0 : static_cast<int>(ErrorCode::answer_is_no));
}

}  // namespace

void add_conform(CLI::App& app, int& exit_code) {
    auto o = std::make_shared<ConformFlags>();
    CLI::App* sub = app.add_subcommand("conform", "does a chip's every kernel meet its bound? a table and a verdict");
    sub->footer(
        "Exit code: 0 every kernel row conforms, 1 not, 4 the chip cannot be opened.\n"
        "Examples:\n"
        "  busbar conform --chip auto\n"
        "  busbar conform --chip auto --op matmul --encoding q4_1 -v\n"
        "  busbar conform --quick --json --waivers known.txt      each line: ROW [ENCODING]: REASON");
    sub->add_option("--op", o->op, "only kernels of this op")->type_name("NAME");
    sub->add_option("--encoding", o->encoding, "only weights in this encoding")->type_name("NAME");
    sub->add_option("--seed", o->seed, "of the random inputs; else a fresh one, printed")
        ->type_name("N")
        ->check(whole_number(0, INT64_MAX));
    sub->add_flag("--quick", o->quick, "two cases of each kernel row and encoding");
    sub->add_option("--waivers", o->waivers, "failures to let pass, each with a reason; printed")->type_name("FILE");
    sub->add_option("--deadline", o->deadline, "seconds that a case may take, six times as many for a row's first")
        ->type_name("N")
        ->capture_default_str()
        ->check(whole_number(1, 3600));
    add_common(*sub, o->common);
    sub->callback([o, &exit_code] { exit_code = conform_command(*o); });
}

}  // namespace busbar
