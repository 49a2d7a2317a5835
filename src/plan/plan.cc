#include "plan/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <set>

#include "base/bytes.h"
#include "base/check.h"
#include "base/error.h"
#include "graph/memory.h"
#include "plan/placement.h"
#include "plan/rows.h"
#include "plan/scratch.h"

namespace busbar {

namespace {

constexpr uint64_t alignment = 64;

class Planner {
  public:
    Planner(const Graph& graph, std::span<const Profile* const> chips, const PlanOptions& options) {
        BUSBAR_CHECK(!chips.empty() && options.asked >= 1 && options.asked <= chips.size());
        BUSBAR_CHECK(options.binding.context % page_positions == 0, "a context of whole pages");
        plan_.chips = {chips.begin(), chips.end()};
        plan_.options = options;
        plan_.graph = graph;
        const Binding& b = options.binding;
        plan_.layout =
            options.layout.value_or(StepLayout{b.rows, b.logit_rows, b.sequences, b.context / page_positions});
        plan_.scratch_bytes.assign(chips.size(), 0);
        plan_.constant_bytes.assign(chips.size(), 0);
    }

    Plan make() {
        place_nodes();
        plan_.places.assign(chips(), std::vector<Place>(plan_.graph.values().size()));
        make_steps();
        place_inputs();
        place_scratch();
        return std::move(plan_);
    }

  private:
    int chips() const { return static_cast<int>(plan_.chips.size()); }
    const Profile& chip(int c) const { return *plan_.chips[c]; }

    // The form of a node's weights on a chip: nothing if the chip has no single form for all of them.
    std::optional<std::string> form_of(int c, const Node& n) const {
        std::optional<std::string> form;
        for (int v : n.inputs) {
            if (plan_.graph.values()[v].source != Source::weight || !takes_form(chip(c), *n.op)) continue;
            const PackedForm* own = forms_[c][v];
            const std::string name = own ? own->name : "";
            if (form && *form != name) return {};
            form = name;
        }
        return form.value_or("");
    }

    RowChoice row_on(int c, const Node& n) const {
        const auto form = form_of(c, n);
        if (!form) return {nullptr, "its weights have different packed forms"};
        RowChoice choice = choose_row(chip(c), plan_.graph, n, *form, plan_.options);
        for (int v : n.inputs)
            if (const Value& value = plan_.graph.values()[v];
                !choice.row && value.source == Source::weight && !forms_[c][v] && takes_form(chip(c), *n.op))
                choice.why =
                    fmt::format("no packed form holds {} ({}) without loss", value.name, value.weight->encoding->name);
        return choice;
    }

    // True if the definition of a composite, or its definition's, has rows on the chip to the last op.
    bool expandable(int c, const Node& n) {
        if (n.op->is_core()) return false;
        std::string key = fmt::format("{} {} {}", c, n.op->name, n.attributes.print());
        for (int v : n.inputs) {
            const Value& value = plan_.graph.values()[v];
            key += " " + value.type.print();
            if (forms_[c][v]) key += forms_[c][v]->name;
        }
        if (const auto known = expandable_.find(key); known != expandable_.end()) return known->second;
        Graph alone;
        std::vector<int> inputs;
        for (int v : n.inputs) inputs.push_back(alone.add_value(as_input(plan_.graph.values()[v])));
        alone.outputs = alone.named(n.name).emit(*n.op, inputs, n.attributes);
        bool all = true;
        while (all) {
            bool changed = false;
            const std::vector<const PackedForm*> forms = choose_forms(chip(c), alone, plan_.options);
            const auto lacking = [&](const Node& m) {
                std::string form;
                for (int v : m.inputs)
                    if (forms[v]) form = forms[v]->name;
                return m.name == n.name || !choose_row(chip(c), alone, m, form, plan_.options).row;
            };
            for (const Node& m : alone.nodes()) {
                if (m.op->is_view || !lacking(m)) continue;
                all &= !m.op->is_core();
                changed = true;
            }
            if (!changed) break;
            if (all) alone = expand(alone, false, lacking);
        }
        return expandable_[key] = all;
    }

    static Value as_input(Value v) {
        if (v.source == Source::node) v.source = Source::constant;  // anything that exists before the node
        v.node = -1;
        return v;
    }

