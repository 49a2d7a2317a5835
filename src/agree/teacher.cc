#include "agree/teacher.h"

#include <algorithm>

#include "base/check.h"

namespace busbar::agree {

std::vector<Window> windows(int64_t positions, int64_t context) {
    constexpr int64_t long_window = 512, short_window = 128, group = 8;
    std::vector<Window> all;
    for (int64_t at = 0; at < positions;) {
        const bool is_long = all.size() % group == 0;
        const int64_t n = std::min({is_long ? long_window : short_window, context, positions - at});
        all.push_back({at, n});
        at += n;
    }
    return all;
}

std::vector<Window> steps_of(const Window& w, int64_t largest) {
    const int64_t singles = (w.length + 7) / 8, few = w.length - singles >= 48 ? 16 : 0;
    std::vector<Window> steps;
    int64_t at = 0;
    const auto take = [&](int64_t end, int64_t rows) {
        while (at < end) {
            const int64_t n = std::min(rows, end - at);
            steps.push_back({w.begin + at, n});
            at += n;
        }
    };
    take(w.length - singles - few, largest);
    take(w.length - singles, std::min<int64_t>(16, largest));
    take(w.length, 1);
    return steps;
}

StepRecord record_of(const LoadedModel& model, std::span<const int32_t> ids, const Window& window, const Window& step) {
    StepRecord record(model.layout());
    BUSBAR_CHECK(window.length <= model.context());
    for (int64_t p = 0; p < std::min(model.layout().pages, model.cache_pages()); ++p)
        record.block_row(0)[p] = static_cast<int32_t>(p);
    for (int64_t r = 0; r < step.length; ++r) {
        record.token_ids()[r] = ids[step.begin + r];
        record.positions()[r] = static_cast<int32_t>(step.begin + r - window.begin);
        record.sequences()[r] = 0;
        record.logit_rows()[r] = static_cast<int32_t>(r);
    }
    record.header() = {static_cast<int32_t>(step.length), static_cast<int32_t>(step.length), 1, {}};
    return record;
}

void teach(LoadedModel& model, std::span<const int32_t> ids, const Window& window, StepObserver* observer,
           const std::function<bool(int64_t, std::span<const float>)>& each) {
    const int64_t largest = std::min(model.layout().max_rows, model.layout().max_logit_rows);
    for (const Window& step : steps_of(window, largest)) {
        const StepRecord record = record_of(model, ids, window, step);
        model.step(record, observer);
        for (int64_t r = 0; r < step.length; ++r)
            if (!each(step.begin + r, model.logits(r))) return;
    }
}

}  // namespace busbar::agree
