#include "warm.h"

#include <sys/mman.h>

#include <algorithm>

#include "base/error.h"
#include "common.h"
#include "progress.h"

namespace busbar {

namespace {

constexpr uint64_t page = 4096, part = 4u << 20;  // looked at and read in parts of this many bytes

// Bytes of a part that the system would have to read.
uint64_t missing_bytes(Bytes bytes) {
    std::vector<unsigned char> held((bytes.size() + page - 1) / page);
    if (mincore(const_cast<std::byte*>(bytes.data()), bytes.size(), held.data()) != 0) return 0;
    return page * std::ranges::count_if(held, [](unsigned char h) { return (h & 1) == 0; });
}

}  // namespace

void read_ahead(const std::vector<Bytes>& mapped, double memory_bytes) {
    std::vector<Bytes> parts;
    uint64_t all = 0, missing = 0, done = 0;
    for (Bytes bytes : mapped) {
        const uint64_t before = reinterpret_cast<uintptr_t>(bytes.data()) % page;  // of its first page
        bytes = Bytes(bytes.data() - before, bytes.size() + before);
        all += bytes.size();
        for (uint64_t at = 0; at < bytes.size(); at += part) {
            const Bytes piece = bytes.subspan(at, std::min(part, bytes.size() - at));
            const uint64_t n = missing_bytes(piece);
            missing += n;
            if (n > 0) parts.push_back(piece);
        }
    }
    if (missing == 0 || (memory_bytes > 0 && static_cast<double>(all) > memory_bytes)) return;
    const Span span("read files");
    detail("{} of {} bytes are not in memory yet", with_commas(missing), with_commas(all));
    Progress progress("reading", "MB");
    for (size_t i = 0; i < parts.size(); ++i) {
        if (i + 1 < parts.size())
            madvise(const_cast<std::byte*>(parts[i + 1].data()), parts[i + 1].size(), MADV_WILLNEED);
        volatile unsigned char seen = 0;
        for (uint64_t at = 0; at < parts[i].size(); at += page) seen = static_cast<unsigned char>(parts[i][at]);
        (void)seen;
        done += parts[i].size();
        progress.update(static_cast<double>(done) / 1e6, static_cast<double>(parts.size() * part) / 1e6);
        stop_if_interrupted();
    }
}

}  // namespace busbar
