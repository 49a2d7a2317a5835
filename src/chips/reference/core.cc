// Core ops that are a formula and no more: numbers into arrays, the op row's own definition, numbers back.
#include <algorithm>

#include "base/check.h"
#include "chips/reference/kernels.h"

namespace busbar::reference {

namespace {

void load(const Call& call, const Operand& from, Array& to) {
    if (!to.extents.empty()) to.extents[0] = call.leading(from);
    if (from.type.kind == Kind::index) {
        std::copy_n(call.indices(from), call.count(from), to.data.data());
    } else {
        std::copy_n(call.reals(from), call.count(from), to.data.data());
    }
}

void store(const Call& call, const Array& from, const Operand& to) {
    const int64_t n = call.count(to);
    if (to.type.kind == Kind::index) {
        auto* words =
            const_cast<int32_t*>(call.indices(to));  // indices() serves the many readers; this is the one writer
        for (int64_t i = 0; i < n; ++i) words[i] = static_cast<int32_t>(from.data[i]);
    } else {
        std::copy_n(from.data.data(), n, call.reals(to));
    }
}

}  // namespace

void core(const Call& call) {
    const OpRow& op = *call.step.row->op;
    const size_t inputs = call.step.inputs.size();
    constexpr size_t most = 4;
    BUSBAR_CHECK(op.evaluate != nullptr && inputs <= most, std::string(op.name));
    const Array* pointers[most] = {};
    for (size_t i = 0; i < inputs; ++i) {
        load(call, call.in(i), call.arrays[i]);
        pointers[i] = &call.arrays[i];
    }
    const std::span<Array> outputs = call.arrays.subspan(inputs);
    for (size_t i = 0; i < outputs.size(); ++i)
        if (!outputs[i].extents.empty()) outputs[i].extents[0] = call.leading(call.out(i));
    op.evaluate({pointers, inputs}, outputs, call.step.attributes);
    for (size_t i = 0; i < outputs.size(); ++i) store(call, outputs[i], call.out(i));
}

}  // namespace busbar::reference
