#pragma once
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

#include <memory>
#include <string>

namespace busbar::opencl {

// Functions of OpenCL 1.2 that this chip calls. Headers are needed to build, no library to link.
#define BUSBAR_CL_FUNCTIONS(F)                                                                                  \
    F(GetPlatformIDs)                                                                                           \
    F(GetPlatformInfo)                                                                                          \
    F(GetDeviceIDs)                                                                                             \
    F(GetDeviceInfo)                                                                                            \
    F(CreateContext)                                                                                            \
    F(ReleaseContext)                                                                                           \
    F(CreateCommandQueue) F(ReleaseCommandQueue) F(CreateBuffer) F(ReleaseMemObject) F(CreateProgramWithSource) \
        F(CreateProgramWithBinary) F(BuildProgram) F(GetProgramInfo) F(GetProgramBuildInfo) F(ReleaseProgram)   \
            F(CreateKernel) F(ReleaseKernel) F(SetKernelArg) F(GetKernelWorkGroupInfo) F(EnqueueNDRangeKernel)  \
                F(EnqueueReadBuffer) F(EnqueueWriteBuffer) F(EnqueueCopyBuffer) F(EnqueueFillBuffer) F(Flush)   \
                    F(Finish) F(ReleaseEvent) F(GetEventProfilingInfo)

/// The system's OpenCL, loaded at run time. Stays loaded: makers' libraries do not survive being closed.
struct Library {
#define BUSBAR_CL_MEMBER(name) decltype(&::cl##name) name = nullptr;
    BUSBAR_CL_FUNCTIONS(BUSBAR_CL_MEMBER)
#undef BUSBAR_CL_MEMBER
    std::string path;  ///< as the loader found it
};

/// Throws Error{chip} if there is none or it lacks a function of OpenCL 1.2.
const Library& load_library();
/// Whether this process has loaded it already.
bool library_is_loaded();

/// "CL_OUT_OF_RESOURCES (-5)"
std::string name_of_error(cl_int error);
/// Throws on an error: ChipLost if the device is gone, Error{does_not_fit} if it has no memory left, else Error{chip}.
void check(cl_int error, std::string_view doing, std::string_view address = "");

}  // namespace busbar::opencl
