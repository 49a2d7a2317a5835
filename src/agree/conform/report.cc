// The table of conform, for people and for scripts.
#include <fmt/format.h>
#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "agree/conform/conform.h"
#include "base/check.h"

namespace busbar::conform {

namespace {

using Json = nlohmann::json;

const std::string_view words[] = {"refused",  "exact", "strict",      "accurate", "fast",
                                  "untested", "fail",  "wrong-claim", "hang",     "crash"};

/// A kernel row: the worst of its cases.
struct Line {
    std::string row;
    int cases = 0, refused = 0, bad = 0, waived = 0;
    Word verdict = Word::untested;
    CaseResult worst;  ///< figures: the largest of all cases
    bool repeat_equal = true;
    double seconds = 0;
};

Line line_of(const Report& report, const std::string& row) {
    Line line;
    line.row = row;
    for (const CaseResult& r : report.cases) {
        if (r.row != row) continue;
        ++line.cases;
        line.refused += r.verdict == Word::refused;
        const bool bad = !is_good(r.verdict);
        line.bad += bad;
        line.waived += bad && !r.waiver.empty();
        if (line.cases == 1 || r.verdict > line.verdict) line.verdict = r.verdict;
        CaseResult& w = line.worst;
        w.max_abs = std::max(w.max_abs, r.max_abs);
        w.max_relative = std::max(w.max_relative, r.max_relative);
        w.max_ulp = std::max(w.max_ulp, r.max_ulp);
        w.nmse = std::max(w.nmse, r.nmse);
        w.share = std::max(w.share, r.share);
        w.non_finite += r.non_finite;
        line.repeat_equal = line.repeat_equal && r.repeat_equal;
        line.seconds += r.seconds;
    }
    if (line.cases > 0 && line.refused == line.cases) line.verdict = Word::refused;
    return line;
}

bool passes(const Line& line) {
    return line.verdict != Word::untested && line.bad == line.waived;
}

Json finite(double x) {
    return std::isfinite(x) ? Json(x) : Json(fmt::format("{}", x));
}
double number(const Json& j) {
    return j.is_string() ? (j == "nan" ? NAN : INFINITY) : j.get<double>();
}

std::string title(const CaseResult& r) {
    return fmt::format("{}{}{} \"{}\"", r.row, r.encoding.empty() ? "" : " ", r.encoding, r.name);
}

}  // namespace

std::string_view name_of(Word w) {
    return words[static_cast<size_t>(w)];
}

bool is_good(Word w) {
    return w < Word::untested;
}

Json to_json(const CaseResult& r) {
    Json j = {{"row", r.row},
              {"op", r.op},
              {"encoding", r.encoding},
              {"case", r.name},
              {"rows", r.rows},
              {"verdict", name_of(r.verdict)},
              {"max_abs", finite(r.max_abs)},
              {"max_relative", finite(r.max_relative)},
              {"max_ulp", finite(r.max_ulp)},
              {"nmse", finite(r.nmse)},
              {"share_of_bound", finite(r.share)},
              {"worst", r.worst},
              {"non_finite_mismatches", r.non_finite},
              {"repeat_equal", r.repeat_equal},
              {"seconds", r.seconds},
              {"why", r.why}};
    if (!r.waiver.empty()) j["waived"] = r.waiver;
    return j;
}

CaseResult case_result(const Json& j) {
    CaseResult r{j.at("row"), j.at("op"), j.at("encoding"), j.at("case"), j.at("rows")};
    const std::string word = j.at("verdict");
    const auto* found = std::find(std::begin(words), std::end(words), word);
    BUSBAR_CHECK(found != std::end(words), word);
    r.verdict = static_cast<Word>(found - std::begin(words));
    r.why = j.at("why");
    r.max_abs = number(j.at("max_abs"));
    r.max_relative = number(j.at("max_relative"));
    r.max_ulp = number(j.at("max_ulp"));
    r.nmse = number(j.at("nmse"));
    r.share = number(j.at("share_of_bound"));
    r.worst = j.at("worst");
    r.non_finite = j.at("non_finite_mismatches");
    r.repeat_equal = j.at("repeat_equal");
    r.seconds = j.at("seconds");
    return r;
}

bool Report::conforms() const {
    return std::all_of(rows.begin(), rows.end(),
                       [this](const std::string& row) { return passes(line_of(*this, row)); });
}

std::string Report::text(bool all_cases) const {
    std::string out =
        fmt::format("chip {}, {}{}{}; seed {}\n\n{:<30} {:<12} {:>5} {:>8} {:>8} {:>8} {:>8} {:>6} {:>5} {:>6} {:>8}\n",
                    chip, detail, driver.empty() ? "" : ", driver ", driver, seed, "kernel row", "verdict", "cases",
                    "max abs", "max rel", "max ULP", "NMSE", "bound", "NaN", "repeat", "ms");
    int good = 0, shown = 0;
    for (const std::string& row : rows) {
        const Line line = line_of(*this, row);
        good += passes(line);
        out += fmt::format(
            "{:<30} {:<12} {:>5} {:>8.2g} {:>8.2g} {:>8.3g} {:>8.2g} {:>5.0f}% {:>5} {:>6} {:>8.2f}{}{}\n", row,
            name_of(line.verdict), line.cases, line.worst.max_abs, line.worst.max_relative, line.worst.max_ulp,
            line.worst.nmse, 100 * line.worst.share, line.worst.non_finite, line.repeat_equal ? "equal" : "differs",
            1000 * line.seconds, line.refused > 0 ? fmt::format("  {} refused", line.refused) : "",
            line.waived > 0 ? fmt::format("  {} waived", line.waived) : "");
    }
    std::map<std::string, int> told;
    for (const CaseResult& r : cases) {
        const bool bad = !is_good(r.verdict);
        if (!bad && !all_cases && r.verdict != Word::refused) continue;
        if (!all_cases && ++told[r.row] > 5) continue;  // the first few tell the story
        if (shown++ == 0) out += '\n';
        if (bad || r.verdict == Word::refused)
            out += fmt::format("{:<12} {}\n             {}\n", name_of(r.verdict), title(r), r.why);
        else
            out += fmt::format("{:<12} {}: {:.0f} % of its bound, {:.3g} ULP, {:.2f} ms\n", name_of(r.verdict),
                               title(r), 100 * r.share, r.max_ulp, 1000 * r.seconds);
        if (bad && !r.worst.empty() && r.why.find(r.worst) == std::string::npos)
            out += fmt::format("             worst: {}\n", r.worst);
        if (!r.waiver.empty()) out += fmt::format("             waived: {}\n", r.waiver);
    }
    for (const auto& [row, n] : told)
        if (n > 5) out += fmt::format("             ... {} more cases of {} (-v prints them)\n", n - 5, row);
    for (const std::string& what : not_done) out += fmt::format("not tested: {}\n", what);
    for (const Waiver& w : waivers)
        out += fmt::format("waiver {}{}{}: {}: {}\n", w.row, w.encoding.empty() ? "" : " ", w.encoding, w.reason,
                           w.used > 0 ? fmt::format("{} cases", w.used) : "no longer needed");
    out += fmt::format("\n{}: {} of {} kernel rows conform, {} cases, seed {}\n",
                       conforms() ? "conforms" : "does not conform", good, rows.size(), cases.size(), seed);
    return out;
}

Json Report::json() const {
    Json lines = Json::array(), all = Json::array(), waived = Json::array();
    for (const std::string& row : rows) {
        const Line line = line_of(*this, row);
        lines.push_back({{"row", row},
                         {"verdict", name_of(line.verdict)},
                         {"conforms", passes(line)},
                         {"cases", line.cases},
                         {"refused", line.refused},
                         {"bad", line.bad},
                         {"waived", line.waived},
                         {"max_abs", finite(line.worst.max_abs)},
                         {"max_relative", finite(line.worst.max_relative)},
                         {"max_ulp", finite(line.worst.max_ulp)},
                         {"nmse", finite(line.worst.nmse)},
                         {"share_of_bound", finite(line.worst.share)},
                         {"non_finite_mismatches", line.worst.non_finite},
                         {"repeat_equal", line.repeat_equal},
                         {"seconds", line.seconds}});
    }
    for (const CaseResult& r : cases) all.push_back(to_json(r));
    for (const Waiver& w : waivers)
        waived.push_back({{"row", w.row}, {"encoding", w.encoding}, {"reason", w.reason}, {"cases", w.used}});
    return {{"chip", chip},      {"detail", detail},       {"maker", maker},        {"driver", driver},
            {"seed", seed},      {"conforms", conforms()}, {"rows", lines},         {"cases", all},
            {"waivers", waived}, {"workers", workers},     {"not_tested", not_done}};
}

std::vector<Waiver> parse_waivers(std::string_view text, const std::string& name) {
    std::vector<Waiver> all;
    for (int number = 1; !text.empty(); ++number) {
        const size_t end = text.find('\n');
        std::string line(text.substr(0, end));
        text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
        const size_t first = line.find_first_not_of(" \t\r");
        if (first == std::string::npos || line[first] == '#') continue;
        line = line.substr(first, line.find_last_not_of(" \t\r") + 1 - first);
        const size_t colon = line.find(": ");
        const std::string head = line.substr(0, colon);
        const size_t space = head.find(' ');
        if (colon == std::string::npos || head.empty() || head.find(' ', space + 1) < head.size())
            throw bad_input(fmt::format("{}: line {}", name, number),
                            "[conform] expected a waiver `ROW [ENCODING]: REASON`, got {}", quote(line));
        all.push_back(
            {head.substr(0, space), space == std::string::npos ? "" : head.substr(space + 1), line.substr(colon + 2)});
    }
    return all;
}

}  // namespace busbar::conform
