#include <algorithm>

#include "agree/admit.h"
#include "agree/identity.h"
#include "base/error.h"
#include "busbar/busbar.h"
#include "chips/registry.h"
#include "llm/chat/chat.h"
#include "llm/engine/engine.h"
#include "llm/engine/evaluate.h"
#include "llm/engine/load.h"

namespace busbar::api {

struct Model::State {
    std::string path;
    ModelFile file;
    OpenChips chips;
    ReadyModel ready;
    std::unique_ptr<Tokenizer> tokenizer;  ///< null where the model has none
    std::string no_tokenizer;              ///< why not
    EngineOptions engine;
};

namespace {

// Errors leave the core as Failure: a program that links this needs no header of ours but one.
template <typename F>
auto guarded(F f) {
    try {
        return f();
    } catch (const Error& e) {
        throw Failure(static_cast<int>(e.code()), e.what());
    }
}

template <typename T>
T need(std::optional<T> value, std::string_view what, const std::string& got) {
    if (!value) throw usage_error("[api] {}: got {}", what, quote(got));
    return *value;
}

}  // namespace

Model::Model(std::unique_ptr<State> state) : state_(std::move(state)) {}
Model::~Model() = default;
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;

Model Model::open(const std::string& path, const Options& options) {
    return guarded([&] {
        auto state = std::make_unique<State>();
        state->path = path;
        state->chips = open_chips(options.chip, {options.threads, "", ""}, true);
        state->file = open_model_file(path);
        LoadOptions load;
        load.accuracy =
            need(parse_accuracy(options.numerics), "numerics: expected strict, accurate or fast", options.numerics);
        load.order = need(parse_order(options.order), "order: expected free or invariant", options.order);
        load.cache_element = options.cache;
        load.context = options.context > 0 ? options.context : default_context(read_config(state->file));
        load.context = static_cast<int64_t>(round_up(load.context, page_positions));
        load.chunk = std::min(load.chunk, load.context);
        load.logit_rows = std::min<int64_t>(64, load.chunk);
        load.asked = state->chips.asked();
        state->engine.speculate =
            need(parse_speculate(options.speculate), "speculate: expected auto, on or off", options.speculate);
        load.speculate = state->engine.speculate != Speculate::off;
        if (options.gate != "auto" && options.gate != "off")
            throw usage_error("[api] gate: expected auto or off, got {}", quote(options.gate));
        const bool gated = options.gate != "off" && !state->chips.is_oracle();
        if (gated) agree::make_room_for_gate(load.sequences, load.cache_pages, load.context);
        ImportedModel imported = import_model(state->file, load.context);
        load.keep = agree::keep_packed(imported.files);
        state->ready = load_model(std::move(imported), state->chips.pointers(), load);
        if (gated) {
            agree::GateOptions gate;
            gate.threads = state->chips.devices[0]->profile().threads;
            agree::admit(
                *state->ready.loaded, [] { return open_chip(oracle_chip()); }, gate);
        }
        try {
            state->tokenizer = open_tokenizer(state->file);
        } catch (const Error& e) {
            state->no_tokenizer = e.what();  // ids and logits need none
        }
        return Model(std::move(state));
    });
}

std::vector<int32_t> Model::tokenize(std::string_view text) const {
    if (!state_->tokenizer) throw Failure(static_cast<int>(ErrorCode::bad_input), state_->no_tokenizer);
    return guarded([&] { return state_->tokenizer->encode(text, true); });
}

std::string Model::detokenize(const std::vector<int32_t>& ids) const {
    if (!state_->tokenizer) throw Failure(static_cast<int>(ErrorCode::bad_input), state_->no_tokenizer);
    return guarded([&] { return state_->tokenizer->decode(ids, false); });
}

std::vector<int32_t> Model::chat_prompt(std::string_view text, std::string_view system) const {
    if (!state_->tokenizer) throw Failure(static_cast<int>(ErrorCode::bad_input), state_->no_tokenizer);
    return guarded([&] {
        Json messages = Json::array();
        if (!system.empty()) messages.push_back({{"role", "system"}, {"content", system}});
        messages.push_back({{"role", "user"}, {"content", text}});
        const Chat chat(*state_->tokenizer, "", state_->path);
        return chat.encode(chat.render({{"messages", messages}}));
    });
}

std::vector<int32_t> Model::generate(const std::vector<int32_t>& prompt, const Sampling& s,
                                     const std::function<bool(int32_t)>& on_token) {
    return guarded([&] {
        Request r;
        r.prompt = prompt;
        r.max_tokens = s.max_tokens;
        r.sample.temperature = s.temperature;
        r.sample.top_k = s.top_k;
        r.sample.top_p = s.top_p;
        r.sample.min_p = s.min_p;
        r.sample.repeat_penalty = s.repeat_penalty;
        r.sample.seed = s.seed;
        for (int64_t id : state_->ready.end_ids) r.end_ids.push_back(static_cast<int32_t>(id));
        if (state_->tokenizer) {
            r.vocabulary = state_->tokenizer->size();
            r.end_ids.insert(r.end_ids.end(), state_->tokenizer->end_ids().begin(), state_->tokenizer->end_ids().end());
        }
        if (on_token) r.on_token = [&](int32_t token, const std::vector<TokenScore>&) { return on_token(token); };
        Engine engine(*state_->ready.loaded, state_->engine);
        const int number = engine.add(std::move(r));
        engine.finish(number);
        return engine.tokens_of(number);
    });
}

std::vector<float> Model::logits(const std::vector<int32_t>& ids) {
    return guarded([&] {
        std::vector<float> out;
        out.reserve(ids.size() * vocabulary());
        evaluate(*state_->ready.loaded, ids, [&](int64_t, std::span<const float> row) {
            out.insert(out.end(), row.begin(), row.end());
            return true;
        });
        return out;
    });
}

int64_t Model::vocabulary() const {
    return state_->ready.loaded->vocabulary();
}
std::string Model::placement() const {
    return state_->ready.loaded->plans().front().placement_line(state_->ready.loaded->memory().total());
}

}  // namespace busbar::api
