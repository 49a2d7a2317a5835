#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agree/conform/case.h"
#include "run/loaded_model.h"

namespace busbar::agree {

/// What the paged caches of a model must hold, kept beside it: every append that was watched, rounded to the element
/// that the chip keeps its cache in. Where the chip can gather its cache, what it holds is compared after each append.
class CacheMirror {
  public:
    /// Notes the rows that the step being run appends to a state; returns what the chip's cache holds instead, "" if
    /// nothing is wrong. `x`: {rows, heads, width}.
    std::string append(LoadedModel& model, size_t bucket, int planned_state, const Array& x);
    /// {sequences, context, heads, width} as the record's block table deals it; `filled` becomes how many positions of
    /// each sequence are known.
    Array read(const StepRecord& record, const std::string& state, const ValueType& type, int64_t pages,
               std::vector<int64_t>& filled) const;
    /// Random numbers at positions begin .. end - 1 of a sequence in every state, by the chip's own append.
    void fill(LoadedModel& model, const std::vector<int32_t>& pages, int64_t begin, int64_t end,
              conform::Random& random);

  private:
    struct Page {
        std::vector<double> data;  ///< {64, heads, width}
        uint64_t known = 0;        ///< a bit for each position
    };
    struct Reader;
    void note(const std::string& state, Element element, int32_t page, int64_t slot, const double* x, int64_t n);
    std::string compare(LoadedModel& model, size_t bucket, int planned_state, const std::vector<int32_t>& pages);

    std::map<std::pair<std::string, int32_t>, Page> pages_;
    std::map<std::string, std::shared_ptr<Reader>> readers_;
};

}  // namespace busbar::agree
