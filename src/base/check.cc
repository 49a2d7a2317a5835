#include "base/check.h"

#include <unistd.h>

#include <cstdio>

namespace busbar {

void check_failed(const char* file, int line, const char* condition, const std::string& message) {
    std::fprintf(stderr, "busbar: internal check failed at %s:%d: %s%s%s\n        This is a defect in Busbar: please report it.\n", file,
                 line, condition, message.empty() ? "" : ": ", message.c_str());
    std::fflush(stderr);
    _exit(70);
}

}  // namespace busbar
