#include "serve/router.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "base/trace.h"

namespace busbar {

namespace {

// What a replica counted goes on counting in its next life.
void add_counters(ReplicaStatus& to, const ReplicaStatus& from) {
    to.steps += from.steps;
    to.prompt_tokens += from.prompt_tokens;
    to.generated_tokens += from.generated_tokens;
    to.cached_tokens += from.cached_tokens;
    to.probe.steps += from.probe.steps;
    to.probe.products += from.probe.products;
    to.probe.outputs += from.probe.outputs;
    to.probe.seconds += from.probe.seconds;
}

}  // namespace

Router::Router(std::vector<std::shared_ptr<Replica>> replicas, RouterOptions options)
    : options_(std::move(options)), places_(replicas.size()) {
    for (size_t i = 0; i < replicas.size(); ++i) add(i, std::move(replicas[i]));
}

Router::~Router() {
    stop_ = true;
    if (mender_.joinable()) mender_.join();
    std::vector<std::shared_ptr<Replica>> last;
    {
        const std::scoped_lock lock(mutex_);
        for (Place& p : places_) last.push_back(std::move(p.replica));
    }
    last.clear();  // outside the lock: a replica that breaks now still asks for the others
}

void Router::add(size_t i, std::shared_ptr<Replica> replica) {
    replica->on_broken([this](Replica& r, std::vector<std::shared_ptr<Job>> jobs, const std::string&) {
        ++losses_;
        if (r.status().loss == Loss::lied) ++lies_;
        move_on(std::move(jobs));
    });
    const std::scoped_lock lock(mutex_);
    Place& p = places_[i];
    p.replica = std::move(replica);
    p.opened = seconds_since_start();
    p.retry_at = 0;
}

std::vector<std::shared_ptr<Replica>> Router::all() const {
    const std::scoped_lock lock(mutex_);
    std::vector<std::shared_ptr<Replica>> out;
    for (const Place& p : places_)
        if (p.replica) out.push_back(p.replica);
    return out;
}

std::vector<std::shared_ptr<Replica>> Router::by_load() const {
    std::vector<std::pair<int64_t, std::shared_ptr<Replica>>> usable;
    for (const auto& r : all())
        if (const ReplicaStatus s = r->status(); s.usable) usable.emplace_back(s.running + s.waiting, r);
    std::ranges::stable_sort(usable, {}, [](const auto& p) { return p.first; });
    std::vector<std::shared_ptr<Replica>> out;
    for (auto& [load, replica] : usable) out.push_back(std::move(replica));
    return out;
}

std::vector<ReplicaStatus> Router::statuses() const {
    const std::scoped_lock lock(mutex_);
    std::vector<ReplicaStatus> out;
    for (const Place& p : places_) {
        ReplicaStatus s = p.before;
        if (p.replica) {
            s = p.replica->status();
            add_counters(s, p.before);
        }
        out.push_back(std::move(s));
    }
    return out;
}

Router::Verdict Router::submit(const std::vector<std::shared_ptr<Job>>& jobs) {
    const auto usable = by_load();
    for (const auto& replica : usable)
        if (replica->submit(jobs)) return Verdict::accepted;
    return usable.empty() ? Verdict::broken : Verdict::full;
}

// The portable state of an answer is what was generated: another replica replays it and goes on, and since a draw
// depends on seed and position alone, it draws what would have been drawn.
void Router::move_on(std::vector<std::shared_ptr<Job>> jobs) {
    struct Target {
        std::shared_ptr<Replica> replica;
        int64_t load;
        std::vector<std::shared_ptr<Job>> jobs;
    };
    std::vector<Target> targets;
    for (const auto& replica : by_load()) {
        const ReplicaStatus s = replica->status();
        targets.push_back({replica, s.running + s.waiting, {}});
    }
    const auto no_other = [](const std::shared_ptr<Job>& job) {
        end_job(job, Finish::none, "the chip failed, and there is no other");
    };
    for (const auto& job : jobs) {
        if (job->cancelled) {
            end_job(job, Finish::interrupted, "");
            continue;
        }
        if (job->losses >= 2) {
            end_job(job, Finish::none, "two chips failed with this request; it is not tried on a third");
            continue;
        }
        job->request.resume = job->generated;
        if (!job->generated.empty() && job->on_moved) job->on_moved();
        const auto least = std::ranges::min_element(targets, {}, &Target::load);
        if (least == targets.end()) {
            no_other(job);
            continue;
        }
        ++least->load;
        least->jobs.push_back(job);
    }
    // Together, so that one step replays all of them; where a replica broke just now, each goes where it can.
    for (const Target& t : targets) {
        if (t.jobs.empty()) continue;
        if (t.replica->adopt(t.jobs)) {
            moves_ += t.jobs.size();
            continue;
        }
        for (const auto& job : t.jobs) {
            const auto others = by_load();
            if (std::ranges::any_of(others, [&](const auto& r) { return r->adopt({job}); }))
                ++moves_;
            else
                no_other(job);
        }
    }
}

void Router::cancel(Job& job) {
    job.cancelled = true;
    for (const auto& r : all()) r->cancel(job);
}

// Where nobody else could go on, there is no reason for haste.
double Router::limit_of(const ReplicaStatus& s, size_t usable) const {
    return usable > 1 && s.step_limit > 0 ? std::min(options_.hang_seconds, s.step_limit) : options_.hang_seconds;
}

double Router::watch(bool reopens) {
    // Time that this thread itself was kept from running says nothing about a chip: the machine stood still.
    constexpr double longest_look = 0.2;
    const double now = seconds_since_start(), passed = std::min(longest_look, now - watched_at_);
    watched_at_ = now;
    const auto replicas = all();
    const auto usable =
        static_cast<size_t>(std::ranges::count_if(replicas, [](auto& r) { return r->status().usable; }));
    double next = options_.hang_seconds > 0 ? options_.hang_seconds : 1;
    for (const auto& r : replicas) {
        if (options_.hang_seconds <= 0) break;
        const ReplicaStatus s = r->status();
        double limit = 0;
        {
            const std::scoped_lock lock(mutex_);
            const auto p = std::ranges::find(places_, r, &Place::replica);
            if (p == places_.end() || !s.usable || s.step_began == 0) continue;
            p->watched = p->step_began == s.step_began ? p->watched + passed : std::min(passed, now - s.step_began);
            p->step_began = s.step_began;
            limit = limit_of(s, usable);
            if (p->watched < limit) {
                next = std::min(next, limit - p->watched);
                continue;
            }
        }
        ++losses_;
        ++hung_;
        move_on(r->abandon(fmt::format("a step took longer than {:.2f} s", limit)));
    }
    if (reopens && options_.reopen_seconds > 0 && !mending_) schedule();
    return next;
}

// One at a time: opening takes memory and processors.
void Router::schedule() {
    const double now = seconds_since_start();
    const std::scoped_lock lock(mutex_);
    for (size_t i = 0; i < places_.size(); ++i) {
        Place& p = places_[i];
        // While its step does not end, its memory cannot be given back.
        if (p.replica && (p.replica->status().usable || p.replica->hangs())) continue;
        if (p.retry_at == 0) {  // lost just now; again soon after it came back: wait longer
            const bool lasted = p.wait == 0 || now - p.opened > 60;
            p.wait = lasted ? options_.reopen_seconds : std::min(options_.most_reopen_seconds, 2 * p.wait);
            p.retry_at = now + p.wait;
        }
        if (now < p.retry_at) continue;
        if (mender_.joinable()) mender_.join();  // it has ended
        mending_ = true;
        mender_ = std::thread([this, i] { mend(i); });
        return;
    }
}

void Router::mend(size_t i) {
    std::shared_ptr<Replica> old;
    {
        const std::scoped_lock lock(mutex_);
        Place& p = places_[i];
        if (p.replica) {
            ReplicaStatus s = p.replica->status();
            s.tokens_per_second = s.longest_step = 0;
            s.free_pages = s.pages;
            add_counters(s, p.before);
            p.before = std::move(s);
        }
        old = std::move(p.replica);
    }
    // It ends on this thread, not on one of its own or of another replica: a chip's memory goes before it is asked for.
    while (old && old.use_count() > 1 && !stop_) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    old.reset();
    try {
        if (!stop_) {
            std::shared_ptr<Replica> fresh = options_.reopen(i);
            note("replica {} is back", fresh->name());
            add(i, std::move(fresh));
            ++reopened_;
        }
    } catch (const std::exception& e) {
        const std::scoped_lock lock(mutex_);
        Place& p = places_[i];
        p.wait = std::min(options_.most_reopen_seconds, 2 * p.wait);
        p.retry_at = seconds_since_start() + p.wait;
        note("replica {} does not come back, next try in {} s: {}", i, p.wait, e.what());
    }
    mending_ = false;
}

bool Router::usable() const {
    return std::ranges::any_of(all(), [](const auto& r) { return r->status().usable; });
}

bool Router::hangs() const {
    return mending_ || std::ranges::any_of(all(), [](const auto& r) { return r->hangs(); });
}

std::string_view Router::failover_level() const {
    const auto n = std::ranges::count_if(all(), [](const auto& r) { return r->status().usable; });
    return n < 2 ? "none" : options_.exact ? "exact" : "consistent";
}

}  // namespace busbar
