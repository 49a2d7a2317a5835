#pragma once
#include "chips/plugin/claims.h"

namespace busbar::plugin {

/// A frozen weight on the chip: in a buffer, or packed by the chip.
struct Weight : PackedWeight {
    std::shared_ptr<Core> core;
    busbar_tensor tensor{};                ///< as ops get it
    std::unique_ptr<PluginBuffer> buffer;  ///< null if the chip packed it
    busbar_weight handle = nullptr;
    uint64_t kept = 0;
    ~Weight() override;
    uint64_t bytes() const override { return kept; }
};

std::unique_ptr<PackedWeight> pack_weight(const std::shared_ptr<Core>& core, const StoredTensor& tensor, Form form);

std::unique_ptr<Program> make_program(std::shared_ptr<Core> core, const Claims& claims, std::vector<ProgramStep> steps,
                                      const StepLayout& layout);

}  // namespace busbar::plugin
