// busbar doctor: checks the machine and says the one command that fixes each finding.
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "common.h"

namespace busbar {

namespace {

struct Finding {
    bool good;
    std::string what, fix;  ///< fix: one command or one sentence; "" where nothing is wrong
};

std::string cache_folder() {
    if (const char* p = std::getenv("BUSBAR_CACHE"); p && *p) return p;
    if (const char* p = std::getenv("XDG_CACHE_HOME"); p && *p) return std::string(p) + "/busbar";
    const char* home = std::getenv("HOME");
    return std::string(home ? home : "/tmp") + "/.cache/busbar";
}

Finding check_memory(const Profile& chip) {
    const double gb = chip.memory_bytes.value / 1e9;
    return {gb >= 1, fmt::format("memory: {:.1f} GB free for models", gb),
            gb >= 1 ? "" : "close other programs; the default model needs about 0.3 GB"};
}

Finding check_cache() {
    const std::string folder = cache_folder();
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    const std::string probe = folder + "/.doctor";
    const bool writable = !error && static_cast<bool>(std::ofstream(probe) << "x");
    std::filesystem::remove(probe, error);
    struct statvfs fs {};
    const double free_gb = statvfs(folder.c_str(), &fs) == 0
                               ? static_cast<double>(fs.f_bavail) * static_cast<double>(fs.f_frsize) / 1e9
                               : 0;
    if (!writable)
        return {false, fmt::format("cache: {} cannot be written", folder), "export BUSBAR_CACHE=/a/folder/you/own"};
    return {free_gb > 1, fmt::format("cache: {} ({:.0f} GB free)", folder, free_gb),
            free_gb > 1 ? "" : fmt::format("free some space: du -sh {}/*", folder)};
}

Finding check_default_model() {
    const std::string path = cache_folder() + "/models/SmolLM2-135M-Instruct.Q4_1.gguf";
    const bool there = std::filesystem::exists(path);
    return {there, there ? "default model: " + path : "default model: not fetched yet", there ? "" : "./quickstart"};
}

int doctor(const CommonOptions& o) {
    apply_common(o);
    std::vector<Finding> findings;
    for (const ChipSpec& spec : chip_table()) {
        if (spec.isas().empty()) {  // no chip by its word alone, or none of its devices: nothing to mend
            if (spec.find) findings.push_back({true, fmt::format("no chip {}: {}", spec.word, spec.find().why), ""});
            continue;
        }
        try {
            const auto device = spec.open({o.threads, ""});
            const Profile& p = device->profile();
            findings.push_back({true, fmt::format("chip {}: {}", spec.word, p.detail), ""});
            if (spec.word == fallback_chip()) {
                findings.push_back(check_memory(p));
                const std::vector<std::string> isas = spec.isas();
                if (isas.size() == 1)
                    findings.push_back({false,
                                        fmt::format("chip {}: only the {} kernels can run here", spec.word, isas[0]),
                                        "a newer processor would be several times faster"});
            }
        } catch (const Error& e) {
            findings.push_back({false, fmt::format("chip {}: {}", spec.word, e.what()), "busbar chips"});
        }
    }
    findings.push_back(check_cache());
    findings.push_back(check_default_model());
    bool all_good = true;
    Json rows = Json::array();
    for (const Finding& f : findings) {
        all_good = all_good && f.good;
        rows.push_back({{"good", f.good}, {"what", f.what}, {"fix", f.fix}});
        if (!o.json)
            put(fmt::format("{}  {}{}\n", f.good ? "ok  " : "FIX ", f.what,
                            f.fix.empty() ? "" : "\n      -> " + f.fix));
    }
    if (o.json) put_json(rows);
    return all_good ? 0 : static_cast<int>(ErrorCode::answer_is_no);
}

}  // namespace

void add_doctor(CLI::App& app, int& exit_code) {
    auto o = std::make_shared<CommonOptions>();
    CLI::App* sub = app.add_subcommand("doctor", "checks the machine and says the one command that fixes each finding");
    sub->footer("Examples:\n  busbar doctor");
    add_common(*sub, *o);
    sub->callback([o, &exit_code] { exit_code = doctor(*o); });
}

}  // namespace busbar
