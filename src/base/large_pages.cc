#include "base/large_pages.h"

#include <sys/mman.h>

#include <cstring>
#include <fstream>
#include <string>

namespace busbar {

namespace {

// Address space of which `bytes` begin at a multiple of large_page; the rest is given back.
std::byte* aligned_space(uint64_t bytes, int protection) {
    void* const space =
        mmap(nullptr, bytes + large_page, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (space == MAP_FAILED) return nullptr;
    auto* const begin = static_cast<std::byte*>(space);
    auto* const data = reinterpret_cast<std::byte*>(round_up(reinterpret_cast<uintptr_t>(space), large_page));
    const uint64_t end = round_up(bytes, uint64_t{4096});
    if (data > begin) munmap(begin, data - begin);
    munmap(data + end, begin + bytes + large_page - (data + end));
    return data;
}

}  // namespace

void* map_file(uint64_t bytes, int protection, int flags, int file) {
    std::byte* const space = aligned_space(bytes, PROT_NONE);
    if (space == nullptr) return MAP_FAILED;
    void* const data = mmap(space, bytes, protection, flags | MAP_FIXED, file, 0);
    if (data == MAP_FAILED) munmap(space, bytes);
    return data;
}

bool has_large_pages() {
    std::ifstream in("/sys/kernel/mm/transparent_hugepage/enabled");
    std::string words;
    return std::getline(in, words) && words.find("[never]") == std::string::npos;
}

bool move_to_large_pages(Bytes memory) {
    const auto first = round_up(reinterpret_cast<uintptr_t>(memory.data()), large_page),
               end = (reinterpret_cast<uintptr_t>(memory.data()) + memory.size()) / large_page * large_page;
    if (first >= end) return true;
    auto* const at = reinterpret_cast<std::byte*>(first);
    const uint64_t bytes = end - first;
    std::byte* const copy = aligned_space(bytes, PROT_READ | PROT_WRITE);
    if (copy == nullptr) return false;
    madvise(copy, bytes, MADV_HUGEPAGE);
    std::memcpy(copy, at, bytes);
    mprotect(copy, bytes, PROT_READ);
    // It takes the place of the file's pages in one step of the kernel: a reader sees the one or the other.
    if (mremap(copy, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, at) != MAP_FAILED) return true;
    munmap(copy, bytes);
    return false;
}

}  // namespace busbar
