#pragma once
#include <mutex>
#include <string>

#include "import/json.h"

namespace busbar {

/// One JSON object per line; control characters and everything outside ASCII are escaped, so that no request can write
/// a line of its own. Any thread.
class AccessLog {
  public:
    /// "" = none, "-" = stderr. Throws Error{bad_input} if the file cannot be opened.
    explicit AccessLog(const std::string& path);
    ~AccessLog();
    void write(const Json& line);
    /// After a rotation. Keeps the old file where the new one cannot be opened.
    void reopen();

  private:
    std::mutex mutex_;
    std::string path_;
    int fd_ = -1;
};

}  // namespace busbar
