#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "device/device.h"
#include "graph/graph.h"

namespace busbar::conform {

/// Rows of a profile that can run this node at these capacities: a row without a form where no input is a weight, else
/// one whose form holds all of their encodings.
std::vector<const KernelRow*> rows_for(const Profile& profile, const Graph& graph, const Node& node,
                                       const Binding& binding);

/// What came out of a run, and whether anything else in memory moved.
struct Outcome {
    std::vector<Array> outputs;  ///< of the graph, cut to the rows in use; states as {sequences, context, heads, width}
    std::vector<std::string> damage;  ///< guard bytes or inputs that changed, a line each
};

/// Runs small graphs on any device through the contract of device.h alone, without a plan: every value lies in a buffer
/// of its own between guard bytes, outputs are filled with NaN before the run. States live as long as the runner, by
/// name.
class Runner {
  public:
    using Choose = std::function<const KernelRow*(const Graph&, const Node&)>;

    /// `cache`: what the device keeps states in. `pages`: of each state. Unwritten pages hold a finite poison.
    Runner(Device& device, Element cache, int64_t pages);

    /// Constants of the graph are its inputs; their leading symbol is bound by `binding`.
    /// Throws Error{usage} if the device has no row for a node and `choose` gives none. States
    /// among the outputs are read by the pages of `reading`, else of `record`.
    Outcome run(const Graph& graph, const Binding& binding, const StepRecord& record, const Choose& choose = {},
                const StepRecord* reading = nullptr);

    /// Appends data {sequences, context, heads, width} at positions 0 .. filled[s] - 1 and 0.75 at all later ones that
    /// have a page, through cache_append.
    void fill_state(const std::string& name, const ValueType& type, const Array& data,
                    const std::vector<int64_t>& filled, const StepRecord& record);
    /// What a state holds, {sequences, context, heads, width}, zeros where there is no page. Through cache_gather, or
    /// through attention that sees one position where the device has no cache_gather. Empty if neither can read it.
    Array read_state(const std::string& name, const ValueType& type, const StepRecord& record);

    Device& device() { return device_; }

  private:
    struct Placed {
        std::unique_ptr<Buffer> buffer;
        std::vector<std::byte> before;  ///< the whole buffer as it was written, guards included
        std::string name;
        uint64_t bytes = 0;
        bool is_output = false;
    };
    Buffer& state_buffer(const std::string& name, const ValueType& type);
    Operand place(const Graph& graph, int value, const Binding& binding, const StepLayout& layout,
                  std::vector<Placed>& placed, std::vector<std::unique_ptr<PackedWeight>>& weights,
                  const std::string& form);

    Device& device_;
    Element cache_;
    int64_t pages_;
    std::map<std::string, std::unique_ptr<Buffer>> states_;
};

/// Host numbers to a chip's element and back. Exact where the numbers fit the element.
void encode(const Array& from, Kind kind, Element element, std::byte* to);
double decode(const std::byte* from, Kind kind, Element element);
Array decoded(const StoredTensor& tensor);
double round_to(double x, Element element);
size_t element_bytes(Kind kind, Element element);

}  // namespace busbar::conform
