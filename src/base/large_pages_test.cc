#include "base/large_pages.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

namespace busbar {
namespace {

/// A mapped file of `size` bytes, each a mix of its place, whose name is gone already.
class Mapped {
  public:
    explicit Mapped(size_t size) : size_(size) {
        std::string path = ::testing::TempDir() + "busbar_large_pages_XXXXXX";
        file_ = mkstemp(path.data());
        unlink(path.c_str());
        std::vector<std::byte> bytes(size);
        for (size_t i = 0; i < size; ++i) bytes[i] = byte_at(i);
        EXPECT_EQ(write(file_, bytes.data(), size), static_cast<ssize_t>(size));
        data_ = static_cast<std::byte*>(map_file(size, PROT_READ, MAP_PRIVATE, file_));
    }
    ~Mapped() {
        munmap(data_, size_);
        close(file_);
    }
    static std::byte byte_at(size_t i) { return static_cast<std::byte>(i * 2654435761u >> 13); }
    Bytes bytes() const { return {data_, size_}; }
    bool whole() const {
        for (size_t i = 0; i < size_; ++i)
            if (data_[i] != byte_at(i)) return false;
        return true;
    }
    void cut() const { EXPECT_EQ(ftruncate(file_, 0), 0); }

  private:
    size_t size_;
    int file_ = -1;
    std::byte* data_ = nullptr;
};

TEST(LargePages, files_are_mapped_at_their_boundaries) {
    for (const size_t size : {size_t{1}, size_t{4096}, size_t{large_page}, size_t{large_page + 1}, size_t{5000000}}) {
        const Mapped file(size);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(file.bytes().data()) % large_page, 0u);
        EXPECT_TRUE(file.whole());
    }
    EXPECT_EQ(map_file(100, PROT_READ, MAP_PRIVATE, -1), MAP_FAILED);
}

TEST(LargePages, what_fills_them_is_moved_and_the_rest_stays) {
    const Mapped file(7 * large_page + 12345);
    for (const Bytes none : {Bytes{}, file.bytes().subspan(1, large_page), file.bytes().subspan(100, 1)})
        EXPECT_TRUE(move_to_large_pages(none));
    EXPECT_TRUE(move_to_large_pages(file.bytes().subspan(large_page - 1, 2 * large_page)));
    EXPECT_TRUE(file.whole());
    EXPECT_TRUE(move_to_large_pages(file.bytes()));
    EXPECT_TRUE(file.whole());
    file.cut();  // what was moved is the file's no more
    EXPECT_EQ(file.bytes()[7 * large_page - 1], Mapped::byte_at(7 * large_page - 1));
}

TEST(LargePages, readers_notice_nothing) {
    const Mapped file(24 * large_page);
    std::atomic<bool> done{false};
    std::atomic<int> wrong{0};
    std::vector<std::thread> readers;
    for (int t = 0; t < 3; ++t)
        readers.emplace_back([&, t] {
            uint64_t state = t;
            do {
                state = state * 6364136223846793005u + 1442695040888963407u;
                const size_t at = state % file.bytes().size();
                if (file.bytes()[at] != Mapped::byte_at(at)) ++wrong;
            } while (!done);
        });
    for (int round = 0; round < 3; ++round)
        for (size_t at = 0; at < file.bytes().size(); at += 3 * large_page)
            EXPECT_TRUE(move_to_large_pages(file.bytes().subspan(at, 3 * large_page)));
    done = true;
    for (std::thread& t : readers) t.join();
    EXPECT_EQ(wrong, 0);
}

}  // namespace
}  // namespace busbar
