#pragma once
#include "base/threads.h"
#include "chips/cpu/step.h"

namespace busbar::cpu {

/// Resolves every step once. The pool and the kernels outlive the program.
std::unique_ptr<Program> make_program(std::vector<ProgramStep> steps, const StepLayout& layout, const Kernels& kernels,
                                      ThreadPool& pool);

}  // namespace busbar::cpu
