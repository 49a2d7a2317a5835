#include "chips/cpu/step.h"

#include "base/check.h"

namespace busbar::cpu {

const float* Weight::floats() const {
    const StoredTensor& t = *tensor_;
    if (t.encoding == &encoding_f32 && reinterpret_cast<uintptr_t>(t.bytes.data()) % alignof(float) == 0)
        return reinterpret_cast<const float*>(t.bytes.data());
    if (floats_.empty() && t.count() > 0) {
        floats_.resize(t.count());
        t.encoding->decode(t.bytes.data(), floats_.data(), t.count() / t.encoding->block);
    }
    return floats_.data();
}

void Run::fail(const Step& step, const char* what) const {
    const Step* none = nullptr;
    if (failed.compare_exchange_strong(none, &step)) failure.store(what);
}

Place::Place(const Operand& o) : kind_(o.type.kind), rank_(o.extents.size()), extents_(o.extents) {
    switch (o.where) {
        case Operand::Where::buffer:
            BUSBAR_CHECK(o.buffer != nullptr && o.buffer->host() != nullptr && o.offset <= o.buffer->bytes(),
                         "an operand without its buffer");
            base_ = static_cast<std::byte*>(o.buffer->host()) + o.offset;
            break;
        case Operand::Where::weight:
            BUSBAR_CHECK(dynamic_cast<const Weight*>(o.weight) != nullptr, "a weight that another chip packed");
            base_ = reinterpret_cast<std::byte*>(const_cast<float*>(static_cast<const Weight*>(o.weight)->floats()));
            break;
        case Operand::Where::step:
            words_ = static_cast<int64_t>(o.offset);
            break;
    }
    if (rank_ > 0 && o.type.kind != Kind::state) {
        symbol_ = o.type.shape[0].symbol;
        first_ = extents_[0];
        width_ = extents_.back();
        for (size_t i = 1; i < rank_; ++i) inner_ *= extents_[i];
    }
}

int64_t page_elements(const std::vector<int64_t>& state_extents) {
    return state_extents[0] * state_extents[1] * page_positions;
}

PageElement page_element(Element element) {
    switch (element) {
        case Element::f32:
            return PageElement::f32;
        case Element::f16:
            return PageElement::f16;
        case Element::bf16:
            return PageElement::bf16;
        default:
            break;
    }
    BUSBAR_CHECK(false, "a state kept in an element that the profile does not offer");
    return PageElement::f32;
}

}  // namespace busbar::cpu
