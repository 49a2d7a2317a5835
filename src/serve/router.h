#pragma once
#include <memory>
#include <string>
#include <vector>

#include "serve/replica.h"

namespace busbar {

/// Which replica answers what.
class Router {
  public:
    explicit Router(std::vector<std::unique_ptr<Replica>> replicas) : replicas_(std::move(replicas)) {}
    enum class Verdict { accepted, full, broken };
    /// All jobs to the usable replica that has least to do.
    Verdict submit(const std::vector<std::shared_ptr<Job>>& jobs);
    /// Within one step, wherever the job is.
    void cancel(Job& job);
    bool usable() const;
    const std::vector<std::unique_ptr<Replica>>& replicas() const { return replicas_; }

  private:
    std::vector<std::unique_ptr<Replica>> replicas_;
};

}  // namespace busbar
