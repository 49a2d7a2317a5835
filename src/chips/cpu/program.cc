#include "chips/cpu/program.h"

#include <new>

#include "base/check.h"
#include "base/error.h"

namespace busbar::cpu {

namespace {

struct alignas(64) Counter {
    std::atomic<int64_t> next{0};
};

class CpuProgram : public Program {
  public:
    CpuProgram(std::vector<ProgramStep> steps, const StepLayout& layout, const Kernels& kernels, ThreadPool& pool)
        : layout_(layout), pool_(pool) {
        size_t floats = 0;
        for (const ProgramStep& step : steps) {
            BUSBAR_CHECK(
                step.row != nullptr && step.row->index >= 0 && step.row->index < static_cast<int>(offers().size()),
                "a row of another chip");
            auto call = offers()[step.row->index].make({step, kernels, pool.threads(), layout});
            call->name = step.name;
            floats = std::max(floats, call->scratch_floats());
            for (int phase = 0; phase < call->phases(); ++phase) calls_.push_back({call.get(), phase});
            steps_.push_back(std::move(call));
        }
        scratch_floats_ = round_up(floats, 16);
        scratch_.reset(new (std::align_val_t{64}) float[std::max<size_t>(scratch_floats_ * pool.threads(), 16)]);
        counters_ = std::make_unique<Counter[]>(calls_.size());
    }

    void run(std::span<const int32_t> words) override {
        BUSBAR_CHECK(words.size() == static_cast<size_t>(layout_.words()), "a step record of another layout");
        Run run;
        run.words = words.data();
        for (size_t i = 0; i < calls_.size(); ++i) counters_[i].next.store(0, std::memory_order_relaxed);
        pool_.run([&](int thread) { walk(run, thread); });
        if (const Step* step = run.failed.load())
            throw chip_error(step->name, "[cpu] expected data of the step inside its tables, got {}",
                             run.failure.load());
    }

  private:
    struct Call {
        const Step* step;
        int phase;
    };

    // Every thread walks the same array. A barrier stands between two calls unless thread 0 does both: a call of a
    // single unit is always its own, so that runs of small steps cost nothing between them.
    void walk(const Run& run, int thread) {
        enum { nothing, of_thread_0, of_all } unfinished = nothing;
        float* scratch = scratch_.get() + thread * scratch_floats_;
        for (size_t i = 0; i < calls_.size(); ++i) {
            const auto [step, phase] = calls_[i];
            if (unfinished != nothing && step->units_read_memory()) {
                pool_.barrier();
                unfinished = nothing;
            }
            const int64_t units = step->units(run, phase);
            if (units == 0) continue;
            if (unfinished == of_all || (unfinished == of_thread_0 && units > 1)) pool_.barrier();
            if (units == 1) {
                unfinished = of_thread_0;
                if (thread == 0) step->work(run, phase, 0, scratch);
                continue;
            }
            unfinished = of_all;
            for (int64_t unit; (unit = counters_[i].next.fetch_add(1, std::memory_order_relaxed)) < units;)
                step->work(run, phase, unit, scratch);
        }
    }

    struct Free {
        void operator()(float* p) const { ::operator delete[](p, std::align_val_t{64}); }
    };
    StepLayout layout_;
    ThreadPool& pool_;
    std::vector<std::unique_ptr<Step>> steps_;
    std::vector<Call> calls_;
    std::unique_ptr<Counter[]> counters_;
    size_t scratch_floats_ = 0;
    std::unique_ptr<float[], Free> scratch_;
};

}  // namespace

std::unique_ptr<Program> make_program(std::vector<ProgramStep> steps, const StepLayout& layout, const Kernels& kernels,
                                      ThreadPool& pool) {
    return std::make_unique<CpuProgram>(std::move(steps), layout, kernels, pool);
}

}  // namespace busbar::cpu
