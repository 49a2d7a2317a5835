#include "agree/conform/suite.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace busbar::conform {

const std::vector<Suite>& suites() {
    static const std::vector<Suite> all = [] {
        std::vector<Suite> found, sorted;
        for (auto* of_file :
             {attention_suites, cache_suites, elementwise_suites, gather_rows_suites, matmul_suites, move_suites,
              reduce_suites, rms_norm_suites, rotary_table_suites, rotate_suites, silu_suites, softmax_suites})
            for (Suite& s : of_file()) found.push_back(s);
        for (const OpRow* op : op_table())
            for (const Suite& s : found)
                if (s.op == op) sorted.push_back(s);
        return sorted;
    }();
    return all;
}

const Suite* suite_of(const OpRow& op) {
    for (const Suite& s : suites())
        if (s.op == &op) return &s;
    return nullptr;
}

Case for_oracle(Case c) {
    if (c.op == &op_cache_append)
        for (double& x : c.in("x").data.data) x = round_to(x, c.cache);
    return c;
}

Outcome rounded_to_f32(Outcome o, const Case& c) {
    const Graph graph = c.graph();
    for (size_t i = 0; i < o.outputs.size(); ++i)
        if (graph.type_of(graph.outputs[i]).kind == Kind::real)
            for (double& x : o.outputs[i].data) x = round_to(x, Element::f32);
    return o;
}

Rounding declared_f32() {
    return {Element::f32, Element::f32, 4, false};
}

Case step_case(const OpRow& op, std::string name, int64_t rows, int64_t capacity, int64_t sequences, int64_t pages) {
    Case c;
    c.name = std::move(name);
    c.op = &op;
    c.binding = {capacity, 1, sequences, pages * page_positions};
    c.record = StepRecord({capacity, 1, sequences, pages});
    c.record.header().rows = static_cast<int32_t>(rows);
    c.record.header().logit_rows = 1;
    c.record.header().sequences = static_cast<int32_t>(sequences);
    for (int64_t r = 0; r < rows; ++r) c.record.positions()[r] = static_cast<int32_t>(r);
    return c;
}

Array edge_numbers(Random& random, std::vector<int64_t> extents, double huge) {
    Array a = numbers(random, std::move(extents));
    const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
    const double edges[] = {0,    -0.0,  1e-40, -1e-42, inf, -inf,     nan,
                            huge, -huge, 1e-30, 1,      -1,  0x1p-149, 0x1.fffffep-127};
    for (double& x : a.data)
        if (random.below(2)) x = static_cast<float>(edges[random.below(std::size(edges))]);
    return a;
}

Array filled_with(std::vector<int64_t> extents, double x) {
    Array a{std::move(extents), {}};
    a.data.assign(a.count(), static_cast<float>(x));
    return a;
}

