#include "base/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <thread>
#include <vector>

#include "base/error.h"

namespace busbar {
namespace {

/// A file of `size` bytes 0x5A that goes when the test ends.
class TemporaryFile {
  public:
    explicit TemporaryFile(size_t size) {
        path_ = ::testing::TempDir() + "busbar_mapped_file_XXXXXX";
        const int fd = mkstemp(path_.data());
        EXPECT_GE(fd, 0);
        const std::string text(size, 'Z');
        EXPECT_EQ(write(fd, text.data(), size), static_cast<ssize_t>(size));
        close(fd);
    }
    ~TemporaryFile() { unlink(path_.c_str()); }
    const std::string& path() const { return path_; }
    void cut(off_t size) const { ASSERT_EQ(truncate(path_.c_str(), size), 0); }

  private:
    std::string path_;
};

std::string message_of(const auto& action) {
    try {
        action();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::bad_input);
        return e.what();
    }
    return "nothing thrown";
}

int sum_of(Bytes bytes) {
    int sum = 0;
    for (const std::byte b : bytes) sum += static_cast<int>(b);
    return sum;
}

TEST(MappedFile, HoldsTheFile) {
    const TemporaryFile file(10000);
    const auto mapped = MappedFile::open(file.path());
    EXPECT_EQ(mapped->size(), 10000u);
    EXPECT_EQ(mapped->path(), file.path());
    EXPECT_EQ(sum_of(mapped->bytes()), 10000 * 'Z');
    mapped->check_intact();
    mapped->drop(0, 10000);
    mapped->drop(5000, 1 << 20);  // past the end: as far as the file goes
    mapped->drop(1 << 20, 10);    // wholly outside: nothing
    EXPECT_EQ(sum_of(mapped->bytes()), 10000 * 'Z');
    mapped->check_intact();
}

TEST(MappedFile, EmptyFileIsLegal) {
    const TemporaryFile file(0);
    const auto mapped = MappedFile::open(file.path());
    EXPECT_EQ(mapped->size(), 0u);
    mapped->check_intact();
}

TEST(MappedFile, RefusesWhatIsNoFile) {
    EXPECT_NE(message_of([] { MappedFile::open("/nonexistent/busbar"); }).find("cannot open: No such file"),
              std::string::npos);
    EXPECT_NE(message_of([] { MappedFile::open("/"); }).find("got a folder"), std::string::npos);
    EXPECT_NE(message_of([] { MappedFile::open("/dev/null"); }).find("got something else"), std::string::npos);
    // A pipe that nobody writes to must not hang us.
    const std::string pipe = ::testing::TempDir() + "busbar_pipe_" + std::to_string(getpid());
    ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
    EXPECT_NE(message_of([&] { MappedFile::open(pipe); }).find("got something else"), std::string::npos);
    unlink(pipe.c_str());
}

// The heart of the class: without its handler each of these reads would end the process with SIGBUS.
TEST(MappedFile, AFileCutWhileMappedIsAnErrorNotASignal) {
    const TemporaryFile file(5 * 4096);
    const auto mapped = MappedFile::open(file.path());
    file.cut(4096 + 10);
    EXPECT_EQ(sum_of(mapped->bytes().first(4096)), 4096 * 'Z');
    EXPECT_EQ(sum_of(mapped->bytes().subspan(2 * 4096, 3 * 4096)), 0);
    const std::string message = message_of([&] { mapped->check_intact(); });
    EXPECT_NE(message.find(file.path()), std::string::npos) << message;
    EXPECT_NE(message.find("expected 20,480 bytes, but the file was cut short while in use"), std::string::npos)
        << message;
    // It stays an error, and another mapping of a whole file is none of its business.
    EXPECT_NE(message_of([&] { mapped->check_intact(); }), "nothing thrown");
    const TemporaryFile other(4096);
    MappedFile::open(other.path())->check_intact();
}

// Within the last page the kernel hands out zeros without a signal: only the size tells.
TEST(MappedFile, ACutInsideTheLastPageIsSeen) {
    const TemporaryFile file(4096 + 1000);
    const auto mapped = MappedFile::open(file.path());
    file.cut(4096 + 999);
    EXPECT_NE(message_of([&] { mapped->check_intact(); }).find("cut short"), std::string::npos);
}

TEST(MappedFile, AFileThatWasCutAndRestoredStaysAnErrorOnceZerosWereRead) {
    const TemporaryFile file(3 * 4096);
    const auto mapped = MappedFile::open(file.path());
    file.cut(0);
    EXPECT_EQ(sum_of(mapped->bytes()), 0);
    file.cut(3 * 4096);
    EXPECT_NE(message_of([&] { mapped->check_intact(); }), "nothing thrown");
}

TEST(MappedFile, SeveralThreadsMayFaultAtOnce) {
    const TemporaryFile file(64 * 4096);
    const auto mapped = MappedFile::open(file.path());
    file.cut(0);
    std::vector<std::thread> threads;
    std::vector<int> sums(4, -1);
    for (int& sum : sums) threads.emplace_back([&] { sum = sum_of(mapped->bytes()); });
    for (std::thread& t : threads) t.join();
    for (const int sum : sums) EXPECT_EQ(sum, 0);
    EXPECT_NE(message_of([&] { mapped->check_intact(); }), "nothing thrown");
}

TEST(MappedFile, ManyComeAndGo) {
    const TemporaryFile file(100);
    for (int i = 0; i < 10000; ++i) MappedFile::open(file.path())->check_intact();
}

TEST(ReadFile, ReadsUpToItsLimit) {
    const TemporaryFile file(100000);
    EXPECT_EQ(read_file(file.path()), std::string(100000, 'Z'));
    EXPECT_EQ(read_file(file.path(), 100000).size(), 100000u);
    EXPECT_NE(message_of([&] { read_file(file.path(), 99999); }).find("at most 99,999 bytes"), std::string::npos);
    EXPECT_NE(message_of([] { read_file("/nonexistent/busbar"); }).find("cannot open"), std::string::npos);
    EXPECT_NE(message_of([] { read_file("/"); }).find("cannot read"), std::string::npos);
}

}  // namespace
}  // namespace busbar
