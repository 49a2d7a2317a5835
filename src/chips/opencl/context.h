#pragma once
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "chips/opencl/library.h"

namespace busbar::opencl {

/// What a device says of itself, as far as kernels and figures depend on it.
struct Limits {
    std::string platform, name, maker, driver, version;
    bool is_cpu = false, has_fp64 = false, has_fma = false, keeps_denormals = false, exact_division = false;
    bool unified_memory = false, little_endian = true;
    uint64_t memory = 0, largest_buffer = 0, local_memory = 0;
    size_t largest_group = 1;
    int units = 1, megahertz = 0;
    // What kernels are shaped by; the same for a device whatever it runs, so that orders of sums never change.
    int vector = 4;  ///< values that one work-item holds side by side
    int lanes = 64;  ///< work-items that fold a row
};

struct ProgramKey {
    std::string file;     ///< of the embedded sources
    std::string options;  ///< -D...
    auto operator<=>(const ProgramKey&) const = default;
};

/// One opened device: context, queue and the programs built for it. Not thread-safe.
class Context {
  public:
    /// Device `number` in the order of all platforms. Throws Error{usage} if there are fewer.
    explicit Context(int number);
    ~Context();
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

    const Library& cl() const { return cl_; }
    const Limits& limits() const { return limits_; }
    cl_context context() const { return context_; }
    cl_command_queue queue() const { return queue_; }

    /// A kernel of its own (arguments belong to it). Builds the program at first use, or takes it from the cache.
    cl_kernel kernel(const ProgramKey& key, const std::string& name);
    size_t group_limit(cl_kernel kernel) const;

    /// Throws Error{does_not_fit} with the numbers.
    cl_mem allocate(uint64_t bytes);
    void release(cl_mem memory, uint64_t bytes);
    uint64_t promised() const { return promised_; }
    /// Programs built from source and taken from the cache since the start.
    int built() const { return built_; }
    int reused() const { return reused_; }

  private:
    cl_program program(const ProgramKey& key);
    cl_program build(const ProgramKey& key);
    std::string defines() const;
    const Library& cl_;
    cl_platform_id platform_ = nullptr;
    cl_device_id device_ = nullptr;
    cl_context context_ = nullptr;
    cl_command_queue queue_ = nullptr;
    Limits limits_;
    std::map<ProgramKey, cl_program> programs_;
    uint64_t promised_ = 0;
    int built_ = 0, reused_ = 0;
};

/// All devices of all platforms, in order.
struct DeviceId {
    cl_platform_id platform;
    cl_device_id device;
};
std::vector<DeviceId> list_devices(const Library& cl);
Limits limits_of(const Library& cl, const DeviceId& id);

/// Sources embedded at build time: the text of NAME.cl of this folder. Throws a check of ours if there is none.
std::string_view source_text(std::string_view name);

/// Where the user's caches lie, made if need be; "" if nothing can be written.
std::string cache_folder();
/// Keeps what was built: content is checked when it is read back, so a damaged file is as good as none.
bool read_cached(const std::string& path, const std::string& key, std::string& content);
void write_cached(const std::string& path, const std::string& key, const std::string& content);
std::string hash_of(std::string_view text);

}  // namespace busbar::opencl
