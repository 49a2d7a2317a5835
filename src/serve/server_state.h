#pragma once
#include <atomic>
#include <map>
#include <mutex>
#include <random>

#include "serve/access_log.h"
#include "serve/completion.h"
#include "serve/metrics.h"
#include "serve/request/api_error.h"
#include "serve/router.h"
#include "serve/server.h"
#include "serve/workers.h"

namespace busbar {

/// A request under way: what a handler needs, and what the log says in the end.
struct Call {
    HttpRequest request;
    std::shared_ptr<HttpReply> reply;
    uint64_t tenant = 0;
    double begin = 0;
    std::string id;
};

struct Server::State {
    ServeOptions options;
    AccessLog log;
    Metrics metrics;
    std::unique_ptr<HttpServer> http;

    std::atomic<bool> is_ready{false}, draining{false};
    ServedModel model;               ///< valid once is_ready
    std::unique_ptr<Router> router;  ///< likewise
    ToolStyle tool_style = ToolStyle::none;
    int64_t context = 0, most_positions = 0;  ///< likewise: of a sequence; that an answer with its prompt may have
    struct Chip {
        std::string name, detail;
        Json verdict;
    };
    std::vector<Chip> chips;  ///< of the replicas, in order; verdicts change under the mutex
    int64_t started = 0;      ///< seconds since 1970

    std::mutex mutex;
    std::map<uint64_t, std::weak_ptr<Completion>> live;  ///< by request number
    std::mt19937_64 random;
    double drain_until = 0;
    bool cut = false;
    std::unique_ptr<Workers> workers;  ///< last: its threads use all of the above

    explicit State(ServeOptions o);

    // server.cc: the life of the process and the way to a handler.
    void handle(HttpRequest request, std::shared_ptr<HttpReply> reply);
    void signal(int number);
    double tick();
    void begin_drain();
    void check_access(Call& call) const;
    void answer(const Call& call, int status, const Json& body, HttpHeaders headers = {});
    void answer_text(const Call& call, int status, std::string_view type, std::string body, HttpHeaders headers = {});
    void answer_error(const Call& call, const ApiError& error);
    void log_call(const Call& call, int status, const Outcome* outcome);
    uint64_t random_number();

    // handlers.cc: one per route.
    void health(Call& call);
    void ready_now(Call& call);
    void version(Call& call);
    void models(Call& call);
    void one_model(Call& call);
    void metrics_text(Call& call);
    void status(Call& call);
    void page(Call& call);
    void tokenize(Call& call);
    void detokenize(Call& call);
    void chat(Call& call);
    void text(Call& call);
    void embeddings(Call& call);

    void complete(Call& call, CompletionRequest request);
    void check_model(const std::string& name) const;
    std::vector<TokenId> chat_prompt(const Json& conversation) const;
    Json model_card();
    Json verdict_of(size_t chip);
};

extern const std::string_view page_html;

}  // namespace busbar
