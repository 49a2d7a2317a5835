#include "chips/reference/reference.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "chips/reference/kernels.h"

namespace busbar {

namespace {

using namespace reference;
using Kernel = void (*)(const Call&);

struct OwnKernel {
    const OpRow* op;
    Kernel kernel;
};

// Ops with a file of their own. All others are core ops whose row has a definition in numbers.
const OwnKernel own_kernels[] = {
    {&op_matmul, matmul},
    {&op_multi_matmul, multi_matmul},
    {&op_gather_rows, gather_rows},
    {&op_rms_norm, rms_norm},
    {&op_softmax, softmax},
    {&op_add_rms_norm, add_rms_norm},
    {&op_silu, silu},
    {&op_gated_silu, gated_silu},
    {&op_rotate, rotate},
    {&op_rotary_table, rotary_table},
    {&op_attention, attention},
    {&op_cache_append, cache_append},
    {&op_cache_gather, cache_gather},
};

Kernel kernel_of(const OpRow* op) {
    for (const OwnKernel& own : own_kernels)
        if (own.op == op) return own.kernel;
    return op->evaluate ? core : nullptr;
}

class HostBuffer : public Buffer {
  public:
    explicit HostBuffer(uint64_t bytes) : bytes_(bytes) {
        // calloc, so that a large cache takes memory only where it is written.
        memory_ = bytes <= SIZE_MAX - alignment ? std::calloc(bytes + alignment, 1) : nullptr;
        if (!memory_)
            throw does_not_fit("[reference] expected {} bytes of memory, the system gave none", with_commas(bytes));
        const auto address = reinterpret_cast<uintptr_t>(memory_);
        aligned_ = reinterpret_cast<std::byte*>(round_up(address, alignment));
    }
    ~HostBuffer() override { std::free(memory_); }
    HostBuffer(const HostBuffer&) = delete;
    HostBuffer& operator=(const HostBuffer&) = delete;
    uint64_t bytes() const override { return bytes_; }
    void* host() override { return aligned_; }
    std::byte* data() const { return aligned_; }

  private:
    static constexpr uint64_t alignment = 64;
    uint64_t bytes_;
    void* memory_ = nullptr;
    std::byte* aligned_ = nullptr;
};

std::byte* inside(const Buffer& buffer, uint64_t offset, uint64_t bytes) {
    BUSBAR_CHECK(offset <= buffer.bytes() && bytes <= buffer.bytes() - offset, "an access outside a buffer");
    return static_cast<const HostBuffer&>(buffer).data() + offset;
}

class ReferenceProgram : public Program {
  public:
    ReferenceProgram(std::vector<ProgramStep> steps, const StepLayout& layout)
        : steps_(std::move(steps)), layout_(layout) {
        for (const ProgramStep& step : steps_) {
            Ready ready;
            ready.kernel = kernel_of(step.row->op);
            BUSBAR_CHECK(ready.kernel != nullptr, step.name);
            if (ready.kernel == core)
                for (const auto* side : {&step.inputs, &step.outputs})
                    for (const Operand& o : *side)
                        ready.arrays.push_back({o.extents, std::vector<double>(count_of(o.extents))});
            for (const Operand& o : step.inputs)
                longest_ = std::max(longest_, o.extents.empty() ? 1 : o.extents.back());
            ready_.push_back(std::move(ready));
        }
        longest_ = std::max(longest_, layout.pages * page_positions);
        scratch_.resize(longest_);
        decoded_.resize(longest_);
    }

    size_t steps() const override { return steps_.size(); }

    void run_steps(std::span<const int32_t> words, size_t first, size_t last) override {
        BUSBAR_CHECK(first <= last && last <= steps_.size(), "steps that the program has");
        BUSBAR_CHECK(static_cast<int64_t>(words.size()) == layout_.words(), "a step record of another layout");
        for (size_t i = first; i < last; ++i)
            ready_[i].kernel({steps_[i], words, scratch_, decoded_, ready_[i].arrays});
    }

