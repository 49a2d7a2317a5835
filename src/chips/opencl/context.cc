#include "chips/opencl/context.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <mutex>

#include "base/check.h"
#include "base/error.h"
#include "base/log.h"

namespace busbar::opencl {

namespace {

std::string text_of(const Library& cl, cl_device_id device, cl_device_info what) {
    size_t size = 0;
    if (cl.GetDeviceInfo(device, what, 0, nullptr, &size) != CL_SUCCESS || size == 0 || size > 1u << 20) return "";
    std::string text(size, '\0');
    if (cl.GetDeviceInfo(device, what, size, text.data(), nullptr) != CL_SUCCESS) return "";
    text.resize(text.find('\0') == std::string::npos ? size : text.find('\0'));
    return text;
}

template <typename T>
T number_of(const Library& cl, cl_device_id device, cl_device_info what) {
    T value{};
    if (cl.GetDeviceInfo(device, what, sizeof value, &value, nullptr) != CL_SUCCESS) return T{};
    return value;
}

bool has_word(const std::string& words, std::string_view word) {
    for (size_t at = words.find(word); at != std::string::npos; at = words.find(word, at + 1)) {
        const size_t end = at + word.size();
        if ((at == 0 || words[at - 1] == ' ') && (end == words.size() || words[end] == ' ')) return true;
    }
    return false;
}

}  // namespace

std::vector<DeviceId> list_devices(const Library& cl) {
    cl_uint n = 0;
    const cl_int error = cl.GetPlatformIDs(0, nullptr, &n);
    if (error == -1001 || (error == CL_SUCCESS && n == 0)) return {};  // -1001: the loader knows no driver
    check(error, "listing platforms");
    std::vector<cl_platform_id> platforms(std::min<cl_uint>(n, 64));
    check(cl.GetPlatformIDs(static_cast<cl_uint>(platforms.size()), platforms.data(), nullptr), "listing platforms");
    std::vector<DeviceId> all;
    for (cl_platform_id platform : platforms) {
        cl_uint count = 0;
        if (cl.GetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 0, nullptr, &count) != CL_SUCCESS || count == 0) continue;
        std::vector<cl_device_id> devices(std::min<cl_uint>(count, 64));
        if (cl.GetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, static_cast<cl_uint>(devices.size()), devices.data(),
                            nullptr) != CL_SUCCESS)
            continue;
        for (cl_device_id device : devices) all.push_back({platform, device});
    }
    return all;
}

