#include "agree/node_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "agree/cache_mirror.h"
#include "agree/sum_check.h"
#include "agree/weight_sums.h"
#include "base/check.h"
#include "graph/memory.h"
#include "plan/placement.h"

namespace busbar::agree {

namespace {

using conform::Case;
using conform::Input;
using conform::Verdict;

bool is_product(const Node& n) {
    return n.op == &op_matmul || n.op == &op_multi_matmul;
}

// Ops whose every row depends on the same row of their inputs alone: a sample of rows is a case of its own.
bool is_row_wise(const OpRow* op) {
    static const std::set<const OpRow*> ops = {
        &op_add,    &op_subtract,     &op_multiply,  &op_divide,       &op_exp,        &op_rsqrt,
        &op_cos,    &op_sin,          &op_matmul,    &op_rms_norm,     &op_softmax,    &op_silu,
        &op_rotate, &op_rotary_table, &op_attention, &op_add_rms_norm, &op_gated_silu, &op_multi_matmul};
    return ops.contains(op);
}

bool by_rows(const ValueType& t) {
    return t.shape.rank() > 0 && t.shape[0] == Dim(Symbol::rows);
}

Array taken(const Array& a, const std::vector<int64_t>& rows) {
    const int64_t each = a.extents[0] > 0 ? a.count() / a.extents[0] : 0;
    Array out{a.extents, {}};
    out.extents[0] = static_cast<int64_t>(rows.size());
    for (int64_t r : rows) out.data.insert(out.data.end(), a.data.begin() + r * each, a.data.begin() + (r + 1) * each);
    return out;
}

// The first number that differs in its bits; -1 if none does. Any NaN equals any NaN.
int64_t first_difference(const Array& a, const Array& b) {
    if (a.extents != b.extents) return 0;
    for (size_t i = 0; i < a.data.size(); ++i)
        if (a.data[i] != b.data[i] && !(std::isnan(a.data[i]) && std::isnan(b.data[i]))) return static_cast<int64_t>(i);
    return -1;
}

}  // namespace

std::string_view name_of(NodeFinding::What what) {
    static constexpr std::string_view words[] = {"op", "edge", "copy", "cache"};
    return words[static_cast<int>(what)];
}

std::string NodeFinding::print() const {
    return fmt::format("{} ({} on {}{}, position {}): {}", node, op, chip, row.empty() ? "" : ", " + row, position,
                       why);
}

NodeChecker::NodeChecker(const LoadedModel& model, Device& reference, Options options)
    : reference_(reference),
      options_(options),
      random_(fmt::format("node check {}", options.seed)),
      cache_(std::make_unique<CacheMirror>()) {
    for (const Plan& plan : model.plans()) roots_.push_back(memory_of_values(plan.graph));
}

NodeChecker::~NodeChecker() = default;

void NodeChecker::find(const Site& s, NodeFinding::What what, double worst, std::string why) {
    NodeFinding f;
    f.what = what;
    f.bucket = s.bucket;
    f.index = s.index;
    f.position = s.model.record().words()[s.model.layout().positions()];
    f.node = s.node.name;
    f.op = s.node.op->name;
    f.row = s.step.row ? s.step.row->name : "";
    f.chip = s.plan.chips[s.step.chip]->chip;
    f.layer = layer_of(s.node);
    f.worst = worst;
    f.why = std::move(why);
    findings_.push_back(std::move(f));
}

void NodeChecker::before(LoadedModel& model, size_t bucket, size_t index) {
    const Plan& plan = model.plans()[bucket];
    const PlannedStep& step = plan.steps[index];
    if (index == 0) made_.clear();
    inputs_.clear();
    if (step.is_copy()) return;
    const Node& n = plan.graph.nodes()[step.node];
    for (int v : n.inputs) {
        const Value& value = plan.graph.values()[roots_[bucket][v]];
        const bool readable = value.source == Source::node || value.source == Source::step;
        inputs_.push_back(readable ? model.read_value(bucket, step.chip, v) : Array{});
        if (value.source == Source::constant) inputs_.back() = value.constant;
    }
    check_edges({model, bucket, index, plan, step, n});
}

void NodeChecker::check_edges(const Site& s) {
    for (size_t i = 0; i < s.node.inputs.size(); ++i) {
        const auto made = made_.find({s.step.chip, roots_[s.bucket][s.node.inputs[i]]});
        if (made == made_.end()) continue;
        Array written = made->second;
        written.extents = inputs_[i].extents;  // a view of it
        const int64_t at = first_difference(written, inputs_[i]);
        if (at < 0) continue;
        const Value& value = s.plan.graph.values()[made->first.second];
        find(s, NodeFinding::What::edge, INFINITY,
             fmt::format("input {} is not what {} wrote: number {} was {:.9g}, is {:.9g}", i,
                         value.node >= 0 ? s.plan.graph.nodes()[value.node].name : value.name, at, written.data[at],
                         inputs_[i].data[at]));
    }
}

void NodeChecker::after(LoadedModel& model, size_t bucket, size_t index) {
    const Plan& plan = model.plans()[bucket];
    const PlannedStep& step = plan.steps[index];
    ++steps_;
    if (step.is_copy()) {
        check_copy(model, bucket, plan, step, index);
        return;
    }
    const Site s{model, bucket, index, plan, step, plan.graph.nodes()[step.node]};
    std::vector<Array> outputs;
    for (int v : s.node.outputs) {
        if (plan.graph.type_of(v).kind == Kind::state) continue;
        outputs.push_back(model.read_value(bucket, step.chip, v));
        made_[{step.chip, roots_[bucket][v]}] = outputs.back();
    }
    if (s.node.op == &op_cache_append) {
        const int state = plan.place(step.chip, s.node.inputs[0]).index;
        const std::string wrong = cache_->append(model, bucket, state, inputs_[1]);
        checked_ += inputs_[1].count();
        if (!wrong.empty()) find(s, NodeFinding::What::cache, INFINITY, wrong);
    } else if (s.node.op == &op_gather_rows) {
        check_gather(s, outputs[0]);
    } else if (is_product(s.node)) {
        for (size_t i = 0; i < outputs.size(); ++i) check_product(s, i, outputs[i]);
    } else {
        check_op(s, outputs);
    }
}

void NodeChecker::check_copy(LoadedModel& model, size_t bucket, const Plan& plan, const PlannedStep& step,
                             size_t index) {
    const Array sent = model.read_value(bucket, step.from, step.value);
    const Array got = model.read_value(bucket, step.chip, step.value);
    checked_ += got.count();
    made_[{step.chip, roots_[bucket][step.value]}] = got;
    const Node& producer = plan.graph.nodes()[plan.graph.values()[step.value].node];
    const Site s{model, bucket, index, plan, step, producer};
    const bool narrows = plan.chips[step.from]->real != plan.chips[step.chip]->real;
    const auto made = made_.find({step.from, roots_[bucket][step.value]});
    if (made != made_.end())
        if (const int64_t at = first_difference(made->second, sent); at >= 0)
            find(s, NodeFinding::What::edge, INFINITY,
                 fmt::format("before the copy to {}, number {} was {:.9g}, is {:.9g}", plan.chips[step.chip]->chip, at,
                             made->second.data[at], sent.data[at]));
    Array expected = sent;
    if (narrows)
        for (double& x : expected.data) x = conform::round_to(x, plan.chips[step.chip]->real);
    if (const int64_t at = first_difference(expected, got); at >= 0)
        find(s, NodeFinding::What::copy, INFINITY,
             fmt::format("copy from {} to {}: number {} was {:.9g}, arrived as {:.9g}", plan.chips[step.from]->chip,
                         plan.chips[step.chip]->chip, at, expected.data[at], got.data[at]));
}

std::vector<int64_t> NodeChecker::sampled_rows(const Site& s) const {
    const int64_t in_use = s.model.record().header().rows;
    std::vector<int64_t> rows;
    if (options_.rows == 0 || in_use <= options_.rows || !is_row_wise(s.node.op)) {
        for (int64_t r = 0; r < in_use; ++r) rows.push_back(r);
        return rows;
    }
    // Evenly over the step, shifted by the place of the op, so that rows take turns; the last one always.
    for (int64_t i = 1; i < options_.rows; ++i)
        rows.push_back((i * in_use / options_.rows + static_cast<int64_t>(s.index) * 7 + i) % (in_use - 1));
    std::sort(rows.begin(), rows.end());
    rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
    rows.push_back(in_use - 1);
    return rows;
}

Case NodeChecker::make_case(const Site& s, const std::vector<int64_t>& rows) {
    const StepRecord& record = s.model.record();
    const auto words = record.words();
    const StepLayout& full = record.layout();
    int64_t pages = 1;
    for (int64_t r = 0; r < record.header().rows; ++r)
        pages = std::max<int64_t>(pages, words[full.positions() + r] / page_positions + 1);
    StepLayout layout{static_cast<int64_t>(rows.size()), std::max<int64_t>(record.header().logit_rows, 1),
                      std::max<int64_t>(record.header().sequences, 1), pages};
    Case c;
    c.name = s.node.name;
    c.op = s.node.op;
    c.attributes = s.node.attributes;
    c.record = StepRecord(layout);
    c.record.header() = record.header();
    c.record.header().rows = static_cast<int32_t>(rows.size());
    for (size_t i = 0; i < rows.size(); ++i) {
        c.record.token_ids()[i] = words[full.token_ids() + rows[i]];
        c.record.positions()[i] = words[full.positions() + rows[i]];
        c.record.sequences()[i] = words[full.sequences() + rows[i]];
    }
    for (int64_t q = 0; q < layout.max_sequences; ++q)
        for (int64_t p = 0; p < pages; ++p) {
            const int32_t own = words[full.block_table() + q * full.pages + p];
            c.record.block_row(q)[p] = own < 0 ? -1 : static_cast<int32_t>(q * pages + p);
        }
    for (int64_t i = 0; i < record.header().logit_rows; ++i) c.record.logit_rows()[i] = words[full.logit_rows() + i];
    c.pages = layout.max_sequences * pages;
    c.binding = {layout.max_rows, layout.max_logit_rows, layout.max_sequences, pages * page_positions};
    c.filled.assign(layout.max_sequences, 0);
    for (size_t i = 0; i < s.node.inputs.size(); ++i) {
        const int v = s.node.inputs[i];
        const Value& value = s.plan.graph.values()[roots_[s.bucket][v]];
        const ValueType& type = s.plan.graph.type_of(v);
        if (value.source == Source::weight) {
            c.inputs.push_back(conform::weight(value.weight));
        } else if (value.source == Source::step) {
            c.inputs.push_back({Input::Is::step, type, value.name, {}, nullptr});
        } else if (value.source == Source::state) {
            const PlannedState& state = s.plan.states[s.plan.place(s.step.chip, v).index];
            c.cache = state.element == Element::f64 ? Element::f32 : state.element;
            c.inputs.push_back(
                {Input::Is::state, type, value.name, cache_->read(record, value.name, type, pages, c.filled), nullptr});
        } else {
            Array data = by_rows(type) ? taken(inputs_[i], rows) : inputs_[i];
            c.inputs.push_back({Input::Is::values, type, fmt::format("in{}", i), std::move(data), nullptr});
        }
    }
    return c;
}

void NodeChecker::check_op(const Site& s, const std::vector<Array>& outputs) {
    const conform::Suite* suite = conform::suite_of(*s.node.op);
    BUSBAR_CHECK(suite != nullptr, std::string(s.node.op->name) + " has no bound");
    const std::vector<int64_t> rows = sampled_rows(s);
    CapturedOp captured{make_case(s, rows), {}, {}};
    captured.expected = conform::run_case(reference_, captured.c).outputs;
    const Element out = s.plan.chips[s.step.chip]->real;
    const std::vector<conform::Bound> bounds = suite->bound({captured.c, s.step.row->rounding, out, captured.expected});
    for (size_t i = 0; i < outputs.size(); ++i)
        captured.got.push_back(by_rows(s.plan.graph.type_of(s.node.outputs[i])) ? taken(outputs[i], rows) : outputs[i]);
    for (size_t i = 0; i < outputs.size(); ++i) {
        checked_ += captured.got[i].count();
        const Verdict v = judge(captured.expected[i], captured.got[i], bounds.at(i), out,
                                s.plan.graph.type_of(s.node.outputs[i]).kind);
        if (v.agrees) continue;
        find(s, NodeFinding::What::op, v.worst, outputs.size() > 1 ? fmt::format("output {}{}", i, v.why) : v.why);
        if (on_bad_op) on_bad_op(findings_.back(), captured);
        return;
    }
}

// Sampled outputs against exact sums, then all of them at once.
void NodeChecker::check_product(const Site& s, size_t which, const Array& y) {
    const Value& value = s.plan.graph.values()[roots_[s.bucket][s.node.inputs[which + 1]]];
    if (value.source != Source::weight) {
        if (which == 0) check_op(s, {y});
        return;
    }
    const StoredTensor& tensor = *value.weight;
    const Array& x = inputs_[0];
    const int64_t outputs = tensor.count() / tensor.width(), n = std::min(options_.outputs, outputs);
    std::vector<int64_t> columns;
    for (int64_t i = 0; i < n; ++i)
        columns.push_back(std::min(outputs - 1, i * outputs / n + random_.below(std::max<int64_t>(outputs / n, 1))));
    const std::vector<int64_t> rows = sampled_rows(s);
    const bool on_rows = by_rows(s.plan.graph.type_of(s.node.inputs[0]));

    CapturedOp captured;
    captured.c.name = s.node.name;
    captured.c.op = &op_matmul;
    Array some = on_rows ? taken(x, rows) : x;
    const int64_t m = some.extents[0];
    captured.c.binding.rows = m;
    captured.c.record = StepRecord(StepLayout{m, 1, 1, 1});
    captured.c.record.header().rows = static_cast<int32_t>(m);
    ValueType type = s.plan.graph.type_of(s.node.inputs[0]);
    std::vector<Dim> dims = type.shape.dims();
    dims[0] = Symbol::rows;
    type.shape = Shape(dims);
    captured.c.inputs = {{Input::Is::values, type, "x", some, nullptr}, conform::weight(rows_of(tensor, columns))};

    const Array& w = captured.c.inputs[1].data;
    const int64_t width = tensor.width(), all_rows = some.count() / width;
    std::vector<int64_t> extents = some.extents;
    extents.back() = n;
    Array expected{extents, {}}, got{extents, {}};
    const std::vector<int64_t> of_y = on_rows ? rows : std::vector<int64_t>{};
    const Array taken_y = on_rows ? taken(y, rows) : y;
    for (int64_t r = 0; r < all_rows; ++r)
        for (int64_t i = 0; i < n; ++i) {
            double sum = 0;
            for (int64_t k = 0; k < width; ++k) sum += some.data[r * width + k] * w.data[i * width + k];
            expected.data.push_back(sum);
            got.data.push_back(taken_y.data[r * outputs + columns[i]]);
        }
    captured.expected = {expected};
    captured.got = {got};
    const Element out = s.plan.chips[s.step.chip]->real;
    const conform::Bound bound =
        conform::suite_of(op_matmul)->bound({captured.c, s.step.row->rounding, out, captured.expected})[0];
    checked_ += y.count();
    const Verdict v = judge(expected, got, bound, out, Kind::real);
    const std::string what = s.node.outputs.size() > 1 ? fmt::format("output {} ({}) ", which, tensor.name) : "";
    if (!v.agrees) {
        find(s, NodeFinding::What::op, v.worst, fmt::format("{}of sampled outputs, {}", what, v.why));
        if (on_bad_op) on_bad_op(findings_.back(), captured);
        return;
    }
    check_sums(s, tensor, x, y);
}

void NodeChecker::check_sums(const Site& s, const StoredTensor& tensor, const Array& x, const Array& y) {
    const Element out = s.plan.chips[s.step.chip]->real;
    if (const auto wrong = agree::check_sums(sums_of(tensor), tensor, x, y, s.step.row->rounding, out))
        find(s, NodeFinding::What::op, wrong->worst, wrong->why);
}

void NodeChecker::check_gather(const Site& s, const Array& y) {
    const Value& table = s.plan.graph.values()[roots_[s.bucket][s.node.inputs[0]]];
    const Array& ids = inputs_[1];
    const int64_t width = y.extents.back();
    std::vector<float> row(width);
    for (int64_t i = 0; i < ids.count(); ++i) {
        const auto id = static_cast<int64_t>(ids.data[i]);
        if (table.source == Source::weight) {
            const Encoding& e = *table.weight->encoding;
            e.decode(table.weight->bytes.data() + id * e.row_bytes(width), row.data(), width / e.block);
        }
        for (int64_t k = 0; k < width; ++k) {
            const double expected = table.source == Source::weight ? row[k] : inputs_[0].data[id * width + k];
            const double got = y.data[i * width + k];
            if (expected == got || (std::isnan(expected) && std::isnan(got))) continue;
            find(
                s, NodeFinding::What::op, INFINITY,
                fmt::format("[{},{}]: expected {:.9g}, row {} of {}, got {:.9g}", i, k, expected, id, table.name, got));
            return;
        }
    }
    checked_ += y.count();
}

const WeightSums& NodeChecker::sums_of(const StoredTensor& tensor) {
    auto& sums = sums_[&tensor];
    if (!sums) sums = std::make_unique<WeightSums>(sum_weight(tensor, options_.seed, options_.threads));
    return *sums;
}

void NodeChecker::fill_cache(LoadedModel& model, const std::vector<int32_t>& pages, int64_t begin, int64_t end) {
    cache_->fill(model, pages, begin, end, random_);
}

}  // namespace busbar::agree