    // Decides the chip of every node, writing out composites that their chip lacks, until nothing is left to write out.
    void place_nodes() {
        while (true) {
            forms_.clear();
            for (int c = 0; c < chips(); ++c) forms_.push_back(choose_forms(chip(c), plan_.graph, plan_.options));
            plan_.refused.clear();
            unplaced_ = 0;
            std::set<std::string> apart;
            choose_chips(apart);
            if (unplaced_ > 0)
                throw chip_error("plan", "[plan] no chip takes {} of {} nodes: {}", unplaced_,
                                 plan_.graph.nodes().size(), fmt::join(plan_.refused, "; "));
            if (apart.empty()) break;
            plan_.graph = expand(plan_.graph, false, [&](const Node& n) { return apart.contains(n.name); });
        }
        int elsewhere = 0;
        for (size_t i = 0; i < plan_.graph.nodes().size(); ++i)
            elsewhere += !plan_.graph.nodes()[i].op->is_view && chip_of_[i] >= static_cast<int>(plan_.options.asked);
        if (elsewhere > 0 && !plan_.options.fallback_allowed)
            throw chip_error("plan", "[plan] --no-fallback, and {} of {} nodes would run elsewhere: {}", elsewhere,
                             plan_.graph.nodes().size(), fmt::join(plan_.refused, "; "));
    }

    void choose_chips(std::set<std::string>& apart) {
        const Graph& g = plan_.graph;
        chip_of_.assign(g.nodes().size(), 0);
        const std::vector<int> meant = meant_chips(g, plan_.options.layers);
        const std::vector<int> group = state_groups(g);
        std::map<int, std::vector<size_t>> members;
        for (size_t i = 0; i < g.nodes().size(); ++i)
            if (!g.nodes()[i].op->is_view) members[group[i]].push_back(i);
        std::map<std::string, std::pair<int, std::string>> reasons;  // "chip op: why" -> how often, a node
        for (const auto& [first, nodes] : members) {
            int found = -1;
            bool first_try = true;
            const int bound = bound_to(nodes);
            for (int turn = 0; turn <= chips() && found < 0; ++turn) {
                const int c = turn == 0 ? meant[nodes.front()] : turn - 1;
                if ((turn > 0 && c == meant[nodes.front()]) || (bound >= 0 && c != bound)) continue;
                found = c;
                for (size_t i : nodes) {
                    const Node& n = g.nodes()[i];
                    const RowChoice choice = row_on(c, n);
                    if (choice.row || expandable(c, n)) continue;
                    found = -1;
                    if (first_try) {
                        auto& [times, example] =
                            reasons[fmt::format("{}: {}: {}", chip(c).chip, n.op->name, choice.why)];
                        if (times++ == 0) example = n.name;
                    }
                    break;
                }
                first_try = false;
            }
            if (found < 0) {
                unplaced_ += static_cast<int>(nodes.size());
                continue;
            }
            for (size_t i : nodes) {
                chip_of_[i] = found;
                if (!row_on(found, g.nodes()[i]).row) apart.insert(g.nodes()[i].name);
            }
        }
        for (const auto& [reason, seen] : reasons)
            plan_.refused.push_back(fmt::format("{} ({} nodes, first {})", reason, seen.first, seen.second));
    }

    // The chip that another bucket has put the states of these nodes on, else -1.
    int bound_to(const std::vector<size_t>& nodes) const {
        const Graph& g = plan_.graph;
        for (size_t i : nodes)
            for (int v : g.nodes()[i].inputs)
                if (g.values()[v].source == Source::state)
                    if (const auto at = plan_.options.states.find(g.values()[v].name); at != plan_.options.states.end())
                        return at->second;
        return -1;
    }

    // Nodes that touch one state stay on one chip, and so do the states that a node touches: where the cache lives.
    static std::vector<int> state_groups(const Graph& g) {
        std::vector<int> group(g.nodes().size()), root(g.values().size(), -1);
        for (size_t i = 0; i < group.size(); ++i) group[i] = static_cast<int>(i);
        const std::function<int(int)> find = [&](int i) { return group[i] == i ? i : group[i] = find(group[i]); };
        for (size_t i = 0; i < g.nodes().size(); ++i) {
            const Node& n = g.nodes()[i];
            for (const auto* side : {&n.inputs, &n.outputs})
                for (int v : *side) {
                    if (g.type_of(v).kind != Kind::state) continue;
                    if (root[v] >= 0) {
                        const int a = find(root[v]), b = find(static_cast<int>(i));
                        group[std::max(a, b)] = std::min(a, b);
                    }
                    root[v] = static_cast<int>(i);
                }
        }
        for (size_t i = 0; i < group.size(); ++i) group[i] = find(static_cast<int>(i));
        return group;
    }

