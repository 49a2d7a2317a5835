#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

/// The C++ API: open a model, choose a chip, generate. Link busbar_api. See examples/answer.cc.
namespace busbar::api {

/// What the command's flags say, for programs (docs/errors.md has the codes that errors carry).
struct Options {
    std::string chip = "auto";          ///< names of `busbar chips`, a comma between them; the first ones that fit serve
    std::string gate = "auto";          ///< auto: a chip is checked once on a model before it answers; off
    std::string numerics = "accurate";  ///< strict, accurate or fast
    std::string order = "free";         ///< free or invariant
    std::string cache = "";             ///< f32, f16 or bf16; "" = the chip's most exact one
    int threads = 0;                    ///< 0 = all that the process may use
    int64_t context = 0;                ///< positions; 0 = what the model was trained for, at most 8,192
    std::string speculate = "auto";     ///< guesses of next tokens are verified together: auto, on or off; same tokens
};

struct Sampling {
    int64_t max_tokens = 0;  ///< 0 = to the end of the context
    double temperature = 0;  ///< 0 = greedy
    int64_t top_k = 0;
    double top_p = 1, min_p = 0, repeat_penalty = 1;
    uint64_t seed = 0;
};

/// Thrown by everything here. code() is the exit code of the command: 2 usage, 3 bad input, 4 chip, 5 does not fit.
class Failure : public std::runtime_error {
  public:
    Failure(int code, const std::string& what) : std::runtime_error(what), code_(code) {}
    int code() const { return code_; }

  private:
    int code_;
};

/// A model on a chip. One caller at a time.
class Model {
  public:
    /// `path`: a .gguf file, or a folder with config.json and *.safetensors.
    static Model open(const std::string& path, const Options& options = {});
    ~Model();
    Model(Model&&) noexcept;
    Model& operator=(Model&&) noexcept;

    std::vector<int32_t> tokenize(std::string_view text) const;
    std::string detokenize(const std::vector<int32_t>& ids) const;
    /// The model's chat template over one user message, as token ids. Special tokens in `text` stay ordinary text.
    std::vector<int32_t> chat_prompt(std::string_view text, std::string_view system = {}) const;

    /// Continues `prompt`; `on_token` sees each new id (false stops). Returns the new ids, an end token not included.
    std::vector<int32_t> generate(const std::vector<int32_t>& prompt, const Sampling& sampling = {},
                                  const std::function<bool(int32_t)>& on_token = {});
    /// Logits of every position of `ids`: ids.size() rows of vocabulary() numbers. The context bounds ids.size().
    std::vector<float> logits(const std::vector<int32_t>& ids);

    int64_t vocabulary() const;
    /// "placed 366/366 nodes on cpu (100 % of flops), 0 copies, 131 MB"
    std::string placement() const;

  private:
    struct State;
    explicit Model(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

}  // namespace busbar::api
