// The only file that includes Boost: it compiles slowly.
#include "serve/http/http_server.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <deque>
#include <list>
#include <map>
#include <optional>

#include "base/error.h"
#include "serve/http/http_text.h"

namespace busbar {

namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;
using Clock = std::chrono::steady_clock;
using Code = boost::system::error_code;

Clock::time_point in(double seconds) {
    return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

class Connection;

}  // namespace

struct HttpServer::State : std::enable_shared_from_this<State> {
    asio::io_context context{1};
    tcp::acceptor acceptor{context};
    asio::signal_set signals{context};
    asio::steady_timer ticker{context}, accept_pause{context};
    HttpLimits limits;
    Hooks hooks;
    std::list<std::shared_ptr<Connection>> connections;
    std::list<Connection*> idle;  ///< for longest first
    bool draining = false;
    uint64_t requests = 0;
    std::atomic<size_t> open{0}, answering{0};

    void accept();
    void take(tcp::socket socket);
    void tick(double seconds = 0.1);
    void wait_for_signal();
};

namespace {

/// One client. Everything here runs on the server's thread.
class Connection : public std::enable_shared_from_this<Connection> {
  public:
    Connection(std::shared_ptr<HttpServer::State> server, tcp::socket socket, std::string remote)
        : server_(std::move(server)), socket_(std::move(socket)), remote_(std::move(remote)) {}

    void start(std::list<std::shared_ptr<Connection>>::iterator self) {
        self_ = self;
        become_idle(server_->limits.header_seconds);
    }
    void close();
    /// Between two requests, and the next one is not on its way.
    bool at_rest();
    void check_deadline(Clock::time_point now);
    void refuse_now(int status, std::string_view reason);

    // From Reply, each with the number of the request that it answers.
    void send(uint64_t number, int status, std::string_view type, std::string body, const HttpHeaders& headers);
    void begin_stream(uint64_t number, const HttpHeaders& headers);
    void write(uint64_t number, std::string text);
    void end_stream(uint64_t number);
    void on_gone(uint64_t number, std::function<void()> call);
    void abandoned(uint64_t number);

  private:
    enum class Phase { idle, header, body, answering, lingering, closed };

    void become_idle(double seconds);
    void watch();
    void readable(Code error);
    void read_header();
    void got_header(Code error);
    void read_body();
    void got_body(Code error);
    void refuse(Code error);
    void dispatch();
    void put(std::string bytes);
    void write_more();
    void answered();
    void linger();
    void gone();
    bool answers(uint64_t number) const { return phase_ == Phase::answering && number == number_ && !complete_; }

    std::shared_ptr<HttpServer::State> server_;
    tcp::socket socket_;
    std::string remote_;
    std::list<std::shared_ptr<Connection>>::iterator self_;
    std::list<Connection*>::iterator idle_at_;
    boost::beast::flat_buffer buffer_;
    std::optional<http::request_parser<http::string_body>> parser_;
    Phase phase_ = Phase::idle;
    Clock::time_point deadline_ = Clock::time_point::max(), write_deadline_ = Clock::time_point::max(),
                      ping_at_ = Clock::time_point::max();
    bool watching_ = false, more_came_ = false;
    bool keep_alive_ = true, old_version_ = false, head_only_ = false;
    uint64_t number_ = 0;  ///< of the request being answered
    bool streaming_ = false, complete_ = false;
    std::function<void()> on_gone_;
    std::string sending_, waiting_;
    size_t sent_ = 0;
    char discard_[4096];
};

class Reply final : public HttpReply {
  public:
    Reply(std::shared_ptr<HttpServer::State> server, std::weak_ptr<Connection> connection, uint64_t number)
        : server_(std::move(server)), connection_(std::move(connection)), number_(number) {}
    ~Reply() override {
        post([n = number_](Connection& c) { c.abandoned(n); });
    }
    void send(int status, std::string_view type, std::string body, HttpHeaders headers) override {
        post([n = number_, status, type = std::string(type), body = std::move(body), headers = std::move(headers)](
                 Connection& c) mutable { c.send(n, status, type, std::move(body), headers); });
    }
    void begin_stream(HttpHeaders headers) override {
        post([n = number_, headers = std::move(headers)](Connection& c) { c.begin_stream(n, headers); });
    }
    void write(std::string text) override {
        post([n = number_, text = std::move(text)](Connection& c) mutable { c.write(n, std::move(text)); });
    }
    void end_stream() override {
        post([n = number_](Connection& c) { c.end_stream(n); });
    }
    void on_gone(std::function<void()> call) override {
        post([n = number_, call = std::move(call)](Connection& c) mutable { c.on_gone(n, std::move(call)); });
    }

