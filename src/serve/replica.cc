#include "serve/replica.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "base/trace.h"

namespace busbar {

std::string_view name_of(Loss loss) {
    static constexpr std::string_view words[] = {"none", "failed", "hung", "lied"};
    return words[static_cast<int>(loss)];
}

Replica::Replica(std::string name, LoadedModel& model, std::shared_ptr<void> owner, std::shared_ptr<StepTimes> times,
                 const EngineOptions& options, const ProbeOptions& probe, int64_t most_waiting)
    : owner_(std::move(owner)),
      name_(std::move(name)),
      model_(model),
      probe_(probe.share > 0 ? std::make_unique<LiveProbe>(model, probe) : nullptr),
      limit_(model, std::move(times), probe_.get()),
      options_(options),
      most_waiting_(most_waiting) {
    options_.watch = &limit_;
    status_.pages = status_.free_pages = model.cache_pages();
    thread_ = std::thread([this] { loop(); });
}

void end_job(const std::shared_ptr<Job>& job, Finish finish, const std::string& error) {
    if (job->on_end) job->on_end(finish, error);
    job->on_end = nullptr;  // jobs and those who wait for them hold each other
    job->on_moved = nullptr;
    job->on_token = nullptr;
    job->request.on_token = nullptr;
}

Replica::~Replica() {
    {
        const std::scoped_lock lock(mutex_);
        stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
}

bool Replica::hangs() const {
    const std::scoped_lock lock(mutex_);
    return !status_.usable && !ended_ && status_.step_began > 0;
}

bool Replica::submit(const std::vector<std::shared_ptr<Job>>& jobs) {
    const double now = seconds_since_start();
    const std::scoped_lock lock(mutex_);
    if (!status_.usable || stop_) return false;
    if (status_.waiting + static_cast<int64_t>(inbox_.size()) >= most_waiting_) return false;
    for (const auto& job : jobs) job->submitted = now;
    inbox_.insert(inbox_.end(), jobs.begin(), jobs.end());
    wake_.notify_all();
    return true;
}

bool Replica::adopt(const std::vector<std::shared_ptr<Job>>& jobs) {
    const std::scoped_lock lock(mutex_);
    if (!status_.usable || stop_) return false;
    inbox_.insert(inbox_.begin(), jobs.begin(), jobs.end());  // they have waited already
    wake_.notify_all();
    return true;
}

void Replica::cancel(Job& job) {
    job.cancelled = true;
    const std::scoped_lock lock(mutex_);
    cancels_ = true;
    wake_.notify_all();
}

ReplicaStatus Replica::status() const {
    const std::scoped_lock lock(mutex_);
    ReplicaStatus s = status_;
    s.waiting += static_cast<int64_t>(inbox_.size());
    if (probe_) s.probe = probe_->status();
    s.step_limit = limit_.limit();
    if (!s.usable || history_.empty() || seconds_since_start() - history_.back().when > 2) s.tokens_per_second = 0;
    if (!s.usable) s.longest_step = 0;
    return s;
}

// Take requests, drop what nobody waits for any more, step, hand over.
void Replica::loop() {
    engine_ = std::make_unique<Engine>(model_, options_);
    while (true) {
        {
            std::unique_lock lock(mutex_);
            status_.step_began = 0;
            wake_.wait(lock, [&] { return stop_ || (status_.usable && (!inbox_.empty() || !jobs_.empty())); });
            if (stop_) break;
            status_.step_began = seconds_since_start();
        }
        const double begin = seconds_since_start();
        try {
            take_new();
            drop_cancelled();
            engine_->step();
            hand_over();
        } catch (const ProbeFailure& e) {
            broken(Loss::lied, fmt::format("the live probe found a wrong result: {}", e.what()));
        } catch (const std::exception& e) {
            broken(Loss::failed, e.what());
        }
        publish_status(seconds_since_start() - begin);
    }
    for (const auto& job : take_all(Loss::none, "the server stops"))
        end_job(job, Finish::interrupted, "the server stops");
    engine_.reset();
    const std::scoped_lock lock(mutex_);
    ended_ = true;
}

void Replica::take_new() {
    std::vector<std::shared_ptr<Job>> fresh;
    {
        const std::scoped_lock lock(mutex_);
        fresh.swap(inbox_);
        status_.waiting += static_cast<int64_t>(fresh.size());
    }
    if (fresh.empty()) return;
    const std::scoped_lock jobs_lock(jobs_mutex_);
    for (const auto& job : fresh) {
        if (abandoned_ || job->cancelled) {
            end_job(job, Finish::interrupted, abandoned_ ? "the chip failed" : "");
            continue;
        }
        job->generated = job->request.resume;
        job->request.on_token = [this, j = job.get()](int32_t token, const std::vector<TokenScore>& best) {
            const std::scoped_lock lock(jobs_mutex_);
            if (abandoned_) return false;  // another replica speaks for the job by now
            j->last_token = seconds_since_start();
            if (j->first_token == 0) j->first_token = j->last_token;
            j->generated.push_back(token);
            ++generated_;
            return !j->cancelled && j->on_token(token, best);
        };
        job->request.sibling = -1;
        for (const Running& r : jobs_)
            if (job->sibling && r.job == job->sibling) job->request.sibling = r.number;
        job->sibling.reset();
        try {
            jobs_.push_back({job, engine_->add(job->request)});
        } catch (const Error& e) {
            note("replica {}: {}", name_, e.what());
            end_job(job, Finish::none, "the request cannot be answered");
        }
    }
}

void Replica::drop_cancelled() {
    {
        const std::scoped_lock lock(mutex_);
        if (!std::exchange(cancels_, false)) return;
    }
    const std::scoped_lock jobs_lock(jobs_mutex_);
    std::erase_if(jobs_, [&](const Running& r) {
        if (!r.job->cancelled) return false;
        engine_->forget(r.number);
        end_job(r.job, Finish::interrupted, "");
        return true;
    });
}

void Replica::hand_over() {
    const std::scoped_lock jobs_lock(jobs_mutex_);
    {  // before a client can know that its answer has ended: its next request shall find the place free
        const std::scoped_lock lock(mutex_);
        status_.running = engine_->running();
        status_.waiting = engine_->waiting();
    }
    std::erase_if(jobs_, [&](const Running& r) {
        if (r.job->admitted == 0 && engine_->admitted(r.number)) {
            r.job->admitted = seconds_since_start();
            r.job->cached = engine_->cached_of(r.number);
            const std::scoped_lock lock(mutex_);
            status_.cached_tokens += r.job->cached;
            status_.prompt_tokens += r.job->request.prompt.size();
        }
        const Finish finish = engine_->finish_of(r.number);
        if (finish == Finish::none) return false;
        engine_->forget(r.number);
        end_job(r.job, finish, "");
        return true;
    });
}

// All jobs, whoever asks first; from here on the replica takes no more.
std::vector<std::shared_ptr<Job>> Replica::take_all(Loss loss, const std::string& trouble) {
    std::vector<std::shared_ptr<Job>> all;
    const std::scoped_lock jobs_lock(jobs_mutex_);
    for (const Running& r : jobs_) {
        // What only waited cannot have broken anything. (Of a step that does not end, nobody can be asked.)
        if (loss == Loss::hung || engine_->admitted(r.number)) ++r.job->losses;
        all.push_back(r.job);
    }
    jobs_.clear();
    const std::scoped_lock lock(mutex_);
    if (status_.usable) {
        status_.trouble = trouble;
        status_.loss = loss;
    }
    status_.usable = false;
    status_.running = status_.waiting = 0;
    all.insert(all.end(), inbox_.begin(), inbox_.end());
    inbox_.clear();
    return all;
}

// A step failed: nothing that the chip holds can be trusted, but the token ids can.
void Replica::broken(Loss loss, const std::string& trouble) {
    note("replica {} is lost: {}", name_, trouble);
    std::vector<std::shared_ptr<Job>> all = take_all(loss, trouble);
    engine_ = std::make_unique<Engine>(model_, options_);
    if (on_broken_) return on_broken_(*this, std::move(all), trouble);
    for (const auto& job : all) end_job(job, Finish::none, "the chip failed");
}

std::vector<std::shared_ptr<Job>> Replica::abandon(const std::string& trouble) {
    note("replica {} is given up: {}", name_, trouble);
    {
        const std::scoped_lock jobs_lock(jobs_mutex_);
        abandoned_ = true;
    }
    return take_all(Loss::hung, trouble);
}

void Replica::publish_status(double step_seconds) {
    const double now = seconds_since_start();
    const std::scoped_lock lock(mutex_);
    ++status_.steps;
    status_.running = engine_->running();
    status_.waiting = engine_->waiting();
    status_.generated_tokens = generated_;
    const bool idle = jobs_.empty();
    if (!history_.empty() && now - history_.back().when < 0.1 && !idle) {
        history_.back().longest = std::max(history_.back().longest, step_seconds);
        return;
    }
    Cache& cache = engine_->cache();
    status_.free_pages = cache.free_pages() + cache.kept_pages();
    history_.push_back({now, generated_, step_seconds});
    std::erase_if(history_, [&](const Sample& s) { return now - s.when > 10; });
    const auto since = std::ranges::find_if(history_, [&](const Sample& s) { return now - s.when <= 2; });
    const double seconds = std::max(0.2, now - since->when);
    status_.tokens_per_second = static_cast<double>(generated_ - since->generated) / seconds;
    status_.longest_step = 0;
    for (const Sample& s : history_) status_.longest_step = std::max(status_.longest_step, s.longest);
}

}  // namespace busbar
