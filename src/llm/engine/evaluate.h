#pragma once
#include <functional>
#include <span>

#include "run/loaded_model.h"

namespace busbar {

/// Teacher forcing: feeds `ids` in chunks through one fresh sequence and hands out the logits of every position, in
/// order. The model must have been loaded with logit_rows >= 1; more of them make larger steps. Throws Error{bad_input}
/// for ids outside the vocabulary or more ids than the context. `each` returning false stops early.
void evaluate(LoadedModel& model, std::span<const int32_t> ids,
              const std::function<bool(int64_t position, std::span<const float> logits)>& each);

}  // namespace busbar