  private:
    template <typename F>
    void post(F f) {
        asio::post(server_->context, [connection = connection_, f = std::move(f)]() mutable {
            if (const auto c = connection.lock()) f(*c);
        });
    }
    std::shared_ptr<HttpServer::State> server_;
    std::weak_ptr<Connection> connection_;
    uint64_t number_;
};

void Connection::become_idle(double seconds) {
    phase_ = Phase::idle;
    idle_at_ = server_->idle.insert(server_->idle.end(), this);
    deadline_ = in(seconds);
    if (buffer_.size() > 0 || more_came_) return read_header();
    watch();
}

bool Connection::at_rest() {
    char byte;
    return phase_ == Phase::idle && number_ > 0 &&
           ::recv(socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0;
}

void Connection::watch() {
    if (watching_) return;
    watching_ = true;
    socket_.async_wait(tcp::socket::wait_read, [self = shared_from_this()](Code error) {
        self->watching_ = false;
        self->readable(error);
    });
}

void Connection::readable(Code error) {
    if (phase_ == Phase::closed || error == asio::error::operation_aborted) return;
    if (phase_ == Phase::idle) return error ? close() : read_header();
    if (phase_ != Phase::answering) return;
    char byte;
    const ssize_t n = error ? -1 : ::recv(socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n > 0)
        more_came_ = true;  // the next request already: no more watching, a lost client shows when we write
    else if (n == 0 || (errno != EAGAIN && errno != EINTR))
        gone();
    else
        watch();
}

void Connection::read_header() {
    server_->idle.erase(idle_at_);
    phase_ = Phase::header;
    more_came_ = false;
    deadline_ = in(server_->limits.header_seconds);
    parser_.emplace();
    parser_->header_limit(static_cast<std::uint32_t>(server_->limits.header_bytes));
    parser_->body_limit(server_->limits.body_bytes);
    buffer_.max_size(server_->limits.header_bytes + (64 << 10));
    http::async_read_header(socket_, buffer_, *parser_,
                            [self = shared_from_this()](Code error, size_t) { self->got_header(error); });
}

void Connection::got_header(Code error) {
    if (phase_ != Phase::header) return;  // it took too long, and that has been said
    if (error) return refuse(error);
    const auto& fields = parser_->get();
    std::map<std::string, int> once;
    size_t count = 0;
    for (const auto& field : fields) {
        ++count;
        ++once[ascii_lower(std::string_view(field.name_string().data(), field.name_string().size()))];
    }
    if (count > server_->limits.header_fields) return refuse_now(431, "too many header fields");
    for (const char* name : {"host", "content-length", "content-type", "authorization", "transfer-encoding"})
        if (once[name] > 1) return refuse_now(400, "a header field stands twice that may stand once only");
    old_version_ = fields.version() < 11;
    if (!old_version_ && once["host"] == 0) return refuse_now(400, "the header field Host is missing");
    if (fields.target().empty() || fields.target()[0] != '/')
        return refuse_now(400, "the request target must be a path");
    if (!parser_->is_done() && fields[http::field::expect] == "100-continue") put("HTTP/1.1 100 Continue\r\n\r\n");
    read_body();
}

void Connection::read_body() {
    phase_ = Phase::body;
    deadline_ = in(server_->limits.body_seconds);
    http::async_read(socket_, buffer_, *parser_,
                     [self = shared_from_this()](Code error, size_t) { self->got_body(error); });
}

void Connection::got_body(Code error) {
    if (phase_ != Phase::body) return;
    if (error) return refuse(error);
    dispatch();
}

void Connection::refuse(Code error) {
    if (error == http::error::header_limit || (error == http::error::buffer_overflow && phase_ == Phase::header))
        return refuse_now(431, "the headers are too large");
    if (error == http::error::body_limit || error == http::error::buffer_overflow)
        return refuse_now(413, "the body is too large");
    if (error.category() == http::make_error_code(http::error::bad_method).category() &&
        error != http::error::end_of_stream && error != http::error::partial_message)
        return refuse_now(400, "the request is not valid HTTP/1.1");
    close();  // the client went, in the middle of a request or between two
}

void Connection::refuse_now(int status, std::string_view reason) {
    server_->hooks.refused(remote_, status, reason);
    if (phase_ == Phase::idle) server_->idle.erase(idle_at_);
    phase_ = Phase::answering;
    keep_alive_ = false;
    complete_ = true;
    deadline_ = in(server_->limits.header_seconds);
    ++server_->answering;
    put(http_answer(status, "application/json", wire_error_body(status, reason), {}, false, false));
}

void Connection::dispatch() {
    auto message = parser_->release();
    HttpRequest request;
    request.number = number_ = ++server_->requests;
    request.remote = remote_;
    request.method = std::string(message.method_string());
    const std::string target(message.target());
    const size_t mark = target.find('?');
    request.path = target.substr(0, mark);
    if (mark != std::string::npos) request.query = target.substr(mark + 1);
    for (const auto& field : message)
        request.headers.emplace_back(
            ascii_lower(std::string_view(field.name_string().data(), field.name_string().size())),
            std::string(field.value()));
    request.body = std::move(message.body());
    keep_alive_ = message.keep_alive();
    head_only_ = request.head_only = request.method == "HEAD";
    parser_.reset();
    phase_ = Phase::answering;
    deadline_ = Clock::time_point::max();
    streaming_ = complete_ = false;
    ++server_->answering;
    if (buffer_.size() == 0)
        watch();
    else
        more_came_ = true;
    server_->hooks.request(std::move(request), std::make_shared<Reply>(server_, weak_from_this(), number_));
}

void Connection::send(uint64_t number, int status, std::string_view type, std::string body,
                      const HttpHeaders& headers) {
    if (!answers(number) || streaming_) return;
    keep_alive_ = keep_alive_ && !server_->draining;
    complete_ = true;
    std::string head = http_answer(status, type, body, headers, keep_alive_, head_only_);
    put(std::move(head));
}

void Connection::begin_stream(uint64_t number, const HttpHeaders& headers) {
    if (!answers(number) || streaming_) return;
    streaming_ = true;
    keep_alive_ = keep_alive_ && !server_->draining && !old_version_;
    ping_at_ = in(server_->limits.ping_seconds);
    put(http_stream_head(headers, keep_alive_, old_version_));
}

void Connection::write(uint64_t number, std::string text) {
    if (!answers(number) || !streaming_ || text.empty()) return;
    if (sending_.size() - sent_ + waiting_.size() > server_->limits.unsent_bytes) return gone();  // it reads too slowly
    ping_at_ = in(server_->limits.ping_seconds);
    put(old_version_ ? std::move(text) : fmt::format("{:x}\r\n{}\r\n", text.size(), text));
}

void Connection::end_stream(uint64_t number) {
    if (!answers(number) || !streaming_) return;
    complete_ = true;
    ping_at_ = Clock::time_point::max();
    put(old_version_ ? "" : "0\r\n\r\n");
}

void Connection::on_gone(uint64_t number, std::function<void()> call) {
    if (answers(number))
        on_gone_ = std::move(call);
    else if (number != number_ || phase_ == Phase::closed)
        call();
}

// Whoever held the reply let go of it without an answer: a defect of ours, but the client must not wait for ever.
void Connection::abandoned(uint64_t number) {
    if (!answers(number)) return;
    if (streaming_) return gone();
    send(number, 500, "application/json", wire_error_body(500, "internal error"), {});
}

void Connection::put(std::string bytes) {
    waiting_ += bytes;
    if (sending_.empty()) write_more();
}

void Connection::write_more() {
    if (phase_ == Phase::closed) return;
    if (sent_ == sending_.size()) {
        sending_ = std::exchange(waiting_, {});
        sent_ = 0;
    }
    if (sending_.empty()) {
        write_deadline_ = Clock::time_point::max();
        if (phase_ == Phase::answering && complete_) answered();
        return;
    }
    write_deadline_ = in(server_->limits.write_seconds);
    socket_.async_write_some(asio::buffer(sending_.data() + sent_, sending_.size() - sent_),
                             [self = shared_from_this()](Code error, size_t n) {
                                 if (self->phase_ == Phase::closed) return;
                                 if (error) return self->gone();
                                 self->sent_ += n;
                                 self->write_more();
                             });
}

void Connection::answered() {
    --server_->answering;
    on_gone_ = nullptr;
    if (keep_alive_ && !server_->draining)
        become_idle(server_->limits.idle_seconds);
    else
        linger();
}

// Closing at once while the client still sends would make the system throw our answer away (RST): wait for its end.
void Connection::linger() {
    if (phase_ != Phase::lingering) {
        phase_ = Phase::lingering;
        deadline_ = in(1);
        Code ignored;
        socket_.shutdown(tcp::socket::shutdown_send, ignored);
        socket_.cancel(ignored);
    }
    socket_.async_read_some(asio::buffer(discard_), [self = shared_from_this()](Code error, size_t) {
        if (self->phase_ != Phase::lingering) return;
        if (error)
            self->close();
        else
            self->linger();
    });
}

void Connection::gone() {
    if (phase_ == Phase::answering) {
        --server_->answering;
        if (!complete_ || streaming_)
            if (auto call = std::exchange(on_gone_, nullptr)) call();
    }
    phase_ = phase_ == Phase::answering ? Phase::lingering : phase_;
    close();
}

void Connection::close() {
    if (phase_ == Phase::closed) return;
    if (phase_ == Phase::answering) return gone();
    if (phase_ == Phase::idle) server_->idle.erase(idle_at_);
    phase_ = Phase::closed;
    Code ignored;
    socket_.close(ignored);
    --server_->open;
    // The list may hold the last reference: handlers that were cancelled hold another until they have run.
    const auto keep = shared_from_this();
    server_->connections.erase(self_);
}

void Connection::check_deadline(Clock::time_point now) {
    if (now >= ping_at_ && phase_ == Phase::answering && streaming_ && !complete_) {
        ping_at_ = in(server_->limits.ping_seconds);
        if (waiting_.size() < 4096) put(old_version_ ? ": ping\n\n" : "8\r\n: ping\n\n\r\n");
    }
    if (now >= write_deadline_) return gone();
    if (now < deadline_) return;
    if (phase_ == Phase::header || phase_ == Phase::body) {
        Code ignored;
        socket_.cancel(ignored);
        return refuse_now(408, "the request took too long to arrive");
    }
    close();
}

}  // namespace

void HttpServer::State::accept() {
    acceptor.async_accept([self = shared_from_this()](Code error, tcp::socket socket) {
        if (error == asio::error::operation_aborted) return;
        if (!error) {
            self->take(std::move(socket));
            return self->accept();
        }
        // No more file descriptors, most likely: make room and try again in a moment.
        if (!self->idle.empty()) self->idle.front()->close();
        self->accept_pause.expires_after(std::chrono::milliseconds(50));
        self->accept_pause.async_wait([self](Code stopped) {
            if (!stopped) self->accept();
        });
    });
}

void HttpServer::State::take(tcp::socket socket) {
    Code ignored;
    const auto end = socket.remote_endpoint(ignored);
    if (ignored) return;
    socket.set_option(tcp::no_delay(true), ignored);
    socket.non_blocking(true, ignored);
    bool full = connections.size() >= limits.connections;
    if (full && !idle.empty()) {
        idle.front()->close();
        full = false;
    }
    if (connections.size() >= limits.connections + 64) return;  // not even a word: the socket closes here
    const auto self = connections.insert(
        connections.end(), std::make_shared<Connection>(shared_from_this(), std::move(socket),
                                                        fmt::format("{}:{}", end.address().to_string(), end.port())));
    ++open;
    const std::shared_ptr<Connection> c = *self;
    c->start(self);
    if (full) c->refuse_now(503, "too many connections are open");
}

void HttpServer::State::tick(double seconds) {
    ticker.expires_at(in(seconds));
    ticker.async_wait([self = shared_from_this()](Code error) {
        if (error) return;
        const auto now = Clock::now();
        for (auto c = self->connections.begin(); c != self->connections.end();) (*c++)->check_deadline(now);
        self->tick(std::clamp(self->hooks.tick(), 0.001, 0.1));
    });
}

void HttpServer::State::wait_for_signal() {
    signals.async_wait([self = shared_from_this()](Code error, int signal) {
        if (error) return;
        self->hooks.signal(signal);
        self->wait_for_signal();
    });
}

HttpServer::HttpServer(const std::string& host, int port, const HttpLimits& limits, Hooks hooks,
                       const std::vector<int>& signals)
    : state_(std::make_shared<State>()) {
    state_->limits = limits;
    state_->hooks = std::move(hooks);
    Code error;
    const auto address = asio::ip::make_address(host == "localhost" ? "127.0.0.1" : host, error);
    if (error) throw usage_error("[serve] --host: expected an IP address or localhost, got {}", quote(host));
    const tcp::endpoint end(address, static_cast<unsigned short>(port));
    state_->acceptor.open(end.protocol(), error);
    if (!error) state_->acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) state_->acceptor.bind(end, error);
    if (!error) state_->acceptor.listen(1024, error);
    if (error)
        throw bad_input(fmt::format("{}:{}", host, port), "[serve] cannot listen: {}; another --port may be free",
                        error.message());
    for (const int s : signals) state_->signals.add(s);
}

HttpServer::~HttpServer() {
    // Connections and the state know each other: what is pending must go while the state is still whole.
    Code ignored;
    state_->acceptor.close(ignored);
    while (!state_->connections.empty()) {
        auto c = state_->connections.front();
        c->close();
    }
    state_->signals.cancel(ignored);
    state_->ticker.cancel();
    state_->accept_pause.cancel();
    state_->context.restart();
    state_->context.poll();
}

int HttpServer::port() const {
    Code ignored;
    return state_->acceptor.local_endpoint(ignored).port();
}

bool HttpServer::loopback() const {
    Code ignored;
    return state_->acceptor.local_endpoint(ignored).address().is_loopback();
}

void HttpServer::run() {
    state_->accept();
    state_->tick();
    state_->wait_for_signal();
    state_->context.run();
}

void HttpServer::stop() {
    state_->context.stop();
}

void HttpServer::drain() {
    asio::post(state_->context, [state = state_] {
        state->draining = true;
        // Who has just come, or asks just now, gets an answer, if only that it must ask elsewhere.
        const std::vector<Connection*> idle(state->idle.begin(), state->idle.end());
        for (Connection* c : idle)
            if (c->at_rest()) c->close();
    });
}

size_t HttpServer::connections() const {
    return state_->open;
}
size_t HttpServer::answering() const {
    return state_->answering;
}

}  // namespace busbar
