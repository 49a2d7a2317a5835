// Packed weights: the products that use them agree with f32 arithmetic on the same weights, one row at a time and many
// give the same bits, and a file of them from an earlier run is used if, and only if, it is this model's.
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>

#include "harness.h"
#include "run/packed_file.h"

namespace busbar::test {
namespace {

namespace fs = std::filesystem;

class Folder {
  public:
    Folder() {
        std::string name = (fs::temp_directory_path() / "busbar-packed-XXXXXX").string();
        path = mkdtemp(name.data());
    }
    ~Folder() { fs::remove_all(path); }
    size_t files() const { return std::distance(fs::directory_iterator(path), fs::directory_iterator()); }
    std::string path;
};

std::vector<PackedFile::Entry> two_entries() {
    return {{"a", "panels", 1, 5000}, {"b", "panels", 1, 0}, {"c", "panels", 1, 70}};
}

std::shared_ptr<PackedFile> filled(const KeepPacked& where) {
    auto file = PackedFile::create(where, two_entries());
    EXPECT_NE(file, nullptr);
    for (size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(file->at(i).size(), two_entries()[i].bytes);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(file->at(i).data()) % 64, 0u);
        std::fill(file->at(i).begin(), file->at(i).end(), static_cast<std::byte>(i + 1));
    }
    return file;
}

TEST(PackedFile, is_found_again_whole_and_by_its_own_model_only) {
    const Folder folder;
    const KeepPacked where{folder.path + "/w", "source"};
    EXPECT_EQ(PackedFile::open(where, two_entries()), nullptr);
    filled(where)->keep();
    ASSERT_EQ(folder.files(), 1u);
    const auto again = PackedFile::open(where, two_entries());
    ASSERT_NE(again, nullptr);
    for (size_t i = 0; i < 3; ++i)
        for (std::byte b : again->at(i)) ASSERT_EQ(b, static_cast<std::byte>(i + 1));

    EXPECT_EQ(PackedFile::open({where.path, "another"}, two_entries()), nullptr);
    auto others = two_entries();
    others[0].layout = 2;
    EXPECT_EQ(PackedFile::open(where, others), nullptr);
    others = two_entries();
    others[2].name = "d";
    EXPECT_EQ(PackedFile::open(where, others), nullptr);
    others = two_entries();
    others[2].bytes = 71;
    EXPECT_EQ(PackedFile::open(where, others), nullptr);

    const uint64_t size = fs::file_size(where.path);
    for (const uint64_t other : {uint64_t{0}, uint64_t{10}, size - 1, size + 1}) {
        fs::resize_file(where.path, other);
        EXPECT_EQ(PackedFile::open(where, two_entries()), nullptr) << other;
    }
}

TEST(PackedFile, leaves_nothing_where_it_was_not_finished) {
    const Folder folder;
    const KeepPacked where{folder.path + "/w", "source"};
    filled(where).reset();
    EXPECT_EQ(folder.files(), 0u);
    EXPECT_EQ(PackedFile::create({folder.path + "/no/such/folder", "source"}, two_entries()), nullptr);
    std::vector<PackedFile::Entry> huge = two_entries();
    huge[0].bytes = uint64_t{1} << 50;
    EXPECT_EQ(PackedFile::create(where, huge), nullptr);
    EXPECT_EQ(folder.files(), 0u);
}

class PackedModel : public testing::Test {
  protected:
    static LoadOptions options(int64_t chunk, Accuracy accuracy = Accuracy::accurate) {
        LoadOptions o = strict(256, chunk);
        o.accuracy = accuracy;
        return o;
    }
    static std::vector<int32_t> text() {
        std::mt19937 random(7);
        std::vector<int32_t> ids(96);
        for (int32_t& id : ids) id = static_cast<int32_t>(random() % 4000);
        return ids;
    }
    std::string path = from_environment("BUSBAR_DEFAULT_MODEL");
};

TEST_F(PackedModel, one_arithmetic_for_one_row_and_for_many) {
    BUSBAR_NEED("BUSBAR_DEFAULT_MODEL");
    const std::vector<int32_t> ids = text();
    const std::vector<float> many = all_logits(*load_model(path, options(96)).model, ids);
    for (const int64_t chunk : {1, 3, 7})
        EXPECT_EQ(all_logits(*load_model(path, options(chunk)).model, ids), many) << chunk;
}

TEST_F(PackedModel, agrees_with_f32_arithmetic_a_thousand_times_better_than_eight_bits_do) {
    BUSBAR_NEED("BUSBAR_DEFAULT_MODEL");
    const std::vector<int32_t> ids = text();
    const Loaded packed = load_model(path, options(96));
    if (packed.model->memory().packed_weights == 0) GTEST_SKIP() << "no packed form on this processor";
    const std::vector<float> got = all_logits(*packed.model, ids),
                             want = all_logits(*load_model(path, options(96, Accuracy::strict)).model, ids);
    ASSERT_NE(got, want) << "strict numerics read the stored blocks";
    const size_t vocabulary = got.size() / ids.size();
    double divergence = 0;
    for (size_t row = 0; row < ids.size(); ++row) {
        const float *a = want.data() + row * vocabulary, *b = got.data() + row * vocabulary;
        double sum_a = 0, sum_b = 0, mean = 0;
        for (size_t i = 0; i < vocabulary; ++i) sum_a += std::exp(a[i]), sum_b += std::exp(b[i]);
        for (size_t i = 0; i < vocabulary; ++i)
            mean += std::exp(a[i]) / sum_a * (static_cast<double>(a[i]) - b[i] - std::log(sum_a) + std::log(sum_b));
        divergence += mean / static_cast<double>(ids.size());
    }
    // Activations of eight bits cost this model 0.0031 nats (docs/speed.md).
    EXPECT_LT(divergence, 3.1e-6);
    EXPECT_GT(divergence, -1e-9);
}

TEST_F(PackedModel, uses_the_file_of_an_earlier_run_and_makes_a_wrong_one_again) {
    BUSBAR_NEED("BUSBAR_DEFAULT_MODEL");
    const Folder folder;
    const std::vector<int32_t> ids = text();
    LoadOptions o = options(16);
    const std::vector<float> want = all_logits(*load_model(path, o).model, ids);
    o.keep = {folder.path + "/model", "hash"};
    {
        const Loaded first = load_model(path, o);
        if (first.model->memory().packed_weights == 0) GTEST_SKIP() << "no packed form on this processor";
        EXPECT_EQ(all_logits(*first.model, ids), want);
    }  // its file is on the disk now
    ASSERT_EQ(folder.files(), 1u);
    const auto made = fs::last_write_time(o.keep.path);
    EXPECT_EQ(all_logits(*load_model(path, o).model, ids), want);
    EXPECT_EQ(fs::last_write_time(o.keep.path), made) << "used, not made again";

    // The right text before wrong weights: seen by a look at them, and made again.
    const uint64_t size = fs::file_size(o.keep.path);
    {
        std::fstream f(o.keep.path, std::ios::in | std::ios::out | std::ios::binary);
        f.seekp(static_cast<std::streamoff>(size / 2 / 4096 * 4096));
        const std::string zeros(size / 2 / 4096 * 4096, '\0');
        f.write(zeros.data(), static_cast<std::streamsize>(zeros.size()));
    }
    EXPECT_EQ(all_logits(*load_model(path, o).model, ids), want);
    EXPECT_EQ(folder.files(), 1u);
    EXPECT_EQ(all_logits(*load_model(path, o).model, ids), want);
}

}  // namespace
}  // namespace busbar::test
