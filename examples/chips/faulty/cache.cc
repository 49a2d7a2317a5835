// The paged cache and attention over it. A page holds 64 positions, each heads x width numbers in the cache's element.
#include <algorithm>
#include <cmath>

#include "faulty.h"

namespace faulty {

namespace {

struct Pages {
    unsigned char* bytes;
    const int32_t* table;
    int64_t pages, sequences, heads, width, count;
    uint32_t element, element_bytes;

    Pages(const Run& r, const busbar_tensor& state, const busbar_tensor& block_table)
        : bytes(state.buffer->bytes + state.offset),
          table(r.indices(block_table)),
          pages(block_table.extents[1]),
          sequences(block_table.extents[0]),
          heads(state.extents[0]),
          width(state.extents[1]),
          element(state.element),
          element_bytes(state.block_bytes) {
        const int64_t page = 64 * heads * width * element_bytes;
        count = page > 0 ? static_cast<int64_t>(state.bytes) / page : 0;
    }
    // The numbers of a position; null where it has no page.
    unsigned char* slot(int64_t sequence, int64_t position) const {
        if (sequence < 0 || sequence >= sequences || position < 0 || position >= 64 * pages) return nullptr;
        const int32_t page = table[sequence * pages + position / 64];
        if (page < 0 || page >= count) return nullptr;
        return bytes + (page * 64 + position % 64) * heads * width * element_bytes;
    }
    float get(const unsigned char* slot, int64_t i) const {
        uint16_t half;
        float x;
        if (element == BUSBAR_F32) {
            std::memcpy(&x, slot + 4 * i, 4);
            return x;
        }
        std::memcpy(&half, slot + 2 * i, 2);
        if (element == BUSBAR_F16) return half_to_float(half);
        const uint32_t bits = static_cast<uint32_t>(half) << 16;
        std::memcpy(&x, &bits, 4);
        return x;
    }
    void put(unsigned char* slot, int64_t i, float x) const {
        if (element == BUSBAR_F32) {
            std::memcpy(slot + 4 * i, &x, 4);
            return;
        }
        const uint16_t half = element == BUSBAR_F16 ? float_to_half(x) : float_to_bfloat(x);
        std::memcpy(slot + 2 * i, &half, 2);
    }
};

bool visible(const Run& r, int64_t position, int64_t other, int64_t window) {
    int64_t distance = position - other;
    if (r.fault("mask_off_by_one")) ++distance;  // sees what comes next, and no longer the last of its window
    return distance >= 0 && (window == 0 || distance < window);
}

}  // namespace

std::string cache(const Run& r) {
    if (r.op.op == BUSBAR_OP_CACHE_MASK) {
        const int32_t *positions = r.indices(r.in(0)), *sequences = r.indices(r.in(1));
        const int64_t context = r.in(2).extents[1] * 64, slots = r.out(0).extents[3], window = r.integer("window");
        int32_t* mask = r.indices(r.out(0));
        for (int64_t row = 0; row < r.leading(r.out(0)); ++row)
            for (int64_t s = 0; s < slots; ++s)
                mask[row * slots + s] =
                    s / context == sequences[row] && visible(r, positions[row], s % context, window);
        return "";
    }
    const bool append = r.op.op == BUSBAR_OP_CACHE_APPEND;
    const Pages state(r, r.in(0), r.in(append ? 4 : 1));
    const int64_t each = state.heads * state.width;
    if (append) {
        const int32_t *positions = r.indices(r.in(2)), *sequences = r.indices(r.in(3));
        for (int64_t row = 0; row < r.leading(r.in(1)); ++row) {
            unsigned char* slot = state.slot(sequences[row], positions[row]);
            if (!slot) return "no page for a position";
            for (int64_t i = 0; i < each; ++i) {
                const float x = r.reals(r.in(1))[row * each + i];
                state.put(slot, i, r.fault("bf16_flush") ? flushed(x) : x);
            }
        }
        return "";
    }
    float* y = r.reals(r.out(0));
    for (int64_t s = 0; s < state.sequences; ++s)
        for (int64_t p = 0; p < 64 * state.pages; ++p, y += each) {
            const unsigned char* slot = state.slot(s, p);
            for (int64_t i = 0; i < each; ++i) y[i] = slot ? state.get(slot, i) : 0;
        }
    return "";
}

namespace {

struct Attention {
    const Run& r;
    Pages keys, values;
    int64_t heads, group, window;
    double scale;

