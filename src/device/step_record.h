#pragma once
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace busbar {

/// Everything that varies per step, as one block of 32-bit integers that lies on the chip. Kernels read the numbers of
/// rows from the header: launch arguments and plans never change between steps.
struct StepHeader {
    int32_t rows = 0;        ///< tokens in this step, at most the layout's max_rows
    int32_t logit_rows = 0;  ///< entries of logit_rows
    int32_t sequences = 0;   ///< rows of the block table in use
    int32_t reserved[13] = {};
};
static_assert(sizeof(StepHeader) == 64);

/// Where each part lies, from capacities fixed at planning. Offsets in 32-bit words from the header's start.
struct StepLayout {
    int64_t max_rows = 1, max_logit_rows = 1, max_sequences = 1;
    int64_t pages = 1;  ///< columns of the block table: pages a sequence may have

    int64_t token_ids() const { return sizeof(StepHeader) / 4; }
    int64_t positions() const { return token_ids() + max_rows; }
    int64_t sequences() const { return positions() + max_rows; }
    int64_t logit_rows() const { return sequences() + max_rows; }
    int64_t block_table() const { return logit_rows() + max_logit_rows; }
    int64_t words() const { return block_table() + max_sequences * pages; }
    /// By the names that graphs use; -1 if there is no such part.
    int64_t offset_of(std::string_view name) const;
    bool operator==(const StepLayout&) const = default;
};

class StepRecord {
  public:
    explicit StepRecord(const StepLayout& layout);
    const StepLayout& layout() const { return layout_; }
    StepHeader& header() { return *reinterpret_cast<StepHeader*>(words_.data()); }
    const StepHeader& header() const { return *reinterpret_cast<const StepHeader*>(words_.data()); }
    std::span<int32_t> token_ids() { return part(layout_.token_ids(), layout_.max_rows); }
    std::span<int32_t> positions() { return part(layout_.positions(), layout_.max_rows); }
    std::span<int32_t> sequences() { return part(layout_.sequences(), layout_.max_rows); }
    std::span<int32_t> logit_rows() { return part(layout_.logit_rows(), layout_.max_logit_rows); }
    std::span<int32_t> block_row(int64_t sequence) {
        return part(layout_.block_table() + sequence * layout_.pages, layout_.pages);
    }
    std::span<const int32_t> words() const { return words_; }

  private:
    std::span<int32_t> part(int64_t offset, int64_t n) { return {words_.data() + offset, static_cast<size_t>(n)}; }
    StepLayout layout_;
    std::vector<int32_t> words_;
};

}  // namespace busbar
