#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "plan/plan.h"

namespace busbar {

namespace {

std::string short_bytes(double bytes) {
    if (bytes < 1000) return fmt::format("{:.0f}", bytes);
    if (bytes < 1e6) return fmt::format("{:.1f}k", bytes / 1e3);
    if (bytes < 1e9) return fmt::format("{:.1f}M", bytes / 1e6);
    return fmt::format("{:.2f}G", bytes / 1e9);
}

// "model.layers.3.self_attn.q_proj.weight" -> "self_attn.q_proj": the layer stands in the node's name at the end of the
// line.
std::string short_weight(const Value& value) {
    std::string name = value.name;
    if (name.ends_with(".weight")) name.resize(name.size() - 7);
    const size_t digit = name.find_first_of("0123456789");
    if (digit != std::string::npos && digit > 0 && name[digit - 1] == '.') {
        const size_t dot = name.find('.', digit);
        if (dot != std::string::npos) name.erase(0, dot + 1);
    }
    return name;
}

std::string place_words(const Plan& plan, int chip, int v) {
    const Place& p = plan.place(chip, v);
    const Value& value = plan.graph.values()[v];
    switch (p.where) {
        case Place::Where::scratch:
            return fmt::format("@{}", p.offset);
        case Place::Where::weight:
            return fmt::format("{}.{}", short_weight(value), value.weight->encoding->name);
        case Place::Where::constant:
            return value.source == Source::weight ? short_weight(value) : value.name;
        case Place::Where::state:
            return short_weight(plan.graph.values()[plan.states[p.index].value]);
        case Place::Where::step:
            return value.name;
        case Place::Where::none:
            break;
    }
    return "?";
}

bool keeps_order(const PlannedStep& s) {
    return s.is_copy() || s.row->order == Order::invariant;
}

}  // namespace

bool Plan::invariant() const {
    return std::ranges::all_of(steps, keeps_order);
}

std::string why_other_bits(const Plan& a, const Plan& b) {
    for (const Plan* plan : {&a, &b})
        if (const auto s = std::ranges::find_if_not(plan->steps, keeps_order); s != plan->steps.end())
            return fmt::format("{} promises no order", s->row->name);
    const auto [x, y] = std::ranges::mismatch(a.steps, b.steps, [](const PlannedStep& s, const PlannedStep& t) {
        return s.row == t.row && s.chip == t.chip && s.from == t.from;
    });
    const auto name = [](const Plan& plan, const auto& s) {
        return s == plan.steps.end() ? "nothing" : s->is_copy() ? "a copy" : s->row->name;
    };
    if (x == a.steps.end() && y == b.steps.end()) return "";
    return fmt::format("{} in one, {} in the other", name(a, x), name(b, y));
}

double Plan::seconds() const {
    double s = 0;
    for (const PlannedStep& step : steps) s += step.seconds;
    return s;
}

uint64_t Plan::weight_bytes() const {
    uint64_t n = 0;
    for (const PlannedWeight& w : weights) n += w.bytes;
    return n;
}

Cost Plan::total() const {
    Cost c;
    for (const PlannedStep& step : steps) {
        c.flops += step.cost.flops;
        c.bytes += step.cost.bytes;
    }
    return c;
}

std::string Plan::chip_name(int chip) const {
    const auto same = [&](const Profile* p) { return p->chip == chips[chip]->chip; };
    const auto before = std::ranges::count_if(chips.begin(), chips.begin() + chip, same);
    return before > 0 ? fmt::format("{} ({})", chips[chip]->chip, before + 1) : chips[chip]->chip;
}

int Plan::nodes() const {
    return static_cast<int>(std::ranges::count_if(steps, [](const PlannedStep& s) { return !s.is_copy(); }));
}

double Plan::copied_bytes() const {
    double bytes = 0;
    for (const PlannedStep& step : steps) bytes += step.is_copy() ? step.cost.bytes : 0;
    return bytes;
}

std::map<std::string, int> Plan::nodes_per_chip() const {
    std::map<std::string, int> out;
    for (const PlannedStep& step : steps)
        if (!step.is_copy()) ++out[chip_name(step.chip)];
    return out;
}

std::map<std::string, double> Plan::flops_share() const {
    std::map<std::string, double> out;
    const double all = total().flops;
    for (const PlannedStep& step : steps)
        if (!step.is_copy()) out[chip_name(step.chip)] += all > 0 ? step.cost.flops / all : 0;
    for (auto& [chip, share] : out) share = std::min(share, 1.0);
    return out;
}

std::string Plan::placement_line(uint64_t memory_bytes) const {
    std::string out = "placed";
    const auto shares = flops_share();
    for (const auto& [chip, nodes] : nodes_per_chip())
        out +=
            fmt::format(" {}/{} nodes on {} ({:.3g} % of flops),", nodes, this->nodes(), chip, 100 * shares.at(chip));
    out += fmt::format(" {} copies", copies());
    if (copies() > 0) out += fmt::format(" ({} a step)", short_bytes(copied_bytes()));
    out += fmt::format(", {} MB", (memory_bytes + 500000) / 1000000);
    for (size_t i = 0; i < refused.size() && i < 3; ++i) out += (i == 0 ? "; refused by " : "; ") + refused[i];
    if (refused.size() > 3) out += fmt::format("; and {} more kinds", refused.size() - 3);
    return out;
}

std::string Plan::print() const {
    const Cost c = total();
    std::string out = fmt::format("plan  {}, {} rows, {} logit rows, {} ({}), {}, {}", graph.title,
                                  options.binding.rows, options.binding.logit_rows, chips[0]->chip, chips[0]->detail,
                                  name_of(options.accuracy), name_of(options.order));
    out += fmt::format("            predicted {:.2f} ms, {:.1f} MB read, {:.2f} GFLOP\n", 1e3 * seconds(),
                       c.bytes / 1e6, c.flops / 1e9);
    out += fmt::format("{:>4}  {:<28} {:<26} {:>8} {:>9}  {}\n", "#", "node", "row", "bytes", "us",
                       "reads -> writes; @offset in scratch");
    for (size_t i = 0; i < steps.size(); ++i) {
        const int c = steps[i].chip;
        if (steps[i].is_copy()) {
            out += fmt::format("{:>4}  {:<28} {:<26} {:>8} {:>9.1f}  {} -> {}\n", i, "copy",
                               chips[steps[i].from]->chip + " -> " + chips[c]->chip, short_bytes(steps[i].cost.bytes),
                               1e6 * steps[i].seconds, place_words(*this, steps[i].from, steps[i].value),
                               place_words(*this, c, steps[i].value));
            continue;
        }
        const Node& n = graph.nodes()[steps[i].node];
        std::string reads, writes;
        for (int v : n.inputs) reads += (reads.empty() ? "" : " ") + place_words(*this, c, v);
        for (int v : n.outputs) writes += (writes.empty() ? "" : " ") + place_words(*this, c, v);
        out += fmt::format("{:>4}  {:<28} {:<26} {:>8} {:>9.1f}  {} -> {}\n", i, n.name, steps[i].row->name,
                           short_bytes(steps[i].cost.bytes), 1e6 * steps[i].seconds, reads, writes);
    }
    std::map<std::string, std::pair<int, uint64_t>> forms;
    std::map<std::string, std::string> reasons;
    for (const PlannedWeight& w : weights) {
        const std::string name = chips.size() > 1 ? w.form->name + " on " + chips[w.chip]->chip : w.form->name;
        auto& [count, bytes] = forms[name];
        ++count;
        bytes += w.bytes;
        reasons[name] = w.why;
    }
    for (const auto& [form, sums] : forms)
        out += fmt::format("weights  {} in form {}, {} bytes{}\n", sums.first, form, sums.second,
                           reasons[form].empty() ? "" : ": " + reasons[form]);
    out += fmt::format(
        "buffers  scratch {} bytes, {} without sharing; {} values lie where another one lay before; constants {} "
        "bytes\n",
        std::accumulate(scratch_bytes.begin(), scratch_bytes.end(), uint64_t{0}), scratch_unshared, reused,
        std::accumulate(constant_bytes.begin(), constant_bytes.end(), uint64_t{0}));
    if (!states.empty()) {
        const ValueType& t = graph.type_of(states[0].value);
        out += fmt::format("states   {} of [{} heads, {} wide] {}, paged {}, {} positions x {} sequences\n",
                           states.size(), t.shape[0].n, t.shape[1].n, name_of(states[0].element), page_positions,
                           options.binding.context, options.binding.sequences);
    }
    std::string line = placement_line(0);
    return out + line.replace(line.find(", 0 MB"), 6, "") + "\n";
}

}  // namespace busbar