    // All heads of one row. Scores and sums in double, numbers of the cache read once per head group.
    void row(int64_t i) const {
        const int64_t position = r.indices(r.in(3))[i], sequence = r.indices(r.in(4))[i];
        const int64_t width = keys.width, value_width = values.width;
        int64_t first = window > 0 ? std::max<int64_t>(0, position - window + 1) : 0, last = position;
        if (r.fault("mask_off_by_one")) {
            ++last;
            if (window > 0 && first < last - window + 1) first = last - window + 1;
        }
        const auto leaks = r.fault("leak_batch") && sequence > 0 ? static_cast<int64_t>(r.device->fault.size_or(1)) : 0;
        const int64_t n = last - first + 1;
        std::vector<const unsigned char*> k(static_cast<size_t>(n)), v(static_cast<size_t>(n));
        for (int64_t j = 0; j < n; ++j) {
            const int64_t owner = first + j < leaks ? sequence - 1 : sequence;
            k[j] = keys.slot(owner, first + j);
            v[j] = values.slot(owner, first + j);
        }
        std::vector<float> number(static_cast<size_t>(std::max(width, value_width)));
        std::vector<double> p(static_cast<size_t>(n * group)), sum(static_cast<size_t>(value_width));
        for (int64_t head = 0; head < keys.heads; ++head) {
            for (int64_t j = 0; j < n; ++j) {
                if (k[j])
                    for (int64_t d = 0; d < width; ++d) number[d] = keys.get(k[j], head * width + d);
                for (int64_t g = 0; g < group; ++g) {
                    const float* q = r.reals(r.in(0)) + (i * heads + head * group + g) * width;
                    double s[4] = {};
                    if (k[j])
                        for (int64_t d = 0; d < width; ++d) s[d % 4] += static_cast<double>(q[d]) * number[d];
                    p[g * n + j] = ((s[0] + s[1]) + (s[2] + s[3])) * scale;
                }
            }
            for (int64_t g = 0; g < group; ++g) {
                double *weight = p.data() + g * n, most = -INFINITY, all = 0;
                for (int64_t j = 0; j < n; ++j) most = std::max(most, weight[j]);
                for (int64_t j = 0; j < n; ++j) all += weight[j] = std::exp(weight[j] - most);
                std::fill(sum.begin(), sum.end(), 0.0);
                for (int64_t j = 0; j < n; ++j)
                    if (v[j])
                        for (int64_t d = 0; d < value_width; ++d)
                            sum[d] += weight[j] / all * values.get(v[j], head * value_width + d);
                float* y = r.reals(r.out(0)) + (i * heads + head * group + g) * value_width;
                for (int64_t d = 0; d < value_width; ++d) y[d] = static_cast<float>(sum[d]);
            }
        }
        if (r.fault("nan_long") && static_cast<double>(position) > r.device->fault.size_or(300))
            r.reals(r.out(0))[i * heads * value_width] = NAN;
    }
};

}  // namespace

std::string attention(const Run& r) {
    const busbar_tensor& q = r.in(0);
    Pages keys(r, r.in(1), r.in(5)), values(r, r.in(2), r.in(5));
    const Attention a{r, keys, values, q.extents[1], q.extents[1] / keys.heads, r.integer("window"), r.number("scale")};
    r.device->team->share(r.leading(q), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) a.row(i);
    });
    return "";
}

}  // namespace faulty
