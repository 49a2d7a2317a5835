// cache_append, cache_gather, cache_mask: bit-equal; an append rounds to the cache's element, to nearest.
#include <algorithm>
#include <numeric>

#include "agree/conform/paged.h"

namespace busbar::conform {

Case paged_case(Random& random, const OpRow& op, std::string name, const std::vector<int64_t>& lengths,
                const std::vector<Place>& rows, int64_t spare_rows) {
    const auto sequences = static_cast<int64_t>(lengths.size());
    const int64_t longest = *std::max_element(lengths.begin(), lengths.end()),
                  pages = ceil_div(longest, page_positions);
    const auto in_use = static_cast<int64_t>(rows.size());
    Case c = step_case(op, std::move(name), in_use, in_use + spare_rows, sequences, pages);
    c.filled.assign(sequences, 0);
    c.pages = 2;  // never dealt: poison that must not be read
    for (int64_t n : lengths) c.pages += ceil_div(n, page_positions);
    std::vector<int32_t> deck(c.pages);
    std::iota(deck.begin(), deck.end(), 0);
    std::shuffle(deck.begin(), deck.end(), random.engine);
    for (int64_t s = 0; s < sequences; ++s)
        for (int64_t p = 0; p < ceil_div(lengths[s], page_positions); ++p) {
            c.record.block_row(s)[p] = deck.back();
            deck.pop_back();
        }
    for (int64_t r = 0; r < in_use; ++r) {
        c.record.positions()[r] = rows[r].position;
        c.record.sequences()[r] = rows[r].sequence;
    }
    return c;
}

Input cache_state(Random& random, const Case& c, std::string name, StateRole role, int64_t heads, int64_t width,
                  double size) {
    Input i;
    i.is = Input::Is::state;
    i.type = {Kind::state, Shape({heads, width}), role};
    i.name = std::move(name);
    i.data = numbers(random, {c.binding.sequences, c.binding.context, heads, width}, size);
    for (double& x : i.data.data) x = round_to(x, c.cache);
    return i;
}

Input block_table_part(const Case& c) {
    return step_part("block_table", {c.record.layout().max_sequences, c.record.layout().pages});
}

namespace {

std::vector<Case> append_cases(Random& random) {
    std::vector<Case> all;
    for (Element cache : {Element::f32, Element::f16, Element::bf16})
        for (StateRole role : {StateRole::value, StateRole::key})
            for (auto [heads, width] : std::vector<std::array<int64_t, 2>>{{1, 1}, {3, 64}, {2, 13}}) {
                const std::string name = fmt::format("{} {} heads of {} {}", role == StateRole::key ? "keys" : "values",
                                                     heads, width, name_of(cache));
                Case c = paged_case(random, op_cache_append, name, {70, 3, 64},
                                    {{0, 63}, {0, 64}, {0, 65}, {1, 0}, {2, 63}, {1, 1}}, 2);
                c.cache = cache;
                c.filled = {63, 0, 63};
                c.inputs = {cache_state(random, c, "state", role, heads, width),
                            values("x", {Symbol::rows, heads, width}, numbers(random, {8, heads, width})),
                            step_part("positions", {Symbol::rows}), step_part("sequences", {Symbol::rows}),
                            block_table_part(c)};
                all.push_back(c);
                c.name += " edges";
                c.in("x").data =
                    edge_numbers(random, {8, heads, width}, 7e4);  // f16 ends at 65504: larger becomes infinite
                all.push_back(std::move(c));
            }
    return all;
}

std::vector<Case> gather_cases(Random& random) {
    std::vector<Case> all;
    for (auto [heads, width] : std::vector<std::array<int64_t, 2>>{{1, 1}, {3, 16}}) {
        Case c =
            paged_case(random, op_cache_gather, fmt::format("{} heads of {}", heads, width), {70, 128, 1}, {{0, 0}});
        c.filled = {70, 128, 1};
        c.inputs = {cache_state(random, c, "state", StateRole::key, heads, width), block_table_part(c)};
        all.push_back(std::move(c));
    }
    return all;
}

std::vector<Case> mask_cases(Random& random) {
    std::vector<Case> all;
    for (int64_t window : {0, 1, 2, 64, 65}) {
        Case c = paged_case(random, op_cache_mask, fmt::format("window of {}", window), {70, 128, 200},
                            {{0, 69}, {1, 0}, {1, 127}, {2, 199}, {2, 64}, {2, 63}}, 1);
        c.attributes = {{"window", window}};
        c.inputs = {step_part("positions", {Symbol::rows}), step_part("sequences", {Symbol::rows}),
                    block_table_part(c)};
        all.push_back(std::move(c));
    }
    return all;
}

}  // namespace

std::vector<Suite> cache_suites() {
    return {
        {&op_cache_append, append_cases, exact},
        {&op_cache_gather, gather_cases, exact},
        {&op_cache_mask, mask_cases, exact},
    };
}

}  // namespace busbar::conform
