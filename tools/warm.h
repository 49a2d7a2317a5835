#pragma once
#include <vector>

#include "base/bytes.h"

namespace busbar {

/// Reads what is not in memory yet of files that are mapped, from front to back, with progress. Without it the first
/// step would read a cold file too, in the order of the layers and without a word. Does nothing for what the system
/// holds already, or memory cannot hold. Throws Error{interrupted} on Ctrl-C.
void read_ahead(const std::vector<Bytes>& mapped, double memory_bytes);

}  // namespace busbar
