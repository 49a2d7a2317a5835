#include "chips/opencl/measure.h"

#include <algorithm>
#include <chrono>

namespace busbar::opencl {

namespace {

// The best of as many rounds as fit in a tenth of a second, after one that warms up: what disturbs only slows.
template <typename Round>
double best_rate(double work, Round round) {
    using Clock = std::chrono::steady_clock;
    round();
    const auto stop = Clock::now() + std::chrono::milliseconds(100);
    double best = 0;
    do {
        const auto start = Clock::now();
        round();
        best = std::max(best, work / std::chrono::duration<double>(Clock::now() - start).count());
    } while (Clock::now() < stop);
    return best;
}

class Timed {
  public:
    Timed(Context& context, const char* name) : context_(context), kernel_(context.kernel({"roofs", ""}, name)) {}
    ~Timed() { context_.cl().ReleaseKernel(kernel_); }
    template <typename T>
    void set(cl_uint i, T value) {
        check(context_.cl().SetKernelArg(kernel_, i, sizeof value, &value), "setting an argument", "roofs.cl");
    }
    void run(size_t items, size_t group) {
        check(context_.cl().EnqueueNDRangeKernel(context_.queue(), kernel_, 1, nullptr, &items, &group, 0, nullptr,
                                                 nullptr),
              "starting a kernel", "roofs.cl");
        check(context_.cl().Finish(context_.queue()), "measuring", "roofs.cl");
    }

  private:
    Context& context_;
    cl_kernel kernel_;
};

}  // namespace

Roofs measure_roofs(Context& context) {
    const Limits& l = context.limits();
    const size_t group = std::min<size_t>(l.is_cpu ? 1 : 256, l.largest_group);
    const size_t items = group * static_cast<size_t>(l.units) * (l.is_cpu ? 4 : 16);
    uint64_t bytes = std::min<uint64_t>(256u << 20, std::min(l.largest_buffer, l.memory / 4));
    const uint64_t each = bytes / items / (4 * l.vector);  // vectors per work-item
    bytes = each * items * 4 * l.vector;
    const DeviceBuffer buffer(context, bytes), out(context, 64);
    const cl_float zero = 0;
    check(context.cl().EnqueueFillBuffer(context.queue(), buffer.memory(), &zero, 4, 0, bytes, 0, nullptr, nullptr),
          "clearing a buffer");
    Roofs roofs;
    Timed read(context, "read_");
    read.set(0, buffer.memory());
    read.set(1, out.memory());
    read.set(2,
             static_cast<cl_int>(l.is_cpu ? each : 1));  // a processor's cores stream, a GPU's items stand side by side
    read.set(3, static_cast<cl_int>(l.is_cpu ? 1 : items));
    read.set(4, static_cast<cl_int>(each));
    roofs.read_bytes_per_s = best_rate(static_cast<double>(bytes), [&] { read.run(items, group); });
    Timed multiply(context, "multiply_");
    const int count = 4096;
    multiply.set(0, out.memory());
    multiply.set(1, static_cast<cl_int>(count));
    multiply.set(2, static_cast<cl_float>(0.25f));
    roofs.flops_per_s =
        best_rate(16.0 * count * l.vector * static_cast<double>(items), [&] { multiply.run(items, group); });
    std::vector<std::byte> host(std::min<uint64_t>(bytes, 32u << 20));
    roofs.link_bytes_per_s = best_rate(static_cast<double>(host.size()), [&] {
        check(context.cl().EnqueueReadBuffer(context.queue(), buffer.memory(), CL_TRUE, 0, host.size(), host.data(), 0,
                                             nullptr, nullptr),
              "reading a buffer");
    });
    return roofs;
}

}  // namespace busbar::opencl
