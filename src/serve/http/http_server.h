#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace busbar {

/// What the wire allows. Everything a stranger can make grow has a bound here.
struct HttpLimits {
    size_t header_bytes = 16 << 10;
    size_t header_fields = 100;
    size_t body_bytes = 4 << 20;
    size_t connections = 1024;      ///< above that the one idle for longest is closed, else the newcomer refused
    size_t unsent_bytes = 4 << 20;  ///< of one stream whose client reads too slowly: then it is cut
    double header_seconds = 10;     ///< from the first byte to the end of the headers
    double body_seconds = 30;       ///< to the end of the body
    double idle_seconds = 75;       ///< between two requests of a connection
    double write_seconds = 30;      ///< for one write that makes no progress
    double ping_seconds = 10;       ///< a silent stream gets a comment
};

/// One request, whole. Header names are lower case.
struct HttpRequest {
    uint64_t number = 0;  ///< counts requests of this process
    std::string method, path, query, remote;
    std::vector<std::pair<std::string, std::string>> headers;
    std::string body;
    bool head_only = false;
    /// "" if the header is absent. Fields that may stand once only are refused twice before this.
    std::string_view header(std::string_view lower_case_name) const;
};

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

/// The way back to one client. Any thread may call it; nothing throws; after the client has gone calls do nothing.
class HttpReply {
  public:
    virtual ~HttpReply() = default;
    /// The whole answer.
    virtual void send(int status, std::string_view content_type, std::string body, HttpHeaders headers = {}) = 0;
    /// An event stream instead: headers now, then text as it comes.
    virtual void begin_stream(HttpHeaders headers = {}) = 0;
    virtual void write(std::string text) = 0;
    virtual void end_stream() = 0;
    /// Called once, on the server's thread, when the client has gone before the answer was complete.
    virtual void on_gone(std::function<void()> call) = 0;
};

/// HTTP/1.1 on one thread: run() gives it its thread. Knows nothing of what is asked.
class HttpServer {
  public:
    struct Hooks {
        /// A request; the reply may be used at once or later. Runs on the server's thread: quick work only.
        std::function<void(HttpRequest, std::shared_ptr<HttpReply>)> request;
        /// What the wire refused before anyone saw it (bad syntax, too large, too slow): status and reason for the log.
        std::function<void(const std::string& remote, int status, std::string_view reason)> refused;
        std::function<void(int signal)> signal;
        std::function<double()> tick;  ///< ten times a second, or after fewer seconds if it says so
    };
    /// Binds and listens. Throws Error{usage} for an address that is none, Error{bad_input} where the port is taken.
    HttpServer(const std::string& host, int port, const HttpLimits& limits, Hooks hooks,
               const std::vector<int>& signals);
    ~HttpServer();

    int port() const;            ///< the one that was given by the system where 0 was asked for
    bool loopback() const;       ///< reachable from this machine only
    void run();                  ///< until stop()
    void stop();                 ///< any thread
    void drain();                ///< any thread: answers close their connections, idle ones are closed now
    size_t connections() const;  ///< open ones
    size_t answering() const;    ///< requests not yet answered to the last byte

    struct State;

  private:
    std::shared_ptr<State> state_;
};

}  // namespace busbar