Limits limits_of(const Library& cl, const DeviceId& id) {
    Limits l;
    char platform[256] = {};
    if (cl.GetPlatformInfo(id.platform, CL_PLATFORM_VERSION, sizeof platform - 1, platform, nullptr) == CL_SUCCESS)
        l.platform = platform;
    l.name = text_of(cl, id.device, CL_DEVICE_NAME);
    l.maker = text_of(cl, id.device, CL_DEVICE_VENDOR);
    l.driver = text_of(cl, id.device, CL_DRIVER_VERSION);
    l.version = text_of(cl, id.device, CL_DEVICE_VERSION);
    const std::string extensions = text_of(cl, id.device, CL_DEVICE_EXTENSIONS);
    l.is_cpu = (number_of<cl_device_type>(cl, id.device, CL_DEVICE_TYPE) & CL_DEVICE_TYPE_CPU) != 0;
    l.has_fp64 = has_word(extensions, "cl_khr_fp64") ||
                 number_of<cl_device_fp_config>(cl, id.device, CL_DEVICE_DOUBLE_FP_CONFIG) != 0;
    const auto floats = number_of<cl_device_fp_config>(cl, id.device, CL_DEVICE_SINGLE_FP_CONFIG);
    l.has_fma = (floats & CL_FP_FMA) != 0;
    l.keeps_denormals = (floats & CL_FP_DENORM) != 0;
    l.exact_division = (floats & CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT) != 0;
    l.unified_memory = number_of<cl_bool>(cl, id.device, CL_DEVICE_HOST_UNIFIED_MEMORY) != 0;
    l.little_endian = number_of<cl_bool>(cl, id.device, CL_DEVICE_ENDIAN_LITTLE) != 0;
    l.memory = number_of<cl_ulong>(cl, id.device, CL_DEVICE_GLOBAL_MEM_SIZE);
    l.largest_buffer = number_of<cl_ulong>(cl, id.device, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
    l.local_memory = number_of<cl_ulong>(cl, id.device, CL_DEVICE_LOCAL_MEM_SIZE);
    l.largest_group = std::max<size_t>(1, number_of<size_t>(cl, id.device, CL_DEVICE_MAX_WORK_GROUP_SIZE));
    l.units = static_cast<int>(std::max<cl_uint>(1, number_of<cl_uint>(cl, id.device, CL_DEVICE_MAX_COMPUTE_UNITS)));
    l.megahertz = static_cast<int>(number_of<cl_uint>(cl, id.device, CL_DEVICE_MAX_CLOCK_FREQUENCY));
    // A processor's registers hold eight or sixteen floats; a GPU's work-items read 16 bytes at a time at best.
    const char* shape = std::getenv("BUSBAR_OPENCL_SHAPE");
    const bool as_cpu = shape ? std::string_view(shape) != "gpu" : l.is_cpu;
    l.vector = as_cpu ? 8 : 4;
    l.lanes = as_cpu ? 16 : 64;
    while (l.lanes > 1 && static_cast<size_t>(l.lanes) > l.largest_group) l.lanes /= 2;
    return l;
}

Context::Context(int number) : cl_(load_library()) {
    const std::vector<DeviceId> all = list_devices(cl_);
    if (all.empty())
        throw chip_error("",
                         "[opencl] expected a device, got none: {} has no driver; install the one of your device "
                         "(for a processor: apt-get install pocl-opencl-icd)",
                         cl_.path);
    if (number < 0 || number >= static_cast<int>(all.size()))
        throw usage_error("[opencl] expected a device below {} after the colon, got {}; `busbar chips` lists them",
                          all.size(), number);
    platform_ = all[number].platform;
    device_ = all[number].device;
    limits_ = limits_of(cl_, all[number]);
    if (!limits_.little_endian)
        throw chip_error("", "[opencl] expected a little-endian device, got {}", quote(limits_.name));
    cl_int error = CL_SUCCESS;
    const cl_context_properties properties[] = {CL_CONTEXT_PLATFORM, reinterpret_cast<cl_context_properties>(platform_),
                                                0};
    context_ = cl_.CreateContext(properties, 1, &device_, nullptr, nullptr, &error);
    check(error, "opening a context on " + quote(limits_.name));
    queue_ = cl_.CreateCommandQueue(context_, device_, 0, &error);
    if (error != CL_SUCCESS) {
        cl_.ReleaseContext(context_);
        check(error, "opening a queue on " + quote(limits_.name));
    }
}

Context::~Context() {
    cl_.Finish(queue_);
    for (auto& [key, program] : programs_) cl_.ReleaseProgram(program);
    cl_.ReleaseCommandQueue(queue_);
    cl_.ReleaseContext(context_);
}

cl_mem Context::allocate(uint64_t bytes) {
    if (bytes > limits_.largest_buffer)
        throw does_not_fit("[opencl] expected a buffer of {} bytes, {} gives at most {} in one piece",
                           with_commas(bytes), quote(limits_.name), with_commas(limits_.largest_buffer));
    const uint64_t left = limits_.memory > promised_ ? limits_.memory - promised_ : 0;
    if (bytes > left)
        throw does_not_fit("[opencl] expected {} bytes of memory, {} of {} on {} are free", with_commas(bytes),
                           with_commas(left), with_commas(limits_.memory), quote(limits_.name));
    cl_int error = CL_SUCCESS;
    const cl_mem memory = cl_.CreateBuffer(context_, CL_MEM_READ_WRITE, std::max<uint64_t>(bytes, 64), nullptr, &error);
    check(error, fmt::format("allocating {} bytes on {}", with_commas(bytes), quote(limits_.name)));
    promised_ += bytes;
    return memory;
}

void Context::release(cl_mem memory, uint64_t bytes) {
    cl_.ReleaseMemObject(memory);
    promised_ -= bytes;
}

std::string Context::defines() const {
    std::string d = fmt::format("-cl-std=CL1.2 -DV={} -DLANES={}", limits_.vector, limits_.lanes);
    if (limits_.exact_division) d += " -cl-fp32-correctly-rounded-divide-sqrt -DEXACT_DIVISION";
    if (limits_.has_fma) d += " -DHAS_FMA";
    if (limits_.has_fp64 && std::getenv("BUSBAR_OPENCL_NO_FP64") == nullptr) d += " -DHAS_FP64";
    return d;
}

cl_program Context::program(const ProgramKey& key) {
    const auto found = programs_.find(key);
    if (found != programs_.end()) return found->second;
    const cl_program made = build(key);
    programs_.emplace(key, made);
    return made;
}

cl_program Context::build(const ProgramKey& key) {
    const std::string text = std::string(source_text("common")) + std::string(source_text(key.file));
    const std::string options = defines() + (key.options.empty() ? "" : " " + key.options);
    const std::string hash = hash_of(limits_.platform + "\n" + limits_.name + "\n" + limits_.driver + "\n" +
                                     limits_.version + "\n" + options + "\n" + text);
    const std::string folder = cache_folder(),
                      path = folder.empty() ? "" : fmt::format("{}/{}-{}.bin", folder, key.file, hash.substr(0, 24));
    const auto start = std::chrono::steady_clock::now();
    std::string binary;
    cl_int error = CL_SUCCESS;
    if (!path.empty() && read_cached(path, hash, binary)) {
        const auto* data = reinterpret_cast<const unsigned char*>(binary.data());
        const size_t size = binary.size();
        cl_int status = CL_SUCCESS;
        const cl_program program = cl_.CreateProgramWithBinary(context_, 1, &device_, &size, &data, &status, &error);
        if (error == CL_SUCCESS && status == CL_SUCCESS &&
            cl_.BuildProgram(program, 1, &device_, options.c_str(), nullptr, nullptr) == CL_SUCCESS) {
            ++reused_;
            return program;
        }
        if (error == CL_SUCCESS) cl_.ReleaseProgram(program);
    }
    const char* source = text.c_str();
    const size_t length = text.size();
    const cl_program program = cl_.CreateProgramWithSource(context_, 1, &source, &length, &error);
    check(error, "making a program of " + key.file + ".cl");
    error = cl_.BuildProgram(program, 1, &device_, options.c_str(), nullptr, nullptr);
    if (error != CL_SUCCESS) {
        std::string log(16384, '\0');
        size_t size = 0;
        cl_.GetProgramBuildInfo(program, device_, CL_PROGRAM_BUILD_LOG, log.size(), log.data(), &size);
        log.resize(std::min(size, log.size()));
        cl_.ReleaseProgram(program);
        detail("[opencl] {}.cl {}: {}", key.file, options, log);
        throw chip_error(key.file + ".cl", "[opencl] expected {} to compile it, got {}: {}", quote(limits_.name),
                         name_of_error(error), quote(log, 400));
    }
    ++built_;
    size_t size = 0;
    if (!path.empty() &&
        cl_.GetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof size, &size, nullptr) == CL_SUCCESS && size > 0) {
        binary.assign(size, '\0');
        auto* data = reinterpret_cast<unsigned char*>(binary.data());
        if (cl_.GetProgramInfo(program, CL_PROGRAM_BINARIES, sizeof data, &data, nullptr) == CL_SUCCESS)
            write_cached(path, hash, binary);
    }
    detail("[opencl] compiled {}.cl {} in {:.2f} s", key.file, key.options,
           std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    return program;
}

cl_kernel Context::kernel(const ProgramKey& key, const std::string& name) {
    cl_int error = CL_SUCCESS;
    const cl_kernel kernel = cl_.CreateKernel(program(key), name.c_str(), &error);
    check(error, "making the kernel " + name, key.file + ".cl");
    return kernel;
}

size_t Context::group_limit(cl_kernel kernel) const {
    size_t n = 0;
    const cl_int error = cl_.GetKernelWorkGroupInfo(kernel, device_, CL_KERNEL_WORK_GROUP_SIZE, sizeof n, &n, nullptr);
    return error == CL_SUCCESS && n > 0 ? n : 1;
}

}  // namespace busbar::opencl
