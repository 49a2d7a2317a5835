#pragma once
#include <memory>
#include <string>
#include <vector>

#include "base/threads.h"
#include "chips/opencl/context.h"
#include "device/device.h"

namespace busbar::opencl {

constexpr int64_t panel_rows = 32;  ///< R of product.cl

/// How an encoding's numbers lie in the chip's form "panels": without loss, in one of a few shapes. What product.cl
/// calls CODE, GROUP, SCALE, MINIMUM, BIAS and TABLE.
struct Shape32 {
    int code = 32, group = 0, scale = 0, minimum = 0, bias = 0, table = 0;
    std::string options() const;
    int per_word() const { return code == 4 ? 8 : code == 8 ? 4 : 1; }
    int word_bytes() const { return code == 16 || code == 17 ? 2 : 4; }
};
Shape32 shape_of(const Encoding& encoding);

/// Bytes from the buffer's start, planes that a shape lacks at 0.
struct Planes {
    uint64_t scales = 0, minimums = 0, small_scales = 0, small_minimums = 0, bytes = 0;
};
Planes planes_of(const Shape32& shape, int64_t rows, int64_t width);

/// The packed bytes of a matrix of `rows` x `width`. Rows past the end of the last panel are zeros.
std::vector<std::byte> pack_panels(const StoredTensor& tensor, ThreadPool& pool);

class Weight : public PackedWeight {
  public:
    Weight(Context& context, const StoredTensor& tensor, ThreadPool& pool);
    ~Weight() override;
    uint64_t bytes() const override { return planes_.bytes; }
    cl_mem memory() const { return memory_; }
    const Shape32& shape() const { return shape_; }
    const Planes& planes() const { return planes_; }

  private:
    Context& context_;
    Shape32 shape_;
    Planes planes_;
    cl_mem memory_ = nullptr;
};

}  // namespace busbar::opencl
