#include "chips/opencl/library.h"

#include <dlfcn.h>

#include <atomic>
#include <mutex>

#include "base/error.h"

namespace busbar::opencl {

namespace {

std::atomic<bool> loaded{false};

Library load() {
    void* handle = nullptr;
    std::string why;
    for (const char* name : {"libOpenCL.so.1", "libOpenCL.so"}) {
        handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
        if (handle != nullptr) break;
        if (why.empty()) why = dlerror();
    }
    if (handle == nullptr)
        throw chip_error("",
                         "[opencl] expected the library libOpenCL.so.1, got: {}; apt-get install ocl-icd-libopencl1 "
                         "and the driver of your device",
                         quote(why, 200));
    Library library;
    const auto find = [&](auto& function, const char* name) {
        void* symbol = dlsym(handle, name);
        if (symbol == nullptr)
            throw chip_error("libOpenCL.so.1", "[opencl] expected OpenCL 1.2 or newer, got a library without {}", name);
        function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(symbol);
    };
#define BUSBAR_CL_FIND(name) find(library.name, "cl" #name);
    BUSBAR_CL_FUNCTIONS(BUSBAR_CL_FIND)
#undef BUSBAR_CL_FIND
    Dl_info info{};
    if (dladdr(reinterpret_cast<void*>(library.GetPlatformIDs), &info) != 0 && info.dli_fname != nullptr)
        library.path = info.dli_fname;
    loaded = true;
    return library;
}

}  // namespace

const Library& load_library() {
    static const Library library = load();  // a throw leaves it to be tried again
    return library;
}

bool library_is_loaded() {
    return loaded;
}

std::string name_of_error(cl_int error) {
    static const struct {
        cl_int value;
        const char* name;
    } names[] = {
#define BUSBAR_CL_ERROR(e) {e, #e},
        BUSBAR_CL_ERROR(CL_DEVICE_NOT_FOUND) BUSBAR_CL_ERROR(CL_DEVICE_NOT_AVAILABLE) BUSBAR_CL_ERROR(
            CL_COMPILER_NOT_AVAILABLE) BUSBAR_CL_ERROR(CL_MEM_OBJECT_ALLOCATION_FAILURE)
            BUSBAR_CL_ERROR(CL_OUT_OF_RESOURCES) BUSBAR_CL_ERROR(CL_OUT_OF_HOST_MEMORY) BUSBAR_CL_ERROR(
                CL_BUILD_PROGRAM_FAILURE) BUSBAR_CL_ERROR(CL_INVALID_VALUE) BUSBAR_CL_ERROR(CL_INVALID_DEVICE)
                BUSBAR_CL_ERROR(CL_INVALID_CONTEXT) BUSBAR_CL_ERROR(CL_INVALID_COMMAND_QUEUE) BUSBAR_CL_ERROR(
                    CL_INVALID_MEM_OBJECT) BUSBAR_CL_ERROR(CL_INVALID_BINARY) BUSBAR_CL_ERROR(CL_INVALID_BUILD_OPTIONS)
                    BUSBAR_CL_ERROR(CL_INVALID_PROGRAM) BUSBAR_CL_ERROR(CL_INVALID_PROGRAM_EXECUTABLE) BUSBAR_CL_ERROR(
                        CL_INVALID_KERNEL_NAME) BUSBAR_CL_ERROR(CL_INVALID_KERNEL) BUSBAR_CL_ERROR(CL_INVALID_ARG_INDEX)
                        BUSBAR_CL_ERROR(CL_INVALID_ARG_VALUE) BUSBAR_CL_ERROR(CL_INVALID_ARG_SIZE)
                            BUSBAR_CL_ERROR(CL_INVALID_KERNEL_ARGS) BUSBAR_CL_ERROR(CL_INVALID_WORK_GROUP_SIZE)
                                BUSBAR_CL_ERROR(CL_INVALID_WORK_ITEM_SIZE) BUSBAR_CL_ERROR(CL_INVALID_GLOBAL_OFFSET)
                                    BUSBAR_CL_ERROR(CL_INVALID_EVENT) BUSBAR_CL_ERROR(CL_INVALID_OPERATION)
                                        BUSBAR_CL_ERROR(CL_INVALID_BUFFER_SIZE)
                                            BUSBAR_CL_ERROR(CL_INVALID_GLOBAL_WORK_SIZE)
#undef BUSBAR_CL_ERROR
                                                {-1001, "no platform"},
    };
    for (const auto& n : names)
        if (n.value == error) return fmt::format("{} ({})", n.name, error);
    return fmt::format("error {}", error);
}

void check(cl_int error, std::string_view doing, std::string_view address) {
    if (error == CL_SUCCESS) return;
    const std::string text = fmt::format("[opencl] {}: expected no error, got {}", doing, name_of_error(error));
    // -9999 and -36 after a fault are what drivers say of a device that fell off the bus or was reset.
    if (error == CL_DEVICE_NOT_AVAILABLE || error == -9999) throw ChipLost("opencl", std::string(address), text);
    if (error == CL_MEM_OBJECT_ALLOCATION_FAILURE) throw Error(ErrorCode::does_not_fit, std::string(address), text);
    throw Error(ErrorCode::chip, std::string(address), text);
}

}  // namespace busbar::opencl