    // Steps in the graph's order, a copy before the first use of a value on another chip. What is made from the step
    // record and constants alone is made on every chip that reads it: cheaper than a crossing.
    void make_steps() {
        const Graph& g = plan_.graph;
        root_ = memory_of_values(g);
        std::vector<std::set<int>> on(g.values().size());  // by root: chips that hold it already
        const std::function<void(int, int)> need = [&](int v, int c) {
            const int r = root_[v];
            const Value& value = g.values()[r];
            if (value.source != Source::node || on[r].contains(c)) return;
            BUSBAR_CHECK(!on[r].empty(), "a value that nothing before made: " + value.name);
            const Node& producer = g.nodes()[value.node];
            const bool free_standing = std::ranges::all_of(producer.inputs, [&](int i) {
                const Source s = g.values()[root_[i]].source;
                return s == Source::step || s == Source::constant;
            });
            if (free_standing && row_on(c, producer).row) {
                add_kernel(value.node, c);
                for (int o : producer.outputs) on[o].insert(c);
                return;
            }
            const int from = *on[r].begin();
            PlannedStep copy{-1, c, nullptr, r, from, {0, static_cast<double>(value_bytes(r))}, 0};
            double slowest = 0;
            for (int end : {from, c})
                if (const double rate = chip(end).link_bytes_per_s.value; rate > 0)
                    slowest = std::max(slowest, copy.cost.bytes / rate);
            copy.seconds = slowest + chip(from).step_overhead_s + chip(c).step_overhead_s;
            plan_.steps.push_back(copy);
            on[r].insert(c);
        };
        for (size_t i = 0; i < g.nodes().size(); ++i) {
            const Node& n = g.nodes()[i];
            if (n.op->is_view) continue;
            for (int v : n.inputs) need(v, chip_of_[i]);
            add_kernel(static_cast<int>(i), chip_of_[i]);
            for (int v : n.outputs) on[v].insert(chip_of_[i]);
        }
    }

    void add_kernel(int node, int c) {
        const Node& n = plan_.graph.nodes()[node];
        const KernelRow* row = row_on(c, n).row;
        PlannedStep step{node, c, row, -1, -1, cost_of(plan_.graph, n, forms_[c], plan_.options.binding), 0};
        step.seconds = seconds_of(chip(c), *row, step.cost);
        plan_.steps.push_back(std::move(step));
    }

    uint64_t value_bytes(int v) const {
        const ValueType& t = plan_.graph.type_of(v);
        size_t widest = 4;
        if (t.kind == Kind::real)
            for (const Profile* p : plan_.chips) widest = std::max(widest, bytes_of(p->real));
        return t.shape.count(plan_.options.binding) * widest;
    }

    uint64_t value_bytes_on(int c, int v) const {
        const ValueType& t = plan_.graph.type_of(v);
        return round_up(t.shape.count(plan_.options.binding) * (t.kind == Kind::real ? bytes_of(chip(c).real) : 4),
                        alignment);
    }

    Element cache_element(int c) const {
        const Profile& p = chip(c);
        const Element first = p.cache_elements.empty() ? p.real : p.cache_elements.front();
        const std::string& asked = plan_.options.cache_element;
        const std::string_view wanted = wanted_cache_element(asked, plan_.options.accuracy);
        const auto it = std::ranges::find_if(p.cache_elements, [&](Element e) { return name_of(e) == wanted; });
        if (it != p.cache_elements.end()) return *it;
        if (asked.empty()) return first;
        // A chip that keeps more than was asked for (the oracle) is not wrong.
        if (p.cache_elements.empty() || bits_of(p.cache_elements.front()) < 32)
            throw chip_error("plan", "[plan] {} cannot keep its cache in {}", p.chip, asked);
        return first;
    }

