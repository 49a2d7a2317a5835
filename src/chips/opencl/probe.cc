// Finding devices without trusting their drivers: a child process asks, with a deadline. What it found is kept until
// the library, a driver or what steers them changes; failures are not kept, so that a repair is seen at once.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "base/child.h"
#include "base/error.h"
#include "chips/opencl/context.h"
#include "chips/opencl/opencl.h"

extern char** environ;

namespace busbar {

namespace opencl {

namespace {

namespace fs = std::filesystem;

std::string stamp_of(const fs::path& path) {
    std::error_code error;
    const auto size = fs::file_size(path, error);
    if (error) return path.string() + " absent\n";
    const auto time = fs::last_write_time(path, error).time_since_epoch().count();
    return fmt::format("{} {} {}\n", path.string(), size, time);
}

// Everything that decides which drivers the loader finds and what they are: files by size and time, and the variables
// that steer known loaders and drivers.
std::string driver_stamp() {
    std::string stamp;
    for (const char* folder : {"/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib",
                               "/usr/local/lib", "/usr/local/lib64"})
        stamp += stamp_of(fs::path(folder) / "libOpenCL.so.1");
    const char* own = std::getenv("OCL_ICD_VENDORS");
    const fs::path vendors = own && *own ? own : "/etc/OpenCL/vendors";
    std::vector<fs::path> files;
    std::error_code error;
    if (fs::is_directory(vendors, error)) {
        for (fs::directory_iterator it(vendors, error), end; !error && it != end; it.increment(error))
            files.push_back(it->path());
    } else {
        files.push_back(vendors);
    }
    std::ranges::sort(files);
    for (const fs::path& file : files) {
        stamp += stamp_of(file);
        std::string library;
        std::ifstream in(file);
        if (in && std::getline(in, library) && library.starts_with("/")) stamp += stamp_of(library);
    }
    std::vector<std::string> variables;
    for (char** e = environ; *e != nullptr; ++e) {
        const std::string_view variable = *e;
        bool steers = variable.substr(0, variable.find('=')).ends_with("_VISIBLE_DEVICES");
        for (const char* prefix : {"OCL_", "OPENCL_", "POCL_", "CL_CONFIG_", "LD_LIBRARY_PATH"})
            steers = steers || variable.starts_with(prefix);
        if (steers) variables.emplace_back(variable);
    }
    std::ranges::sort(variables);
    for (const std::string& v : variables) stamp += v + "\n";
    return stamp;
}

// Opens each device once: drivers that list a device may still die of using it.
std::vector<std::string> look() {
    const Library& cl = load_library();
    std::vector<std::string> lines;
    const std::vector<DeviceId> all = list_devices(cl);
    for (size_t i = 0; i < all.size(); ++i) {
        const Limits l = limits_of(cl, all[i]);
        lines.push_back(fmt::format("{}: {}, {}, driver {}", i, quote(l.name), quote(l.version), quote(l.driver)));
    }
    return lines;
}

FoundOpenCl ask_child(std::chrono::milliseconds deadline) {
    Child child([](const Child::Tell& tell) {
        try {
            const std::vector<std::string> lines = look();
            for (int i = 0; i < static_cast<int>(lines.size()); ++i) {
                Context context(i);
                tell("device " + lines[i]);
            }
            tell("done");
        } catch (const std::exception& e) {
            tell(std::string("error ") + e.what());
        }
    });
    FoundOpenCl found;
    const auto stop = std::chrono::steady_clock::now() + deadline;
    while (true) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(stop - std::chrono::steady_clock::now());
        const std::optional<std::string> line = child.line(std::max(left, std::chrono::milliseconds(0)));
        if (!line) {
            found.why = fmt::format("[opencl] expected the drivers to list their devices, got a process that {}{}",
                                    child.ended() ? "" : "did not answer: it ", child.finish());
            if (!found.devices.empty()) found.why += fmt::format(" after device {}", found.devices.back());
            found.devices.clear();
            return found;
        }
        if (line->starts_with("device ")) found.devices.push_back(line->substr(7));
        if (line->starts_with("error ")) {
            found.devices.clear();
            found.why = line->substr(6);
            return found;
        }
        if (*line == "done") break;
    }
    if (found.devices.empty())
        found.why =
            "[opencl] expected a device, got none: no driver is installed (for a processor: apt-get install "
            "pocl-opencl-icd; for a GPU: its maker's driver)";
    return found;
}

}  // namespace

}  // namespace opencl

FoundOpenCl find_opencl(bool may_remember) {
    using namespace opencl;
    FoundOpenCl found;
    if (library_is_loaded()) {  // this process has trusted it already, and a copy of it would not live
        found.devices = look();
        if (found.devices.empty()) found.why = "[opencl] expected a device, got none";
        return found;
    }
    const std::string folder = cache_folder(), path = folder.empty() ? "" : folder + "/devices",
                      key = hash_of(driver_stamp());
    std::string content;
    if (may_remember && !path.empty() && read_cached(path, key, content)) {
        for (size_t at = 0; at < content.size();) {
            const size_t end = std::min(content.find('\n', at), content.size());
            found.devices.push_back(content.substr(at, end - at));
            at = end + 1;
        }
        return found;
    }
    const char* seconds = std::getenv("BUSBAR_PROBE_SECONDS");
    const int patience = seconds ? std::clamp(std::atoi(seconds), 1, 3600) : 20;  // a GPU's driver may take several
    // Once in a process: who asks twice must not wait twice for a driver that hangs.
    static std::map<std::string, FoundOpenCl> asked;
    if (const auto before = asked.find(key); before != asked.end()) return before->second;
    found = ask_child(std::chrono::seconds(patience));
    asked[key] = found;
    if (found.devices.empty() || path.empty()) return found;
    content.clear();
    for (const std::string& device : found.devices) content += device + "\n";
    write_cached(path, key, content);
    return found;
}

}  // namespace busbar