  private:
    struct Ready {
        Kernel kernel = nullptr;
        std::vector<Array> arrays;
    };
    std::vector<ProgramStep> steps_;
    StepLayout layout_;
    std::vector<Ready> ready_;
    int64_t longest_ = 1;
    std::vector<double> scratch_;
    std::vector<float> decoded_;
};

class Reference : public Device {
  public:
    Reference() {
        profile_.chip = "reference";
        profile_.detail = "plain loops in double precision, 1 thread";
        profile_.maker = "Busbar";
        profile_.real = Element::f64;
        profile_.cache_elements = {Element::f64};
        profile_.host_memory = true;
        profile_.flops_per_s = {5e8, Figure::Origin::unknown};
        profile_.read_bytes_per_s = {1e9, Figure::Origin::unknown};
        PackedForm form;
        form.name = "as_stored";
        form.encodings.assign(encodings().begin(), encodings().end());
        form.in_place = true;
        form.reason = "the file's own blocks, decoded by their definition";
        profile_.forms = {form};
        // Products and gathers read weights as stored; a norm's weight or a bias is decoded at load, as values.
        for (const OpRow* op : op_table()) {
            if (!kernel_of(op)) continue;
            for (const char* form_name : {"", "as_stored"}) {
                if (*form_name && op != &op_matmul && op != &op_multi_matmul && op != &op_gather_rows) continue;
                KernelRow row;
                row.name = fmt::format("reference.{}{}{}", op->name, *form_name ? "." : "", form_name);
                row.op = op;
                row.form = form_name;
                row.rounding = {Element::f64, Element::f64, 1, false};
                row.index = static_cast<int>(profile_.rows.size());
                profile_.rows.push_back(std::move(row));
            }
        }
    }

    const Profile& profile() const override { return profile_; }
    std::unique_ptr<Buffer> allocate(uint64_t bytes) override { return std::make_unique<HostBuffer>(bytes); }
    void write(Buffer& to, uint64_t offset, Bytes data) override {
        if (!data.empty()) std::memcpy(inside(to, offset, data.size()), data.data(), data.size());
    }
    void read(const Buffer& from, uint64_t offset, std::span<std::byte> out) override {
        if (!out.empty()) std::memcpy(out.data(), inside(from, offset, out.size()), out.size());
    }
    void copy(Buffer& to, uint64_t to_offset, const Buffer& from, uint64_t from_offset, uint64_t bytes) override {
        std::memmove(inside(to, to_offset, bytes), inside(from, from_offset, bytes), bytes);
    }

    std::unique_ptr<PackedWeight> pack(std::shared_ptr<const StoredTensor> tensor, const PackedForm& form) override {
        BUSBAR_CHECK(form.name == "as_stored", form.name);
        const auto rows = static_cast<uint64_t>(tensor->width() ? tensor->count() / tensor->width() : 0);
        BUSBAR_CHECK(tensor->width() % tensor->encoding->block == 0, tensor->name);
        BUSBAR_CHECK(tensor->bytes.size() == rows * tensor->encoding->row_bytes(tensor->width()), tensor->name);
        return std::make_unique<StoredWeight>(std::move(tensor));
    }

    // A page: 64 positions, each heads x width numbers.
    uint64_t page_bytes(const ValueType& state, Element element) const override {
        BUSBAR_CHECK(state.kind == Kind::state && element == Element::f64, "this chip keeps states in f64");
        return static_cast<uint64_t>(page_positions * state.shape[0].n * state.shape[1].n) * sizeof(double);
    }

    std::unique_ptr<Program> prepare(std::vector<ProgramStep> steps, const StepLayout& layout) override {
        return std::make_unique<ReferenceProgram>(std::move(steps), layout);
    }

  private:
    Profile profile_;
};

}  // namespace

std::unique_ptr<Device> make_reference() {
    return std::make_unique<Reference>();
}

}  // namespace busbar