    // What kernels read that no kernel made: a place on every chip that reads it.
    void place_inputs() {
        const Graph& g = plan_.graph;
        std::vector<std::vector<char>> read(chips(), std::vector<char>(g.values().size(), 0));
        for (const PlannedStep& s : plan_.steps)
            if (!s.is_copy())
                for (int v : g.nodes()[s.node].inputs) read[s.chip][root_[v]] = 1;
        for (size_t v = 0; v < g.values().size(); ++v)
            for (int c = 0; c < chips(); ++c)
                if (read[c][v] || (chips() == 1 && g.values()[v].source == Source::step))
                    place_input(static_cast<int>(v), c);
    }

    void place_input(int v, int c) {
        const Value& value = plan_.graph.values()[v];
        Place& place = plan_.places[c][v];
        if (value.source == Source::step) {
            const int64_t offset = plan_.layout.offset_of(value.name);
            BUSBAR_CHECK(offset >= 0, value.name);
            place = {Place::Where::step, static_cast<uint64_t>(offset), 0, -1};
        } else if (value.source == Source::state) {
            place = {Place::Where::state, 0, 0, static_cast<int>(plan_.states.size())};
            plan_.states.push_back({v, c, cache_element(c)});
        } else if (value.source == Source::weight && forms_[c][v]) {
            const PackedForm& form = *forms_[c][v];
            const uint64_t own = bytes_in(form, *value.weight);
            place = {Place::Where::weight, 0, own, static_cast<int>(plan_.weights.size())};
            plan_.weights.push_back({v, c, &form, own, form.reason});
        } else if (value.source == Source::constant || value.source == Source::weight) {
            place = {Place::Where::constant, plan_.constant_bytes[c], value_bytes_on(c, v), -1};
            plan_.constant_bytes[c] += place.bytes;
        }
    }

    // Views and state updates lie where their input lies; everything else that a step makes gets scratch on its chip
    // for as long as it is read there.
    void place_scratch() {
        const Graph& g = plan_.graph;
        const int end = static_cast<int>(plan_.steps.size());
        std::vector<std::vector<ScratchRequest>> requests(chips());
        std::vector<std::vector<int>> request_of(chips(), std::vector<int>(g.values().size(), -1));
        const auto make = [&](int c, int v, int at) {
            request_of[c][v] = static_cast<int>(requests[c].size());
            requests[c].push_back({value_bytes_on(c, v), at, at, 0});
        };
        const auto read = [&](int c, int v, int at) {
            if (const int r = request_of[c][root_[v]]; r >= 0) requests[c][r].last = at;
        };
        for (int at = 0; at < end; ++at) {
            const PlannedStep& s = plan_.steps[at];
            if (s.is_copy()) {
                read(s.from, s.value, at);
                make(s.chip, s.value, at);
                continue;
            }
            for (int v : g.nodes()[s.node].outputs)
                if (root_[v] == v) make(s.chip, v, at);
            for (int v : g.nodes()[s.node].inputs) read(s.chip, v, at);
        }
        for (int v : g.outputs) read(plan_.output_chip(), v, end);
        for (int c = 0; c < chips(); ++c) {
            const ScratchSummary summary = lay_out_scratch(requests[c]);
            plan_.scratch_bytes[c] = summary.bytes;
            plan_.scratch_unshared += summary.unshared;
            plan_.reused += summary.reused;
            for (size_t v = 0; v < g.values().size(); ++v)
                if (const int r = request_of[c][v]; r >= 0)
                    plan_.places[c][v] = {Place::Where::scratch, requests[c][r].offset, requests[c][r].bytes, -1};
            for (size_t v = 0; v < g.values().size(); ++v)
                if (root_[v] != static_cast<int>(v)) plan_.places[c][v] = plan_.places[c][root_[v]];
        }
    }

    Plan plan_;
    std::vector<std::vector<const PackedForm*>> forms_;  ///< by chip, then value
    std::vector<int> chip_of_;                           ///< by node
    std::vector<int> root_;                              ///< by value: whose memory it is
    int unplaced_ = 0;
    std::map<std::string, bool> expandable_;
};

}  // namespace

std::string_view wanted_cache_element(const std::string& asked, Accuracy accuracy) {
    // Keys and values are most of what a step reads at depth. Eleven bits are more than `accurate` asks for.
    return !asked.empty() ? asked : accuracy == Accuracy::strict ? std::string_view() : name_of(Element::f16);
}

Plan make_plan(const Graph& graph, std::span<const Profile* const> chips, const PlanOptions& options) {
    return Planner(graph, chips, options).make();
}

}  // namespace busbar
