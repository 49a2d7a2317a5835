// What `busbar conform` runs: worker processes, verdicts, waivers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "agree/conform/conform.h"
#include "wrong_device.h"

namespace busbar::conform {

namespace {

using testing::HasSubstr;

std::unique_ptr<Device> open_oracle() {
    return open_chip(oracle_chip());
}

Options only_norms() {
    Options o;
    o.op = "rms_norm";
    o.quick = true;
    o.case_deadline = o.first_deadline = o.open_deadline = std::chrono::milliseconds(1000);
    o.give_up_after = 2;
    return o;
}

Report run_with(Fault fault, const Options& options = only_norms()) {
    return run([fault] { return std::make_unique<WrongDevice>(fault); }, open_oracle, options);
}

TEST(Conform, the_oracle_is_exact_and_the_fallback_chip_conforms) {
    const Report self = run(open_oracle, open_oracle, only_norms());
    EXPECT_TRUE(self.conforms()) << self.text(true);
    EXPECT_EQ(self.workers, 1);
    EXPECT_GE(self.cases.size(), 4u);
    for (const CaseResult& r : self.cases) EXPECT_EQ(r.verdict, Word::exact) << r.name;
    Options quick;
    quick.quick = true;
    const Report chip = run([] { return open_chip(fallback_chip()); }, open_oracle, quick);
    EXPECT_TRUE(chip.conforms()) << chip.text(false);
    EXPECT_EQ(chip.rows.size(), open_chip(fallback_chip())->profile().rows.size());
    EXPECT_GE(chip.cases.size(), chip.rows.size());
}

TEST(Conform, every_way_to_be_wrong_has_its_word) {
    for (auto [fault, word, why] : std::vector<std::tuple<Fault, Word, const char*>>{
             {Fault::does_nothing, Word::fail, "nan"},
             {Fault::writes_past, Word::fail, "wrote past its end"},
             {Fault::sometimes_off, Word::wrong_claim, "the same case again has other bits"},
             {Fault::throws, Word::wrong_claim, "a driver's words"},
             {Fault::is_lost, Word::crash, "the device is gone"},
             {Fault::dies, Word::crash, "signal 11"},
             {Fault::hangs, Word::hang, "no answer within 1 s"}}) {
        const Report r = run_with(fault);
        EXPECT_FALSE(r.conforms());
        bool found = false;
        for (const CaseResult& c : r.cases) found |= c.verdict == word && c.why.find(why) != std::string::npos;
        EXPECT_TRUE(found) << name_of(word) << "\n" << r.text(true);
        if (word == Word::crash || word == Word::hang) {
            EXPECT_GE(r.workers, 3);  // the run went on, and stopped trying in time
            EXPECT_FALSE(r.not_done.empty()) << r.text(true);
        }
        EXPECT_EQ(r.json()["conforms"], false);
    }
}

TEST(Conform, a_waiver_is_printed_and_lets_pass) {
    Options o = only_norms();
    const std::string row = run(open_oracle, open_oracle, o).rows.at(0);
    o.waivers = parse_waivers("# ours\n\n" + row + ": the maker knows\nother.row q4_1: gone\n", "w.txt");
    const Report r = run_with(Fault::does_nothing, o);
    EXPECT_TRUE(r.conforms()) << r.text(true);
    EXPECT_THAT(r.text(false), HasSubstr("waived: the maker knows"));
    EXPECT_THAT(r.text(false), HasSubstr("other.row q4_1: gone: no longer needed"));
    EXPECT_THROW(parse_waivers("a row too many: words\n", "w.txt"), Error);
    EXPECT_THROW(parse_waivers("row without a reason\n", "w.txt"), Error);
}

TEST(Conform, declarations_are_held_to_their_level) {
    KernelRow row;
    row.rounding = {Element::f32, Element::f32, 4, false};
    EXPECT_EQ(wrong_declaration(row), "");
    row.rounding.transcendental_ulp = 5;
    EXPECT_THAT(wrong_declaration(row), HasSubstr("4 are the most"));
    row.accuracy = Accuracy::accurate;
    EXPECT_EQ(wrong_declaration(row), "");
    row.rounding.accumulate = Element::f16;
    EXPECT_THAT(wrong_declaration(row), HasSubstr("sums in f16"));
    row.rounding = {Element::i8, Element::f32, 4, false};
    EXPECT_THAT(wrong_declaration(row), HasSubstr("rounds activations to"));
    row.accuracy = Accuracy::fast;
    EXPECT_EQ(wrong_declaration(row), "");
    row.rounding.transcendental_ulp = 65;
    EXPECT_NE(wrong_declaration(row), "");
}

TEST(Conform, unknown_words_are_usage_errors) {
    Options o;
    o.op = "rms_nrom";
    EXPECT_THROW(run(open_oracle, open_oracle, o), Error);
    o = {};
    o.encoding = "q9_9";
    EXPECT_THROW(run(open_oracle, open_oracle, o), Error);
    EXPECT_THROW(run([] { return open_chip("abacus"); }, open_oracle, {}), Error);
}

}  // namespace

}  // namespace busbar::conform
