#pragma once
#include "base/threads.h"
#include "chips/cpu/step.h"

namespace busbar::cpu {

/// Memory that steps work in, one for all programs of a device, since one runs at a time: what the phases of a step
/// leave for one another, and scratch of each thread. Grows while programs are prepared; untouched parts of it take no
/// memory.
class Shared {
  public:
    explicit Shared(int threads) : threads_(threads) {}
    void need(size_t phase_bytes, size_t scratch_floats);
    std::byte* phases() const { return data_.get(); }
    float* scratch(int thread) const {
        return reinterpret_cast<float*>(data_.get() + phase_bytes_ + thread * scratch_bytes_);
    }
    size_t bytes() const { return phase_bytes_ + threads_ * scratch_bytes_; }

  private:
    int threads_;
    size_t phase_bytes_ = 0, scratch_bytes_ = 0;
    std::shared_ptr<std::byte> data_;
};

/// Resolves every step once. The pool, the kernels and the shared memory outlive the program.
std::unique_ptr<Program> make_program(std::vector<ProgramStep> steps, const StepLayout& layout, const Kernels& kernels,
                                      ThreadPool& pool, Shared& shared);

}  // namespace busbar::cpu
