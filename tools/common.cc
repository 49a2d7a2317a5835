#include "common.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <iostream>

#include "base/error.h"

namespace busbar {

namespace {

const auto start = std::chrono::steady_clock::now();
volatile sig_atomic_t interrupts = 0;

constexpr int64_t default_context = 8192;

std::vector<std::string> split_words(const std::string& text, char separator) {
    std::vector<std::string> out;
    size_t begin = 0;
    while (true) {
        const size_t end = text.find(separator, begin);
        out.push_back(text.substr(begin, end - begin));
        if (end == std::string::npos) return out;
        begin = end + 1;
    }
}

// "cpu:0-14,opencl:15-29": every layer exactly once, on chips that --chip names.
void check_split(const std::string& split, const std::string& chip, int64_t layers) {
    int64_t next = 0;
    for (const std::string& part : split_words(split, ',')) {
        const size_t colon = part.rfind(':');
        int64_t from = -1, to = -1;
        int used = 0;
        if (colon == std::string::npos || std::sscanf(part.c_str() + colon + 1, "%ld-%ld%n", &from, &to, &used) != 2 ||
            part[colon + 1 + used] != 0)
            throw usage_error("[split] expected CHIP:FIRST-LAST, got {}", quote(part));
        if (part.substr(0, colon) != chip)
            throw usage_error("[split] expected chips that --chip names ({}), got {}", chip,
                              quote(part.substr(0, colon)));
        if (from != next || to < from)
            throw usage_error("[split] expected layer {} to come next, got {}-{}: every layer once, in order", next,
                              from, to);
        next = to + 1;
    }
    if (next != layers) throw usage_error("[split] expected layers 0-{}, got 0-{}", layers - 1, next - 1);
}

}  // namespace

void add_common(CLI::App& app, CommonOptions& o, bool with_model) {
    if (with_model)
        app.add_option("MODEL", o.model, "a .gguf file, or a folder with config.json and *.safetensors")->required();
    app.add_option("--chip", o.chip, "which chip may be used; see `busbar chips`")->capture_default_str();
    app.add_option("--isa", o.isa, "force an instruction set of the chip; see `busbar chips`");
    app.add_flag("--no-fallback", o.no_fallback, "a node that would run elsewhere is an error (exit 4)");
    app.add_option("--numerics", o.numerics, "what kernels may round: strict, accurate or fast")->capture_default_str();
    app.add_option("--order", o.order, "free, or invariant: a request's bits independent of batch and chunking")
        ->capture_default_str();
    app.add_option("--split", o.split, "layers by hand: \"CHIP:0-14,CHIP:15-29\"");
    app.add_option("--gate", o.gate, "auto, full or off")->capture_default_str();
    app.add_option("--kv", o.kv, "cache element: f32, f16 or bf16; default: the chip's most exact one");
    app.add_option("--threads", o.threads, "threads; 0 = all that this process may use")->capture_default_str();
    app.add_option("--context", o.context, "positions per sequence; 0 = what the model was trained for, at most 8192")
        ->capture_default_str();
    app.add_option("--no-pass", o.skip_passes, "switch a pass off by name; see `busbar show passes` (repeatable)");
    app.add_flag("--json", o.json, "one JSON document on stdout");
    app.add_flag("--quiet", o.quiet, "nothing on stderr but errors");
    app.add_flag("-v,--verbose", o.verbose, "more on stderr");
}

void apply_common(const CommonOptions& o) {
    if (!parse_accuracy(o.numerics))
        throw usage_error("[cli] --numerics: expected strict, accurate or fast, got {}", quote(o.numerics));
    if (!parse_order(o.order)) throw usage_error("[cli] --order: expected free or invariant, got {}", quote(o.order));
    if (o.gate != "auto" && o.gate != "full" && o.gate != "off")
        throw usage_error("[cli] --gate: expected auto, full or off, got {}", quote(o.gate));
    if (!o.kv.empty() && o.kv != "f32" && o.kv != "f16" && o.kv != "bf16")
        throw usage_error("[cli] --kv: expected f32, f16 or bf16, got {}", quote(o.kv));
    if (o.threads < 0 || o.threads > 1024) throw usage_error("[cli] --threads: expected 0 to 1024, got {}", o.threads);
    if (o.context < 0 || o.context > (int64_t{1} << 24))
        throw usage_error("[cli] --context: expected 0 to 16777216, got {}", o.context);
}

std::unique_ptr<Device> open_device(const CommonOptions& o) {
    const std::vector<std::string> words = split_words(o.chip, ',');
    const std::vector<std::string_view> known = known_chips();
    for (const std::string& word : words)
        if (word != "auto" && std::ranges::find(known, word) == known.end())
            throw usage_error("[cli] --chip: expected one of auto, {}, got {}", fmt::join(known, ", "), quote(word));
    if (words.size() > 1)
        throw chip_error("chip", "[cli] this build runs a model on one chip at a time; --chip {} names {}", o.chip,
                         words.size());
    return open_chip(words[0] == "auto" ? fallback_chip() : std::string_view(words[0]), {o.threads, o.isa});
}

int64_t choose_context(const CommonOptions& o, const DecoderConfig& config) {
    const int64_t wanted = o.context > 0 ? o.context : std::min(config.context, default_context);
    return static_cast<int64_t>(round_up(wanted, page_positions));
}

OpenModel open_model(const CommonOptions& o, const std::function<void(LoadOptions&)>& adjust) {
    const double before = seconds_since_start();
    OpenModel m;
    m.device = open_device(o);
    m.file = open_model_file(o.model);
    const DecoderConfig config = read_config(m.file);
    if (!o.split.empty()) check_split(o.split, m.device->profile().chip, config.layers);
    LoadOptions load;
    load.accuracy = *parse_accuracy(o.numerics);
    load.order = *parse_order(o.order);
    load.cache_element = o.kv;
    load.context = choose_context(o, config);
    load.skip_passes = {o.skip_passes.begin(), o.skip_passes.end()};
    load.fallback_allowed = !o.no_fallback;
    if (adjust) adjust(load);
    load.chunk = std::min(load.chunk, load.context);
    load.logit_rows = std::min(load.logit_rows, load.chunk);
    ReadyModel ready = load_model(import_model(m.file, load.context), *m.device, load);
    m.end_ids = std::move(ready.end_ids);
    m.loaded = std::move(ready.loaded);
    m.load_seconds = seconds_since_start() - before;
    return m;
}

void print_placement(const CommonOptions& o, const OpenModel& m) {
    if (o.quiet) return;
    std::cerr << m.loaded->plans().front().placement_line(m.loaded->memory().total()) << '\n';
}

Json placement_json(const LoadedModel& model) {
    const Plan& plan = model.plans().front();
    Json nodes = Json::object(), shares = Json::object();
    for (const auto& [chip, n] : plan.nodes_per_chip()) nodes[chip] = n;
    for (const auto& [chip, share] : plan.flops_share()) shares[chip] = share;
    return {{"nodes", nodes}, {"flops_share", shares}, {"copies", 0}, {"refused", plan.refused}};
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

void note(const CommonOptions& o, std::string_view text) {
    if (!o.quiet) std::cerr << text << '\n';
}

void catch_interrupt() {
    struct sigaction action {};
    action.sa_handler = [](int) { interrupts = interrupts + 1; };
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, nullptr);
    signal(SIGPIPE, SIG_IGN);  // a closed pipe is a result of write(), not a death
}

bool interrupted() {
    return interrupts > 0;
}
void clear_interrupt() {
    interrupts = 0;
}

uint64_t peak_resident_bytes() {
    struct rusage usage {};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

double seconds_since_start() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string read_text(const std::string& path) {
    return read_file(path == "-" ? "/dev/stdin" : path);
}

}  // namespace busbar
