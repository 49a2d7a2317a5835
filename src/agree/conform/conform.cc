// The parent of the worker processes: it opens no chip.
#include "agree/conform/conform.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/child.h"

namespace busbar::conform {

namespace {

using Json = nlohmann::json;

/// What a worker said until it was done, died or became silent.
struct Watch {
    Report& report;
    const Options& options;
    int64_t next = 0;  ///< number of the case to go on with
    bool done = false, opened = false;
    std::map<std::string, int> deaths;
    std::set<std::string> given_up, seen;
    std::map<std::string, int> skipped;

    /// Returns how the worker ended if it did so in the middle of a case, and that case.
    void follow(Child& child) {
        bool open = false;
        std::optional<CaseResult> running;
        auto deadline = options.open_deadline;
        while (true) {
            if (options.stop && options.stop()) throw Error(ErrorCode::interrupted, "", "interrupted");
            const std::optional<std::string> line = child.line(deadline);
            if (!line) {
                const std::string end = child.finish();
                if (!open && report.cases.empty())
                    throw chip_error("", "[conform] expected the chip to open within {} s, the worker process {}",
                                     options.open_deadline.count() / 1000, end);
                if (!running) return died(end);
                running->verdict = child.ended() ? Word::crash : Word::hang;
                running->why = child.ended() ? "the worker process " + end
                                             : fmt::format("no answer within {:.0f} s",
                                                           static_cast<double>(deadline.count()) / 1000);
                return end_case(*running);
            }
            const Json said = Json::parse(*line);
            if (said.contains("error")) {
                if (!report.cases.empty()) return died(said["error"]);
                throw Error(static_cast<ErrorCode>(said["code"].get<int>()), "", said["error"]);
            }
            if (said.contains("chip")) {
                open = true;
                note_chip(said);
            } else if (said.contains("begins")) {
                next = said["begins"].get<int64_t>();
                running = case_result(said["case"]);
                deadline = seen.insert(running->row).second ? options.first_deadline : options.case_deadline;
            } else if (said.contains("ends")) {
                running.reset();
                end_case(case_result(said["case"]));
            } else if (said.contains("skipped")) {
                next = said["skipped"].get<int64_t>() + 1;
                ++skipped[said["row"]];
            } else {
                done = said.contains("done");
                return;
            }
        }
    }

    /// Without a case that could be blamed. Once may be chance; then the rest is left.
    void died(const std::string& how) {
        if (++deaths[""] < 2) return;
        done = true;
        report.not_done.push_back(fmt::format("all cases after number {}: the worker process {}", next, how));
    }

    void end_case(CaseResult r) {
        if (r.verdict == Word::crash || r.verdict == Word::hang)
            if (++deaths[r.row] >= options.give_up_after) given_up.insert(r.row);
        report.cases.push_back(std::move(r));
        ++next;
        if (options.progress) options.progress(next, units);
    }

    void note_chip(const Json& said) {
        units = said["units"].get<int64_t>();
        if (opened) return;
        opened = true;
        report.chip = said["chip"];
        report.detail = said["detail"];
        report.maker = said["maker"];
        report.driver = said["driver"];
        report.rows = said["rows"].get<std::vector<std::string>>();
        if (report.rows.empty() || units == 0)
            throw usage_error("[conform] chip {} has no kernel row for {}{}", report.chip,
                              options.op.empty() ? "these options" : "op " + quote(options.op),
                              options.encoding.empty() ? "" : " on weights in " + quote(options.encoding));
    }

    int64_t units = 0;
};

void waive(Report& report) {
    for (CaseResult& r : report.cases) {
        if (is_good(r.verdict)) continue;
        for (Waiver& w : report.waivers)
            if (w.row == r.row && (w.encoding.empty() || w.encoding == r.encoding)) {
                r.waiver = w.reason;
                ++w.used;
                break;
            }
    }
}

}  // namespace

Report run(const Open& chip, const Open& oracle, const Options& options) {
    if (!options.op.empty() && !find_op(options.op))
        throw usage_error("[conform] expected the name of an op, got {}; `busbar show ops` lists them",
                          quote(options.op));
    if (!options.encoding.empty() && !find_encoding(options.encoding)) {
        std::string known;
        for (const Encoding* e : encodings()) known += fmt::format("{}{}", known.empty() ? "" : ", ", e->name);
        throw usage_error("[conform] expected an encoding ({}), got {}", known, quote(options.encoding));
    }
    Report report;
    report.seed = seed();
    report.waivers = options.waivers;
    Watch watch{report, options};
    for (report.workers = 0; !watch.done; ++report.workers) {
        const std::vector<std::string> given_up(watch.given_up.begin(), watch.given_up.end());
        const int64_t first = watch.next;
        Child child([&](const Child::Tell& tell) { work(chip, oracle, options, first, given_up, tell); });
        watch.follow(child);
    }
    for (const auto& [row, n] : watch.skipped)
        report.not_done.push_back(fmt::format("{}: {} cases after {} crashes or hangs", row, n, options.give_up_after));
    waive(report);
    return report;
}

}  // namespace busbar::conform
