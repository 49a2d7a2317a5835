#pragma once
#include <map>
#include <optional>

#include "chips/plugin/core.h"
#include "chips/plugin/describe.h"

namespace busbar::plugin {

/// What a chip claims, as profile rows; and its answers about concrete ops.
class Claims {
  public:
    explicit Claims(std::shared_ptr<Core> core);

    /// Forms, rows and everything else of the profile: a row where a sample of its op is claimed.
    Profile profile() const;
    /// "" if the chip takes this op with this row, else its reason.
    std::string refuses(const KernelRow& row, const OpInstance& op) const;
    /// Bytes of a page of a state, as the claim of cache_append has it.
    uint64_t page_bytes(const ValueType& state, Element element) const;

    /// Asks, on the worker's thread. Throws Error{chip} for an answer that makes no sense. The record may be kept.
    busbar_claim ask(std::shared_ptr<OpRecord> op) const;

  private:
    struct Sample;
    std::optional<busbar_claim> ask_sample(const OpRow& op, Form form, const Encoding* encoding, int64_t rows) const;
    void add_row(Profile& profile, const OpRow& op, Form form, const busbar_claim& claim) const;
    std::shared_ptr<Core> core_;
};

/// A claim as a row declares it.
Rounding rounding_of(const busbar_claim& claim);

}  // namespace busbar::plugin
