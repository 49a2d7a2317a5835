#pragma once
#include <memory>
#include <string>
#include <vector>

#include "llm/tokenizer/json_field.h"
#include "llm/tokenizer/regex.h"

namespace busbar {

/// A stretch of text on its way to pieces: the splitters cut ranges finer and may rewrite the text below them.
struct Pieces {
    std::string text;
    std::vector<Range> ranges;  // not empty, in order, not overlapping
    bool at_start = false;      // the first range is the start of the whole text
};

class PreTokenizer {
  public:
    virtual ~PreTokenizer() = default;
    /// Each splitter works inside the ranges that the one before it left.
    virtual void split(Pieces& pieces) const = 0;
};

/// The splitters of a model, in order; empty: the whole text is one piece.
class PreTokenizerChain {
  public:
    PreTokenizerChain() = default;
    /// From a tokenizer.json "pre_tokenizer". Throws Error{bad_input} for kinds this build lacks, by name.
    static PreTokenizerChain from_json(const Json& json, const std::string& address);
    /// From a GGUF `tokenizer.ggml.pre`. Throws Error{bad_input} listing the known names.
    static PreTokenizerChain from_gguf_name(const std::string& name, const std::string& address);

    void split(Pieces& pieces) const {
        for (const auto& step : steps_) step->split(pieces);
    }
    /// True if the chain ends in the byte-level alphabet.
    bool byte_level() const { return byte_level_; }

  private:
    std::vector<std::shared_ptr<const PreTokenizer>> steps_;
    bool byte_level_ = false;
};

}  // namespace busbar
