#pragma once
#include <memory>
#include <vector>

#include "base/mapped_file.h"

namespace busbar {

/// Reads what is not in memory yet of the files, from front to back, with progress. Without it the first step would
/// read a cold file too, in the order of the layers and without a word. Does nothing for files that the system holds
/// already, or that memory cannot hold. Throws Error{interrupted} on Ctrl-C.
void read_ahead(const std::vector<std::shared_ptr<const MappedFile>>& files, double memory_bytes);

}  // namespace busbar
