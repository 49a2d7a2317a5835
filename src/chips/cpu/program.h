#pragma once
#include "base/threads.h"
#include "chips/cpu/step.h"

namespace busbar::cpu {

/// Memory of what the phases of a step leave for one another, one for all programs of a device, since one runs at a
/// time. Grows while programs are prepared; untouched parts of it take no memory.
class Shared {
  public:
    void need(size_t bytes);
    std::byte* data() const { return data_.get(); }

  private:
    size_t bytes_ = 0;
    std::shared_ptr<std::byte> data_;
};

/// Resolves every step once. The pool, the kernels and the shared memory outlive the program.
std::unique_ptr<Program> make_program(std::vector<ProgramStep> steps, const StepLayout& layout, const Kernels& kernels,
                                      ThreadPool& pool, Shared& shared);

}  // namespace busbar::cpu
