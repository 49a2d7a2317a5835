#include "agree/conform/case.h"

#include <cmath>
#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "plan/rows.h"

namespace busbar::conform {

static uint64_t& the_seed() {
    static uint64_t value = [] {
        const char* given = std::getenv("BUSBAR_SEED");
        return given ? std::strtoull(given, nullptr, 10) : std::random_device{}() * 0x9E3779B97F4A7C15ull >> 20;
    }();
    return value;
}

uint64_t seed() {
    return the_seed();
}

void set_seed(uint64_t value) {
    the_seed() = value;
}

Input& Case::in(std::string_view input) {
    for (size_t i = 0; i < op->inputs.size(); ++i)
        if (op->inputs[i].name == input) return inputs[i];
    BUSBAR_CHECK(false, std::string(input));
}

std::string Case::title() const {
    return fmt::format("{} {} {}", op->name, name, attributes.print());
}

Graph Case::graph() const {
    Graph g;
    std::vector<int> in;
    for (const Input& i : inputs) {
        if (i.is == Input::Is::step) in.push_back(g.step_input(i.name, i.type));
        if (i.is == Input::Is::state) in.push_back(g.state(i.name, i.type));
        if (i.is == Input::Is::weight) in.push_back(g.weight(i.weight));
        if (i.is != Input::Is::values) continue;
        Value v;
        v.name = i.name;
        v.type = i.type;
        v.source = Source::constant;
        v.constant = i.data;
        in.push_back(g.add_value(std::move(v)));
    }
    if (!node.empty()) g.named(node);
    g.outputs = g.emit(*op, in, attributes);
    return g;
}

namespace {

Element cache_of(const Device& device, const Case& c) {
    const auto& kept = device.profile().cache_elements;
    if (std::find(kept.begin(), kept.end(), c.cache) != kept.end()) return c.cache;
    return kept.empty() ? Element::f32 : kept[0];  // the first is the most exact: the oracle's f64
}

void fill_states(Runner& runner, const Case& c) {
    for (const Input& i : c.inputs)
        if (i.is == Input::Is::state)
            runner.fill_state(i.name, i.type, i.data, c.filled, c.filled_by ? *c.filled_by : c.record);
}

}  // namespace

std::string refusal(const Profile& profile, const KernelRow& row, const Case& c) {
    const Graph graph = c.graph();
    return busbar::refusal(profile, row, graph, graph.nodes()[0], c.binding);
}

Outcome run_case(Device& device, const Case& c, const KernelRow* row) {
    Runner runner(device, cache_of(device, c), c.pages);
    fill_states(runner, c);
    return runner.run(
        c.graph(), c.binding, c.record, [row](const Graph&, const Node&) { return row; },
        c.filled_by ? &*c.filled_by : nullptr);
}

Outcome run_expanded(Device& device, const Case& c) {
    Runner runner(device, cache_of(device, c), c.pages);
    fill_states(runner, c);
    return runner.run(expand(c.graph(), true), c.binding, c.record);
}

bool take_row(Case& c, int64_t r) {
    const int64_t in_use = c.record.header().rows;
    const ValueType& first = c.inputs[0].type;
    if (c.op == &op_gather_rows && first.shape[0].symbol == Symbol::rows) return false;  // any row may read any other
    bool any = false;
    for (const Input& i : c.inputs) any |= i.type.shape.rank() > 0 && i.type.shape[0].symbol == Symbol::rows;
    if (!any || r >= in_use) return false;
    StepLayout layout = c.record.layout();
    layout.max_rows = 1;
    StepRecord one(layout);
    one.header() = c.record.header();
    one.header().rows = 1;
    one.token_ids()[0] = c.record.token_ids()[r];
    one.positions()[0] = c.record.positions()[r];
    one.sequences()[0] = c.record.sequences()[r];
    for (int64_t s = 0; s < layout.max_sequences; ++s)
        std::copy_n(c.record.block_row(s).begin(), layout.pages, one.block_row(s).begin());
    c.record = std::move(one);
    c.binding.rows = 1;
    for (Input& i : c.inputs) {
        if (i.is != Input::Is::values || i.type.shape.rank() == 0 || i.type.shape[0].symbol != Symbol::rows) continue;
        const int64_t per_row = i.data.count() / i.data.extents[0];
        i.data.data = {i.data.data.begin() + r * per_row, i.data.data.begin() + (r + 1) * per_row};
        i.data.extents[0] = 1;
    }
    return true;
}

Array numbers(Random& random, std::vector<int64_t> extents, double scale) {
    Array a{std::move(extents), {}};
    a.data.resize(a.count());
    for (double& x : a.data) x = static_cast<float>(random.normal() * scale);
    return a;
}

Input values(std::string_view input, std::vector<Dim> dims, Array data) {
    return {Input::Is::values, {Kind::real, Shape(std::move(dims))}, std::string(input), std::move(data), nullptr};
}

Input indices(std::string_view input, std::vector<Dim> dims, Array data) {
    return {Input::Is::values, {Kind::index, Shape(std::move(dims))}, std::string(input), std::move(data), nullptr};
}

Input step_part(std::string_view part, std::vector<Dim> dims) {
    return {Input::Is::step, {Kind::index, Shape(std::move(dims))}, std::string(part), {}, nullptr};
}

Input weight(std::shared_ptr<const StoredTensor> tensor) {
    Input i{Input::Is::weight,
            {Kind::real, Shape(std::vector<Dim>(tensor->shape.begin(), tensor->shape.end()))},
            tensor->name,
            decoded(*tensor),
            tensor};
    return i;
}

std::shared_ptr<const StoredTensor> with_bytes(const StoredTensor& like, std::vector<std::byte> bytes) {
    struct Owner {
        std::vector<std::byte> memory;
        StoredTensor tensor;
    };
    // Files align nothing beyond their own rules: blocks start at an odd address, and end where the memory ends.
    constexpr size_t odd = 3;
    auto owner = std::make_shared<Owner>();
    owner->memory.resize(odd + bytes.size());
    std::copy(bytes.begin(), bytes.end(), owner->memory.begin() + odd);
    owner->tensor = like;
    owner->tensor.bytes = Bytes(owner->memory).subspan(odd);
    return {owner, &owner->tensor};
}

// Where each encoding keeps the halves that scale a block (formats.md 4.4, 4.5): random bits there would be NaN,
// infinite or huge.
static std::vector<int> half_offsets(std::string_view name) {
    if (name == "q4_1" || name == "q5_1" || name == "q4_k" || name == "q5_k") return {0, 2};
    if (name == "q4_0" || name == "q5_0" || name == "q8_0" || name == "iq4_nl" || name == "iq4_xs") return {0};
    if (name == "q2_k") return {80, 82};
    if (name == "q3_k") return {108};
    if (name == "q6_k") return {208};
    return {};
}

std::vector<int> scale_bytes(const Encoding& e) {
    std::vector<int> bytes;
    for (int at : half_offsets(e.name)) bytes.insert(bytes.end(), {at, at + 1});
    if (e.scale == Scale::e8m0) bytes.push_back(0);
    return bytes;
}

std::shared_ptr<const StoredTensor> random_weight(Random& random, const Encoding& e, std::vector<int64_t> shape,
                                                  std::string name) {
    StoredTensor t;
    t.name = std::move(name);
    t.encoding = &e;
    t.shape = std::move(shape);
    if (e.scale == Scale::none) return plain_weight(numbers(random, t.shape, 0.05), e, t.name);
    std::vector<std::byte> bytes(t.count() / e.block * e.block_bytes);
    for (std::byte& b : bytes) b = static_cast<std::byte>(random.below(256));
    // Values of about 0.05, whatever the codes of the encoding span.
    double span = 8;
    if (e.element == Element::i8 || e.name == "iq4_nl") span = 127;
    if (e.scale == Scale::two_level) span = e.name == "q6_k" ? 32 * 127 : (e.name == "q3_k" ? 4 * 32 : 32 * 127);
    if (e.scale == Scale::two_level_min) span = e.name == "q2_k" ? 3 * 15 : (e.name == "q4_k" ? 15 * 63 : 31 * 63);
    for (size_t at = 0; at < bytes.size(); at += e.block_bytes) {
        for (int offset : half_offsets(e.name)) {
            const double sign = random.below(2) ? 1 : -1;
            const uint16_t half = f32_to_f16(static_cast<float>(sign * 0.1 / span * random.uniform(0.5, 2)));
            std::memcpy(bytes.data() + at + offset, &half, 2);
        }
        if (e.scale == Scale::e8m0) bytes[at] = static_cast<std::byte>(127 - 6 + random.below(3));
    }
    auto made = with_bytes(t, std::move(bytes));
    for (double x : decoded(*made).data)
        BUSBAR_CHECK(std::abs(x) < 2, fmt::format("random {} is not sane: {}", e.name, x));
    return made;
}

std::shared_ptr<const StoredTensor> plain_weight(const Array& data, const Encoding& e, std::string name) {
    StoredTensor t;
    t.name = std::move(name);
    t.encoding = &e;
    t.shape = data.extents;
    std::vector<std::byte> bytes(data.count() * bytes_of(e.element));
    encode(data, Kind::real, e.element, bytes.data());
    return with_bytes(t, std::move(bytes));
}

}  // namespace busbar::conform
