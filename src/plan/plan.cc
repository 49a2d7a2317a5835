#include "plan/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/bytes.h"
#include "base/check.h"
#include "base/error.h"
#include "plan/scratch.h"

namespace busbar {

namespace {

constexpr uint64_t alignment = 64;

bool is_weight(const Graph& g, int v) {
    return g.values()[v].source == Source::weight;
}

class Planner {
  public:
    Planner(const Graph& graph, std::span<const Profile* const> chips, const PlanOptions& options) {
        BUSBAR_CHECK(!chips.empty());
        BUSBAR_CHECK(options.binding.context % page_positions == 0, "a context of whole pages");
        plan_.chips = {chips.begin(), chips.end()};
        plan_.options = options;
        plan_.graph = lower(graph);
        const Binding& b = options.binding;
        plan_.layout =
            options.layout.value_or(StepLayout{b.rows, b.logit_rows, b.sequences, b.context / page_positions});
        plan_.places.resize(plan_.graph.values().size());
        plan_.scratch_bytes.assign(chips.size(), 0);
        plan_.constant_bytes.assign(chips.size(), 0);
    }

    Plan make() {
        choose_forms();
        choose_rows();
        place_inputs();
        place_scratch();
        return std::move(plan_);
    }

  private:
    const Profile& chip() const { return *plan_.chips[0]; }

    // Composites that the chip has no row for are written out as their definition, until it has rows for all or they
    // are core ops.
    Graph lower(const Graph& graph) {
        const auto has = [&](const OpRow* op) {
            return std::ranges::any_of(chip().rows, [&](const KernelRow& r) { return r.op == op; });
        };
        Graph g = graph;
        while (true) {
            std::set<const OpRow*> missing;
            for (const Node& n : g.nodes())
                if (!n.op->is_core() && !has(n.op)) missing.insert(n.op);
            if (missing.empty()) return g;
            g = expand(g, false, [&](const Node& n) { return missing.contains(n.op); });
        }
    }

    bool takes_form(const OpRow& op) const {
        return std::ranges::any_of(chip().rows, [&](const KernelRow& r) { return r.op == &op && !r.form.empty(); });
    }

    // The form comes first: one per weight, shared by everything that reads it, whatever the bucket.
    void choose_forms() {
        const Graph& g = plan_.graph;
        std::vector<std::set<const OpRow*>> uses(g.values().size());
        for (const Node& n : g.nodes())
            for (int v : n.inputs) uses[v].insert(n.op);
        form_of_.assign(g.values().size(), nullptr);
        for (size_t v = 0; v < g.values().size(); ++v) {
            if (!is_weight(g, static_cast<int>(v)) || uses[v].empty()) continue;
            if (!std::ranges::all_of(uses[v], [&](const OpRow* op) { return takes_form(*op); }))
                continue;  // a norm's weight: decoded at load
            const StoredTensor& tensor = *g.values()[v].weight;
            for (const PackedForm& form : chip().forms) {
                const bool converts = std::ranges::find(form.encodings, tensor.encoding) != form.encodings.end();
                const bool served = std::ranges::all_of(uses[v], [&](const OpRow* op) {
                    return std::ranges::any_of(chip().rows,
                                               [&](const KernelRow& r) { return r.op == op && r.form == form.name; });
                });
                if (converts && served && (!form_of_[v] || form.preference > form_of_[v]->preference))
                    form_of_[v] = &form;
            }
            if (!form_of_[v])
                throw chip_error(fmt::format("weight {}", g.values()[v].name),
                                 "[plan] {} has no packed form that holds {} without loss", chip().chip,
                                 tensor.encoding->name);
            const uint64_t own =
                form_of_[v]->bits_per_weight > 0
                    ? static_cast<uint64_t>(static_cast<double>(tensor.count()) * form_of_[v]->bits_per_weight / 8)
                    : tensor.bytes.size();
            plan_.places[v] = {Place::Where::weight, 0, 0, own, static_cast<int>(plan_.weights.size())};
            plan_.weights.push_back({static_cast<int>(v), 0, form_of_[v], own, form_of_[v]->reason});
        }
    }

    void choose_rows() {
        const Graph& g = plan_.graph;
        const Binding& b = plan_.options.binding;
        for (size_t i = 0; i < g.nodes().size(); ++i) {
            const Node& n = g.nodes()[i];
            if (n.op->is_view) continue;
            std::string form;
            for (int v : n.inputs)
                if (form_of_[v]) form = form_of_[v]->name;
            const KernelRow* best = nullptr;
            std::string why = "it has no kernel for it";
            for (const KernelRow& row : chip().rows) {
                if (row.op != n.op) continue;
                if (row.form != form) {
                    why = fmt::format("no row takes weights {}", form.empty() ? "as values" : form);
                } else if (row.accuracy > plan_.options.accuracy ||
                           (plan_.options.order == Order::invariant && row.order != Order::invariant)) {
                    why = fmt::format("no row is {} and {}", name_of(plan_.options.accuracy),
                                      name_of(plan_.options.order));
                } else if (b.rows < row.min_rows || b.rows > row.max_rows) {
                    why = fmt::format("no row takes {} rows", b.rows);
                } else if (!best || row.share_of_peak > best->share_of_peak) {
                    best = &row;
                }
            }
            if (!best) {
                plan_.refused.push_back(fmt::format("{} ({}): {}", n.name, n.op->name, why));
                continue;
            }
            plan_.steps.push_back({static_cast<int>(i), 0, best, cost(n), 0});
            PlannedStep& step = plan_.steps.back();
            const double bandwidth = chip().read_bytes_per_s.value, rate = chip().flops_per_s.value;
            if (bandwidth > 0 && rate > 0)
                step.seconds = std::max(step.cost.bytes / bandwidth, step.cost.flops / rate) / best->share_of_peak +
                               chip().step_overhead_s;
        }
        if (!plan_.refused.empty())
            throw chip_error("plan", "[plan] {} cannot take {} nodes: {}", chip().chip, plan_.refused.size(),
                             fmt::join(plan_.refused, "; "));
    }

