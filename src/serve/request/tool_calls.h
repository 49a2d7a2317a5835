#pragma once
#include <string>
#include <vector>

namespace busbar {

struct ToolCall {
    std::string name;
    std::string arguments;  ///< JSON text
};

/// How a model writes its calls; told by its chat template.
enum class ToolStyle {
    none,    ///< the template knows no tools
    tagged,  ///< <tool_call>{"name": ..., "arguments": {...}}</tool_call>, as Hermes and Qwen write it
    bare,    ///< {"name": ..., "parameters": {...}} is all of the answer, as Llama 3.1 writes it
};
ToolStyle tool_style_of(const std::string& chat_template);

/// Separates calls from text as an answer comes in. Text that may be the beginning of a call is held back until that is
/// decided; what turns out to be no call is text after all, and nothing is lost. (Blanks around a call are the call's.)
class ToolParser {
  public:
    /// `names`: of the tools offered. A bare object is taken for a call only where it names one of them.
    ToolParser(ToolStyle style, std::vector<std::string> names) : style_(style), names_(std::move(names)) {}
    struct Out {
        std::string text;
        std::vector<ToolCall> calls;
    };
    Out add(const std::string& text);
    Out finish();

  private:
    void split_tagged(Out& out, bool ended);
    bool take_bare(Out& out) const;
    bool known(const std::string& name) const;

    ToolStyle style_;
    std::vector<std::string> names_;
    std::string held_;
    bool after_call_ = false;  ///< tagged style: nothing but blanks since the last call
    bool plain_ = false;       ///< bare style: the answer has begun as text and stays text
};

}  // namespace busbar
