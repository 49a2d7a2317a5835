#include "serve/router.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/trace.h"

namespace busbar {

Router::Router(std::vector<std::unique_ptr<Replica>> replicas, bool exact, double hang_seconds)
    : replicas_(std::move(replicas)), exact_(exact), hang_seconds_(hang_seconds) {
    for (const auto& r : replicas_)
        r->on_broken([this](Replica&, std::vector<std::shared_ptr<Job>> jobs, const std::string&) {
            ++losses_;
            move_on(std::move(jobs));
        });
}

std::vector<Replica*> Router::by_load() const {
    std::vector<std::pair<int64_t, Replica*>> usable;
    for (const auto& r : replicas_)
        if (const ReplicaStatus s = r->status(); s.usable) usable.emplace_back(s.running + s.waiting, r.get());
    std::ranges::stable_sort(usable, {}, [](const auto& p) { return p.first; });
    std::vector<Replica*> out;
    for (const auto& [load, replica] : usable) out.push_back(replica);
    return out;
}

Router::Verdict Router::submit(const std::vector<std::shared_ptr<Job>>& jobs) {
    const std::vector<Replica*> usable = by_load();
    for (Replica* replica : usable)
        if (replica->submit(jobs)) return Verdict::accepted;
    return usable.empty() ? Verdict::broken : Verdict::full;
}

// The portable state of an answer is what was generated: another replica replays it and goes on, and since a draw
// depends on seed and position alone, it draws what would have been drawn.
void Router::move_on(std::vector<std::shared_ptr<Job>> jobs) {
    for (const auto& job : jobs) {
        if (job->cancelled) {
            end_job(job, Finish::interrupted, "");
            continue;
        }
        if (++job->losses >= 2) {  // it may be the request that breaks them
            end_job(job, Finish::none, "two chips failed with this request; it is not tried on a third");
            continue;
        }
        job->request.resume = job->generated;
        bool taken = false;
        for (Replica* replica : by_load())
            if ((taken = replica->adopt({job}))) break;
        if (taken)
            ++moves_;
        else
            end_job(job, Finish::none, "the chip failed, and there is no other");
    }
}

void Router::cancel(Job& job) {
    job.cancelled = true;
    for (const auto& r : replicas_) r->cancel(job);
}

void Router::watch() {
    if (hang_seconds_ <= 0) return;
    for (const auto& r : replicas_) {
        const ReplicaStatus s = r->status();
        if (!s.usable || s.step_began == 0 || seconds_since_start() - s.step_began < hang_seconds_) continue;
        ++losses_;
        move_on(r->abandon(fmt::format("a step took longer than {} s", hang_seconds_)));
    }
}

bool Router::usable() const {
    return std::ranges::any_of(replicas_, [](const auto& r) { return r->status().usable; });
}

bool Router::hangs() const {
    return std::ranges::any_of(replicas_, [](const auto& r) { return r->hangs(); });
}

std::string_view Router::failover_level() const {
    const auto n = std::ranges::count_if(replicas_, [](const auto& r) { return r->status().usable; });
    return n < 2 ? "none" : exact_ ? "exact" : "consistent";
}

}  // namespace busbar
