#pragma once
#include "chips/registry.h"
#include "agree/conform/suite.h"

namespace busbar::conform {

/// A device of this build on one of the instruction sets that this machine can run.
struct Chip {
    std::string label;  ///< "cpu avx2, 2 threads"
    std::unique_ptr<Device> device;
    bool is_oracle = false;
};
/// Every chip that this machine can run, on every instruction set.
std::vector<Chip>& chips();
Device& oracle();

/// A suite with its cases and what the oracle says of them, made once.
struct Prepared {
    const Suite* suite = nullptr;
    std::vector<Case> cases;
    std::vector<Outcome> expected;
};
const Prepared& prepared(const OpRow& op);

/// The rows of a device that can run a case.
std::vector<const KernelRow*> rows_for(const Device& device, const Case& c);

}  // namespace busbar::conform
