#include "plan/rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <set>
#include <utility>

namespace busbar {

bool has_row(const Profile& chip, const OpRow& op) {
    return std::ranges::any_of(chip.rows, [&](const KernelRow& r) { return r.op == &op; });
}

bool takes_form(const Profile& chip, const OpRow& op) {
    return std::ranges::any_of(chip.rows, [&](const KernelRow& r) { return r.op == &op && !r.form.empty(); });
}

namespace {

bool allowed(const KernelRow& row, const PlanOptions& o) {
    return row.accuracy <= o.accuracy && (o.order == Order::free || row.order == Order::invariant);
}

}  // namespace

std::string refusal(const Profile& chip, const KernelRow& row, const Graph& g, const Node& n, const Binding& binding) {
    if (!row.encodings.empty())
        for (int v : n.inputs)
            if (const auto& weight = g.values()[v].weight;
                weight && std::ranges::find(row.encodings, weight->encoding) == row.encodings.end())
                return fmt::format("{} {}", weight->encoding->name, row.others);
    if (!chip.refuses) return "";
    OpInstance op{n.op, &n.attributes, {}, {}, binding, {}};
    for (int v : n.inputs) {
        op.inputs.push_back(g.type_of(v));
        op.weights.push_back(g.values()[v].weight.get());
    }
    for (int v : n.outputs) op.outputs.push_back(g.type_of(v));
    return chip.refuses(row, op);
}

RowChoice choose_row(const Profile& chip, const Graph& g, const Node& n, const std::string& form,
                     const PlanOptions& o) {
    const KernelRow* best = nullptr;
    // The last row's reason counts; it is put into words only where no row is left.
    enum class Why : uint8_t { no_row, form, options, rows, refused } why = Why::no_row;
    std::string refused;
    const int64_t rows = o.binding.rows;
    for (const KernelRow& row : chip.rows) {
        if (row.op != n.op) continue;
        if (row.form != form) {
            why = Why::form;
        } else if (!allowed(row, o)) {
            why = Why::options;
        } else if (rows < row.min_rows || rows > row.max_rows) {
            why = Why::rows;
        } else if (!best || row.share_of_peak > best->share_of_peak) {
            std::string no = refusal(chip, row, g, n, o.binding);
            if (no.empty())
                best = &row;
            else
                why = Why::refused, refused = std::move(no);
        }
    }
    if (best) return {best, ""};
    switch (why) {
        case Why::form:
            return {nullptr, fmt::format("no row takes weights {}", form.empty() ? "as values" : form)};
        case Why::options:
            return {nullptr, fmt::format("no row is {} and {}", name_of(o.accuracy), name_of(o.order))};
        case Why::rows:
            return {nullptr, fmt::format("no row takes {} rows", rows)};
        case Why::refused:
            return {nullptr, refused};
        case Why::no_row:
            break;
    }
    return {nullptr, "it has no kernel for it"};
}

namespace {

// A node takes its weights in one form: where two of them got different ones, all get one that serves them all.
void agree_on_forms(const Profile& chip, const Graph& g, const std::vector<std::vector<const PackedForm*>>& possible,
                    std::vector<const PackedForm*>& forms) {
    for (bool changed = true; changed;) {
        changed = false;
        for (const Node& n : g.nodes()) {
            if (!takes_form(chip, *n.op)) continue;
            std::vector<int> weights;
            for (int v : n.inputs)
                if (forms[v]) weights.push_back(v);
            if (std::ranges::all_of(weights, [&](int v) { return forms[v] == forms[weights[0]]; })) continue;
            const auto serves_all = [&](const PackedForm* form) {
                return std::ranges::all_of(
                    weights, [&](int v) { return std::ranges::find(possible[v], form) != possible[v].end(); });
            };
            // In the order of preference, each weight only ever moves down its list: this ends.
            const PackedForm* common = nullptr;
            for (const PackedForm* form : possible[weights[0]]) {
                const bool lower =
                    std::ranges::all_of(weights, [&](int v) { return form->preference <= forms[v]->preference; });
                if (lower && serves_all(form)) {
                    common = form;
                    break;
                }
            }
            if (!common) continue;  // the plan says so
            for (int v : weights) changed |= std::exchange(forms[v], common) != common;
        }
    }
}

}  // namespace

std::vector<const PackedForm*> choose_forms(const Profile& chip, const Graph& g, const PlanOptions& options) {
    std::vector<std::set<const OpRow*>> uses(g.values().size());
    for (const Node& n : g.nodes())
        if (has_row(chip, *n.op))
            for (int v : n.inputs) uses[v].insert(n.op);
    std::vector<const PackedForm*> forms(g.values().size(), nullptr);
    std::vector<std::vector<const PackedForm*>> possible(g.values().size());
    for (size_t v = 0; v < g.values().size(); ++v) {
        if (g.values()[v].source != Source::weight || uses[v].empty()) continue;
        if (!std::ranges::all_of(uses[v], [&](const OpRow* op) { return takes_form(chip, *op); }))
            continue;  // a norm's weight: decoded at load
        for (const PackedForm& form : chip.forms) {
            const bool converts =
                std::ranges::find(form.encodings, g.values()[v].weight->encoding) != form.encodings.end();
            const bool served = std::ranges::all_of(uses[v], [&](const OpRow* op) {
                return std::ranges::any_of(chip.rows, [&](const KernelRow& r) {
                    return r.op == op && r.form == form.name && allowed(r, options);
                });
            });
            if (converts && served) possible[v].push_back(&form);
        }
        std::ranges::stable_sort(possible[v], std::greater(), [](const PackedForm* f) { return f->preference; });
        if (!possible[v].empty()) forms[v] = possible[v][0];
    }
    agree_on_forms(chip, g, possible, forms);
    return forms;
}

uint64_t bytes_in(const PackedForm& form, const StoredTensor& tensor) {
    if (form.bytes) return form.bytes(tensor);
    return form.bits_per_weight > 0
               ? static_cast<uint64_t>(static_cast<double>(tensor.count()) * form.bits_per_weight / 8)
               : tensor.bytes.size();
}

Cost cost_of(const Graph& g, const Node& n, const std::vector<const PackedForm*>& forms, const Binding& binding) {
    std::vector<ValueType> in, out;
    for (int v : n.inputs) in.push_back(g.type_of(v));
    for (int v : n.outputs) out.push_back(g.type_of(v));
    Cost c;
    if (n.op == &op_gather_rows && g.values()[n.inputs[0]].source == Source::weight) {
        const StoredTensor& t = *g.values()[n.inputs[0]].weight;
        c.bytes =
            static_cast<double>(out[0].shape[0].bind(binding)) * static_cast<double>(t.encoding->row_bytes(t.width()));
        return c;
    }
    if (n.op->cost) c = n.op->cost(in, out, binding);
    for (int v : n.inputs)
        if (forms[v]) c.bytes += static_cast<double>(bytes_in(*forms[v], *g.values()[v].weight));
    return c;
}

double seconds_of(const Profile& chip, const KernelRow& row, const Cost& cost) {
    const double bandwidth = chip.read_bytes_per_s.value, rate = chip.flops_per_s.value;
    if (bandwidth <= 0 || rate <= 0) return 0;
    return std::max(cost.bytes / bandwidth, cost.flops / rate) / row.share_of_peak + chip.step_overhead_s;
}

}  // namespace busbar
