#pragma once
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/error.h"
#include "chips/registry.h"
#include "import/json.h"
#include "llm/engine/engine.h"
#include "llm/engine/evaluate.h"
#include "llm/engine/load.h"

namespace busbar::test {

inline std::string from_environment(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

/// A model on a chip for one test.
struct Loaded {
    std::unique_ptr<Device> device;
    std::unique_ptr<LoadedModel> model;
    std::vector<PassReport> passes;
};

inline Loaded load_model(const std::string& path, LoadOptions options = {}, std::string_view chip = fallback_chip(), const ChipOptions& chip_options = {}) {
    Loaded out;
    out.device = open_chip(chip, chip_options);
    options.context = static_cast<int64_t>(round_up(options.context, page_positions));
    options.chunk = std::min(options.chunk, options.context);
    ReadyModel ready = busbar::load_model(import_model(open_model_file(path), options.context), *out.device, options);
    out.model = std::move(ready.loaded);
    out.passes = std::move(ready.passes);
    return out;
}

/// Strict and invariant, logits of every row of a chunk.
inline LoadOptions strict(int64_t context, int64_t chunk = 64) {
    LoadOptions o;
    o.accuracy = Accuracy::strict;
    o.order = Order::invariant;
    o.context = context;
    o.chunk = o.logit_rows = std::min(chunk, static_cast<int64_t>(round_up(context, page_positions)));
    return o;
}

inline std::vector<float> all_logits(LoadedModel& model, const std::vector<int32_t>& ids) {
    std::vector<float> out;
    evaluate(model, ids, [&](int64_t, std::span<const float> logits) {
        out.insert(out.end(), logits.begin(), logits.end());
        return true;
    });
    return out;
}

inline Json read_golden(const std::string& name) {
    const std::string path = std::string(BUSBAR_SOURCE_DIR) + "/tests/goldens/" + name;
    return parse_json(read_file(path), path);
}

inline std::vector<uint8_t> from_base64(const std::string& text) {
    std::vector<uint8_t> out;
    uint32_t bits = 0;
    int have = 0;
    for (char c : text) {
        static const std::string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const size_t v = alphabet.find(c);
        if (v == std::string::npos) break;
        bits = bits << 6 | static_cast<uint32_t>(v);
        if ((have += 6) >= 8) out.push_back(static_cast<uint8_t>(bits >> (have -= 8)));
    }
    return out;
}

}  // namespace busbar::test

/// What a fetched or generated input is missing for. ./test sets these; a bare ctest skips, and says so.
#define BUSBAR_NEED(variable)                                                                            \
    if (busbar::test::from_environment(variable).empty()) GTEST_SKIP() << variable << " is not set; ./test sets it"
