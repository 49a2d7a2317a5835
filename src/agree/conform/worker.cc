// What a worker process does: open the chip, run the cases, tell of each before and after.
#include <fmt/format.h>
#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "agree/conform/conform.h"
#include "base/check.h"

namespace busbar::conform {

namespace {

using Json = nlohmann::json;

struct Unit {
    const Suite* suite;
    const Case* c;
    const KernelRow* row;
    std::string encoding;
};

std::string encoding_of(const Case& c) {
    std::vector<std::string_view> names;
    for (const Input& i : c.inputs)
        if (i.is == Input::Is::weight && std::find(names.begin(), names.end(), i.weight->encoding->name) == names.end())
            names.push_back(i.weight->encoding->name);
    return fmt::format("{}", fmt::join(names, "+"));
}

bool has_encoding(const Case& c, const std::string& wanted) {
    return std::any_of(c.inputs.begin(), c.inputs.end(),
                       [&](const Input& i) { return i.is == Input::Is::weight && i.weight->encoding->name == wanted; });
}

/// All that is to be run, in an order that depends on the options and the chip's profile only.
std::vector<Unit> units_of(const Profile& profile, const Options& options,
                           std::vector<std::unique_ptr<std::vector<Case>>>& keep) {
    std::vector<Unit> all;
    for (const Suite& suite : suites()) {
        if (!options.op.empty() && suite.op->name != options.op) continue;
        Random random(suite.op->name);
        keep.push_back(std::make_unique<std::vector<Case>>(suite.cases(random)));
        for (const Case& c : *keep.back()) {
            if (!options.encoding.empty() && !has_encoding(c, options.encoding)) continue;
            const Graph graph = c.graph();
            for (const KernelRow* row : rows_for(profile, graph, graph.nodes()[0], c.binding))
                all.push_back({&suite, &c, row, encoding_of(c)});
        }
    }
    if (!options.quick) return all;
    // The first and the middle one of each row and encoding.
    std::map<std::pair<const KernelRow*, std::string>, std::vector<size_t>> groups;
    for (size_t u = 0; u < all.size(); ++u) groups[{all[u].row, all[u].encoding}].push_back(u);
    std::set<size_t> chosen;
    for (const auto& [key, members] : groups) chosen.insert({members[0], members[members.size() / 2]});
    std::vector<Unit> few;
    for (size_t u : chosen) few.push_back(all[u]);
    return few;
}

std::string place(const Array& a, size_t i) {
    std::string where;
    auto rest = static_cast<int64_t>(i);
    for (size_t axis = a.extents.size(); axis-- > 0;) {
        where = fmt::format("{}{}{}", rest % a.extents[axis], where.empty() ? "" : ",", where);
        rest /= a.extents[axis];
    }
    return "[" + where + "]";
}

bool same_number(double a, double b) {
    return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}

bool same_bits(const Outcome& a, const Outcome& b) {
    if (a.outputs.size() != b.outputs.size()) return false;
    for (size_t o = 0; o < a.outputs.size(); ++o)
        if (a.outputs[o].extents != b.outputs[o].extents ||
            !std::equal(a.outputs[o].data.begin(), a.outputs[o].data.end(), b.outputs[o].data.begin(), same_number))
            return false;
    return true;
}

/// Figures over all outputs. Returns whether every bit is the oracle's number rounded once.
bool measure(const Case& c, const Outcome& oracle, const Outcome& got, Element out, CaseResult& r) {
    const Graph graph = c.graph();
    bool exact = true;
    double squares = 0, errors = 0;
    for (size_t o = 0; o < std::min(oracle.outputs.size(), got.outputs.size()); ++o) {
        const Array &y = oracle.outputs[o], &g = got.outputs[o];
        if (y.extents != g.extents) {
            exact &= g.data.empty();  // a state that this chip cannot read back
            continue;
        }
        const Kind kind = graph.type_of(graph.outputs[o]).kind;
        for (size_t i = 0; i < y.data.size(); ++i) {
            const double expected = kind == Kind::real ? round_to(y.data[i], out) : y.data[i], b = g.data[i];
            if (same_number(expected, b)) {
                if (std::isfinite(y.data[i])) squares += y.data[i] * y.data[i];
                continue;
            }
            exact = false;
            if (!std::isfinite(expected) || !std::isfinite(b)) {
                if (expected == b) continue;
                if (r.non_finite++ == 0)
                    r.worst = fmt::format("output {}{}: expected {:.9g}, got {:.9g}", o, place(y, i), y.data[i], b);
                continue;
            }
            const double error = std::abs(b - y.data[i]), size = std::abs(y.data[i]);
            squares += size * size;
            errors += error * error;
            if (error > r.max_abs && r.non_finite == 0)
                r.worst = fmt::format("output {}{}: expected {:.9g}, got {:.9g}", o, place(y, i), y.data[i], b);
            r.max_abs = std::max(r.max_abs, error);
            if (size > 0) r.max_relative = std::max(r.max_relative, error / size);
            r.max_ulp = std::max(r.max_ulp, error / ulp_at(y.data[i], out));
        }
    }
    r.nmse = squares > 0 ? errors / squares : (errors > 0 ? INFINITY : 0);
    return exact;
}

/// Order invariant is a claim: a row of a step has the same bits alone. "" if so.
std::string not_invariant(Device& device, const Unit& u, const Outcome& together) {
    if (u.row->order != Order::invariant || u.suite->op->updates_input >= 0 || u.row->min_rows > 1) return "";
    const Graph graph = u.c->graph();
    for (int64_t r : {int64_t{0}, int64_t{u.c->record.header().rows} - 1}) {
        Case alone = *u.c;
        if (!take_row(alone, r)) continue;
        const Outcome one = run_case(device, alone, u.row);
        for (size_t o = 0; o < one.outputs.size(); ++o) {
            if (graph.type_of(graph.outputs[o]).shape[0].symbol != Symbol::rows) continue;
            const size_t n = one.outputs[o].data.size();
            for (size_t i = 0; i < n; ++i) {
                const double a = one.outputs[o].data[i], b = together.outputs[o].data[n * r + i];
                if (!same_number(a, b))
                    return fmt::format(
                        "declares order invariant, but row {} of output {} differs alone and among {} rows: {:.9g} and "
                        "{:.9g}",
                        r, o, u.c->record.header().rows, a, b);
            }
        }
    }
    return "";
}

Word word_of(Accuracy a) {
    return a == Accuracy::strict ? Word::strict : a == Accuracy::accurate ? Word::accurate : Word::fast;
}

/// Throws ChipLost.
void test(Device& device, Device& oracle, const Unit& u, CaseResult& r) {
    const auto settle = [&](Word word, std::string why) {
        r.verdict = word;
        r.why = std::move(why);
    };
    const Profile& profile = device.profile();
    if (std::string why = refusal(profile, *u.row, *u.c); !why.empty()) return settle(Word::refused, std::move(why));
    // The oracle's own rounding to a cache is part of the case; a chip with doubles, or one that keeps no cache in this
    // element, is given what it would store.
    const Case& c = *u.c;
    const Case rounded = for_oracle(c);
    const Outcome expected = run_case(oracle, rounded);
    const bool keeps_more = std::ranges::find(profile.cache_elements, c.cache) == profile.cache_elements.end();
    const Case& given = profile.real == Element::f64 || keeps_more ? rounded : c;
    Outcome got, again;
    std::string variance;
    try {
        const auto begin = std::chrono::steady_clock::now();
        got = run_case(device, given, u.row);
        r.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        again = run_case(device, given, u.row);
        if (got.damage.empty()) variance = not_invariant(device, {u.suite, &given, u.row, u.encoding}, got);
    } catch (const ChipLost&) {
        throw;
    } catch (const Error& e) {
        return settle(Word::wrong_claim, fmt::format("has a row for this, but running it says: {}", e.what()));
    }
    r.repeat_equal = same_bits(got, again);
    const bool exact = measure(c, expected, got, profile.real, r);
    const Verdict v = judge(c, u.row->rounding, profile.real, expected, got, u.suite->bound);
    r.share = v.worst;
    if (!v.agrees) return settle(Word::fail, v.why);
    if (const Verdict second = judge(c, u.row->rounding, profile.real, expected, again, u.suite->bound); !second.agrees)
        return settle(Word::fail, "when run again: " + second.why);
    if (std::string why = wrong_declaration(*u.row); !why.empty()) return settle(Word::wrong_claim, std::move(why));
    if (u.row->order == Order::invariant && !r.repeat_equal)
        return settle(Word::wrong_claim, "declares order invariant, but the same case again has other bits");
    if (!variance.empty()) return settle(Word::wrong_claim, std::move(variance));
    settle(exact ? Word::exact : word_of(u.row->accuracy), "");
}

}  // namespace

CaseResult test_case(Device& device, Device& oracle, const Case& c, const KernelRow& row) {
    const Unit unit{suite_of(*c.op), &c, &row, encoding_of(c)};
    BUSBAR_CHECK(unit.suite);
    CaseResult r{row.name, std::string(c.op->name), unit.encoding, fmt::format("{} {}", c.name, c.attributes.print()),
                 c.record.header().rows};
    test(device, oracle, unit, r);
    return r;
}

std::string wrong_declaration(const KernelRow& row) {
    const Rounding& d = row.rounding;
    if (d.transcendental_ulp > 64)
        return fmt::format("declares transcendentals within {} ULP: 64 are the most of any level",
                           d.transcendental_ulp);
    if (row.accuracy == Accuracy::fast) return "";
    const bool strict = row.accuracy == Accuracy::strict;
    if (significant_bits(d.activation) < (strict ? 24 : 8))
        return fmt::format("declares {}, but rounds activations to {}", name_of(row.accuracy), name_of(d.activation));
    if (significant_bits(d.accumulate) < 24)
        return fmt::format("declares {}, but sums in {}", name_of(row.accuracy), name_of(d.accumulate));
    if (strict && d.transcendental_ulp > 4)
        return fmt::format("declares strict, but transcendentals within {} ULP: 4 are the most", d.transcendental_ulp);
    return "";
}

void work(const Open& open_chip, const Open& open_oracle, const Options& options, int64_t first,
          const std::vector<std::string>& given_up, const std::function<void(std::string_view)>& tell) {
    const auto say = [&](const Json& line) { tell(line.dump(-1, ' ', true, Json::error_handler_t::replace)); };
    try {
        const std::unique_ptr<Device> device = open_chip(), oracle = open_oracle();
        const Profile& profile = device->profile();
        std::vector<std::unique_ptr<std::vector<Case>>> keep;
        const std::vector<Unit> units = units_of(profile, options, keep);
        Json rows = Json::array();
        for (const KernelRow& row : profile.rows) {
            const bool reached = std::any_of(units.begin(), units.end(), [&](const Unit& u) { return u.row == &row; });
            if ((options.op.empty() || row.op->name == options.op) && (options.encoding.empty() || reached))
                rows.push_back(row.name);
        }
        say({{"chip", profile.chip},
             {"detail", profile.detail},
             {"maker", profile.maker},
             {"driver", profile.driver},
             {"rows", rows},
             {"units", units.size()}});
        for (auto u = static_cast<size_t>(first); u < units.size(); ++u) {
            const Unit& unit = units[u];
            if (std::find(given_up.begin(), given_up.end(), unit.row->name) != given_up.end()) {
                say({{"skipped", u}, {"row", unit.row->name}});
                continue;
            }
            CaseResult r{unit.row->name, std::string(unit.suite->op->name), unit.encoding,
                         fmt::format("{} {}", unit.c->name, unit.c->attributes.print()), unit.c->record.header().rows};
            say({{"begins", u}, {"case", to_json(r)}});
            bool lost = false;
            try {
                test(*device, *oracle, unit, r);
            } catch (const ChipLost& e) {
                r.verdict = Word::crash;
                r.why = fmt::format("the chip was lost: {}", e.what());
                lost = true;
            } catch (const std::exception& e) {
                r.verdict = Word::crash;
                r.why = fmt::format("an exception that is no Error left the chip: {}", e.what());
            }
            say({{"ends", u}, {"case", to_json(r)}});
            if (lost) return say({{"again", true}});
        }
        say({{"done", true}});
    } catch (const Error& e) {
        say({{"error", e.what()}, {"code", static_cast<int>(e.code())}});
    } catch (const std::exception& e) {
        say({{"error", fmt::format("[conform] the worker process could not go on: {}", e.what())},
             {"code", static_cast<int>(ErrorCode::chip)}});
    }
}

}  // namespace busbar::conform
