#include "chips.h"

#include <map>

namespace busbar::conform {

std::vector<Chip>& chips() {
    static std::vector<Chip> all = [] {
        std::vector<Chip> made;
        for (const ChipSpec& spec : chip_table())
            for (const std::string& isa : spec.isas()) {
                ChipOptions options;
                options.threads = isa == spec.isas().front() ? 2 : 1;
                options.isa = isa;
                made.push_back({fmt::format("{} {}", spec.word, isa), spec.open(options), spec.word == oracle_chip()});
            }
        // A vendor's library is a chip like another: the smallest, and the one that lies, when it does not.
        for (const char* name : {"minimal", "faulty"})
            made.push_back({fmt::format("plugin {}", name),
                            open_chip(fmt::format("plugin:{}/libbusbar_chip_{}.so", BUSBAR_BINARY_DIR, name))});
        return made;
    }();
    return all;
}

Device& oracle() {
    static const std::unique_ptr<Device> device = open_chip(oracle_chip());
    return *device;
}

const Prepared& prepared(const OpRow& op) {
    static std::map<const OpRow*, Prepared> all;
    Prepared& p = all[&op];
    if (p.suite) return p;
    p.suite = suite_of(op);
    if (!p.suite) return p;
    Random random(op.name);
    p.cases = p.suite->cases(random);
    for (const Case& c : p.cases) p.expected.push_back(run_case(oracle(), for_oracle(c)));
    return p;
}

std::vector<const KernelRow*> rows_for(const Device& device, const Case& c) {
    const Graph graph = c.graph();
    std::vector<const KernelRow*> rows = rows_for(device.profile(), graph, graph.nodes()[0], c.binding);
    std::erase_if(rows, [&](const KernelRow* row) { return !refusal(device.profile(), *row, c).empty(); });
    return rows;
}

}  // namespace busbar::conform
