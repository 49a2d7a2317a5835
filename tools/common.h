#pragma once
#include <termios.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/trace.h"
#include "chips/registry.h"
#include "import/model.h"
#include "llm/chat/chat.h"
#include "llm/engine/load.h"

namespace busbar {

/// The flags that every subcommand has (a contract: scripts rely on them).
struct CommonOptions {
    std::string model;
    std::string chip = "auto";
    std::string isa;
    bool no_fallback = false;
    std::string numerics = "accurate", order = "free", split, gate = "auto", kv;
    bool with_tokenizer = false;  ///< no flag: opened beside the model, on a thread of its own
    bool no_cache = false;        ///< neither keep nor use what other runs kept, but for the gate's verdict
    bool gate_again = false;      ///< no flag: a chip that was lost is not believed for what it passed before
    int threads = 0;
    int64_t context = 0;
    std::vector<std::string> skip_passes;
    std::string trace;
    bool json = false, quiet = false;
    int verbose = 0;
};

/// Adds the MODEL argument: the first one of most subcommands.
CLI::Option* add_model(CLI::App& app, CommonOptions& options);
/// Adds the common flags, each with what it accepts.
void add_common(CLI::App& app, CommonOptions& options);

/// Sets the log level and starts the trace; refuses what this build cannot do. Throws Error{chip}.
void apply_common(const CommonOptions& options);

/// The one chip that --chip names. Throws Error{usage} if it names several.
std::unique_ptr<Device> open_device(const CommonOptions& options);
/// Those that --chip names. Throws Error{usage | chip | does_not_fit}.
OpenChips open_chips(const CommonOptions& options);

/// A model on its chips, with what a subcommand needs of it.
struct OpenModel {
    ModelFile file;
    OpenChips chips;
    std::vector<int64_t> end_ids;  ///< from the model's own files, besides the tokenizer's
    std::unique_ptr<LoadedModel> loaded;
    std::unique_ptr<Tokenizer> tokenizer;  ///< where with_tokenizer asked for it
    double load_seconds = 0;
    Json verdict;  ///< of the gate, agree::Admission; null where it was off, or the chip is the oracle
};

/// Opens, imports, plans and loads. `adjust` may change the load options (chunk, logit rows, sequences) before
/// planning. Throws Error{interrupted} on Ctrl-C.
OpenModel open_model(const CommonOptions& options, const std::function<void(LoadOptions&)>& adjust = {});

/// The tokenizer of an open model. Throws Error{bad_input} if it has none or one of another model: ids that the
/// embedding lacks.
std::unique_ptr<Tokenizer> open_tokenizer_of(const OpenModel& model);
/// The one that was opened with the model, else as above.
std::unique_ptr<Tokenizer> take_tokenizer_of(OpenModel& model);

/// --gate full: levels 2 and 4 of docs/agreement.md too, over 500 positions. Throws Error{chip} where they do not
/// agree.
void pass_full_gate(const CommonOptions& options);

/// The context to plan for: --context, else what the model was trained for, at most 8,192.
int64_t choose_context(const CommonOptions& options, const DecoderConfig& config);

/// stderr, before the first result, unless --quiet.
void print_placement(const OpenModel& model);
Json placement_json(const LoadedModel& model);
Json memory_json(const LoadedModel& model);

/// stdout carries the result and nothing else. Writes all of it at once; throws Error{bad_input} on a full disk,
/// ClosedPipe if the reader has gone.
void put(std::string_view text);
/// The document on one line; text that is not UTF-8 gets replacement characters.
void put_json(const Json& document);
struct ClosedPipe {};

/// Set by Ctrl-C since the last call of clear_interrupt(). The first one asks to stop, and the program cleans up; a
/// second one before that is done ends it at once.
bool interrupted();
void clear_interrupt();
void catch_interrupt();
/// What a second Ctrl-C puts back before it ends the process; nullptr: nothing. It must live until it is taken back.
void restore_terminal_on_forced_end(const termios* before);
/// Throws Error{interrupted} after a Ctrl-C.
void stop_if_interrupted();

/// Bytes of memory that this process held at most.
uint64_t peak_resident_bytes();

/// The text of a file, or of stdin for "-". Throws Error{bad_input}, or Error{interrupted} on Ctrl-C while waiting.
std::string read_text(const std::string& path);

// One per file tools/<name>.cc: registers the subcommand; `exit_code` is set by what it runs.
void add_run(CLI::App& app, int& exit_code);
void add_serve(CLI::App& app, int& exit_code);
void add_tokenize(CLI::App& app, int& exit_code);
void add_eval(CLI::App& app, int& exit_code);
void add_show(CLI::App& app, int& exit_code);
void add_chips(CLI::App& app, int& exit_code);
void add_doctor(CLI::App& app, int& exit_code);
void add_bench(CLI::App& app, int& exit_code);
void add_conform(CLI::App& app, int& exit_code);
void add_verify(CLI::App& app, int& exit_code);

}  // namespace busbar
