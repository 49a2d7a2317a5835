#include <fmt/format.h>
#include <cmath>
#include <nlohmann/json.hpp>

#include "agree/bisect.h"
#include "agree/identity.h"

namespace busbar::agree {

namespace {

nlohmann::json finite(double x) {
    return std::isfinite(x) ? nlohmann::json(x) : nlohmann::json(fmt::format("{}", x));
}

std::string where(const Finding& f) {
    return fmt::format("{}: {}, {}step {} ({} {} at position {}){}", f.what.op, f.what.node,
                       f.what.layer >= 0 ? fmt::format("layer {}, ", f.what.layer) : "", f.step, f.rows,
                       f.rows == 1 ? "row" : "rows", f.what.position,
                       f.what.row.empty() ? "" : fmt::format(", kernel {} on {}", f.what.row, f.what.chip));
}

}  // namespace

std::string BisectReport::text_form() const {
    std::string out =
        fmt::format("bisect     {} kernels in {} steps, {} outputs; {:.1f} s\n", nodes, steps, outputs, seconds);
    if (findings.empty()) {
        out += "no kernel outside its bound, no value changed between kernels\n";
        if (!accumulated.empty())
            out += fmt::format("error since the model's start: {:.2g} after {}, {:.2g} after {} (relative)\n",
                               accumulated.front().second, accumulated.front().first, accumulated.back().second,
                               accumulated.back().first);
    } else {
        const Finding& first = findings.front();
        out += fmt::format("first wrong {} {}\n  {}\n", name_of(first.what.what), where(first), first.what.why);
        if (first.accumulated >= 0)
            out += fmt::format("  its output differs from the oracle's whole run by {:.2g} (relative)\n",
                               first.accumulated);
        for (size_t i = 1; i < std::min<size_t>(findings.size(), 6); ++i)
            out += fmt::format("then        {} {}\n", name_of(findings[i].what.what), where(findings[i]));
        if (findings.size() > 6) out += fmt::format("            and {} more in that step\n", findings.size() - 6);
    }
    if (watching_changed_bits)
        out +=
            "watching changed bits of the result: kernels run one by one give another answer than in a row, which "
            "points to a race\n";
    else if (findings.empty())
        out += "the same steps with nobody watching: the same bits\n";
    if (!saved_to.empty())
        out += fmt::format("saved      {}; busbar verify --replay {} runs it alone\n", saved_to, saved_to);
    else if (!asked.save.empty() && !findings.empty())
        out += "nothing saved: what was found is no op that could be run alone\n";
    for (const std::string& what : not_tested) out += fmt::format("not tested: {}\n", what);
    return out + fmt::format("{}\n", agrees() ? "every kernel agrees with the reference on what it was given"
                                              : "does not agree");
}

nlohmann::json BisectReport::json() const {
    using Json = nlohmann::json;
    Json all = Json::array(), drift = Json::array();
    for (const Finding& f : findings)
        all.push_back({{"blames", name_of(f.what.what)},
                       {"node", f.what.node},
                       {"op", f.what.op},
                       {"layer", f.what.layer},
                       {"row", f.what.row},
                       {"chip", f.what.chip},
                       {"step", f.step},
                       {"rows", f.rows},
                       {"position", f.what.position},
                       {"plan_index", f.what.index},
                       {"why", f.what.why},
                       {"share_of_bound", finite(f.what.worst)},
                       {"accumulated", finite(f.accumulated)}});
    for (const auto& [node, error] : accumulated) drift.push_back({{"node", node}, {"relative_error", finite(error)}});
    return {{"agrees", agrees()},
            {"findings", all},
            {"kernels", nodes},
            {"steps", steps},
            {"outputs", outputs},
            {"accumulated", drift},
            {"watching_changed_bits", watching_changed_bits},
            {"saved_to", saved_to},
            {"not_tested", not_tested},
            {"build", build_id()},
            {"seconds", seconds}};
}

}  // namespace busbar::agree
