#include "chips/opencl/opencl.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/check.h"
#include "base/error.h"
#include "chips/opencl/measure.h"
#include "chips/opencl/step.h"

namespace busbar {

namespace opencl {

namespace {

const DeviceBuffer& own(const Buffer& buffer, uint64_t offset, uint64_t bytes) {
    BUSBAR_CHECK(offset <= buffer.bytes() && bytes <= buffer.bytes() - offset, "a copy past the end of a buffer");
    const auto* mine = dynamic_cast<const DeviceBuffer*>(&buffer);
    BUSBAR_CHECK(mine != nullptr, "a buffer of another chip");
    return *mine;
}

class OpenClDevice : public Device {
  public:
    explicit OpenClDevice(int number) : context_(number) {
        const Limits& l = context_.limits();
        profile_.chip = "opencl";
        profile_.detail =
            fmt::format("{}, {} unit{} at {} MHz", quote(l.name), l.units, l.units == 1 ? "" : "s", l.megahertz);
        profile_.maker = quote(l.maker);
        profile_.driver = quote(l.version + ", driver " + l.driver);
        profile_.cache_elements = {Element::f32, Element::f16, Element::bf16};
        profile_.threads = 1;
        profile_.memory_bytes = {static_cast<double>(l.memory), Figure::Origin::driver};
        // Guesses for predictions until measure(): what a unit of a GPU reads and multiplies in a clock.
        const double hertz = std::max(l.megahertz, 500) * 1e6 * l.units;
        profile_.read_bytes_per_s = {hertz * (l.is_cpu ? 4 : 8), Figure::Origin::unknown};
        profile_.flops_per_s = {hertz * (l.is_cpu ? 16 : 128), Figure::Origin::unknown};
        profile_.step_overhead_s = 1e-5;
        PackedForm form;
        form.name = "panels";
        form.encodings.assign(encodings().begin(), encodings().end());
        form.preference = 1;
        form.reason = "codes and scales in planes of their own, 32 outputs side by side: neighbours read neighbours";
        profile_.forms.push_back(std::move(form));
        add_rows();
    }

    const Profile& profile() const override { return profile_; }
    void measure() override;

    std::unique_ptr<Buffer> allocate(uint64_t bytes) override {
        auto buffer = std::make_unique<DeviceBuffer>(context_, bytes);
        // Sixteen bytes at a time are what devices fill fastest; sizes need not be whole ones.
        const uint64_t whole = bytes / 16 * 16;
        const cl_uint4 zeros = {};
        const auto fill = [&](size_t each, uint64_t from, uint64_t count) {
            if (count > 0)
                check(cl().EnqueueFillBuffer(queue(), buffer->memory(), &zeros, each, from, count, 0, nullptr, nullptr),
                      "clearing a buffer");
        };
        fill(sizeof zeros, 0, whole);
        fill(1, whole, bytes - whole);
        return buffer;
    }
    void write(Buffer& to, uint64_t offset, Bytes data) override {
        if (data.empty()) return;
        check(cl().EnqueueWriteBuffer(queue(), own(to, offset, data.size()).memory(), CL_TRUE, offset, data.size(),
                                      data.data(), 0, nullptr, nullptr),
              "writing a buffer");
    }
    void read(const Buffer& from, uint64_t offset, std::span<std::byte> out) override {
        if (out.empty()) return;
        check(cl().EnqueueReadBuffer(queue(), own(from, offset, out.size()).memory(), CL_TRUE, offset, out.size(),
                                     out.data(), 0, nullptr, nullptr),
              "reading a buffer");
    }
    void copy(Buffer& to, uint64_t to_offset, const Buffer& from, uint64_t from_offset, uint64_t bytes) override {
        if (bytes == 0 || (&to == &from && to_offset == from_offset)) return;
        const cl_mem a = own(from, from_offset, bytes).memory(), b = own(to, to_offset, bytes).memory();
        check(cl().EnqueueCopyBuffer(queue(), a, b, from_offset, to_offset, bytes, 0, nullptr, nullptr),
              "copying a buffer");
        check(cl().Finish(queue()), "copying a buffer");
    }

    std::unique_ptr<PackedWeight> pack(std::shared_ptr<const StoredTensor> tensor, const PackedForm& form) override {
        BUSBAR_CHECK(form.name == "panels", "a form that this chip does not offer: " + form.name);
        if (!pool_) pool_ = std::make_unique<ThreadPool>();
        return std::make_unique<Weight>(context_, *tensor, *pool_);
    }

    uint64_t page_bytes(const ValueType& state, Element element) const override {
        return static_cast<uint64_t>(page_elements(state)) * bytes_of(element);
    }

    std::unique_ptr<Program> prepare(std::vector<ProgramStep> steps, const StepLayout& layout) override {
        pool_.reset();  // weights are packed by now
        return make_program(context_, std::move(steps), layout);
    }

  private:
    const Library& cl() const { return context_.cl(); }
    cl_command_queue queue() const { return context_.queue(); }

    void add_rows() {
        for (size_t i = 0; i < offers().size(); ++i) {
            const Offer& offer = offers()[i];
            KernelRow row;
            row.op = offer.op;
            row.rounding.transcendental_ulp = offer.transcendental_ulp;
            row.rounding.flushes_denormals = !context_.limits().keeps_denormals;
            row.share_of_peak = offer.share_of_peak;
            row.index = static_cast<int>(i);
            if (offer.values) {
                row.name = fmt::format("opencl.{}.f32", offer.op->name);
                profile_.rows.push_back(row);
            }
            if (offer.weights) {
                row.name = fmt::format("opencl.{}.panels", offer.op->name);
                row.form = "panels";
                profile_.rows.push_back(row);
            }
        }
    }

    Context context_;
    std::unique_ptr<ThreadPool> pool_;
    Profile profile_;
};

void OpenClDevice::measure() {
    const Roofs roofs = measure_roofs(context_);
    profile_.read_bytes_per_s = {roofs.read_bytes_per_s, Figure::Origin::measured};
    profile_.flops_per_s = {roofs.flops_per_s, Figure::Origin::measured};
    profile_.link_bytes_per_s = {roofs.link_bytes_per_s, Figure::Origin::measured};
}

}  // namespace

}  // namespace opencl

std::unique_ptr<Device> make_opencl(std::string_view detail) {
    int number = 0;
    if (!detail.empty()) {
        const auto [end, error] = std::from_chars(detail.data(), detail.data() + detail.size(), number);
        if (error != std::errc() || end != detail.data() + detail.size() || number < 0)
            throw usage_error("[opencl] expected a device's number after the colon, got {}", quote(detail));
    }
    const FoundOpenCl found = find_opencl(true);
    if (found.devices.empty()) throw chip_error("", "{}", found.why);
    if (number >= static_cast<int>(found.devices.size()))
        throw usage_error("[opencl] expected a device of this machine ({}), got {}", fmt::join(found.devices, "; "),
                          number);
    return std::make_unique<opencl::OpenClDevice>(number);
}

}  // namespace busbar
