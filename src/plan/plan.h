#pragma once
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "device/profile.h"
#include "device/step_record.h"
#include "graph/graph.h"

namespace busbar {

struct PlanOptions {
    Accuracy accuracy = Accuracy::accurate;
    Order order = Order::free;
    Binding binding;  ///< the bucket: rows, logit rows, sequences, context
    std::optional<StepLayout>
        layout;  ///< of the step record that all buckets of a model share; nullopt = this bucket's own
    /// "f32", "f16", "bf16"; "" = f16, or the chip's most exact one where it has no f16 or accuracy is strict
    std::string cache_element;
    std::vector<int> layers;            ///< chip of each layer, from place_layers(); empty = all on the first chip
    std::map<std::string, int> states;  ///< chips that states must lie on, where another bucket decided it
    size_t asked = 1;                   ///< so many chips of the list were asked for; the others take what these refuse
    bool fallback_allowed = true;       ///< --no-fallback makes any node off the chips asked for an error
};

/// The word of the element that states are kept in on chips that can: as asked (PlanOptions::cache_element), or what
/// "" stands for; "" again for a chip's most exact one.
std::string_view wanted_cache_element(const std::string& asked, Accuracy accuracy);

/// Where a value lives during a step.
struct Place {
    enum class Where : uint8_t { none, scratch, weight, constant, state, step } where = Where::none;
    uint64_t offset = 0;  ///< bytes into the chip's scratch or constants; words into the step record
    uint64_t bytes = 0;
    int index = -1;  ///< of the weight or state in the plan's lists
};

struct PlannedWeight {
    int value = -1;  ///< in the plan's graph
    int chip = 0;
    const PackedForm* form = nullptr;
    uint64_t bytes = 0;  ///< in that form
    std::string why;
};

struct PlannedState {
    int value = -1;
    int chip = 0;
    Element element = Element::f32;
};

/// A kernel, or a copy of a value from one chip's memory to another's.
struct PlannedStep {
    int node = -1;
    int chip = 0;  ///< index into the plan's chips; of a copy: where to
    const KernelRow* row = nullptr;
    int value = -1, from = -1;  ///< of a copy: what, and the chip it comes from
    Cost cost;                  ///< bytes include the weights in their planned form
    double seconds = 0;         ///< predicted
    bool is_copy() const { return node < 0; }
};

/// Every decision of a run, made once per bucket of rows: what runs where with which kernel, where values lie, in which
/// form weights are kept. A pure function of graph, profiles and options; `run` decides nothing.
struct Plan {
    Graph graph;  ///< as planned: composites that no chip has are written out
    std::vector<const Profile*> chips;
    PlanOptions options;
    StepLayout layout;
    std::vector<PlannedStep> steps;          ///< in order; views have none
    std::vector<std::vector<Place>> places;  ///< by chip, then value
    std::vector<PlannedWeight> weights;
    std::vector<PlannedState> states;
    std::vector<uint64_t> scratch_bytes, constant_bytes;  ///< per chip
    uint64_t scratch_unshared = 0;                        ///< what scratch would take if no two values shared memory
    int reused = 0;                                       ///< values that lie where another one lay before
    std::vector<std::string> refused;  ///< nodes that the chip meant for their layer could not take, and why

    /// The chip's word; of two with one word the second is "opencl (2)".
    std::string chip_name(int chip) const;
    const Place& place(int chip, int value) const { return places[chip][value]; }
    int output_chip() const { return steps.back().chip; }  ///< whose scratch holds the logits
    int nodes() const;                                     ///< steps that are kernels
    int copies() const { return static_cast<int>(steps.size()) - nodes(); }
    double copied_bytes() const;  ///< per step, all rows of the bucket in use
    double seconds() const;
    uint64_t weight_bytes() const;  ///< read per step at most: each weight once
    Cost total() const;
    /// Every kernel promises order invariant: the number of rows in a step changes no row's bits.
    bool invariant() const;
    std::map<std::string, int> nodes_per_chip() const;
    std::map<std::string, double> flops_share() const;
    /// "placed 272/272 nodes on cpu (100 % of flops), 0 copies, 98 MB", and what the chips asked for refused.
    std::string placement_line(uint64_t memory_bytes) const;
    /// The table of `show plan`; a golden for small models on synthetic profiles.
    std::string print() const;
};

/// The first options.asked chips were asked for; the others are fallbacks, in order. A node goes to its layer's chip,
/// else to the next that takes it; nodes that share a state stay together. Throws Error{chip} where no chip can take a
/// node, or a fallback is not allowed: the message lists nodes and reasons.
Plan make_plan(const Graph& graph, std::span<const Profile* const> chips, const PlanOptions& options);

/// Why a row of a step may get other bits from plan `b` than from plan `a` of the same graph; "" if it cannot: all
/// kernels of both promise order invariant, and they are the same ones (two that each keep an order may keep another).
std::string why_other_bits(const Plan& a, const Plan& b);

}  // namespace busbar
