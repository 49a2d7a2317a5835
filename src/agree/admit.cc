#include "agree/admit.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

#include "agree/identity.h"
#include "base/error.h"

namespace busbar::agree {

namespace {

/// All that a passed gate speaks for: file, build, chips and drivers, numerics, and every kernel of every bucket.
std::string key_of(const LoadedModel& model, const std::string& model_hash) {
    std::string key = fmt::format("gate 2 {} {}", model_hash, build_id());
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

std::string now_in_utc() {
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    gmtime_r(&now, &parts);
    char text[32];
    std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
    return text;
}

nlohmann::json verdict_of(const GateReport& report, const LoadedModel& model, const std::string& model_hash) {
    nlohmann::json v = report.json();
    const Plan& first = model.plans().front();
    v["date"] = now_in_utc();
    v["model"] = model_hash;
    v["numerics"] = name_of(first.options.accuracy);
    v["order"] = name_of(first.options.order);
    for (const Profile* chip : first.chips) v["chips"].push_back(chip->chip);
    return v;
}

}  // namespace

Admission admit(LoadedModel& model, const std::function<std::unique_ptr<Device>()>& open_reference,
                const GateOptions& options) {
    const std::string folder = cache_folder("gate");
    const std::string model_hash = hash_of(model.files());
    const std::string path = folder.empty() ? "" : folder + "/" + key_of(model, model_hash);
    if (!path.empty() && !options.again) {
        nlohmann::json known = nlohmann::json::parse(kept(path), nullptr, false);
        if (known.is_object() && known.value("passed", nlohmann::json()) == true)
            return {std::nullopt, std::move(known)};
    }
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
    nlohmann::json verdict = verdict_of(report, model, model_hash);
    if (!path.empty()) keep(path, verdict.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    return {std::move(report), std::move(verdict)};
}

void make_room_for_gate(int64_t& sequences, int64_t& cache_pages, int64_t context) {
    if (cache_pages <= 0)
        cache_pages = std::max<int64_t>(1, sequences * ((context + page_positions - 1) / page_positions));
    cache_pages += 1;
    sequences = std::max<int64_t>(sequences, 2);
}

}  // namespace busbar::agree
