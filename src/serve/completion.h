#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "llm/engine/stop_text.h"
#include "llm/tokenizer/tokenizer.h"
#include "serve/http/http_server.h"
#include "serve/replica.h"
#include "serve/request/request.h"
#include "serve/request/tool_calls.h"

namespace busbar {

/// How a request went, for the log and the metrics.
struct Outcome {
    int status = 200;
    int64_t prompt_tokens = 0, completion_tokens = 0, cached_tokens = 0;
    std::vector<std::string> finishes;  ///< per answer
    bool client_gone = false;
};

/// One request's answers on their way from tokens to the wire: whole or as a stream, one or several. The replicas'
/// threads call in.
class Completion : public std::enable_shared_from_this<Completion> {
  public:
    struct Shape {
        std::string id, model, fingerprint;
        int64_t created = 0;
        ToolStyle tools = ToolStyle::none;  ///< none where the request offers none
        std::string failover = "none";      ///< what happens when the chip is lost: none, consistent, exact
    };
    Completion(CompletionRequest request, Shape shape, const Tokenizer& tokenizer, std::shared_ptr<HttpReply> reply,
               std::function<void(const Outcome&)> done);

    /// Adds an answer; fills in the job's callbacks. `new_prompt`: its prompt is counted in the usage.
    void add(const std::shared_ptr<Job>& job, bool new_prompt);
    /// After all have been added: `submit` gives them to somebody, or throws, and then all is let go of and the caller
    /// answers. Only what was accepted begins a stream, and no token comes before that.
    void begin_when(const std::function<void()>& submit);
    /// No more is wanted: the client has gone (`error` ""), or the server stops. Returns the jobs to cancel.
    std::vector<std::shared_ptr<Job>> stop(const std::string& error);

  private:
    struct Choice {
        StreamDecoder decoder;
        StopFilter stop;
        ToolParser tools;
        std::string text;
        std::vector<ToolCall> calls;
        size_t calls_sent = 0;
        Json logprobs = Json::array();  ///< of this chunk, or of all
        int64_t text_offset = 0;
        std::string finish;
    };
    void begin();
    void withdraw();
    bool token(size_t index, int32_t id, const std::vector<TokenScore>& best);
    void moved();
    void ended(size_t index, Finish finish, const std::string& error);
    void take(Choice& c, const ToolParser::Out& out) const;
    Json score(Choice& c, int32_t id, const std::vector<TokenScore>& best) const;
    Json logprobs_json(const Choice& c) const;
    Json message(const Choice& c) const;
    Json frame(bool chunk) const;
    void send_chunk(size_t index, bool last);
    void all_ended();
    Json usage() const;
    std::string bytes_of(int32_t id) const { return tokenizer_.decode({id}, true); }

    CompletionRequest request_;
    Shape shape_;
    const Tokenizer& tokenizer_;
    std::shared_ptr<HttpReply> reply_;
    std::function<void(const Outcome&)> done_;
    std::vector<std::shared_ptr<Job>> jobs_;

    std::mutex mutex_;  ///< answers of one request may run on several replicas
    std::vector<Choice> choices_;
    size_t ended_ = 0;
    std::string error_;
    Outcome outcome_;
};

/// JSON for the wire: never throws, text that is not UTF-8 gets replacement characters.
std::string wire(const Json& document);

}  // namespace busbar
