#pragma once
#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <string_view>

namespace busbar {

/// What went wrong, as a script sees it: each value is the exit code of the command (shared contract: docs/errors.md).
enum class ErrorCode {
    answer_is_no = 1,    ///< did not agree, not conformant, slower than asked
    usage = 2,           ///< unknown chip, wrong flag, bad split
    bad_input = 3,       ///< file, model, prompt, disk
    chip = 4,            ///< plugin, driver, gate, a fallback that was not allowed
    does_not_fit = 5,    ///< memory, with the numbers
    no_evidence = 6,     ///< not enough evidence for a verdict
    internal = 70,       ///< a check of ours failed
    interrupted = 130,   ///< Ctrl-C
};

/// The world's mistake (file, prompt, memory, chip): never a programmer's (that is base/check.h).
/// what() reads "address: [room] expected X, got Y". The address says where: a file and offset, a node and op, a request.
/// Travels as an exception inside the core; never across a C boundary, a thread boundary or the wire.
class Error : public std::runtime_error {
  public:
    Error(ErrorCode code, std::string address, const std::string& message)
        : std::runtime_error(address.empty() ? message : address + ": " + message), code_(code), address_(std::move(address)) {}
    ErrorCode code() const { return code_; }
    const std::string& address() const { return address_; }

  private:
    ErrorCode code_;
    std::string address_;
};

/// A chip that will not come back: exit code as any chip trouble, but a caller may plan again without it.
class ChipLost : public Error {
  public:
    ChipLost(std::string chip, std::string address, const std::string& message)
        : Error(ErrorCode::chip, std::move(address), message), chip_(std::move(chip)) {}
    const std::string& chip() const { return chip_; }

  private:
    std::string chip_;
};

/// throw bad_input("model.gguf: offset 24", "[gguf] expected version 2 or 3, got {}", version);
template <typename... Args>
Error bad_input(std::string address, fmt::format_string<Args...> format, Args&&... args) {
    return Error(ErrorCode::bad_input, std::move(address), fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
Error usage_error(fmt::format_string<Args...> format, Args&&... args) {
    return Error(ErrorCode::usage, "", fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
Error chip_error(std::string address, fmt::format_string<Args...> format, Args&&... args) {
    return Error(ErrorCode::chip, std::move(address), fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
Error does_not_fit(fmt::format_string<Args...> format, Args&&... args) {
    return Error(ErrorCode::does_not_fit, "", fmt::format(format, std::forward<Args>(args)...));
}

/// 1234567 -> "1,234,567": offsets and sizes in messages are read by people.
std::string with_commas(unsigned long long n);

/// A stranger's text inside a message: control characters and invalid UTF-8 escaped, cut to a readable length.
std::string quote(std::string_view text, size_t limit = 80);

}  // namespace busbar
