#include "agree/bisect.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "agree/conform/bound.h"
#include "agree/identity.h"
#include "agree/teacher.h"
#include "agree/weight_sums.h"
#include "base/error.h"
#include "plan/placement.h"

namespace busbar::agree {

namespace {

std::vector<double> some_rows(const Array& whole, const std::vector<int64_t>& rows) {
    std::vector<double> out;
    if (whole.extents.empty() || whole.extents[0] == 0) return out;
    const int64_t per_row = whole.count() / whole.extents[0];
    for (int64_t r : rows)
        if (r < whole.extents[0])
            out.insert(out.end(), whole.data.begin() + r * per_row, whole.data.begin() + (r + 1) * per_row);
    return out;
}

/// What each node gives on the rows that are looked at: in the oracle for whole models, and on the chip.
class Beside : public StepObserver {
  public:
    std::vector<int64_t> rows;
    std::map<std::string, std::vector<double>> by_node;
    void after(LoadedModel& model, size_t bucket, size_t index) override {
        const Plan& plan = model.plans()[bucket];
        if (plan.steps[index].is_copy()) return;
        const Node& node = plan.graph.nodes()[plan.steps[index].node];
        const int v = node.outputs.back();
        if (plan.graph.type_of(v).kind == Kind::real)
            by_node[node.name] = some_rows(model.read_value(bucket, plan.steps[index].chip, v), rows);
    }
};

double distance(const std::vector<double>& a, const std::vector<double>& b) {
    if (a.size() != b.size() || a.empty()) return -1;
    double errors = 0, squares = 0;
    for (size_t i = 0; i < a.size(); ++i) {
        errors += (a[i] - b[i]) * (a[i] - b[i]);
        squares += b[i] * b[i];
    }
    return squares > 0 ? std::sqrt(errors / squares) : std::sqrt(errors);
}

/// The checker, and what a bisect adds: where in the run it was, the drift since the start, a reproduction.
class Watcher : public StepObserver {
  public:
    Watcher(const LoadedModel& model, Device& oracle, const BisectOptions& options, BisectReport& report)
        : options_(options),
          report_(report),
          checker_(model, oracle, {options.rows, 64, options.seed, options.threads}) {
        checker_.on_bad_op = [this](const NodeFinding& f, const CapturedOp& op) { captured_ = {f, op}; };
    }

    Beside beside;

    void begin_step(size_t number, int64_t rows) {
        number_ = number;
        rows_ = rows;
        mine_.rows = beside.rows = rows > 2 ? std::vector<int64_t>{0, rows / 2, rows - 1} : std::vector<int64_t>{0};
        mine_.by_node.clear();
        beside.by_node.clear();
        report_.accumulated.clear();
    }

    void before(LoadedModel& model, size_t bucket, size_t index) override {
        checker_.before(model, bucket, index);
        note(model, bucket, index);
    }

    void after(LoadedModel& model, size_t bucket, size_t index) override {
        checker_.after(model, bucket, index);
        mine_.after(model, bucket, index);
        const Plan& plan = model.plans()[bucket];
        const PlannedStep& step = plan.steps[index];
        if (!step.is_copy()) drift(plan.graph.nodes()[step.node]);
        note(model, bucket, index);
        report_.nodes = checker_.steps_checked();
        report_.outputs = checker_.outputs_checked();
        if (options_.progress)
            options_.progress("bisect", static_cast<int64_t>(index) + 1, static_cast<int64_t>(plan.steps.size()));
        if (options_.stop && options_.stop()) throw Error(ErrorCode::interrupted, "", "interrupted");
    }

  private:
    void note(LoadedModel& model, size_t bucket, size_t index) {
        const PlannedStep& step = model.plans()[bucket].steps[index];
        for (; noted_ < checker_.findings().size(); ++noted_) {
            const NodeFinding& f = checker_.findings()[noted_];
            if (report_.findings.size() < 50) report_.findings.push_back({f, number_, rows_, drift_of(f.node)});
            if (report_.reproduction || step.is_copy() || f.what != NodeFinding::What::op) continue;
            if (captured_ && captured_->first.index == f.index)
                keep_reproduction(model, bucket, index, f, captured_->second);
            else
                find_worst_output(model, bucket, index, f);
        }
        captured_.reset();
    }

