#pragma once
#include <memory>
#include <vector>

#include "base/bytes.h"
#include "base/threads.h"
#include "chips/cpu/panel_layout.h"
#include "device/device.h"
#include "dtype/stored_tensor.h"

namespace busbar::cpu {

/// nullptr for encodings of plain elements, which stay as they are stored.
const PanelLayout* panel_layout(const Encoding& encoding);

/// Bytes of a weight of `outputs` rows of `width` inputs, a multiple of the encoding's block.
uint64_t panel_bytes(const PanelLayout& layout, int64_t outputs, int64_t width);

/// Writes panels first .. last - 1 of the weight to `out`, which holds them all and is zeroed.
void pack_panels(const StoredTensor& tensor, int64_t first, int64_t last, std::byte* out);

/// One row of a weight again, as Encoding::decode gives it, to the bit. For the embedding gather, and for activations
/// that integers cannot hold.
void decode_panel_row(const PanelLayout& layout, const std::byte* panels, int64_t row, int64_t width, float* out);

}  // namespace busbar::cpu
