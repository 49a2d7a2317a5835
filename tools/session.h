#pragma once
#include <memory>
#include <vector>

#include "base/error.h"
#include "common.h"
#include "llm/engine/engine.h"

namespace busbar {

/// A model on its chips, ready to generate, that outlives the loss of one of them.
class Session {
  public:
    /// Throws what open_model throws.
    explicit Session(const CommonOptions& options, Speculate speculate);
    ~Session();
    OpenModel& model() { return *model_; }
    Engine& engine() { return *engine_; }

    /// Plans and loads again without the chip that was lost; pasts of the old engine are gone, token ids go on. False
    /// if that may not be: no other chip is left and --no-fallback was given.
    bool go_on_without(const ChipLost& lost);

  private:
    void open();

    CommonOptions options_;
    Speculate speculate_;
    std::vector<ModelFile> files_;  ///< of models given up: a tokenizer may still read its own
    std::unique_ptr<OpenModel> model_;
    std::unique_ptr<Engine> engine_;
};

}  // namespace busbar
