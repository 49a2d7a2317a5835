#pragma once
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "run/loaded_model.h"

namespace busbar::agree {

/// Text that Busbar brings along to compare chips on: prose, code, numbers and some twenty languages.
std::string_view verify_text();

/// A stretch of the text that is fed as a sequence of its own.
struct Window {
    int64_t begin = 0, length = 0;
};
/// Cuts `positions` tokens: one long window, then seven short ones, and again. None longer than `context`.
std::vector<Window> windows(int64_t positions, int64_t context);

/// Where a step of a window begins and how many rows it has: chunks first, then one of 16 rows, then single rows, so
/// that the kernels of every bucket have their share.
std::vector<Window> steps_of(const Window& window, int64_t largest);

/// The step record of rows `step` of a sequence that starts at ids[window.begin], in pages 0, 1, 2 ...
StepRecord record_of(const LoadedModel& model, std::span<const int32_t> ids, const Window& window, const Window& step);

/// Teacher forcing: feeds a window and hands out the logits after each of its tokens (index into ids). `each` returning
/// false stops. The model must have been loaded with as many logit rows as rows, of which at most `logits of one step`.
void teach(LoadedModel& model, std::span<const int32_t> ids, const Window& window, StepObserver* observer,
           const std::function<bool(int64_t index, std::span<const float> logits)>& each);

}  // namespace busbar::agree
