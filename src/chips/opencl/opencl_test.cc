#include "chips/opencl/opencl.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include "base/error.h"
#include "chips/opencl/pack.h"

namespace busbar {

namespace opencl {

namespace {

namespace fs = std::filesystem;

// A folder of its own as cache, and the environment as it was afterwards.
class OpenCl : public testing::Test {
  protected:
    void SetUp() override {
        folder_ = fs::temp_directory_path() / ("busbar-opencl-" + std::to_string(getpid()));
        fs::create_directories(folder_);
        if (const char* before = std::getenv("BUSBAR_CACHE")) before_ = before;
        setenv("BUSBAR_CACHE", folder_.c_str(), 1);
    }
    void TearDown() override {
        if (before_.empty())
            unsetenv("BUSBAR_CACHE");
        else
            setenv("BUSBAR_CACHE", before_.c_str(), 1);
        fs::remove_all(folder_);
    }
    // Drivers compile with LLVM inside this process and keep what they made: nothing for leak and race checkers.
    bool has_device() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
        fmt::print("not asked under a sanitizer: the drivers are not ours to check\n");
        return false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
        fmt::print("not asked under a sanitizer: the drivers are not ours to check\n");
        return false;
#endif
#endif
        const FoundOpenCl found = find_opencl(true);
        if (found.devices.empty()) fmt::print("no OpenCL device here: {}\n", found.why);
        return !found.devices.empty();
    }
    std::vector<fs::path> cached(const std::string& prefix) {
        std::vector<fs::path> out;
        for (const auto& entry : fs::directory_iterator(folder_ / "opencl"))
            if (entry.path().filename().string().starts_with(prefix)) out.push_back(entry.path());
        return out;
    }
    fs::path folder_;
    std::string before_;
};

std::string message_of(const auto& call, ErrorCode code) {
    try {
        call();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), code) << e.what();
        return e.what();
    }
    ADD_FAILURE() << "no error";
    return "";
}

TEST_F(OpenCl, a_wrong_number_says_which_there_are) {
    for (const char* number : {"-1", "x", "1x", "99999999999999999999"}) {
        const std::string why = message_of([&] { make_opencl(number); }, ErrorCode::usage);
        EXPECT_NE(why.find("expected a device's number"), std::string::npos) << why;
    }
    if (!has_device()) GTEST_SKIP();
    const std::string why = message_of([] { make_opencl("77"); }, ErrorCode::usage);
    EXPECT_NE(why.find("0: "), std::string::npos) << why;
}

TEST_F(OpenCl, what_was_compiled_is_used_again_and_damage_is_repaired) {
    if (!has_device()) GTEST_SKIP();
    const ProgramKey key{"rows", ""};
    const auto open = [&](int built, int reused) {
        Context context(0);
        const cl_kernel kernel = context.kernel(key, "softmax");
        context.cl().ReleaseKernel(kernel);
        EXPECT_EQ(context.built(), built);
        EXPECT_EQ(context.reused(), reused);
    };
    open(1, 0);
    ASSERT_EQ(cached("rows").size(), 1u);
    const fs::path file = cached("rows")[0];
    open(0, 1);
    std::random_device seed;
    std::mt19937 random(seed());
    for (int round = 0; round < 3; ++round) {
        std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
        const auto at = static_cast<std::streamoff>(random() % fs::file_size(file));
        f.seekg(at);
        const char c = static_cast<char>(f.get() ^ 0x40);
        f.seekp(at);
        f.put(c);
        f.close();
        fmt::print("damaged byte {}\n", at);
        open(1, 0);
        open(0, 1);
    }
    fs::resize_file(file, fs::file_size(file) / 2);
    open(1, 0);
    // Another program's binary under this name: the hash is whole, the key is not.
    std::string content;
    write_cached(file, "another key", "x");
    EXPECT_FALSE(read_cached(file, "this key", content));
    open(1, 0);
}

TEST_F(OpenCl, a_buffer_that_does_not_fit_says_so_with_numbers) {
    if (!has_device()) GTEST_SKIP();
    Context context(0);
    const uint64_t most = context.limits().largest_buffer;
    const std::string why = message_of([&] { context.allocate(most + 1); }, ErrorCode::does_not_fit);
    EXPECT_NE(why.find(with_commas(most)), std::string::npos) << why;
    std::vector<cl_mem> taken;
    const std::string full = message_of(
        [&] {
            for (int i = 0; i < 100000; ++i) taken.push_back(context.allocate(most));
        },
        ErrorCode::does_not_fit);
    EXPECT_FALSE(full.empty());
    for (cl_mem memory : taken) context.release(memory, most);
    EXPECT_EQ(context.promised(), 0u);
}

TEST_F(OpenCl, buffers_hold_what_was_written_and_start_as_zeros) {
    if (!has_device()) GTEST_SKIP();
    const auto device = make_opencl();
    std::mt19937 random(std::random_device{}());
    for (const uint64_t bytes : {1, 3, 4, 64, 1001}) {
        const auto a = device->allocate(bytes), b = device->allocate(bytes);
        std::vector<std::byte> zeros(bytes), data(bytes), back(bytes);
        device->read(*a, 0, back);
        EXPECT_EQ(back, zeros) << bytes;
        for (std::byte& x : data) x = static_cast<std::byte>(random());
        device->write(*a, 0, data);
        device->copy(*b, 0, *a, 0, bytes);
        device->read(*b, 0, back);
        EXPECT_EQ(back, data) << bytes;
    }
}

// Memory that a weight takes is what the plan counts with, within what wider codes cost.
TEST_F(OpenCl, packed_weights_stay_near_their_stored_size) {
    for (const Encoding* e : encodings()) {
        const Planes p = planes_of(shape_of(*e), 64, 512);
        const double bits = static_cast<double>(p.bytes) * 8 / (64 * 512);
        EXPECT_LE(bits, e->bits_per_weight() * 2.0) << e->name;
        EXPECT_GE(bits, e->bits_per_weight() * 0.99) << e->name;
    }
}

}  // namespace

}  // namespace opencl

}  // namespace busbar
