#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "serve/replica.h"

namespace busbar {

/// Which replica answers what, and what happens to answers whose replica is lost: another one goes on with them from
/// their token ids.
class Router {
  public:
    /// `exact`: all replicas give the same bits, so that an answer that moved is the one that it would have been. A
    /// step that takes longer than `hang_seconds` is taken for one that never ends (0 = wait for ever).
    Router(std::vector<std::unique_ptr<Replica>> replicas, bool exact, double hang_seconds);
    enum class Verdict { accepted, full, broken };
    /// All jobs to the usable replica that has least to do.
    Verdict submit(const std::vector<std::shared_ptr<Job>>& jobs);
    /// Within one step, wherever the job is.
    void cancel(Job& job);
    /// Looks for replicas that hang; often.
    void watch();
    bool usable() const;
    bool hangs() const;
    /// What a client may expect of a move: "exact", "consistent" (nothing lost, repeated or contradicted), or "none".
    std::string_view failover_level() const;
    const std::vector<std::unique_ptr<Replica>>& replicas() const { return replicas_; }
    uint64_t losses() const { return losses_; }
    uint64_t moves() const { return moves_; }

  private:
    void move_on(std::vector<std::shared_ptr<Job>> jobs);
    std::vector<Replica*> by_load() const;

    std::vector<std::unique_ptr<Replica>> replicas_;
    bool exact_;
    double hang_seconds_;
    std::atomic<uint64_t> losses_{0}, moves_{0};
};

}  // namespace busbar
