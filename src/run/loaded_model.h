#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "device/device.h"
#include "plan/plan.h"
#include "run/large_weights.h"
#include "run/packed_file.h"

namespace busbar {

class LoadedModel;

/// Where memory goes, in bytes.
struct MemoryUse {
    uint64_t mapped_weights = 0;  ///< read in place from the file
    uint64_t packed_weights = 0;  ///< in forms of the chip's own
    uint64_t constants = 0, cache = 0;
    uint64_t scratch = 0;  ///< of the plans, and what the chips' programs work in
    uint64_t total() const { return mapped_weights + packed_weights + constants + cache + scratch; }
    MemoryUse& operator+=(const MemoryUse& o);
};

/// What crossed between chips since the model was loaded.
struct CopyUse {
    uint64_t copies = 0, bytes = 0;
    double seconds = 0;
};

/// Sees a step as it is served: plan, forms, placement and batch are those of every day, only that what it looks at
/// runs by itself. Changes no bit of the result unless it writes values.
class StepObserver {
  public:
    virtual ~StepObserver() = default;
    /// Whether it looks at this one, asked in the order of the plan; what lies between two of them runs in one go.
    virtual bool wants(size_t bucket, size_t index) { return true; }
    /// Around step `index` of plans()[bucket], if it is wanted. Values are read through LoadedModel::read_value: here,
    /// since what comes later may use their memory.
    virtual void before(LoadedModel& model, size_t bucket, size_t index) {}
    virtual void after(LoadedModel& model, size_t bucket, size_t index) {}
};

/// A model on its chips: weights packed as the plans say, programs for every bucket of rows. step() walks one plan; it
/// decides nothing and allocates nothing.
class LoadedModel {
  public:
    /// `plans`: of one graph, smallest bucket first, sharing one step layout and the places of states. `files` hold the
    /// weights. `devices`: one for each chip of the plans; they must outlive the model. `cache_pages`: in all; 0 =
    /// enough for every sequence to fill its context. `programs_late`: a bucket's programs are prepared at its first
    /// step, so that an answer begins sooner, not all of them now. `keep`: a file of packed weights that is used if it
    /// is this model's, else made, where packing takes long enough to notice. Throws Error{does_not_fit} with the
    /// numbers and what would fit.
    LoadedModel(std::vector<Plan> plans, std::vector<std::shared_ptr<const MappedFile>> files,
                std::vector<Device*> devices, int64_t cache_pages = 0, bool programs_late = false,
                const KeepPacked& keep = {});
    ~LoadedModel();

    const StepLayout& layout() const { return layout_; }
    int64_t context() const { return layout_.pages * page_positions; }
    int64_t vocabulary() const { return vocabulary_; }
    const std::vector<Plan>& plans() const { return plans_; }
    const std::vector<std::shared_ptr<const MappedFile>>& files() const { return files_; }
    Device& device(int chip) const { return *devices_[chip]; }
    MemoryUse memory() const;  ///< on all chips
    const MemoryUse& memory_of(int chip) const { return memory_[chip]; }
    const CopyUse& copied() const { return copied_; }

    /// Runs the smallest bucket that holds the record's rows. Ids, positions and pages have been checked by the caller.
    /// Throws Error{bad_input} if a file was cut short, Error{chip} if a chip failed, ChipLost if one is gone; logits
    /// are void then.
    void step(const StepRecord& record, StepObserver* observer = nullptr);
    /// Logits of entry i of the record's logit_rows after the last step: vocabulary() numbers, valid until the next
    /// step.
    std::span<const float> logits(int64_t i) const;
    size_t bucket_for(int64_t rows) const;
    /// Does now what else is spread over later steps, so that all that follow are alike: to measure them.
    void settle() { large_weights_.settle(); }
    /// The weights that chips read where files are mapped: packed ones of an earlier run, and those taken as they are.
    std::vector<Bytes> mapped_weights() const;

    /// For observers: a real or index value of plans()[bucket] as it lies on a chip now, cut to the rows in use.
    Array read_value(size_t bucket, int chip, int value) const;
    /// The same way back; real values made by a step only. For planting noise.
    void write_value(size_t bucket, int chip, int value, const Array& data);
    /// Overwrites all scratch of all chips: a step reads nothing there that it did not write.
    void fill_scratch(std::byte with);
    /// Memory of a planned state of a bucket.
    Buffer& state_buffer(size_t bucket, int planned_state) const;
    const PackedWeight& weight(size_t bucket, int planned_weight) const;
    /// The record of the step being run or run last.
    const StepRecord& record() const { return *record_; }

    /// The cache's verbs that need the chips: whole pages of every state, whatever their layout.
    int64_t cache_pages() const { return cache_pages_; }
    void copy_page(int64_t from, int64_t to);
    uint64_t page_bytes() const { return page_bytes_; }
    void read_page(int64_t page, std::span<std::byte> out) const;
    void write_page(int64_t page, Bytes data);

  private:
    struct LoadedState {
        int chip = 0;
        std::unique_ptr<Buffer> buffer;
        uint64_t page_bytes = 0;
    };
    /// Neighbouring steps of one chip as a program of that chip, or a copy.
    struct Part {
        size_t first = 0, last = 0;
        int chip = 0;
        std::unique_ptr<Program> program;  ///< null: a copy
    };

    void find_states();
    void count_memory();
    void check_fit() const;
    void load_weights(const KeepPacked& keep);
    bool pack_kept(const KeepPacked& keep);
    void load_constants();
    void prepare(size_t bucket);
    Operand operand(size_t bucket, int chip, int value) const;
    void run_part(const Part& part, size_t bucket, StepObserver* observer);
    void copy_value(const Plan& plan, const PlannedStep& step);
    std::vector<int64_t> extents_in_use(const Plan& plan, int value) const;

    std::vector<Plan> plans_;
    std::vector<std::shared_ptr<const MappedFile>> files_;
    std::vector<Device*> devices_;
    StepLayout layout_;
    int64_t vocabulary_ = 0;
    std::map<std::pair<const StoredTensor*, int>, std::unique_ptr<PackedWeight>> weights_;  ///< by tensor and chip
    std::shared_ptr<PackedFile> packed_file_;                                               ///< that holds some of them
    std::vector<std::vector<const PackedWeight*>> planned_weights_;                         ///< by bucket
    std::vector<LoadedState> states_;                              ///< in the order of the first plan
    std::vector<std::vector<int>> planned_states_;                 ///< by bucket: index into states_
    std::vector<std::unique_ptr<Buffer>> scratch_;                 ///< by chip
    std::vector<std::vector<std::unique_ptr<Buffer>>> constants_;  ///< by bucket, then chip
    std::vector<std::vector<Part>> parts_;                         ///< by bucket; empty: not prepared yet
    std::vector<MemoryUse> memory_;                                ///< by chip
    CopyUse copied_;
    int64_t cache_pages_ = 0;
    uint64_t page_bytes_ = 0;
    size_t last_bucket_ = 0;
    const StepRecord* record_ = nullptr;
    std::vector<int32_t> last_logit_rows_;   ///< of the last step: without the pass head_rows, logits lie by row
    mutable std::vector<std::byte> staged_;  ///< values on their way from or to a chip without host memory
    mutable std::vector<float> converted_;
    LargeWeights large_weights_;
};

}  // namespace busbar
