#pragma once
#include <span>
#include <string>
#include <vector>

#include "chips/opencl/context.h"
#include "chips/opencl/pack.h"
#include "device/device.h"

namespace busbar::opencl {

class DeviceBuffer : public Buffer {
  public:
    DeviceBuffer(Context& context, uint64_t bytes)
        : context_(context), bytes_(bytes), memory_(context.allocate(bytes)) {}
    ~DeviceBuffer() override { context_.release(memory_, bytes_); }
    DeviceBuffer(const DeviceBuffer&) = delete;
    DeviceBuffer& operator=(const DeviceBuffer&) = delete;
    uint64_t bytes() const override { return bytes_; }
    cl_mem memory() const { return memory_; }

  private:
    Context& context_;
    uint64_t bytes_;
    cl_mem memory_;
};

/// Where an operand lies, resolved once.
struct Place {
    cl_mem memory = nullptr;
    uint64_t at = 0;  ///< in elements of 32 bits; of a state in its own elements
    Symbol symbol = Symbol::none;
    Kind kind = Kind::real;
    Element element = Element::f32;
    StateRole role = StateRole::none;
    uint64_t bytes = 0;  ///< of the buffer from here on
    std::vector<int64_t> extents;

    int64_t first() const { return extents.empty() ? 1 : extents[0]; }
    int64_t width() const { return extents.empty() ? 1 : extents.back(); }
    int64_t inner() const;           ///< elements of one leading entry
    int64_t rows_per_entry() const;  ///< rows of width() in one leading entry
    cl_int symbol_word() const { return symbol == Symbol::rows ? 1 : symbol == Symbol::logit_rows ? 2 : 0; }
};

/// One kernel with its arguments set. What varies is its size: along one axis it follows the number of entries in use.
struct Launch {
    cl_kernel kernel = nullptr;
    size_t groups[3] = {1, 1, 1}, local[3] = {1, 1, 1};
    int axis = 0;  ///< whose groups are ceil(entries * per_entry / per_group)
    int64_t per_entry = 1, per_group = 1;
    Symbol symbol = Symbol::none;
    int64_t capacity = 1;
    int64_t least = 0, most = INT64_MAX;  ///< rows (entries * rows_per_entry) for which it runs at all
    int64_t rows_per_entry = 1;
    /// Attention of few rows over several ranges of positions: 1 only then, -1 only elsewhere, 0 in any case.
    int split = 0;
    int64_t positions = -1;  ///< where the step record has them, in words; needed to split
    int64_t ranges = 1;      ///< at most; groups[2] follows those in use where `by_range`
    bool by_range = false;
};

/// Makes the launches of one step.
class Maker {
  public:
    Maker(Context& context, const ProgramStep& step, cl_mem words, cl_mem status, cl_mem parts, int number,
          std::vector<Launch>& out)
        : context(context), step(step), words_(words), status_(status), parts_(parts), number_(number), out_(out) {}

    Place in(size_t i) const { return place(step.inputs[i]); }
    Place out(size_t i) const { return place(step.outputs[i]); }

    /// A kernel that runs over the leading entries of `over`; its first arguments are the step record, that axis and
    /// `inner`.
    class Call {
      public:
        Call& buffer(cl_mem memory);
        Call& place(const Place& p) { return buffer(p.memory).number64(p.at); }
        Call& number(int64_t n);
        Call& number64(uint64_t n);
        Call& real(double x);
        Call& eight(const std::vector<int64_t>& list, int64_t fill);
        Call& local(size_t bytes);
        Call& parts() { return buffer(maker_.parts_); }  ///< parts_bytes() that steps share
        Call& failure();                                 ///< where a misfit of the step's data is told
        Launch& launch() { return launch_; }
        /// One work-item per element.
        void flat();
        /// One group of `lanes` work-items per row.
        void rows(int64_t rows_per_entry, int lanes);
        /// As launch() says.
        void done();

      private:
        friend class Maker;
        Call(Maker& maker, cl_kernel kernel) : maker_(maker) { launch_.kernel = kernel; }
        Call& set(size_t size, const void* value);
        Maker& maker_;
        Launch launch_;
        cl_uint next_ = 0;
        int64_t inner_ = 1;
    };
    Call call(const char* file, const std::string& options, const char* kernel, const Place& over, int64_t inner);

    const Weight* weight(size_t input) const;

    Context& context;
    const ProgramStep& step;

  private:
    Place place(const Operand& operand) const;
    cl_mem words_, status_, parts_;
    int number_;
    std::vector<Launch>& out_;
};

/// One row of the chip's table of ops (rows.cc).
struct Offer {
    const OpRow* op;
    bool values, weights;
    double transcendental_ulp, share_of_peak;
    void (*make)(Maker&);
};
std::span<const Offer> offers();

using Make = void(Maker&);
Make make_elementwise, make_gated_silu, make_select, make_transpose, make_slice, make_concat, make_gather_rows,
    make_batch_matmul, make_rotary_table, make_rotate;
Make make_reduce, make_softmax, make_norm, make_add_norm;
Make make_cache_append, make_cache_gather, make_cache_mask, make_attention;
Make make_matmul;

/// Attention of up to so many rows is split over ranges of positions. RANGE of cache.cl, in positions.
constexpr int64_t split_rows = 2, range_positions = 2 * page_positions;
/// Memory between the two kernels of a split attention; 0 for other steps.
uint64_t parts_bytes(const ProgramStep& step);

/// Elements of a page of a state.
int64_t page_elements(const ValueType& state);

std::unique_ptr<Program> make_program(Context& context, std::vector<ProgramStep> steps, const StepLayout& layout);

}  // namespace busbar::opencl
