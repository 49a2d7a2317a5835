// Attention cut into units: a block of neighbouring rows of one sequence, for one key head. A unit goes over the
// sequence in ranges at fixed positions and folds them in order; where there are fewer units than threads could use,
// the ranges become units and are folded in a second phase. The arithmetic is the same both ways.
#include <algorithm>

#include "base/check.h"
#include "chips/cpu/cache.h"

namespace busbar::cpu {

namespace {

class AttentionStep : public Step {
  public:
    explicit AttentionStep(const Prepare& p)
        : kernels_(p.kernels),
          threads_(p.threads),
          q_(p.in(0)),
          keys_(p.step.inputs[1]),
          values_(p.step.inputs[2]),
          positions_(p.in(3)),
          sequences_(p.in(4)),
          table_(p.in(5)),
          y_(p.out(0)),
          scale_(static_cast<float>(p.step.attributes.real("scale"))),
          window_(p.step.attributes.integer("window")) {
        BUSBAR_CHECK(keys_.transposed && !values_.transposed, "attention over states without their roles");
        group_ = q_.extent(1) / keys_.heads;
        block_rows_ = std::clamp<int64_t>(64 / group_, 1, attention_rows);
        ranges_ = units_of(table_.extent(1) * page_positions, attention_range);
        if (threads_ > 1 && keys_.heads < 2 * threads_ && ranges_ > 1)
            partials_ = split_rows * keys_.heads * ranges_ * partial_floats(group_);
    }
    int phases() const override { return partials_ == 0 ? 1 : 2; }
    size_t shared_bytes() const override { return partials_ * sizeof(float); }
    bool units_read_memory() const override { return !positions_.in_step() || !sequences_.in_step(); }

    int64_t units(const Run& run, int phase) const override {
        const bool split = is_split(run);
        if (phase == 1) return split ? q_.leading(run) * keys_.heads : 0;
        return split ? q_.leading(run) * keys_.heads * ranges_in_use(run) : count_blocks(run) * keys_.heads;
    }

    void work(const Run& run, int phase, int64_t unit, float* scratch) const override {
        if (!is_split(run)) {
            const int64_t index = unit / keys_.heads;
            whole(run, find_block(run, index), unit % keys_.heads, scratch);
        } else if (phase == 0) {
            const int64_t ranges = ranges_in_use(run), row_head = unit / ranges;
            part(run, {row_head / keys_.heads, 1}, row_head % keys_.heads, unit % ranges,
                 partial(run, row_head, unit % ranges), scratch);
        } else {
            const int64_t ranges = ranges_in_use(run);
            const Partial first = partial(run, unit, 0);
            for (int64_t range = 1; range < ranges; ++range) merge(first, partial(run, unit, range), group_);
            write(run, {unit / keys_.heads, 1}, unit % keys_.heads, first);
        }
    }

    size_t scratch_floats() const override {
        return attention_scratch(group_) + 2 * partial_floats(block_rows_ * group_);
    }

  private:
    static constexpr int64_t split_rows = 2;
    struct Rows {
        int64_t first, count;
    };
    struct Partial {
        float *maximum, *sum, *weighted;
    };
    int64_t partial_floats(int64_t queries) const {
        return static_cast<int64_t>(round_up(queries * (2 + values_.width), 16));
    }
    Partial partial_at(float* p, int64_t queries) const { return {p, p + queries, p + 2 * queries}; }
    // What phase 0 leaves for phase 1.
    Partial partial(const Run& run, int64_t row_head, int64_t range) const {
        return partial_at(reinterpret_cast<float*>(run.shared) + (row_head * ranges_ + range) * partial_floats(group_),
                          group_);
    }
    void merge(const Partial& to, const Partial& later, int64_t queries) const {
        kernels_.attention_merge(to.maximum, to.sum, to.weighted, later.maximum, later.sum, later.weighted, queries,
                                 values_.width);
    }

