// busbar serve: the OpenAI API over a model.
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "base/error.h"
#include "common.h"
#include "flags.h"
#include "serve/server.h"

namespace busbar {

namespace {

struct ServeFlags {
    CommonOptions common;
    ServeOptions serve;
    std::string key_file, template_file, speculate = "off";
    std::vector<std::string> replicas;
    double probe_percent = 0.5;
    int64_t sequences = 16, cache_tokens = 0, connections = 1024;
    double step_ms = 100;
};

// As many connections as the system lets us have.
void raise_file_limit() {
    struct rlimit limit {};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

// Memory for every sequence to fill its context would often be more than there is: a quarter of the machine's is enough
// for most, and at least one whole context must fit.
int64_t cache_pages(const ServeFlags& f, const LoadOptions& load, const DecoderConfig& config) {
    const int64_t per_context = ceil_div(static_cast<uint64_t>(load.context), page_positions);
    if (f.cache_tokens > 0) return ceil_div(static_cast<uint64_t>(f.cache_tokens), page_positions);
    const double memory = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGESIZE));
    const std::string_view kept = wanted_cache_element(load.cache_element, load.accuracy);
    const double element = kept.empty() || kept == "f32" ? 4 : 2;
    const double page =
        2 * element * page_positions * static_cast<double>(config.layers * config.kv_heads * config.head_dim);
    const auto affordable = static_cast<int64_t>(memory / 4 / std::max(1.0, page));
    return std::min(per_context * load.sequences, std::max(affordable, per_context));
}

// Sequences of one replica: room for its own answers and for its share of those that one other loses, since an answer
// under way cannot wait for another one to end.
int64_t sequences_of(const ServeFlags& f) {
    const auto others = static_cast<int64_t>(f.replicas.size()) - 1;
    return others < 1 ? f.sequences : f.sequences + ceil_div(f.sequences, others);
}

// The kernels of every bucket: replicas with the same ones give the same bits in invariant order.
std::string kernels_of(const LoadedModel& model) {
    std::string out;
    for (const Plan& plan : model.plans())
        for (const PlannedStep& step : plan.steps) out += (step.row ? step.row->name : std::string("copy")) + " ";
    return out;
}

OpenModel open_replica(const ServeFlags& f, const std::string& chip, bool again = false) {
    CommonOptions common = f.common;
    common.gate_again = again;
    if (again && common.gate == "off") common.gate = "auto";  // off is a word for chips that have done nothing yet
    if (!chip.empty()) common.chip = chip;
    const DecoderConfig config = read_config(open_model_file(common.model));
    OpenModel model = open_model(common, [&](LoadOptions& load) {
        load.sequences = load.logit_rows = sequences_of(f);
        load.cache_pages = cache_pages(f, load, config);
        load.speculate = f.speculate != "off";
        load.chunk = std::max<int64_t>(load.chunk, load.sequences);
    });
    print_placement(model);
    return model;
}

// With --json: what happens to the server, a line each on stdout.
void tell(const ServeFlags& f, const Server& server, std::string_view event, Json more = Json::object()) {
    if (!f.common.json) return;
    const std::string host = f.serve.host.find(':') == std::string::npos ? f.serve.host : "[" + f.serve.host + "]";
    Json line = {{"event", event}, {"url", fmt::format("http://{}:{}", host, server.port())}};
    line.update(more);
    try {
        put_json(line);
    } catch (const ClosedPipe&) {  // whoever wanted to know does no more
    }
}

Json replica_json(const ServedModel::On& on) {
    return {{"chip", on.name},
            {"detail", on.detail},
            {"verdict", on.verdict},
            {"placement", placement_json(*on.model)},
            {"memory", memory_json(*on.model)}};
}

// What the server needs of a model on a chip; the model's files and chips live as long as it is held.
ServedModel::On replica_of(OpenModel&& opened) {
    auto held = std::make_shared<OpenModel>(std::move(opened));
    ServedModel::On on;
    for (size_t i = 0; i < held->chips.asked(); ++i) {  // without what only serves where these refuse
        const Profile& chip = held->chips.devices[i]->profile();
        on.name += (i == 0 ? "" : "+") + chip.chip;
        on.detail += (i == 0 ? "" : "; ") + chip.detail;
    }
    on.verdict = held->verdict;
    on.model = {held, held->loaded.get()};
    return on;
}

void serve_model(const ServeFlags& f, Server& server, std::jthread& io) {
    const std::vector<std::string> chips = f.replicas.empty() ? std::vector<std::string>{""} : f.replicas;
    ServedModel served;
    OpenModel first = open_replica(f, chips[0]);
    const std::unique_ptr<Tokenizer> tokenizer = open_tokenizer_of(first);
    const ModelFile file = first.file;
    served.end_ids = tokenizer->end_ids();
    for (const int64_t id : first.end_ids) served.end_ids.push_back(static_cast<int32_t>(id));
    const std::string kernels = kernels_of(*first.loaded);
    const int64_t positions = first.loaded->cache_pages() * page_positions;
    served.exact = f.common.order == "invariant";
    served.replicas.push_back(replica_of(std::move(first)));
    for (size_t i = 1; i < chips.size(); ++i) {
        served.replicas.push_back(replica_of(open_replica(f, chips[i])));
        served.exact = served.exact && kernels_of(*served.replicas[i].model) == kernels;
    }
    served.reopen = [&f, chips, exact = served.exact, kernels](size_t i) {
        ServedModel::On on = replica_of(open_replica(f, chips[i], true));
        if (exact && kernels_of(*on.model) != kernels)
            throw chip_error("", "[serve] expected replica {} to come back with the kernels that it had, got others",
                             i);
        return on;
    };
    const std::string source = f.template_file.empty() ? "" : read_text(f.template_file);
    served.tokenizer = tokenizer.get();
    std::optional<Chat> chat;
    try {
        chat.emplace(*tokenizer, source, "the model");
        served.chat = &*chat;
    } catch (const Error& e) {
        if (!source.empty() || !tokenizer->chat_template().empty()) throw;
        served.no_chat = "the model has no chat template: use /v1/completions";
    }
    served.chat_template = source.empty() ? tokenizer->chat_template() : source;
    Json replicas = Json::array();
    for (const ServedModel::On& on : served.replicas) replicas.push_back(replica_json(on));
    server.ready(std::move(served));
    note("ready, {} answers at once on each of {} replicas, cache of {} positions", f.sequences, chips.size(),
         with_commas(positions));
    tell(f, server, "ready",
         {{"model", f.serve.model_name},
          {"sequences", f.sequences},
          {"cache_positions", positions},
          {"replicas", replicas}});
    io.join();
    tell(f, server, "stopped");
    if (!server.close()) {
        note("a chip hangs: its thread ends with the process");
        f.serve.end_now(0);
    }
}

int serve(ServeFlags f) {
    apply_common(f.common);
    raise_file_limit();
    if (!f.key_file.empty()) f.serve.keys = Keys::from_text(read_text(f.key_file), f.key_file);
    if (f.serve.model_name.empty()) {
        const std::filesystem::path path(f.common.model);
        f.serve.model_name = (path.has_filename() ? path : path.parent_path()).stem().string();
    }
    if (f.common.quiet && f.serve.access_log == "-") f.serve.access_log = "";
    f.serve.version = BUSBAR_VERSION;
    f.serve.http.connections = static_cast<size_t>(f.connections);
    f.serve.engine = {f.step_ms / 1000, 4 * f.step_ms / 1000, true};
    f.serve.engine.most_fresh = f.sequences;
    f.serve.engine.speculate = *parse_speculate(f.speculate);
    f.serve.probe.share = f.probe_percent / 100;
    f.serve.end_now = [](int code) { ::_exit(code); };
    Server server(f.serve);
    std::exception_ptr trouble;
    std::jthread io([&] {
        try {
            server.run();
        } catch (...) {
            trouble = std::current_exception();
        }
    });
    note("http://{}:{} (the model is loading)", f.serve.host, server.port());
    tell(f, server, "listening");
    try {
        serve_model(f, server, io);
    } catch (...) {
        server.stop();
        throw;
    }
    if (trouble) std::rethrow_exception(trouble);
    return 0;
}

}  // namespace

