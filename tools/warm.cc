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

void read_ahead(const std::vector<std::shared_ptr<const MappedFile>>& files, double memory_bytes) {
    struct Part {
        const MappedFile* file;
        uint64_t offset;
        Bytes bytes;
    };
    std::vector<Part> parts;
    uint64_t all = 0, missing = 0, done = 0;
    for (const auto& file : files)
        for (uint64_t at = 0; at < file->size(); at += part) {
            const Bytes bytes = file->bytes().subspan(at, std::min(part, file->size() - at));
            all += bytes.size();
            if (const uint64_t n = missing_bytes(bytes); n > 0) {
                missing += n;
                parts.push_back({file.get(), at, bytes});
            }
        }
    if (missing == 0 || (memory_bytes > 0 && static_cast<double>(all) > memory_bytes)) return;
    const Span span("read files");
    detail("{} of {} bytes are not in memory yet", with_commas(missing), with_commas(all));
    Progress progress("reading", "MB");
    for (size_t i = 0; i < parts.size(); ++i) {
        if (i + 1 < parts.size()) parts[i + 1].file->will_need(parts[i + 1].offset, part);
        volatile unsigned char seen = 0;
        for (uint64_t at = 0; at < parts[i].bytes.size(); at += page)
            seen = static_cast<unsigned char>(parts[i].bytes[at]);
        (void)seen;
        done += parts[i].bytes.size();
        progress.update(static_cast<double>(done) / 1e6, static_cast<double>(parts.size() * part) / 1e6);
        stop_if_interrupted();
    }
}

}  // namespace busbar
