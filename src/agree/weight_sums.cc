#include "agree/weight_sums.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <thread>

namespace busbar::agree {

WeightSums sum_weight(const StoredTensor& t, uint64_t seed, int threads) {
    const int64_t width = t.width(), rows = width > 0 ? t.count() / width : 0;
    WeightSums out{std::vector<double>(rows), std::vector<double>(width, 0), std::vector<double>(width, 0)};
    std::mt19937_64 random(seed);
    for (int64_t i = 0; i < rows; ++i) out.signs[i] = (random() >> 40 & 1) ? 1 : -1;
    const Encoding& e = *t.encoding;
    const auto sum = [&](int64_t begin, int64_t end, double* into, double* squares) {
        std::vector<float> row(width);
        for (int64_t r = begin; r < end; ++r) {
            e.decode(t.bytes.data() + r * e.row_bytes(width), row.data(), width / e.block);
            const double sign = out.signs[r];
            for (int64_t k = 0; k < width; ++k) {
                const double w = row[k];
                into[k] += sign * w;
                squares[k] += w * w;
            }
        }
    };
    const int n = rows * width < (1 << 18) ? 1 : std::max(threads, 1);
    std::vector<std::vector<double>> parts(n - 1, std::vector<double>(2 * width, 0));
    std::vector<std::jthread> helpers;
    for (int i = 1; i < n; ++i)
        helpers.emplace_back(
            [&, i] { sum(rows * i / n, rows * (i + 1) / n, parts[i - 1].data(), parts[i - 1].data() + width); });
    sum(0, rows / n, out.of_columns.data(), out.squares.data());
    helpers.clear();
    for (const auto& part : parts)
        for (int64_t k = 0; k < width; ++k) {
            out.of_columns[k] += part[k];
            out.squares[k] += part[width + k];
        }
    return out;
}

std::shared_ptr<const StoredTensor> rows_of(const StoredTensor& t, const std::vector<int64_t>& rows) {
    struct Owner {
        std::vector<std::byte> memory;
        StoredTensor tensor;
    };
    auto owner = std::make_shared<Owner>();
    const size_t each = t.encoding->row_bytes(t.width());
    owner->memory.resize(each * rows.size());
    for (size_t i = 0; i < rows.size(); ++i)
        std::memcpy(owner->memory.data() + i * each, t.bytes.data() + rows[i] * each, each);
    owner->tensor = t;
    owner->tensor.shape = {static_cast<int64_t>(rows.size()), t.width()};
    owner->tensor.bytes = owner->memory;
    return {owner, &owner->tensor};
}

}  // namespace busbar::agree
