#pragma once
#include <vector>

#include "base/bytes.h"

namespace busbar {

/// Weights that are read in place from mapped files, moved to large pages while a model is in use: a piece after each
/// step, once so many were run that no start waits for it and no short answer pays for it.
class LargeWeights {
  public:
    /// Of nothing.
    LargeWeights() = default;
    /// `mapped`: parts of mapped files, in any order, which outlive this.
    explicit LargeWeights(std::vector<Bytes> mapped);
    void step_done();
    /// Moves all that is left: from now on steps are as fast as they get.
    void settle();

  private:
    void move_piece();
    std::vector<Bytes> left_;  ///< the next one last
    int steps_ = 0;
};

}  // namespace busbar
