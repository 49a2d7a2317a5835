#include "serve/live_probe.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "agree/sum_check.h"
#include "base/log.h"
#include "base/trace.h"

namespace busbar {

namespace {

// Where a value comes from, seen through views.
const Value& source_of(const Plan& plan, int value) {
    const Value* v = &plan.graph.values()[value];
    while (v->node >= 0 && plan.graph.nodes()[v->node].op->is_view)
        v = &plan.graph.values()[plan.graph.nodes()[v->node].inputs[0]];
    return *v;
}

Array rows_of(const Array& a, const std::vector<int64_t>& rows, int64_t width) {
    Array out{{static_cast<int64_t>(rows.size()), width}, {}};
    out.data.reserve(rows.size() * width);
    for (const int64_t r : rows)
        out.data.insert(out.data.end(), a.data.begin() + r * width, a.data.begin() + (r + 1) * width);
    return out;
}

uint64_t bytes_of_sums(const StoredTensor& t) {
    return sizeof(double) * static_cast<uint64_t>(t.count() / t.width() + 2 * t.width());
}

double mixed(double before, double now) {
    return before <= 0 ? now : 0.8 * before + 0.2 * now;
}

}  // namespace

LiveProbe::LiveProbe(const LoadedModel& model, const ProbeOptions& options)
    : model_(model),
      options_(options),
      random_(options.seed ? options.seed : std::random_device{}()),
      secret_(random_()) {
    find_sites();
    turn_.resize(sites_.size());
    cost_.resize(sites_.size());
    row_seconds_.resize(sites_.size());
    step_seconds_.resize(model.layout().max_rows + 1);
    if (!every_step()) taker_ = std::jthread([this](const std::stop_token& stop) { take_sums(stop); });
}

LiveProbe::~LiveProbe() {
    taker_.request_stop();
}

void LiveProbe::find_sites() {
    std::set<const StoredTensor*> seen;
    uint64_t bytes = 0, left_out = 0;
    for (const Plan& plan : model_.plans()) {
        std::vector<Site>& sites = sites_.emplace_back();
        for (size_t i = 0; i < plan.steps.size(); ++i) {
            if (plan.steps[i].is_copy()) continue;
            const Node& n = plan.graph.nodes()[plan.steps[i].node];
            if ((n.op != &op_matmul && n.op != &op_multi_matmul) || source_of(plan, n.inputs[0]).source != Source::node)
                continue;
            Site site{i, {}};
            for (size_t k = 1; k < n.inputs.size(); ++k) {
                const Value& w = source_of(plan, n.inputs[k]);
                site.weights.push_back(w.source == Source::weight && w.weight->shape.size() == 2 ? w.weight.get()
                                                                                                 : nullptr);
            }
            if (std::ranges::count(site.weights, nullptr) > 0) continue;
            bool fits = true;
            for (const StoredTensor* w : site.weights) {
                if (seen.contains(w)) continue;
                fits = bytes + bytes_of_sums(*w) <= options_.most_bytes;
                if (!fits) break;
                bytes += bytes_of_sums(*w);
                seen.insert(w);
                weights_.push_back(w);
            }
            if (fits)
                sites.push_back(std::move(site));
            else
                ++left_out;
        }
        std::ranges::shuffle(sites, random_);
    }
    status_.weights = static_cast<int64_t>(weights_.size());
    if (left_out > 0) note("live probe: {} products of all plans are not watched, their sums would not fit", left_out);
}

// Never in the way: lowest priority, and asleep for two hundred times as long as it works.
void LiveProbe::take_sums(const std::stop_token& stop) {
    setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), 19);
    for (const StoredTensor* w : weights_) {
        const double begin = seconds_since_start();
        sums_of(w);
        const double until = seconds_since_start() + 200 * (seconds_since_start() - begin);
        while (!stop.stop_requested() && seconds_since_start() < until)
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        if (stop.stop_requested()) return;
    }
}

const agree::WeightSums* LiveProbe::sums_of(const StoredTensor* weight) {
    {
        const std::scoped_lock lock(mutex_);
        if (const auto found = sums_.find(weight); found != sums_.end()) return found->second.get();
    }
    auto sums = std::make_unique<agree::WeightSums>(
        agree::sum_weight(*weight, secret_ + reinterpret_cast<uintptr_t>(weight), 1));
    const std::scoped_lock lock(mutex_);
    ++status_.watched;
    return (sums_[weight] = std::move(sums)).get();
}

