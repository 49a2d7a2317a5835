#include "agree/admit.h"

#include <fmt/format.h>

#include <algorithm>

#include "agree/identity.h"
#include "base/error.h"

namespace busbar::agree {

namespace {

/// All that a passed gate speaks for: file, build, chips and drivers, numerics, and every kernel of every bucket.
std::string key_of(const LoadedModel& model) {
    std::string key = fmt::format("gate 1 {} {}", hash_of(model.files()), build_id());
    const Plan& first = model.plans().front();
    for (const Profile* chip : first.chips) key += fmt::format(" [{} {} {}]", chip->chip, chip->detail, chip->driver);
    key += fmt::format(" {} {}", name_of(first.options.accuracy), name_of(first.options.order));
    for (const Plan& plan : model.plans()) {
        key += fmt::format(" rows {}", plan.options.binding.rows);
        for (const PlannedState& s : plan.states) key += fmt::format(" {}", name_of(s.element));
        for (const PlannedStep& s : plan.steps)
            key += s.is_copy() ? fmt::format(" {}>{}", s.from, s.chip) : fmt::format(" {}", s.row->name);
    }
    return hash_of(key);
}

}  // namespace

std::optional<GateReport> admit(LoadedModel& model, const std::function<std::unique_ptr<Device>()>& open_reference,
                                const GateOptions& options) {
    const std::string folder = cache_folder("gate");
    const std::string path = folder.empty() ? "" : folder + "/" + key_of(model);
    if (!path.empty() && !kept(path).empty()) return std::nullopt;
    const std::unique_ptr<Device> reference = open_reference();
    GateReport report = run_gate(model, *reference, options);
    if (!report.passed()) {
        std::string chips;
        for (const auto& [chip, nodes] : model.plans().front().nodes_per_chip())
            chips += (chips.empty() ? "" : " + ") + chip;
        const std::string node = report.findings.empty() ? "" : report.findings[0].node;
        throw chip_error(
            node.empty() ? "" : fmt::format("node {}", node),
            "[gate] expected {} to compute {} as its definition says, got another result; {}. Nothing was answered. "
            "Another chip, or --split with these layers elsewhere, works where that one passes; busbar conform "
            "shows the kernel's row, --gate off answers all the same",
            chips, report.findings.empty() ? "the model" : report.findings[0].op, report.first());
    }
    if (!path.empty()) keep(path, report.json().dump());
    return report;
}

void make_room_for_gate(int64_t& sequences, int64_t& cache_pages, int64_t context) {
    if (cache_pages <= 0)
        cache_pages = std::max<int64_t>(1, sequences * ((context + page_positions - 1) / page_positions));
    cache_pages += 1;
    sequences = std::max<int64_t>(sequences, 2);
}

}  // namespace busbar::agree
