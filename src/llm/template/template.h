#pragma once
#include <memory>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace busbar {

/// Limits of one rendering: a template is a stranger's program.
struct TemplateLimits {
    size_t output_bytes = 64u << 20;
    size_t steps = 20'000'000;  ///< statements and expressions evaluated
    int depth = 200;            ///< nesting of calls and of expressions
};

/// Rendered text in order; `trusted` pieces come from the template's own text, the rest from variables (what users
/// wrote), so that special tokens are recognised only in the former.
struct RenderedPiece {
    std::string text;
    bool trusted;
};

/// A chat template: the subset of Jinja 3.1 that formats.md 10.2 lists, with the environment of 10.1 (trim_blocks,
/// lstrip_blocks, loop controls, `generation`, raise_exception, strftime_now, tojson as json.dumps). Renders character
/// for character as Jinja2 does.
class ChatTemplate {
  public:
    /// Throws Error{bad_input} with `address` and line on a syntax error or a construct outside the subset.
    ChatTemplate(std::string source, std::string address);
    ~ChatTemplate();
    ChatTemplate(ChatTemplate&&) noexcept;

    /// `variables` is an object: messages, tools, add_generation_prompt, bos_token ... A key that is absent is
    /// undefined. Throws Error{bad_input}: the text of raise_exception, an undefined attribute, a type error, or a
    /// limit, each with its line.
    std::vector<RenderedPiece> render(const nlohmann::ordered_json& variables, const TemplateLimits& limits = {}) const;
    std::string render_text(const nlohmann::ordered_json& variables, const TemplateLimits& limits = {}) const;

    /// The clock that strftime_now reads, seconds since 1970 in local time; -1 (default) is the real one. For tests and
    /// caching.
    void set_clock(int64_t seconds) { clock_ = seconds; }

  private:
    struct Program;
    std::unique_ptr<Program> program_;
    int64_t clock_ = -1;
};

}  // namespace busbar
