// The ops, each as its definition has it.
#include <algorithm>
#include <cmath>

#include "faulty.h"

namespace faulty {

int64_t Run::leading(const busbar_tensor& t) const {
    if (t.leading == BUSBAR_LEADING_ROWS) return words()[step.rows];
    if (t.leading == BUSBAR_LEADING_LOGIT_ROWS) return words()[step.logit_rows];
    return t.rank > 0 ? t.extents[0] : 1;
}

int64_t Run::count(const busbar_tensor& t) const {
    int64_t n = leading(t);
    for (uint32_t axis = 1; axis < t.rank; ++axis) n *= t.extents[axis];
    return n;
}

int64_t Run::rows(const busbar_tensor& t) const {
    if (t.rank < 2) return 1;
    int64_t n = leading(t);
    for (uint32_t axis = 1; axis + 1 < t.rank; ++axis) n *= t.extents[axis];
    return n;
}

int32_t* Run::indices(const busbar_tensor& t) const {
    if (t.where == BUSBAR_IN_STEP) return const_cast<int32_t*>(words()) + t.offset;
    return reinterpret_cast<int32_t*>(t.buffer->bytes + t.offset);
}

const float* Run::matrix(const busbar_tensor& t) const {
    if (t.where != BUSBAR_IN_WEIGHT) return reals(t);
    if (hit && device->fault.is("layer_swap")) {
        const int64_t layer = layer_in(t.weight->name.c_str()), first = std::max<int64_t>(device->fault.layer, 0);
        const std::string mine = "." + std::to_string(layer) + ".";
        std::string other = t.weight->name;
        if (const size_t at = other.find(mine); layer >= 0 && at != std::string::npos) {
            other.replace(at, mine.size(), "." + std::to_string(layer == first ? first + 1 : first) + ".");
            const auto found = device->weights.find(other);
            if (found != device->weights.end() && found->second->numbers.size() == t.weight->numbers.size())
                return found->second->numbers.data();
        }
    }
    return t.weight->numbers.data();
}

const busbar_attribute& Run::attribute(const char* name) const {
    static const busbar_attribute none = {};
    for (uint32_t i = 0; i < op.attribute_count; ++i)
        if (std::strcmp(op.attributes[i]->name, name) == 0) return *op.attributes[i];
    return none;
}

namespace {

// Strides of a tensor over the output's axes, 0 where it stretches; a leading extent in use counts as the output's.
std::vector<int64_t> stretched(const busbar_tensor& t, uint32_t rank) {
    std::vector<int64_t> strides(rank, 0);
    int64_t stride = 1;
    for (uint32_t i = 0; i < t.rank; ++i) {
        const uint32_t axis = t.rank - 1 - i;
        if (t.extents[axis] != 1) strides[rank - 1 - i] = stride;
        stride *= t.extents[axis];
    }
    return strides;
}

// Calls f(i, at) for each number i of the output, `at` the places in the inputs.
template <typename F>
void broadcast(const Run& r, F f) {
    const busbar_tensor& y = r.out(0);
    std::vector<std::vector<int64_t>> strides;
    for (uint32_t i = 0; i < r.op.input_count; ++i) strides.push_back(stretched(r.in(i), y.rank));
    const int64_t n = r.count(y);
    int64_t at[3] = {};
    for (int64_t i = 0; i < n; ++i) {
        int64_t rest = i;
        at[0] = at[1] = at[2] = 0;
        for (uint32_t axis = y.rank; axis-- > 0;) {
            const int64_t here = axis == 0 ? rest : rest % y.extents[axis];
            rest = axis == 0 ? 0 : rest / y.extents[axis];
            for (uint32_t k = 0; k < r.op.input_count; ++k) at[k] += here * strides[k][axis];
        }
        f(i, at);
    }
}

float silu(float x) {
    return static_cast<float>(static_cast<double>(x) / (1 + std::exp(-static_cast<double>(x))));
}

}  // namespace

std::string elementwise(const Run& r) {
    float* y = r.reals(r.out(0));
    const float* a = r.reals(r.in(0));
    const int64_t n = r.count(r.out(0));
    const auto each = [&](auto f) {
        for (int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(f(static_cast<double>(a[i])));
    };
    const auto two = [&](auto f) {
        const float* b = r.reals(r.in(1));
        broadcast(r, [&](int64_t i, const int64_t* at) { y[i] = f(a[at[0]], b[at[1]]); });
    };
    switch (r.op.op) {
        case BUSBAR_OP_ADD:
            two([](float p, float q) { return p + q; });
            break;
        case BUSBAR_OP_SUBTRACT:
            two([](float p, float q) { return p - q; });
            break;
        case BUSBAR_OP_MULTIPLY:
            two([](float p, float q) { return p * q; });
            break;
        case BUSBAR_OP_DIVIDE:
            two([](float p, float q) { return p / q; });
            break;
        case BUSBAR_OP_EXP:
            each([](double x) { return std::exp(x); });
            break;
        case BUSBAR_OP_RSQRT:
            each([](double x) { return 1 / std::sqrt(x); });
            break;
        case BUSBAR_OP_COS:
            each([](double x) { return std::cos(x); });
            break;
        case BUSBAR_OP_SIN:
            each([](double x) { return std::sin(x); });
            break;
        case BUSBAR_OP_SILU:
            for (int64_t i = 0; i < n; ++i) y[i] = silu(a[i]);
            break;
        case BUSBAR_OP_GATED_SILU: {
            const float* up = r.reals(r.in(1));
            for (int64_t i = 0; i < n; ++i)
                y[i] =
                    static_cast<float>(static_cast<double>(a[i]) / (1 + std::exp(-static_cast<double>(a[i]))) * up[i]);
            break;
        }
        default:
            return "no such op";
    }
    if (r.fault("bf16_flush"))
        for (int64_t i = 0; i < n; ++i) y[i] = flushed(y[i]);
    return "";
}

std::string move(const Run& r) {
    const busbar_tensor &x = r.in(0), &out = r.out(0);
    const int64_t n = r.count(out);
    // Words of 32 bits: reals and indices move alike.
    auto* y = reinterpret_cast<int32_t*>(out.buffer->bytes + out.offset);
    switch (r.op.op) {
        case BUSBAR_OP_GATHER_ROWS: {
            const int64_t width = x.extents[1], entries = r.leading(x);
            const int32_t* ids = r.indices(r.in(1));
            const auto* table =
                x.where == BUSBAR_IN_WEIGHT ? reinterpret_cast<const int32_t*>(r.matrix(x)) : r.indices(x);
            for (int64_t i = 0; i < r.leading(out); ++i) {
                if (ids[i] < 0 || ids[i] >= entries) return "an id outside the table";
                std::memcpy(y + i * width, table + ids[i] * width, static_cast<size_t>(width) * 4);
            }
            return "";
        }
        case BUSBAR_OP_TRANSPOSE: {
            const int64_t* order = r.attribute("order").integers;
            std::vector<int64_t> strides(x.rank, 1);
            for (uint32_t i = 0; i < x.rank; ++i)
                for (auto axis = static_cast<uint32_t>(order[i]) + 1; axis < x.rank; ++axis)
                    strides[i] *= x.extents[axis];
            // Counted at capacity: the axis that is bounded may be anywhere.
            int64_t all = 1;
            for (uint32_t axis = 0; axis < out.rank; ++axis) all *= out.extents[axis];
            for (int64_t i = 0; i < all; ++i) {
                int64_t rest = i, from = 0;
                for (uint32_t axis = out.rank; axis-- > 0; rest /= out.extents[axis])
                    from += rest % out.extents[axis] * strides[axis];
                y[i] = r.indices(x)[from];
            }
            return "";
        }
        case BUSBAR_OP_SLICE: {
            const int64_t begin = r.integer("begin"), by = r.integer("step"), from = x.extents[x.rank - 1],
                          to = out.extents[out.rank - 1];
            for (int64_t i = 0; i < n; ++i) y[i] = r.indices(x)[i / to * from + begin + i % to * by];
            return "";
        }
        case BUSBAR_OP_CONCAT: {
            const busbar_tensor& b = r.in(1);
            const int64_t p = x.extents[x.rank - 1], q = b.extents[b.rank - 1];
            for (int64_t i = 0; i < n; ++i) {
                const int64_t row = i / (p + q), at = i % (p + q);
                y[i] = at < p ? r.indices(x)[row * p + at] : r.indices(b)[row * q + at - p];
            }
            return "";
        }
        case BUSBAR_OP_SELECT: {
            const int32_t *mask = r.indices(x), *a = r.indices(r.in(1)), *b = r.indices(r.in(2));
            const bool whole[2] = {r.in(1).kind == BUSBAR_INDEX, r.in(2).kind == BUSBAR_INDEX};
            broadcast(r, [&](int64_t i, const int64_t* at) {
                const bool first = mask[at[0]] != 0;
                const int32_t word = first ? a[at[1]] : b[at[2]];
                y[i] = word;
                if (whole[first ? 0 : 1]) {  // whole numbers become real
                    const auto real = static_cast<float>(word);
                    std::memcpy(y + i, &real, 4);
                }
            });
            return "";
        }
        default:
            return "no such op";
    }
}

std::string by_rows(const Run& r) {
    const bool adds = r.op.op == BUSBAR_OP_ADD_RMS_NORM;
    const busbar_tensor& t = r.in(0);
    const int64_t width = t.rank > 0 ? t.extents[t.rank - 1] : 1, rows = r.rows(t);
    double epsilon = r.number("epsilon");
    if (r.fault("eps_wrong")) epsilon = r.device->fault.size_or(epsilon == 1e-6 ? 1e-5 : 1e-6);
    const bool norm = adds || r.op.op == BUSBAR_OP_RMS_NORM;
    const float* weight = norm ? r.reals(r.in(adds ? 2 : 1)) : nullptr;
    float* out = r.reals(r.out(norm && adds ? 1 : 0));
    std::vector<double> e(static_cast<size_t>(width));
    for (int64_t row = 0; row < rows; ++row) {
        const float* x = r.reals(t) + row * width;
        double sum = 0, most = -INFINITY;
        if (norm) {
            if (adds) {
                float* s = r.reals(r.out(0)) + row * width;
                const float* delta = r.reals(r.in(1)) + row * width;
                for (int64_t i = 0; i < width; ++i) s[i] = x[i] + delta[i];
                x = s;
            }
            for (int64_t i = 0; i < width; ++i) sum += static_cast<double>(x[i]) * x[i];
            const double factor = 1 / std::sqrt(sum / static_cast<double>(width) + epsilon);
            for (int64_t i = 0; i < width; ++i) out[row * width + i] = static_cast<float>(x[i] * factor * weight[i]);
            continue;
        }
        for (int64_t i = 0; i < width; ++i) {
            sum += x[i];
            if (!(x[i] <= most)) most = x[i];  // also for NaN, and then nothing is larger
            if (most != most) break;
        }
        if (r.op.op == BUSBAR_OP_SUM) out[row] = static_cast<float>(sum);
        if (r.op.op == BUSBAR_OP_MEAN) out[row] = static_cast<float>(sum / static_cast<double>(width));
        if (r.op.op == BUSBAR_OP_MAX) out[row] = static_cast<float>(most);
        if (r.op.op != BUSBAR_OP_SOFTMAX) continue;
        double all = 0;
        for (int64_t i = 0; i < width; ++i) all += e[i] = std::exp(x[i] - most);
        for (int64_t i = 0; i < width; ++i) out[row * width + i] = static_cast<float>(e[i] / all);
    }
    return "";
}

std::string rotary(const Run& r) {
    if (r.op.op == BUSBAR_OP_ROTARY_TABLE) {
        const int64_t angles = r.in(1).extents[0];
        const int32_t* positions = r.indices(r.in(0));
        const float* frequencies = r.reals(r.in(1));
        const double scale = r.number("scale");
        for (int64_t row = 0; row < r.leading(r.in(0)); ++row)
            for (int64_t i = 0; i < angles; ++i) {
                const double angle = static_cast<double>(positions[row]) * frequencies[i];
                r.reals(r.out(0))[row * angles + i] = static_cast<float>(std::cos(angle) * scale);
                r.reals(r.out(1))[row * angles + i] = static_cast<float>(std::sin(angle) * scale);
            }
        return "";
    }
    const busbar_tensor& x = r.in(0);
    const int64_t heads = x.extents[1], width = x.extents[2], angles = r.in(1).extents[1];
    bool neighbours = std::strcmp(r.attribute("pairing").word, "interleaved") == 0;
    if (r.fault("rope_layout")) neighbours = !neighbours;
    for (int64_t row = 0; row < r.leading(x); ++row)
        for (int64_t h = 0; h < heads; ++h) {
            const float* from = r.reals(x) + (row * heads + h) * width;
            float* to = r.reals(r.out(0)) + (row * heads + h) * width;
            const float *cos = r.reals(r.in(1)) + row * angles, *sin = r.reals(r.in(2)) + row * angles;
            for (int64_t i = 0; i < angles; ++i) {
                const int64_t p = neighbours ? 2 * i : i, q = neighbours ? p + 1 : i + angles;
                const double a = from[p], b = from[q];
                to[p] = static_cast<float>(a * cos[i] - b * sin[i]);
                to[q] = static_cast<float>(b * cos[i] + a * sin[i]);
            }
            for (int64_t i = 2 * angles; i < width; ++i) to[i] = from[i];
        }
    return "";
}

std::string product(const Run& r) {
    const busbar_tensor& x = r.in(0);
    if (r.op.op == BUSBAR_OP_BATCH_MATMUL) {
        const busbar_tensor &b = r.in(1), &y = r.out(0);
        const int64_t m = y.extents[y.rank - 2], n = y.extents[y.rank - 1], width = x.extents[x.rank - 1];
        busbar_tensor batch_a = x, batch_b = b;
        batch_a.rank -= 2;
        batch_b.rank -= 2;
        const uint32_t axes = y.rank - 2;
        const auto strides_a = stretched(batch_a, axes), strides_b = stretched(batch_b, axes);
        int64_t batches = 1;
        for (uint32_t axis = 0; axis < axes; ++axis) batches *= axis == 0 ? r.leading(y) : y.extents[axis];
        const int64_t rows = axes == 0 ? r.leading(y) : m;
        for (int64_t i = 0; i < batches; ++i) {
            int64_t rest = i, at_a = 0, at_b = 0;
            for (uint32_t axis = axes; axis-- > 0;) {
                const int64_t here = axis == 0 ? rest : rest % y.extents[axis];
                rest = axis == 0 ? 0 : rest / y.extents[axis];
                at_a += here * strides_a[axis];
                at_b += here * strides_b[axis];
            }
            const float *pa = r.reals(x) + at_a * m * width, *pb = r.reals(b) + at_b * width * n;
            for (int64_t row = 0; row < rows; ++row)
                for (int64_t c = 0; c < n; ++c) {
                    double s = 0;
                    for (int64_t k = 0; k < width; ++k) s += static_cast<double>(pa[row * width + k]) * pb[k * n + c];
                    r.reals(y)[(i * m + row) * n + c] = static_cast<float>(s);
                }
        }
        return "";
    }
    for (uint32_t i = 0; i < r.op.output_count; ++i) {
        const busbar_tensor& w = r.in(i + 1);
        (r.fault("half_accumulate") ? multiply_in_half : multiply)(*r.device->team, r.reals(x), r.rows(x), r.matrix(w),
                                                                   w.extents[0], w.extents[1], r.reals(r.out(i)));
    }
    return "";
}

std::string run(const Run& r) {
    switch (r.op.op) {
        case BUSBAR_OP_ADD:
        case BUSBAR_OP_SUBTRACT:
        case BUSBAR_OP_MULTIPLY:
        case BUSBAR_OP_DIVIDE:
        case BUSBAR_OP_EXP:
        case BUSBAR_OP_RSQRT:
        case BUSBAR_OP_COS:
        case BUSBAR_OP_SIN:
        case BUSBAR_OP_SILU:
        case BUSBAR_OP_GATED_SILU:
            return elementwise(r);
        case BUSBAR_OP_GATHER_ROWS:
        case BUSBAR_OP_TRANSPOSE:
        case BUSBAR_OP_SLICE:
        case BUSBAR_OP_CONCAT:
        case BUSBAR_OP_SELECT:
            return move(r);
        case BUSBAR_OP_MEAN:
        case BUSBAR_OP_SUM:
        case BUSBAR_OP_MAX:
        case BUSBAR_OP_SOFTMAX:
        case BUSBAR_OP_RMS_NORM:
        case BUSBAR_OP_ADD_RMS_NORM:
            return by_rows(r);
        case BUSBAR_OP_ROTARY_TABLE:
        case BUSBAR_OP_ROTATE:
            return rotary(r);
        case BUSBAR_OP_MATMUL:
        case BUSBAR_OP_MULTI_MATMUL:
        case BUSBAR_OP_BATCH_MATMUL:
            return product(r);
        case BUSBAR_OP_CACHE_APPEND:
        case BUSBAR_OP_CACHE_GATHER:
        case BUSBAR_OP_CACHE_MASK:
            return cache(r);
        case BUSBAR_OP_ATTENTION:
            return attention(r);
        default:
            return "an op that was not claimed";
    }
}

}  // namespace faulty
