#pragma once
#include <functional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "device/profile.h"
#include "graph/graph.h"

namespace busbar {

/// What passes may know: profiles as data, never a device.
struct PassContext {
    std::span<const Profile* const> chips;
    /// True if some chip has a row for `op`: where another one runs the node, its plan writes it out again.
    bool any_has(const OpRow& op) const;
};

/// A rewriting of the graph that keeps its meaning. One file each in passes/; the order and the reasons stand in
/// pipeline.cc.
struct Pass {
    std::string_view name;                     ///< for --no-pass NAME and `show passes`
    std::string_view why;                      ///< why it stands at this place
    int (*apply)(Graph&, const PassContext&);  ///< returns how many places it changed
};

int fold_constants(Graph&, const PassContext&);      ///< arithmetic on constants and small weights becomes one constant
int share_activations(Graph&, const PassContext&);   ///< matmuls of one activation become multi_matmul
int fuse_norm_residual(Graph&, const PassContext&);  ///< add then rms_norm becomes add_rms_norm
int fuse_gated_activation(Graph&, const PassContext&);  ///< multiply(silu(gate), up) becomes gated_silu
int head_rows(Graph&, const PassContext&);              ///< final norm and head only for the rows that are asked for

std::span<const Pass> pipeline();

struct PassReport {
    std::string_view name, why;
    bool skipped = false;
    int changes = 0;
    size_t nodes_before = 0, nodes_after = 0;
    double seconds = 0;
};

/// Runs the pipeline, verifying the graph after each pass. `skip` holds names; an unknown one is Error{usage} that
/// lists the passes.
std::vector<PassReport> run_passes(Graph& graph, const PassContext& context, const std::set<std::string>& skip = {});

/// Uses per value: how many node inputs and graph outputs read it.
std::vector<int> count_uses(const Graph& graph);

}  // namespace busbar
