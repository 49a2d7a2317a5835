#include "ops/infer.h"

namespace busbar {

Shape broadcast_shapes(const OpRow& op, const Shape& a, const Shape& b) {
    const Shape& longer = a.rank() >= b.rank() ? a : b;
    const Shape& shorter = a.rank() >= b.rank() ? b : a;
    std::vector<Dim> dims = longer.dims();
    const size_t skip = longer.rank() - shorter.rank();
    for (size_t i = 0; i < shorter.rank(); ++i) {
        const Dim& d = shorter[i];
        Dim& out = dims[skip + i];
        if (out == d || d == Dim(1)) continue;
        if (out != Dim(1))
            throw bad_input("", "[{}] expected extents that match or are 1, got {} and {}", op.name, a.print(),
                            b.print());
        out = d;
    }
    return Shape(std::move(dims));
}

std::vector<int64_t> broadcast_strides(const std::vector<int64_t>& extents, const std::vector<int64_t>& over) {
    std::vector<int64_t> strides(over.size(), 0);
    int64_t stride = 1;
    for (size_t i = 0; i < extents.size(); ++i) {
        const size_t axis = extents.size() - 1 - i;
        if (extents[axis] != 1) strides[over.size() - 1 - i] = stride;
        stride *= extents[axis];
    }
    return strides;
}

}  // namespace busbar
