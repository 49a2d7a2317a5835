#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "llm/chat/chat.h"
#include "serve/http/http_server.h"
#include "serve/keys.h"
#include "serve/replica.h"
#include "serve/request/request.h"

namespace busbar {

struct ServeOptions {
    std::string host = "127.0.0.1";
    int port = 8080;
    std::string model_name;
    std::string version;
    HttpLimits http;
    RequestLimits request;
    Keys keys;
    std::vector<std::string> allowed_hosts;  ///< of the Host header, besides this machine's own names
    std::string access_log;
    double grace_seconds = 30;
    int64_t most_waiting = 128;
    EngineOptions engine;
    double hang_seconds = 10;   ///< a step that takes longer never ends; 0 = wait for ever
    double reopen_seconds = 5;  ///< before a lost replica is opened again; 0 = never
    double most_reopen_seconds = 300;
    ProbeOptions probe;
    /// Ends the process at once: a second signal, or one before there was anything to lose.
    std::function<void(int code)> end_now;
};

/// A model on one chip or on several, as the server uses it. What it points to must outlive the server.
struct ServedModel {
    const Tokenizer* tokenizer = nullptr;
    const Chat* chat = nullptr;  ///< null where the model has no chat template
    std::string no_chat;         ///< why not
    std::string chat_template;
    std::vector<int32_t> end_ids;
    struct On {
        std::string name;  ///< of the chip
        std::string detail;
        Json verdict;  ///< of the gate (agree::Admission), null where it was off
        std::shared_ptr<LoadedModel> model;
    };
    std::vector<On> replicas;
    bool exact = false;  ///< all of them give the same bits
    /// Opens replica i anew, through the gate, with the same kernels; throws what opening throws.
    std::function<On(size_t i)> reopen;
};

/// The OpenAI API over replicas. Health answers while the model still loads.
class Server {
  public:
    /// Binds. Throws Error{usage} for an address that others can reach without keys, or as HttpServer does.
    explicit Server(ServeOptions options);
    ~Server();

    int port() const;
    /// Serves until it has been told to stop (a signal) and has drained.
    void run();
    void ready(ServedModel model);
    /// Ends run() at once: for a model that could not be loaded.
    void stop();
    /// After run(): ends the replicas. The models may go then - unless it says false: a chip hangs, and only the end of
    /// the process ends that.
    bool close();

    struct State;

  private:
    std::unique_ptr<State> state_;
};

}  // namespace busbar
