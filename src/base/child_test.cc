#include "base/child.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <stdexcept>

namespace busbar {

namespace {

using namespace std::chrono_literals;

TEST(Child, tells_lines_and_ends) {
    const std::string long_line(200000, 'x');
    Child child([&](const Child::Tell& tell) {
        tell("one");
        tell("");
        tell(long_line);
    });
    EXPECT_EQ(child.line(10s), "one");
    EXPECT_EQ(child.line(10s), "");
    EXPECT_EQ(child.line(10s), long_line);
    EXPECT_FALSE(child.line(10s));
    EXPECT_TRUE(child.ended());
    EXPECT_EQ(child.finish(), "exited with 0");
}

TEST(Child, says_how_it_died) {
    Child killed([](const Child::Tell& tell) {
        tell("before");
        raise(SIGKILL);
    });
    EXPECT_EQ(killed.line(10s), "before");
    EXPECT_FALSE(killed.line(10s));
    EXPECT_EQ(killed.finish(), "killed by signal 9 (Killed)");

    Child thrown([](const Child::Tell&) { throw std::runtime_error("anything"); });
    EXPECT_FALSE(thrown.line(10s));
    EXPECT_EQ(thrown.finish(), "exited with 70");

    Child left([](const Child::Tell&) { _exit(3); });  // a library that ends its host
    EXPECT_FALSE(left.line(10s));
    EXPECT_EQ(left.finish(), "exited with 3");
}

TEST(Child, one_that_hangs_is_killed_at_its_deadline) {
    Child child([](const Child::Tell&) {
        while (true) pause();
    });
    EXPECT_FALSE(child.line(50ms));
    EXPECT_FALSE(child.ended());
    EXPECT_EQ(child.finish(), "took longer than its deadline");
    EXPECT_NE(kill(child.process(), 0), 0) << "gone, and waited for";
}

}  // namespace

}  // namespace busbar
