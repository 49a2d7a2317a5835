#pragma once
#include <string>

namespace busbar {

/// A broken invariant of ours: prints what and where, ends the process with exit code 70. The only way Busbar stops itself.
[[noreturn]] void check_failed(const char* file, int line, const char* condition, const std::string& message);

}  // namespace busbar

/// For programmers' mistakes only. What a file, a prompt or a chip can get wrong is an Error (base/error.h).
#define BUSBAR_CHECK(condition, ...)                                                                     \
    do {                                                                                                 \
        if (!(condition)) ::busbar::check_failed(__FILE__, __LINE__, #condition, std::string{__VA_ARGS__}); \
    } while (false)