    double drift_of(const std::string& node) const {
        const auto mine = mine_.by_node.find(node), other = beside.by_node.find(node);
        return mine == mine_.by_node.end() || other == beside.by_node.end() ? -1
                                                                            : distance(mine->second, other->second);
    }

    void drift(const Node& node) {
        const double d = drift_of(node.name);
        if (d < 0) return;
        if (!report_.accumulated.empty() && layer_ == layer_of(node)) report_.accumulated.pop_back();
        layer_ = layer_of(node);
        report_.accumulated.emplace_back(node.name, d);
    }

    void keep_reproduction(const LoadedModel& model, size_t bucket, size_t index, const NodeFinding& f,
                           const CapturedOp& op) {
        const Plan& plan = model.plans()[bucket];
        const PlannedStep& step = plan.steps[index];
        Reproduction r;
        r.c = op.c;
        r.c.node = f.node;
        r.rounding = step.row->rounding;
        r.real = plan.chips[step.chip]->real;
        r.row = step.row->name;
        r.chip = options_.chip.empty() ? f.chip : options_.chip;
        r.model = options_.model_hash;
        r.why = f.why;
        r.expected = op.expected;
        r.got = op.got;
        report_.reproduction = std::move(r);
    }

    /// Only the sum of all outputs of a product was off: one that was not sampled. Every one is computed, and the worst
    /// goes into the reproduction.
    void find_worst_output(LoadedModel& model, size_t bucket, size_t index, const NodeFinding& f) {
        const Plan& plan = model.plans()[bucket];
        const PlannedStep& step = plan.steps[index];
        const Node& node = plan.graph.nodes()[step.node];
        if (node.op != &op_matmul && node.op != &op_multi_matmul) return;
        const Array x = model.read_value(bucket, step.chip, node.inputs[0]);
        const Element real = plan.chips[step.chip]->real;
        double worst = 1;
        std::optional<CapturedOp> found;
        for (size_t o = 0; o < node.outputs.size(); ++o) {
            const auto& w = plan.graph.values()[node.inputs[o + 1]].weight;
            if (!w) continue;
            const Array y = model.read_value(bucket, step.chip, node.outputs[o]);
            const Array weights = conform::decoded(*w);
            const int64_t width = w->width(), n = w->shape[0], rows = x.count() / width;
            const conform::Case plain;
            const std::vector<Array> none;
            const conform::Judged judged{plain, step.row->rounding, real, none};
            const conform::Spread spread(judged);
            for (int64_t r = 0; r < rows; ++r)
                for (int64_t k = 0; k < n; ++k) {
                    const double *xs = x.data.data() + r * width, *ws = weights.data.data() + k * width;
                    double exact = 0;
                    for (int64_t i = 0; i < width; ++i) exact += xs[i] * ws[i];
                    const double error = std::abs(y.data[r * n + k] - exact);
                    // Cheaply first: the spread needs a root for each term.
                    if (error < 1e-7 * std::abs(exact)) continue;
                    const double share = error / (8 * spread.sigma(xs, ws, width));
                    if (share <= worst) continue;
                    worst = share;
                    found = one_output(*w, k, {xs, xs + width}, exact, y.data[r * n + k]);
                    report_.findings.back().what.why =
                        fmt::format("{}: output [{},{}]: expected {:.9g}, got {:.9g}, {:.1f} sigma", w->name, r, k,
                                    exact, y.data[r * n + k], 8 * share);
                }
        }
        if (found) keep_reproduction(model, bucket, index, f, *found);
    }

    static CapturedOp one_output(const StoredTensor& w, int64_t output, std::vector<double> x, double exact,
                                 double got) {
        CapturedOp op;
        op.c = conform::step_case(op_matmul, w.name, 1, 1);
        const auto width = static_cast<int64_t>(x.size());
        op.c.inputs = {conform::values("x", {Symbol::rows, width}, {{1, width}, std::move(x)}),
                       conform::weight(rows_of(w, {output}))};
        op.expected = {{{1, 1}, {exact}}};
        op.got = {{{1, 1}, {got}}};
        return op;
    }

