#include "common.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <future>
#include <map>

#include "agree/admit.h"
#include "agree/identity.h"
#include "base/error.h"
#include "flags.h"
#include "plan/placement.h"
#include "warm.h"

namespace busbar {

namespace {

volatile sig_atomic_t interrupts = 0;
std::atomic<const termios*> terminal_before{nullptr};

// Which kernels the smallest and the largest bucket use, and how often.
void log_rows(const LoadedModel& model) {
    if (!log_wants(LogLevel::details)) return;
    for (const Plan& plan : model.plans()) {
        std::map<std::string, int> rows;
        for (const PlannedStep& s : plan.steps) ++rows[s.is_copy() ? "copy" : s.row->name];
        std::string line;
        for (const auto& [name, n] : rows) line += fmt::format("{}{} x {}", line.empty() ? "" : ", ", n, name);
        detail("bucket of {} rows: {}", plan.options.binding.rows, line);
    }
    const MemoryUse m = model.memory();
    detail("memory: weights {} bytes mapped, {} packed; constants {}, cache {}, scratch {}",
           with_commas(m.mapped_weights), with_commas(m.packed_weights), with_commas(m.constants), with_commas(m.cache),
           with_commas(m.scratch));
}

}  // namespace

CLI::Option* add_model(CLI::App& app, CommonOptions& o) {
    return app.add_option("MODEL", o.model, "a .gguf file, or a folder with config.json and *.safetensors")->required();
}

void add_common(CLI::App& app, CommonOptions& o) {
    std::vector<std::string> chips = {"auto"}, passes;
    for (std::string_view word : known_chips()) chips.emplace_back(word);
    for (const Pass& p : pipeline()) passes.emplace_back(p.name);
    const auto add = [&](CLI::Option* option, const char* kind = "") {
        return option->group("Options of every command")->type_name(kind);
    };
    add(app.add_option("--chip", o.chip, "which chips may be used, a comma between them; `busbar chips` lists them"),
        "CHIPS")
        ->capture_default_str()
        ->check(list_of(chips));
    add(app.add_option("--isa", o.isa, "force an instruction set of the chip; `busbar chips` lists them"), "NAME");
    add(app.add_flag("--no-fallback", o.no_fallback, "a node that would run elsewhere is an error (exit 4)"));
    add(app.add_option("--numerics", o.numerics, "what kernels may round: strict, accurate, fast"), "WORD")
        ->capture_default_str()
        ->check(one_of({"strict", "accurate", "fast"}));
    add(app.add_option("--order", o.order, "free, or invariant: bits independent of batch and chunking"), "WORD")
        ->capture_default_str()
        ->check(one_of({"free", "invariant"}));
    add(app.add_option("--split", o.split, "layers by hand: \"CHIP:0-14,CHIP:15-29\""), "PARTS");
    add(app.add_option("--gate", o.gate, "check of a chip on this model before it answers: auto (once), full, off"),
        "WORD")
        ->capture_default_str()
        ->check(one_of({"auto", "full", "off"}));
    add(app.add_option("--kv", o.kv, "cache element: f32, f16, bf16; else f16, or the chip's best if strict"), "TYPE")
        ->check(one_of({"f32", "f16", "bf16"}));
    add(app.add_flag("--no-cache", o.no_cache, "keep nothing between runs: packed weights, verify's oracle"));
    add(app.add_option("--threads", o.threads, "0 = all that this process may use"), "N")
        ->capture_default_str()
        ->check(whole_number(0, 1024));
    add(app.add_option("--context", o.context, "positions per sequence; 0 = what the model knows, at most 8192"), "N")
        ->capture_default_str()
        ->check(whole_number(0, int64_t{1} << 24));
    add(app.add_option("--no-pass", o.skip_passes, "switch a pass off, see `busbar show passes` (repeatable)"), "NAME")
        ->allow_extra_args(false)
        ->check(one_of(passes));
    add(app.add_option("--trace", o.trace, "write a timeline that trace viewers open (Chrome trace JSON)"), "FILE");
    add(app.add_flag("--json", o.json, "one JSON document on stdout"));
    add(app.add_flag("--quiet", o.quiet, "nothing on stderr but errors"));
    add(app.add_flag("-v,--verbose", o.verbose, "decisions and timings on stderr; -vv: every step"));
}

void apply_common(const CommonOptions& o) {
    set_log_level(o.quiet          ? LogLevel::quiet
                  : o.verbose > 1  ? LogLevel::all
                  : o.verbose == 1 ? LogLevel::details
                                   : LogLevel::notes);
    if (!o.trace.empty()) start_trace(o.trace);
}

std::unique_ptr<Device> open_device(const CommonOptions& o) {
    if (o.chip.find(',') != std::string::npos)
        throw usage_error("[chips] expected one chip in --chip, got {}", quote(o.chip));
    return open_chip(o.chip == "auto" ? fallback_chip() : std::string_view(o.chip), {o.threads, o.isa, ""});
}

OpenChips open_chips(const CommonOptions& o) {
    const Span span("open chips");
    OpenChips chips = open_chips(o.chip, {o.threads, o.isa, ""}, !o.no_fallback);
    for (const Profile* p : chips.profiles()) detail("chip {}: {}", p->chip, p->detail);
    return chips;
}

static void pass_gate(const CommonOptions& o, OpenModel& m) {
    const Span span("gate");
    agree::GateOptions options;
    options.threads = m.chips.devices[0]->profile().threads;
    options.again = o.gate_again;
    options.progress = [&](const char* probe) {
        stop_if_interrupted();
        detail("gate: {}", probe);
    };
    agree::Admission admission = agree::admit(
        *m.loaded, [] { return open_chip(oracle_chip()); }, options);
    if (admission.report) note("gate {}", admission.report->line());
    m.verdict = std::move(admission.verdict);
    if (o.gate == "full") pass_full_gate(o);
}

int64_t choose_context(const CommonOptions& o, const DecoderConfig& config) {
    return o.context > 0 ? static_cast<int64_t>(round_up(o.context, page_positions)) : default_context(config);
}

static void check_tokenizer_of(const OpenModel& m, const Tokenizer& tokenizer) {
    if (tokenizer.size() > m.loaded->vocabulary())
        throw bad_input(m.file.path,
                        "[tokenizer] expected at most {} tokens, as many as the embedding has rows, got {}: the "
                        "tokenizer is of another model",
                        m.loaded->vocabulary(), tokenizer.size());
}

OpenModel open_model(const CommonOptions& o, const std::function<void(LoadOptions&)>& adjust) {
    const double before = seconds_since_start();
    OpenModel m;
    {
        const Span span("open model");
        m.file = open_model_file(o.model);
    }
    // Independent of planning and loading, and as long as they are. Declared after m.file: it ends before that goes.
    std::future<std::unique_ptr<Tokenizer>> tokenizer;
    if (o.with_tokenizer)
        tokenizer = std::async(std::launch::async, [&file = m.file] {
            const Span span("open tokenizer");
            return open_tokenizer(file);
        });
    m.chips = open_chips(o);
    const DecoderConfig config = read_config(m.file);
    LoadOptions load;
    load.asked = m.chips.asked();
    if (!o.split.empty()) load.layers = parse_split(o.split, m.chips.names, config.layers);
    load.accuracy = *parse_accuracy(o.numerics);
    load.order = *parse_order(o.order);
    load.cache_element = o.kv;
    load.context = choose_context(o, config);
    load.skip_passes = {o.skip_passes.begin(), o.skip_passes.end()};
    load.fallback_allowed = !o.no_fallback;
    if (adjust) adjust(load);
    const bool gated = o.gate != "off" && !m.chips.is_oracle();
    if (gated) agree::make_room_for_gate(load.sequences, load.cache_pages, load.context);
    load.chunk = std::min(load.chunk, load.context);
    load.logit_rows = std::min(load.logit_rows, load.chunk);
    stop_if_interrupted();
    ImportedModel imported;
    {
        const Span span("import");
        imported = import_model(m.file, load.context);
    }
    if (!o.no_cache) load.keep = agree::keep_packed(imported.files);
    // What is not in memory yet is read while plans are made; where all is, to see so takes as long as a plan. Where
    // packed weights were kept, most of the model's own file is not needed, and the plan knows what is.
    const double memory = m.chips.devices[0]->profile().memory_bytes.value;
    const bool packed_before = !load.keep.path.empty() && std::filesystem::exists(load.keep.path);
    const auto files = imported.files;  // as long as somebody reads them
    std::vector<Bytes> own_files;
    if (!packed_before)
        for (const auto& file : files) own_files.push_back(file->bytes());
    std::future<void> reading = std::async(std::launch::async, [&] { read_ahead(own_files, memory); });
    ReadyModel ready = load_model(std::move(imported), m.chips.pointers(), load);
    reading.get();
    stop_if_interrupted();
    if (packed_before) read_ahead(ready.loaded->mapped_weights(), memory);
    for (const std::string& why : ready.placement) note("{}", why);
    m.end_ids = std::move(ready.end_ids);
    m.loaded = std::move(ready.loaded);
    m.load_seconds = seconds_since_start() - before;
    for (const PassReport& p : ready.passes)
        detail("pass {}: {} changes, {} -> {} nodes{}", p.name, p.changes, p.nodes_before, p.nodes_after,
               p.skipped ? " (skipped)" : "");
    log_rows(*m.loaded);
    stop_if_interrupted();
    if (gated) pass_gate(o, m);
    if (o.with_tokenizer) {
        m.tokenizer = tokenizer.get();
        check_tokenizer_of(m, *m.tokenizer);
    }
    return m;
}

std::unique_ptr<Tokenizer> open_tokenizer_of(const OpenModel& m) {
    const Span span("open tokenizer");
    std::unique_ptr<Tokenizer> tokenizer = open_tokenizer(m.file);
    check_tokenizer_of(m, *tokenizer);
    return tokenizer;
}

std::unique_ptr<Tokenizer> take_tokenizer_of(OpenModel& m) {
    return m.tokenizer ? std::move(m.tokenizer) : open_tokenizer_of(m);
}

void print_placement(const OpenModel& m) {
    note("{}", m.loaded->plans().front().placement_line(m.loaded->memory().total()));
}

Json placement_json(const LoadedModel& model) {
    const Plan& plan = model.plans().front();
    Json nodes = Json::object(), shares = Json::object();
    for (const auto& [chip, n] : plan.nodes_per_chip()) nodes[chip] = n;
    for (const auto& [chip, share] : plan.flops_share()) shares[chip] = share;
    const CopyUse& copied = model.copied();
    return {{"nodes", nodes},
            {"flops_share", shares},
            {"copies", plan.copies()},
            {"copy_bytes", plan.copied_bytes()},
            {"copied", {{"copies", copied.copies}, {"bytes", copied.bytes}, {"seconds", copied.seconds}}},
            {"refused", plan.refused}};
}

Json memory_json(const LoadedModel& model) {
    const MemoryUse m = model.memory();
    return {{"weights", m.mapped_weights + m.packed_weights + m.constants},
            {"kv", m.cache},
            {"scratch", m.scratch},
            {"peak_rss", peak_resident_bytes()}};
}

void put(std::string_view text) {
    while (!text.empty()) {
        const ssize_t n = ::write(STDOUT_FILENO, text.data(), text.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EPIPE) throw ClosedPipe{};
        if (n < 0) throw bad_input("stdout", "[output] cannot write {} bytes: {}", text.size(), std::strerror(errno));
        text.remove_prefix(n);
    }
}

void put_json(const Json& document) {
    put(document.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

void catch_interrupt() {
    struct sigaction action {};
    action.sa_handler = [](int) {
        if (interrupts > 0) {
            if (const termios* before = terminal_before.load()) tcsetattr(STDIN_FILENO, TCSANOW, before);
            _exit(static_cast<int>(ErrorCode::interrupted));
        }
        interrupts = 1;
    };
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, nullptr);  // without SA_RESTART: a read that waits must see it
    signal(SIGPIPE, SIG_IGN);             // a closed pipe is a result of write(), not a death
}

bool interrupted() {
    return interrupts > 0;
}
void restore_terminal_on_forced_end(const termios* before) {
    terminal_before = before;
}
void clear_interrupt() {
    interrupts = 0;
}
void stop_if_interrupted() {
    if (interrupted()) throw Error(ErrorCode::interrupted, "", "interrupted");
}

uint64_t peak_resident_bytes() {
    struct rusage usage {};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

std::string read_text(const std::string& path) {
    constexpr size_t limit = 1u << 30;
    const std::string name = path == "-" ? "stdin" : path;
    const int fd = path == "-" ? dup(STDIN_FILENO) : open(path.c_str(), O_RDONLY | O_CLOEXEC);
    const int open_error = errno;
    stop_if_interrupted();
    if (fd < 0) throw bad_input(name, "[file] cannot open: {}", std::strerror(open_error));
    const std::unique_ptr<const int, void (*)(const int*)> closer(&fd, [](const int* f) { close(*f); });
    std::string text;
    char buffer[65536];
    while (true) {
        const ssize_t n = ::read(fd, buffer, sizeof buffer);
        const int error = errno;
        stop_if_interrupted();
        if (n < 0 && error == EINTR) continue;
        if (n < 0) throw bad_input(name, "[file] cannot read: {}", std::strerror(error));
        if (n == 0) return text;
        if (text.size() + n > limit) throw bad_input(name, "[file] expected at most {} bytes", with_commas(limit));
        text.append(buffer, n);
    }
}

}  // namespace busbar