// The next ones of the round whose sums are there.
bool LiveProbe::choose(size_t bucket) {
    chosen_.clear();
    const std::vector<Site>& sites = sites_[bucket];
    const size_t most = every_step() ? sites.size() : static_cast<size_t>(options_.products);
    const std::scoped_lock lock(mutex_);
    for (size_t n = 0; n < sites.size() && chosen_.size() < most; ++n) {
        const Site& site = sites[turn_[bucket]++ % sites.size()];
        if (every_step() || std::ranges::all_of(site.weights, [&](auto* w) { return sums_.contains(w); }))
            chosen_.push_back(&site);
    }
    std::ranges::sort(chosen_, {}, &Site::index);
    return !chosen_.empty();
}

StepObserver* LiveProbe::begin(int64_t rows) {
    bucket_ = model_.bucket_for(rows);
    probing_ = false;
    // What a probe costs shows only against what such a step takes without one.
    const bool known = step_seconds_[rows] > 0 || row_seconds_[bucket_] > 0;
    if (!every_step() && (!known || credit_ < cost_[bucket_])) return nullptr;
    if (!choose(bucket_)) return nullptr;
    probing_ = true;
    at_ = 0;
    own_ = 0;
    return this;
}

void LiveProbe::end(int64_t rows, double seconds) {
    const double typical =
        step_seconds_[rows] > 0 ? step_seconds_[rows] : row_seconds_[bucket_] * static_cast<double>(rows);
    if (!probing_) {
        step_seconds_[rows] = mixed(step_seconds_[rows], seconds);
        row_seconds_[bucket_] = mixed(row_seconds_[bucket_], seconds / static_cast<double>(rows));
        // Bounded, so that a long quiet time is not followed by a burst.
        credit_ = std::min(credit_ + options_.share * seconds, 2 * *std::ranges::max_element(cost_) + 0.01);
        return;
    }
    // Running a product by itself costs too, on some chips more than the whole step: all that it took longer counts.
    // Only what is no probe's any more - the machine stood still - must not silence it for hours.
    const double cost = std::clamp(seconds - typical, own_, 20 * (own_ + typical));
    cost_[bucket_] = mixed(cost_[bucket_], cost);
    credit_ -= cost;
    const std::scoped_lock lock(mutex_);
    ++status_.steps;
    status_.seconds += cost;
}

bool LiveProbe::wants(size_t, size_t index) {
    return at_ < chosen_.size() && chosen_[at_]->index == index;
}

void LiveProbe::before(LoadedModel& model, size_t bucket, size_t index) {
    const double begin = seconds_since_start();
    const Plan& plan = model.plans()[bucket];
    x_ = model.read_value(bucket, plan.steps[index].chip, plan.graph.nodes()[plan.steps[index].node].inputs[0]);
    own_ += seconds_since_start() - begin;
}

void LiveProbe::after(LoadedModel& model, size_t bucket, size_t index) {
    const double begin = seconds_since_start();
    const Site& site = *chosen_[at_++];
    for (size_t i = 0; i < site.weights.size(); ++i) check(model, bucket, index, i, *site.weights[i]);
    own_ += seconds_since_start() - begin;
}

void LiveProbe::check(const LoadedModel& model, size_t bucket, size_t index, size_t which, const StoredTensor& weight) {
    const Plan& plan = model.plans()[bucket];
    const PlannedStep& step = plan.steps[index];
    const Node& node = plan.graph.nodes()[step.node];
    const agree::WeightSums& sums = *sums_of(&weight);
    const int64_t width = weight.width(), outputs = weight.count() / width, all = x_.count() / width;
    std::vector<int64_t> rows;
    for (int64_t r = 0; r < all; ++r) rows.push_back(r);
    if (!every_step() && all > options_.rows) {
        std::ranges::shuffle(rows, random_);
        rows.resize(options_.rows);
    }
    const Array y = model.read_value(bucket, step.chip, node.outputs[which]);
    {
        const std::scoped_lock lock(mutex_);
        ++status_.products;
        status_.outputs += rows.size() * outputs;
    }
    const Profile& chip = *plan.chips[step.chip];
    const auto wrong = agree::check_sums(sums, weight, rows_of(x_, rows, width), rows_of(y, rows, outputs),
                                         step.row->rounding, chip.real);
    if (wrong)
        throw ProbeFailure(
            fmt::format("{} ({} on {}, {}): {}", node.name, node.op->name, chip.chip, step.row->name, wrong->why));
}

ProbeStatus LiveProbe::status() const {
    const std::scoped_lock lock(mutex_);
    return status_;
}

}  // namespace busbar
