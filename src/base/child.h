#pragma once
#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace busbar {

/// A copy of this process that does one piece of work which may hang or die, such as calling a stranger's library, and
/// tells of it in lines. The child has only the calling thread: open devices and thread pools inside `work`, not
/// before. Ends with the object, by SIGKILL if need be; dies with this process.
class Child {
  public:
    /// Writes a line, without its end, to the parent. Lines are whole or absent; bytes 0 .. 9 and 11 .. 255 may be in
    /// it.
    using Tell = std::function<void(std::string_view line)>;

    /// Starts `work` at once. An exception that leaves it ends the child with exit code 70. Throws Error{bad_input} if
    /// the system gives no process.
    explicit Child(const std::function<void(const Tell&)>& work);
    ~Child();
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    /// The next line; nothing if the deadline passed or the child ended without another one (see ended()).
    std::optional<std::string> line(std::chrono::milliseconds deadline);
    /// True once the child closed its end: no line will come.
    bool ended() const { return ended_; }
    /// Kills the child if it still runs, and says how it ended: "exited with 0", "killed by signal 11 (Segmentation
    /// fault)", "took longer than its deadline".
    std::string finish();
    pid_t process() const { return process_; }

  private:
    pid_t process_ = -1;
    int read_ = -1;
    bool ended_ = false, waited_ = false;
    int status_ = 0;
    bool killed_ = false;
    std::string pending_;
};

}  // namespace busbar
