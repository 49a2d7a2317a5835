#include "serve/server.h"

#include <signal.h>

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "base/log.h"
#include "base/trace.h"
#include "serve/http/http_text.h"
#include "serve/server_state.h"

namespace busbar {

namespace {

using State = Server::State;

struct Route {
    std::string_view method, path;
    void (State::*handler)(Call&);
    bool open;  ///< needs no key
    bool needs_model;
    bool slow;  ///< runs on a worker
};

constexpr Route routes[] = {
    {"GET", "/health", &State::health, true, false, false},
    {"GET", "/ready", &State::ready_now, true, false, false},
    {"GET", "/", &State::page, false, false, false},
    {"GET", "/status", &State::status, false, false, false},
    {"GET", "/version", &State::version, false, false, false},
    {"GET", "/metrics", &State::metrics_text, false, false, false},
    {"GET", "/v1/models", &State::models, false, true, false},
    {"GET", "/v1/models/*", &State::one_model, false, true, false},
    {"POST", "/v1/chat/completions", &State::chat, false, true, true},
    {"POST", "/v1/completions", &State::text, false, true, true},
    {"POST", "/v1/embeddings", &State::embeddings, false, false, false},
    {"POST", "/tokenize", &State::tokenize, false, true, true},
    {"POST", "/detokenize", &State::detokenize, false, true, true},
};

bool matches(const Route& route, std::string_view path) {
    if (!route.path.ends_with('*')) return route.path == path;
    const std::string_view head = route.path.substr(0, route.path.size() - 1);
    return path.starts_with(head) && path.size() > head.size();
}

// Throws ApiError.
const Route& route_of(const HttpRequest& request) {
    const std::string_view method = request.head_only ? "GET" : std::string_view(request.method);
    bool path_known = false;
    for (const Route& r : routes)
        if (matches(r, request.path)) {
            if (r.method == method) return r;
            path_known = true;
        }
    if (path_known) throw ApiError(405, fmt::format("{} does not take {}", quote(request.path), quote(request.method)));
    throw ApiError(404, fmt::format("there is no {}", quote(request.path)));
}

std::string_view without_port(std::string_view host) {
    if (host.starts_with('[')) return host.substr(0, host.find(']') + 1);
    return host.substr(0, host.rfind(':'));
}

ApiError busy(const std::string& message, int status, int retry_after) {
    ApiError e(status, message);
    e.retry_after = retry_after;
    return e;
}

}  // namespace

Server::State::State(ServeOptions o)
    : options(std::move(o)),
      log(options.access_log),
      started(std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
                  .count()),
      random(std::random_device{}() ^ (static_cast<uint64_t>(std::random_device{}()) << 32)) {
    HttpServer::Hooks hooks;
    hooks.request = [this](HttpRequest r, std::shared_ptr<HttpReply> reply) { handle(std::move(r), std::move(reply)); };
    hooks.refused = [this](const std::string& remote, int status, std::string_view reason) {
        metrics.refused(reason);
        log.write({{"remote", remote}, {"status", status}, {"refused", reason}});
    };
    hooks.signal = [this](int n) { signal(n); };
    hooks.tick = [this] { return tick(); };
    http = std::make_unique<HttpServer>(options.host, options.port, options.http, std::move(hooks),
                                        std::vector<int>{SIGINT, SIGTERM, SIGHUP});
    if (!http->loopback() && options.keys.empty())
        throw usage_error(
            "[serve] --host {}: others could use this server; give --api-key-file, or listen on 127.0.0.1 only",
            quote(options.host));
    workers = std::make_unique<Workers>(2, 256);
}

// Who may ask: whoever has a key; without keys, programs of this machine that know its name. (A page of another site
// can make a browser ask under that site's name, and cannot send application/json without being let.)
void Server::State::check_access(Call& call) const {
    const HttpRequest& r = call.request;
    if (!options.keys.empty()) {
        const auto tenant = options.keys.tenant(r.header("authorization"));
        if (!tenant) throw ApiError(401, "a valid API key is needed: Authorization: Bearer KEY", "", "invalid_api_key");
        call.tenant = *tenant;
        return;
    }
    const std::string host = ascii_lower(without_port(r.header("host")));
    for (const char* own : {"localhost", "127.0.0.1", "[::1]", ""})
        if (host == own) return;
    if (host.starts_with("127.") || std::ranges::find(options.allowed_hosts, host) != options.allowed_hosts.end())
        return;
    throw ApiError(403, "this server answers to its own names only; --allow-host adds one");
}

void Server::State::handle(HttpRequest request, std::shared_ptr<HttpReply> reply) {
    auto call = std::make_shared<Call>();
    call->request = std::move(request);
    call->reply = std::move(reply);
    call->begin = seconds_since_start();
    call->id = fmt::format("{:016x}", random_number());
    const auto guarded = [this, call](auto work) {
        try {
            work();
        } catch (const ApiError& e) {
            answer_error(*call, e);
        } catch (const std::exception& e) {
            note("serve: {}", e.what());
            answer_error(*call, ApiError(500, "internal error"));
        }
    };
    guarded([&] {
        const Route* route = nullptr;
        try {
            route = &route_of(call->request);
            if (!route->open) check_access(*call);
        } catch (const ApiError&) {
            if (!route) check_access(*call);  // without a key nobody learns which paths exist
            throw;
        }
        if (route->method == "POST") {
            const std::string type = ascii_lower(call->request.header("content-type"));
            if (type.substr(0, type.find(';')) != "application/json")
                throw ApiError(415, "expected the header Content-Type: application/json");
            // What was packed small may unpack to any size.
            const std::string coding = ascii_lower(call->request.header("content-encoding"));
            if (!coding.empty() && coding != "identity")
                throw ApiError(415, "expected a body without Content-Encoding");
            if (draining) throw busy("the server is stopping; ask again", 503, 1);
        }
        if (route->needs_model && !is_ready) throw busy("the model is loading", 503, 2);
        const auto work = [this, call, route, guarded] { guarded([&] { (this->*route->handler)(*call); }); };
        if (!route->slow) return work();
        if (!workers->post(work)) throw busy("too many requests wait; ask again", 429, 1);
    });
}

uint64_t Server::State::random_number() {
    const std::scoped_lock lock(mutex);
    return random();
}

void Server::State::answer_text(const Call& call, int status, std::string_view type, std::string body,
                                HttpHeaders headers) {
    headers.emplace_back("X-Request-Id", call.id);
    call.reply->send(status, type, std::move(body), std::move(headers));
    log_call(call, status, nullptr);
}

void Server::State::answer(const Call& call, int status, const Json& body, HttpHeaders headers) {
    answer_text(call, status, "application/json", wire(body), std::move(headers));
}

void Server::State::answer_error(const Call& call, const ApiError& error) {
    HttpHeaders headers;
    if (error.retry_after > 0) headers.emplace_back("Retry-After", std::to_string(error.retry_after));
    if (error.status == 401)
        headers.emplace_back("WWW-Authenticate", call.request.path == "/"
                                                     ? "Basic realm=\"busbar: the API key is the password\""
                                                     : "Bearer");
    answer(call, error.status, error.body(), std::move(headers));
}

void Server::State::log_call(const Call& call, int status, const Outcome* outcome) {
    metrics.answered(status);
    const HttpRequest& r = call.request;
    const bool watching = r.path == "/health" || r.path == "/ready" || r.path == "/metrics" || r.path == "/status";
    if (watching && status == 200 && !log_wants(LogLevel::details)) return;
    const double now = seconds_since_start();
    const auto wall =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
            .count();
    Json line = {{"time", static_cast<double>(wall) / 1000},
                 {"id", call.id},
                 {"remote", r.remote},
                 {"method", r.method.substr(0, 16)},
                 {"path", r.path.substr(0, 200)},
                 {"status", status},
                 {"seconds", std::round((now - call.begin) * 1e4) / 1e4}};
    if (outcome) {
        line["prompt_tokens"] = outcome->prompt_tokens;
        line["completion_tokens"] = outcome->completion_tokens;
        line["cached_tokens"] = outcome->cached_tokens;
        line["finish"] = outcome->finishes;
    }
    log.write(line);
}

void Server::State::signal(int number) {
    if (number == SIGHUP) return log.reopen();
    const int interrupted = static_cast<int>(ErrorCode::interrupted);
    if (!is_ready) return options.end_now(number == SIGTERM ? 0 : interrupted);
    if (draining) return options.end_now(interrupted);
    note("stopping: {} requests are being answered, {} s at most; a second signal ends at once", http->answering(),
         options.grace_seconds);
    begin_drain();
}

void Server::State::begin_drain() {
    draining = true;
    drain_until = seconds_since_start() + options.grace_seconds;
    http->drain();
}

double Server::State::tick() {
    const double look_again = is_ready ? router->watch(!draining) : 1;
    if (!draining) return look_again;
    const double now = seconds_since_start();
    if (http->answering() == 0 || (cut && now > drain_until + 2)) {
        http->stop();
        return 1;
    }
    if (cut || now < drain_until) return look_again;
    cut = true;
    size_t n = 0;
    std::map<uint64_t, std::weak_ptr<Completion>> all;
    {
        const std::scoped_lock lock(mutex);
        all.swap(live);
    }
    for (const auto& [number, weak] : all)
        if (const auto completion = weak.lock()) {
            ++n;
            for (const auto& job : completion->stop("the server stops; ask again")) router->cancel(*job);
        }
    note("the grace time is over: {} answers were cut", n);
    return look_again;
}

Server::Server(ServeOptions options) : state_(std::make_unique<State>(std::move(options))) {}
Server::~Server() {
    close();
}

bool Server::close() {
    state_->workers.reset();
    if (state_->router && state_->router->hangs()) return false;
    state_->router.reset();
    return true;
}

int Server::port() const {
    return state_->http->port();
}

void Server::run() {
    state_->http->run();
}

void Server::stop() {
    state_->http->stop();
}

void Server::ready(ServedModel model) {
    State& state = *state_;
    std::vector<std::shared_ptr<StepTimes>> times;
    for (size_t i = 0; i < model.replicas.size(); ++i) times.push_back(std::make_shared<StepTimes>());
    const auto replica_of = [&state, times](size_t i, const ServedModel::On& on) {
        return std::make_shared<Replica>(on.name, *on.model, on.model, times[i], state.options.engine,
                                         state.options.probe, state.options.most_waiting);
    };
    std::vector<std::shared_ptr<Replica>> replicas;
    for (ServedModel::On& on : model.replicas) {
        replicas.push_back(replica_of(replicas.size(), on));
        state.chips.push_back({on.name, on.detail, on.verdict});
    }
    state.context = model.replicas[0].model->context();
    state.most_positions = std::min(state.context, model.replicas[0].model->cache_pages() * page_positions);
    model.replicas.clear();  // from here on a replica alone holds its model
    RouterOptions options{
        model.exact, state.options.hang_seconds, state.options.reopen_seconds, state.options.most_reopen_seconds, {}};
    if (model.reopen)
        options.reopen = [&state, replica_of, reopen = model.reopen](size_t i) {
            const ServedModel::On on = reopen(i);
            const std::scoped_lock lock(state.mutex);
            state.chips[i].verdict = on.verdict;
            return replica_of(i, on);
        };
    else
        options.reopen_seconds = 0;
    state.tool_style = tool_style_of(model.chat_template);
    state.router = std::make_unique<Router>(std::move(replicas), std::move(options));
    state.model = std::move(model);
    state.is_ready = true;
}

}  // namespace busbar
