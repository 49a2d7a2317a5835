#include "chips/cpu/cache.h"

#include <cstring>

#include "base/check.h"
#include "dtype/element.h"

namespace busbar::cpu {

Cache::Cache(const Operand& state)
    : heads(state.extents[0]),
      width(state.extents[1]),
      element_bytes(bytes_of(state.element)),
      element(page_element(state.element)),
      transposed(state.type.role == StateRole::key) {
    BUSBAR_CHECK(state.where == Operand::Where::buffer && state.buffer != nullptr, "a state outside a buffer");
    base = static_cast<std::byte*>(state.buffer->host()) + state.offset;
    pages = page_bytes() == 0 ? 0 : static_cast<int64_t>((state.buffer->bytes() - state.offset) / page_bytes());
}

namespace {

class AppendStep : public Step {
  public:
    explicit AppendStep(const Prepare& p)
        : cache_(p.step.inputs[0]),
          x_(p.in(1)),
          positions_(p.in(2)),
          sequences_(p.in(3)),
          table_(p.in(4)),
          narrow_(p.kernels.narrow) {}
    // Few rows are one unit. Many are split by heads, whose memory is apart.
    int64_t units(const Run& run, int) const override {
        const int64_t rows = x_.leading(run);
        return rows == 0 ? 0 : rows < 16 ? 1 : cache_.heads;
    }
    void work(const Run& run, int, int64_t unit, float* scratch) const override {
        const int64_t rows = x_.leading(run);
        const int64_t first = rows < 16 ? 0 : unit, last = rows < 16 ? cache_.heads : unit + 1;
        for (int64_t row = 0; row < rows; ++row) {
            const int64_t position = positions_.indices(run)[row], sequence = sequences_.indices(run)[row];
            const bool inside = position >= 0 && position / page_positions < table_.extent(1) && sequence >= 0 &&
                                sequence < table_.extent(0);
            const int64_t page =
                inside ? table_.indices(run)[sequence * table_.extent(1) + position / page_positions] : -1;
            if (!cache_.has(page)) {
                run.fail(*this, "a position without a page");
                continue;
            }
            const int64_t slot = position % page_positions;
            for (int64_t head = first; head < last; ++head)
                append(x_.reals(run) + (row * cache_.heads + head) * cache_.width, cache_.at(page, head), slot,
                       scratch);
        }
    }
    size_t scratch_floats() const override { return cache_.width; }

  private:
    void append(const float* x, std::byte* page, int64_t slot, float* scratch) const {
        if (!cache_.transposed) {
            narrow_(cache_.element, x, page + slot * cache_.width * cache_.element_bytes, cache_.width);
            return;
        }
        narrow_(cache_.element, x, scratch, cache_.width);
        if (cache_.element_bytes == 4) {
            auto* to = reinterpret_cast<uint32_t*>(page) + slot;
            for (int64_t d = 0; d < cache_.width; ++d) std::memcpy(to + d * page_positions, scratch + d, 4);
        } else {
            auto* to = reinterpret_cast<uint16_t*>(page) + slot;
            const char* from = reinterpret_cast<const char*>(scratch);
            for (int64_t d = 0; d < cache_.width; ++d) std::memcpy(to + d * page_positions, from + 2 * d, 2);
        }
    }
    Cache cache_;
    Place x_, positions_, sequences_, table_;
    void (*narrow_)(PageElement, const float*, void*, int64_t);
};

// For definitions: all pages of the table as one dense array.
class CacheGatherStep : public Step {
  public:
    explicit CacheGatherStep(const Prepare& p) : cache_(p.step.inputs[0]), table_(p.in(1)), y_(p.out(0)) {}
    int64_t units(const Run& run, int) const override {
        return std::min(table_.count(run), y_.extent(0) / page_positions);
    }
    void work(const Run& run, int, int64_t unit, float*) const override {
        const int64_t page = table_.indices(run)[unit], row = cache_.heads * cache_.width;
        float* y = y_.reals(run) + unit * page_positions * row;
        if (!cache_.has(page)) {
            std::memset(y, 0, page_positions * row * sizeof(float));
            return;
        }
        for (int64_t head = 0; head < cache_.heads; ++head) {
            const std::byte* from = cache_.at(page, head);
            for (int64_t slot = 0; slot < page_positions; ++slot)
                for (int64_t d = 0; d < cache_.width; ++d)
                    y[slot * row + head * cache_.width + d] =
                        number(from, cache_.transposed ? d * page_positions + slot : slot * cache_.width + d);
        }
    }

  private:
    float number(const std::byte* p, int64_t at) const {
        if (cache_.element == PageElement::f32) return load<float>(p + 4 * at);
        const auto bits = load<uint16_t>(p + 2 * at);
        return cache_.element == PageElement::f16 ? f16_to_f32(bits) : bf16_to_f32(bits);
    }
    Cache cache_;
    Place table_, y_;
};

class CacheMaskStep : public Step {
  public:
    explicit CacheMaskStep(const Prepare& p)
        : positions_(p.in(0)),
          sequences_(p.in(1)),
          table_(p.in(2)),
          mask_(p.out(0)),
          window_(p.step.attributes.integer("window")) {}
    int64_t units(const Run& run, int) const override { return mask_.leading(run); }
    void work(const Run& run, int, int64_t row, float*) const override {
        const int64_t slots = mask_.width(), context = table_.extent(1) * page_positions;
        int32_t* mask = mask_.indices(run) + row * slots;
        for (int64_t slot = 0; slot < slots; ++slot) {
            const int64_t distance = positions_.indices(run)[row] - slot % context;
            mask[slot] =
                slot / context == sequences_.indices(run)[row] && distance >= 0 && (window_ == 0 || distance < window_);
        }
    }

  private:
    Place positions_, sequences_, table_, mask_;
    int64_t window_;
};

}  // namespace

std::unique_ptr<Step> make_cache_append(const Prepare& p) {
    return std::make_unique<AppendStep>(p);
}
std::unique_ptr<Step> make_cache_gather(const Prepare& p) {
    return std::make_unique<CacheGatherStep>(p);
}
std::unique_ptr<Step> make_cache_mask(const Prepare& p) {
    return std::make_unique<CacheMaskStep>(p);
}

}  // namespace busbar::cpu