namespace {

bool of_attribute(Case& c, const AttributeSpec& spec, int variant) {
    switch (spec.type) {
        case AttributeType::real: {
            const double x = c.attributes.real(spec.name);
            if (spec.name == "epsilon" && variant > 0) {  // what a reader of another model's config would get wrong
                c.attributes.set("epsilon", x == 1e-5 ? 1e-6 : 1e-5);
                return variant == 1;
            }
            c.attributes.set(std::string(spec.name), x * (1 + 1e-4));
            return variant == 0 && spec.name != "epsilon";
        }
        case AttributeType::integer:
            c.attributes.set(std::string(spec.name), c.attributes.integer(spec.name) + (variant == 0 ? 1 : -1));
            return variant < 2 && c.attributes.integer(spec.name) >= 0;
        case AttributeType::word:
            if (c.attributes.word(spec.name) != "half" && c.attributes.word(spec.name) != "interleaved") return false;
            c.attributes.set(std::string(spec.name),
                             std::string(c.attributes.word(spec.name) == "half" ? "interleaved" : "half"));
            return variant == 0;
        case AttributeType::integers: {
            std::vector<int64_t> list = c.attributes.integers(spec.name);
            if (list.size() < 2 || variant > 0) return false;
            std::swap(list[list.size() - 1], list[list.size() - 2]);
            c.attributes.set(std::string(spec.name), list);
            return true;
        }
    }
    return false;
}

/// Numbers that are in use: rows past the step's may change without anyone seeing it.
int64_t in_use(const Case& c, const Input& i) {
    const bool rows = i.type.shape.rank() > 0 && i.type.shape[0].symbol == Symbol::rows;
    return rows ? i.data.count() / i.data.extents[0] * c.record.header().rows : i.data.count();
}

/// Where in n numbers an attempt starts: in the middle first.
int64_t place_of(int64_t n, int attempt) {
    return (n / 2 + n * attempt / Mutation::attempts) % n;
}

bool one_number(Case& c, Input& i, double factor, int attempt) {
    const int64_t n = in_use(c, i);
    for (int64_t k = 0; k < n; ++k) {
        double& x = i.data.data[(place_of(n, attempt) + k) % n];
        if (!std::isfinite(x) || std::abs(x) < 1e-6) continue;
        x = static_cast<float>(x * factor);
        return true;
    }
    return false;
}

bool shift_rows(Case& c, Input& i) {  // row r gets row r + 1
    const int64_t n = in_use(c, i), width = i.data.extents.empty() ? 1 : i.data.extents.back();
    if (n <= width || width == 0) return false;
    std::rotate(i.data.data.begin(), i.data.data.begin() + width, i.data.data.begin() + n);
    return true;
}

bool shift_columns(Case& c, Input& i) {  // an element past the row's start
    const int64_t n = in_use(c, i), width = i.data.extents.empty() ? 1 : i.data.extents.back();
    if (width < 2) return false;
    for (int64_t at = 0; at + width <= n; at += width)
        std::rotate(i.data.data.begin() + at, i.data.data.begin() + at + 1, i.data.data.begin() + at + width);
    return true;
}

bool of_weight(Input& i, int variant, int attempt) {
    const StoredTensor& t = *i.weight;
    const size_t row = t.encoding->row_bytes(t.width()), block = t.encoding->block_bytes;
    std::vector<std::byte> bytes(t.bytes.begin(), t.bytes.end());
    if (variant == 0) {
        if (bytes.size() <= row) return false;
        std::rotate(bytes.begin(), bytes.begin() + row, bytes.end());
    } else if (variant == 1) {
        if (bytes.size() < 2 * block || t.encoding->scale == Scale::none) return false;
        for (int b : scale_bytes(*t.encoding)) bytes[b] = bytes[block + b];
    } else {
        bytes[place_of(static_cast<int64_t>(bytes.size()), attempt) / block * block + block / 2] ^= std::byte{0x10};
    }
    i.weight = with_bytes(t, std::move(bytes));
    i.data = decoded(*i.weight);
    return true;
}

bool of_step(Case& c, const Input& i, int variant) {
    const int32_t rows = c.record.header().rows;
    if (i.name == "block_table") {
        if (variant > 0) return false;
        c.filled_by = c.record;
        for (int64_t s = 0; s < c.record.layout().max_sequences; ++s)
            if (c.record.layout().pages > 1 && c.record.block_row(s)[1] >= 0) {
                std::swap(c.record.block_row(s)[0], c.record.block_row(s)[1]);
                return true;
            }
        return false;
    }
    std::span<int32_t> part = i.name == "positions"   ? c.record.positions()
                              : i.name == "sequences" ? c.record.sequences()
                                                      : c.record.token_ids();
    if (variant == 0) part[rows / 2] += 1;
    if (variant == 1) part[rows / 2] -= 1;
    if (variant == 2) {
        if (rows < 2 || part[0] == part[rows - 1]) return false;
        std::swap(part[0], part[rows - 1]);
    }
    const int64_t limit = i.name == "sequences" ? c.record.layout().max_sequences : INT32_MAX;
    for (int32_t r = 0; r < rows; ++r)
        if (part[r] < 0 || part[r] >= limit) return false;
    return variant < 3;
}

bool of_state(Case& c, Input& i, int variant) {
    const int64_t context = i.data.extents[1], heads = i.data.extents[2], width = i.data.extents[3],
                  slot = heads * width;
    if (variant == 0) {
        for (int64_t at = 0; at < i.data.count(); ++at) {
            double& x = i.data.data[at];
            if (at / slot % context + 1 != c.filled[at / slot / context] || !std::isfinite(x) || std::abs(x) < 1e-3)
                continue;
            x = round_to(x * 1.05, c.cache);
            return true;
        }
        return false;
    }
    if (variant == 1) {  // one head off
        if (heads < 2) return false;
        for (int64_t at = 0; at < i.data.count(); at += slot)
            std::rotate(i.data.data.begin() + at, i.data.data.begin() + at + width, i.data.data.begin() + at + slot);
        return true;
    }
    if (variant == 2) {  // one position off
        for (int64_t s = 0; s < i.data.extents[0]; ++s) {
            const auto begin = i.data.data.begin() + s * context * slot;
            std::rotate(begin, begin + slot, begin + context * slot);
        }
        return true;
    }
    if (variant == 3) {  // the last position is not there yet
        for (int64_t& n : c.filled) n = std::max<int64_t>(0, n - 1);
        return true;
    }
    return false;
}

bool of_input(Case& c, size_t index, int variant, int attempt) {
    Input& i = c.inputs[index];
    switch (i.is) {
        case Input::Is::weight:
            return of_weight(i, variant, attempt);
        case Input::Is::step:
            return of_step(c, i, variant);
        case Input::Is::state:
            return of_state(c, i, variant);
        case Input::Is::values:
            break;
    }
    if (i.type.kind == Kind::index) {
        if (variant > 0 || i.data.count() == 0) return false;
        double& x = i.data.data[place_of(in_use(c, i), attempt)];
        x = x == 0 ? 1 : 0;  // another entry, and for a mask the other answer
        return true;
    }
    if (variant == 0) return one_number(c, i, 1.001, attempt);
    if (variant == 1) return shift_rows(c, i);
    if (variant == 2) return shift_columns(c, i);
    return false;
}

const char* const words_of_values[] = {"one number", "one row off", "one column off"};
const char* const words_of_weights[] = {"one row off", "the neighbour block's scale", "one code"};
const char* const words_of_steps[] = {"one more", "one less", "two rows swapped"};
const char* const words_of_states[] = {"one number", "one head off", "one position off", "the last position missing"};

}  // namespace

std::vector<Mutation> mutations_of(const Suite& suite) {
    std::vector<Mutation> all;
    for (const AttributeSpec& spec : suite.op->attributes)
        for (int variant = 0; variant < 2; ++variant)
            all.push_back({fmt::format("attribute {} #{}", spec.name, variant),
                           [&spec, variant](Case& c, int) { return of_attribute(c, spec, variant); }});
    using Is = Input::Is;
    for (size_t i = 0; i < suite.op->inputs.size(); ++i) {
        const auto add = [&](Is is, auto& words) {
            for (int variant = 0; variant < static_cast<int>(std::size(words)); ++variant)
                all.push_back({fmt::format("input {}: {}", suite.op->inputs[i].name, words[variant]),
                               [i, is, variant](Case& c, int attempt) {
                                   return c.inputs[i].is == is && of_input(c, i, variant, attempt);
                               }});
        };
        add(Is::values, words_of_values);
        add(Is::weight, words_of_weights);
        add(Is::step, words_of_steps);
        add(Is::state, words_of_states);
    }
    if (suite.mutations)
        for (Mutation& m : suite.mutations()) all.push_back(std::move(m));
    return all;
}

}  // namespace busbar::conform
