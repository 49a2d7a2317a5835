#pragma once
#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

#include "session.h"

namespace busbar {

struct GenerateOptions {
    int64_t max_tokens = 0;
    SampleOptions sample;
    std::vector<std::string> stop;
    int64_t logprobs = 0;
    std::string speculate = "auto";
};

void add_generate(CLI::App& app, GenerateOptions& options);

struct Answer {
    std::vector<int32_t> tokens;
    std::string text;
    std::vector<std::vector<TokenScore>> logprobs;  ///< per token, if asked for
    Finish finish = Finish::none;
    double first_token = 0;                          ///< seconds since the program started
    double prefill_seconds = 0, decode_seconds = 0;  ///< to the first token, and from it to the last
    std::string speculate, why_no_drafts;            ///< the flag; why nothing was drafted, "" if it might be
    SpeculationCounts drafts;
    Cache::Sequence past;  ///< of prompt and answer, for the next turn; release it
};

/// Generates one answer. Text goes to `sink` as it becomes valid UTF-8 (nullptr: nowhere), never past a stop text.
/// `past` holds the first positions of `ids`, already computed. Ctrl-C ends it with Finish::interrupted. A chip that is
/// lost on the way is planned around, and the answer goes on from its token ids.
Answer generate(Session& session, const Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                std::optional<Cache::Sequence> past, const GenerateOptions& options, void (*sink)(std::string_view));

Json answer_json(const Answer& answer, const std::vector<int32_t>& prompt, const OpenModel& model);
/// "prompt 12 tokens, 180 tok/s; answer 64 tokens, 41 tok/s; memory 131 MB, peak 150 MB", and how many drafts were
/// right
std::string speed_line(const Answer& answer, size_t prompt_tokens, const LoadedModel& model);
/// A table of the best tokens on stdout, where --logprobs asked for it.
void print_logprobs(const Answer& answer, const Tokenizer& tokenizer);

}  // namespace busbar
