#include "base/trace.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

#include "base/error.h"
#include "base/mapped_file.h"

namespace busbar {
namespace {

std::string temporary() {
    return testing::TempDir() + "busbar_trace_" + std::to_string(getpid()) + ".json";
}

int count(const std::string& text, const std::string& what) {
    int n = 0;
    for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++n;
    return n;
}

TEST(Trace, KeepsSpansOfAllThreadsBetweenStartAndWrite) {
    { Span before("before"); }
    start_trace(temporary());
    {
        Span outer("outer");
        std::thread([] { Span inner("inner", LogLevel::all, 7); }).join();
    }
    write_trace();
    { Span after("after"); }
    const std::string text = read_file(temporary());
    EXPECT_EQ(count(text, "\"ph\": \"X\""), 2) << text;
    EXPECT_EQ(count(text, "\"name\": \"outer\""), 1);
    EXPECT_EQ(count(text, "\"rows\": 7"), 1);
    EXPECT_EQ(count(text, "\"tid\": 1"), 1);
    EXPECT_EQ(count(text, "\"tid\": 2"), 1);
    unlink(temporary().c_str());
    write_trace();  // nothing was started again: no file comes back
    EXPECT_NE(access(temporary().c_str(), F_OK), 0);
}

TEST(Trace, SaysWhereItCannotWrite) {
    try {
        start_trace("/nowhere/at/all.json");
        FAIL();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::bad_input);
        EXPECT_EQ(e.address(), "/nowhere/at/all.json");
    }
}

TEST(Log, WritesWhatIsWantedToStderr) {
    testing::internal::CaptureStderr();
    set_log_level(LogLevel::quiet);
    note("not this");
    set_log_level(LogLevel::notes);
    note("a note of {}", 1);
    detail("nor this");
    set_log_level(LogLevel::details);
    detail("a detail with {} and {{}}", "{}");
    set_log_level(LogLevel::notes);
    const std::string text = testing::internal::GetCapturedStderr();
    EXPECT_EQ(text.find("not this"), std::string::npos);
    EXPECT_EQ(text.find("nor this"), std::string::npos);
    EXPECT_EQ(text.rfind("a note of 1\n", 0), 0u) << text;
    EXPECT_NE(text.find("] a detail with {} and {}\n"), std::string::npos) << text;
}

}  // namespace
}  // namespace busbar
