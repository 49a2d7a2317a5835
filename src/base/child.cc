#include "base/child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace busbar {

namespace {

void write_all(int fd, std::string_view text) {
    while (!text.empty()) {
        const ssize_t n = write(fd, text.data(), text.size());
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) _exit(70);  // nobody listens any more
        text.remove_prefix(static_cast<size_t>(n));
    }
}

// Exit handlers of the parent's libraries are not the child's to run: _exit.
[[noreturn]] void be_the_child(int fd, const std::function<void(const Child::Tell&)>& work) {
    for (int s : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGSEGV, SIGBUS, SIGABRT}) signal(s, SIG_DFL);
    int code = 0;
    try {
        work([fd](std::string_view line) { write_all(fd, std::string(line) + '\n'); });
    } catch (...) {
        code = 70;
    }
    _exit(code);
}

}  // namespace

Child::Child(const std::function<void(const Tell&)>& work) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        throw bad_input("", "[child] expected a pipe, the system gave none: {}", std::strerror(errno));
    const pid_t parent = getpid();
    process_ = fork();
    if (process_ < 0) {
        const int why = errno;
        close(ends[0]);
        close(ends[1]);
        throw bad_input("", "[child] expected a process, the system gave none: {}", std::strerror(why));
    }
    if (process_ == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(70);
        close(ends[0]);
        be_the_child(ends[1], work);
    }
    close(ends[1]);
    read_ = ends[0];
}

Child::~Child() {
    finish();
    close(read_);
}

std::optional<std::string> Child::line(std::chrono::milliseconds deadline) {
    const auto stop = std::chrono::steady_clock::now() + deadline;
    while (true) {
        if (const size_t end = pending_.find('\n'); end != std::string::npos) {
            std::string out = pending_.substr(0, end);
            pending_.erase(0, end + 1);
            return out;
        }
        if (ended_) return {};
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(stop - std::chrono::steady_clock::now());
        pollfd p{read_, POLLIN, 0};
        const int ready = poll(&p, 1, static_cast<int>(std::max<int64_t>(left.count(), 0)));
        if (ready < 0 && errno == EINTR) continue;
        if (ready <= 0) return {};
        char buffer[4096];
        const ssize_t n = read(read_, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            ended_ = true;
        } else {
            pending_.append(buffer, static_cast<size_t>(n));
        }
    }
}

std::string Child::finish() {
    if (!waited_) {
        // A child that closed its end is about to exit; one that did not is late.
        if (!ended_) {
            killed_ = true;
            kill(process_, SIGKILL);
        }
        while (waitpid(process_, &status_, 0) < 0 && errno == EINTR) {
        }
        waited_ = true;
    }
    if (killed_) return "took longer than its deadline";
    if (WIFSIGNALED(status_))
        return fmt::format("killed by signal {} ({})", WTERMSIG(status_), strsignal(WTERMSIG(status_)));
    return fmt::format("exited with {}", WEXITSTATUS(status_));
}

}  // namespace busbar
