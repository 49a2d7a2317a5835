#include <algorithm>
#include <cmath>
#include <limits>

#include "chips/reference/kernels.h"

namespace busbar::reference {

// One query head over the visible positions of its sequence: scores, softmax, weighted sum of values.
static void one_head(const Call& call, const double* q, int64_t kv_head, int64_t sequence, int64_t position,
                     double* y) {
    const Operand &keys = call.in(1), &values = call.in(2), &block_table = call.in(5);
    const int64_t width = keys.type.shape[1].n, value_width = values.type.shape[1].n;
    const int64_t window = call.step.attributes.integer("window");
    const double scale = call.step.attributes.real("scale");
    const int64_t first = window > 0 ? std::max<int64_t>(0, position - window + 1) : 0;

    double* p = call.scratch.data();  // p[j - first]: of position j
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int64_t j = first; j <= position; ++j) {
        const double* slot = call.slot(keys, block_table, sequence, j);
        double score = 0;
        for (int64_t i = 0; slot && i < width; ++i) score += q[i] * slot[kv_head * width + i];
        p[j - first] = score * scale;
        largest = std::max(largest, p[j - first]);
    }
    for (int64_t j = first; j <= position; ++j) {
        p[j - first] = std::exp(p[j - first] - largest);
        sum += p[j - first];
    }
    std::fill_n(y, value_width, 0.0);
    for (int64_t j = first; j <= position; ++j) {
        const double* slot = call.slot(values, block_table, sequence, j);
        for (int64_t i = 0; slot && i < value_width; ++i) y[i] += p[j - first] / sum * slot[kv_head * value_width + i];
    }
}

void attention(const Call& call) {
    const Operand& q = call.in(0);
    const int64_t heads = q.extents[1], width = q.extents[2], value_width = call.out(0).extents[2];
    const int64_t group = heads / call.in(1).type.shape[0].n;  // query heads that share a key head
    const int32_t *positions = call.indices(call.in(3)), *sequences = call.indices(call.in(4));
    for (int64_t r = 0; r < call.leading(q); ++r)
        for (int64_t h = 0; h < heads; ++h)
            one_head(call, call.reals(q) + (r * heads + h) * width, h / group, sequences[r], positions[r],
                     call.reals(call.out(0)) + (r * heads + h) * value_width);
}

}  // namespace busbar::reference