    // Neighbouring rows of one sequence, at most block_rows_.
    Rows next_block(const Run& run, int64_t first) const {
        const int64_t rows = q_.leading(run), limit = std::min(rows, first + block_rows_);
        const int32_t* sequences = sequences_.indices(run);
        int64_t end = first + 1;
        while (end < limit && sequences[end] == sequences[first]) ++end;
        return {first, end - first};
    }
    int64_t count_blocks(const Run& run) const {
        int64_t n = 0;
        for (int64_t row = 0; row < q_.leading(run); row += next_block(run, row).count) ++n;
        return n;
    }
    Rows find_block(const Run& run, int64_t index) const {
        Rows block = next_block(run, 0);
        for (; index > 0; --index) block = next_block(run, block.first + block.count);
        return block;
    }
    int64_t longest(const Run& run, Rows rows) const {
        int64_t n = 0;
        for (int64_t r = 0; r < rows.count; ++r) n = std::max<int64_t>(n, positions_.indices(run)[rows.first + r] + 1);
        return n;
    }
    // Pages that a window has passed for all rows may be gone.
    int64_t first_page(const Run& run, Rows rows) const {
        if (window_ == 0) return 0;
        int64_t least = positions_.indices(run)[rows.first];
        for (int64_t r = 1; r < rows.count; ++r)
            least = std::min<int64_t>(least, positions_.indices(run)[rows.first + r]);
        return std::max<int64_t>(0, least - window_ + 1) / page_positions;
    }
    int64_t ranges_in_use(const Run& run) const {
        return std::min(ranges_, units_of(longest(run, {0, q_.leading(run)}), attention_range));
    }
    bool is_split(const Run& run) const {
        const int64_t rows = q_.leading(run);
        return partials_ != 0 && rows <= split_rows && rows * keys_.heads < 2 * threads_ && ranges_in_use(run) > 1;
    }

    // One range of positions for one block of rows.
    void part(const Run& run, Rows rows, int64_t kv_head, int64_t range, const Partial& to, float* scratch) const {
        const int64_t sequence = sequences_.indices(run)[rows.first],
                      end = std::min(longest(run, rows), (range + 1) * attention_range);
        const int32_t* positions = positions_.indices(run) + rows.first;
        const int64_t begin = std::max(range * attention_range, first_page(run, rows) * page_positions);
        const bool known = sequence >= 0 && sequence < table_.extent(0) && end <= table_.extent(1) * page_positions;
        const int32_t* pages = known ? table_.indices(run) + sequence * table_.extent(1) : nullptr;
        bool whole = known;
        for (int64_t page = begin / page_positions; whole && page * page_positions < end; ++page)
            whole = keys_.has(pages[page]) && values_.has(pages[page]);
        if (!whole) run.fail(*this, "a position without a page");
        AttentionBlock b;
        b.q = q_.reals(run) + rows.first * q_.inner() + kv_head * group_ * keys_.width;
        b.q_stride = q_.inner();
        b.rows = rows.count;
        b.group = group_;
        b.width = keys_.width;
        b.value_width = values_.width;
        b.positions = positions;
        b.window = window_;
        b.scale = scale_;
        b.begin = begin;
        b.end = whole ? end : begin;
        b.pages = pages;
        b.keys = keys_.at(0, kv_head);
        b.key_page_bytes = keys_.page_bytes();
        b.values = values_.at(0, kv_head);
        b.value_page_bytes = values_.page_bytes();
        if (whole && end < longest(run, rows)) b.after = keys_.at(pages[end / page_positions], kv_head);
        b.maximum = to.maximum;
        b.sum = to.sum;
        b.weighted = to.weighted;
        b.scratch = scratch;
        kernels_.attention(keys_.element, values_.element, b);
    }

    void whole(const Run& run, Rows rows, int64_t kv_head, float* scratch) const {
        const int64_t queries = rows.count * group_,
                      ranges = std::min(ranges_, units_of(longest(run, rows), attention_range));
        float* memory = scratch + attention_scratch(group_);
        const Partial first = partial_at(memory, queries),
                      later = partial_at(memory + partial_floats(block_rows_ * group_), queries);
        const int64_t seen = first_page(run, rows) * page_positions / attention_range;
        part(run, rows, kv_head, seen, first, scratch);
        for (int64_t range = seen + 1; range < ranges; ++range) {
            part(run, rows, kv_head, range, later, scratch);
            merge(first, later, queries);
        }
        write(run, rows, kv_head, first);
    }

    void write(const Run& run, Rows rows, int64_t kv_head, const Partial& p) const {
        const int64_t width = values_.width;
        for (int64_t i = 0; i < rows.count * group_; ++i) {
            float* y =
                y_.reals(run) + ((rows.first + i / group_) * q_.extent(1) + kv_head * group_ + i % group_) * width;
            for (int64_t d = 0; d < width; ++d) y[d] = p.weighted[i * width + d] / p.sum[i];
        }
    }

    const Kernels& kernels_;
    int threads_;
    Place q_;
    Cache keys_, values_;
    Place positions_, sequences_, table_, y_;
    float scale_;
    int64_t window_, group_ = 1, block_rows_ = 1, ranges_ = 1;
    int64_t partials_ = 0;  // floats; each unit writes its own
};

}  // namespace

std::unique_ptr<Step> make_attention(const Prepare& p) {
    return std::make_unique<AttentionStep>(p);
}

}  // namespace busbar::cpu
