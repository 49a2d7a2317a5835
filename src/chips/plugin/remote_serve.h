#pragma once
#include "base/child.h"
#include "chips/plugin/library.h"

namespace busbar::plugin {

/// The two ends of a Remote: what goes over its socket.
enum class Function : uint32_t {
    info,
    open,
    close,
    alloc,
    free,
    copy,
    claim,
    run,
    stage,
    pack,
    unpack,
    prepare,
    run_program,
    drop_program
};
struct Message {
    Function function;
    uint32_t bytes;
};
struct Answer {
    int32_t status;
    uint32_t bytes;
    busbar_error error;
};
bool send_all(int socket, const void* data, size_t size);
bool receive_all(int socket, void* data, size_t size);

/// Runs in the child: opens the library, tells "good VERSION PACKS PROGRAMS" or "bad WHY", then serves calls until the
/// socket closes.
void serve_library(const Address& address, int socket, std::byte* shared, const Child::Tell& tell);

}  // namespace busbar::plugin