    const BisectOptions& options_;
    BisectReport& report_;
    NodeChecker checker_;
    Beside mine_;
    std::optional<std::pair<NodeFinding, CapturedOp>> captured_;
    size_t number_ = 0, noted_ = 0;
    int64_t rows_ = 0;
    int64_t layer_ = -2;
};

std::string logits_of(const LoadedModel& model, int64_t rows) {
    std::string bytes;
    for (int64_t r : {int64_t{0}, rows - 1}) {
        const std::span<const float> logits = model.logits(r);
        bytes.append(reinterpret_cast<const char*>(logits.data()), logits.size_bytes());
    }
    return bytes;
}

/// Chunks, then single tokens: past position 300 where the context allows.
std::vector<Window> plan_steps(const LoadedModel& model, const BisectOptions& o) {
    const int64_t most = std::min<int64_t>(static_cast<int64_t>(o.ids.size()), model.context()),
                  singles = std::min(o.singles, most - 1), prompt = std::min(o.prompt, most - singles);
    const int64_t chunk = std::min(model.layout().max_rows, model.layout().max_logit_rows);
    std::vector<Window> steps;
    for (int64_t at = 0; at < prompt; at += chunk) steps.push_back({at, std::min(chunk, prompt - at)});
    for (int64_t s = 0; s < singles; ++s) steps.push_back({prompt + s, 1});
    return steps;
}

}  // namespace

BisectReport bisect(LoadedModel& chip, Device& oracle, LoadedModel* against, const BisectOptions& options) {
    const auto begin = std::chrono::steady_clock::now();
    BisectReport report;
    report.asked = options;
    if (options.ids.size() < 2) throw bad_input("text", "[bisect] expected two tokens or more");
    Watcher watcher(chip, oracle, options, report);
    const std::vector<Window> steps = plan_steps(chip, options);
    const Window window{0, steps.back().begin + steps.back().length};
    std::vector<std::string> watched;
    for (const Window& step : steps) {
        watcher.begin_step(report.steps, step.length);
        if (against) against->step(record_of(*against, options.ids, window, step), &watcher.beside);
        const StepRecord record = record_of(chip, options.ids, window, step);
        chip.step(record, &watcher);
        ++report.steps;
        watched.push_back(logits_of(chip, step.length));
        if (!report.findings.empty()) break;
    }
    // The same again with nobody looking.
    for (size_t s = 0; s < watched.size() && report.findings.empty(); ++s) {
        const StepRecord record = record_of(chip, options.ids, window, steps[s]);
        chip.step(record);
        report.watching_changed_bits |= logits_of(chip, steps[s].length) != watched[s];
    }
    if (report.reproduction && !options.save.empty()) {
        save(*report.reproduction, options.save);
        report.saved_to = options.save;
    }
    report.not_tested = {
        fmt::format("every output of products by itself: 64 of each in {} rows of a step, all others by their sum",
                    options.rows),
        fmt::format("other ops in more than {} rows of a step", options.rows),
        fmt::format("positions from {} on", window.length), "several sequences in one step"};
    report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    return report;
}

std::string check_oracle(const std::function<LoadedModel&()>& model,
                         const std::function<std::unique_ptr<Device>()>& oracle, const std::vector<int32_t>& ids,
                         const std::string& model_hash, const std::string& chip, const std::string& cache) {
    const std::string path =
        cache.empty()
            ? ""
            : cache + "/" + hash_of(fmt::format("oracle {} {} {}", model_hash, chip, build_id())).substr(0, 32);
    if (const std::string words = path.empty() ? "" : kept(path); !words.empty()) return words;
    if (ids.size() < 2) return "";
    BisectOptions options;
    options.ids = ids;
    options.prompt = 24;
    options.singles = 2;
    const std::unique_ptr<Device> device = oracle();
    const BisectReport report = bisect(model(), *device, nullptr, options);
    if (!report.agrees())
        throw chip_error("", "[verify] expected the chip that others are compared with to agree with the {}; {}",
                         device->profile().chip,
                         report.findings.empty() ? "watching it changes its bits" : report.findings[0].what.print());
    const std::string words = fmt::format("itself held to the {} on {} outputs of {} kernels", device->profile().chip,
                                          report.outputs, report.nodes);
    if (!path.empty()) keep(path, words);
    return words;
}

}  // namespace busbar::agree
