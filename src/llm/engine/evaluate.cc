#include "llm/engine/evaluate.h"

#include <algorithm>

#include "base/error.h"
#include "llm/cache/cache.h"

namespace busbar {

void evaluate(LoadedModel& model, std::span<const int32_t> ids,
              const std::function<bool(int64_t, std::span<const float>)>& each) {
    if (ids.empty()) throw bad_input("text", "[evaluate] expected at least one token, got none");
    if (static_cast<int64_t>(ids.size()) > model.context())
        throw bad_input("text", "[evaluate] {} tokens do not fit the context of {}; give --context {}", ids.size(),
                        model.context(), round_up(ids.size(), page_positions));
    for (size_t i = 0; i < ids.size(); ++i)
        if (ids[i] < 0 || ids[i] >= model.vocabulary())
            throw bad_input("text", "[evaluate] expected token ids below {}, got {} at position {}", model.vocabulary(),
                            ids[i], i);
    Cache cache(model);
    Cache::Sequence sequence;
    StepRecord record(model.layout());
    const int64_t chunk = std::min(model.layout().max_rows, model.layout().max_logit_rows);
    for (int64_t begin = 0; begin < static_cast<int64_t>(ids.size()); begin += chunk) {
        const int64_t n = std::min<int64_t>(chunk, static_cast<int64_t>(ids.size()) - begin);
        cache.append(sequence, n);
        cache.fill(sequence, record.block_row(0));
        for (int64_t i = 0; i < n; ++i) {
            record.token_ids()[i] = ids[begin + i];
            record.positions()[i] = static_cast<int32_t>(begin + i);
            record.sequences()[i] = 0;
            record.logit_rows()[i] = static_cast<int32_t>(i);
        }
        record.header() = {static_cast<int32_t>(n), static_cast<int32_t>(n), 1, {}};
        model.step(record);
        for (int64_t i = 0; i < n; ++i)
            if (!each(begin + i, model.logits(i))) return;
    }
}

}  // namespace busbar
