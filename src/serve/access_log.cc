#include "serve/access_log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/log.h"

namespace busbar {

namespace {

int open_log(const std::string& path) {
    return ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
}

}  // namespace

AccessLog::AccessLog(const std::string& path) : path_(path) {
    if (path.empty()) return;
    fd_ = path == "-" ? STDERR_FILENO : open_log(path);
    if (fd_ < 0) throw bad_input(path, "[serve] cannot open the access log: {}", std::strerror(errno));
}

AccessLog::~AccessLog() {
    if (fd_ >= 0 && path_ != "-") ::close(fd_);
}

void AccessLog::write(const Json& line) {
    if (fd_ < 0) return;
    std::string text = line.dump(-1, ' ', true, Json::error_handler_t::replace);
    std::string out;
    for (const char c : text)
        if (c == 0x7f)
            out += "\\u007f";
        else
            out += c;
    out += '\n';
    const std::scoped_lock lock(mutex_);
    // A full disk loses lines, not answers.
    if (::write(fd_, out.data(), out.size()) < 0) return;
}

void AccessLog::reopen() {
    if (path_.empty() || path_ == "-") return;
    const int fresh = open_log(path_);
    if (fresh < 0) return note("access log: {} cannot be opened again: {}", quote(path_), std::strerror(errno));
    const std::scoped_lock lock(mutex_);
    ::close(std::exchange(fd_, fresh));
}

}  // namespace busbar
