#include "base/check.h"
#include "base/error.h"
#include "chips/opencl/step.h"

namespace busbar::opencl {

namespace {

class OpenClProgram : public Program {
  public:
    OpenClProgram(Context& context, std::vector<ProgramStep> steps, const StepLayout& layout)
        : context_(context), layout_(layout) {
        words_ = std::make_unique<DeviceBuffer>(context, std::max<int64_t>(layout.words(), 16) * 4);
        status_ = std::make_unique<DeviceBuffer>(context, 64);
        clear_status();
        uint64_t parts = 64;
        for (const ProgramStep& step : steps) parts = std::max(parts, parts_bytes(step));
        parts_ = std::make_unique<DeviceBuffer>(context, parts);
        try {
            for (const ProgramStep& step : steps) {
                BUSBAR_CHECK(
                    step.row != nullptr && step.row->index >= 0 && step.row->index < static_cast<int>(offers().size()),
                    "a row of another chip");
                first_launch_.push_back(launches_.size());
                names_.push_back(step.name);
                Maker maker(context, step, words_->memory(), status_->memory(), parts_->memory(),
                            static_cast<int>(names_.size()) - 1, launches_);
                offers()[step.row->index].make(maker);
            }
        } catch (...) {
            release();
            throw;
        }
        first_launch_.push_back(launches_.size());
        check(context.cl().Finish(context.queue()), "preparing a program");
    }
    ~OpenClProgram() override { release(); }
    OpenClProgram(const OpenClProgram&) = delete;
    OpenClProgram& operator=(const OpenClProgram&) = delete;

    size_t steps() const override { return names_.size(); }

    void run_steps(std::span<const int32_t> words, size_t first, size_t last) override {
        BUSBAR_CHECK(first <= last && last <= names_.size(), "steps that the program has");
        BUSBAR_CHECK(words.size() == static_cast<size_t>(layout_.words()), "a step record of another layout");
        if (first == last) return;
        const Library& cl = context_.cl();
        const auto header = load<StepHeader>(words.data());
        check(cl.EnqueueWriteBuffer(context_.queue(), words_->memory(), CL_FALSE, 0, words.size_bytes(), words.data(),
                                    0, nullptr, nullptr),
              "writing the step record");
        for (size_t i = first_launch_[first]; i < first_launch_[last]; ++i) enqueue(launches_[i], header, words);
        // The only wait: for all of it, together with what the kernels have to say.
        cl_int status[2] = {};
        check(cl.EnqueueReadBuffer(context_.queue(), status_->memory(), CL_TRUE, 0, sizeof status, status, 0, nullptr,
                                   nullptr),
              "running a step");
        if (status[0] == 0) return;
        clear_status();
        const size_t step = static_cast<size_t>(status[0]) - 1;
        throw chip_error(step < names_.size() ? names_[step] : "",
                         "[opencl] expected data of the step inside its tables, got {}",
                         status[1] == 1 ? "an id outside its table" : "a position without a page");
    }

  private:
    // Ranges of positions that the longest of few rows has; 1 where attention is not split.
    static int64_t ranges_in_use(const Launch& l, int64_t rows, std::span<const int32_t> words) {
        if (rows > split_rows) return 1;
        int64_t ranges = 1;
        for (int64_t r = 0; r < rows; ++r)
            ranges = std::max<int64_t>(ranges, words[l.positions + r] / range_positions + 1);
        return std::min(ranges, l.ranges);
    }

    void enqueue(const Launch& l, const StepHeader& header, std::span<const int32_t> words) {
        int64_t entries = l.symbol == Symbol::rows         ? header.rows
                          : l.symbol == Symbol::logit_rows ? header.logit_rows
                                                           : l.capacity;
        entries = std::min(entries, l.capacity);
        const int64_t rows = entries * l.rows_per_entry;
        if (rows < l.least || rows > l.most) return;
        size_t global[3];
        for (int i = 0; i < 3; ++i) global[i] = l.groups[i] * l.local[i];
        global[l.axis] = static_cast<size_t>(ceil_div(entries * l.per_entry, l.per_group)) * l.local[l.axis];
        if (l.split != 0) {
            const int64_t ranges = ranges_in_use(l, entries, words);
            if ((ranges > 1) != (l.split > 0)) return;
            if (l.by_range) global[2] = static_cast<size_t>(ranges) * l.local[2];
        }
        if (global[0] == 0 || global[1] == 0 || global[2] == 0) return;
        const cl_int error = context_.cl().EnqueueNDRangeKernel(context_.queue(), l.kernel, 3, nullptr, global, l.local,
                                                                0, nullptr, nullptr);
        if (error != CL_SUCCESS) check(error, "starting a kernel", step_of(l));
    }

    std::string step_of(const Launch& l) const {
        const size_t index = static_cast<size_t>(&l - launches_.data());
        size_t step = 0;
        while (step + 1 < names_.size() && first_launch_[step + 1] <= index) ++step;
        return names_[step];
    }

    void clear_status() {
        const cl_int zero = 0;
        check(context_.cl().EnqueueFillBuffer(context_.queue(), status_->memory(), &zero, sizeof zero, 0, 64, 0,
                                              nullptr, nullptr),
              "clearing a buffer");
    }

    void release() {
        for (Launch& l : launches_) context_.cl().ReleaseKernel(l.kernel);
        launches_.clear();
    }

    Context& context_;
    StepLayout layout_;
    std::unique_ptr<DeviceBuffer> words_, status_, parts_;
    std::vector<Launch> launches_;
    std::vector<size_t> first_launch_;  ///< of each step, and the end
    std::vector<std::string> names_;
};

}  // namespace

std::unique_ptr<Program> make_program(Context& context, std::vector<ProgramStep> steps, const StepLayout& layout) {
    return std::make_unique<OpenClProgram>(context, std::move(steps), layout);
}

}  // namespace busbar::opencl
