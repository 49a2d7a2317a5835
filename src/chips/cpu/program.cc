#include "chips/cpu/program.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <cstring>

#include "base/check.h"
#include "base/error.h"

namespace busbar::cpu {

namespace {

// The units of a call that belong to one thread: a run of neighbours, which it takes from the front, while others who
// have nothing left take from the back. So a thread reads weights in the order of their addresses, as one stream:
// with units dealt out in turn, streams of 64 KB broke off so often that two threads read a third less.
struct Share {
    alignas(64) std::atomic<uint64_t> taken{0};  ///< from the front in the upper half, from the back in the lower

    /// The next of units first .. last - 1, or -1.
    int64_t take(int64_t first, int64_t last, bool back) {
        uint64_t seen = taken.load(std::memory_order_relaxed);
        for (;;) {
            const auto front = static_cast<int64_t>(seen >> 32), behind = static_cast<int64_t>(seen & 0xFFFFFFFF);
            if (front + behind >= last - first) return -1;
            if (taken.compare_exchange_weak(seen, seen + (back ? 1 : uint64_t{1} << 32), std::memory_order_relaxed))
                return back ? last - 1 - behind : first + front;
        }
    }
};

// How much of a call is done.
struct Counter {
    alignas(64) std::atomic<int32_t> done{0};

    void finish(int32_t count, int64_t units) {
        if (done.fetch_add(count, std::memory_order_acq_rel) + count == units) done.notify_all();
    }
    void wait(int64_t units) const {
        for (int32_t seen; (seen = done.load(std::memory_order_acquire)) != units;) wait_while(done, seen);
    }
};

class CpuProgram : public Program {
  public:
    CpuProgram(std::vector<ProgramStep> steps, const StepLayout& layout, const Kernels& kernels, ThreadPool& pool,
               Shared& shared)
        : layout_(layout), pool_(pool), shared_(shared) {
        for (const ProgramStep& step : steps) {
            BUSBAR_CHECK(
                step.row != nullptr && step.row->index >= 0 && step.row->index < static_cast<int>(offers().size()),
                "a row of another chip");
            auto call = offers()[step.row->index].make({step, kernels, pool.threads(), layout});
            call->name = step.name;
            first_call_.push_back(calls_.size());
            shared.need(call->shared_bytes(), call->scratch_floats());
            for (int phase = 0; phase < call->phases(); ++phase) calls_.push_back({call.get(), phase});
            steps_.push_back(std::move(call));
        }
        first_call_.push_back(calls_.size());
        counters_ = std::make_unique<Counter[]>(calls_.size());
        shares_ = std::make_unique<Share[]>(calls_.size() * pool.threads());
    }

    size_t steps() const override { return steps_.size(); }

    void run_steps(std::span<const int32_t> words, size_t first, size_t last) override {
        BUSBAR_CHECK(first <= last && last <= steps_.size(), "steps that the program has");
        BUSBAR_CHECK(words.size() == static_cast<size_t>(layout_.words()), "a step record of another layout");
        Run run;
        run.words = words.data();
        run.shared = shared_.phases();
        const size_t begin = first_call_[first], end = first_call_[last];
        for (size_t i = begin; i < end; ++i) counters_[i].done.store(0, std::memory_order_relaxed);
        for (size_t i = begin * pool_.threads(); i < end * pool_.threads(); ++i)
            shares_[i].taken.store(0, std::memory_order_relaxed);
        pool_.run_with_helpers([&](int thread) { walk(run, thread, begin, end); });
        if (const Step* step = run.failed.load())
            throw chip_error(step->name, "[cpu] expected data of the step inside its tables, got {}",
                             run.failure.load());
    }

  private:
    struct Call {
        const Step* step;
        int phase;
    };

    // Every thread walks the same array. A call begins when the one before it is done - not when all threads have
    // arrived: one that the system has put aside holds up nobody, unless in the middle of a unit. A call of a single
    // unit is always thread 0's, so that chains of small steps stay on one core and cost nothing between them.
    void walk(const Run& run, int thread, size_t begin, size_t end) {
        const Counter* before = nullptr;  // the last call that has work, and how much
        int64_t units_before = 0;
        float* const scratch = shared_.scratch(thread);
        for (size_t i = begin; i < end; ++i) {
            const auto [step, phase] = calls_[i];
            if (before != nullptr && step->units_read_memory()) before->wait(units_before);
            const int64_t units = step->units(run, phase);
            if (units == 0) continue;
            if (before != nullptr && (units > 1 || thread == 0)) before->wait(units_before);
            before = &counters_[i];
            units_before = units;
            int32_t count = 0;
            if (units == 1) {
                if (thread != 0) continue;
                step->work(run, phase, 0, scratch);
                count = 1;
            } else {
                const int threads = pool_.threads();
                for (int j = 0; j < threads; ++j) {
                    const int owner = (thread + j) % threads;
                    const int64_t first = units * owner / threads, last = units * (owner + 1) / threads;
                    Share& share = shares_[i * threads + owner];
                    for (int64_t unit; (unit = share.take(first, last, j > 0)) >= 0; ++count)
                        step->work(run, phase, unit, scratch);
                }
            }
            if (count > 0) counters_[i].finish(count, units);
        }
    }

    StepLayout layout_;
    ThreadPool& pool_;
    Shared& shared_;
    std::vector<std::unique_ptr<Step>> steps_;
    std::vector<Call> calls_;
    std::vector<size_t> first_call_;  ///< of each step, and the end
    std::unique_ptr<Counter[]> counters_;
    std::unique_ptr<Share[]> shares_;  ///< of each call, one per thread
};

}  // namespace

void Shared::need(size_t phase_bytes, size_t scratch_floats) {
    // Each thread's on pages of its own.
    const size_t phases = std::max(phase_bytes_, round_up(phase_bytes, 4096)),
                 scratch = std::max(scratch_bytes_, round_up(scratch_floats * sizeof(float), 4096)),
                 bytes = phases + threads_ * scratch;
    if (bytes == this->bytes()) return;
    void* const p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        throw does_not_fit("[cpu] expected {} bytes of memory, the system refused: {}", with_commas(bytes),
                           std::strerror(errno));
    data_ = {static_cast<std::byte*>(p), [bytes](std::byte* memory) { munmap(memory, bytes); }};
    phase_bytes_ = phases;
    scratch_bytes_ = scratch;
}

std::unique_ptr<Program> make_program(std::vector<ProgramStep> steps, const StepLayout& layout, const Kernels& kernels,
                                      ThreadPool& pool, Shared& shared) {
    return std::make_unique<CpuProgram>(std::move(steps), layout, kernels, pool, shared);
}

}  // namespace busbar::cpu
