#pragma once
#include "chips/cpu/step.h"

namespace busbar::cpu {

/// A paged state on this chip. A page holds 64 positions of all heads: keys as [heads][width][64], so that the scores
/// of neighbouring positions lie in neighbouring lanes; everything else as [heads][64][width].
struct Cache {
    explicit Cache(const Operand& state);
    bool has(int64_t page) const { return page >= 0 && page < pages; }
    int64_t head_elements() const { return width * page_positions; }
    std::byte* at(int64_t page, int64_t head) const {
        return base + (page * heads + head) * head_elements() * element_bytes;
    }
    size_t page_bytes() const { return heads * head_elements() * element_bytes; }

    std::byte* base = nullptr;
    int64_t heads = 0, width = 0, pages = 0;
    size_t element_bytes = 4;
    PageElement element = PageElement::f32;
    bool transposed = false;
};

}  // namespace busbar::cpu
