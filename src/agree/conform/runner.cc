#include "agree/conform/runner.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/error.h"

namespace busbar::conform {

namespace {

constexpr uint64_t guard_bytes = 256;
constexpr std::byte guard{0xA5};
constexpr double not_there =
    0.75;  // what a state holds past what was filled: seen if it is read, the same on every chip

Array sized(std::vector<int64_t> extents) {
    Array a{std::move(extents), {}};
    a.data.resize(a.count());
    return a;
}

int64_t leading_in_use(const ValueType& type, const std::vector<int64_t>& extents, const StepHeader& header) {
    if (extents.empty()) return 1;
    if (type.shape[0].symbol == Symbol::rows) return header.rows;
    if (type.shape[0].symbol == Symbol::logit_rows) return header.logit_rows;
    return extents[0];
}

}  // namespace

size_t element_bytes(Kind kind, Element element) {
    return kind == Kind::index ? 4 : bytes_of(element);
}

double round_to(double x, Element element) {
    switch (element) {
        case Element::f64:
            return x;
        case Element::f32:
            return static_cast<float>(x);
        case Element::f16:
            return f16_to_f32(f32_to_f16(static_cast<float>(x)));
        case Element::bf16:
            return bf16_to_f32(f32_to_bf16(static_cast<float>(x)));
        default:
            BUSBAR_CHECK(false, "not an element of values");
    }
}

Array decoded(const StoredTensor& t) {
    std::vector<float> floats(t.count());
    t.encoding->decode(t.bytes.data(), floats.data(), t.count() / t.encoding->block);
    return {t.shape, {floats.begin(), floats.end()}};
}

void encode(const Array& from, Kind kind, Element element, std::byte* to) {
    for (double x : from.data) {
        const auto as_float = static_cast<float>(x);
        if (kind == Kind::index) {
            const auto i = static_cast<int32_t>(x);
            std::memcpy(to, &i, 4);
        } else if (element == Element::f64) {
            std::memcpy(to, &x, 8);
        } else if (element == Element::f32) {
            std::memcpy(to, &as_float, 4);
        } else {
            BUSBAR_CHECK(element == Element::f16 || element == Element::bf16, "not an element of values");
            const uint16_t bits = element == Element::f16 ? f32_to_f16(as_float) : f32_to_bf16(as_float);
            std::memcpy(to, &bits, 2);
        }
        to += element_bytes(kind, element);
    }
}

double decode(const std::byte* from, Kind kind, Element element) {
    if (kind == Kind::index) return load<int32_t>(from);
    if (element == Element::f64) return load<double>(from);
    if (element == Element::f32) return load<float>(from);
    return element == Element::f16 ? f16_to_f32(load<uint16_t>(from)) : bf16_to_f32(load<uint16_t>(from));
}

std::vector<const KernelRow*> rows_for(const Profile& profile, const Graph& graph, const Node& node,
                                       const Binding& binding) {
    std::vector<const Encoding*> encodings;
    for (int v : node.inputs)
        if (graph.values()[v].source == Source::weight) encodings.push_back(graph.values()[v].weight->encoding);
    // As plans do it: where an op takes no weights, a norm's weight or a bias is decoded at load and becomes values.
    if (std::ranges::none_of(profile.rows, [&](const KernelRow& r) { return r.op == node.op && !r.form.empty(); }))
        encodings.clear();
    const Shape& first = graph.values()[node.inputs[0]].type.kind == Kind::state || node.op == &op_gather_rows
                             ? graph.values()[node.inputs[1]].type.shape
                             : graph.values()[node.inputs[0]].type.shape;
    const int64_t rows = first.rank() > 0 ? first[0].bind(binding) : 1;
    std::vector<const KernelRow*> found;
    for (const KernelRow& row : profile.rows) {
        if (row.op != node.op || rows < row.min_rows || rows > row.max_rows || row.form.empty() != encodings.empty())
            continue;
        bool fits = true;
        for (const Encoding* e : encodings) {
            const PackedForm* form = profile.find_form(row.form);
            fits =
                fits && form && std::find(form->encodings.begin(), form->encodings.end(), e) != form->encodings.end();
        }
        if (fits) found.push_back(&row);
    }
    return found;
}

Runner::Runner(Device& device, Element cache, int64_t pages) : device_(device), cache_(cache), pages_(pages) {}

Buffer& Runner::state_buffer(const std::string& name, const ValueType& type) {
    std::unique_ptr<Buffer>& buffer = states_[name];
    if (!buffer) {
        const uint64_t bytes = device_.page_bytes(type, cache_) * pages_;
        buffer = device_.allocate(bytes);
        // 0x3C3C... is a small finite number in every element: what is read by mistake must change the result, not
        // vanish.
        device_.write(*buffer, 0, std::vector<std::byte>(bytes, std::byte{0x3C}));
    }
    return *buffer;
}

Operand Runner::place(const Graph& graph, int v, const Binding& binding, const StepLayout& layout,
                      std::vector<Placed>& placed, std::vector<std::unique_ptr<PackedWeight>>& weights,
                      const std::string& form) {
    const Value& value = graph.values()[v];
    const Profile& profile = device_.profile();
    Operand o;
    o.type = value.type;
    o.extents = value.type.shape.bind(binding);
    o.element = value.type.kind == Kind::index ? Element::i32 : profile.real;
    if (value.source == Source::step) {
        o.where = Operand::Where::step;
        o.offset = layout.offset_of(value.name);
        return o;
    }
    if (value.source == Source::state) {
        o.element = cache_;
        o.buffer = &state_buffer(value.name, value.type);
        return o;
    }
    if (value.source == Source::weight && !form.empty()) {
        o.where = Operand::Where::weight;
        o.element = Element::f32;
        weights.push_back(device_.pack(value.weight, *profile.find_form(form)));
        o.weight = weights.back().get();
        return o;
    }
    const size_t each = element_bytes(value.type.kind, o.element);
    Placed p;
    p.name = value.name;
    p.bytes = each * count_of(o.extents);
    p.before.assign(p.bytes + 2 * guard_bytes, guard);
    p.is_output = value.source == Source::node;
    if (p.is_output) {
        std::memset(p.before.data() + guard_bytes, 0xFF, p.bytes);  // NaN: what a kernel does not write is seen
    } else {
        const Array data = value.source == Source::weight ? decoded(*value.weight) : value.constant;
        BUSBAR_CHECK(data.count() == count_of(o.extents) && data.count() == static_cast<int64_t>(data.data.size()),
                     graph.nodes()[0].name + " " + value.name);
        encode(data, value.type.kind, o.element, p.before.data() + guard_bytes);
    }
    p.buffer = device_.allocate(p.before.size());
    device_.write(*p.buffer, 0, p.before);
    o.buffer = p.buffer.get();
    o.offset = guard_bytes;
    placed.push_back(std::move(p));
    return o;
}

Outcome Runner::run(const Graph& graph, const Binding& binding, const StepRecord& record, const Choose& choose,
                    const StepRecord* reading) {
    std::vector<Placed> placed;
    std::vector<std::unique_ptr<PackedWeight>> weights;
    std::map<int, Operand> operands;
    std::vector<ProgramStep> steps;
    for (const Node& node : graph.nodes()) {
        const KernelRow* row = choose ? choose(graph, node) : nullptr;
        if (!row && !node.op->is_view) {
            const auto rows = rows_for(device_.profile(), graph, node, binding);
            if (rows.empty())
                throw usage_error("[conform] chip {} has no row for {}", device_.profile().chip, node.op->name);
            row = rows[0];
        }
        for (int v : node.inputs)
            if (!operands.contains(v))
                operands[v] = place(graph, v, binding, record.layout(), placed, weights, row ? row->form : "as_stored");
        if (!row) {  // a view: the same memory under other extents
            Operand o = operands[node.inputs[0]];
            o.type = graph.values()[node.outputs[0]].type;
            o.extents = o.type.shape.bind(binding);
            operands[node.outputs[0]] = o;
            continue;
        }
        ProgramStep step{row, node.name, node.attributes, {}, {}};
        for (int v : node.inputs) step.inputs.push_back(operands[v]);
        for (int v : node.outputs) {
            operands[v] = node.op->updates_input >= 0
                              ? operands[node.inputs[node.op->updates_input]]
                              : place(graph, v, binding, record.layout(), placed, weights, row->form);
            step.outputs.push_back(operands[v]);
        }
        steps.push_back(std::move(step));
    }
    device_.prepare(std::move(steps), record.layout())->run(record.words());

    Outcome outcome;
    for (const Placed& p : placed) {
        std::vector<std::byte> after(p.before.size());
        device_.read(*p.buffer, 0, after);
        const auto same = [&](size_t begin, size_t end) {
            return std::equal(after.begin() + begin, after.begin() + end, p.before.begin() + begin);
        };
        if (!same(0, guard_bytes)) outcome.damage.push_back(p.name + ": wrote before its start");
        if (!same(guard_bytes + p.bytes, after.size())) outcome.damage.push_back(p.name + ": wrote past its end");
        if (!p.is_output && !same(guard_bytes, guard_bytes + p.bytes))
            outcome.damage.push_back(p.name + ": an input changed");
    }
    for (int v : graph.outputs) {
        const Operand& o = operands.at(v);
        if (o.type.kind == Kind::state) {
            for (const Value& value : graph.values())
                if (value.source == Source::state && states_[value.name].get() == o.buffer)
                    outcome.outputs.push_back(read_state(value.name, o.type, reading ? *reading : record));
            continue;
        }
        std::vector<int64_t> extents = o.extents;
        if (!extents.empty()) extents[0] = leading_in_use(o.type, extents, record.header());
        Array a = sized(std::move(extents));
        const size_t each = element_bytes(o.type.kind, o.element);
        std::vector<std::byte> bytes(each * a.data.size());
        device_.read(*o.buffer, o.offset, bytes);
        for (size_t i = 0; i < a.data.size(); ++i) a.data[i] = decode(bytes.data() + i * each, o.type.kind, o.element);
        outcome.outputs.push_back(std::move(a));
    }
    return outcome;
}

void Runner::fill_state(const std::string& name, const ValueType& type, const Array& data,
                        const std::vector<int64_t>& filled, const StepRecord& record) {
    const int64_t sequences = data.extents[0], context = data.extents[1], per_slot = data.extents[2] * data.extents[3];
    StepLayout layout = record.layout();
    const auto block_row = [&](int64_t s) {
        return record.words().begin() + record.layout().block_table() + s * layout.pages;
    };
    const auto has_page = [&](int64_t s, int64_t p) { return block_row(s)[p / page_positions] >= 0; };
    layout.max_rows = 0;
    for (int64_t s = 0; s < sequences; ++s)
        for (int64_t p = 0; p < context; ++p) layout.max_rows += has_page(s, p);
    state_buffer(name, type);
    if (layout.max_rows == 0) return;
    StepRecord fill(layout);
    Array x = sized({layout.max_rows, data.extents[2], data.extents[3]});
    int64_t row = 0;
    for (int64_t s = 0; s < sequences; ++s) {
        std::copy_n(block_row(s), layout.pages, fill.block_row(s).begin());
        for (int64_t p = 0; p < context; ++p) {
            if (!has_page(s, p)) continue;
            fill.positions()[row] = static_cast<int32_t>(p);
            fill.sequences()[row] = static_cast<int32_t>(s);
            for (int64_t k = 0; k < per_slot; ++k)
                x.data[row * per_slot + k] = p < filled[s] ? data.data[(s * context + p) * per_slot + k] : not_there;
            ++row;
        }
    }
    fill.header().rows = static_cast<int32_t>(layout.max_rows);
    fill.header().sequences = record.header().sequences;

    Graph graph;
    Value rows;
    rows.name = "x";
    rows.type = {Kind::real, Shape({Symbol::rows, data.extents[2], data.extents[3]})};
    rows.source = Source::constant;
    rows.constant = std::move(x);
    const ValueType per_row{Kind::index, Shape({Symbol::rows})};
    const int state = graph.state(name, type), values = graph.add_value(std::move(rows));
    graph.one(op_cache_append,
              {state, values, graph.step_input("positions", per_row), graph.step_input("sequences", per_row),
               graph.step_input("block_table", {Kind::index, Shape({layout.max_sequences, layout.pages})})});
    Binding binding{layout.max_rows, layout.max_logit_rows, layout.max_sequences, layout.pages * page_positions};
    const Outcome outcome = run(graph, binding, fill);
    if (!outcome.damage.empty()) throw chip_error("cache_append", "[conform] {}", outcome.damage[0]);
}

Array Runner::read_state(const std::string& name, const ValueType& type, const StepRecord& record) {
    const StepLayout& layout = record.layout();
    const int64_t heads = type.shape[0].n, width = type.shape[1].n, context = layout.pages * page_positions;
    const ValueType table{Kind::index, Shape({layout.max_sequences, layout.pages})},
        per_row{Kind::index, Shape({Symbol::rows})};
    Array all = sized({layout.max_sequences, context, heads, width});
    Graph graph;
    const int state = graph.state(name, type);
    bool has_gather = false;
    for (const KernelRow& row : device_.profile().rows) has_gather |= row.op == &op_cache_gather;
    if (has_gather) {
        graph.outputs = {graph.one(op_cache_gather, {state, graph.step_input("block_table", table)})};
        const Binding binding{layout.max_rows, layout.max_logit_rows, layout.max_sequences, context};
        all.data = run(graph, binding, record).outputs[0].data;
        return all;
    }
    if (type.role != StateRole::value) return {};
    // One position in view has the weight 1 exactly: attention reads the value as it lies there.
    StepLayout probe_layout = layout;
    probe_layout.max_rows = context;
    StepRecord probe(probe_layout);
    Value q;
    q.name = "q";
    q.type = {Kind::real, Shape({Symbol::rows, heads, width})};
    q.source = Source::constant;
    q.constant = sized({context, heads, width});
    const int query = graph.add_value(std::move(q));
    const int keys = graph.state("probe.keys", {Kind::state, type.shape, StateRole::key});
    graph.outputs = {graph.one(op_attention,
                               {query, keys, state, graph.step_input("positions", per_row),
                                graph.step_input("sequences", per_row), graph.step_input("block_table", table)},
                               {{"scale", 1.0}, {"window", int64_t{1}}})};
    for (int64_t s = 0; s < layout.max_sequences; ++s) {
        int32_t row = 0;
        for (int64_t s2 = 0; s2 < layout.max_sequences; ++s2)
            std::copy_n(record.words().begin() + layout.block_table() + s2 * layout.pages, layout.pages,
                        probe.block_row(s2).begin());
        for (int64_t p = 0; p < context; ++p) {
            if (probe.block_row(s)[p / page_positions] < 0) continue;
            probe.positions()[row] = static_cast<int32_t>(p);
            probe.sequences()[row++] = static_cast<int32_t>(s);
        }
        if (row == 0) continue;
        probe.header() = record.header();
        probe.header().rows = row;
        const Array y = run(graph, {context, layout.max_logit_rows, layout.max_sequences, context}, probe).outputs[0];
        for (int32_t r = 0; r < row; ++r)
            std::copy_n(y.data.begin() + r * heads * width, heads * width,
                        all.data.begin() + (s * context + probe.positions()[r]) * heads * width);
    }
    return all;
}

}  // namespace busbar::conform