void add_serve(CLI::App& app, int& exit_code) {
    auto f = std::make_shared<ServeFlags>();
    f->serve.access_log = "-";
    CLI::App* sub = app.add_subcommand("serve", "an OpenAI-compatible HTTP server");
    sub->footer(
        "Stops on SIGTERM or Ctrl-C after the answers under way, at most --grace seconds; a second signal ends at "
        "once.\n"
        "SIGHUP opens the access log again. TLS is left to a proxy. docs/serve.md says more.\n\nExamples:\n"
        "  busbar serve model.gguf\n"
        "  busbar serve model.gguf --port 9000 --sequences 32\n"
        "  busbar serve model.gguf --host 0.0.0.0 --api-key-file keys.txt");
    add_model(*sub, f->common);
    sub->add_option("--host", f->serve.host, "address to listen on; a public one needs --api-key-file")
        ->type_name("ADDRESS")
        ->capture_default_str();
    sub->add_option("--port", f->serve.port, "0 = any free one")
        ->type_name("N")
        ->capture_default_str()
        ->check(whole_number(0, 65535));
    sub->add_option("--api-key-file", f->key_file, "keys, one a line; every route but /health and /ready asks for one")
        ->type_name("FILE");
    sub->add_option("--allow-host", f->serve.allowed_hosts, "answer to this Host name too (repeatable)")
        ->type_name("NAME")
        ->allow_extra_args(false);
    sub->add_option("--model-name", f->serve.model_name, "what clients call the model; else its file's name")
        ->type_name("NAME");
    sub->add_option("--chat-template-file", f->template_file, "a Jinja template instead of the model's own")
        ->type_name("FILE");
    sub->add_option(
           "--replica", f->replicas,
           "a chip with the model on it, as --chip has them (repeatable): when one is lost, another one goes on")
        ->type_name("CHIP")
        ->allow_extra_args(false);
    sub->add_option(
           "--hang-seconds", f->serve.hang_seconds,
           "a step that takes longer is taken for one that never ends; with other replicas also one that takes eight "
           "times what such steps took")
        ->type_name("S")
        ->capture_default_str()
        ->check(number(0, 86400));
    sub->add_option("--reopen-seconds", f->serve.reopen_seconds,
                    "before a lost replica is opened again, through the gate; doubled while that fails; 0 = never")
        ->type_name("S")
        ->capture_default_str()
        ->check(number(0, 86400));
    sub->add_option("--most-reopen-seconds", f->serve.most_reopen_seconds, "that doubling ends here")
        ->type_name("S")
        ->capture_default_str()
        ->check(number(0, 86400));
    sub->add_option("--probe", f->probe_percent,
                    "time that checking answers' products on the way may cost; 0 = none, 100 = all of them, always")
        ->type_name("PERCENT")
        ->capture_default_str()
        ->check(number(0, 100));
    sub->add_option("--sequences", f->sequences, "answers in the batch at once")
        ->type_name("N")
        ->capture_default_str()
        ->check(whole_number(1, 256));
    sub->add_option("--cache-tokens", f->cache_tokens,
                    "positions that all answers together may hold; 0 = for every sequence, at most a quarter of memory")
        ->type_name("N")
        ->capture_default_str()
        ->check(whole_number(0, int64_t{1} << 32));
    sub->add_option("--max-tokens", f->serve.request.max_tokens, "the longest answer; 0 = to the end of the context")
        ->type_name("N")
        ->capture_default_str()
        ->check(whole_number(0, INT32_MAX));
    sub->add_option("--queue", f->serve.most_waiting, "answers that may wait; beyond that clients get 429")
        ->type_name("N")
        ->capture_default_str()
        ->check(whole_number(1, 100000));
    sub->add_option("--step-ms", f->step_ms, "about how long a long prompt may keep other answers waiting, per token")
        ->type_name("MS")
        ->capture_default_str()
        ->check(number(0, 60000));
    sub->add_option("--speculate", f->speculate,
                    "while one answer is alone: guess its next tokens and verify them: auto (where it pays), on, off")
        ->type_name("WORD")
        ->capture_default_str()
        ->check(one_of({"auto", "on", "off"}));
    sub->add_option("--connections", f->connections, "open at once; idle ones give way")
        ->type_name("N")
        ->capture_default_str()
        ->check(whole_number(1, 1000000));
    sub->add_option("--header-seconds", f->serve.http.header_seconds, "for a request's headers to arrive")
        ->type_name("S")
        ->capture_default_str()
        ->check(number(0.1, 3600));
    sub->add_option("--body-seconds", f->serve.http.body_seconds, "for its body to arrive")
        ->type_name("S")
        ->capture_default_str()
        ->check(number(0.1, 3600));
    sub->add_option("--ping-seconds", f->serve.http.ping_seconds,
                    "a stream that is silent for so long gets a comment, which keeps proxies from closing it")
        ->type_name("S")
        ->capture_default_str()
        ->check(number(0.1, 3600));
    sub->add_option("--grace", f->serve.grace_seconds, "seconds that answers under way may take after SIGTERM")
        ->type_name("S")
        ->capture_default_str()
        ->check(number(0, 86400));
    sub->add_option("--access-log", f->serve.access_log, "JSON lines; - = stderr, \"\" = none")
        ->type_name("FILE")
        ->capture_default_str();
    add_common(*sub, f->common);
    sub->callback([f, &exit_code] { exit_code = serve(*f); });
}

}  // namespace busbar
