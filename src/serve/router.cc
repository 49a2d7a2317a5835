#include "serve/router.h"

#include <algorithm>

namespace busbar {

Router::Verdict Router::submit(const std::vector<std::shared_ptr<Job>>& jobs) {
    std::vector<std::pair<int64_t, Replica*>> usable;
    for (const auto& r : replicas_)
        if (const ReplicaStatus s = r->status(); s.usable) usable.emplace_back(s.running + s.waiting, r.get());
    std::ranges::stable_sort(usable, {}, [](const auto& p) { return p.first; });
    for (const auto& [load, replica] : usable)
        if (replica->submit(jobs)) return Verdict::accepted;
    return usable.empty() ? Verdict::broken : Verdict::full;
}

void Router::cancel(Job& job) {
    job.cancelled = true;
    for (const auto& r : replicas_) r->cancel(job);
}

bool Router::usable() const {
    return std::ranges::any_of(replicas_, [](const auto& r) { return r->status().usable; });
}

}  // namespace busbar