    Cost cost(const Node& n) const {
        const Graph& g = plan_.graph;
        std::vector<ValueType> in, out;
        for (int v : n.inputs) in.push_back(g.type_of(v));
        for (int v : n.outputs) out.push_back(g.type_of(v));
        Cost c;
        if (n.op == &op_gather_rows && is_weight(g, n.inputs[0])) {
            const StoredTensor& t = *g.values()[n.inputs[0]].weight;
            c.bytes = static_cast<double>(out[0].shape[0].bind(plan_.options.binding)) *
                      static_cast<double>(t.encoding->row_bytes(t.width()));
            return c;
        }
        if (n.op->cost) c = n.op->cost(in, out, plan_.options.binding);
        for (int v : n.inputs)
            if (form_of_[v]) c.bytes += static_cast<double>(plan_.places[v].bytes);
        return c;
    }

    uint64_t value_bytes(int v) const {
        const ValueType& t = plan_.graph.type_of(v);
        return round_up(t.shape.count(plan_.options.binding) * (t.kind == Kind::real ? bytes_of(chip().real) : 4),
                        alignment);
    }

    void place_inputs() {
        const Graph& g = plan_.graph;
        Element cache = chip().cache_elements.empty() ? chip().real : chip().cache_elements.front();
        if (!plan_.options.cache_element.empty()) {
            const auto it = std::ranges::find_if(chip().cache_elements,
                                                 [&](Element e) { return name_of(e) == plan_.options.cache_element; });
            if (it != chip().cache_elements.end()) cache = *it;
            // A chip that keeps more than was asked for (the oracle) is not wrong.
            else if (chip().cache_elements.empty() || bits_of(chip().cache_elements.front()) < 32)
                throw chip_error("plan", "[plan] {} cannot keep its cache in {}", chip().chip,
                                 plan_.options.cache_element);
        }
        for (size_t v = 0; v < g.values().size(); ++v) {
            const Value& value = g.values()[v];
            Place& place = plan_.places[v];
            if (value.source == Source::step) {
                const int64_t offset = plan_.layout.offset_of(value.name);
                BUSBAR_CHECK(offset >= 0, value.name);
                place = {Place::Where::step, 0, static_cast<uint64_t>(offset), 0, -1};
            } else if (value.source == Source::state) {
                place = {Place::Where::state, 0, 0, 0, static_cast<int>(plan_.states.size())};
                plan_.states.push_back({static_cast<int>(v), 0, cache});
            } else if (value.source == Source::constant ||
                       (value.source == Source::weight && place.where == Place::Where::none)) {
                place = {Place::Where::constant, 0, plan_.constant_bytes[0], value_bytes(static_cast<int>(v)), -1};
                plan_.constant_bytes[0] += place.bytes;
            }
        }
    }

    // Views and state updates lie where their input lies; everything else that a node makes gets scratch for as long as
    // it is read.
    void place_scratch() {
        const Graph& g = plan_.graph;
        std::vector<int> root(g.values().size());
        for (size_t v = 0; v < root.size(); ++v) root[v] = static_cast<int>(v);
        for (const Node& n : g.nodes()) {
            if (n.op->is_view) root[n.outputs[0]] = root[n.inputs[0]];
            if (n.op->updates_input >= 0) root[n.outputs[0]] = root[n.inputs[n.op->updates_input]];
        }
        std::vector<ScratchRequest> requests;
        std::vector<int> request_of(g.values().size(), -1);
        for (size_t s = 0; s < plan_.steps.size(); ++s) {
            const Node& n = g.nodes()[plan_.steps[s].node];
            const int at = static_cast<int>(s);
            for (int v : n.outputs) {
                if (root[v] != v) continue;
                request_of[v] = static_cast<int>(requests.size());
                requests.push_back({value_bytes(v), at, at, 0});
            }
            for (int v : n.inputs)
                if (request_of[root[v]] >= 0) requests[request_of[root[v]]].last = at;
        }
        for (int v : g.outputs)
            if (request_of[root[v]] >= 0) requests[request_of[root[v]]].last = static_cast<int>(plan_.steps.size());
        const ScratchSummary summary = lay_out_scratch(requests);
        plan_.scratch_bytes[0] = summary.bytes;
        plan_.scratch_unshared = summary.unshared;
        plan_.reused = summary.reused;
        for (size_t v = 0; v < g.values().size(); ++v)
            if (request_of[v] >= 0)
                plan_.places[v] = {Place::Where::scratch, 0, requests[request_of[v]].offset,
                                   requests[request_of[v]].bytes, -1};
        for (size_t v = 0; v < g.values().size(); ++v)
            if (root[v] != static_cast<int>(v)) plan_.places[v] = plan_.places[root[v]];
    }

    Plan plan_;
    std::vector<const PackedForm*> form_of_;
};

}  // namespace

Plan make_plan(const Graph& graph, std::span<const Profile* const> chips, const PlanOptions& options) {
    return Planner(graph, chips, options).make();
}

}  // namespace busbar
