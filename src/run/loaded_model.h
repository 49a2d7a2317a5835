#pragma once
#include <memory>
#include <string>
#include <vector>

#include "device/device.h"
#include "plan/plan.h"

namespace busbar {

/// Where memory goes, in bytes.
struct MemoryUse {
    uint64_t mapped_weights = 0;  ///< read in place from the file
    uint64_t packed_weights = 0;  ///< in forms of the chip's own
    uint64_t constants = 0, cache = 0, scratch = 0;
    uint64_t total() const { return mapped_weights + packed_weights + constants + cache + scratch; }
};

/// A model on a chip: weights packed as the plans say, one program per bucket of rows. step() walks one of them; it decides nothing
/// and allocates nothing.
class LoadedModel {
  public:
    /// `plans`: of one graph, smallest bucket first, sharing one step layout. `files` hold the weights. `cache_pages`: in all; 0 =
    /// enough for every sequence to fill its context. The device must outlive the model.
    /// Throws Error{does_not_fit} with the numbers and what would fit.
    LoadedModel(std::vector<Plan> plans, std::vector<std::shared_ptr<const MappedFile>> files, Device& device,
                int64_t cache_pages = 0);
    ~LoadedModel();

    const StepLayout& layout() const { return layout_; }
    int64_t context() const { return layout_.pages * page_positions; }
    int64_t vocabulary() const { return vocabulary_; }
    const std::vector<Plan>& plans() const { return plans_; }
    MemoryUse memory() const { return memory_; }

    /// Runs the smallest bucket that holds the record's rows. Ids, positions and pages have been checked by the caller.
    /// Throws Error{bad_input} if a file was cut short, Error{chip} if the chip failed; logits are void then.
    void step(const StepRecord& record);
    /// Logits of entry i of the record's logit_rows after the last step: vocabulary() numbers, valid until the next
    /// step.
    std::span<const float> logits(int64_t i) const;

    /// The cache's verbs that need the chip: whole pages of every state, whatever their layout.
    int64_t cache_pages() const { return cache_pages_; }
    void copy_page(int64_t from, int64_t to);
    uint64_t page_bytes() const { return page_bytes_; }
    void read_page(int64_t page, std::span<std::byte> out) const;
    void write_page(int64_t page, Bytes data);

  private:
    void count_memory();
    void check_fit() const;
    void load_weights();
    void load_constants();
    void prepare(size_t bucket);

    std::vector<Plan> plans_;
    std::vector<std::shared_ptr<const MappedFile>> files_;
    Device& device_;
    StepLayout layout_;
    int64_t vocabulary_ = 0;
    std::vector<std::unique_ptr<PackedWeight>> weights_;  ///< by value of the passed graph
    std::vector<std::unique_ptr<Buffer>> states_;         ///< by planned state
    std::vector<uint64_t> state_page_bytes_;
    std::unique_ptr<Buffer> scratch_;
    std::vector<std::unique_ptr<Buffer>> constants_;  ///< by bucket: plans may place them differently
    std::vector<std::unique_ptr<Program>> programs_;
    MemoryUse memory_;
    int64_t cache_pages_ = 0;
    uint64_t page_bytes_ = 0;
    size_t last_bucket_ = 0;
    std::vector<int32_t> last_logit_rows_;   ///< of the last step: without the pass head_rows, logits lie by row
    mutable std::vector<std::byte> staged_;  ///< logits on their way from a chip without host memory
    mutable std::vector<float> converted_;
};

}  // namespace busbar
