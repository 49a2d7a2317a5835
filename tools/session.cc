#include "session.h"

#include <fmt/format.h>

#include <algorithm>
#include <sstream>

namespace busbar {

namespace {

std::string word_of(const std::string& name) {
    return name.substr(0, name.find(':'));
}

// --chip without the one that was lost: by its full name, else the first one of its word.
std::string chips_without(const std::string& chips, const std::string& lost) {
    std::vector<std::string> names;
    std::stringstream parts(chips == "auto" ? std::string(fallback_chip()) : chips);
    for (std::string name; std::getline(parts, name, ',');) names.push_back(name);
    auto gone = std::ranges::find(names, lost);
    if (gone == names.end()) gone = std::ranges::find(names, word_of(lost), word_of);
    if (gone != names.end()) names.erase(gone);
    return fmt::format("{}", fmt::join(names, ","));
}

}  // namespace

Session::Session(const CommonOptions& options, Speculate speculate) : options_(options), speculate_(speculate) {
    options_.with_tokenizer = true;
    try {
        open();
    } catch (const ChipLost& lost) {
        if (!go_on_without(lost)) throw;
    }
}

Session::~Session() = default;

void Session::open() {
    model_ = std::make_unique<OpenModel>(open_model(options_, [this](LoadOptions& load) {
        load.speculate = speculate_ != Speculate::off;
        load.programs_late = true;
    }));
    EngineOptions engine;
    engine.speculate = speculate_;
    engine_ = std::make_unique<Engine>(*model_->loaded, engine);
}

bool Session::go_on_without(const ChipLost& lost) {
    std::string left = chips_without(options_.chip, lost.chip());
    if (left.empty() && (options_.no_fallback || word_of(lost.chip()) == fallback_chip())) return false;
    if (left.empty()) left = fallback_chip();
    note("{}; the plan is made again without it, on {}", lost.what(), left);
    options_.chip = left;
    options_.with_tokenizer = false;  // whoever holds this session has one by now, or opens it
    options_.split.clear();
    if (model_) files_.push_back(model_->file);
    engine_.reset();
    model_.reset();
    open();
    return true;
}

}  // namespace busbar
