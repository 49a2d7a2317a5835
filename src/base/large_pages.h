#pragma once
#include "base/bytes.h"

namespace busbar {

/// Pages of 2 MiB cost the processor fewer lookups of addresses than those of 4 KiB that files are mapped in: memory
/// that is read end to end, like weights, comes 5 to 15 % faster (docs/speed.md).
constexpr uint64_t large_page = 2u << 20;

/// Maps a file as mmap() does, at an address that is a multiple of large_page. MAP_FAILED and errno where it cannot.
void* map_file(uint64_t bytes, int protection, int flags, int file);

/// Whether this system gives large pages to who asks for them.
bool has_large_pages();

/// Replaces mapped memory, as far as it fills whole large pages, by a private copy of the same bytes in large pages at
/// the same addresses. Others may read it meanwhile; nobody may write it, then or later, and what happens to the file
/// no longer shows. False where the system gives no memory: then all is as it was.
bool move_to_large_pages(Bytes memory);

}  // namespace busbar
