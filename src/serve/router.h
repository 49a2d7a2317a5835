#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "serve/replica.h"

namespace busbar {

struct RouterOptions {
    bool exact = false;  ///< all replicas give the same bits: an answer that moved is the one it would have been
    /// A step that takes longer is taken for one that never ends; 0 = wait for ever. Sooner where it is known how long
    /// such steps take and another replica can go on.
    double hang_seconds = 10;
    double reopen_seconds = 5;  ///< before a lost replica is opened again, doubled while that fails; 0 = never
    double most_reopen_seconds = 300;
    /// Opens replica i anew, with the gate. On a thread of the router's own; may throw.
    std::function<std::shared_ptr<Replica>(size_t i)> reopen;
};

/// Which replica answers what, and what happens to answers whose replica is lost: another one goes on with them from
/// their token ids. Lost replicas are opened again. Any thread.
class Router {
  public:
    Router(std::vector<std::shared_ptr<Replica>> replicas, RouterOptions options);
    ~Router();
    enum class Verdict { accepted, full, broken };
    /// All jobs to the usable replica that has least to do.
    Verdict submit(const std::vector<std::shared_ptr<Job>>& jobs);
    /// Within one step, wherever the job is.
    void cancel(Job& job);
    /// Looks for replicas that hang and, if told so, for those to open again; often, by one thread. Returns in how many
    /// seconds a step under way will have taken too long: it is seen then if somebody looks then.
    double watch(bool reopens);
    bool usable() const;
    /// True where the router cannot be destroyed now: a replica's step or its opening does not end.
    bool hangs() const;
    /// What a client may expect of a move: "exact", "consistent" (nothing lost, repeated or contradicted), or "none".
    std::string_view failover_level() const;
    /// Of every replica, in order; counters include those of its lives before.
    std::vector<ReplicaStatus> statuses() const;
    uint64_t losses() const { return losses_; }
    uint64_t lies() const { return lies_; }
    uint64_t hung() const { return hung_; }
    uint64_t moves() const { return moves_; }
    uint64_t reopened() const { return reopened_; }

  private:
    struct Place {
        std::shared_ptr<Replica> replica;  ///< null while it is opened again
        ReplicaStatus before;              ///< the last life's, with the counters of all lives that ended
        double opened = 0, retry_at = 0, wait = 0;
        double step_began = 0, watched = 0;  ///< the step that watch() saw last, and for how long
    };
    void add(size_t i, std::shared_ptr<Replica> replica);
    std::vector<std::shared_ptr<Replica>> all() const;
    std::vector<std::shared_ptr<Replica>> by_load() const;
    void move_on(std::vector<std::shared_ptr<Job>> jobs);
    double limit_of(const ReplicaStatus& s, size_t usable) const;
    void schedule();
    void mend(size_t i);

    RouterOptions options_;
    std::atomic<uint64_t> losses_{0}, lies_{0}, hung_{0}, moves_{0}, reopened_{0};
    std::atomic<bool> stop_{false}, mending_{false};
    mutable std::mutex mutex_;
    std::vector<Place> places_;
    double watched_at_ = 0;  ///< of watch()'s thread
    std::thread mender_;
};

}  // namespace busbar
