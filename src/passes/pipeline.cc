#include <chrono>

#include "base/error.h"
#include "passes/pass.h"

namespace busbar {

namespace {

// The order is the design. Each line: pass, then why here.
const Pass passes[] = {
    {"fold_constants",
     "first: import leaves frequencies and scales as arithmetic, and later passes match shapes of computation",
     fold_constants},
    {"head_rows",
     "before fusion: the last norm must still be a plain rms_norm of the residual stream to be moved behind the row "
     "gather",
     head_rows},
    {"share_activations", "before fusion hides that q, k, v and gate, up read one value", share_activations},
    {"fuse_gated_activation", "after sharing: gate and up are now outputs of one node, and only their product is used",
     fuse_gated_activation},
    {"fuse_norm_residual",
     "last: it ties two nodes of different layers together, which no other pass could look through",
     fuse_norm_residual},
};

}  // namespace

std::span<const Pass> pipeline() {
    return passes;
}

bool PassContext::any_has(const OpRow& op) const {
    for (const Profile* chip : chips)
        for (const KernelRow& row : chip->rows)
            if (row.op == &op) return true;
    return false;
}

std::vector<int> count_uses(const Graph& graph) {
    std::vector<int> uses(graph.values().size(), 0);
    for (const Node& n : graph.nodes())
        for (int v : n.inputs) ++uses[v];
    for (int v : graph.outputs) ++uses[v];
    return uses;
}

std::vector<PassReport> run_passes(Graph& graph, const PassContext& context, const std::set<std::string>& skip) {
    for (const std::string& name : skip) {
        bool known = false;
        std::string names;
        for (const Pass& p : passes) {
            known |= p.name == name;
            names += (names.empty() ? "" : ", ") + std::string(p.name);
        }
        if (!known) throw usage_error("[passes] no pass is called {}. Passes: {}", quote(name), names);
    }
    std::vector<PassReport> reports;
    for (const Pass& p : passes) {
        PassReport report{p.name, p.why, skip.contains(std::string(p.name)), 0, graph.nodes().size(), 0, 0};
        const auto start = std::chrono::steady_clock::now();
        if (!report.skipped) {
            report.changes = p.apply(graph, context);
            graph.compact();
            graph.verify();
        }
        report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        report.nodes_after = graph.nodes().size();
        reports.push_back(report);
    }
    return reports;
}

}  // namespace busbar
