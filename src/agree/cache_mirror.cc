#include "agree/cache_mirror.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "base/check.h"
#include "run/convert.h"

namespace busbar::agree {

namespace {

const KernelRow* row_of(const Profile& chip, const OpRow& op) {
    for (const KernelRow& row : chip.rows)
        if (row.op == &op && row.form.empty()) return &row;
    return nullptr;
}

Operand in_step(const ValueType& type, const Binding& binding, int64_t offset) {
    Operand o;
    o.type = type;
    o.extents = type.shape.bind(binding);
    o.element = Element::i32;
    o.where = Operand::Where::step;
    o.offset = static_cast<uint64_t>(offset);
    return o;
}

Operand in_buffer(const ValueType& type, const Binding& binding, Element element, Buffer& buffer) {
    Operand o;
    o.type = type;
    o.extents = type.shape.bind(binding);
    o.element = element;
    o.buffer = &buffer;
    return o;
}

}  // namespace

/// A program of one step that gathers one page of a state.
struct CacheMirror::Reader {
    std::unique_ptr<Buffer> out;
    std::unique_ptr<Program> program;
    StepRecord record{StepLayout{1, 1, 1, 1}};
};

void CacheMirror::note(const std::string& state, Element element, int32_t page, int64_t slot, const double* x,
                       int64_t n) {
    Page& p = pages_[{state, page}];
    p.data.resize(page_positions * n);
    for (int64_t k = 0; k < n; ++k)
        p.data[slot * n + k] = element == Element::f64 ? x[k] : conform::round_to(x[k], element);
    p.known |= uint64_t{1} << slot;
}

std::string CacheMirror::append(LoadedModel& model, size_t bucket, int planned_state, const Array& x) {
    const Plan& plan = model.plans()[bucket];
    const PlannedState& state = plan.states[planned_state];
    const std::string& name = plan.graph.values()[state.value].name;
    const auto words = model.record().words();
    const StepLayout& l = model.layout();
    const int64_t n = x.extents[0] > 0 ? x.count() / x.extents[0] : 0;
    std::set<int32_t> touched;
    for (int64_t r = 0; r < x.extents[0]; ++r) {
        const int64_t position = words[l.positions() + r], sequence = words[l.sequences() + r];
        const int32_t page = words[l.block_table() + sequence * l.pages + position / page_positions];
        note(name, state.element, page, position % page_positions, x.data.data() + r * n, n);
        touched.insert(page);
    }
    return compare(model, bucket, planned_state, {touched.begin(), touched.end()});
}

std::string CacheMirror::compare(LoadedModel& model, size_t bucket, int planned_state,
                                 const std::vector<int32_t>& pages) {
    const Plan& plan = model.plans()[bucket];
    const PlannedState& state = plan.states[planned_state];
    const Value& value = plan.graph.values()[state.value];
    Device& device = model.device(state.chip);
    const KernelRow* row = row_of(device.profile(), op_cache_gather);
    if (row == nullptr) return "";
    const int64_t heads = value.type.shape[0].n, width = value.type.shape[1].n;
    const Element real = device.profile().real;
    auto& reader = readers_[value.name];
    if (!reader) {
        reader = std::make_shared<Reader>();
        const Binding one{1, 1, 1, page_positions};
        const ValueType out{Kind::real, Shape({Symbol::slots, heads, width})};
        const ValueType table{Kind::index, Shape({Symbol::sequences, Symbol::pages})};
        reader->out = device.allocate(page_positions * heads * width * bytes_of(real));
        ProgramStep step{row, "read " + value.name, {}, {}, {}};
        step.inputs = {in_buffer(value.type, one, state.element, model.state_buffer(bucket, planned_state)),
                       in_step(table, one, reader->record.layout().block_table())};
        step.outputs = {in_buffer(out, one, real, *reader->out)};
        step.outputs[0].type = op_cache_gather.infer(std::vector<ValueType>{value.type, table}, {})[0];
        step.outputs[0].extents = step.outputs[0].type.shape.bind(one);
        reader->program = device.prepare({step}, reader->record.layout());
    }
    for (int32_t page : pages) {
        reader->record.header() = {1, 1, 1};
        reader->record.block_row(0)[0] = page;
        reader->program->run(reader->record.words());
        std::vector<std::byte> bytes(page_positions * heads * width * bytes_of(real));
        device.read(*reader->out, 0, bytes);
        const std::vector<double> held = as_doubles(bytes, real);
        const Page& expected = pages_.at({value.name, page});
        for (int64_t i = 0; i < static_cast<int64_t>(held.size()); ++i) {
            const int64_t slot = i / (heads * width);
            if (!(expected.known >> slot & 1) || held[i] == expected.data[i] ||
                (std::isnan(held[i]) && std::isnan(expected.data[i])))
                continue;
            return fmt::format("{} at page {}, slot {}, number {}: appended {:.9g}, the cache holds {:.9g}", value.name,
                               page, slot, i % (heads * width), expected.data[i], held[i]);
        }
    }
    return "";
}

Array CacheMirror::read(const StepRecord& record, const std::string& state, const ValueType& type, int64_t pages,
                        std::vector<int64_t>& filled) const {
    const int64_t n = type.shape[0].n * type.shape[1].n, sequences = static_cast<int64_t>(filled.size());
    const StepLayout& l = record.layout();
    Array out{{sequences, pages * page_positions, type.shape[0].n, type.shape[1].n}, {}};
    out.data.assign(out.count(), 0);
    for (int64_t s = 0; s < sequences; ++s)
        for (int64_t p = 0; p < pages; ++p) {
            const auto at = pages_.find({state, record.words()[l.block_table() + s * l.pages + p]});
            if (at == pages_.end()) continue;
            std::copy(at->second.data.begin(), at->second.data.end(),
                      out.data.begin() + (s * pages + p) * page_positions * n);
            for (int64_t slot = 0; slot < page_positions; ++slot)
                if (at->second.known >> slot & 1) filled[s] = std::max(filled[s], p * page_positions + slot + 1);
        }
    return out;
}

void CacheMirror::fill(LoadedModel& model, const std::vector<int32_t>& pages, int64_t begin, int64_t end,
                       conform::Random& random) {
    const Plan& plan = model.plans().front();
    const int64_t rows = end - begin;
    const StepLayout layout{rows, 1, 1, static_cast<int64_t>(pages.size())};
    const Binding binding{rows, 1, 1, layout.pages * page_positions};
    StepRecord record(layout);
    record.header() = {static_cast<int32_t>(rows), 0, 1};
    std::copy(pages.begin(), pages.end(), record.block_row(0).begin());
    for (int64_t r = 0; r < rows; ++r) {
        record.positions()[r] = static_cast<int32_t>(begin + r);
        record.sequences()[r] = 0;
    }
    for (size_t i = 0; i < plan.states.size(); ++i) {
        const PlannedState& state = plan.states[i];
        const Value& value = plan.graph.values()[state.value];
        Device& device = model.device(state.chip);
        const KernelRow* row = row_of(device.profile(), op_cache_append);
        BUSBAR_CHECK(row != nullptr, "a chip keeps a state that it cannot append to");
        const int64_t n = value.type.shape[0].n * value.type.shape[1].n;
        const Array x = conform::numbers(random, {rows, value.type.shape[0].n, value.type.shape[1].n}, 0.5);
        const Element real = device.profile().real;
        const auto buffer = device.allocate(x.count() * bytes_of(real));
        device.write(*buffer, 0, as_real(x.data, real));
        const ValueType values{Kind::real, Shape({Symbol::rows, value.type.shape[0], value.type.shape[1]})},
            per_row{Kind::index, Shape({Symbol::rows})}, table{Kind::index, Shape({Symbol::sequences, Symbol::pages})};
        ProgramStep step{row, "fill " + value.name, {}, {}, {}};
        const Operand kept = in_buffer(value.type, binding, state.element, model.state_buffer(0, static_cast<int>(i)));
        step.inputs = {kept, in_buffer(values, binding, real, *buffer), in_step(per_row, binding, layout.positions()),
                       in_step(per_row, binding, layout.sequences()), in_step(table, binding, layout.block_table())};
        step.outputs = {kept};
        device.prepare({step}, layout)->run(record.words());
        for (int64_t r = 0; r < rows; ++r)
            note(value.name, state.element, pages[(begin + r) / page_positions], (begin + r) % page_positions,
                 x.data.data() + r * n, n);
    }
}

}  // namespace busbar::agree
