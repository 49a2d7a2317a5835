#pragma once
#include "generate.h"

namespace busbar {

/// The chat on a terminal: history and line editing, Ctrl-C stops the answer, Ctrl-D ends. Returns the exit code.
int chat_loop(const CommonOptions& common, Session& session, const Tokenizer& tokenizer, const Chat& chat,
              const std::string& system, const GenerateOptions& options);

}  // namespace busbar
